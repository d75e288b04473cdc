// SPDX-License-Identifier: Apache-2.0
//! The batch dimension of a tensor that passes between models of which only one batches.

use crate::message::Shape;

/// The shape of a tensor for who declares it with `dims` and `takes_batches`, or not.
///
/// Where both batch, or neither does, it stays. So it does where it is what is declared as it stands:
/// a model without batches may spell the dimension out. Else a dimension of 1 is put in front, or taken away.
/// What fits neither way stays, and the check of the request says so.
#[must_use]
pub fn fit(shape: Shape, has_batch: bool, dims: &[i64], takes_batches: bool) -> Shape {
    match (has_batch, takes_batches) {
        (false, true) if agrees(&shape, dims) => std::iter::once(1).chain(shape).collect(),
        (true, false) if !agrees(&shape, dims) => match shape.split_first() {
            Some((1, rest)) if agrees(rest, dims) => Shape::from_slice(rest),
            _ => shape,
        },
        _ => shape,
    }
}

fn agrees(shape: &[i64], dims: &[i64]) -> bool {
    shape.len() == dims.len()
        && shape
            .iter()
            .zip(dims)
            .all(|(size, dim)| *dim == -1 || size == dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(shape: &[i64], has_batch: bool, dims: &[i64], takes_batches: bool) -> Vec<i64> {
        fit(Shape::from_slice(shape), has_batch, dims, takes_batches).to_vec()
    }

    #[test]
    fn a_dimension_of_one_comes_and_goes_between_those_who_batch_and_those_who_do_not() {
        assert_eq!(fitted(&[3], false, &[-1], true), [1, 3]);
        assert_eq!(fitted(&[1, 3], true, &[-1], false), [3]);
        assert_eq!(fitted(&[2, 3], true, &[-1], true), [2, 3]);
    }

    #[test]
    fn what_is_declared_as_it_stands_is_left_alone() {
        assert_eq!(fitted(&[1, 3], true, &[-1, -1], false), [1, 3]);
        assert_eq!(fitted(&[2, 3], false, &[-1], true), [2, 3]);
        assert_eq!(fitted(&[2, 3], true, &[-1], false), [2, 3]);
    }
}

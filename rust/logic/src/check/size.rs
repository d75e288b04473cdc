// SPDX-License-Identifier: Apache-2.0
//! How many elements and bytes a shape means, and whether the data has them.

use super::{list, with_id};
use crate::DataType;
use crate::error::Error;
use crate::message::{InferRequest, Tensor};
use crate::spec::ModelSpec;

/// The product of the dimensions; `None` if an `i64` does not hold it.
#[must_use]
#[inline]
pub fn element_count(shape: &[i64]) -> Option<i64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_i64, |count, dim| count.checked_mul(*dim))
}

/// The bytes of a dense tensor of `shape`; `None` if an `i64` does not hold them, or for BYTES, whose
/// elements have no fixed size.
#[must_use]
#[inline]
pub fn byte_size(datatype: DataType, shape: &[i64]) -> Option<i64> {
    let size = i64::try_from(datatype.size()?).ok()?;
    element_count(shape)?.checked_mul(size)
}

/// The number of elements that input `name` must have.
///
/// # Errors
/// If no number holds them.
pub(crate) fn elements(
    id: &str,
    spec: &ModelSpec,
    name: &str,
    shape: &[i64],
) -> Result<i64, Error> {
    element_count(shape).ok_or_else(|| {
        let text = format!(
            "invalid shape for input '{name}' for model '{}': {} causes total element count to exceed \
             maximum size of {}",
            spec.name,
            list(shape),
            i64::MAX
        );
        with_id(id, &text)
    })
}

/// The refusal of a shape whose elements can be counted but not their bytes.
#[cold]
pub(crate) fn overflow(
    id: &str,
    spec: &ModelSpec,
    name: &str,
    datatype: DataType,
    shape: &[i64],
) -> Error {
    let text = format!(
        "byte size overflow for input '{name}' for model '{}': {} elements of shape {}",
        spec.name,
        datatype.name(),
        list(shape)
    );
    with_id(id, &text)
}

/// The refusal of data of the wrong size. Raw requests give their input another name than it has.
#[cold]
pub(crate) fn mismatch(id: &str, spec: &ModelSpec, name: &str, expected: i64, got: usize) -> Error {
    let text = format!(
        "input byte size mismatch for input '{name}' for model '{}'. Expected {expected}, got {got}",
        spec.name
    );
    with_id(id, &text)
}

/// Checks the data of `tensor` for `shape`.
pub(super) fn data(
    request: &InferRequest,
    spec: &ModelSpec,
    tensor: &Tensor,
    shape: &[i64],
) -> Result<(), Error> {
    let (id, name) = (&request.id, &tensor.name);
    let count = elements(id, spec, name, shape)?;
    let Some(size) = tensor.datatype.size() else {
        return strings(&tensor.data, count).map_err(|fault| {
            let model = &spec.name;
            with_id(
                id,
                &fault.text(&format!("for inference input '{name}' for model '{model}'")),
            )
        });
    };
    let Some(expected) = i64::try_from(size)
        .ok()
        .and_then(|size| count.checked_mul(size))
    else {
        return Err(overflow(id, spec, name, tensor.datatype, shape));
    };
    if usize::try_from(expected) != Ok(tensor.data.len()) {
        return Err(mismatch(id, spec, name, expected, tensor.data.len()));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Few { expected: i64, got: i64 },
    Many { expected: i64 },
    Length { left: usize },
    Element { length: usize, left: usize },
}

impl Fault {
    #[cold]
    fn text(&self, which: &str) -> String {
        match self {
            Self::Few { expected, got } => {
                format!("expected {expected} string elements {which}, got {got}")
            }
            Self::Many { expected } => format!(
                "unexpected number of string elements {} {which}, expecting {expected}",
                expected.saturating_add(1)
            ),
            Self::Length { left } => format!(
                "incomplete string length indicator {which}, expecting 4 bytes but only {left} bytes \
                 available. Please make sure the string length indicator is in one buffer."
            ),
            Self::Element { length, left } => format!(
                "incomplete string data {which}, expecting string of length {length} but only {left} \
                 bytes available. Please make sure the string is in one buffer."
            ),
        }
    }
}

/// Whether `data` is exactly `expected` BYTES elements.
fn strings(mut data: &[u8], expected: i64) -> Result<(), Fault> {
    let mut got = 0;
    while !data.is_empty() {
        let Some((length, rest)) = data.split_first_chunk::<4>() else {
            return Err(Fault::Length { left: data.len() });
        };
        if got >= expected {
            return Err(Fault::Many { expected });
        }
        let length = u32::from_le_bytes(*length) as usize;
        data = match rest.get(length..) {
            Some(next) => next,
            None => {
                return Err(Fault::Element {
                    length,
                    left: rest.len(),
                });
            }
        };
        got += 1;
    }
    if got == expected {
        Ok(())
    } else {
        Err(Fault::Few { expected, got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_or_refused() {
        for (shape, count) in [
            (&[][..], Some(1)),
            (&[3, 4], Some(12)),
            (&[i64::MAX], Some(i64::MAX)),
            (&[1 << 32, 1 << 32], None),
            (&[1 << 32, 1 << 32, 0], Some(0)),
            (&[1, -2], Some(-2)),
        ] {
            assert_eq!(element_count(shape), count, "{shape:?}");
        }
        assert_eq!(byte_size(DataType::Fp32, &[i64::MAX]), None);
        assert_eq!(byte_size(DataType::Fp32, &[2, 3]), Some(24));
        assert_eq!(byte_size(DataType::Bytes, &[2]), None);
    }

    #[test]
    fn string_elements_are_counted_to_the_last_byte() {
        let one = b"\x02\0\0\0ab".as_slice();
        for (data, expected, result) in [
            (b"".as_slice(), 0, Ok(())),
            (one, 1, Ok(())),
            (b"\0\0\0\0\0\0\0\0", 2, Ok(())),
            (
                b"",
                1,
                Err(Fault::Few {
                    expected: 1,
                    got: 0,
                }),
            ),
            (
                one,
                2,
                Err(Fault::Few {
                    expected: 2,
                    got: 1,
                }),
            ),
            (one, 0, Err(Fault::Many { expected: 0 })),
            (b"\x09\0\0", 1, Err(Fault::Length { left: 3 })),
            (
                b"\x09\0\0\0ab",
                1,
                Err(Fault::Element { length: 9, left: 2 }),
            ),
            (
                b"\xff\xff\xff\xff",
                1,
                Err(Fault::Element {
                    length: 0xffff_ffff,
                    left: 0,
                }),
            ),
        ] {
            assert_eq!(strings(data, expected), result, "{data:?}");
        }
    }
}

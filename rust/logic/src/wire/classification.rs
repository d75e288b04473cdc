// SPDX-License-Identifier: Apache-2.0
//! The classification extension: the `k` best classes instead of the values (`spec/triton.md` 1.6).
//!
//! Shared by HTTP and gRPC; a class is the text `value:index` or `value:index:label`. Two answers that
//! end the real server are plain errors here: classes of a BYTES output, and of one without elements.

use std::cmp::Ordering;
use std::fmt::Write;

use smallvec::smallvec;

use crate::DataType;
use crate::error::Error;
use crate::message::{Shape, Tensor};
use crate::spec::ModelSpec;

/// Most class texts in one answer, as in Triton 2.73.
const MOST: usize = 1_000_000;

/// The class labels of an output, in index order, if it has any.
pub type Labels<'a> = dyn Fn(&str) -> Option<&'a [String]> + 'a;

/// The `k` best classes of `output`, in each row if the model batches, as a BYTES tensor.
///
/// # Errors
/// If the output has no numbers to sort, or not as many as its shape says.
pub fn classify(
    spec: &ModelSpec,
    output: &Tensor,
    k: u32,
    labels: &Labels<'_>,
) -> Result<Tensor, Error> {
    let batched = spec.batches();
    let rows = if batched {
        output.shape.first().copied().unwrap_or(0)
    } else {
        1
    };
    let rows = usize::try_from(rows).unwrap_or(0);
    let labels = labels(&output.name).unwrap_or_default();
    let best = Best {
        spec,
        output,
        k: k as usize,
        rows,
        labels,
    };
    let (classes, data) = match output.datatype {
        DataType::Uint8 => best.of(u8::from_le_bytes),
        DataType::Uint16 => best.of(u16::from_le_bytes),
        DataType::Uint32 => best.of(u32::from_le_bytes),
        DataType::Uint64 => best.of(u64::from_le_bytes),
        DataType::Int8 => best.of(i8::from_le_bytes),
        DataType::Int16 => best.of(i16::from_le_bytes),
        DataType::Int32 => best.of(i32::from_le_bytes),
        DataType::Int64 => best.of(i64::from_le_bytes),
        DataType::Fp32 => best.of(f32::from_le_bytes),
        DataType::Fp64 => best.of(f64::from_le_bytes),
        DataType::Bool | DataType::Bytes | DataType::Fp16 | DataType::Bf16 => {
            return Err(Error::invalid(format!(
                "class result not available for output due to unsupported type '{}'",
                output.datatype.name()
            )));
        }
    }?;
    let classes = i64::try_from(classes).unwrap_or(i64::MAX);
    let shape: Shape = if batched {
        smallvec![output.shape[0], classes]
    } else {
        smallvec![classes]
    };
    let (name, datatype) = (output.name.clone(), DataType::Bytes);
    Ok(Tensor {
        name,
        datatype,
        shape,
        data: data.into(),
    })
}

/// A number that can be told from others and shown.
trait Value: Copy {
    fn compare(self, other: Self) -> Ordering;
    fn show(self, text: &mut String);
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn compare(self, other: Self) -> Ordering {
                self.cmp(&other)
            }
            fn show(self, text: &mut String) {
                text.push_str(itoa::Buffer::new().format(self));
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Value for $float {
            /// No number at all counts less than any.
            fn compare(self, other: Self) -> Ordering {
                self.partial_cmp(&other).unwrap_or_else(|| other.is_nan().cmp(&self.is_nan()))
            }
            /// As C's `%f`.
            fn show(self, text: &mut String) {
                let _ = match (self.is_nan(), self.is_infinite(), self > 0.0) {
                    (true, ..) => write!(text, "nan"),
                    (_, true, true) => write!(text, "inf"),
                    (_, true, false) => write!(text, "-inf"),
                    _ => write!(text, "{self:.6}"),
                };
            }
        }
    )*};
}
floats!(f32, f64);

struct Best<'a> {
    spec: &'a ModelSpec,
    output: &'a Tensor,
    k: usize,
    rows: usize,
    labels: &'a [String],
}

impl Best<'_> {
    /// Classes per row, and the BYTES data of all of them.
    fn of<T: Value, const N: usize>(
        &self,
        read: fn([u8; N]) -> T,
    ) -> Result<(usize, Vec<u8>), Error> {
        let (values, rest) = self.output.data.as_chunks::<N>();
        let per_row = values.len().checked_div(self.rows).unwrap_or(0);
        if per_row == 0 || !rest.is_empty() || per_row * self.rows != values.len() {
            return Err(Error::invalid(format!(
                "class result not available for output '{}' of model '{}': its {} bytes are not one or \
                 more {} elements in each of {} rows",
                self.output.name,
                self.spec.name,
                self.output.data.len(),
                self.output.datatype.name(),
                self.rows
            )));
        }
        let classes = self.k.min(per_row);
        if classes.saturating_mul(self.rows) > MOST {
            return Err(Error::invalid("classification output tensor too large"));
        }
        let (mut data, mut text) = (Vec::new(), String::new());
        for row in values.chunks_exact(per_row) {
            for index in best(row, classes, read) {
                text.clear();
                read(row[index]).show(&mut text);
                let _ = write!(text, ":{index}");
                if let Some(label) = self.labels.get(index).filter(|label| !label.is_empty()) {
                    let _ = write!(text, ":{label}");
                }
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                data.extend_from_slice(&length.to_le_bytes());
                data.extend_from_slice(text.as_bytes());
            }
        }
        Ok((classes, data))
    }
}

/// The indices of the `classes` greatest values, greatest first; of equal ones the first.
fn best<T: Value, const N: usize>(
    row: &[[u8; N]],
    classes: usize,
    read: fn([u8; N]) -> T,
) -> Vec<usize> {
    let order = |a: &usize, b: &usize| read(row[*b]).compare(read(row[*a])).then(a.cmp(b));
    let mut indices: Vec<usize> = (0..row.len()).collect();
    if classes < row.len() {
        indices.select_nth_unstable_by(classes, order);
        indices.truncate(classes);
    }
    indices.sort_unstable_by(order);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(max_batch_size: u32) -> ModelSpec {
        let config = format!(r#"{{"name": "m", "max_batch_size": {max_batch_size}}}"#);
        ModelSpec::from_config_json(&config).unwrap()
    }

    fn tensor(datatype: DataType, shape: &[i64], data: Vec<u8>) -> Tensor {
        let shape = shape.iter().copied().collect();
        Tensor {
            name: "O".into(),
            datatype,
            shape,
            data: data.into(),
        }
    }

    fn floats(values: &[f32]) -> Tensor {
        let data = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        tensor(
            DataType::Fp32,
            &[i64::try_from(values.len()).unwrap()],
            data,
        )
    }

    fn texts(classes: &Tensor) -> Vec<String> {
        let (mut data, mut texts) = (&*classes.data, Vec::new());
        while let Some((length, rest)) = data.split_first_chunk::<4>() {
            let (text, next) = rest.split_at(u32::from_le_bytes(*length) as usize);
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            data = next;
        }
        texts
    }

    #[test]
    fn the_best_classes_come_first_and_equal_ones_in_order() {
        let output = floats(&[1.0, f32::NAN, 7.25, f32::INFINITY, 7.25, f32::NEG_INFINITY]);
        let labels = ["cat".into(), "dog".into(), "bird".into(), String::new()];
        let classes = classify(&model(0), &output, 6, &|_| Some(&labels)).unwrap();
        assert_eq!(
            texts(&classes),
            [
                "inf:3",
                "7.250000:2:bird",
                "7.250000:4",
                "1.000000:0:cat",
                "-inf:5",
                "nan:1:dog"
            ]
        );
        assert_eq!(
            (classes.datatype, &classes.shape[..]),
            (DataType::Bytes, &[6][..])
        );
        let three = classify(&model(0), &output, 3, &|_| None).unwrap();
        assert_eq!(texts(&three), ["inf:3", "7.250000:2", "7.250000:4"]);
    }

    #[test]
    fn rows_are_sorted_each_for_itself() {
        let output = tensor(DataType::Int8, &[2, 3], vec![1, 255, 3, 9, 8, 7]);
        let classes = classify(&model(4), &output, 2, &|_| None).unwrap();
        assert_eq!(texts(&classes), ["3:2", "1:0", "9:0", "8:1"]);
        assert_eq!(classes.shape[..], [2, 2]);
    }

    #[test]
    fn what_cannot_be_sorted_is_an_error_and_no_crash() {
        let refused = |batch, output: &Tensor| {
            classify(&model(batch), output, 2, &|_| None)
                .unwrap_err()
                .message
                .into_owned()
        };
        for datatype in [
            DataType::Bool,
            DataType::Bytes,
            DataType::Fp16,
            DataType::Bf16,
        ] {
            assert_eq!(
                refused(0, &tensor(datatype, &[1], vec![0; 4])),
                format!(
                    "class result not available for output due to unsupported type '{}'",
                    datatype.name()
                )
            );
        }
        for (batch, shape, bytes) in [
            (0, &[0][..], 0),
            (4, &[0, 3], 0),
            (4, &[], 0),
            (4, &[2, 3], 20),
            (0, &[3], 11),
            (4, &[-1, 3], 12),
        ] {
            let output = tensor(DataType::Fp32, shape, vec![0; bytes]);
            let text = refused(batch, &output);
            assert!(
                text.contains("output 'O' of model 'm'"),
                "{shape:?}: {text}"
            );
        }
        let long = tensor(DataType::Uint8, &[1_000_001], vec![0; 1_000_001]);
        let refused = classify(&model(0), &long, u32::MAX, &|_| None).unwrap_err();
        assert_eq!(refused.message, "classification output tensor too large");
    }
}

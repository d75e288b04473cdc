// SPDX-License-Identifier: Apache-2.0
//! Several inputs for a model of rows: columns that are joined, or one that is meant and others beside it.
//!
//! With the request parameter `content_type: pd` KServe's servers read each input as a column of a data
//! frame. Without it they look at one input alone, whatever else is there.

use bytes::Bytes;
use half::{bf16, f16};

use super::with_id;
use crate::DataType;
use crate::error::Error;
use crate::message::{InferRequest, Parameter, Shape, Tensor};
use crate::spec::ModelSpec;

/// Makes one input of several, for a model that has one.
///
/// # Errors
/// If the columns are no columns of numbers, all of one length.
pub fn gather(request: &mut InferRequest, spec: &ModelSpec) -> Result<(), Error> {
    let [declared] = &spec.inputs[..] else {
        return Ok(());
    };
    // Data in shared memory is not here yet, and is found by its place among the inputs.
    if request.inputs.len() < 2 || !request.windows.is_empty() {
        return Ok(());
    }
    let frame = |(key, value): &(_, Parameter)| {
        *key == "content_type" && matches!(value, Parameter::String(text) if &**text == "pd")
    };
    if request.parameters.iter().any(frame) && declared.datatype == DataType::Fp32 {
        let joined = joined(&request.inputs)
            .map_err(|why| with_id(&request.id, &format!("{why} for model '{}'", spec.name)))?;
        request.inputs = smallvec::smallvec![joined];
        return Ok(());
    }
    let meant = request
        .inputs
        .iter()
        .position(|input| input.name == declared.name);
    request.inputs.swap(0, meant.unwrap_or(0));
    request.inputs.truncate(1);
    Ok(())
}

/// The columns side by side, as one tensor of FP32.
fn joined(columns: &[Tensor]) -> Result<Tensor, String> {
    let rows = columns
        .first()
        .and_then(|column| column.shape.first())
        .copied();
    let rows = rows.unwrap_or(0);
    let length = usize::try_from(rows).unwrap_or(0);
    let mut parts = Vec::with_capacity(columns.len());
    for column in columns {
        if !matches!(column.shape[..], [n] | [n, 1] if n == rows && n > 0) {
            return Err(format!(
                "with content_type 'pd' every input is a column of {rows} rows: unexpected shape {:?} \
                 for input '{}'",
                &column.shape[..],
                column.name
            ));
        }
        let data = match numbers(column) {
            Some(Ok(data)) => data,
            None if column.datatype == DataType::Fp32 => column.data.clone(),
            Some(Err(value)) => {
                let name = &column.name;
                return Err(format!(
                    "value {value} of input '{name}' is out of range for FP32"
                ));
            }
            None => {
                let name = &column.name;
                return Err(format!(
                    "the column '{name}' is not of numbers, which are expected"
                ));
            }
        };
        if data.len() != length.saturating_mul(4) {
            return Err(format!(
                "input byte size mismatch for input '{}': {rows} rows are expected",
                column.name
            ));
        }
        parts.push(data);
    }
    Ok(Tensor {
        name: columns
            .first()
            .map(|column| column.name.clone())
            .unwrap_or_default(),
        datatype: DataType::Fp32,
        shape: Shape::from_slice(&[rows, i64::try_from(parts.len()).unwrap_or(i64::MAX)]),
        data: side_by_side(&parts),
    })
}

fn side_by_side(columns: &[Bytes]) -> Bytes {
    let mut chunks: Vec<_> = columns.iter().map(|data| data.chunks_exact(4)).collect();
    let mut data = Vec::with_capacity(columns.iter().map(Bytes::len).sum());
    while let Some(first) = chunks.first_mut().and_then(Iterator::next) {
        data.extend_from_slice(first);
        for chunk in chunks.iter_mut().skip(1) {
            data.extend_from_slice(chunk.next().unwrap_or_default());
        }
    }
    data.into()
}

/// The elements as FP32; `None` if they are no numbers, or broken off.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub fn numbers(tensor: &Tensor) -> Option<Result<Bytes, f64>> {
    let data = &tensor.data[..];
    let made = match tensor.datatype {
        DataType::Bool => each(data, |[byte]| f32::from(u8::from(byte != 0))),
        DataType::Uint8 => each(data, |[byte]| f32::from(byte)),
        DataType::Uint16 => each(data, |bytes| f32::from(u16::from_le_bytes(bytes))),
        DataType::Uint32 => each(data, |bytes| u32::from_le_bytes(bytes) as f32),
        DataType::Uint64 => each(data, |bytes| u64::from_le_bytes(bytes) as f32),
        DataType::Int8 => each(data, |bytes| f32::from(i8::from_le_bytes(bytes))),
        DataType::Int16 => each(data, |bytes| f32::from(i16::from_le_bytes(bytes))),
        DataType::Int32 => each(data, |bytes| i32::from_le_bytes(bytes) as f32),
        DataType::Int64 => each(data, |bytes| i64::from_le_bytes(bytes) as f32),
        DataType::Fp16 => each(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DataType::Bf16 => each(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        DataType::Fp64 => {
            let too_large = |value: &f64| value.is_finite() && (*value as f32).is_infinite();
            let (chunks, _) = data.as_chunks();
            let mut values = chunks.iter().map(|bytes| f64::from_le_bytes(*bytes));
            if let Some(value) = values.find(too_large) {
                return Some(Err(value));
            }
            each(data, |bytes| f64::from_le_bytes(bytes) as f32)
        }
        DataType::Fp32 | DataType::Bytes => None,
    };
    made.map(Ok)
}

fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f32) -> Option<Bytes> {
    let (chunks, rest) = data.as_chunks::<N>();
    let made = chunks.iter().flat_map(|chunk| number(*chunk).to_le_bytes());
    rest.is_empty().then(|| made.collect::<Vec<u8>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &'static str, datatype: DataType, shape: &[i64], data: Vec<u8>) -> Tensor {
        Tensor {
            name: name.into(),
            datatype,
            shape: Shape::from_slice(shape),
            data: data.into(),
        }
    }

    fn gathered(frame: bool, inputs: &[Tensor]) -> Result<InferRequest, String> {
        let spec = ModelSpec::from_config_json(
            r#"{"name": "m", "max_batch_size": 8, "parameters": {"accept_as_kserve": {"string_value": "true"}},
            "input": [{"name": "input-0", "data_type": "TYPE_FP32", "dims": [2]}]}"#,
        )
        .unwrap();
        let kind = (
            "content_type".into(),
            Parameter::String(if frame { "pd" } else { "np" }.into()),
        );
        let mut request = InferRequest {
            inputs: inputs.iter().cloned().collect(),
            parameters: vec![kind],
            ..InferRequest::default()
        };
        gather(&mut request, &spec).map_err(|why| why.to_string())?;
        Ok(request)
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn columns_become_rows() {
        let a = column("a", DataType::Fp32, &[3], floats(&[1.0, 2.0, 3.0]));
        let whole = [10_i64, 20, 30].map(i64::to_le_bytes).concat();
        let b = column("b", DataType::Int64, &[3, 1], whole);
        let request = gathered(true, &[a, b]).unwrap();
        let [tensor] = &request.inputs[..] else {
            panic!("{:?}", request.inputs)
        };
        assert_eq!(&tensor.shape[..], [3, 2]);
        assert_eq!(&tensor.data[..], floats(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]));
    }

    #[test]
    fn what_is_no_column_is_told() {
        let a = column("a", DataType::Fp32, &[2], floats(&[1.0, 2.0]));
        let text = column("t", DataType::Bytes, &[2], vec![0; 8]);
        let long = column("l", DataType::Fp32, &[3], floats(&[1.0, 2.0, 3.0]));
        let wide = column("w", DataType::Fp32, &[2, 2], floats(&[0.0; 4]));
        let short = column("s", DataType::Fp32, &[2], floats(&[1.0]));
        for (other, said) in [
            (text, "the column 't' is not of numbers"),
            (long, "unexpected shape [3] for input 'l'"),
            (wide, "unexpected shape [2, 2] for input 'w'"),
            (short, "byte size mismatch for input 's'"),
        ] {
            let told = gathered(true, &[a.clone(), other]).unwrap_err();
            assert!(told.contains(said) && told.contains("model 'm'"), "{told}");
        }
    }

    #[test]
    fn of_several_inputs_the_declared_one_is_meant_or_else_the_first() {
        let a = column("a", DataType::Fp32, &[1, 2], floats(&[1.0, 2.0]));
        let own = column("input-0", DataType::Fp32, &[1, 2], floats(&[3.0, 4.0]));
        let names = |inputs: &[Tensor]| -> Vec<String> {
            let request = gathered(false, inputs).unwrap();
            request
                .inputs
                .iter()
                .map(|input| input.name.to_string())
                .collect()
        };
        assert_eq!(names(&[a.clone(), own]), ["input-0"]);
        assert_eq!(names(&[a.clone(), a]), ["a"]);
    }
}

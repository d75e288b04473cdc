// SPDX-License-Identifier: Apache-2.0
//! What KServe's own servers of tabular models accept beyond the declaration, made into what is declared.
//!
//! They look at one input's rows alone: it may have any name, and any type of number. Columns that come as
//! inputs of their own are joined before (`columns`). Whatever a
//! number is rounded to here is what it would be had the client sent the declared type; one that FP32 does
//! not hold at all is refused.

use super::columns::{self, numbers};
use super::with_id;
use crate::DataType;
use crate::error::Error;
use crate::message::InferRequest;
use crate::spec::ModelSpec;

/// Gives the only input the declared name and type.
///
/// # Errors
/// If a value is none in the declared type.
pub fn adapt(request: &mut InferRequest, spec: &ModelSpec) -> Result<(), Error> {
    columns::gather(request, spec)?;
    let ([tensor], [declared]) = (&mut request.inputs[..], &spec.inputs[..]) else {
        return Ok(());
    };
    if tensor.datatype != declared.datatype && declared.datatype == DataType::Fp32 {
        match numbers(tensor) {
            None => {}
            Some(Ok(data)) => (tensor.datatype, tensor.data) = (DataType::Fp32, data),
            Some(Err(value)) => {
                let text = format!(
                    "value {value} of input '{}' for model '{}' is out of range for FP32",
                    tensor.name, spec.name
                );
                return Err(with_id(&request.id, &text));
            }
        }
    }
    if tensor.name != declared.name {
        tensor.name = declared.name.clone();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Shape, Tensor};

    fn asked(datatype: DataType, data: &[u8]) -> Result<Tensor, String> {
        let spec = ModelSpec::from_config_json(
            r#"{"name": "m", "parameters": {"accept_as_kserve": {"string_value": "true"}},
            "input": [{"name": "input-0", "data_type": "TYPE_FP32", "dims": [2]}]}"#,
        )
        .unwrap();
        let tensor = Tensor {
            name: "x".into(),
            datatype,
            shape: Shape::from_slice(&[2]),
            data: Bytes::copy_from_slice(data),
        };
        let mut request = InferRequest {
            inputs: smallvec::smallvec![tensor],
            ..InferRequest::default()
        };
        adapt(&mut request, &spec).map_err(|why| why.to_string())?;
        Ok(request.inputs.remove(0))
    }

    #[test]
    fn every_type_of_number_becomes_the_declared_one_under_the_declared_name() {
        let wide = |values: [f64; 2]| values.map(f64::to_le_bytes).concat();
        for (datatype, data) in [
            (DataType::Bool, vec![7, 0]),
            (DataType::Uint8, vec![1, 0]),
            (DataType::Int8, vec![1, 0]),
            (DataType::Uint16, vec![1, 0, 0, 0]),
            (DataType::Int16, vec![1, 0, 0, 0]),
            (DataType::Uint32, vec![1, 0, 0, 0, 0, 0, 0, 0]),
            (DataType::Int32, vec![1, 0, 0, 0, 0, 0, 0, 0]),
            (DataType::Uint64, [1_u64, 0].map(u64::to_le_bytes).concat()),
            (DataType::Int64, [1_i64, 0].map(i64::to_le_bytes).concat()),
            (DataType::Fp16, vec![0, 0x3c, 0, 0]),
            (DataType::Bf16, vec![0x80, 0x3f, 0, 0]),
            (DataType::Fp32, [1_f32, 0.0].map(f32::to_le_bytes).concat()),
            (DataType::Fp64, wide([1.0, 0.0])),
        ] {
            let tensor = asked(datatype, &data).unwrap();
            assert_eq!(
                (&*tensor.name, tensor.datatype),
                ("input-0", DataType::Fp32)
            );
            let expected = [1_f32, 0.0].map(f32::to_le_bytes).concat();
            assert_eq!(&tensor.data[..], expected, "{datatype:?}");
        }
        let endless = asked(DataType::Fp64, &wide([f64::INFINITY, f64::NAN])).unwrap();
        assert_eq!(&endless.data[..4], f32::INFINITY.to_le_bytes());
    }

    #[test]
    fn what_is_no_number_keeps_its_type() {
        for (datatype, data) in [
            (DataType::Bytes, &[0, 0, 0, 0][..]),
            (DataType::Fp64, &[1, 2]),
        ] {
            let tensor = asked(datatype, data).unwrap();
            assert_eq!((&*tensor.name, tensor.datatype), ("input-0", datatype));
        }
        let large = asked(DataType::Fp64, &[1e39, 0.0].map(f64::to_le_bytes).concat());
        let told = large.unwrap_err();
        assert!(
            told.contains("of input 'x' for model 'm' is out of range for FP32"),
            "{told}"
        );
    }
}

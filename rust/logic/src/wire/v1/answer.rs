// SPDX-License-Identifier: Apache-2.0
//! An answer: rows again, with an object for each where the model has several outputs.

use bytes::Bytes;
use half::{bf16, f16};

use crate::DataType;
use crate::check::element_count;
use crate::error::Error;
use crate::message::{Form, InferResponse, Shape, Tensor};
use crate::spec::ModelSpec;
use crate::wire::base64;
use crate::wire::json::write::{double, integer, string};

/// Most rows without any element that are written.
const HOLLOW: i64 = 1 << 20;

/// Writes an answer; `alone` as in [`super::Predict`].
///
/// # Errors
/// If an output cannot be written as JSON, or has not the size that its shape says.
pub fn encode_predictions(
    spec: &ModelSpec,
    response: &InferResponse,
    alone: bool,
    form: Form,
) -> Result<Bytes, Error> {
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for tensor in &response.outputs {
        outputs.push(Values::new(spec, tensor, alone, form)?);
    }
    let bytes: usize = response
        .outputs
        .iter()
        .map(|tensor| tensor.data.len())
        .sum();
    let mut out = Vec::with_capacity(64 + 2 * bytes);
    out.extend_from_slice(b"{\"predictions\":");
    let rows = common_rows(&outputs);
    match (&mut outputs[..], rows) {
        ([only], _) => only.whole(&mut out)?,
        (several, Some(rows)) if spec.batches() || alone => {
            out.push(b'[');
            for row in 0..rows {
                separate(&mut out, row);
                object(&mut out, several, Values::row)?;
            }
            out.push(b']');
        }
        (several, _) => object(&mut out, several, Values::whole)?,
    }
    out.push(b'}');
    for values in &outputs {
        values.end()?;
    }
    Ok(out.into())
}

/// The number of rows, if all outputs have as many.
fn common_rows(outputs: &[Values<'_>]) -> Option<i64> {
    let mut rows = outputs.iter().map(|values| values.shape.first().copied());
    let first = rows.next()??;
    rows.all(|count| count == Some(first)).then_some(first)
}

fn object<'a>(
    out: &mut Vec<u8>,
    outputs: &mut [Values<'a>],
    write: impl Fn(&mut Values<'a>, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(b'{');
    for (index, values) in (0..).zip(outputs) {
        separate(out, index);
        string(out, values.tensor.name.as_bytes());
        out.push(b':');
        write(values, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn separate(out: &mut Vec<u8>, index: i64) {
    if index > 0 {
        out.push(b',');
    }
}

/// The elements of an output that are not written yet.
struct Values<'a> {
    model: &'a str,
    tensor: &'a Tensor,
    shape: Shape,
    left: &'a [u8],
    form: Form,
}

impl<'a> Values<'a> {
    fn new(
        spec: &'a ModelSpec,
        tensor: &'a Tensor,
        alone: bool,
        form: Form,
    ) -> Result<Self, Error> {
        let mut shape = tensor.shape.clone();
        if alone {
            shape.insert(0, 1);
        }
        // By its declaration, so that the answers to all requests are alike.
        let single = spec
            .output(&tensor.name)
            .is_some_and(|declared| declared.dims.last() == Some(&1));
        if single && shape.len() > 1 && shape.last() == Some(&1) {
            shape.pop();
        }
        let values = Self {
            model: &spec.name,
            tensor,
            shape,
            left: &tensor.data,
            form,
        };
        let count = element_count(&values.shape).ok_or_else(|| values.wrong_size())?;
        let bytes = tensor.datatype.size().and_then(|size| {
            let size = i64::try_from(size).ok()?;
            count.checked_mul(size)
        });
        let right = match tensor.datatype {
            // Each string has at least its length.
            DataType::Bytes => count <= i64::try_from(tensor.data.len() / 4).unwrap_or(0),
            _ => bytes.is_some() && bytes == i64::try_from(tensor.data.len()).ok(),
        };
        let filled: Shape = values.shape.iter().map(|dim| (*dim).max(1)).collect();
        let hollow = count == 0 && element_count(&filled).is_none_or(|rows| rows > HOLLOW);
        if !right || hollow {
            return Err(values.wrong_size());
        }
        Ok(values)
    }

    fn whole(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let shape = self.shape.clone();
        self.nested(out, &shape)
    }

    fn row(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let shape = self.shape.clone();
        self.nested(out, shape.get(1..).unwrap_or_default())
    }

    fn nested(&mut self, out: &mut Vec<u8>, shape: &[i64]) -> Result<(), Error> {
        let Some((rows, inner)) = shape.split_first() else {
            return self.element(out);
        };
        out.push(b'[');
        for row in 0..*rows {
            separate(out, row);
            self.nested(out, inner)?;
        }
        out.push(b']');
        Ok(())
    }

    fn element(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self.tensor.datatype {
            DataType::Bool => {
                let value = self.take().map(|[byte]| byte != 0)?;
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
            DataType::Uint8 => integer(out, u8::from_le_bytes(self.take()?)),
            DataType::Uint16 => integer(out, u16::from_le_bytes(self.take()?)),
            DataType::Uint32 => integer(out, u32::from_le_bytes(self.take()?)),
            DataType::Uint64 => integer(out, u64::from_le_bytes(self.take()?)),
            DataType::Int8 => integer(out, i8::from_le_bytes(self.take()?)),
            DataType::Int16 => integer(out, i16::from_le_bytes(self.take()?)),
            DataType::Int32 => integer(out, i32::from_le_bytes(self.take()?)),
            DataType::Int64 => integer(out, i64::from_le_bytes(self.take()?)),
            DataType::Fp32 => finite(out, f64::from(f32::from_le_bytes(self.take()?))),
            DataType::Fp64 => finite(out, f64::from_le_bytes(self.take()?)),
            DataType::Bytes => self.text(out)?,
            DataType::Fp16 => finite(out, f16::from_le_bytes(self.take()?).to_f64()),
            DataType::Bf16 => finite(out, bf16::from_le_bytes(self.take()?).to_f64()),
        }
        Ok(())
    }

    fn text(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let (text, rest) = self
            .left
            .split_at_checked(length)
            .ok_or_else(|| self.wrong_size())?;
        if self.form == Form::Base64 {
            base64::write(out, text);
        } else if str::from_utf8(text).is_ok() {
            string(out, text);
        } else {
            return Err(self.no_text());
        }
        self.left = rest;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (element, rest) = self
            .left
            .split_first_chunk::<N>()
            .ok_or_else(|| self.wrong_size())?;
        self.left = rest;
        Ok(*element)
    }

    fn end(&self) -> Result<(), Error> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(self.wrong_size())
    }

    #[cold]
    fn no_text(&self) -> Error {
        let (name, model) = (&self.tensor.name, self.model);
        Error::invalid(format!(
            "output '{name}' of model '{model}' has bytes that are not UTF-8; ask for base64 with \
             \"base64_data_output\": true, or for binary data at /v2/models/{model}/infer"
        ))
    }

    #[cold]
    fn wrong_size(&self) -> Error {
        let name = &self.tensor.name;
        Error::internal(format!(
            "output tensor shape does not match size of output for '{name}'"
        ))
    }
}

/// A double; JSON has neither infinity nor NaN, and KServe writes null for them.
fn finite(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        double(out, value);
    } else {
        out.extend_from_slice(b"null");
    }
}

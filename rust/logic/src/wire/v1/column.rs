// SPDX-License-Identifier: Apache-2.0
//! The values of one input, from nested arrays into a tensor's bytes; the shape is what they are nested in.

use bytestring::ByteString;
use half::{bf16, f16};

use super::{Failure, NO_VALUE};
use crate::DataType;
use crate::check::MAX_DIMENSIONS;

use crate::error::Error;
use crate::message::{Shape, Tensor};
use crate::spec::IoSpec;
use crate::wire::base64;
use crate::wire::json::{Kind, Number, Reader, Syntax};

/// A tensor in the making.
pub(super) struct Column<'a> {
    pub(super) declared: &'a IoSpec,
    model: &'a str,
    data: Vec<u8>,
    /// How many values the arrays of each level have, once one of them has ended.
    sizes: Vec<Option<i64>>,
    /// The level of the values themselves, once there was one.
    rank: Option<usize>,
    /// Instances that have been read; for arrays that are read whole this is not used.
    pub(super) instances: i64,
}

impl<'a> Column<'a> {
    pub(super) const fn new(declared: &'a IoSpec, model: &'a str) -> Self {
        Self {
            declared,
            model,
            data: Vec::new(),
            sizes: Vec::new(),
            rank: None,
            instances: 0,
        }
    }

    /// Reads the array that is next, which holds all instances.
    pub(super) fn whole(&mut self, json: &mut Reader<'_>) -> Result<(), Failure> {
        self.nested(json, 0)
    }

    /// Reads the value that is next: that of one more instance.
    pub(super) fn instance(&mut self, json: &mut Reader<'_>) -> Result<(), Failure> {
        if self.sizes.is_empty() {
            self.sizes.push(None);
        }
        self.instances += 1;
        self.nested(json, 1)
    }

    fn nested(&mut self, json: &mut Reader<'_>, level: usize) -> Result<(), Failure> {
        if json.kind() != Kind::Array {
            if self.sizes.len() > level || self.rank.is_some_and(|rank| rank != level) {
                return Err(self.ragged().into());
            }
            self.rank = Some(level);
            return self.value(json);
        }
        if level >= MAX_DIMENSIONS {
            let text = format!("{} is nested deeper than {MAX_DIMENSIONS}", self.told());
            return Err(Error::invalid(text).into());
        }
        if self.rank == Some(level) {
            return Err(self.ragged().into());
        }
        if self.sizes.len() == level {
            self.sizes.push(None);
        }
        json.enter();
        let (mut start, mut count) = (true, 0);
        while json.element(&mut start)? {
            self.nested(json, level + 1)?;
            count += 1;
        }
        match self.sizes.get_mut(level) {
            Some(size) if size.is_none_or(|size| size == count) => *size = Some(count),
            _ => return Err(self.ragged().into()),
        }
        Ok(())
    }

    fn value(&mut self, json: &mut Reader<'_>) -> Result<(), Failure> {
        let kind = json.kind();
        match (self.declared.datatype, kind) {
            (DataType::Bytes, Kind::String) => {
                let text = json.text()?;
                let bytes = text.bytes();
                let length =
                    u32::try_from(bytes.len()).map_err(|_| self.wrong("too long a text"))?;
                self.data.extend_from_slice(&length.to_le_bytes());
                self.data.extend_from_slice(bytes);
            }
            (DataType::Bytes, Kind::Object) => {
                base64::read(json, &mut self.data).map_err(|fault| match fault {
                    base64::Fault::Syntax(syntax) => Failure::Syntax(syntax),
                    base64::Fault::Other => self.wrong(word(kind)).into(),
                    base64::Fault::Wrong(why) => self.no_base64(&why).into(),
                })?;
            }
            (DataType::Bool, Kind::Bool) => self.data.push(u8::from(json.boolean()?)),
            (DataType::Bytes, _) | (_, Kind::String | Kind::Bool | Kind::Null | Kind::Object) => {
                json.skip()?;
                return Err(self.wrong(word(kind)).into());
            }
            (_, Kind::Number | Kind::Array) => {
                let number = strict_number(json)?;
                self.number(number)?;
            }
        }
        Ok(())
    }

    fn number(&mut self, number: Number) -> Result<(), Error> {
        let whole = integer(number);
        macro_rules! integers {
            ($($datatype:ident $kind:ty),*) => {
                match self.declared.datatype {
                    $(DataType::$datatype => {
                        let value = whole.and_then(|value| <$kind>::try_from(value).ok());
                        let value = value.ok_or_else(|| self.unfit(number))?;
                        self.data.extend_from_slice(&value.to_le_bytes());
                    })*
                    DataType::Bool => match whole {
                        Some(value @ 0..=1) => self.data.push(u8::from(value == 1)),
                        _ => return Err(self.unfit(number)),
                    },
                    DataType::Fp64 => {
                        self.data.extend_from_slice(&number.as_double().to_le_bytes());
                    }
                    DataType::Fp16 => {
                        let value = f16::from_f64(number.as_double());
                        if value.is_infinite() {
                            return Err(self.unfit(number));
                        }
                        self.data.extend_from_slice(&value.to_le_bytes());
                    }
                    DataType::Bf16 => {
                        let value = bf16::from_f64(number.as_double());
                        if value.is_infinite() {
                            return Err(self.unfit(number));
                        }
                        self.data.extend_from_slice(&value.to_le_bytes());
                    }
                    _ => {
                        #[allow(clippy::cast_possible_truncation)]
                        let value = number.as_double() as f32;
                        if value.is_infinite() {
                            return Err(self.unfit(number));
                        }
                        self.data.extend_from_slice(&value.to_le_bytes());
                    }
                }
            };
        }
        integers!(
            Uint8 u8, Uint16 u16, Uint32 u32, Uint64 u64, Int8 i8, Int16 i16, Int32 i32, Int64 i64
        );
        Ok(())
    }

    /// The tensor, with `instances` as its first dimension where they were read one by one.
    pub(super) fn into_tensor(self, instances: Option<i64>) -> Tensor {
        let mut shape: Shape = self.sizes.iter().map(|size| size.unwrap_or(0)).collect();
        if let (Some(first), Some(instances)) = (shape.first_mut(), instances) {
            *first = instances;
        }
        Tensor {
            name: ByteString::clone(&self.declared.name),
            datatype: self.declared.datatype,
            shape,
            data: self.data.into(),
        }
    }

    fn told(&self) -> String {
        format!("input '{}' of model '{}'", self.declared.name, self.model)
    }

    #[cold]
    fn ragged(&self) -> Error {
        Error::invalid(format!(
            "{} has rows of unequal lengths; all instances must have one shape",
            self.told()
        ))
    }

    #[cold]
    fn wrong(&self, got: &str) -> Error {
        let expected = match self.declared.datatype {
            DataType::Bytes => "a string",
            DataType::Bool => "true or false",
            _ => "a number",
        };
        let datatype = self.declared.datatype.name();
        Error::invalid(format!(
            "{} is {datatype}: {expected} is expected, got {got}",
            self.told()
        ))
    }

    #[cold]
    fn no_base64(&self, why: &str) -> Error {
        Error::invalid(format!("an element of {} {why}", self.told()))
    }

    #[cold]
    fn unfit(&self, number: Number) -> Error {
        let datatype = self.declared.datatype.name();
        let value = match number {
            Number::Uint(value) => value.to_string(),
            Number::Int(value) => value.to_string(),
            Number::Double(value) => value.to_string(),
        };
        Error::invalid(format!(
            "{} is {datatype}, which cannot hold {value}",
            self.told()
        ))
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "an object",
        Kind::Array => "an array",
        Kind::String => "a string",
        Kind::Bool => "true or false",
        Kind::Null => "null",
        Kind::Number => "a number",
    }
}

/// A number without a fraction, however it is written.
fn integer(number: Number) -> Option<i128> {
    match number {
        Number::Uint(value) => Some(value.into()),
        Number::Int(value) => Some(value.into()),
        // Above 2^64 nothing fits anyway.
        Number::Double(value) if value.fract() == 0.0 && value.abs() < 1e20 =>
        {
            #[allow(clippy::cast_possible_truncation)]
            Some(value as i128)
        }
        Number::Double(_) => None,
    }
}

/// The number that is next, which is none of those that only Triton's JSON has.
pub(super) fn strict_number(json: &mut Reader<'_>) -> Result<Number, Syntax> {
    let at = json.position();
    let number = json.number()?;
    match number {
        Number::Double(value) if !value.is_finite() => Err(Syntax { what: NO_VALUE, at }),
        number => Ok(number),
    }
}

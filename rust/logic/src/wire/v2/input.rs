// SPDX-License-Identifier: Apache-2.0
//! One input of a request: its description, and its data from wherever it is.

use bytes::Bytes;
use bytestring::ByteString;

use super::data::{Elements, Fault, read_array};
use super::request::{Parser, SharedMemory, first};
use super::{Failure, NON_ARRAY, NON_UNSIGNED, absent, unable};
use crate::DataType;
use crate::check::{self, MAX_DIMENSIONS, size, too_many, wrong_type};
use crate::error::Error;
use crate::message::{Shape, Tensor, Window};
use crate::wire::json::{Kind, MAX_DEPTH, Number};

/// A `data` member, which can only be read when name and type are known.
enum Data {
    /// Not there.
    None,
    /// There, but not an array.
    Other,
    /// An array at this offset of the JSON, not read yet.
    At(usize),
    /// Read.
    Read(Elements),
}

#[derive(Default)]
struct Sources {
    binary_size: Option<u64>,
    shared: SharedMemory,
}

/// The members of an input, in whatever order they come.
struct Draft {
    name: Option<ByteString>,
    /// `Some(None)` is a type that does not exist.
    datatype: Option<Option<DataType>>,
    shape: Option<Shape>,
    data: Data,
    sources: Sources,
}

impl Parser<'_> {
    /// Reads the input that is next; one in shared memory has no data yet.
    pub(super) fn input(&mut self, id: &str) -> Result<(Tensor, Option<Window>), Failure> {
        let mut draft = Draft {
            name: None,
            datatype: None,
            shape: None,
            data: Data::None,
            sources: Sources::default(),
        };
        if self.json.kind() == Kind::Object {
            self.members(&mut draft)?;
        } else {
            self.json.skip()?;
        }
        self.tensor(id, draft)
    }

    fn members(&mut self, draft: &mut Draft) -> Result<(), Failure> {
        self.json.enter();
        let (mut start, mut parameters) = (true, false);
        while let Some(member) = self.json.member(&mut start)? {
            match member.bytes() {
                b"name" if draft.name.is_none() => draft.name = Some(self.string("name")?),
                b"datatype" if draft.datatype.is_none() => {
                    let text = self.text("datatype")?;
                    let name = str::from_utf8(text.bytes()).unwrap_or_default();
                    draft.datatype = Some(DataType::from_name(name));
                }
                b"shape" if draft.shape.is_none() => draft.shape = Some(self.shape()?),
                b"data" if matches!(draft.data, Data::None) => draft.data = self.data(draft)?,
                b"parameters" if first(&mut parameters) && self.json.kind() == Kind::Object => {
                    self.sources(&mut draft.sources)?;
                }
                _ => self.json.skip()?,
            }
        }
        Ok(())
    }

    fn shape(&mut self) -> Result<Shape, Failure> {
        self.array("shape")?;
        let (mut shape, mut start) = (Shape::new(), true);
        while self.json.element(&mut start)? {
            if shape.len() >= MAX_DIMENSIONS {
                return Err(too_many("dimensions in one shape", MAX_DIMENSIONS, self.spec).into());
            }
            let dim = self
                .unsigned()?
                .ok_or_else(|| unable("shape", NON_UNSIGNED))?;
            shape.push(i64::try_from(dim).map_err(|_| {
                unable(
                    "shape",
                    &format!("dimension {dim} exceeds maximum size of {}", i64::MAX),
                )
            })?);
        }
        Ok(shape)
    }

    fn sources(&mut self, sources: &mut Sources) -> Result<(), Failure> {
        self.json.enter();
        let mut start = true;
        while let Some(member) = self.json.member(&mut start)? {
            match member.bytes() {
                b"binary_data_size" if sources.binary_size.is_none() => {
                    let size = self.unsigned()?;
                    sources.binary_size =
                        Some(size.ok_or_else(|| unable("binary_data_size", NON_UNSIGNED))?);
                }
                name => {
                    if !self.shared_memory(name, &mut sources.shared)? {
                        self.json.skip()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the array that is next if it can be, else goes behind it.
    fn data(&mut self, draft: &Draft) -> Result<Data, Failure> {
        if self.json.kind() != Kind::Array {
            self.json.skip()?;
            return Ok(Data::Other);
        }
        let (Some(name), Some(Some(datatype))) = (&draft.name, draft.datatype) else {
            let at = self.json.position();
            self.json.skip()?;
            return Ok(Data::At(at));
        };
        let expected = draft
            .shape
            .as_deref()
            .and_then(check::element_count)
            .unwrap_or(0);
        self.elements(name, datatype, expected).map(Data::Read)
    }

    pub(super) fn elements(
        &mut self,
        name: &str,
        datatype: DataType,
        expected: i64,
    ) -> Result<Elements, Failure> {
        let expected = usize::try_from(expected).unwrap_or(0);
        read_array(&mut self.json, datatype, expected).map_err(|fault| match fault {
            Fault::Syntax(syntax) => Failure::Syntax(syntax),
            Fault::Kind(text) => Failure::Meaning(Error::invalid(text)),
            Fault::Range(value) => Failure::Meaning(self.out_of_range(name, datatype, value)),
            Fault::Base64(why) => Failure::Meaning(Error::invalid(format!(
                "an element of input '{name}' for model '{}' {why}",
                self.spec.name
            ))),
            Fault::Depth => Failure::Meaning(Error::invalid(format!(
                "JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})"
            ))),
        })
    }

    #[cold]
    fn out_of_range(&self, name: &str, datatype: DataType, value: Number) -> Error {
        let bits = datatype.size().unwrap_or(0) * 8;
        let signed = matches!(
            datatype,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64
        );
        let (least, most) = if signed {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        } else {
            (0, (1_i128 << bits) - 1)
        };
        let value = match value {
            Number::Uint(value) => value.to_string(),
            Number::Int(value) => value.to_string(),
            Number::Double(value) => value.to_string(),
        };
        Error::invalid(format!(
            "value {value} of input '{name}' for model '{}' is out of range for {}, which holds {least} to \
             {most}",
            self.spec.name,
            datatype.name()
        ))
    }

    /// Makes a tensor of the members, looking at them in Triton's order.
    fn tensor(&mut self, id: &str, draft: Draft) -> Result<(Tensor, Option<Window>), Failure> {
        let Draft {
            name,
            datatype,
            shape,
            data,
            sources,
        } = draft;
        one_source(&data, &sources)?;
        let name = name.ok_or_else(|| absent("name"))?;
        let datatype = datatype.ok_or_else(|| absent("datatype"))?;
        let shape = shape.ok_or_else(|| absent("shape"))?;
        let window = sources.shared.window();
        let data = match (&window, sources.binary_size) {
            (Some(_), _) => Bytes::new(),
            (None, Some(size)) => self.slice(&name, size)?,
            (None, None) => {
                let tensor = self.json_tensor(id, name, datatype, shape, data)?;
                return Ok((tensor, None));
            }
        };
        match datatype {
            Some(datatype) => {
                let tensor = Tensor {
                    name,
                    datatype,
                    shape,
                    data,
                };
                Ok((tensor, window))
            }
            None => Err(self.no_type(id, &name).into()),
        }
    }

    /// The next `size` bytes behind the JSON.
    fn slice(&mut self, name: &str, size: u64) -> Result<Bytes, Failure> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let Some(from) = self.tail else {
            return Err(Error::invalid(
                "must specify valid 'Infer-Header-Content-Length' in request header and \
                 'binary_data_size' when passing inputs in binary data format",
            )
            .into());
        };
        let left = self.body.len() - from;
        match usize::try_from(size) {
            Ok(size) if size <= left => {
                self.tail = Some(from + size);
                Ok(self.body.slice(from..from + size))
            }
            _ => Err(Error::invalid(format!(
                "unexpected size for input '{name}', expecting {} additional bytes for model '{}'",
                size - left as u64,
                self.spec.name
            ))
            .into()),
        }
    }

    fn json_tensor(
        &mut self,
        id: &str,
        name: ByteString,
        datatype: Option<DataType>,
        shape: Shape,
        data: Data,
    ) -> Result<Tensor, Failure> {
        let expected = size::elements(id, self.spec, &name, &shape)?;
        let Some(datatype) = datatype else {
            return Err(if expected == 0 {
                self.no_type(id, &name)
            } else {
                Error::invalid(format!("invalid datatype for input {name}"))
            }
            .into());
        };
        if datatype.size().is_some() && check::byte_size(datatype, &shape).is_none() {
            return Err(size::overflow(id, self.spec, &name, datatype, &shape).into());
        }
        let elements = match data {
            Data::Read(elements) => elements,
            Data::At(at) => {
                let behind = self.json.position();
                self.json.seek(at);
                let elements = self.elements(&name, datatype, expected)?;
                self.json.seek(behind);
                elements
            }
            Data::None | Data::Other => return Err(unable("data", NON_ARRAY).into()),
        };
        if i64::try_from(elements.count) != Ok(expected) {
            return Err(unable("data", "Shape does not match true shape of 'data' field").into());
        }
        Ok(Tensor {
            name,
            datatype,
            shape,
            data: elements.bytes.into(),
        })
    }

    /// Triton's core refuses what its HTTP front end lets pass.
    #[cold]
    fn no_type(&self, id: &str, name: &str) -> Error {
        match self.spec.input(name) {
            Some((_, declared)) => wrong_type(id, self.spec, name, "<invalid>", declared),
            None => Error::invalid(format!(
                "unexpected inference input '{name}' for model '{}'",
                self.spec.name
            )),
        }
    }
}

fn one_source(data: &Data, sources: &Sources) -> Result<(), Failure> {
    let region = sources.shared.region.as_ref();
    let set = [
        (!matches!(data, Data::None)).then_some(" 'data'"),
        sources.binary_size.map(|_| " 'binary_data_size'"),
        region.map(|_| " 'shared_memory_region'"),
    ];
    if set.iter().flatten().count() == 1 {
        return Ok(());
    }
    let set: String = set.into_iter().flatten().collect();
    let set = if set.is_empty() {
        "But no field is set".into()
    } else {
        format!("But set{set}")
    };
    Err(Error::invalid(format!(
        "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', \
         'shared_memory_region' in 'parameters'. {set}"
    ))
    .into())
}

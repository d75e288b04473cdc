// SPDX-License-Identifier: Apache-2.0
//! A request: its rows, and the tensors that they are.

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use super::column::{Column, strict_number};
use super::{Failure, NOTHING, unrecognized};
use crate::DataType;
use crate::check::{MAX_PARAMETERS, too_many};
use crate::error::Error;
use crate::message::{Form, InferRequest, Parameter, RequestedOutput, Tensor};
use crate::spec::{IoSpec, ModelSpec};
use crate::wire::base64;
use crate::wire::json::{Kind, Number, Reader, Syntax, validate};

/// A prediction that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Predict {
    /// The request to the model.
    pub request: InferRequest,
    /// The model has no batch dimension and got the only instance without it; the answer is a row.
    pub alone: bool,
}

/// Where the members are that mean something.
#[derive(Default)]
struct Places {
    instances: Option<usize>,
    inputs: Option<usize>,
}

/// Reads a request to predict.
///
/// # Errors
/// If it is none; always the client's mistake.
pub fn parse_predict(body: &Bytes, spec: &ModelSpec) -> Result<Predict, Error> {
    let syntax = |syntax| unrecognized(body, syntax);
    if let Err(why) = str::from_utf8(body) {
        let at = why.valid_up_to();
        let what = "str is not valid UTF-8";
        return Err(syntax(Syntax { what, at }));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        let what = NOTHING;
        return Err(syntax(Syntax { what, at: 0 }));
    }
    let mut parser = Parser {
        body,
        json: Reader::new(body),
        spec,
    };
    parser.predict().map_err(|failure| match failure {
        Failure::Syntax(what) => syntax(what),
        // What is wrong with the text is told before what is wrong with its meaning.
        Failure::Meaning(error) => validate(body).map_or_else(syntax, |()| error),
    })
}

struct Parser<'a> {
    body: &'a Bytes,
    json: Reader<'a>,
    spec: &'a ModelSpec,
}

impl<'a> Parser<'a> {
    fn predict(&mut self) -> Result<Predict, Failure> {
        let mut request = InferRequest::default();
        let places = self.members(&mut request)?;
        self.json.end()?;
        let columns = match (places.inputs, places.instances) {
            (Some(at), _) => {
                self.json.seek(at);
                match self.json.kind() {
                    Kind::Object => self.columns()?,
                    kind => self.rows("inputs", kind)?,
                }
            }
            (None, Some(at)) => {
                self.json.seek(at);
                let kind = self.json.kind();
                self.rows("instances", kind)?
            }
            (None, None) => {
                return Err(Error::invalid(format!(
                    "expected \"instances\" or \"inputs\" in the request to model '{}'",
                    self.spec.name
                ))
                .into());
            }
        };
        let mut alone = false;
        for mut tensor in columns {
            alone |= self.fit(&mut tensor)?;
            request.inputs.push(tensor);
        }
        request.outputs = predictions(self.spec);
        Ok(Predict { request, alone })
    }

    /// Goes over the members: where the rows are, and what is for the model besides.
    fn members(&mut self, request: &mut InferRequest) -> Result<Places, Failure> {
        let mut places = Places::default();
        if self.json.kind() != Kind::Object {
            return Err(Error::invalid(format!(
                "the request to model '{}' is no JSON object with \"instances\" or \"inputs\"",
                self.spec.name
            ))
            .into());
        }
        self.json.enter();
        let mut start = true;
        while let Some(name) = self.json.member(&mut start)? {
            // Also tells the reader where the value begins.
            let kind = self.json.kind();
            match name.bytes() {
                b"instances" => places.instances = Some(self.json.position()),
                b"inputs" => places.inputs = Some(self.json.position()),
                b"base64_data_output" => {
                    request.default_form = self.form(kind)?;
                    continue;
                }
                _ if matches!(kind, Kind::String | Kind::Bool | Kind::Number) => {
                    let name = name.keep(self.body)?;
                    self.parameter(name, kind, request)?;
                    continue;
                }
                _ => {}
            }
            self.json.skip()?;
        }
        Ok(places)
    }

    fn form(&mut self, kind: Kind) -> Result<Form, Failure> {
        if kind != Kind::Bool {
            let text = "\"base64_data_output\" must be true or false";
            return Err(Error::invalid(text).into());
        }
        Ok(match self.json.boolean()? {
            true => Form::Base64,
            false => Form::Json,
        })
    }

    fn parameter(
        &mut self,
        name: ByteString,
        kind: Kind,
        request: &mut InferRequest,
    ) -> Result<(), Failure> {
        let value = match kind {
            Kind::String => Parameter::String(self.json.text()?.keep(self.body)?),
            Kind::Bool => Parameter::Bool(self.json.boolean()?),
            _ => match strict_number(&mut self.json)? {
                Number::Uint(value) => {
                    i64::try_from(value).map_or(Parameter::Uint(value), Parameter::Int)
                }
                Number::Int(value) => Parameter::Int(value),
                Number::Double(value) => Parameter::Double(value),
            },
        };
        if name.starts_with("triton_") {
            return Err(Error::invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be \
                 specified.",
            )
            .into());
        }
        let parameters = &mut request.parameters;
        let full = parameters.len() >= MAX_PARAMETERS;
        match parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, earlier)) => *earlier = value,
            None if full => {
                return Err(too_many("members", MAX_PARAMETERS, self.spec).into());
            }
            None => parameters.push((name, value)),
        }
        Ok(())
    }

    /// The array of rows that is next.
    fn rows(&mut self, member: &str, kind: Kind) -> Result<Vec<Tensor>, Failure> {
        if kind != Kind::Array {
            let text = format!("Expected \"{member}\" to be a list");
            return Err(Error::invalid(text).into());
        }
        let at = self.json.position();
        self.json.enter();
        if !self.json.element(&mut true)? {
            return Err(Error::invalid(format!(
                "\"{member}\" of the request to model '{}' is empty; one instance or more is expected",
                self.spec.name
            ))
            .into());
        }
        let mut required = self.spec.inputs.iter().filter(|input| !input.optional);
        let only = required.next().filter(|_| required.next().is_none());
        // Where rows are the values of one input, an object may be such a value.
        let may_be_value = only.is_some_and(|only| only.datatype == DataType::Bytes)
            && self.spec.input("b64").is_none();
        if self.json.kind() == Kind::Object && !(may_be_value && base64::is_next(&self.json)) {
            self.json.seek(at);
            return self.objects();
        }
        let Some(only) = only else {
            return Err(self.names("each instance must be an object").into());
        };
        self.json.seek(at);
        let mut column = Column::new(only, &self.spec.name);
        column.whole(&mut self.json)?;
        Ok(vec![column.into_tensor(None)])
    }

    /// An array of objects, each with a value for each input.
    fn objects(&mut self) -> Result<Vec<Tensor>, Failure> {
        self.json.enter();
        let mut columns: Vec<Column<'a>> = Vec::new();
        let (mut start, mut instances) = (true, 0);
        while self.json.element(&mut start)? {
            if self.json.kind() != Kind::Object {
                self.json.skip()?;
                return Err(self.names("each instance must be an object").into());
            }
            self.json.enter();
            instances += 1;
            let mut first = true;
            while let Some(name) = self.json.member(&mut first)? {
                let column = self.column(name.bytes(), &mut columns)?;
                if column.instances == instances {
                    let text = format!("has '{}' twice", column.declared.name);
                    return Err(self.of_instance(instances, &text).into());
                }
                if column.instances + 1 < instances {
                    let text = format!("has no '{}'", column.declared.name);
                    return Err(self.of_instance(column.instances + 1, &text).into());
                }
                column.instance(&mut self.json)?;
            }
        }
        if let Some(short) = columns.iter().find(|column| column.instances < instances) {
            let text = format!("has no '{}'", short.declared.name);
            return Err(self.of_instance(short.instances + 1, &text).into());
        }
        let tensors = columns.into_iter();
        Ok(tensors
            .map(|column| column.into_tensor(Some(instances)))
            .collect())
    }

    /// An object with a whole tensor for each input.
    fn columns(&mut self) -> Result<Vec<Tensor>, Failure> {
        self.json.enter();
        let mut columns: Vec<Column<'a>> = Vec::new();
        let mut start = true;
        while let Some(name) = self.json.member(&mut start)? {
            let column = self.column(name.bytes(), &mut columns)?;
            if column.instances > 0 {
                let text = format!("\"inputs\" has '{}' twice", column.declared.name);
                return Err(Error::invalid(text).into());
            }
            column.instances = 1;
            column.whole(&mut self.json)?;
        }
        if columns.is_empty() {
            return Err(self.names("\"inputs\" must be an object").into());
        }
        let tensors = columns.into_iter();
        Ok(tensors.map(|column| column.into_tensor(None)).collect())
    }

    fn column<'c>(
        &self,
        name: &[u8],
        columns: &'c mut Vec<Column<'a>>,
    ) -> Result<&'c mut Column<'a>, Error> {
        let known = |column: &Column<'_>| column.declared.name.as_bytes() == name;
        let place = match columns.iter().position(known) {
            Some(place) => place,
            None => {
                let declared = self.declared(name)?;
                columns.push(Column::new(declared, &self.spec.name));
                columns.len() - 1
            }
        };
        columns
            .get_mut(place)
            .ok_or_else(|| Error::internal("an input was lost"))
    }

    fn declared(&self, name: &[u8]) -> Result<&'a IoSpec, Error> {
        let mut inputs = self.spec.inputs.iter();
        inputs
            .find(|input| input.name.as_bytes() == name)
            .ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                self.names(&format!(
                    "'{name}' is no input: each instance may be an object"
                ))
            })
    }

    /// An error that ends with the names of the inputs.
    #[cold]
    fn names(&self, what: &str) -> Error {
        let names: Vec<String> = self.spec.inputs.iter().map(named).collect();
        let (names, model) = (names.join(", "), &self.spec.name);
        Error::invalid(format!(
            "{what} with the inputs of model '{model}': {names}"
        ))
    }

    #[cold]
    fn of_instance(&self, number: i64, what: &str) -> Error {
        let model = &self.spec.name;
        Error::invalid(format!(
            "instance {} of the request to model '{model}' {what}",
            number - 1
        ))
    }

    /// Gives a tensor the rank of its input where it is clear how; whether that took its batch dimension.
    fn fit(&self, tensor: &mut Tensor) -> Result<bool, Error> {
        let Some((_, declared)) = self.spec.input(&tensor.name) else {
            return Ok(false);
        };
        let rank = declared.dims.len() + usize::from(self.spec.batches());
        let last_is_one = declared
            .dims
            .last()
            .is_some_and(|dim| matches!(dim, 1 | -1));
        let missing = rank.checked_sub(tensor.shape.len());
        // `["a", "b"]` for an input of one string a row.
        if missing == Some(1)
            && last_is_one
            && declared.dims.len() > usize::from(!self.spec.batches())
        {
            tensor.shape.push(1);
        }
        if self.spec.batches() || tensor.shape.len() != rank + 1 {
            return Ok(false);
        }
        match tensor.shape.first() {
            Some(1) => {
                tensor.shape.remove(0);
                Ok(true)
            }
            instances => Err(Error::invalid(format!(
                "model '{}' has no batch dimension (its max_batch_size is 0) and takes one instance in a \
                 request, got {}",
                self.spec.name,
                instances.copied().unwrap_or(0)
            ))),
        }
    }
}

fn named(input: &IoSpec) -> String {
    let optional = if input.optional { " (optional)" } else { "" };
    format!("'{}'{optional}", input.name)
}

/// The outputs that are the prediction; none for all of them.
///
/// Models of rows can tell probabilities besides, which KServe's servers do not.
fn predictions(spec: &ModelSpec) -> SmallVec<[RequestedOutput; 2]> {
    let tabular = matches!(&*spec.platform, "sklearn" | "xgboost" | "lightgbm");
    let others = |name: &str| !matches!(name, "predict_proba" | "probabilities");
    let chosen = spec.outputs.iter().filter(|output| others(&output.name));
    let chosen: SmallVec<[RequestedOutput; 2]> = chosen
        .map(|output| RequestedOutput {
            name: output.name.clone(),
            ..RequestedOutput::default()
        })
        .collect();
    let all = !tabular || chosen.is_empty() || chosen.len() == spec.outputs.len();
    if all { SmallVec::new() } else { chosen }
}

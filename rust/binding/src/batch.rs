// SPDX-License-Identifier: Apache-2.0
//! A batch as Python sees it. Arrays are made when they are asked for, and once.

use std::sync::Arc;

use bytes::Bytes;
use nerite_engine::Version;
use nerite_engine::gather::{Gathered, backend_shape, find, is_aligned};
use nerite_engine::lane::Pending;
use nerite_engine::responses::Responder;
use nerite_logic::message::{CorrelationId, Parameter, Tensor};
use nerite_logic::schedulers::Ticket;
use nerite_logic::{DataType, Error};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use crate::arrays::{strings, view};
use crate::errors::to_python;
use crate::sender::{Responders, ResponseSender};
use crate::version::Held;

/// What a batch and its requests share; it lives as long as Python keeps one of them.
pub struct Data {
    /// The version that executes.
    pub version: Arc<Held>,
    /// Rows of all requests.
    pub rows: u32,
    /// The inputs, joined.
    pub inputs: Vec<Gathered>,
    /// The requests.
    pub tickets: Vec<Ticket<Box<Pending>>>,
    /// Decoupled models: where they are answered.
    pub responders: Option<Responders>,
}

/// The requests of one execution.
#[pyclass(frozen, module = "nerite._core")]
pub struct Batch {
    data: Arc<Data>,
    inputs: PyOnceLock<Py<PyDict>>,
    requests: PyOnceLock<Py<PyList>>,
}

/// One request of a batch.
#[pyclass(frozen, module = "nerite._core")]
pub struct Request {
    data: Arc<Data>,
    index: usize,
    inputs: PyOnceLock<Py<PyDict>>,
    /// Decoupled models: where it is answered.
    responder: Option<Arc<Responder>>,
}

impl Data {
    fn declared_outputs(&self) -> impl Iterator<Item = &str> {
        self.version.spec.outputs.iter().map(|output| &*output.name)
    }
}

impl Batch {
    pub const fn new(data: Arc<Data>) -> Self {
        Self {
            data,
            inputs: PyOnceLock::new(),
            requests: PyOnceLock::new(),
        }
    }

    fn make_inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arrays = PyDict::new(py);
        for joined in &self.data.inputs {
            let Some(declared) = self.data.version.spec.batch_input(joined.input) else {
                continue;
            };
            let Some(shape) = &joined.shape else {
                return Err(to_python(py, &ragged(&self.data.version, &declared.name)));
            };
            let array = if declared.datatype == DataType::Bytes {
                let tickets = self.data.tickets.iter();
                let parts = tickets.filter_map(|ticket| {
                    find(&ticket.payload.request.inputs, declared).map(|t| t.data.clone())
                });
                strings(py, shape, parts)?
            } else {
                view(py, declared.datatype, shape, joined.data.clone())?
            };
            arrays.set_item(&*declared.name, array)?;
        }
        Ok(arrays)
    }
}

fn ragged(version: &Version, input: &str) -> Error {
    Error::invalid(format!(
        "the requests of this batch have different shapes for input '{input}' of model '{}'; \
         read them one by one through `requests`",
        version.spec.name
    ))
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.data.tickets.len()
    }

    #[getter]
    fn rows(&self) -> u32 {
        self.data.rows
    }

    #[getter]
    fn inputs(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let made = self
            .inputs
            .get_or_try_init(py, || self.make_inputs(py).map(Bound::unbind))?;
        Ok(made.clone_ref(py))
    }

    #[getter]
    fn requested_outputs(&self) -> Vec<&str> {
        let asked_of = |ticket: &Ticket<Box<Pending>>, name: &str| {
            let asked = &ticket.payload.request.outputs;
            asked.is_empty() || asked.iter().any(|output| &*output.name == name)
        };
        self.data
            .declared_outputs()
            .filter(|name| {
                self.data
                    .tickets
                    .iter()
                    .any(|ticket| asked_of(ticket, name))
            })
            .collect()
    }

    #[getter]
    fn requests(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let made = self.requests.get_or_try_init(py, || {
            let one = |index| Request {
                data: Arc::clone(&self.data),
                index,
                inputs: PyOnceLock::new(),
                responder: self.data.responders.as_ref().and_then(|all| all.of(index)),
            };
            PyList::new(
                py,
                (0..self.data.tickets.len())
                    .map(|i| Py::new(py, one(i)))
                    .collect::<PyResult<Vec<_>>>()?,
            )
            .map(Bound::unbind)
        })?;
        Ok(made.clone_ref(py))
    }
}

impl Request {
    fn pending(&self) -> PyResult<&Pending> {
        let ticket = self.data.tickets.get(self.index);
        ticket
            .map(|ticket| &*ticket.payload)
            .ok_or_else(|| PyIndexError::new_err("no such request"))
    }

    fn make_inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arrays = PyDict::new(py);
        let spec = &self.data.version.spec;
        let request = &self.pending()?.request;
        for declared in spec.batch_inputs() {
            let Some(tensor) = find(&request.inputs, declared) else {
                continue;
            };
            let shape = backend_shape(spec, declared, &tensor.shape);
            let array = if tensor.datatype == DataType::Bytes {
                strings(py, &shape, std::iter::once(tensor.data.clone()))?
            } else {
                view(py, tensor.datatype, &shape, aligned(tensor))?
            };
            arrays.set_item(&*declared.name, array)?;
        }
        Ok(arrays)
    }
}

/// The tensor's bytes where its elements may be read: in place, or in a copy.
fn aligned(tensor: &Tensor) -> Bytes {
    match is_aligned(tensor) {
        true => tensor.data.clone(),
        false => Bytes::copy_from_slice(&tensor.data),
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn id(&self) -> PyResult<&str> {
        Ok(&self.pending()?.request.id)
    }

    #[getter]
    fn rows(&self) -> PyResult<u32> {
        Ok(self.pending()?.rows)
    }

    #[getter]
    fn inputs(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let made = self
            .inputs
            .get_or_try_init(py, || self.make_inputs(py).map(Bound::unbind))?;
        Ok(made.clone_ref(py))
    }

    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parameters = PyDict::new(py);
        for (name, value) in &self.pending()?.request.parameters {
            match value {
                Parameter::Bool(value) => parameters.set_item(&**name, value)?,
                Parameter::Int(value) => parameters.set_item(&**name, value)?,
                Parameter::Uint(value) => parameters.set_item(&**name, value)?,
                Parameter::Double(value) => parameters.set_item(&**name, value)?,
                Parameter::String(value) => parameters.set_item(&**name, &**value)?,
            }
        }
        Ok(parameters)
    }

    #[getter]
    fn requested_outputs(&self) -> PyResult<Vec<&str>> {
        let asked = &self.pending()?.request.outputs;
        Ok(match asked.is_empty() {
            true => self.data.declared_outputs().collect(),
            false => asked.iter().map(|output| &*output.name).collect(),
        })
    }

    #[getter]
    fn correlation_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match &self.pending()?.request.control.correlation_id {
            CorrelationId::None => 0_u64.into_pyobject(py)?.into_any(),
            CorrelationId::Number(id) => id.into_pyobject(py)?.into_any(),
            CorrelationId::Text(id) => (**id).into_pyobject(py)?.into_any(),
        })
    }

    #[getter]
    fn flags(&self) -> PyResult<u32> {
        let control = &self.pending()?.request.control;
        Ok(u32::from(control.sequence_start) | u32::from(control.sequence_end) << 1)
    }

    #[getter]
    fn priority(&self) -> PyResult<u64> {
        Ok(self.pending()?.request.control.priority)
    }

    #[getter]
    fn timeout_us(&self) -> PyResult<u64> {
        Ok(self.pending()?.request.control.timeout_us)
    }

    fn response_sender(&self) -> Option<ResponseSender> {
        let responder = Arc::clone(self.responder.as_ref()?);
        Some(ResponseSender::new(&self.data, self.index, responder))
    }

    fn is_cancelled(&self) -> PyResult<bool> {
        if let Some(responder) = &self.responder {
            return Ok(responder.is_cancelled());
        }
        Ok(!self.data.version.lanes.is_awaited(self.pending()?.reply_to))
    }
}

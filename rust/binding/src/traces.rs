// SPDX-License-Identifier: Apache-2.0
//! Finished traces as Python gets them: plain dicts.

use nerite_engine::trace::Trace;
use nerite_logic::message::Tensor;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

/// One trace.
pub fn to_dict<'py>(py: Python<'py>, trace: &Trace) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", trace.id)?;
    dict.set_item("parent_id", trace.parent_id)?;
    dict.set_item("rule", trace.rule.serial)?;
    dict.set_item("count", trace.rule.options.count)?;
    dict.set_item("log_frequency", trace.rule.options.log_frequency)?;
    dict.set_item("protocol", if trace.is_grpc { "grpc" } else { "http" })?;
    dict.set_item("model_name", &*trace.model)?;
    dict.set_item("model_version", trace.version)?;
    dict.set_item("request_id", trace.request_id())?;
    dict.set_item("error", trace.error())?;
    dict.set_item("traceparent", trace.parent.as_deref())?;
    dict.set_item("tracestate", trace.state.as_deref())?;
    let points = if trace.has_timestamps() {
        trace.points()
    } else {
        Vec::new()
    };
    dict.set_item("points", points)?;
    let (inputs, outputs) = trace.tensors();
    dict.set_item("inputs", tensors(py, inputs)?)?;
    dict.set_item("outputs", tensors(py, outputs)?)?;
    Ok(dict)
}

fn tensors<'py>(py: Python<'py>, list: &[Tensor]) -> PyResult<Bound<'py, PyList>> {
    let one = |tensor: &Tensor| {
        let data = PyBytes::new(py, &tensor.data);
        (
            tensor.name.to_string(),
            tensor.datatype.name(),
            tensor.shape.to_vec(),
            data,
        )
    };
    PyList::new(py, list.iter().map(one).collect::<Vec<_>>())
}

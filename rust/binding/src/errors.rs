// SPDX-License-Identifier: Apache-2.0
//! Errors across the seam, both ways. The classes are looked up in `nerite.errors` by name, once.

use nerite_logic::{Code, Error};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

const fn class_name(code: Code) -> &'static str {
    match code {
        Code::Unknown => "UnknownError",
        Code::Internal => "InternalError",
        Code::NotFound => "NotFound",
        Code::InvalidArg => "InvalidArgument",
        Code::Unavailable => "Unavailable",
        Code::Unsupported => "Unsupported",
        Code::AlreadyExists => "AlreadyExists",
        Code::Cancelled => "Cancelled",
        Code::Unauthenticated => "Unauthenticated",
        Code::PermissionDenied => "PermissionDenied",
    }
}

static CLASSES: PyOnceLock<Vec<Py<PyType>>> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&Vec<Py<PyType>>> {
    CLASSES.get_or_try_init(py, || {
        let module = py.import("nerite.errors")?;
        let class = |code| {
            Ok(module
                .getattr(class_name(code))?
                .cast_into::<PyType>()?
                .unbind())
        };
        Code::ALL.into_iter().map(class).collect()
    })
}

/// An error of the data plane as the Python exception of its code.
pub fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let index = Code::ALL
        .into_iter()
        .position(|code| code == error.code)
        .unwrap_or(1);
    match classes(py).map(|classes| classes.get(index)) {
        Ok(Some(class)) => {
            PyErr::from_type(class.bind(py).clone(), error.message.clone().into_owned())
        }
        Ok(None) => pyo3::exceptions::PyRuntimeError::new_err(error.message.clone().into_owned()),
        Err(why) => why,
    }
}

/// A Python exception as an error: one with a known `code` keeps it, any other is INTERNAL.
pub fn from_python(py: Python<'_>, raised: &PyErr) -> Error {
    from_exception(raised.value(py).as_any())
}

/// The same for an exception object that was returned rather than raised.
pub fn from_exception(exception: &Bound<'_, PyAny>) -> Error {
    let code = exception
        .getattr("code")
        .ok()
        .and_then(|code| code.extract::<String>().ok())
        .and_then(|name| Code::from_name(&name));
    let text = exception
        .str()
        .map_or_else(|_| String::new(), |text| text.to_string());
    match code {
        Some(code) => Error::new(code, text),
        None => {
            let kind = exception.get_type();
            let name = kind
                .name()
                .map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
            Error::internal(format!("{name}: {text}"))
        }
    }
}

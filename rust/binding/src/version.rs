// SPDX-License-Identifier: Apache-2.0
//! One model version as Python holds it.

use std::sync::Arc;

use nerite_engine::metadata::ModelStatistics;
use nerite_engine::server::Shared;
use pyo3::prelude::*;

use crate::call;

/// One version of one model.
#[pyclass(frozen, module = "nerite._core")]
pub struct Version {
    pub inner: Arc<nerite_engine::Version>,
    pub shared: Arc<Shared>,
}

#[pymethods]
impl Version {
    #[getter]
    fn name(&self) -> &str {
        &self.inner.spec.name
    }

    #[getter]
    fn version(&self) -> u64 {
        self.inner.number
    }

    fn run(&self, py: Python<'_>, instance: &str, execute: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = instance; // The thread carries the name; errors of a backend name the instance itself.
        call::run(py, &self.inner, &self.shared, execute)
    }

    fn close(&self, py: Python<'_>) {
        call::without_gil(py, || self.inner.close());
    }

    fn set_load_seconds(&self, seconds: f64) {
        self.inner.statistics.loaded(seconds);
    }

    fn pending(&self, py: Python<'_>) -> usize {
        call::without_gil(py, || self.inner.pending())
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = ModelStatistics::of(&self.inner).to_json();
        py.import("json")?.call_method1("loads", (json,))
    }
}

// SPDX-License-Identifier: Apache-2.0
//! One model version as Python holds it.

use std::sync::Arc;
use std::time::Duration;

use nerite_engine::instance::Work;
use nerite_engine::metadata::ModelStatistics;
use nerite_engine::shared::Shared;
use nerite_engine::statistics::MemoryUsage;
use pyo3::prelude::*;

use crate::call;

/// The one reference to a version that Python has, however many batches it keeps: whatever else refers to
/// the version is the table or a request.
pub struct Held(pub Arc<nerite_engine::Version>);

impl std::ops::Deref for Held {
    type Target = nerite_engine::Version;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// One version of one model.
#[pyclass(frozen, module = "nerite._core")]
pub struct Version {
    pub inner: Arc<Held>,
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
        let work = Work::of(&self.inner, instance);
        call::run(py, &self.inner, &self.shared, work, execute)
    }

    fn close(&self, py: Python<'_>) {
        call::without_gil(py, || self.inner.close());
    }

    fn retire(&self, py: Python<'_>, timeout_secs: f64) -> bool {
        let limit = Duration::try_from_secs_f64(timeout_secs).unwrap_or(Duration::ZERO);
        call::without_gil(py, || {
            let left = nerite_engine::Version::wait_unreachable(&self.inner.0, limit);
            self.inner.close();
            left
        })
    }

    fn set_namespace(&self, namespace: String) {
        // Told once, when the version is made; a second time changes nothing.
        let _ = self.inner.namespace.set(namespace);
    }

    fn set_load_seconds(&self, seconds: f64) {
        self.inner.statistics.loaded(seconds);
    }

    fn set_memory_usage(&self, held: Vec<(String, i64, u64)>) {
        let usage = |(kind, id, byte_size)| MemoryUsage {
            kind,
            id,
            byte_size,
        };
        // Told once, when all instances are loaded.
        let _ = self.inner.memory.set(held.into_iter().map(usage).collect());
    }

    fn pending(&self, py: Python<'_>) -> usize {
        call::without_gil(py, || self.inner.pending())
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = ModelStatistics::of(&self.inner).to_json();
        py.import("json")?.call_method1("loads", (json,))
    }
}

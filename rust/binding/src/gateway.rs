// SPDX-License-Identifier: Apache-2.0
//! The gateway as Python holds it.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nerite_engine::gateway::GatewayOptions;
use pyo3::prelude::*;

use crate::call::without_gil;
use crate::errors::to_python;

/// One port in front of many components.
#[pyclass(frozen, module = "nerite._core")]
pub struct Gateway {
    inner: nerite_engine::Gateway,
}

#[pymethods]
impl Gateway {
    #[new]
    fn new(py: Python<'_>, options_json: &str) -> PyResult<Self> {
        let made = without_gil(py, || {
            GatewayOptions::from_json(options_json).and_then(nerite_engine::Gateway::start)
        });
        made.map(|inner| Self { inner })
            .map_err(|why| to_python(py, &why))
    }

    #[pyo3(signature = (address, port, host=None))]
    fn listen(
        &self,
        py: Python<'_>,
        address: &str,
        port: u16,
        host: Option<&str>,
    ) -> PyResult<u16> {
        without_gil(py, || self.inner.listen(address, port, host))
            .map_err(|why| to_python(py, &why))
    }

    fn update(&self, py: Python<'_>, table_json: &str) -> PyResult<()> {
        without_gil(py, || self.inner.update(table_json)).map_err(|why| to_python(py, &why))
    }

    fn counters(&self) -> HashMap<&'static str, u64> {
        let shared = self.inner.shared();
        let counters = &shared.counters;
        HashMap::from([
            ("requests", counters.requests.load(Relaxed)),
            ("failures", counters.failures.load(Relaxed)),
            ("refused_connections", counters.refused.load(Relaxed)),
            ("connections", self.inner.connections() as u64),
            ("batches", counters.batches.load(Relaxed)),
            ("payloads_dropped", shared.payload_log.dropped.load(Relaxed)),
            ("component_connections", shared.reach.opened.load(Relaxed)),
        ])
    }

    fn drain(&self, py: Python<'_>, timeout_secs: f64) -> bool {
        let limit = Duration::try_from_secs_f64(timeout_secs).unwrap_or(Duration::ZERO);
        without_gil(py, || self.inner.drain(limit))
    }

    fn stop(&self, py: Python<'_>) {
        without_gil(py, || self.inner.stop());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A model's own metrics, and those of the host, as Python holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use nerite_engine::custom_metrics::{self, Kind};
use nerite_logic::Error;
use pyo3::prelude::*;

use crate::errors::to_python;

/// Metrics of one name.
#[pyclass(frozen, module = "nerite._core")]
pub struct MetricFamily {
    inner: Arc<custom_metrics::Family>,
}

/// One series of a family.
#[pyclass(frozen, module = "nerite._core")]
pub struct Metric {
    inner: Arc<custom_metrics::Metric>,
}

#[pymethods]
impl MetricFamily {
    #[new]
    fn new(py: Python<'_>, name: &str, text: &str, kind: &str) -> PyResult<Self> {
        let kind = match kind {
            "counter" => Ok(Kind::Counter),
            "gauge" => Ok(Kind::Gauge),
            "histogram" => Ok(Kind::Histogram),
            other => Err(Error::invalid(format!(
                "kind of metric family '{name}' is '{other}', expected 'counter', 'gauge' or \
                 'histogram'"
            ))),
        };
        let made = kind.and_then(|kind| custom_metrics::Family::named(name, text, kind));
        made.map(|inner| Self { inner })
            .map_err(|why| to_python(py, &why))
    }

    #[pyo3(signature = (labels, buckets=None))]
    fn metric(
        &self,
        py: Python<'_>,
        labels: BTreeMap<String, String>,
        buckets: Option<Vec<f64>>,
    ) -> PyResult<Metric> {
        let made = self.inner.metric(&labels, buckets.as_deref());
        made.map(|inner| Metric { inner })
            .map_err(|why| to_python(py, &why))
    }
}

#[pymethods]
impl Metric {
    fn increment(&self, py: Python<'_>, value: f64) -> PyResult<()> {
        let done = self.inner.increment(value);
        done.map_err(|why| to_python(py, &why))
    }

    fn set(&self, py: Python<'_>, value: f64) -> PyResult<()> {
        self.inner.set(value).map_err(|why| to_python(py, &why))
    }

    fn observe(&self, py: Python<'_>, value: f64) -> PyResult<()> {
        self.inner.observe(value).map_err(|why| to_python(py, &why))
    }

    fn value(&self, py: Python<'_>) -> PyResult<f64> {
        self.inner.value().map_err(|why| to_python(py, &why))
    }
}

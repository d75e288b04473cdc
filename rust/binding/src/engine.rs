// SPDX-License-Identifier: Apache-2.0
//! The engine as Python holds it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use nerite_engine::control::Call;
use nerite_engine::door::Protocol;
use nerite_engine::graph::hosted::Told;
use nerite_engine::listening::Door;
use nerite_engine::tls::{Files, Tls};
use nerite_engine::trace::Trace;
use nerite_engine::{Options, metrics};
use nerite_logic::Error;
use nerite_logic::access::Keys;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::call::without_gil;
use crate::errors::{from_exception, to_python};
use crate::traces::to_dict;
use crate::version::{Held, Version};

/// The data plane.
#[pyclass(frozen, module = "nerite._core")]
pub struct Engine {
    inner: nerite_engine::Engine,
}

/// A request that Python answers.
#[pyclass(frozen, module = "nerite._core")]
pub struct ControlCall {
    verb: &'static str,
    payload: Bytes,
    /// `None` once it was answered.
    call: Mutex<Option<Call>>,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        let dict = py.get_type::<pyo3::types::PyDict>().call1((options,))?;
        let json: String = py
            .import("json")?
            .call_method1("dumps", (dict,))?
            .extract()?;
        let made = without_gil(py, || {
            Options::from_json(&json).and_then(nerite_engine::Engine::start)
        });
        made.map(|inner| Self { inner })
            .map_err(|why| to_python(py, &why))
    }

    #[pyo3(signature = (protocol, address, port, *, reuse = false, tls = None))]
    fn listen(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u16,
        reuse: bool,
        tls: Option<(PathBuf, PathBuf, Option<PathBuf>)>,
    ) -> PyResult<u16> {
        let protocol = match protocol {
            "http" => Protocol::Http,
            "grpc" => Protocol::Grpc,
            "metrics" => Protocol::Metrics,
            "sagemaker" => Protocol::SageMaker,
            "vertex_ai" => Protocol::VertexAi,
            other => {
                let text = format!(
                    "protocol is '{other}', expected 'http', 'grpc', 'metrics', 'sagemaker' or 'vertex_ai'"
                );
                return Err(to_python(py, &Error::invalid(text)));
            }
        };
        without_gil(py, || {
            let files = tls.map(|(certificate, key, roots)| Files {
                certificate,
                key,
                roots,
            });
            let tls = files.map(|files| Tls::open(files, protocol).map(Arc::new));
            let tls = tls.transpose()?;
            self.inner
                .listen(Door { protocol, tls }, address, port, reuse)
        })
        .map_err(|why| to_python(py, &why))
    }

    fn add_version(
        &self,
        py: Python<'_>,
        config_json: String,
        config_proto: Vec<u8>,
        version: u64,
        labels: HashMap<String, Vec<String>>,
    ) -> PyResult<Version> {
        let made = self
            .inner
            .add_version(config_json, config_proto, version, labels);
        let inner = made.map_err(|why| to_python(py, &why))?;
        Ok(Version {
            inner: Arc::new(Held(inner)),
            shared: self.inner.shared().clone(),
        })
    }

    fn publish(&self, name: &str, ready: Vec<Py<Version>>, unready: Vec<u64>) {
        let ready = ready
            .iter()
            .map(|version| version.get().inner.0.clone())
            .collect();
        self.inner.publish(name, ready, unready);
    }

    fn forget(&self, name: &str) {
        self.inner.forget(name);
    }

    fn put_graph(
        &self,
        py: Python<'_>,
        namespace: &str,
        name: &str,
        graph_json: &str,
    ) -> PyResult<bool> {
        let graphs = &self.inner.shared().graphs;
        let put = graphs.put(namespace, name, graph_json.as_bytes());
        put.map_err(|why| to_python(py, &why))
    }

    fn remove_graph(&self, namespace: &str, name: &str) -> bool {
        self.inner.shared().graphs.remove(namespace, name)
    }

    fn graphs(&self) -> Vec<(String, String, String)> {
        let told = self.inner.shared().graphs.told();
        let parts = |graph: Told| (graph.namespace, graph.name, graph.digest);
        told.into_iter().map(parts).collect()
    }

    fn set_ready(&self, ready: bool) {
        self.inner.set_ready(ready);
    }

    fn set_keys(&self, py: Python<'_>, keys: &str) -> PyResult<()> {
        let read = Keys::from_json(keys).map_err(|why| to_python(py, &why))?;
        self.inner.shared().guard.set_keys(read);
        Ok(())
    }

    fn next_control_call(&self, py: Python<'_>) -> Option<ControlCall> {
        let call = without_gil(py, || self.inner.shared().control.next())?;
        Some(ControlCall {
            verb: call.verb,
            payload: call.payload.clone(),
            call: Mutex::new(Some(call)),
        })
    }

    fn set_tracing(&self, py: Python<'_>, settings: &str, clock_ns: u64) -> PyResult<()> {
        let tracer = &self.inner.shared().tracer;
        let done = tracer.configure(settings, clock_ns);
        done.map_err(|why| to_python(py, &why))
    }

    fn traces_left(&self) -> HashMap<String, i64> {
        self.inner.shared().tracer.left()
    }

    fn next_traces<'py>(
        &self,
        py: Python<'py>,
        timeout_secs: f64,
    ) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
        let limit = Duration::try_from_secs_f64(timeout_secs).unwrap_or(Duration::ZERO);
        let taken = without_gil(py, || self.inner.shared().tracer.take(limit));
        let all = |traces: Vec<Arc<Trace>>| traces.iter().map(|trace| to_dict(py, trace)).collect();
        taken.map(all).transpose()
    }

    fn metrics(&self, py: Python<'_>) -> String {
        without_gil(py, || metrics::page(self.inner.shared()))
    }

    fn counters(&self) -> HashMap<&'static str, u64> {
        let shared = self.inner.shared();
        let table = shared.table();
        let total = |read: fn(&nerite_engine::Version) -> u64| table.ready().map(|v| read(v)).sum();
        HashMap::from([
            ("gil_acquisitions", shared.gil_acquisitions.load(Relaxed)),
            ("borrowed_inputs", shared.borrowed_inputs.load(Relaxed)),
            ("gathered_bytes", shared.gathered_bytes.load(Relaxed)),
            ("batches", total(|v| v.statistics.executions.load(Relaxed))),
            (
                "requests",
                total(|v| v.statistics.success.count() + v.statistics.fail.count()),
            ),
            (
                "wakeups_forward",
                shared.lanes.wakeups_forward.load(Relaxed),
            ),
            ("wakeups_back", shared.lanes.wakeups_back.load(Relaxed)),
            ("connections", shared.connections() as u64),
            ("graph_connections", shared.graphs.opened()),
            ("in_flight", shared.lanes.in_flight.load(Relaxed)),
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

#[pymethods]
impl ControlCall {
    #[getter]
    const fn verb(&self) -> &'static str {
        self.verb
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.payload)
    }

    fn reply(&self, body: Vec<u8>) {
        if let Some(call) = self.call.lock().take() {
            call.answer(Ok(body.into()));
        }
    }

    fn fail(&self, error: &Bound<'_, PyAny>) {
        if let Some(call) = self.call.lock().take() {
            call.answer(Err(from_exception(error)));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The one file that takes and gives back the GIL.
//!
//! An instance is a Python thread, so it is attached for its whole life; it gives the GIL back only while
//! it waits. Taking it again costs a tenth of a microsecond, making a thread state anew would cost a
//! hundred times that. No I/O thread ever comes here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use nerite_engine::instance::Work;
use nerite_engine::lane::Outcome;
use nerite_engine::shared::Shared;
use pyo3::prelude::*;

use crate::batch::{Batch, Data};
use crate::errors::from_python;
use crate::outputs::outcomes;
use crate::sender::Responders;
use crate::version::Held;

/// Runs `work` without the GIL, on the calling thread.
pub fn without_gil<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(work)
}

/// Serves batches on the calling instance thread until the version is closed and empty.
pub fn run(
    py: Python<'_>,
    version: &Arc<Held>,
    shared: &Shared,
    mut work: Work,
    execute: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if version.spec.decoupled {
        return run_decoupled(py, version, shared, work, execute);
    }
    let mut finished: Option<(Arc<Data>, Vec<Outcome>)> = None;
    loop {
        // The GIL is given back once for both: replying to the last batch and waiting for the next.
        let data = without_gil(py, || {
            if let Some((data, outcomes)) = finished.take() {
                work.finish(version, &data.tickets, outcomes);
                drop(data);
            }
            work.take(version).then(|| take(&mut work, version, shared))
        });
        let Some(data) = data else { return Ok(()) };
        shared.gil_acquisitions.fetch_add(1, Relaxed);
        let batch = Bound::new(py, Batch::new(Arc::clone(&data)))?;
        let executed = execute.call1((batch,));
        work.mark_executed();
        let results = match &executed {
            Ok(value) => outcomes(version, &data.tickets, value),
            Err(raised) => {
                let error = from_python(py, raised);
                data.tickets.iter().map(|_| Err(error.clone())).collect()
            }
        };
        finished = Some((data, results));
    }
}

/// The same for a decoupled model, which answers by itself; what it returns all the same is the only answer
/// of each request.
#[cold]
#[inline(never)]
fn run_decoupled(
    py: Python<'_>,
    version: &Arc<Held>,
    shared: &Shared,
    mut work: Work,
    execute: &Bound<'_, PyAny>,
) -> PyResult<()> {
    loop {
        let data = without_gil(py, || {
            work.take(version).then(|| take(&mut work, version, shared))
        });
        let Some(data) = data else { return Ok(()) };
        shared.gil_acquisitions.fetch_add(1, Relaxed);
        let batch = Bound::new(py, Batch::new(Arc::clone(&data)))?;
        let executed = execute.call1((batch,));
        work.mark_executed();
        let failed = executed.is_err();
        let responders = data.responders.as_ref();
        match executed {
            Ok(value) if value.is_none() => drop(responders.map(Responders::let_go)),
            Ok(value) => {
                let outcomes = outcomes(version, &data.tickets, &value);
                responders
                    .map(|all| all.finish(outcomes))
                    .unwrap_or_default();
            }
            Err(raised) => {
                let error = from_python(py, &raised);
                let all = data.tickets.iter().map(|_| Err(error.clone()));
                responders
                    .map(|each| each.finish(all.collect()))
                    .unwrap_or_default();
            }
        }
        work.finish_decoupled(version, &data.tickets, failed);
    }
}

fn take(work: &mut Work, version: &Arc<Held>, shared: &Shared) -> Arc<Data> {
    let rows = work.rows();
    let inputs = std::mem::take(&mut work.inputs);
    for input in &inputs {
        match input.borrowed {
            true => shared.borrowed_inputs.fetch_add(1, Relaxed),
            false => shared
                .gathered_bytes
                .fetch_add(input.data.len() as u64, Relaxed),
        };
    }
    let mut tickets = std::mem::take(&mut work.tickets);
    let responders = version
        .spec
        .decoupled
        .then(|| Responders::take(&mut tickets));
    Arc::new(Data {
        version: Arc::clone(version),
        rows,
        inputs,
        tickets,
        responders,
    })
}

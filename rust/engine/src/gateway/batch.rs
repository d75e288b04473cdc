// SPDX-License-Identifier: Apache-2.0
//! The batches of V1 requests that are still open. Callers share one if they ask the same path; it goes
//! when it is full or its first caller has waited long enough.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use nerite_logic::gateway::batching::Part;
use nerite_logic::gateway::failure::Failure;
use nerite_logic::gateway::table;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

/// What the path of a prediction ends with.
const PREDICT: &str = ":predict";

/// The batches of one component that are still open.
#[derive(Debug)]
pub struct Batcher {
    pub(super) max_size: usize,
    pub(super) max_latency: Duration,
    /// By path.
    pub(super) open: Mutex<HashMap<String, Batch>>,
}

/// Status and body, or why there is none.
pub type Outcome = Result<(u16, Bytes), Failure>;

/// Callers that wait for one answer.
#[derive(Debug)]
pub struct Batch {
    pub(super) id: Uuid,
    pub(super) size: usize,
    pub(super) callers: Vec<Caller>,
}

/// One of them.
#[derive(Debug)]
pub struct Caller {
    pub(super) part: Part,
    pub(super) answer: oneshot::Sender<Outcome>,
}

impl Batcher {
    /// A batcher as the table describes it.
    pub fn new(written: &table::Batcher) -> Self {
        Self {
            max_size: written.max_batch_size,
            max_latency: Duration::from_millis(written.max_latency_ms),
            open: Mutex::default(),
        }
    }

    /// Whether requests of this kind are joined.
    pub fn takes(method: &Method, path: &str) -> bool {
        method == Method::POST && path.ends_with(PREDICT)
    }

    /// Adds a caller: a batch that is now full, or the id of one that has just begun.
    pub fn add(&self, path: &str, caller: Caller) -> (Option<Batch>, Option<Uuid>) {
        let mut open = self.open.lock();
        let mut begun = None;
        let batch = open.entry(path.to_owned()).or_insert_with(|| {
            let id = Uuid::new_v4();
            begun = Some(id);
            Batch {
                id,
                size: 0,
                callers: Vec::new(),
            }
        });
        batch.size += caller.part.count;
        batch.callers.push(caller);
        match batch.size >= self.max_size {
            true => (open.remove(path), None),
            false => (None, begun),
        }
    }

    /// Takes a batch whose time is over, unless it has gone already.
    pub fn overdue(&self, path: &str, id: Uuid) -> Option<Batch> {
        let mut open = self.open.lock();
        match open.get(path) {
            Some(batch) if batch.id == id => open.remove(path),
            _ => None,
        }
    }
}

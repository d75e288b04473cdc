// SPDX-License-Identifier: Apache-2.0
//! How many requests replicas work on at a time (`containerConcurrency`). As before Knative's containers,
//! whoever is too many waits, and when too many wait the next one is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may wait for each that is worked on, as in Knative's queue.
const WAITING_EACH: usize = 10;

/// What requests pass on their way to some replicas.
#[derive(Debug)]
pub struct Gate {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// The place of a request that has passed; given back when dropped.
pub type Place = OwnedSemaphorePermit;

impl Gate {
    /// A gate for so many requests at a time.
    pub fn new(places: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            most_waiting: places.saturating_mul(WAITING_EACH),
        }
    }

    /// Passes when there is a place; `None` if too many wait for one.
    pub async fn pass(&self) -> Option<Place> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        let waiting = Waiting::at(self);
        if waiting.before >= self.most_waiting {
            return None;
        }
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

/// A request that waits, counted until it does no more.
struct Waiting<'g> {
    gate: &'g Gate,
    before: usize,
}

impl<'g> Waiting<'g> {
    fn at(gate: &'g Gate) -> Self {
        let before = gate.waiting.fetch_add(1, Ordering::Relaxed);
        Self { gate, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

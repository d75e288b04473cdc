// SPDX-License-Identifier: Apache-2.0
//! What all threads of a gateway share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::live::Live;
use super::options::GatewayOptions;
use super::told::PayloadLog;
use super::upstream::Reach;

/// What all threads of a gateway share.
#[derive(Debug)]
pub struct Shared {
    /// The options it was made with.
    pub options: GatewayOptions,
    /// The routes as they are now.
    pub live: ArcSwap<Live>,
    /// What happened so far.
    pub counters: Counters,
    /// How components are reached.
    pub reach: Reach,
    /// Tells sinks of payloads.
    pub payload_log: PayloadLog,
    pub(super) connections: AtomicUsize,
    pub(super) draining: watch::Sender<bool>,
    pub(super) quiet: Mutex<()>,
    /// Rung when a connection ends while the gateway drains.
    pub(super) ended: Condvar,
}

/// Counts for metrics and tests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that came.
    pub requests: AtomicU64,
    /// Requests that the gateway itself had to answer with an error.
    pub failures: AtomicU64,
    /// Client connections refused because there were too many.
    pub refused: AtomicU64,
    /// Batches of joined requests that were sent.
    pub batches: AtomicU64,
}

impl Shared {
    /// A watch that turns true when the gateway drains.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Counts a connection in; `false` if there are too many already.
    pub fn connection_began(&self) -> bool {
        if self.connections.fetch_add(1, Ordering::Relaxed) < self.options.max_connections {
            return true;
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Counts a connection out.
    pub fn connection_ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if *self.draining.borrow() {
            let _quiet = self.quiet.lock();
            self.ended.notify_all();
        }
    }
}

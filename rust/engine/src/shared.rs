// SPDX-License-Identifier: Apache-2.0
//! What all threads of an engine share: the live table, who may ask, what is counted for all.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use nerite_logic::Error;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::cache::Cache;
use crate::control::Control;
use crate::forward::Forward;
use crate::graph::hosted::Graphs;
use crate::lane::Lanes;
use crate::options::Options;
use crate::routes::guard::Guard;
use crate::shared_memory::Regions;
use crate::table::Table;
use crate::trace::Tracer;
use crate::version::Version;

/// What all threads of an engine share.
#[derive(Debug)]
pub struct Shared {
    /// The options it was made with.
    pub options: Options,
    /// Calls for the control plane.
    pub control: Control,
    /// The lanes between I/O threads and instances.
    pub lanes: Arc<Lanes>,
    /// The shared memory that clients registered.
    pub regions: Regions,
    /// The response cache, if there is one.
    pub cache: Option<Arc<Cache>>,
    /// Decides which requests are traced.
    pub tracer: Arc<Tracer>,
    /// The access log, if there is one.
    pub access_log: Option<Arc<AccessLog>>,
    /// Who may ask for what.
    pub guard: Guard,
    /// Which headers models see.
    pub forward: Forward,
    /// The InferenceGraphs that it runs.
    pub graphs: Graphs,
    /// Calls of Python by instances, counted by the binding.
    pub gil_acquisitions: AtomicU64,
    /// Inputs that reached a backend without a copy.
    pub borrowed_inputs: AtomicU64,
    /// Bytes copied into batch buffers.
    pub gathered_bytes: AtomicU64,
    pub(crate) table: Arc<ArcSwap<Table>>,
    pub(crate) ready: watch::Sender<bool>,
    /// Open connections.
    connections: AtomicUsize,
    /// Connections refused because there were too many.
    refused_connections: AtomicU64,
    pub(crate) draining: watch::Sender<bool>,
    /// Every version that was ever made and is still alive, for the end.
    pub(crate) versions: Mutex<Vec<Weak<Version>>>,
    pub(crate) quiet: Mutex<()>,
    /// Rung when a connection ends.
    pub(crate) ended: Condvar,
}

impl Shared {
    /// What an engine with these options has before anything comes.
    ///
    /// # Errors
    /// If the access log cannot be opened, or a pattern of headers is none.
    pub fn new(options: Options, lanes: Arc<Lanes>) -> Result<Self, Error> {
        let access_log = match options.access_log.as_str() {
            "" => None,
            path => Some(Arc::new(AccessLog::open(path, options.access_log_json)?)),
        };
        let guard = Guard::new(
            &options.http_restricted,
            &options.grpc_restricted,
            options.remote_management,
        )
        .with_doors(options.doors.clone());
        let forward = Forward::new(&options)?;
        Ok(Self {
            cache: Cache::new(options.cache_bytes),
            options,
            regions: Regions::default(),
            guard,
            forward,
            graphs: Graphs::default(),
            tracer: Arc::default(),
            access_log,
            control: Control::default(),
            lanes,
            gil_acquisitions: AtomicU64::new(0),
            borrowed_inputs: AtomicU64::new(0),
            gathered_bytes: AtomicU64::new(0),
            table: Arc::default(),
            ready: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            refused_connections: AtomicU64::new(0),
            draining: watch::Sender::new(false),
            versions: Mutex::default(),
            quiet: Mutex::new(()),
            ended: Condvar::new(),
        })
    }

    /// The table as it is now.
    pub fn table(&self) -> arc_swap::Guard<Arc<Table>> {
        self.table.load()
    }

    /// Whether the server is ready and not about to end.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow() && !*self.draining.borrow()
    }

    /// A watch of whether the server is ready.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// A watch that turns true when the engine drains.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections refused because there were too many.
    pub fn refused_connections(&self) -> u64 {
        self.refused_connections.load(Ordering::Relaxed)
    }

    /// Counts a connection in; `false` if there are too many already.
    pub(crate) fn connection_began(&self) -> bool {
        if self.connections.fetch_add(1, Ordering::Relaxed) < self.options.max_connections {
            return true;
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.refused_connections.fetch_add(1, Ordering::Relaxed);
        false
    }

    pub(crate) fn connection_ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if *self.draining.borrow() {
            let _quiet = self.quiet.lock();
            self.ended.notify_all();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The engine: I/O threads, ports, the live table, and a polite end.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nerite_logic::Error;
use nerite_logic::spec::ModelSpec;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::accepting::{self, Order};
use crate::arrival;
use crate::connection::{self};
use crate::gateway::upstream;
use crate::lane::{self, Lanes};
use crate::latencies::Latencies;
use crate::listening::Door;
use crate::listening::Port;
use crate::options::Options;
use crate::rate_limit::{Places, RateLimit};
use crate::shared::Shared;
use crate::statistics::Statistics;
use crate::table::Entry;
use crate::timekeeper::Timekeeper;
use crate::version::{Labels, Surroundings, Version};

#[derive(Debug)]
struct IoThread {
    orders: mpsc::UnboundedSender<Order>,
    handle: Option<JoinHandle<()>>,
}

/// A data plane with its threads. Dropping it stops it.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    timekeeper: Arc<Timekeeper>,
    rate_limit: Option<Arc<RateLimit>>,
    threads: Mutex<Vec<IoThread>>,
    /// Held while the table is replaced, so that two replacements do not undo each other.
    publishing: Mutex<()>,
}

impl Engine {
    /// Starts the I/O threads; no port is open yet.
    ///
    /// # Errors
    /// If the system gives no threads or no event queue.
    pub fn start(options: Options) -> Result<Self, Error> {
        let count = options.thread_count();
        let lanes = Arc::new(Lanes::new(count));
        let rate_limit = options.rate_limit.clone().map(RateLimit::new);
        let shared = Arc::new(Shared::new(options, lanes)?);
        let channels: Vec<_> = (0..count).map(|_| mpsc::unbounded_channel()).collect();
        let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let mut threads = Vec::with_capacity(count);
        for (index, (orders, inbox)) in channels.into_iter().enumerate() {
            let (shared, peers) = (Arc::clone(&shared), senders.clone());
            let handle = thread::Builder::new()
                .name(format!("nerite-io-{index}"))
                .spawn(move || run_io_thread(index, shared, inbox, peers))
                .map_err(|why| Error::internal(format!("cannot start an I/O thread: {why}")))?;
            threads.push(IoThread {
                orders,
                handle: Some(handle),
            });
        }
        Ok(Self {
            shared,
            timekeeper: Arc::default(),
            rate_limit,
            threads: Mutex::new(threads),
            publishing: Mutex::new(()),
        })
    }

    /// What the engine's threads share.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens a port and returns its number; with `reuse` other processes may open it too.
    ///
    /// # Errors
    /// UNAVAILABLE with address, port and cause if it cannot be bound.
    pub fn listen(&self, door: Door, address: &str, port: u16, reuse: bool) -> Result<u16, Error> {
        let refused = |why: std::io::Error| {
            let place = match address.starts_with("unix:") {
                true => address.to_owned(),
                false => format!("{address} port {port}"),
            };
            Error::unavailable(format!("cannot listen on {place}: {why}"))
        };
        let listener = Port::open(address, port, reuse).map_err(refused)?;
        let bound = listener.number().map_err(refused)?;
        let threads = self.threads.lock();
        let Some(first) = threads.first() else {
            return Err(Error::unavailable("server is stopped"));
        };
        // Bound and listening already: what connects before the thread gets there waits in the backlog.
        first
            .orders
            .send(Order::Accept(listener, door))
            .map_err(|_| Error::unavailable("server is stopped"))?;
        Ok(bound)
    }

    /// Makes a version that instances can serve; clients do not see it before [`Engine::publish`].
    ///
    /// # Errors
    /// If the configuration is not usable.
    pub fn add_version(
        &self,
        config_json: String,
        config_proto: Vec<u8>,
        number: u64,
        labels: Labels,
    ) -> Result<Arc<Version>, Error> {
        let spec = ModelSpec::from_config_json(&config_json)?;
        let config = (Bytes::from(config_json), Bytes::from(config_proto));
        let surroundings = Surroundings {
            lanes: Arc::clone(&self.shared.lanes),
            timekeeper: Arc::clone(&self.timekeeper),
            table: Arc::clone(&self.shared.table),
        };
        let cache = self.shared.cache.as_ref().filter(|_| spec.caches);
        let latencies = Latencies::new(&self.shared.options.latencies, &spec, cache.is_some());
        let places = self.rate_limit.as_ref();
        let places = places.map(|limit| Places::admit(limit, &spec.groups));
        let places = places.transpose()?;
        let version = Version::new(
            spec,
            number,
            config,
            labels,
            Statistics::new(latencies),
            surroundings,
        );
        if let Some(cache) = cache {
            // Nobody else sets it.
            let _ = version
                .cached
                .set(cache.admit(version.spec.preserves_order()));
        }
        if let Some(places) = places {
            let _ = version.places.set(Arc::new(places));
        }
        let mut versions = self.shared.versions.lock();
        versions.retain(|known| known.strong_count() > 0);
        versions.push(Arc::downgrade(&version));
        Ok(version)
    }

    /// Makes these versions the ones that clients reach under `name`, in one step.
    pub fn publish(&self, name: &str, ready: Vec<Arc<Version>>, unready: Vec<u64>) {
        let _publishing = self.publishing.lock();
        let table = self.shared.table().with(name, Entry { ready, unready });
        self.shared.table.store(Arc::new(table));
    }

    /// Removes `name`; requests for it are told that it is not found.
    pub fn forget(&self, name: &str) {
        let _publishing = self.publishing.lock();
        let table = self.shared.table().without(name);
        self.shared.table.store(Arc::new(table));
    }

    /// Says what the server-ready endpoints answer.
    pub fn set_ready(&self, ready: bool) {
        self.shared.ready.send_replace(ready);
    }

    /// Stops accepting and lets what was accepted finish; `false` if the time ran out first.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.draining.send_replace(true);
        let end = Instant::now() + limit;
        let mut quiet = self.shared.quiet.lock();
        while self.shared.connections() > 0 {
            if self.shared.ended.wait_until(&mut quiet, end).timed_out() {
                return self.shared.connections() == 0;
            }
        }
        true
    }

    /// Ends everything at once: queued requests are refused, connections closed, threads joined.
    pub fn stop(&self) {
        self.shared.draining.send_replace(true);
        self.shared.control.stop();
        let versions = std::mem::take(&mut *self.shared.versions.lock());
        versions
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|version| version.abandon());
        self.timekeeper.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in &threads {
            // A thread that is gone needs no order.
            let _ = thread.orders.send(Order::Stop);
        }
        for mut thread in threads {
            if let Some(handle) = thread.handle.take() {
                let _ = handle.join();
            }
        }
        self.shared.table.store(Arc::default());
        self.shared.tracer.stop();
        if let Some(log) = &self.shared.access_log {
            log.stop();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run_io_thread(
    index: usize,
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    peers: Vec<mpsc::UnboundedSender<Order>>,
) {
    lane::enter(index, Arc::clone(&shared.lanes));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(lane::flush)
        // For what would keep this thread from its sockets: long bodies to compress.
        .max_blocking_threads(2)
        .build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        tokio::spawn(lane::deliver(index, Arc::clone(&shared.lanes)));
        tokio::spawn(arrival::sweep(shared.options.arrival_timeout()));
        tokio::spawn(upstream::sweep());
        while let Some(order) = orders.recv().await {
            match order {
                Order::Accept(port, door) => {
                    let (shared, peers) = (Arc::clone(&shared), peers.clone());
                    tokio::spawn(accepting::accept(port, door, shared, peers));
                }
                Order::Serve(stream, door) => match stream.here() {
                    Ok(stream) => {
                        tokio::spawn(connection::serve(stream, door, Arc::clone(&shared)));
                    }
                    Err(_) => shared.connection_ended(),
                },
                Order::Stop => break,
            }
        }
    });
    // Dropping the runtime drops every connection with it.
}

// SPDX-License-Identifier: Apache-2.0
//! The gateway: threads, ports, and a polite end.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nerite_logic::Error;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, watch};

use super::connections;
use super::live::Live;
use super::options::GatewayOptions;
use super::payload_log;
use super::shared::{Counters, Shared};
use super::upstream::{self, Reach};
use crate::arrival::sweep;
use crate::listening::open_tcp;

#[derive(Debug)]
enum Order {
    Accept(TcpListener, Option<Arc<str>>),
    Stop,
}

#[derive(Debug)]
struct IoThread {
    orders: mpsc::UnboundedSender<Order>,
    handle: JoinHandle<()>,
}

/// A gateway with its threads. Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    threads: Mutex<Vec<IoThread>>,
    teller: Mutex<Option<JoinHandle<()>>>,
}

impl Gateway {
    /// Starts the I/O threads; no port is open yet, and there are no routes.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(options: GatewayOptions) -> Result<Self, Error> {
        let count = options.io_threads;
        let (payload_log, teller) = payload_log::start(options.connect_timeout())?;
        let shared = Arc::new(Shared {
            payload_log,
            reach: Reach::new(options.connect_timeout()),
            options,
            live: ArcSwap::default(),
            counters: Counters::default(),
            connections: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
            quiet: Mutex::new(()),
            ended: Condvar::new(),
        });
        let threads = (0..count)
            .map(|index| {
                let (orders, inbox) = mpsc::unbounded_channel();
                let shared = Arc::clone(&shared);
                let handle = thread::Builder::new()
                    .name(format!("nerite-gateway-{index}"))
                    .spawn(move || run_io_thread(&shared, inbox))
                    .map_err(|why| Error::internal(format!("cannot start a thread: {why}")))?;
                Ok(IoThread { orders, handle })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            shared,
            threads: Mutex::new(threads),
            teller: Mutex::new(Some(teller)),
        })
    }

    /// What the gateway's threads share.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens a port and returns its number. Each I/O thread accepts from it. All requests to a port that is
    /// opened for a host are taken as to that host, so that a client which knows only an address
    /// reaches one component.
    ///
    /// # Errors
    /// UNAVAILABLE with address, port and cause if it cannot be bound.
    pub fn listen(&self, address: &str, port: u16, named: Option<&str>) -> Result<u16, Error> {
        let refused = |why: std::io::Error| {
            Error::unavailable(format!("cannot listen on {address} port {port}: {why}"))
        };
        let listener = open_tcp(address, port, false).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?.port();
        let named: Option<Arc<str>> = named.map(Into::into);
        let threads = self.threads.lock();
        if threads.is_empty() {
            return Err(Error::unavailable("gateway is stopped"));
        }
        for thread in threads.iter() {
            let own = listener.try_clone().map_err(refused)?;
            // A thread that is gone accepts nothing.
            let _ = thread.orders.send(Order::Accept(own, named.clone()));
        }
        Ok(bound)
    }

    /// Makes these the routes, in one step; requests under way keep the ones they began with.
    ///
    /// # Errors
    /// If the table is not usable; the routes stay as they were.
    pub fn update(&self, table: &str) -> Result<(), Error> {
        let live = Live::from_json(table, &self.shared.live.load())?;
        self.shared.live.store(Arc::new(live));
        Ok(())
    }

    /// Client connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Stops accepting and lets what was accepted finish; `false` if the time ran out first.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.draining.send_replace(true);
        let end = Instant::now() + limit;
        let mut quiet = self.shared.quiet.lock();
        while self.connections() > 0 {
            if self.shared.ended.wait_until(&mut quiet, end).timed_out() {
                return self.connections() == 0;
            }
        }
        true
    }

    /// Ends everything at once: connections closed, threads joined.
    pub fn stop(&self) {
        self.shared.draining.send_replace(true);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in &threads {
            // A thread that is gone needs no order.
            let _ = thread.orders.send(Order::Stop);
        }
        for thread in threads {
            let _ = thread.handle.join();
        }
        self.shared.payload_log.stop();
        if let Some(teller) = self.teller.lock().take() {
            let _ = teller.join();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run_io_thread(shared: &Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_io().enable_time().build() else {
        return;
    };
    runtime.block_on(async {
        tokio::spawn(sweep(shared.options.arrival_timeout()));
        tokio::spawn(upstream::sweep());
        while let Some(order) = orders.recv().await {
            match order {
                Order::Accept(listener, named) => {
                    tokio::spawn(connections::accept(listener, named, Arc::clone(shared)));
                }
                Order::Stop => break,
            }
        }
    });
    // Dropping the runtime drops every connection with it.
}

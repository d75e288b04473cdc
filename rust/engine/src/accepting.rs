// SPDX-License-Identifier: Apache-2.0
//! Connections are accepted on one thread and dealt out to all.

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use crate::connection;
use crate::door::drain_begins;
use crate::listening::{
    Accepted, Door, OUT_OF_FILES, Port, SocketFile, Stream, is_of_one_connection,
};
use crate::shared::Shared;

/// What an I/O thread is told.
#[derive(Debug)]
pub enum Order {
    /// Accept connections on this port.
    Accept(Port, Door),
    /// Serve this connection.
    Serve(Accepted, Door),
    /// End.
    Stop,
}

/// Accepts connections until the engine drains and deals them out to the I/O threads in turn.
pub async fn accept(
    port: Port,
    door: Door,
    shared: Arc<Shared>,
    peers: Vec<mpsc::UnboundedSender<Order>>,
) {
    let Ok(listener) = Listener::of(port) else {
        return;
    };
    let mut draining = shared.draining();
    let mut turn = (0..peers.len()).cycle();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain_begins(&mut draining) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) if shared.connection_began() => match turn.next() {
                None | Some(0) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(connection::serve(stream, door.clone(), shared));
                }
                Some(other) => deal(stream, &door, &shared, peers.get(other)),
            },
            Ok(_) => {}
            Err(why) if is_of_one_connection(&why) => {}
            Err(_) => tokio::time::sleep(OUT_OF_FILES).await,
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[allow(dead_code)] SocketFile),
}

impl Listener {
    fn of(port: Port) -> io::Result<Self> {
        Ok(match port {
            Port::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Port::Unix(listener, file) => Self::Unix(UnixListener::from_std(listener)?, file),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept().await?.0),
            Self::Unix(listener, _) => Stream::Unix(listener.accept().await?.0),
        })
    }
}

fn deal(stream: Stream, door: &Door, shared: &Shared, peer: Option<&mpsc::UnboundedSender<Order>>) {
    let sent = stream
        .leave()
        .ok()
        .zip(peer)
        .is_some_and(|(stream, peer)| peer.send(Order::Serve(stream, door.clone())).is_ok());
    if !sent {
        shared.connection_ended();
    }
}

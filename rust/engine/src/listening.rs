// SPDX-License-Identifier: Apache-2.0
//! Ports: how they are opened, on TCP or as a file, and how connections are dealt out to the I/O threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, net};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::door::{Protocol, UNIX};
use crate::tls::Tls;

/// Connections that may wait to be accepted, as Triton's.
const BACKLOG: i32 = 1024;
/// How long to wait when the system has no more file descriptors to give.
pub const OUT_OF_FILES: Duration = Duration::from_millis(50);

/// A port that is open, on its way to the thread that accepts.
#[derive(Debug)]
pub enum Port {
    /// On TCP.
    Tcp(net::TcpListener),
    /// As a file.
    Unix(unix::UnixListener, SocketFile),
}

/// A connection on its way to the thread that serves it.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP.
    Tcp(net::TcpStream),
    /// Through a file.
    Unix(unix::UnixStream),
}

/// A connection of an I/O thread.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Through a file.
    Unix(UnixStream),
}

/// The file of a socket, removed when nobody listens any more.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have put its own there meanwhile.
        if fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Port {
    /// Opens a port: `unix:/path`, or a TCP address.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn open(address: &str, port: u16, reuse: bool) -> io::Result<Self> {
        match address.strip_prefix(UNIX) {
            Some(path) => open_file(Path::new(path)),
            None => open_tcp(address, port, reuse).map(Self::Tcp),
        }
    }

    /// The number of the port; a file has none.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn number(&self) -> io::Result<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.port()),
            Self::Unix(..) => Ok(0),
        }
    }
}

impl Accepted {
    /// The same, for the thread that it is now on.
    ///
    /// # Errors
    /// If the thread's event queue does not take it.
    pub fn here(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

impl Stream {
    /// The same, for another thread.
    ///
    /// # Errors
    /// If this thread's event queue does not let it go.
    pub fn leave(self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Accepted::Tcp),
            Self::Unix(stream) => stream.into_std().map(Accepted::Unix),
        }
    }
}

/// Opens a port on TCP; with `reuse` other processes may open it too.
///
/// # Errors
/// If it cannot be had.
pub fn open_tcp(address: &str, port: u16, reuse: bool) -> io::Result<net::TcpListener> {
    let host = address.strip_prefix("ipv6:").unwrap_or(address);
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let resolved: SocketAddr = (host, port).to_socket_addrs()?.next().ok_or_else(|| {
        io::Error::new(ErrorKind::AddrNotAvailable, "address has no meaning here")
    })?;
    let socket = Socket::new(Domain::for_address(resolved), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Two servers on one port are a mistake that must be seen, unless it is meant.
    socket.set_reuse_port(reuse)?;
    socket.bind(&resolved.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn open_file(path: &Path) -> io::Result<Port> {
    let bound = match unix::UnixListener::bind(path) {
        Err(why) if why.kind() == ErrorKind::AddrInUse => {
            remove_stale(path)?;
            unix::UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = bound?;
    let inode = fs::symlink_metadata(path)?.ino();
    listener.set_nonblocking(true)?;
    let path = path.to_owned();
    Ok(Port::Unix(listener, SocketFile { path, inode }))
}

/// Removes the socket that a server left which did not end well; nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |why| Err(io::Error::new(ErrorKind::AddrInUse, why));
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return in_use("a file that is no socket lies there");
    }
    match unix::UnixStream::connect(path) {
        Err(why) if why.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => in_use("another server listens there"),
    }
}

/// What a port leads to.
#[derive(Clone, Debug)]
pub struct Door {
    /// What is spoken there.
    pub protocol: Protocol,
    /// What it is spoken through, if not in the open.
    pub tls: Option<Arc<Tls>>,
}

/// Errors of `accept` that concern the connection that was about to be accepted, not the listener.
pub fn is_of_one_connection(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

// SPDX-License-Identifier: Apache-2.0
//! One line for each answered request, where that was asked for. The line of a stream is written when it has
//! ended, and tells how it did.
//!
//! An I/O thread only notes and hands over; a thread of its own makes the lines and writes them, many at a time.
//! Between them is a queue with an end: when the writer falls behind, lines are dropped and counted, and no
//! request waits for a disk.

mod stream;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use http_body::Body;
use hyper::{HeaderMap, Request, Response};
use nerite_logic::Error;
use parking_lot::Mutex;

use crate::body::{ReplyBody, Source};
use stream::Followed;

/// Lines that may wait to be written.
const WAITING: usize = 16_384;
/// Bytes that are written at a time.
const CHUNK: usize = 64 << 10;

/// The client's id for a request, left in its answer for the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub ByteString);

/// A request that is being answered.
#[derive(Debug)]
pub struct Seen {
    when: SystemTime,
    began: Instant,
    peer: Option<SocketAddr>,
    protocol: &'static str,
    method: String,
    path: String,
    trace_id: String,
}

#[derive(Debug)]
struct Line {
    seen: Box<Seen>,
    lasted: Duration,
    status: u16,
    grpc_status: Option<String>,
    bytes: u64,
    /// How many answers a stream had.
    responses: Option<u64>,
    request_id: ByteString,
}

enum Order {
    Write(Line),
    Stop,
}

/// The log of an engine.
#[derive(Debug)]
pub struct AccessLog {
    orders: SyncSender<Order>,
    dropped: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(_) => "Write",
            Self::Stop => "Stop",
        })
    }
}

impl AccessLog {
    /// Opens the log at `path`, or standard error for `-`, as text or as JSON lines.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn open(path: &str, json: bool) -> Result<Self, Error> {
        let file: Box<dyn Write + Send> = match path {
            "-" => Box::new(io::stderr()),
            path => {
                let opened = OpenOptions::new().create(true).append(true).open(path);
                Box::new(opened.map_err(|why| {
                    Error::invalid(format!("access log '{path}' cannot be written: {why}"))
                })?)
            }
        };
        let (orders, inbox) = sync_channel(WAITING);
        let writer = thread::Builder::new()
            .name("nerite-access".to_owned())
            .spawn(move || write_lines(&inbox, file, json))
            .map_err(|why| Error::internal(format!("cannot start the access log: {why}")))?;
        Ok(Self {
            orders,
            dropped: AtomicU64::new(0),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Notes a request at its head.
    pub fn begin<B>(
        &self,
        request: &Request<B>,
        peer: Option<SocketAddr>,
        protocol: &'static str,
    ) -> Box<Seen> {
        let context = request.headers().get("traceparent");
        let trace_id = context.and_then(|text| text.to_str().ok()?.split('-').nth(1));
        Box::new(Seen {
            when: SystemTime::now(),
            began: Instant::now(),
            peer,
            protocol,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            trace_id: trace_id.unwrap_or_default().to_owned(),
        })
    }

    /// Hands the line of an answered request to the writer; that of a stream once it has ended.
    pub fn end(self: &Arc<Self>, seen: Box<Seen>, reply: &mut Response<ReplyBody>) {
        let line = Line {
            lasted: Duration::ZERO,
            status: reply.status().as_u16(),
            grpc_status: (seen.protocol == "grpc").then(|| grpc_status(reply.headers())),
            seen,
            bytes: reply.body().size_hint().lower(),
            responses: None,
            request_id: reply
                .extensions()
                .get::<RequestId>()
                .map(|id| id.0.clone())
                .unwrap_or_default(),
        };
        if reply.body().is_streamed() {
            let log = Arc::clone(self);
            let follow = |source| Box::new(Followed::new(source, log, line)) as Box<dyn Source>;
            reply.body_mut().through(follow);
        } else {
            self.write(line);
        }
    }

    fn write(&self, mut line: Line) {
        line.lasted = line.seen.began.elapsed();
        if self.orders.try_send(Order::Write(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Lines that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes what waits and ends the writer.
    pub fn stop(&self) {
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        // A writer that is gone needs no order.
        let _ = self.orders.send(Order::Stop);
        let _ = writer.join();
    }
}

/// What headers or trailers say of a call; nothing but a failure is said in headers.
fn grpc_status(fields: &HeaderMap) -> String {
    let told = fields.get("grpc-status");
    let status = told.and_then(|status| status.to_str().ok());
    status.unwrap_or("0").to_owned()
}

fn write_lines(inbox: &Receiver<Order>, mut file: Box<dyn Write + Send>, json: bool) {
    let mut chunk = String::with_capacity(CHUNK);
    let mut stopped = false;
    while !stopped {
        let Ok(first) = inbox.recv() else { return };
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Stop => stopped = true,
                Order::Write(line) if json => line.as_json(&mut chunk),
                Order::Write(line) => line.as_text(&mut chunk),
            }
            next = match chunk.len() < CHUNK && !stopped {
                true => inbox.try_recv().ok(),
                false => None,
            };
        }
        // A full disk costs lines, never requests.
        let _ = file.write_all(chunk.as_bytes());
        chunk.clear();
    }
    let _ = file.flush();
}

impl Line {
    fn as_text(&self, out: &mut String) {
        use std::fmt::Write;
        let seen = &self.seen;
        let or_dash = |text: &str| match text {
            "" => "-".to_owned(),
            // An id may hold anything; in quotes it stays one word on one line.
            text if text.chars().all(|c| c.is_ascii_graphic() && c != '"') => text.to_owned(),
            text => serde_json::Value::from(text).to_string(),
        };
        let grpc = self.grpc_status.as_ref();
        let _ = writeln!(
            out,
            "{} {} {} \"{} {}\" {}{} {} {:.6} {} {}{}",
            rfc3339(seen.when),
            seen.peer
                .map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
            seen.protocol,
            seen.method,
            seen.path,
            self.status,
            grpc.map_or_else(String::new, |status| format!("/{status}")),
            self.bytes,
            self.lasted.as_secs_f64(),
            or_dash(&self.request_id),
            or_dash(&seen.trace_id),
            self.responses
                .map_or_else(String::new, |count| format!(" {count}")),
        );
    }

    fn as_json(&self, out: &mut String) {
        let seen = &self.seen;
        let line = serde_json::json!({
            "time": rfc3339(seen.when),
            "peer": seen.peer.map(|peer| peer.to_string()),
            "protocol": seen.protocol,
            "method": seen.method,
            "path": seen.path,
            "status": self.status,
            "grpc_status": self.grpc_status.as_ref().and_then(|code| code.parse::<u8>().ok()),
            "bytes": self.bytes,
            "seconds": self.lasted.as_secs_f64(),
            "responses": self.responses,
            "request_id": &*self.request_id,
            "trace_id": seen.trace_id,
        });
        out.push_str(&line.to_string());
        out.push('\n');
    }
}

/// `2024-05-20T20:03:26.000123Z`.
pub fn rfc3339(when: SystemTime) -> String {
    let since = when.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_732_333_565, "2024-11-23T03:46:05.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

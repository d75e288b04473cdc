// SPDX-License-Identifier: Apache-2.0
//! Traces of sampled requests: when each passed which point, and with TENSORS what it carried
//! (`spec/triton.md` 7.3).
//!
//! Which requests are sampled is in [`crate::sampling`]; settings, files and exporters are the control plane's. Here is what touches requests: one relaxed load for
//! each while nothing is traced; a look at the rules and a counter where something is; a [`Trace`] for a request
//! that is sampled. It is marked on its way and handed over at its end in batches. When the control plane falls
//! behind, traces are dropped and counted rather than kept without end.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytestring::ByteString;
use hyper::HeaderMap;
use nerite_logic::Error;
use nerite_logic::message::Tensor;
use parking_lot::{Condvar, Mutex};

use crate::sampling::{Rule, RuleOptions, Settings, is_context};
use nerite_logic::spec::ModelSpec;

/// Finished traces that may wait for the control plane.
const WAITING: usize = 4_096;
/// Most that it takes at a time.
const BATCH: usize = 256;

/// Where a request has passed, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Its body is awaited.
    ReceiveStart,
    /// Its body is there.
    ReceiveEnd,
    /// It is parsed and checked.
    RequestStart,
    /// It goes to its queue.
    QueueStart,
    /// It leaves the queue in a batch.
    ComputeStart,
    /// The batch's inputs are joined.
    ComputeInputEnd,
    /// The backend has returned.
    ComputeOutputStart,
    /// The outputs are taken over.
    ComputeEnd,
    /// Its outcome is back at the connection.
    RequestEnd,
    /// Its answer is encoded.
    ResponseComplete,
    /// The answer is handed to the connection.
    SendStart,
    /// The connection has taken all of it.
    SendEnd,
}

const POINTS: usize = Point::SendEnd as usize + 1;

/// Names of the points, and how they differ between the protocols.
const NAMES: [(&str, &str); POINTS] = [
    ("HTTP_RECV_START", "GRPC_WAITREAD_START"),
    ("HTTP_RECV_END", "GRPC_WAITREAD_END"),
    ("REQUEST_START", "REQUEST_START"),
    ("QUEUE_START", "QUEUE_START"),
    ("COMPUTE_START", "COMPUTE_START"),
    ("COMPUTE_INPUT_END", "COMPUTE_INPUT_END"),
    ("COMPUTE_OUTPUT_START", "COMPUTE_OUTPUT_START"),
    ("COMPUTE_END", "COMPUTE_END"),
    ("REQUEST_END", "REQUEST_END"),
    ("INFER_RESPONSE_COMPLETE", "INFER_RESPONSE_COMPLETE"),
    ("HTTP_SEND_START", "GRPC_SEND_START"),
    ("HTTP_SEND_END", "GRPC_SEND_END"),
];

#[derive(Debug, Default)]
struct Rules {
    by_model: HashMap<String, Arc<Rule>>,
    propagated: bool,
}

#[derive(Debug, Default)]
struct Finished {
    waiting: VecDeque<Arc<Trace>>,
    stopped: bool,
}

/// Decides which requests are traced, and keeps finished traces until they are fetched.
#[derive(Debug)]
pub struct Tracer {
    /// Whether any rule might want a request: all that the plain path reads.
    active: AtomicBool,
    rules: ArcSwap<Rules>,
    began: Instant,
    /// The control plane's monotonic clock, in nanoseconds, at `began`.
    origin_ns: AtomicU64,
    next_id: AtomicU64,
    next_rule: AtomicU64,
    /// Traces that were dropped because too many waited.
    dropped: AtomicU64,
    finished: Mutex<Finished>,
    arrived: Condvar,
}

impl Default for Tracer {
    fn default() -> Self {
        Self {
            active: AtomicBool::new(false),
            rules: ArcSwap::default(),
            began: Instant::now(),
            origin_ns: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            next_rule: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            finished: Mutex::default(),
            arrived: Condvar::new(),
        }
    }
}

impl Tracer {
    /// Takes new settings; a rule that is as before goes on counting. `clock_ns` is the control plane's
    /// monotonic clock now.
    ///
    /// # Errors
    /// If the JSON is not such settings.
    pub fn configure(&self, json: &str, clock_ns: u64) -> Result<(), Error> {
        let settings: Settings = serde_json::from_str(json)
            .map_err(|why| Error::invalid(format!("trace settings are not usable: {why}")))?;
        let before = self.rules.load();
        let rule = |(model, options): (String, RuleOptions)| {
            let same = before
                .by_model
                .get(&model)
                .filter(|rule| rule.options == options);
            let rule = same.map_or_else(
                || {
                    let serial = self.next_rule.fetch_add(1, Relaxed);
                    Arc::new(Rule::new(serial, options))
                },
                Arc::clone,
            );
            (model, rule)
        };
        let by_model: HashMap<_, _> = settings.rules.into_iter().map(rule).collect();
        let wants = |rule: &Arc<Rule>| {
            rule.is_on() && (settings.propagated || rule.options.rate > 0 && rule.left() != 0)
        };
        let active = by_model.values().any(wants);
        let elapsed = nanoseconds(self.began.elapsed());
        self.origin_ns
            .store(clock_ns.saturating_sub(elapsed), Relaxed);
        self.rules.store(Arc::new(Rules {
            by_model,
            propagated: settings.propagated,
        }));
        self.active.store(active, Relaxed);
        Ok(())
    }

    /// Traces that each rule may still take, by model.
    pub fn left(&self) -> HashMap<String, i64> {
        let rules = self.rules.load();
        let rules = rules.by_model.iter();
        rules
            .map(|(model, rule)| (model.clone(), rule.left()))
            .collect()
    }

    /// The time, if anything might be traced.
    pub fn clock(&self) -> Option<Instant> {
        self.active.load(Relaxed).then(Instant::now)
    }

    /// A trace for a request that is sampled.
    pub fn sample(
        self: &Arc<Self>,
        (spec, number): (&ModelSpec, u64),
        headers: &HeaderMap,
        is_grpc: bool,
    ) -> Option<Traced> {
        if !self.active.load(Relaxed) {
            return None;
        }
        let rules = self.rules.load();
        let rule = rules.by_model.get(&*spec.name);
        let rule = rule.or_else(|| rules.by_model.get(""))?;
        if !rule.is_on() {
            return None;
        }
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let parent = rules.propagated.then(|| text("traceparent")).flatten();
        let parent = parent.filter(|context| is_context(context));
        if parent.is_none() && !rule.samples() {
            return None;
        }
        Some(Traced(Arc::new(Trace {
            is_grpc,
            state: parent.as_ref().and_then(|_| text("tracestate")),
            parent,
            ..self.begin(rule, spec, number)
        })))
    }

    fn begin(self: &Arc<Self>, rule: &Arc<Rule>, spec: &ModelSpec, number: u64) -> Trace {
        Trace {
            id: self.next_id.fetch_add(1, Relaxed) + 1,
            rule: Arc::clone(rule),
            is_grpc: false,
            model: spec.name.clone(),
            version: number,
            parent_id: 0,
            state: None,
            parent: None,
            request_id: OnceLock::new(),
            error: OnceLock::new(),
            inputs: OnceLock::new(),
            outputs: OnceLock::new(),
            points: std::array::from_fn(|_| AtomicU64::new(0)),
            tracer: Arc::clone(self),
        }
    }

    /// Waits at most `patience` for finished traces and takes some; `None` once stopped and empty.
    pub fn take(&self, patience: Duration) -> Option<Vec<Arc<Trace>>> {
        let end = Instant::now() + patience;
        let mut finished = self.finished.lock();
        while finished.waiting.is_empty() {
            if finished.stopped {
                return None;
            }
            if self.arrived.wait_until(&mut finished, end).timed_out() {
                return Some(Vec::new());
            }
        }
        let count = finished.waiting.len().min(BATCH);
        Some(finished.waiting.drain(..count).collect())
    }

    /// Lets go whoever waits for traces, once there are none.
    pub fn stop(&self) {
        self.active.store(false, Relaxed);
        self.finished.lock().stopped = true;
        self.arrived.notify_all();
    }

    /// Traces that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn finish(&self, trace: &Arc<Trace>) {
        let mut finished = self.finished.lock();
        if finished.waiting.len() >= WAITING {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        finished.waiting.push_back(Arc::clone(trace));
        drop(finished);
        self.arrived.notify_one();
    }
}

/// One traced request.
#[derive(Debug)]
pub struct Trace {
    /// Its number, from 1.
    pub id: u64,
    /// The rule that sampled it.
    pub rule: Arc<Rule>,
    /// Whether it came over gRPC.
    pub is_grpc: bool,
    /// The model's name.
    pub model: ByteString,
    /// The version's number.
    pub version: u64,
    /// The trace of the request to an ensemble whose step this is; 0 for none.
    pub parent_id: u64,
    /// The caller's `traceparent`.
    pub parent: Option<String>,
    /// The caller's `tracestate`.
    pub state: Option<String>,
    request_id: OnceLock<ByteString>,
    error: OnceLock<String>,
    inputs: OnceLock<Vec<Tensor>>,
    outputs: OnceLock<Vec<Tensor>>,
    /// Nanoseconds after the tracer's beginning, plus one; 0 where it did not pass.
    points: [AtomicU64; POINTS],
    tracer: Arc<Tracer>,
}

impl Trace {
    /// The trace of a step that this request takes.
    pub fn child(&self, spec: &ModelSpec, number: u64) -> Traced {
        Traced(Arc::new(Trace {
            is_grpc: self.is_grpc,
            parent_id: self.id,
            ..self.tracer.begin(&self.rule, spec, number)
        }))
    }

    /// It passes a point now.
    pub fn mark(&self, point: Point) {
        self.mark_at(point, Instant::now());
    }

    /// It passed a point.
    pub fn mark_at(&self, point: Point, when: Instant) {
        let since = when.saturating_duration_since(self.tracer.began);
        if let Some(mark) = self.points.get(point as usize) {
            mark.store(nanoseconds(since) + 1, Relaxed);
        }
    }

    /// Notes the client's id and, where tensors are kept, the inputs.
    pub fn requested(&self, id: &ByteString, inputs: &[Tensor]) {
        let _ = self.request_id.set(id.clone());
        if self.rule.options.tensors {
            let _ = self.inputs.set(inputs.to_vec());
        }
        self.mark(Point::RequestStart);
    }

    /// Notes where tensors are kept the outputs.
    pub fn answered(&self, outputs: &[Tensor]) {
        if self.rule.options.tensors {
            let _ = self.outputs.set(outputs.to_vec());
        }
    }

    /// Notes why it failed.
    pub fn failed(&self, error: &Error) {
        let _ = self.error.set(error.message.clone().into_owned());
    }

    /// The client's id; empty if it gave none.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id.get().map_or("", |id| id)
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.get().map(String::as_str)
    }

    /// Whether times are wanted.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.rule.options.timestamps
    }

    /// The inputs that were kept, and the outputs.
    #[must_use]
    pub fn tensors(&self) -> (&[Tensor], &[Tensor]) {
        (
            self.inputs.get().map_or(&[], Vec::as_slice),
            self.outputs.get().map_or(&[], Vec::as_slice),
        )
    }

    /// The points it passed, with the control plane's clock in nanoseconds.
    #[must_use]
    pub fn points(&self) -> Vec<(&'static str, u64)> {
        let origin = self.tracer.origin_ns.load(Relaxed);
        let named = NAMES.iter().zip(&self.points);
        let passed = named.filter_map(|((http, grpc), mark)| {
            let since = mark.load(Relaxed).checked_sub(1)?;
            Some((if self.is_grpc { *grpc } else { *http }, origin + since))
        });
        passed.collect()
    }
}

/// A trace that is handed over when this is dropped: with the last byte of the answer, or when the request
/// ends before it has one.
#[derive(Debug)]
pub struct Traced(Arc<Trace>);

/// A request passes a point, if it is traced.
pub fn mark(traced: Option<&Traced>, point: Point) {
    if let Some(traced) = traced {
        traced.trace().mark(point);
    }
}

impl Traced {
    /// The trace, to be marked elsewhere too.
    #[must_use]
    pub const fn trace(&self) -> &Arc<Trace> {
        &self.0
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let sends = self.0.points.get(Point::SendStart as usize);
        if sends.is_some_and(|mark| mark.load(Relaxed) != 0) {
            self.0.mark(Point::SendEnd);
        }
        self.0.tracer.finish(&self.0);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_stays_the_same_goes_on_counting() {
        let tracer = Tracer::default();
        let of = |rate: u32| {
            format!(
                r#"{{"propagated":false,"rules":{{"":
                {{"rate":{rate},"count":5,"timestamps":true,"tensors":false,"log_frequency":0}}}}}}"#
            )
        };
        tracer.configure(&of(1), 0).unwrap();
        let first = Arc::clone(tracer.rules.load().by_model.get("").unwrap());
        assert!(first.samples());
        tracer.configure(&of(1), 0).unwrap();
        assert_eq!(tracer.left().get(""), Some(&4));
        tracer.configure(&of(2), 0).unwrap();
        assert_eq!(tracer.left().get(""), Some(&5));
        assert!(tracer.clock().is_some());
        tracer.configure(&of(0), 0).unwrap();
        assert!(tracer.clock().is_none());
        assert!(tracer.configure("{}", 0).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The Prometheus page: Triton's families by their names, and Nerite's own behind them
//! (`spec/triton.md` 7.1).

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::server::Shared;
use crate::statistics::{Failure, Histogram, LATENCY_BOUNDS_US, REASONS, Statistics};
use crate::version::Version;

/// A counter of a version, by Triton's name.
type Counter = (&'static str, &'static str, fn(&Statistics) -> u64);

const fn micros(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000
}

const COUNTERS: [Counter; 8] = [
    (
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        |s| s.success.count(),
    ),
    (
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        |s| s.inferences.load(Relaxed),
    ),
    (
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        |s| s.executions.load(Relaxed),
    ),
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        |s| micros(s.success.nanoseconds()),
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        |s| micros(s.queue.nanoseconds()),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        |s| micros(s.compute_input.nanoseconds()),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        |s| micros(s.compute_infer.nanoseconds()),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds \
         (does not include cached requests)",
        |s| micros(s.compute_output.nanoseconds()),
    ),
];

/// A histogram of a version, by its name.
type Latency = (&'static str, &'static str, fn(&Statistics) -> &Histogram);

const HISTOGRAMS: [Latency; 3] = [
    (
        "nerite_request_duration_seconds",
        "Time from the receipt of a request to its reply",
        |s| &s.request_latency,
    ),
    (
        "nerite_queue_duration_seconds",
        "Time a request waited in the queue",
        |s| &s.queue_latency,
    ),
    (
        "nerite_compute_duration_seconds",
        "Time the batch of a request spent in the backend",
        |s| &s.compute_latency,
    ),
];

/// The whole page.
#[must_use]
pub fn page(shared: &Shared) -> String {
    let table = shared.table();
    let versions: Vec<(&Version, String)> = table
        .ready()
        .map(|version| (&**version, labels(version)))
        .collect();
    let mut page = Page(String::with_capacity(1024 + versions.len() * 4096));
    for (index, (name, help, read)) in COUNTERS.iter().enumerate() {
        page.family(name, help, "counter");
        for (version, labels) in &versions {
            page.sample(name, labels, "", read(&version.statistics));
        }
        if index == 0 {
            failures(&mut page, &versions);
        }
    }
    let name = "nv_inference_pending_request_count";
    page.family(
        name,
        "Instantaneous number of pending requests awaiting execution per-model.",
        "gauge",
    );
    for (version, labels) in &versions {
        page.sample(name, labels, "", version.pending() as u64);
    }
    batches(&mut page, &versions);
    if shared.options.latency_histograms {
        for (name, help, read) in &HISTOGRAMS {
            page.family(name, help, "histogram");
            for (version, labels) in &versions {
                page.histogram(name, labels, read(&version.statistics));
            }
        }
    }
    server(&mut page, shared);
    page.0
}

fn failures(page: &mut Page, versions: &[(&Version, String)]) {
    let name = "nv_inference_request_failure";
    page.family(
        name,
        "Number of failed inference requests, all batch sizes",
        "counter",
    );
    for (version, labels) in versions {
        for reason in Failure::ALL {
            let extra = format!(",reason=\"{}\"", reason.label());
            page.sample(name, labels, &extra, version.statistics.failures(reason));
        }
    }
}

fn batches(page: &mut Page, versions: &[(&Version, String)]) {
    let name = "nerite_batches_total";
    page.family(
        name,
        "Batches executed, by the reason for which they were closed",
        "counter",
    );
    for (version, labels) in versions {
        for ((_, reason), count) in REASONS.iter().zip(version.statistics.reasons()) {
            page.sample(name, labels, &format!(",reason=\"{reason}\""), count);
        }
    }
    let name = "nerite_batch_rows_total";
    page.family(name, "Batches executed, by their number of rows", "counter");
    for (version, labels) in versions {
        for (rows, size) in version.statistics.batch_sizes() {
            page.sample(name, labels, &format!(",rows=\"{rows}\""), size.count);
        }
    }
}

fn server(page: &mut Page, shared: &Shared) {
    let gauges = [
        (
            "nerite_connections",
            "Open connections",
            shared.connections() as u64,
        ),
        (
            "nerite_requests_in_flight",
            "Inference requests accepted and not yet answered",
            shared.lanes.in_flight.load(Relaxed),
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, help, "gauge");
        page.sample(name, "", "", value);
    }
    let name = "nerite_connections_refused_total";
    page.family(
        name,
        "Connections refused because too many were open",
        "counter",
    );
    page.sample(name, "", "", shared.refused_connections());
}

/// The labels of a version's samples, without braces; Triton's tags carry an underscore in front.
fn labels(version: &Arc<Version>) -> String {
    let mut labels = String::new();
    pair(&mut labels, "model", &version.spec.name);
    labels.push(',');
    pair(&mut labels, "version", &version.number_text);
    for (tag, value) in &version.spec.metric_tags {
        labels.push_str(",_");
        pair(&mut labels, tag, value);
    }
    labels
}

fn pair(labels: &mut String, name: &str, value: &str) {
    labels.push_str(name);
    labels.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => labels.push_str("\\\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str("\\n"),
            other => labels.push(other),
        }
    }
    labels.push('"');
}

/// Text in the making. Writing to a `String` cannot fail, so results are let go.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, extra: &str, value: u64) {
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{labels}{extra}}} {value}"),
        };
    }

    #[allow(clippy::cast_precision_loss)] // Seconds are for reading, not for counting.
    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let (counts, nanoseconds) = histogram.cumulative();
        let total = counts.last().copied().unwrap_or(0);
        for (bound, count) in LATENCY_BOUNDS_US.iter().zip(&counts) {
            let bound = *bound as f64 / 1e6;
            let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(
            self.0,
            "{name}_sum{{{labels}}} {}",
            nanoseconds as f64 / 1e9
        );
        let _ = writeln!(self.0, "{name}_count{{{labels}}} {total}");
    }
}

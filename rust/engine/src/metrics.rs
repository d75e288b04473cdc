// SPDX-License-Identifier: Apache-2.0
//! The Prometheus page: Triton's families by their names, and Nerite's own behind them
//! (`spec/triton.md` 7.1).

mod cache;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::custom_metrics::{self, pair};
use crate::latencies::{Buckets, FIRST_RESPONSE, Summary};
use crate::shared::Shared;
use crate::statistics::{Failure, Histogram, LATENCY_BOUNDS_US, REASONS, Statistics};
use crate::version::Version;

/// A counter of a version, by Triton's name.
type Counter = (&'static str, &'static str, fn(&Statistics) -> u64);

const fn micros(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000
}

const COUNTERS: [Counter; 3] = [
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
];

const DURATIONS: [Counter; 5] = [
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

/// The summaries, in the order of [`crate::latencies::Lasted`], with Triton's help texts.
const SUMMARIES: [(&str, &str); 5] = [
    (
        "nv_inference_request_summary_us",
        "Summary of inference request duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_queue_summary_us",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
    ),
    (
        "nv_inference_compute_input_summary_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
    ),
    (
        "nv_inference_compute_output_summary_us",
        "Cumulative inference compute output duration in microseconds \
         (does not include cached requests)",
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
    let [success, others @ ..] = &COUNTERS;
    counters(&mut page, &versions, std::slice::from_ref(success));
    failures(&mut page, &versions);
    counters(&mut page, &versions, others);
    if shared.options.latencies.counters {
        counters(&mut page, &versions, &DURATIONS);
    }
    cache::families(&mut page, &versions, shared);
    let name = "nv_inference_pending_request_count";
    page.family(
        name,
        "Instantaneous number of pending requests awaiting execution per-model.",
        "gauge",
    );
    for (version, labels) in &versions {
        page.sample(name, labels, "", version.pending() as u64);
    }
    load_times(&mut page, &versions);
    first_responses(&mut page, &versions);
    summaries(&mut page, &versions);
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
    customs(&mut page);
    page.0
}

fn counters(page: &mut Page, versions: &[(&Version, String)], families: &[Counter]) {
    for (name, help, read) in families {
        page.family(name, help, "counter");
        for (version, labels) in versions {
            page.sample(name, labels, "", read(&version.statistics));
        }
    }
}

fn load_times(page: &mut Page, versions: &[(&Version, String)]) {
    let name = "nv_model_load_duration_secs";
    page.family(name, "Model load time in seconds", "gauge");
    for (version, labels) in versions {
        page.float(name, labels, version.statistics.load_seconds());
    }
}

fn first_responses(page: &mut Page, versions: &[(&Version, String)]) {
    let of = |version: &Version| version.statistics.latencies.first_response.is_some();
    if !versions.iter().any(|(version, _)| of(version)) {
        return;
    }
    let help = "Duration from request to first response in milliseconds";
    page.family(FIRST_RESPONSE, help, "histogram");
    for (version, labels) in versions {
        if let Some(buckets) = &version.statistics.latencies.first_response {
            page.buckets(FIRST_RESPONSE, labels, buckets);
        }
    }
}

fn summaries(page: &mut Page, versions: &[(&Version, String)]) {
    let kept = |(version, labels): &(&Version, String)| {
        let summaries = version.statistics.latencies.summaries.as_ref()?;
        Some((
            labels.clone(),
            summaries.read(),
            version.cached.get().is_some(),
        ))
    };
    let all: Vec<_> = versions.iter().filter_map(kept).collect();
    if all.is_empty() {
        return;
    }
    for (index, (name, help)) in SUMMARIES.iter().enumerate() {
        page.family(name, help, "summary");
        for (labels, summaries, caches) in &all {
            // Triton tells none of the whole request for models that cache.
            if let Some(summary) = summaries.get(index)
                && (index > 0 || !caches)
            {
                page.summary(name, labels, summary);
            }
        }
    }
    cache::summaries(page, versions);
}

fn customs(page: &mut Page) {
    for family in custom_metrics::families() {
        let name = &family.name;
        page.family(name, &family.help, family.kind.name());
        for (labels, metric) in family.metrics() {
            match metric.buckets() {
                Some(buckets) => page.buckets(name, &labels, buckets),
                None => page.float(name, &labels, metric.value().unwrap_or(f64::NAN)),
            }
        }
    }
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
    dropped(page, shared);
    let name = "nerite_connections_refused_total";
    page.family(
        name,
        "Connections refused because too many were open",
        "counter",
    );
    page.sample(name, "", "", shared.refused_connections());
}

fn dropped(page: &mut Page, shared: &Shared) {
    let name = "nerite_dropped_total";
    let help = "Traces and access log lines dropped because too many waited to be written";
    page.family(name, help, "counter");
    page.sample(name, "what=\"trace\"", "", shared.tracer.dropped());
    let lines = shared.access_log.as_ref().map_or(0, |log| log.dropped());
    page.sample(name, "what=\"access_log\"", "", lines);
}

/// The labels of a version's samples, without braces; Triton's tags carry an underscore in front.
fn labels(version: &Arc<Version>) -> String {
    let mut labels = String::new();
    pair(&mut labels, "model", &version.spec.name);
    labels.push(',');
    pair(&mut labels, "version", &version.number_text);
    if let Some(namespace) = version.namespace.get() {
        labels.push(',');
        pair(&mut labels, "namespace", namespace);
    }
    for (tag, value) in &version.spec.metric_tags {
        labels.push_str(",_");
        pair(&mut labels, tag, value);
    }
    labels
}

/// A number as Prometheus reads it.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        other => other.to_string(),
    }
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

    fn float(&mut self, name: &str, labels: &str, value: f64) {
        let value = number(value);
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn summary(&mut self, name: &str, labels: &str, (quantiles, count, sum): &Summary) {
        for (quantile, value) in quantiles {
            self.float(name, &format!("{labels},quantile=\"{quantile}\""), *value);
        }
        self.float(&format!("{name}_sum"), labels, *sum);
        self.sample(&format!("{name}_count"), labels, "", *count);
    }

    fn buckets(&mut self, name: &str, labels: &str, buckets: &Buckets) {
        let comma = if labels.is_empty() { "" } else { "," };
        let (counts, total, sum) = buckets.cumulative();
        let bucket = format!("{name}_bucket");
        for (bound, count) in counts {
            let le = format!("{labels}{comma}le=\"{}\"", number(bound));
            self.sample(&bucket, &le, "", count);
        }
        self.sample(&bucket, &format!("{labels}{comma}le=\"+Inf\""), "", total);
        self.float(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, "", total);
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

// SPDX-License-Identifier: Apache-2.0
//! The families of the response cache: Triton's, by their names.

use super::{Counter, Page, counters, micros};
use crate::shared::Shared;
use crate::version::Version;

/// Counters of models that cache.
const COUNTERS: [Counter; 2] = [
    (
        "nv_cache_num_hits_per_model",
        "Number of cache hits per model",
        |s| s.cache_hit.count(),
    ),
    (
        "nv_cache_num_misses_per_model",
        "Number of cache misses per model",
        |s| s.cache_miss.count(),
    ),
];

const DURATIONS: [Counter; 2] = [
    (
        "nv_cache_hit_duration_per_model",
        "Total cache hit duration per model, in microseconds",
        |s| micros(s.cache_hit.nanoseconds()),
    ),
    (
        "nv_cache_miss_duration_per_model",
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        |s| micros(s.cache_miss.nanoseconds()),
    ),
];

/// Summaries, in the order in which they are kept.
const SUMMARIES: [(&str, &str); 2] = [
    (
        "nv_cache_hit_summary_per_model",
        "Summary of cache hit duration per model, in microseconds",
    ),
    (
        "nv_cache_miss_summary_per_model",
        "Summary of cache miss (insert+lookup) duration per model, in microseconds",
    ),
];

/// What models that cache count, and how the cache itself stands; nothing if there is none.
pub(super) fn families(page: &mut Page, versions: &[(&Version, String)], shared: &Shared) {
    let Some(cache) = &shared.cache else { return };
    let caching = versions.iter().filter(|(v, _)| v.cached.get().is_some());
    let caching: Vec<_> = caching.cloned().collect();
    counters(page, &caching, &COUNTERS);
    if shared.options.latencies.counters {
        counters(page, &caching, &DURATIONS);
    }
    let counts = cache.counts();
    page.family("nv_cache_util", "Cache utilization [0.0 - 1.0]", "gauge");
    #[allow(clippy::cast_precision_loss)] // It is for reading.
    page.float("nv_cache_util", "", counts.used as f64 / counts.size as f64);
    let gauges = [
        (
            "nv_cache_num_entries",
            "Number of responses stored in response cache",
            counts.entries as u64,
        ),
        (
            "nv_cache_num_hits",
            "Number of cache hits in response cache",
            counts.hits,
        ),
        (
            "nv_cache_num_misses",
            "Number of cache misses in response cache",
            counts.misses,
        ),
        (
            "nv_cache_num_lookups",
            "Number of cache lookups in response cache",
            counts.hits + counts.misses,
        ),
        (
            "nv_cache_num_evictions",
            "Number of cache evictions in response cache",
            counts.evictions,
        ),
        (
            "nv_cache_lookup_duration",
            "Total cache lookup duration (hit and miss), in microseconds",
            micros(cache.lookups.nanoseconds()),
        ),
        (
            "nv_cache_insertion_duration",
            "Total cache insertion duration, in microseconds",
            micros(cache.insertions.nanoseconds()),
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, help, "gauge");
        page.sample(name, "", "", value);
    }
}

/// The summaries of the models that have it, if any keeps summaries.
pub(super) fn summaries(page: &mut Page, versions: &[(&Version, String)]) {
    let kept = |(version, labels): &(&Version, String)| {
        let summaries = version.statistics.latencies.summaries.as_ref()?;
        Some((labels.clone(), summaries.read_cache()?))
    };
    let all: Vec<_> = versions.iter().filter_map(kept).collect();
    if all.is_empty() {
        return;
    }
    for (index, (name, help)) in SUMMARIES.iter().enumerate() {
        page.family(name, help, "summary");
        for (labels, summaries) in &all {
            if let Some(summary) = summaries.get(index) {
                page.summary(name, labels, summary);
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Which requests are traced: rules with a rate and a count, and the callers' own contexts
//! (`spec/triton.md` 7.3). What is kept of a request that is sampled is in [`crate::trace`].

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

use serde::Deserialize;

/// Which requests are traced, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleOptions {
    /// One of how many; 0 is none.
    pub rate: u64,
    /// How many in all; below 0 is without end.
    pub count: i64,
    /// Whether times are taken.
    pub timestamps: bool,
    /// Whether tensors are kept.
    pub tensors: bool,
    /// For whoever writes traces to files: handed through with each of them.
    pub log_frequency: u64,
}

/// The settings of the control plane.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The rule of a model, by name; that of all others under the empty name.
    pub rules: HashMap<String, RuleOptions>,
    /// Whether requests that come with a trace context are always traced.
    pub propagated: bool,
}

/// A rule at work.
#[derive(Debug)]
pub struct Rule {
    /// Its number; a changed rule is another.
    pub serial: u64,
    /// What it says.
    pub options: RuleOptions,
    seen: AtomicU64,
    left: AtomicI64,
}

impl Rule {
    /// A rule that has seen nothing yet.
    #[must_use]
    pub const fn new(serial: u64, options: RuleOptions) -> Self {
        Self {
            serial,
            seen: AtomicU64::new(0),
            left: AtomicI64::new(options.count),
            options,
        }
    }

    /// Traces that it may still take; below 0 is without end.
    pub fn left(&self) -> i64 {
        self.left.load(Relaxed)
    }

    /// Whether it keeps anything of a request.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.options.timestamps || self.options.tensors
    }

    /// Whether it takes the next request.
    pub fn samples(&self) -> bool {
        let rate = self.options.rate;
        if rate == 0 || !(self.seen.fetch_add(1, Relaxed) + 1).is_multiple_of(rate) {
            return false;
        }
        let take = |left: i64| match left {
            0 => None,
            1.. => Some(left - 1),
            endless => Some(endless),
        };
        self.left.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// Whether text is a `traceparent` of version 00 that names a trace and a span.
#[must_use]
pub fn is_context(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_set = |part: &str| part.bytes().any(|byte| byte != b'0');
    let mut parts = text.split('-');
    let mut part = || parts.next().unwrap_or_default();
    let (version, trace, span, flags) = (part(), part(), part(), part());
    version == "00"
        && is_hex(trace, 32)
        && is_set(trace)
        && is_hex(span, 16)
        && is_set(span)
        && is_hex(flags, 2)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(rate: u64, count: i64) -> Rule {
        let options = RuleOptions {
            rate,
            count,
            timestamps: true,
            ..RuleOptions::default()
        };
        Rule::new(0, options)
    }

    fn sampled(rule: &Rule, of: usize) -> Vec<usize> {
        (1..=of).filter(|_| rule.samples()).collect()
    }

    #[test]
    fn one_of_the_rate_is_sampled_until_the_count_is_used_up() {
        assert_eq!(sampled(&rule(3, -1), 10), [3, 6, 9]);
        assert_eq!(sampled(&rule(2, 2), 10), [2, 4]);
        assert!(sampled(&rule(0, -1), 10).is_empty());
        assert!(sampled(&rule(1, 0), 10).is_empty());
    }

    #[test]
    fn only_a_whole_context_counts() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_context(good));
        for bad in [
            "",
            "00",
            &good.replacen("00-", "ff-", 1),
            &good.to_uppercase(),
            &format!("{good}-x"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(!is_context(bad), "{bad}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Metrics that are not of the data plane: a model's own (`pb_utils.MetricFamily`), and those of the host.
//!
//! They belong to the process, as a model that makes one does not know its server. Values are atomic numbers, so
//! the metrics page reads them without asking Python. A family is there for as long as somebody holds it; two
//! that make the same one share it, and so do two that make the same metric in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use nerite_logic::Error;
use parking_lot::Mutex;

use crate::latencies::{Buckets, add};

/// What can be done with a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts numbers by their size.
    Histogram,
}

impl Kind {
    /// The word for it on the page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Metrics of one name, told apart by their labels.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// What its metrics are.
    pub kind: Kind,
    /// By labels as they are printed.
    metrics: Mutex<BTreeMap<String, Weak<Metric>>>,
}

/// One series.
#[derive(Debug)]
pub struct Metric {
    /// Held so that a metric is printed for as long as it is used.
    family: Arc<Family>,
    /// A counter's or gauge's value, as the bits of a float.
    value: AtomicU64,
    buckets: Option<Buckets>,
}

static FAMILIES: Mutex<BTreeMap<String, Weak<Family>>> = Mutex::new(BTreeMap::new());

/// Every family that somebody holds, by name.
#[must_use]
pub fn families() -> Vec<Arc<Family>> {
    let mut families = FAMILIES.lock();
    families.retain(|_, family| family.strong_count() > 0);
    families.values().filter_map(Weak::upgrade).collect()
}

impl Family {
    /// The family called `name`, made if nobody holds it.
    ///
    /// # Errors
    /// If the name cannot be one, or belongs to a family of another kind.
    pub fn named(name: &str, help: &str, kind: Kind) -> Result<Arc<Self>, Error> {
        if !is_name(name, true) {
            return Err(Error::invalid(format!(
                "metric family '{name}' has no usable name; letters, digits, '_' and ':' are \
                 accepted, no digit first"
            )));
        }
        let mut families = FAMILIES.lock();
        if let Some(family) = families.get(name).and_then(Weak::upgrade) {
            if family.kind == kind {
                return Ok(family);
            }
            return Err(Error::new(
                nerite_logic::Code::AlreadyExists,
                format!(
                    "metric family '{name}' is a {} already and cannot be a {} too",
                    family.kind.name(),
                    kind.name()
                ),
            ));
        }
        let family = Arc::new(Self {
            name: name.to_owned(),
            help: help.replace('\\', "\\\\").replace('\n', "\\n"),
            kind,
            metrics: Mutex::default(),
        });
        families.insert(name.to_owned(), Arc::downgrade(&family));
        Ok(family)
    }

    /// The metric with these labels, made if nobody holds it.
    ///
    /// # Errors
    /// If a label has no usable name, or buckets are missing, empty or out of place.
    pub fn metric(
        self: &Arc<Self>,
        labels: &BTreeMap<String, String>,
        buckets: Option<&[f64]>,
    ) -> Result<Arc<Metric>, Error> {
        let name = &self.name;
        if let Some(label) = labels.keys().find(|label| !is_name(label, false)) {
            return Err(Error::invalid(format!(
                "label '{label}' of metric family '{name}' has no usable name; letters, digits and \
                 '_' are accepted, no digit first"
            )));
        }
        let buckets = match (self.kind, buckets) {
            (Kind::Histogram, Some(bounds)) if !bounds.is_empty() => Some(Buckets::new(bounds)),
            (Kind::Histogram, _) => {
                return Err(Error::invalid(format!(
                    "a metric of the histogram family '{name}' has no buckets; a list of upper \
                     bounds is expected"
                )));
            }
            (_, None) => None,
            (kind, Some(_)) => {
                return Err(Error::invalid(format!(
                    "a metric of the {} family '{name}' has buckets; only histograms have them",
                    kind.name()
                )));
            }
        };
        let text = label_text(labels);
        let mut metrics = self.metrics.lock();
        if let Some(metric) = metrics.get(&text).and_then(Weak::upgrade) {
            return Ok(metric);
        }
        let metric = Arc::new(Metric {
            family: Arc::clone(self),
            value: AtomicU64::new(0),
            buckets,
        });
        metrics.insert(text, Arc::downgrade(&metric));
        Ok(metric)
    }

    /// The metrics that somebody holds, with their labels.
    pub fn metrics(&self) -> Vec<(String, Arc<Metric>)> {
        let mut metrics = self.metrics.lock();
        metrics.retain(|_, metric| metric.strong_count() > 0);
        let held = metrics.iter();
        held.filter_map(|(labels, metric)| Some((labels.clone(), metric.upgrade()?)))
            .collect()
    }
}

impl Metric {
    /// The value of a counter or gauge.
    ///
    /// # Errors
    /// If it is a histogram.
    pub fn value(&self) -> Result<f64, Error> {
        match self.buckets {
            None => Ok(f64::from_bits(self.value.load(Relaxed))),
            Some(_) => Err(self.refusal("has no single value")),
        }
    }

    /// Adds to a counter or gauge.
    ///
    /// # Errors
    /// If it is a histogram, or a counter would shrink.
    pub fn increment(&self, by: f64) -> Result<(), Error> {
        match self.family.kind {
            Kind::Histogram => Err(self.refusal("cannot be incremented; observe numbers")),
            Kind::Counter if by < 0.0 || by.is_nan() => Err(self.refusal(&format!(
                "cannot be incremented by {by}; numbers from 0 are accepted"
            ))),
            _ => {
                add(&self.value, by);
                Ok(())
            }
        }
    }

    /// Sets a gauge.
    ///
    /// # Errors
    /// If it is none.
    pub fn set(&self, value: f64) -> Result<(), Error> {
        if self.family.kind != Kind::Gauge {
            return Err(self.refusal("cannot be set; only gauges can"));
        }
        self.value.store(value.to_bits(), Relaxed);
        Ok(())
    }

    /// Counts a number in a histogram.
    ///
    /// # Errors
    /// If it is none.
    pub fn observe(&self, value: f64) -> Result<(), Error> {
        match &self.buckets {
            Some(buckets) => {
                buckets.observe(value);
                Ok(())
            }
            None => Err(self.refusal("cannot observe numbers; only histograms can")),
        }
    }

    /// The buckets of a histogram.
    #[must_use]
    pub const fn buckets(&self) -> Option<&Buckets> {
        self.buckets.as_ref()
    }

    fn refusal(&self, what: &str) -> Error {
        let family = &self.family;
        let kind = family.kind.name();
        Error::unsupported(format!("{kind} metric '{}' {what}", family.name))
    }
}

fn is_name(name: &str, of_family: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (of_family && c == ':');
    name.chars().all(fits) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn label_text(labels: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        pair(&mut text, name, value);
    }
    text
}

/// Adds a label with its value in quotes.
pub(crate) fn pair(labels: &mut String, name: &str, value: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_shared_while_it_is_held_and_gone_afterwards() {
        let one = Family::named("test_shared", "first", Kind::Counter).unwrap();
        let two = Family::named("test_shared", "second", Kind::Counter).unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert!(Family::named("test_shared", "third", Kind::Gauge).is_err());
        let labels = BTreeMap::from([("a".to_owned(), "b\"c".to_owned())]);
        let metric = one.metric(&labels, None).unwrap();
        one.metric(&labels, None).unwrap().increment(2.0).unwrap();
        assert_eq!(metric.value(), Ok(2.0));
        assert!(metric.increment(-1.0).is_err());
        assert_eq!(one.metrics().first().unwrap().0, "a=\"b\\\"c\"");
        drop((one, two));
        assert!(Family::named("test_shared", "", Kind::Gauge).is_err());
        drop(metric);
        assert!(Family::named("test_shared", "", Kind::Gauge).is_ok());
    }

    #[test]
    fn names_are_those_that_prometheus_takes() {
        for (name, fits) in [("a:b_1", true), ("1a", false), ("", false), ("a b", false)] {
            assert_eq!(Family::named(name, "", Kind::Gauge).is_ok(), fits, "{name}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Quantiles of a stream of numbers, each within its own error, over the last minute.
//!
//! A [`Sketch`] is the targeted-quantiles summary of Cormode, Korn, Muthukrishnan and Srivastava (2005): it
//! keeps only as many samples as the wanted quantiles need. A [`Window`] lets old samples go as Prometheus'
//! client libraries do it: several sketches of staggered age, of which the oldest answers. There is no clock
//! here; whoever observes says what time it is.

use std::time::Duration;

/// A quantile and how far its rank may be off, both as parts of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Which quantile, from 0 to 1.
    pub quantile: f64,
    /// The error of its rank, from 0 to 1.
    pub error: f64,
}

impl Target {
    /// How far the rank of a sample at `rank` of `count` may be uncertain for this target's sake.
    fn allowance(self, rank: f64, count: f64) -> f64 {
        let Self { quantile, error } = self;
        // What the paper allows grows with the distance from the quantile, which would let the answer be off
        // by more than was asked: this much less keeps it within.
        let error = error / (1.0 + 2.0 * error / (1.0 - quantile).max(f64::MIN_POSITIVE));
        if rank >= (quantile * count).floor() {
            2.0 * error * rank / quantile.max(f64::MIN_POSITIVE)
        } else {
            2.0 * error * (count - rank) / (1.0 - quantile).max(f64::MIN_POSITIVE)
        }
    }
}

/// Samples are taken into the summary this many at a time.
const BUFFER: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Sample {
    value: f64,
    /// How many observations lie between the sample before and this one, this one included.
    gap: u32,
    /// How uncertain its rank is.
    slack: u32,
}

/// A summary of numbers from which the targets' quantiles can be read.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    samples: Vec<Sample>,
    buffer: Vec<f64>,
    /// Observations in `samples`.
    count: u64,
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // Ranks are estimates.
impl Sketch {
    /// Takes one number in; what is not a number is left out.
    pub fn insert(&mut self, value: f64, targets: &[Target]) {
        if value.is_nan() {
            return;
        }
        self.buffer.push(value);
        if self.buffer.len() >= BUFFER {
            self.settle(targets);
        }
    }

    /// The value at `quantile`; `None` if nothing was observed.
    pub fn query(&mut self, quantile: f64, targets: &[Target]) -> Option<f64> {
        self.settle(targets);
        let last = self.samples.last()?;
        let count = self.count as f64;
        let wanted = (quantile * count).ceil();
        let limit = wanted + (allowance(targets, wanted, count) / 2.0).floor();
        let mut rank = 0.0;
        let mut before = self.samples.first()?.value;
        for sample in &self.samples {
            if rank + f64::from(sample.gap + sample.slack) > limit {
                return Some(before);
            }
            rank += f64::from(sample.gap);
            before = sample.value;
        }
        Some(last.value)
    }

    /// Samples that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len() + self.buffer.len()
    }

    /// Whether nothing was observed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.buffer.clear();
        self.count = 0;
    }

    /// Merges the buffer into the samples and drops those that no target needs.
    fn settle(&mut self, targets: &[Target]) {
        if self.buffer.is_empty() {
            return;
        }
        self.buffer.sort_unstable_by(f64::total_cmp);
        let mut merged = Vec::with_capacity(self.samples.len() + self.buffer.len());
        let mut old = self.samples.drain(..).peekable();
        let mut rank = 0.0;
        for value in self.buffer.drain(..) {
            while let Some(sample) = old.next_if(|sample| sample.value <= value) {
                rank += f64::from(sample.gap);
                merged.push(sample);
            }
            self.count += 1;
            // At either end the rank is known exactly.
            let slack = match merged.is_empty() || old.peek().is_none() {
                true => 0,
                false => {
                    (allowance(targets, rank, self.count as f64).floor() as u32).saturating_sub(1)
                }
            };
            merged.push(Sample {
                value,
                gap: 1,
                slack,
            });
            rank += 1.0;
        }
        merged.extend(old);
        self.samples = compress(merged, targets, self.count as f64);
    }
}

fn allowance(targets: &[Target], rank: f64, count: f64) -> f64 {
    let each = targets.iter().map(|target| target.allowance(rank, count));
    each.fold(count + 1.0, f64::min)
}

/// Joins neighbours where the uncertainty that follows is allowed.
fn compress(samples: Vec<Sample>, targets: &[Target], count: f64) -> Vec<Sample> {
    let mut before: Vec<f64> = Vec::with_capacity(samples.len());
    let mut rank = 0.0;
    for sample in &samples {
        before.push(rank);
        rank += f64::from(sample.gap);
    }
    let mut kept: Vec<Sample> = Vec::with_capacity(samples.len());
    // From the end, so that a sample is joined into the greater one behind it.
    for (sample, rank) in samples.into_iter().zip(before).rev() {
        match kept.last_mut() {
            Some(next)
                if rank > 0.0
                    && f64::from(sample.gap + next.gap + next.slack)
                        <= allowance(targets, rank, count) =>
            {
                next.gap += sample.gap;
            }
            _ => kept.push(sample),
        }
    }
    kept.reverse();
    kept
}

/// Sketches of staggered age in a [`Window`].
const AGES: usize = 5;
/// How long a sample counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Quantiles of what was observed in the last minute, and the count and sum of all there ever was.
#[derive(Clone, Debug)]
pub struct Window {
    targets: Vec<Target>,
    ages: Vec<Sketch>,
    oldest: usize,
    /// When the oldest sketch is emptied next.
    turns: Option<Duration>,
    count: u64,
    sum: f64,
}

impl Window {
    /// A window for these quantiles.
    #[must_use]
    pub fn new(targets: &[Target]) -> Self {
        Self {
            targets: targets.to_vec(),
            ages: vec![Sketch::default(); AGES],
            oldest: 0,
            turns: None,
            count: 0,
            sum: 0.0,
        }
    }

    /// Takes one number in, at `now` on any clock that only goes forward.
    pub fn observe(&mut self, value: f64, now: Duration) {
        self.turn(now);
        self.count += 1;
        self.sum += value;
        for sketch in &mut self.ages {
            sketch.insert(value, &self.targets);
        }
    }

    /// The wanted quantiles with their values, NaN for one without observations.
    pub fn quantiles(&mut self, now: Duration) -> Vec<(f64, f64)> {
        self.turn(now);
        let Some(oldest) = self.ages.get_mut(self.oldest) else {
            return Vec::new();
        };
        let targets = &self.targets;
        let read = |target: &Target| {
            let value = oldest.query(target.quantile, targets);
            (target.quantile, value.unwrap_or(f64::NAN))
        };
        targets.iter().map(read).collect()
    }

    /// How many numbers were observed, and their sum.
    #[must_use]
    pub const fn totals(&self) -> (u64, f64) {
        (self.count, self.sum)
    }

    fn turn(&mut self, now: Duration) {
        #[allow(clippy::cast_possible_truncation)]
        let step = WINDOW / AGES as u32;
        let turns = *self.turns.get_or_insert(now + step);
        let mut next = turns;
        for _ in 0..AGES {
            if now < next {
                break;
            }
            if let Some(oldest) = self.ages.get_mut(self.oldest) {
                oldest.clear();
            }
            self.oldest = (self.oldest + 1) % AGES;
            next += step;
        }
        // Nobody looked for longer than the whole window: everything is empty, and time starts again.
        self.turns = Some(if now < next { next } else { now + step });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_is_older_than_a_minute_but_not_that_it_was() {
        let mut window = Window::new(&[Target {
            quantile: 0.5,
            error: 0.05,
        }]);
        window.observe(7.0, Duration::from_secs(1));
        assert_eq!(window.quantiles(Duration::from_secs(40)), [(0.5, 7.0)]);
        window.observe(9.0, Duration::from_secs(50));
        assert_eq!(window.quantiles(Duration::from_secs(62)), [(0.5, 9.0)]);
        let later = window.quantiles(Duration::from_secs(1000));
        assert!(later.iter().all(|(_, value)| value.is_nan()));
        assert_eq!(window.totals(), (2, 16.0));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What decoupled models' responses took, by their place among the responses to one request
//! (`response_stats`, `spec/triton.md` 7.2).
//!
//! A response is computed from the moment in which the one before it was handed over, the first from the
//! moment in which its batch left the queue; then its outputs are taken over. A request that ends without
//! another response has an empty one at the end.

use std::time::Duration;

use parking_lot::Mutex;

use crate::latencies::nanoseconds;

/// Places that are told apart. Later responses are counted in none: the page would grow with every stream
/// that is longer than those before.
const PLACES: usize = 1_024;

/// A count and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their time in nanoseconds.
    pub ns: u64,
}

impl Tally {
    fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.ns += nanoseconds(duration);
    }
}

/// The responses at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtPlace {
    /// Time of the model.
    pub compute_infer: Tally,
    /// Time to take over outputs; empty responses have none.
    pub compute_output: Tally,
    /// Responses, with both times.
    pub success: Tally,
    /// Errors, with both times.
    pub fail: Tally,
    /// Ends without a response.
    pub empty_response: Tally,
    /// What was made for nobody, since the client had gone.
    pub cancel: Tally,
}

/// What a response was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One with outputs.
    Success,
    /// An error.
    Fail,
    /// The end, and nothing else.
    Empty,
    /// Something that nobody waited for.
    Cancelled,
}

/// The responses of a version by their place.
#[derive(Debug, Default)]
pub struct ResponseStatistics(Mutex<Vec<AtPlace>>);

impl ResponseStatistics {
    /// Counts the response at `place` that the model computed for `infer` and that was taken over in
    /// `output`.
    pub fn count(&self, place: usize, kind: Kind, infer: Duration, output: Duration) {
        if place >= PLACES {
            return;
        }
        let mut places = self.0.lock();
        if places.len() <= place {
            places.resize(place + 1, AtPlace::default());
        }
        let Some(at) = places.get_mut(place) else {
            return;
        };
        if kind == Kind::Cancelled {
            at.cancel.add(infer + output);
            return;
        }
        at.compute_infer.add(infer);
        if kind == Kind::Empty {
            at.empty_response.add(infer);
            return;
        }
        at.compute_output.add(output);
        match kind {
            Kind::Fail => at.fail.add(infer + output),
            _ => at.success.add(infer + output),
        }
    }

    /// All places, from the first.
    pub fn read(&self) -> Vec<AtPlace> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_times_that_belong_to_it() {
        let statistics = ResponseStatistics::default();
        let ms = Duration::from_millis;
        for (place, kind) in [
            (0, Kind::Success),
            (0, Kind::Fail),
            (1, Kind::Empty),
            (2, Kind::Cancelled),
        ] {
            statistics.count(place, kind, ms(2), ms(1));
        }
        statistics.count(PLACES, Kind::Success, ms(2), ms(1));
        let tally = |count, millis: u64| Tally {
            count,
            ns: millis * 1_000_000,
        };
        let first = AtPlace {
            compute_infer: tally(2, 4),
            compute_output: tally(2, 2),
            success: tally(1, 3),
            fail: tally(1, 3),
            ..AtPlace::default()
        };
        let second = AtPlace {
            compute_infer: tally(1, 2),
            empty_response: tally(1, 2),
            ..AtPlace::default()
        };
        let third = AtPlace {
            cancel: tally(1, 3),
            ..AtPlace::default()
        };
        assert_eq!(statistics.read(), [first, second, third]);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the control plane may set about gRPC connections and their answers.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use nerite_logic::Error;
use nerite_logic::wire::compression::Effort;
use serde::Deserialize;

/// Milliseconds from which on gRPC means "never".
const NEVER: u64 = i32::MAX as u64;

/// Settings of gRPC, fixed for an engine's life. Times are milliseconds; 2147483647 is never.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcOptions {
    /// How hard infer answers are compressed: `none`, `low`, `medium` or `high`.
    pub compression: String,
    /// How long a peer may be silent before it is asked whether it is there.
    pub keepalive_time_ms: u64,
    /// How long it may take to say so.
    pub keepalive_timeout_ms: u64,
    /// How long a connection takes new calls.
    pub max_connection_age_ms: u64,
    /// How long its last calls may take after that.
    pub max_connection_age_grace_ms: u64,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            compression: "none".into(),
            keepalive_time_ms: 7_200_000,
            keepalive_timeout_ms: 20_000,
            max_connection_age_ms: NEVER,
            max_connection_age_grace_ms: NEVER,
        }
    }
}

impl GrpcOptions {
    /// # Errors
    /// If a value is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let level = self.compression.as_str();
        if level != "none" && self.effort().is_none() {
            return Err(Error::invalid(format!(
                "engine option 'grpc.compression' is '{level}', expected none, low, medium or high"
            )));
        }
        Ok(())
    }

    /// How hard infer answers are compressed, if they are.
    #[must_use]
    pub fn effort(&self) -> Option<Effort> {
        Effort::named(&self.compression)
    }

    /// How long a peer may be silent.
    #[must_use]
    pub fn keepalive_time(&self) -> Option<Duration> {
        some(self.keepalive_time_ms)
    }

    /// How long an answer to a ping may take.
    #[must_use]
    pub const fn keepalive_timeout(&self) -> Duration {
        Duration::from_millis(self.keepalive_timeout_ms)
    }

    /// How old a connection may get, give or take a tenth, so that not all end together.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        // A hasher's keys are the randomness that the standard library has.
        let chance = RandomState::new().hash_one(()) % 201;
        some(self.max_connection_age_ms)
            .map(|age| age / 1000 * 900 + age / 1000 * u32::try_from(chance).unwrap_or(0))
    }

    /// How long its last calls may take.
    #[must_use]
    pub fn age_grace(&self) -> Option<Duration> {
        some(self.max_connection_age_grace_ms)
    }
}

fn some(millis: u64) -> Option<Duration> {
    (millis < NEVER).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_and_never_is_never() {
        let options = GrpcOptions {
            max_connection_age_ms: 1_000,
            ..GrpcOptions::default()
        };
        let ages: Vec<_> = (0..100).filter_map(|_| options.age()).collect();
        let (low, high) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(low < high);
        assert!(*low >= Duration::from_millis(900) && *high <= Duration::from_millis(1_100));
        assert_eq!(GrpcOptions::default().age(), None);
        assert_eq!(options.age_grace(), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Hunts for bytes that a parser cannot take: inputs that are nearly right, for a bounded time each.
//!
//! No coverage-guided fuzzer, because those need a nightly compiler; what guides the hunt is the answer
//! (see [`hunt`]). Held for every input: nothing panics, memory is bounded by what was sent (see
//! [`memory`]), and what was understood is understood again after it was written.
//! `NERITE_FUZZ_SECONDS` and `NERITE_FUZZ_SEED` choose how long and which; `make fuzz` sets both.
#![allow(clippy::unwrap_used, clippy::panic)]

mod graphs;
mod grpc;
mod http;
mod hunt;
mod json;
mod memory;
mod protobuf;
mod seeds;
mod v1;

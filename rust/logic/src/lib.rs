// SPDX-License-Identifier: Apache-2.0
//! The pure half of Nerite's data plane.
//!
//! Everything here is a value or a function of values: bytes become messages ([`wire`]), messages are
//! held against a model's declaration ([`spec`], [`check`]), and requests are put into batches
//! ([`schedulers`]); [`gateway`] routes between services. There is no clock, thread, lock or socket in this crate; time is an argument. What
//! is decided here is done by the `engine` crate.
#![forbid(unsafe_code)]

pub mod access;
pub mod cache;
pub mod check;
pub mod datatype;
pub mod error;
pub mod forwarding;
pub mod gateway;
pub mod message;
pub mod parts;
pub mod quantiles;
pub mod rate_limit;
pub mod schedulers;
pub mod spec;
pub mod wire;

pub use datatype::DataType;
pub use error::{Code, Error};

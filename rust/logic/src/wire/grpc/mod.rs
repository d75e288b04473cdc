// SPDX-License-Identifier: Apache-2.0
//! gRPC: protobuf messages of `inference.GRPCInferenceService` and the frames they travel in.
//!
//! Infer requests and answers are read and written by hand in [`infer`], [`contents`] and [`answer`],
//! because they are the hot path: tensor data and text stay slices of the message, and an answer is one
//! buffer of exactly the right size. All other messages are plain prost ([`messages`]). HTTP/2, metadata
//! and trailers are the engine's.

pub mod answer;
pub mod arrival;
pub mod authority;
pub mod contents;
pub mod frame;
pub mod infer;
pub mod messages;
mod parameters;
pub mod peek;
pub mod reader;
pub mod reflection;
pub mod stream;
pub mod timeout;
pub mod version;

pub use answer::{Asked, Frame, encode_infer};
pub use arrival::Arrival;
pub use frame::{Refusal, Unframed, frame, unframe};
pub use infer::{InferEnvelope, parse_infer};
pub use stream::{encode_empty, encode_failure, encode_streamed};
pub use timeout::parse_timeout;
pub use version::parse_version;

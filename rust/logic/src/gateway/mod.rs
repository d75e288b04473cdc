// SPDX-License-Identifier: Apache-2.0
//! What the gateway decides, without a socket.
//!
//! [`table`] reads the routes that the control plane compiled and says which component a request is for,
//! [`weights`] shares requests out exactly, [`failure`] is the one table of the statuses that only a
//! proxy answers, [`headers`] knows which headers end at each hop. [`graph`] has the rules of
//! InferenceGraphs: [`condition`]s on a body, [`payload`]s from step to step, [`propagation`] of
//! headers. [`batching`] joins V1 requests.

pub mod batching;
pub mod condition;
pub mod failure;
pub mod graph;
pub mod headers;
pub mod payload;
pub mod propagation;
pub mod table;
pub mod weights;

#[cfg(test)]
mod tests;

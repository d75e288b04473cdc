// SPDX-License-Identifier: Apache-2.0
//! Conditions of InferenceGraphs: gjson paths, which hold if what they name exists.
//!
//! KServe's router evaluates them with the Go library gjson, whose corners graphs have come to rely on:
//! a pipe after nothing still runs its modifier, a query for all matches exists without any, `{...}` and
//! `[...]` always exist. The Rust crate of that name is older and differs in seven of the recorded
//! conditions, so the paths are walked here, over a parsed document. [`path`] takes paths apart, [`walk`]
//! follows them, [`modifiers`] has what begins with `@`.

mod document;
mod modifiers;
mod path;
mod query;
mod walk;

#[cfg(test)]
mod tests;

pub use document::Document;

/// Whether what `path` names exists in `document`.
#[must_use]
pub fn holds(document: &Document, path: &str) -> bool {
    walk::get(Some(document), path).is_some()
}

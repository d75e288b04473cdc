// SPDX-License-Identifier: Apache-2.0
//! Which versions clients reach under which name.
//!
//! The table is a value that is replaced whole: a request sees one state of it, never a half-made one,
//! and keeps the version it found for as long as it needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use nerite_logic::Error;

use crate::version::Version;

/// The versions of one model.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Versions that accept requests, ascending.
    pub ready: Vec<Arc<Version>>,
    /// Versions that are known and do not.
    pub unready: Vec<u64>,
}

/// All models by name.
#[derive(Clone, Debug, Default)]
pub struct Table {
    models: BTreeMap<String, Entry>,
}

impl Table {
    /// This table with `name` meaning `entry`.
    #[must_use]
    pub fn with(&self, name: &str, mut entry: Entry) -> Self {
        entry.ready.sort_by_key(|version| version.number);
        let mut models = self.models.clone();
        models.insert(name.to_owned(), entry);
        Self { models }
    }

    /// This table without `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut models = self.models.clone();
        models.remove(name);
        Self { models }
    }

    /// What is known about `name`.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.models.get(name)
    }

    /// The version that a request for `name` reaches: the one asked for, or the highest.
    ///
    /// # Errors
    /// Triton's texts for a model or version that is unknown or not ready (`spec/triton.md` 1.4).
    pub fn find(&self, name: &str, version: Option<u64>) -> Result<&Arc<Version>, Error> {
        let unknown = || format!("Request for unknown model: '{name}'");
        let entry = self
            .models
            .get(name)
            .ok_or_else(|| Error::not_found(format!("{} is not found", unknown())))?;
        let Some(number) = version else {
            return entry.ready.last().ok_or_else(|| {
                Error::not_found(format!("{} has no available versions", unknown()))
            });
        };
        if let Some(found) = entry.ready.iter().find(|version| version.number == number) {
            return Ok(found);
        }
        Err(if entry.unready.contains(&number) {
            Error::unavailable(format!(
                "{} version {number} is not at ready state",
                unknown()
            ))
        } else {
            Error::not_found(format!("{} version {number} is not found", unknown()))
        })
    }

    /// The names of all models, whether they accept requests or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    /// Every version that accepts requests, by name and number.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.models.values().flat_map(|entry| &entry.ready)
    }
}

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

/// What stands between the name of a model and its namespace in a key of the table; no name has it.
const NAMESPACE: char = '\0';

/// All models by name, or, where models have namespaces, by name and namespace.
#[derive(Clone, Debug, Default)]
pub struct Table {
    models: BTreeMap<String, Entry>,
    /// Name -> keys, of models that have a namespace.
    namespaced: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// This table with `name` meaning `entry`.
    #[must_use]
    pub fn with(&self, name: &str, mut entry: Entry) -> Self {
        entry.ready.sort_by_key(|version| version.number);
        let mut table = self.clone();
        if let Some((model, _)) = name.split_once(NAMESPACE) {
            let keys = table.namespaced.entry(model.to_owned()).or_default();
            if !keys.iter().any(|key| key == name) {
                keys.push(name.to_owned());
            }
        }
        table.models.insert(name.to_owned(), entry);
        table
    }

    /// This table without `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut table = self.clone();
        table.models.remove(name);
        for keys in table.namespaced.values_mut() {
            keys.retain(|key| key != name);
        }
        table.namespaced.retain(|_, keys| !keys.is_empty());
        table
    }

    /// What is known about `name`.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.resolve(name).ok().flatten()
    }

    /// The entry that `name` means: a key, or the only model of that name in any namespace.
    fn resolve(&self, name: &str) -> Result<Option<&Entry>, Error> {
        if let Some(entry) = self.models.get(name) {
            return Ok(Some(entry));
        }
        match self.namespaced.get(name).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([key]) => Ok(self.models.get(key)),
            Some(keys) => Err(Error::invalid(format!(
                "There are {} identifiers of model '{name}' in global map, \
                 model namespace must be provided to resolve ambiguity.",
                keys.len()
            ))),
        }
    }

    /// The version that a request for `name` reaches: the one asked for, or the highest.
    ///
    /// # Errors
    /// Triton's texts for a model or version that is unknown or not ready (`spec/triton.md` 1.4).
    pub fn find(&self, name: &str, version: Option<u64>) -> Result<&Arc<Version>, Error> {
        let unknown = || format!("Request for unknown model: '{name}'");
        let entry = self
            .resolve(name)?
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

    /// The names of all models, whether they accept requests or not, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        let names = self
            .models
            .keys()
            .map(|key| match key.split_once(NAMESPACE) {
                Some((name, _)) => name,
                None => key.as_str(),
            });
        // Keys are in order, so those of one name are neighbours.
        names.filter(move |name| last.replace(*name) != Some(*name))
    }

    /// Every version that accepts requests, by name and number.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.models.values().flat_map(|entry| &entry.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(table: &Table, name: &str) -> String {
        table.find(name, None).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_name_means_the_only_model_that_has_it_in_any_namespace() {
        let entry = Entry::default;
        let table = Table::default()
            .with("m\0/a", entry())
            .with("m\0/a", entry())
            .with("n", entry());
        assert!(told(&table, "m").ends_with("has no available versions"));
        let table = table.with("m\0/b", entry());
        assert!(
            told(&table, "m").starts_with("There are 2 identifiers of model 'm' in global map")
        );
        assert!(table.entry("m").is_none());
        assert_eq!(table.names().collect::<Vec<_>>(), ["m", "n"]);
        assert!(told(&table, "m\0/b").ends_with("has no available versions"));
        let table = table.without("m\0/a");
        assert!(told(&table, "m").ends_with("has no available versions"));
        let table = table.without("m\0/b");
        assert!(told(&table, "m").ends_with("is not found"));
        assert!(told(&table, "n").ends_with("has no available versions"));
    }
}

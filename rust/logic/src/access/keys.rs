// SPDX-License-Identifier: Apache-2.0
//! API keys: what each is for, and which one a text is.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable};

use super::glob::matches;
use super::{Digest, Scope};
use crate::error::{Code, Error};

/// A key as the control plane hands it over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// What its owner calls it.
    pub name: String,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// Patterns of the names of models that it is for.
    pub models: Vec<String>,
}

/// A key, without the key itself.
#[derive(Clone, Debug)]
pub struct Key {
    /// What its owner calls it.
    pub name: String,
    digest: Digest,
    scopes: Vec<Scope>,
    models: Vec<String>,
}

impl Key {
    /// A key of this digest.
    #[must_use]
    pub fn new(name: &str, digest: Digest, scopes: &[Scope], models: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            digest,
            scopes: scopes.to_vec(),
            models,
        }
    }

    /// Whether it has a scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether it is for a model.
    #[must_use]
    pub fn is_for(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| matches(pattern, model))
    }

    /// Whether it is for every model.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.models.iter().any(|pattern| pattern == "*")
    }

    /// Patterns of the names of models that it is for.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.models
    }

    /// Its scopes as a list: `infer, metrics`.
    #[must_use]
    pub fn scopes_text(&self) -> String {
        let names: Vec<&str> = self.scopes.iter().map(|scope| scope.name()).collect();
        names.join(", ")
    }
}

/// All keys of a server.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Arc<Key>>);

impl Keys {
    /// Reads a JSON array of [`KeyEntry`].
    ///
    /// # Errors
    /// If it is none. The text holds no part of what was read.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let wrong = |what: fmt::Arguments<'_>| Error::invalid(format!("API keys: {what}"));
        let entries: Vec<KeyEntry> = serde_json::from_str(json)
            .map_err(|why| wrong(format_args!("not usable at column {}", why.column())))?;
        let key = |entry: KeyEntry| {
            let digest = Digest::from_hex(&entry.sha256).ok_or_else(|| {
                wrong(format_args!(
                    "the digest of '{}' is not 64 hexadecimal digits",
                    entry.name
                ))
            })?;
            let key = Key::new(&entry.name, digest, &entry.scopes, entry.models);
            Ok(Arc::new(key))
        };
        entries
            .into_iter()
            .map(key)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The key that a text is. Every key is looked at, whether or not one was found before.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<&Arc<Key>> {
        let digest = Digest::of(text);
        let (mut found, mut index) = (Choice::from(0), 0_u32);
        for (number, key) in (0_u32..).zip(&self.0) {
            let same = key.digest.equals(&digest);
            index.conditional_assign(&number, same);
            found |= same;
        }
        let key = self.0.get(usize::try_from(index).ok()?)?;
        bool::from(found).then_some(key)
    }

    /// The key that the values of the `authorization` headers of a request show.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if there is none, more than one, or one that is not known.
    pub fn shown<'a>(
        &self,
        mut headers: impl Iterator<Item = &'a [u8]>,
    ) -> Result<&Arc<Key>, Error> {
        let refused = |text| Err(Error::new(Code::Unauthenticated, text));
        let bearer = headers.next().and_then(bearer);
        let Some(text) = bearer else {
            return refused("an API key is needed: send the header 'Authorization: Bearer KEY'");
        };
        if headers.next().is_some() {
            return refused("there is more than one header 'Authorization'; send one");
        }
        match self.find(text) {
            Some(key) => Ok(key),
            None => refused("the API key is not known to this server"),
        }
    }
}

/// What follows `Bearer `, in whatever case that word is.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
        .filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Keys {
        let key = |name: &str, text: &[u8]| {
            let models = vec!["*".to_owned()];
            Arc::new(Key::new(name, Digest::of(text), &[Scope::Infer], models))
        };
        Keys(vec![key("first", b"one"), key("second", b"two")])
    }

    #[test]
    fn a_key_is_found_by_its_text_alone() {
        let keys = two();
        for (text, name) in [
            (&b"one"[..], Some("first")),
            (b"two", Some("second")),
            (b"three", None),
            (b"", None),
        ] {
            let found = keys.find(text).map(|key| key.name.as_str());
            assert_eq!(found, name);
        }
        assert!(Keys::default().find(b"one").is_none());
    }

    #[test]
    fn one_bearer_header_shows_a_key() {
        let keys = two();
        for (headers, expect) in [
            (vec![&b"Bearer one"[..]], Ok("first")),
            (vec![b"bearer  two "], Ok("second")),
            (vec![], Err("an API key is needed")),
            (vec![b"Basic one"], Err("an API key is needed")),
            (vec![b"Bearer "], Err("an API key is needed")),
            (vec![b"Bearerone"], Err("an API key is needed")),
            (vec![b"Bearer three"], Err("is not known")),
            (vec![b"Bearer one", b"Bearer one"], Err("more than one")),
            (vec![b"Bearer x", b"Bearer one"], Err("more than one")),
        ] {
            match (keys.shown(headers.iter().copied()), expect) {
                (Ok(key), Ok(name)) => assert_eq!(key.name, name),
                (Err(why), Err(part)) => {
                    assert_eq!(why.code, Code::Unauthenticated);
                    assert!(why.message.contains(part), "{why}");
                }
                (got, _) => panic!("{headers:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn keys_are_read_from_json_and_errors_hold_nothing_of_it() {
        let hex = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let json = format!(
            r#"[{{"name":"ci","sha256":"{hex}","scopes":["infer","manage"],"models":["a*"]}}]"#
        );
        let keys = Keys::from_json(&json).unwrap();
        let key = keys.find(b"secret").unwrap();
        assert!(key.has(Scope::Manage) && !key.has(Scope::Metrics));
        assert!(key.is_for("ab") && !key.is_for("b") && !key.is_for_all());
        for wrong in [json.replace("infer", "admin"), json.replace(hex, "zz-top")] {
            let told = Keys::from_json(&wrong).unwrap_err().to_string();
            assert!(
                !told.contains("admin") && !told.contains("zz-top"),
                "{told}"
            );
        }
    }
}

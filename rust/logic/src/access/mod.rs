// SPDX-License-Identifier: Apache-2.0
//! Who may ask for what: scopes, keys, restrictions, and the one decision over them.
//!
//! What a route or a call needs is told by the engine's table of routes; who asks is told by its sockets
//! and headers. Here is only what follows from both ([`Need::met`]). Secrets come in as text and are kept
//! as digests, so that nothing that prints these values can print a secret.

mod digest;
mod glob;
mod keys;
mod restrictions;

use std::fmt;

pub use digest::Digest;
pub use keys::{Key, KeyEntry, Keys};
pub use restrictions::{Category, Group, Restrictions};

use crate::error::{Code, Error};

/// What a key may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Asking models.
    Infer,
    /// Changing the server: settings, what is loaded.
    Manage,
    /// Reading the metrics page.
    Metrics,
}

impl Scope {
    /// Every scope, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Infer, Self::Manage, Self::Metrics];

    /// As it is written in a file of keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Manage => "manage",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an endpoint needs of whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: probes have no keys.
    Nothing,
    /// A key of whatever scope.
    AnyKey,
    /// A key of this scope.
    Scope(Scope),
}

/// What an endpoint touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The model of this name.
    Model(&'a str),
    /// The server as a whole; lists of models are cut to what the key is for.
    Server,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The key that was shown; `None` where the server has no keys.
    pub key: Option<&'a Key>,
    /// Whether management is answered without a key: a loopback peer, or a flag that says so.
    pub may_manage: bool,
}

impl Need {
    /// Whether `asker` may ask `what` (`POST /v2/logging`) of `subject`.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` with what would be needed.
    pub fn met(
        self,
        asker: Asker<'_>,
        subject: Subject<'_>,
        what: fmt::Arguments<'_>,
    ) -> Result<(), Error> {
        let Some(key) = asker.key else {
            return match self {
                Self::Scope(Scope::Manage) if !asker.may_manage => Err(denied(format!(
                    "{what} manages the server and is answered to loopback peers only; send a key \
                     with scope 'manage' (--api-keys) or start the server with \
                     --allow-remote-management"
                ))),
                _ => Ok(()),
            };
        };
        let name = &key.name;
        match self {
            Self::Nothing => return Ok(()),
            Self::AnyKey => {}
            Self::Scope(scope) if key.has(scope) => {}
            Self::Scope(scope) => {
                return Err(denied(format!(
                    "API key '{name}' has no scope '{scope}', which {what} needs; it has {}",
                    key.scopes_text()
                )));
            }
        }
        match (subject, self) {
            (Subject::Model(model), _) if !key.is_for(model) => Err(denied(format!(
                "API key '{name}' is not for model '{model}'"
            ))),
            // Whoever manages the whole server manages every model of it.
            (Subject::Server, Self::Scope(Scope::Manage)) if !key.is_for_all() => {
                Err(denied(format!(
                    "API key '{name}' is for some models only, and {what} concerns all of them"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The asker is known, and may not.
fn denied(message: String) -> Error {
    Error::new(Code::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scopes: &[Scope], models: &[&str]) -> Key {
        let models = models.iter().map(ToString::to_string).collect();
        Key::new("k", Digest::of(b"secret"), scopes, models)
    }

    #[test]
    fn without_keys_only_management_from_afar_is_refused() {
        for (need, may_manage, met) in [
            (Need::Nothing, false, true),
            (Need::AnyKey, false, true),
            (Need::Scope(Scope::Infer), false, true),
            (Need::Scope(Scope::Metrics), false, true),
            (Need::Scope(Scope::Manage), false, false),
            (Need::Scope(Scope::Manage), true, true),
        ] {
            let asker = Asker {
                key: None,
                may_manage,
            };
            let told = need.met(asker, Subject::Server, format_args!("it"));
            assert_eq!(told.is_ok(), met, "{need:?} {may_manage}");
        }
    }

    #[test]
    fn a_key_is_held_to_its_scopes_and_its_models() {
        let model = Subject::Model("team-a/ranker");
        let cases = [
            (key(&[Scope::Infer], &["*"]), Scope::Infer, model, ""),
            (key(&[Scope::Infer], &["team-a/*"]), Scope::Infer, model, ""),
            (
                key(&[Scope::Infer], &["team-b/*", "x"]),
                Scope::Infer,
                model,
                "API key 'k' is not for model 'team-a/ranker'",
            ),
            (
                key(&[Scope::Infer, Scope::Metrics], &["*"]),
                Scope::Manage,
                Subject::Server,
                "API key 'k' has no scope 'manage', which it needs; it has infer, metrics",
            ),
            (
                key(&[Scope::Manage], &["team-a/*"]),
                Scope::Manage,
                Subject::Server,
                "API key 'k' is for some models only, and it concerns all of them",
            ),
            (
                key(&[Scope::Manage], &["team-a/*"]),
                Scope::Manage,
                model,
                "",
            ),
            // Being near does not stand for a scope once there are keys.
            (
                key(&[Scope::Infer], &["*"]),
                Scope::Manage,
                model,
                "API key 'k' has no scope 'manage', which it needs; it has infer",
            ),
        ];
        for (key, scope, subject, expect) in cases {
            let asker = Asker {
                key: Some(&key),
                may_manage: true,
            };
            let told = Need::Scope(scope).met(asker, subject, format_args!("it"));
            let text = told.map_or_else(|why| why.message.into_owned(), |()| String::new());
            assert_eq!(text, expect, "{key:?}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Which headers of a request its model sees as parameters (`spec/triton.md` 1.10, 2.5).

use bytestring::ByteString;
use regex::bytes::{Regex, RegexBuilder};

use crate::error::Error;
use crate::message::{Parameter, Parameters};

/// Headers that show who asks are nobody else's business, whatever the pattern says.
const SECRET: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// What the names of headers that open restricted calls begin with.
const RESTRICTED: &[u8] = b"triton-grpc-protocol-";

/// Parameters that mean something to the server; a header must not set them.
const RESERVED: [&str; 7] = [
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "binary_data_output",
    "headers",
];

/// The pattern of names of headers that are forwarded.
#[derive(Debug)]
pub struct Forwarding {
    pattern: Regex,
    /// Names that open restricted endpoints.
    secret: Vec<String>,
}

impl Forwarding {
    /// Forwards what fits `pattern`, anywhere in the name and in whatever case unless it says `(?-i)`;
    /// never the headers named `secret`. An empty pattern forwards nothing.
    ///
    /// # Errors
    /// If the pattern is no regular expression; `option` is the flag that it was given with.
    pub fn new<'a>(
        option: &str,
        pattern: &str,
        secret: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Self>, Error> {
        if pattern.is_empty() {
            return Ok(None);
        }
        // Names are ASCII, so the tables of Unicode are not needed.
        let compiled = RegexBuilder::new(pattern)
            .case_insensitive(true)
            .unicode(false)
            .build()
            .map_err(|why| {
                let why = why.to_string();
                let why = why.lines().last().unwrap_or_default();
                Error::invalid(format!(
                    "{option}: '{pattern}' is not a regular expression: {why}"
                ))
            })?;
        Ok(Some(Self {
            pattern: compiled,
            secret: secret.map(str::to_owned).collect(),
        }))
    }

    /// Whether a header of this name is forwarded.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let is = |secret: &str| secret.eq_ignore_ascii_case(name);
        let begins = name.as_bytes().get(..RESTRICTED.len());
        let opens = begins.is_some_and(|begin| begin.eq_ignore_ascii_case(RESTRICTED))
            || self.secret.iter().any(|secret| is(secret));
        !opens && !SECRET.into_iter().any(is) && self.pattern.is_match(name.as_bytes())
    }

    /// Makes a parameter of a header that is forwarded. The last of equal names counts, and a header
    /// counts for more than a parameter of the request itself.
    ///
    /// # Errors
    /// If the name is one that the server itself understands, or the value is not text.
    pub fn add(&self, parameters: &mut Parameters, name: &str, value: &[u8]) -> Result<(), Error> {
        if RESERVED.contains(&name) || name.starts_with("triton_") {
            return Err(Error::invalid(format!(
                "Header '{name}' is reserved for Triton usage and cannot be forwarded."
            )));
        }
        let text = std::str::from_utf8(value).map_err(|_| {
            Error::invalid(format!(
                "Header '{name}' is not UTF-8 text and cannot be forwarded"
            ))
        })?;
        parameters.retain(|(known, _)| known != name);
        parameters.push((ByteString::from(name), Parameter::String(text.into())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding(pattern: &str) -> Forwarding {
        let secret = ["X-Admin"].into_iter();
        Forwarding::new("--flag", pattern, secret).unwrap().unwrap()
    }

    #[test]
    fn names_fit_anywhere_and_secrets_never() {
        for (pattern, name, taken) in [
            ("(my-.*|Case)", "My-Key", true),
            ("(my-.*|Case)", "case", true),
            ("(my-.*|Case)", "not-my-key", true),
            ("^my-", "not-my-key", false),
            ("(?-i)my-", "My-Key", false),
            (".*", "other", true),
            (".*", "authorization", false),
            (".*", "Proxy-Authorization", false),
            (".*", "Cookie", false),
            (".*", "x-admin", false),
            (".*", "Triton-Grpc-Protocol-K", false),
        ] {
            assert_eq!(forwarding(pattern).takes(name), taken, "{pattern} {name}");
        }
    }

    #[test]
    fn no_pattern_forwards_nothing_and_a_wrong_one_is_told() {
        let none = || std::iter::empty();
        assert!(Forwarding::new("--flag", "", none()).unwrap().is_none());
        let why = Forwarding::new("--flag", "my-(", none()).unwrap_err();
        assert!(
            why.message
                .starts_with("--flag: 'my-(' is not a regular expression: error:")
        );
    }

    #[test]
    fn the_last_header_wins_over_the_first_and_over_the_body() {
        let mut parameters = vec![
            ("my-a".into(), Parameter::Int(1)),
            ("other".into(), Parameter::Int(2)),
        ];
        let forwarding = forwarding("my-");
        for value in [b"1", b"2"] {
            forwarding.add(&mut parameters, "my-a", value).unwrap();
        }
        let text = |text: &'static str| Parameter::String(text.into());
        let expect = [("other", Parameter::Int(2)), ("my-a", text("2"))];
        assert_eq!(parameters, expect.map(|(name, value)| (name.into(), value)));
    }

    #[test]
    fn a_header_does_not_take_the_place_of_what_the_server_understands() {
        let forwarding = forwarding(".*");
        for (name, value) in [
            ("sequence_id", &b"1"[..]),
            ("priority", b"1"),
            ("triton_final_response", b"1"),
            ("my-binary", b"\xff"),
        ] {
            let told = forwarding
                .add(&mut Parameters::new(), name, value)
                .unwrap_err();
            assert!(told.message.contains(name) && told.message.contains("cannot be forwarded"));
        }
    }
}

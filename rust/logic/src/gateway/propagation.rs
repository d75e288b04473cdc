// SPDX-License-Identifier: Apache-2.0
//! Which headers of a request the steps of a graph are sent.

use regex::Regex;

/// Headers that go with every request wherever it goes: without them its trail is lost, or the bytes
/// behind the JSON of a V2 body.
const ALWAYS: [&str; 4] = [
    "inference-header-content-length",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// Patterns as KServe's router has them in `PROPAGATE_HEADERS`: case-sensitive on the canonical form of a
/// name (`X-My-Header`), found anywhere in it. One that does not compile is left out.
#[derive(Clone, Debug, Default)]
pub struct Propagation(Vec<Regex>);

impl Propagation {
    /// Patterns; empty ones match nothing (there they match every header).
    pub fn new<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Self {
        let patterns = patterns.into_iter().filter(|pattern| !pattern.is_empty());
        Self(
            patterns
                .filter_map(|pattern| Regex::new(pattern).ok())
                .collect(),
        )
    }

    /// Whether steps are sent the header of this name, which is in lower case.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        if ALWAYS.contains(&name) {
            return true;
        }
        if self.0.is_empty() || matches!(name, "host" | "content-length") {
            return false;
        }
        let name = canonical(name);
        self.0.iter().any(|pattern| pattern.is_match(&name))
    }
}

/// `x-my-header` as `X-My-Header`.
fn canonical(name: &str) -> String {
    let mut begins = true;
    name.chars()
        .map(|c| {
            let shown = if begins { c.to_ascii_uppercase() } else { c };
            begins = c == '-';
            shown
        })
        .collect()
}

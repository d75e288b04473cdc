// SPDX-License-Identifier: Apache-2.0
//! Triton's restricted endpoints: groups of them that want a header (`spec/triton.md` 1.10, 2.5).

use serde::Deserialize;

use super::Digest;

/// The group of endpoints that a restriction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Category {
    Health,
    Metadata,
    Inference,
    SharedMemory,
    ModelConfig,
    ModelRepository,
    Statistics,
    Trace,
    Logging,
}

/// Categories and the header that they want.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What is restricted.
    pub categories: Vec<Category>,
    /// The header's name.
    pub header: String,
    /// The value that it must have.
    value: String,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({:?}, {:?}, ..)", self.categories, self.header)
    }
}

#[derive(Clone, Debug)]
struct Restriction {
    categories: Vec<Category>,
    header: String,
    value: Digest,
}

/// All restrictions of one protocol.
#[derive(Clone, Debug, Default)]
pub struct Restrictions(Vec<Restriction>);

impl Restrictions {
    /// Of these groups; no category is in two of them.
    #[must_use]
    pub fn new(groups: &[Group]) -> Self {
        let restriction = |group: &Group| Restriction {
            categories: group.categories.clone(),
            header: group.header.clone(),
            value: Digest::of(group.value.as_bytes()),
        };
        Self(groups.iter().map(restriction).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a category is open to a request; if not, the header that it wants. Of a header that was sent
    /// more than once every value must be right: which one a proxy looked at is not known.
    ///
    /// # Errors
    /// The name of the header.
    pub fn allow<'h, V: Iterator<Item = &'h [u8]>>(
        &self,
        category: Category,
        sent: impl FnOnce(&str) -> V,
    ) -> Result<(), &str> {
        let found = self
            .0
            .iter()
            .find(|each| each.categories.contains(&category));
        let Some(restriction) = found else {
            return Ok(());
        };
        let mut values = sent(&restriction.header).peekable();
        let right = |value: &[u8]| bool::from(restriction.value.equals(&Digest::of(value)));
        if values.peek().is_some() && values.all(right) {
            return Ok(());
        }
        Err(&restriction.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restricted_category_wants_its_header_with_its_value() {
        let groups: Vec<Group> = serde_json::from_str(
            r#"[{"categories":["model-repository","logging"],"header":"K1","value":"v1"},
                {"categories":["inference"],"header":"k3","value":"v3"}]"#,
        )
        .unwrap();
        assert!(!format!("{groups:?}").contains("v1"));
        let all = Restrictions::new(&groups);
        for (category, sent, expect) in [
            (Category::Metadata, vec![], Ok(())),
            (Category::Logging, vec![], Err("K1")),
            (Category::Logging, vec![("k1", "v1")], Ok(())),
            (Category::Logging, vec![("k1", "v3")], Err("K1")),
            (Category::Logging, vec![("k3", "v1")], Err("K1")),
            (
                Category::Logging,
                vec![("k1", "v1"), ("k1", "x")],
                Err("K1"),
            ),
            (Category::Inference, vec![("k1", "v1")], Err("k3")),
            (Category::Inference, vec![("k3", "v3")], Ok(())),
        ] {
            let told = all.allow(category, |header| {
                let header = header.to_owned();
                let pairs = sent.clone().into_iter();
                pairs
                    .filter(move |pair| header.eq_ignore_ascii_case(pair.0))
                    .map(|pair| pair.1.as_bytes())
            });
            assert_eq!(told, expect, "{category:?} {sent:?}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Patterns of model names: `*` is any text, `?` any one character, all else itself.

/// Whether a name fits a pattern; takes time in proportion to both at worst, whatever they are.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit: the star takes one more.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(one) if *one == '?' || name.get(n) == Some(one) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = retry else {
                    return false;
                };
                retry = Some((after, taken + 1));
                p = after;
                n = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "anything", true),
            ("ranker", "ranker", true),
            ("ranker", "Ranker", false),
            ("ranker", "ranker2", false),
            ("team-*", "team-a", true),
            ("team-*", "other-team-a", false),
            ("*-a", "team-a-a", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("?", "ü", true),
            ("?", "", false),
            ("a?", "a", false),
            ("", "", true),
            ("", "a", false),
            ("[ab]", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        // A hostile name does not make a pattern slow.
        assert!(!matches(&"*a".repeat(64), &"b".repeat(4096)));
    }
}

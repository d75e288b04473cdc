// SPDX-License-Identifier: Apache-2.0
//! Seeds, cut, doubled, crossed and spoiled; an input that is answered as none before becomes a seed.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const LONGEST: usize = 1 << 16;

/// Numbers in a row that depend on nothing but their seed (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(name: &str) -> Self {
        let seed = std::env::var("NERITE_FUZZ_SEED").unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (seed, name).hash(&mut hasher);
        Self(hasher.finish())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn seconds() -> Duration {
    let text = std::env::var("NERITE_FUZZ_SECONDS").unwrap_or_else(|_| "0.5".into());
    Duration::from_secs_f64(text.parse().unwrap())
}

/// Calls `hold` with each seed and then with changed ones until the time is up. `hold` panics if what
/// must hold does not, and else tells how it was answered.
pub fn hunt(
    name: &str,
    seeds: Vec<Vec<u8>>,
    spoilers: &[&[u8]],
    hold: impl Fn(&[u8], &mut Random) -> String,
) {
    let mut random = Random::new(name);
    let (mut pool, mut known) = (seeds, HashSet::new());
    assert!(!pool.is_empty(), "{name}: no seeds");
    let (first, end) = (pool.len(), Instant::now() + seconds());
    let mut count = 0;
    while count < first || Instant::now() < end {
        let mut input = if count < first {
            pool[count].clone()
        } else {
            changed(&pool, spoilers, &mut random)
        };
        input.truncate(LONGEST);
        count += 1;
        let begun = Instant::now();
        let answer = catch_unwind(AssertUnwindSafe(|| hold(&input, &mut random)));
        let Ok(answer) = answer else {
            panic!("{name}: input {count}: b\"{}\"", input.escape_ascii());
        };
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{name}: {} bytes took seconds",
            input.len()
        );
        if known.len() < 5000 && known.insert(outline(&answer)) {
            pool.push(input);
        }
    }
    assert!(known.len() > 2, "{name}: only {known:?}");
}

/// An answer without its own numbers and names.
fn outline(answer: &str) -> String {
    let (mut out, mut quoted) = (String::new(), false);
    for mark in answer.chars().take(200) {
        quoted ^= mark == '\'';
        if !quoted && !mark.is_ascii_digit() {
            out.push(mark);
        }
    }
    out
}

fn changed(pool: &[Vec<u8>], spoilers: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.one(pool).clone();
    for _ in 0..*random.one(&[1, 1, 1, 2, 3, 6]) {
        change(&mut bytes, pool, spoilers, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, pool: &[Vec<u8>], spoilers: &[&[u8]], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + *random.one(&[1, 1, 2, 4, 8, 40])).min(bytes.len());
    match random.below(9) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..end, random.one(spoilers).to_vec())),
        2 => drop(bytes.splice(at..at, random.one(spoilers).to_vec())),
        3 => {
            let piece = bytes[at..end].repeat(*random.one(&[1, 1, 2, 100]));
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = random.one(pool);
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            bytes.splice(at..end, other[from..to].to_vec());
        }
        5 => bytes.truncate(at),
        6 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        7 if at < bytes.len() => bytes[at] = *random.one(&[0, 1, 0x7f, 0x80, 0xff]),
        _ if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
        _ => bytes.push(random.next().to_le_bytes()[0]),
    }
}

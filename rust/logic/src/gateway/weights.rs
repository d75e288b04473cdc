// SPDX-License-Identifier: Apache-2.0
//! Shares that come out exactly: smooth weighted round robin.

/// Deals out turns by weight: over any run of as many turns as the weights add up to, each index gets
/// exactly its weight, and its turns are spread out rather than bunched.
#[derive(Clone, Debug)]
pub struct Shares {
    weights: Vec<i64>,
    credit: Vec<i64>,
    total: i64,
}

impl Shares {
    /// Shares of these weights.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        Self {
            credit: vec![0; weights.len()],
            total: weights.iter().sum(),
            weights,
        }
    }

    /// Whose turn it is; `None` if nobody has a weight.
    pub fn turn(&mut self) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        for (index, (credit, weight)) in self.credit.iter_mut().zip(&self.weights).enumerate() {
            if *weight == 0 {
                continue;
            }
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (index, _) = best?;
        if let Some(credit) = self.credit.get_mut(index) {
            *credit -= self.total;
        }
        Some(index)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The response cache as a value: which requests are the same ([`key`]), what an answer costs, and which
//! answers stay.
//!
//! A [`Store`] keeps the answers that were used last, as long as what they cost together is within its size.
//! Whoever holds it brings the lock; what leaves the store is handed back, so that it is freed outside.

pub mod key;

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lru::LruCache;
use smallvec::SmallVec;

use crate::message::{InferResponse, Tensor};
use crate::spec::ModelSpec;
use key::{Key, Uniform};

/// What an answer costs beside its data: its key, its places in the table and in the order of use, and the
/// allocations behind them (`tests/cache_memory.rs` holds them to it).
pub const ENTRY_BYTES: usize = 512;
/// Outputs that an answer has room for, and dimensions that a shape has; more lie elsewhere, all of them.
const OUTPUTS: usize = 2;
const DIMENSIONS: usize = 4;

/// What it costs to keep an answer.
#[must_use]
pub fn cost(response: &InferResponse) -> usize {
    let elsewhere = |count, room, size| if count > room { count * size } else { 0 };
    let of = |tensor: &Tensor| {
        tensor.data.len() + elsewhere(tensor.shape.len(), DIMENSIONS, size_of::<i64>())
    };
    ENTRY_BYTES
        + elsewhere(response.outputs.len(), OUTPUTS, size_of::<Tensor>())
        + response.outputs.iter().map(of).sum::<usize>()
}

/// The part of an answer that is kept: its outputs, copied out of whatever they were slices of, so that an
/// answer keeps no batch, no body and nothing of Python's alive. Parameters are not kept, as in Triton.
#[must_use]
pub fn kept(response: &InferResponse, spec: &ModelSpec) -> InferResponse {
    let total = response.outputs.iter().map(|tensor| tensor.data.len());
    let mut data = BytesMut::with_capacity(total.sum());
    for tensor in &response.outputs {
        data.extend_from_slice(&tensor.data);
    }
    let mut data: Bytes = data.freeze();
    let own = |tensor: &Tensor| Tensor {
        name: match spec.output(&tensor.name) {
            Some(declared) => declared.name.clone(),
            None => tensor.name.to_string().into(),
        },
        datatype: tensor.datatype,
        shape: SmallVec::from_slice(&tensor.shape),
        data: data.split_to(tensor.data.len()),
    };
    let mut kept = InferResponse::default();
    kept.outputs.reserve_exact(response.outputs.len());
    kept.outputs.extend(response.outputs.iter().map(own));
    kept
}

#[derive(Debug)]
struct Entry {
    response: Arc<InferResponse>,
    cost: usize,
}

/// Answers by key, least recently used first to go.
#[derive(Debug)]
pub struct Store {
    entries: LruCache<Key, Entry, BuildHasherDefault<Uniform>>,
    size: usize,
    used: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
}

/// What a store has seen, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that are kept.
    pub entries: usize,
    /// What they cost together.
    pub used: usize,
    /// What they may cost.
    pub size: usize,
    /// Requests whose answer was there.
    pub hits: u64,
    /// Requests whose answer was not.
    pub misses: u64,
    /// Answers that left to make room.
    pub evictions: u64,
}

impl Store {
    /// An empty store for answers that cost at most `size` together.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            entries: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
            size,
            used: 0,
            hits: 0,
            misses: 0,
            evictions: 0,
        }
    }

    /// Whether an answer of this cost can be kept at all.
    #[must_use]
    pub const fn has_room(&self, cost: usize) -> bool {
        cost <= self.size
    }

    /// The answer to a request, which thereby is the one used last.
    pub fn get(&mut self, key: &Key) -> Option<Arc<InferResponse>> {
        let found = self.entries.get(key);
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found.map(|entry| Arc::clone(&entry.response))
    }

    /// Keeps an answer in the place of what was kept for the same request, and returns all that leave
    /// for it. One that is larger than the store comes back.
    pub fn put(&mut self, key: Key, response: Arc<InferResponse>) -> Vec<Arc<InferResponse>> {
        let cost = cost(&response);
        if !self.has_room(cost) {
            return vec![response];
        }
        let mut left = Vec::new();
        if let Some(before) = self.entries.pop(&key) {
            self.used -= before.cost;
            left.push(before.response);
        }
        while self.used + cost > self.size {
            let Some((_, oldest)) = self.entries.pop_lru() else {
                break;
            };
            self.used -= oldest.cost;
            self.evictions += 1;
            left.push(oldest.response);
        }
        self.used += cost;
        self.entries.put(key, Entry { response, cost });
        left
    }

    /// How it stands.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            entries: self.entries.len(),
            used: self.used,
            size: self.size,
            hits: self.hits,
            misses: self.misses,
            evictions: self.evictions,
        }
    }
}

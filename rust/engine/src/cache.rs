// SPDX-License-Identifier: Apache-2.0
//! The response cache of an engine: one store for all models that have `response_cache` enabled.
//!
//! A request to such a model looks here on its I/O thread, after it was checked and before it is queued. A
//! hit is answered there and then: no queue, no instance, no Python. What was not here is put in when its
//! answer is back on the same thread. Requests that are under way at the same time miss each for itself, as
//! in Triton. What is decided is in `nerite_logic::cache`.
//!
//! There is one lock, held for a look into a table and a few links: a key is hashed, an answer copied and
//! what had to leave is freed outside of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nerite_logic::cache::key::{Key, key};
use nerite_logic::cache::{Counts, Store, cost, kept};
use nerite_logic::message::{InferRequest, InferResponse};
use parking_lot::Mutex;

use crate::lane::Outcome;
use crate::statistics::Spent;
use crate::version::Version;

/// The answers that are kept.
#[derive(Debug)]
pub struct Cache {
    secret: [u8; 32],
    size: usize,
    store: Mutex<Store>,
    generations: AtomicU64,
    /// Looks, whether something was found or not.
    pub lookups: Spent,
    /// Answers that were put in.
    pub insertions: Spent,
}

impl Cache {
    /// An empty cache for answers that take at most `size` bytes; none for 0.
    #[must_use]
    pub fn new(size: usize) -> Option<Arc<Self>> {
        let mut secret = [0; 32];
        for half in secret.chunks_exact_mut(16) {
            half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        let made = || {
            Arc::new(Self {
                secret,
                size,
                store: Mutex::new(Store::new(size)),
                generations: AtomicU64::new(0),
                lookups: Spent::default(),
                insertions: Spent::default(),
            })
        };
        (size > 0).then(made)
    }

    /// A place in it for a version that was loaded just now.
    #[must_use]
    pub fn admit(self: &Arc<Self>, ordered: bool) -> Cached {
        Cached {
            cache: Arc::clone(self),
            generation: self.generations.fetch_add(1, Relaxed),
            under_way: ordered.then(AtomicUsize::default),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.store.lock().counts()
    }

    fn get(&self, key: &Key) -> Option<Arc<InferResponse>> {
        self.store.lock().get(key)
    }

    fn put(&self, key: Key, version: &Version, response: &InferResponse) {
        if cost(response) <= self.size {
            let response = Arc::new(kept(response, &version.spec));
            let left = self.store.lock().put(key, response);
            drop(left);
        }
    }
}

/// A version's place in the cache.
#[derive(Debug)]
pub struct Cached {
    cache: Arc<Cache>,
    /// No other version has it, nor this one when it is loaded again.
    generation: u64,
    /// Requests that were not answered from here and are not answered yet, if answers must leave in order.
    under_way: Option<AtomicUsize>,
}

impl Cached {
    /// The answer to a request that came when it was `received`, or what it takes to keep the one that the
    /// model will give.
    ///
    /// # Errors
    /// There is none, which is none.
    pub fn answer(
        &self,
        version: &Arc<Version>,
        request: &InferRequest,
        received: Instant,
    ) -> Result<InferResponse, Missed> {
        let began = Instant::now();
        let key = key(&self.cache.secret, self.generation, request);
        // An answer from here must not overtake those that are still being made.
        let free = self.under_way.as_ref().is_none_or(|n| n.load(Relaxed) == 0);
        let found = free.then(|| self.cache.get(&key)).flatten();
        let now = Instant::now();
        let looked = now.saturating_duration_since(began);
        self.cache.lookups.add(1, looked);
        match found {
            Some(response) => {
                let waited = began.saturating_duration_since(received);
                let lasted = now.saturating_duration_since(received);
                version
                    .statistics
                    .answered_from_cache(waited, lasted, looked);
                Ok(InferResponse::clone(&response))
            }
            None => Err(self.missed(version, key, looked)),
        }
    }
}

impl Cached {
    fn missed(&self, version: &Arc<Version>, key: Key, looked: Duration) -> Missed {
        if let Some(under_way) = &self.under_way {
            under_way.fetch_add(1, Relaxed);
        }
        Missed {
            version: Arc::clone(version),
            key,
            looked,
        }
    }
}

/// A request whose answer was not kept, until it has one.
#[derive(Debug)]
pub struct Missed {
    version: Arc<Version>,
    key: Key,
    looked: Duration,
}

impl Missed {
    /// Keeps what the model answered, if it is an answer.
    pub fn answered(self, outcome: &Outcome) {
        let mut took = self.looked;
        if let (Ok(response), Some(cached)) = (outcome, self.version.cached.get()) {
            let began = Instant::now();
            cached.cache.put(self.key, &self.version, response);
            let put = began.elapsed();
            cached.cache.insertions.add(1, put);
            took += put;
        }
        self.version.statistics.missed_the_cache(took);
    }
}

impl Drop for Missed {
    fn drop(&mut self) {
        let cached = self.version.cached.get();
        if let Some(under_way) = cached.and_then(|cached| cached.under_way.as_ref()) {
            under_way.fetch_sub(1, Relaxed);
        }
    }
}

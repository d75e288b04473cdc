// SPDX-License-Identifier: Apache-2.0
//! Instances that wait for the resources which they hold while they execute; `logic::rate_limit` decides.
//!
//! An instance without resources, and every instance of a server without `--rate-limit`, has no [`Turn`]
//! and comes by here never. A queue's lock may be held when one is put back, and never while one waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use nerite_logic::Error;
use nerite_logic::rate_limit::{Group, Member, RateLimiter};
use parking_lot::{Condvar, Mutex};

/// The resources of a server.
#[derive(Debug)]
pub struct RateLimit {
    limiter: Mutex<RateLimiter>,
    /// Rung when somebody was granted what it waits for.
    granted: Condvar,
}

impl RateLimit {
    /// These resources, and as much of others as one instance needs.
    #[must_use]
    pub fn new(resources: BTreeMap<String, u32>) -> Arc<Self> {
        Arc::new(Self {
            limiter: Mutex::new(RateLimiter::new(resources)),
            granted: Condvar::new(),
        })
    }

    fn tell(&self, change: impl FnOnce(&mut RateLimiter, &mut Vec<Member>)) {
        let mut granted = Vec::new();
        change(&mut self.limiter.lock(), &mut granted);
        if !granted.is_empty() {
            self.granted.notify_all();
        }
    }
}

/// The places of a version's instances; they are given up with it.
#[derive(Debug)]
pub struct Places {
    limit: Arc<RateLimit>,
    members: Vec<Member>,
    /// Those that no instance has claimed yet, with the names of their groups.
    free: Mutex<Vec<(String, Member)>>,
    /// The version has nothing to do any more.
    over: Mutex<bool>,
}

impl Places {
    /// Admits the instances of the groups that need resources.
    ///
    /// # Errors
    /// In Triton's words, if one of them could never run.
    pub fn admit(limit: &Arc<RateLimit>, groups: &[Group]) -> Result<Self, Error> {
        let mut places = Self {
            limit: Arc::clone(limit),
            members: Vec::new(),
            free: Mutex::default(),
            over: Mutex::default(),
        };
        for group in groups {
            if group.rate_limiter.resources.is_empty() {
                continue;
            }
            let members = limit.limiter.lock().admit(group)?;
            let named = members.iter().map(|member| (group.name.clone(), *member));
            places.free.get_mut().extend(named);
            places.members.extend(members);
        }
        Ok(places)
    }

    /// The turn of the instance called `{group}_{number}`; `None` if it needs nothing.
    pub fn claim(self: &Arc<Self>, instance: &str) -> Option<Turn> {
        let group = instance.rsplit_once('_')?.0;
        let mut free = self.free.lock();
        let index = free.iter().position(|(name, _)| name == group)?;
        Some(Turn {
            member: free.remove(index).1,
            places: Arc::clone(self),
            holds: false,
            ran: false,
        })
    }

    /// Lets go on whoever waits here, to see that nothing is left to do.
    pub fn end(&self) {
        *self.over.lock() = true;
        let _limiter = self.limit.limiter.lock();
        self.limit.granted.notify_all();
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for member in &self.members {
            self.limit
                .tell(|limiter, granted| limiter.dismiss(*member, granted));
        }
    }
}

/// An instance's hold on its resources.
#[derive(Debug)]
pub struct Turn {
    places: Arc<Places>,
    member: Member,
    holds: bool,
    ran: bool,
}

impl Turn {
    /// Whether it must be waited for before the next batch is taken.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        !self.holds || self.ran
    }

    /// Notes that a batch was taken.
    pub const fn begin(&mut self) {
        self.ran = true;
    }

    /// Gives up what the last batch held, and waits until the next one may run; it may not if the version
    /// has ended meanwhile.
    pub fn wait(&mut self) {
        let limit = &self.places.limit;
        let mut granted = Vec::new();
        let mut limiter = limit.limiter.lock();
        limiter.stage(self.member, self.holds && self.ran, &mut granted);
        if granted.iter().any(|member| *member != self.member) {
            limit.granted.notify_all();
        }
        while !limiter.holds(self.member) && !*self.places.over.lock() {
            limit.granted.wait(&mut limiter);
        }
        self.holds = limiter.holds(self.member);
        self.ran = false;
    }

    /// Gives up what is held, as there is nothing to do.
    pub fn put_back(&mut self) {
        let (member, ran) = (self.member, self.holds && self.ran);
        self.places
            .limit
            .tell(|limiter, granted| limiter.rest(member, ran, granted));
        self.holds = false;
        self.ran = false;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.put_back();
    }
}

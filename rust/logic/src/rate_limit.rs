// SPDX-License-Identifier: Apache-2.0
//! Which instances may run together: resources that they hold while they execute (`spec/triton.md` 5.10).
//!
//! A value without clock or thread. The engine stages an instance that has work, learns which staged ones
//! are granted their resources, and says when one is done. Among the staged the one with the smallest
//! turn goes first, and nobody overtakes it, so that one that needs much gets it as well; a turn grows by
//! the instance's priority with each execution. All devices are the CPU here, so that a name is one count.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::error::Error;

/// Names an instance.
pub type Member = u64;

/// An instance group that needs resources, as the configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many instances it has.
    pub count: u32,
    /// They receive no work.
    pub passive: bool,
    /// What each of them needs.
    pub rate_limiter: Need,
}

/// What an instance needs while it executes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Need {
    /// Resources that are held together.
    pub resources: Vec<Resource>,
    /// 2 gets half the turns of 1; 0 is 1.
    pub priority: u32,
}

/// So much of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// What it is called.
    pub name: String,
    /// How much is needed.
    pub count: u32,
    /// It is there once for all devices.
    pub global: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Waits, since this number.
    Staged(u64),
    Holds,
}

#[derive(Debug)]
struct Entry {
    need: Need,
    /// The sum of its priorities over its executions; the smallest goes first.
    turn: u64,
    state: State,
}

/// The resources of a server and the instances that need them.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// What the operator says there is; of other resources there is the most that one instance needs.
    fixed: BTreeMap<String, u32>,
    members: HashMap<Member, Entry>,
    held: BTreeMap<String, u64>,
    /// The next number of a member, and of a place among the staged.
    next: u64,
}

impl RateLimiter {
    /// A limiter of these resources and nobody who needs them.
    #[must_use]
    pub fn new(fixed: BTreeMap<String, u32>) -> Self {
        Self {
            fixed,
            ..Self::default()
        }
    }

    /// Admits the instances of a group.
    ///
    /// # Errors
    /// In Triton's words, if there is less of a resource than one of them needs, or it is global in one
    /// place and not in another.
    pub fn admit(&mut self, group: &Group) -> Result<Vec<Member>, Error> {
        let need = &group.rate_limiter;
        for (index, resource) in need.resources.iter().enumerate() {
            let others = self.members.values().flat_map(|m| &m.need.resources);
            let mut others = others.chain(&need.resources[..index]);
            if others.any(|o| o.name == resource.name && o.global != resource.global) {
                return Err(Error::invalid(format!(
                    "Resource \"{}\" is present as both global and device-specific resource in the model \
                     configuration.",
                    resource.name
                )));
            }
            let limit = self.fixed.get(&resource.name);
            if let Some(limit) = limit.filter(|limit| **limit < resource.count) {
                return Err(Error::invalid(format!(
                    "Resource count for \"{}\" is limited to {limit} which will prevent scheduling of one or \
                     more model instances, the minimum required count is {}",
                    resource.name, resource.count
                )));
            }
        }
        // A newcomer has no turns to make up for.
        let turn = self.members.values().map(|m| m.turn).min().unwrap_or(0);
        let members = (0..group.count).map(|_| {
            let member = self.number();
            let entry = Entry {
                need: once(need),
                turn,
                state: State::Idle,
            };
            self.members.insert(member, entry);
            member
        });
        Ok(members.collect())
    }

    /// Forgets an instance, whatever it holds; who may run then is put into `granted`.
    pub fn dismiss(&mut self, member: Member, granted: &mut Vec<Member>) {
        self.put_back(member, false);
        self.members.remove(&member);
        self.grant(granted);
    }

    /// Says that an instance has work and, if it held resources, whether it `ran` with them; who may run
    /// then, perhaps it, is put into `granted`.
    pub fn stage(&mut self, member: Member, ran: bool, granted: &mut Vec<Member>) {
        self.put_back(member, ran);
        let place = self.number();
        if let Some(entry) = self.members.get_mut(&member) {
            entry.state = State::Staged(place);
        }
        self.grant(granted);
    }

    /// Says that an instance has no work, and whether it `ran`; who may run then is put into `granted`.
    pub fn rest(&mut self, member: Member, ran: bool, granted: &mut Vec<Member>) {
        self.put_back(member, ran);
        self.grant(granted);
    }

    /// Whether an instance has its resources.
    #[must_use]
    pub fn holds(&self, member: Member) -> bool {
        self.members
            .get(&member)
            .is_some_and(|entry| entry.state == State::Holds)
    }

    /// How much there is of a resource.
    #[must_use]
    pub fn available(&self, name: &str) -> u32 {
        let needs = self.members.values().flat_map(|m| &m.need.resources);
        let most = needs.filter(|r| r.name == name).map(|r| r.count).max();
        self.fixed
            .get(name)
            .copied()
            .unwrap_or(most.unwrap_or_default())
    }

    /// How much of a resource is held.
    #[must_use]
    pub fn held(&self, name: &str) -> u64 {
        self.held.get(name).copied().unwrap_or_default()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn put_back(&mut self, member: Member, ran: bool) {
        let Some(entry) = self.members.get_mut(&member) else {
            return;
        };
        if entry.state == State::Holds {
            for resource in &entry.need.resources {
                if let Some(held) = self.held.get_mut(&resource.name) {
                    *held = held.saturating_sub(resource.count.into());
                }
            }
            if ran {
                entry.turn += u64::from(entry.need.priority.max(1));
            }
        }
        entry.state = State::Idle;
    }

    fn grant(&mut self, granted: &mut Vec<Member>) {
        while let Some(first) = self.first()
            && self.fits(first)
            && let Some(entry) = self.members.get_mut(&first)
        {
            entry.state = State::Holds;
            for resource in &entry.need.resources {
                *self.held.entry(resource.name.clone()).or_default() += u64::from(resource.count);
            }
            granted.push(first);
        }
    }

    fn first(&self) -> Option<Member> {
        let staged = self.members.iter().filter_map(|(member, entry)| {
            let State::Staged(place) = entry.state else {
                return None;
            };
            Some((entry.turn, place, *member))
        });
        staged.min().map(|(_, _, member)| member)
    }

    fn fits(&self, member: Member) -> bool {
        self.members.get(&member).is_some_and(|entry| {
            entry.need.resources.iter().all(|resource| {
                let wanted = self.held(&resource.name) + u64::from(resource.count);
                wanted <= u64::from(self.available(&resource.name))
            })
        })
    }
}

/// A need in which each resource stands once: the most that is asked of it.
fn once(need: &Need) -> Need {
    let mut resources: Vec<Resource> = Vec::new();
    for resource in &need.resources {
        match resources
            .iter_mut()
            .find(|known| known.name == resource.name)
        {
            Some(known) => known.count = known.count.max(resource.count),
            None => resources.push(resource.clone()),
        }
    }
    Need {
        resources,
        priority: need.priority,
    }
}

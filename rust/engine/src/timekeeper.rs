// SPDX-License-Identifier: Apache-2.0
//! One thread that wakes queues whose requests run out of time while every instance is busy.
//!
//! An idle instance watches the clock itself; this thread exists so that a queue timeout is on time
//! behind a busy one (Triton notices only when the instance is free again, `spec/triton.md` 10.1 #9).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::version::Version;

#[derive(Default)]
struct State {
    /// When to look at which queue; the earliest on top.
    alarms: BinaryHeap<Reverse<Alarm>>,
    stopped: bool,
    started: bool,
}

struct Alarm {
    at: Instant,
    version: Weak<Version>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Alarm {}
impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// The alarms of an engine. Its thread starts with the first one.
#[derive(Default)]
pub struct Timekeeper {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timekeeper")
            .field("alarms", &self.state.lock().alarms.len())
            .finish()
    }
}

impl Timekeeper {
    /// Has `version` look at its queue at `at`.
    pub fn arm(self: &Arc<Self>, at: Instant, version: Weak<Version>) {
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        if !state.started {
            let keeper = Arc::clone(self);
            let name = "nerite-time".to_owned();
            state.started = thread::Builder::new()
                .name(name)
                .spawn(move || keeper.run())
                .is_ok();
        }
        state.alarms.push(Reverse(Alarm { at, version }));
        self.changed.notify_one();
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.alarms.clear();
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stopped {
            let Some(at) = state.alarms.peek().map(|alarm| alarm.0.at) else {
                self.changed.wait(&mut state);
                continue;
            };
            if Instant::now() < at {
                self.changed.wait_until(&mut state, at);
                continue;
            }
            let due = state.alarms.pop();
            // A queue sends replies and may arm again: not under this lock.
            parking_lot::MutexGuard::unlocked(&mut state, || {
                if let Some(version) = due.and_then(|alarm| alarm.0.version.upgrade()) {
                    version.expire(Instant::now());
                }
            });
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What must hold for every sequence of requests, settings and times.
//!
//! A run plays random events against a scheduler as the engine would: timers are honoured, and a free
//! instance asks after every push and at every time it was told to wait for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test's failure.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nerite_logic::Code;
use nerite_logic::schedulers::{BatchKey, Next, Reason, Refused, Reorder, Scheduler, Ticket};
use nerite_logic::spec::{DynamicBatching, Priorities, QueuePolicy, SchedulerSpec, TimeoutAction};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Push {
        rows: u32,
        key: i64,
        priority: u32,
        timeout: Option<u64>,
    },
    /// One instance becomes free.
    Free,
    Leave(prop::sample::Index),
    Pass(u64),
}

#[derive(Clone, Debug)]
struct Settings {
    spec: SchedulerSpec,
    limit: u32,
}

fn policy() -> impl Strategy<Value = QueuePolicy> {
    (any::<bool>(), 0_u64..40, any::<bool>(), 0_usize..12).prop_map(
        |(delay, timeout, allow_timeout_override, size)| QueuePolicy {
            timeout_action: if delay {
                TimeoutAction::Delay
            } else {
                TimeoutAction::Reject
            },
            default_timeout: (timeout > 0).then(|| Duration::from_millis(timeout)),
            allow_timeout_override,
            max_queue_size: (size > 0).then_some(size),
        },
    )
}

fn priorities() -> impl Strategy<Value = Priorities> {
    (1_u32..5).prop_flat_map(|levels| {
        let policies = prop::collection::btree_map(1..=levels, policy(), 0..3);
        (1..=levels, policies).prop_map(move |(default, policies)| Priorities {
            levels,
            default,
            policies,
        })
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let dynamic = (
        prop::collection::vec(1_u32..10, 0..3),
        0_u64..30,
        policy(),
        prop::option::of(priorities()),
    )
        .prop_map(|(preferred_sizes, delay, policy, priorities)| {
            SchedulerSpec::Dynamic(DynamicBatching {
                preferred_sizes,
                max_queue_delay: Duration::from_millis(delay),
                preserve_ordering: false,
                policy,
                priorities,
            })
        });
    let spec = prop_oneof![1 => Just(SchedulerSpec::Default), 9 => dynamic];
    (spec, 0_u32..9).prop_map(|(spec, limit)| Settings { spec, limit })
}

fn event() -> impl Strategy<Value = Event> {
    let push = (0_u32..6, 0_i64..2, 0_u32..6, prop::option::of(0_u64..50));
    prop_oneof![
        6 => push.prop_map(|(rows, key, priority, timeout)| Event::Push {
            rows,
            key,
            priority,
            timeout,
        }),
        3 => Just(Event::Free),
        1 => any::<prop::sample::Index>().prop_map(Event::Leave),
        3 => (1_u64..15).prop_map(Event::Pass),
    ]
}

/// The engine's part of the play, and the books.
struct Run {
    settings: Settings,
    scheduler: Scheduler<u32>,
    now: Instant,
    free: usize,
    /// When the free instance was told to ask again.
    wake: Option<Instant>,
    accepted: Vec<Ticket<u32>>,
    left: BTreeMap<u32, &'static str>,
    gone: RefCell<BTreeSet<u32>>,
    /// In the order in which they ran.
    dispatched: Vec<u32>,
}

impl Run {
    fn new(settings: Settings) -> Self {
        Self {
            scheduler: Scheduler::new(&settings.spec, settings.limit, "m"),
            settings,
            now: Instant::now(),
            free: 0,
            wake: None,
            accepted: Vec::new(),
            left: BTreeMap::new(),
            gone: RefCell::default(),
            dispatched: Vec::new(),
        }
    }

    fn dynamic(&self) -> Option<&DynamicBatching> {
        match &self.settings.spec {
            SchedulerSpec::Default | SchedulerSpec::Sequences(_) => None,
            SchedulerSpec::Dynamic(dynamic) => Some(dynamic),
        }
    }

    /// The level of a request; all are of level 1 where there are no levels.
    fn level(&self, ticket: &Ticket<u32>) -> u32 {
        let priorities = self.dynamic().and_then(|d| d.priorities.as_ref());
        priorities.map_or(1, |p| match ticket.priority {
            asked if asked > 0 && asked <= p.levels => asked,
            _ => p.default,
        })
    }

    fn policy(&self, ticket: &Ticket<u32>) -> QueuePolicy {
        let Some(dynamic) = self.dynamic() else {
            return QueuePolicy::default();
        };
        let own = dynamic.priorities.as_ref().map(|p| &p.policies);
        let own = own.and_then(|own| own.get(&self.level(ticket)));
        own.copied().unwrap_or(dynamic.policy)
    }

    fn deadline(&self, ticket: &Ticket<u32>) -> Option<Instant> {
        let policy = self.policy(ticket);
        let default = policy.default_timeout?;
        let own = ticket
            .timeout
            .filter(|t| policy.allow_timeout_override && !t.is_zero());
        Some(ticket.arrived + own.filter(|own| *own < default).unwrap_or(default))
    }

    fn waiting(&self) -> impl Iterator<Item = &Ticket<u32>> {
        self.accepted
            .iter()
            .filter(|ticket| !self.left.contains_key(&ticket.payload))
    }

    fn leave(&mut self, id: u32, how: &'static str) {
        let before = self.left.insert(id, how);
        assert_eq!(
            before, None,
            "request {id} left twice: {before:?} and {how}"
        );
    }

    fn refuse(&mut self, refused: Vec<Refused<u32>>) {
        for Refused { ticket, error } in refused {
            match error.code {
                Code::Cancelled => assert!(self.gone.borrow().contains(&ticket.payload)),
                Code::Unavailable => {
                    assert_eq!(self.policy(&ticket).timeout_action, TimeoutAction::Reject);
                    assert!(
                        self.deadline(&ticket)
                            .is_some_and(|deadline| deadline <= self.now)
                    );
                }
                other => panic!("refused with {other:?}"),
            }
            self.leave(ticket.payload, "refused");
        }
    }

    fn push(&mut self, rows: u32, key: i64, priority: u32, timeout: Option<u64>) {
        let payload = self.accepted.len() as u32;
        let timeout = timeout.map(Duration::from_millis);
        let key = BatchKey::from_slice(&[key]);
        let ticket = Ticket {
            rows,
            key,
            arrived: self.now,
            priority,
            timeout,
            payload,
        };
        let most = self.policy(&ticket).max_queue_size.unwrap_or(usize::MAX);
        let level = self.level(&ticket);
        let of_level = |run: &Self| run.waiting().filter(|t| run.level(t) == level).count();
        let before = of_level(self);
        self.accepted.push(ticket.clone());
        match self.scheduler.push(ticket, self.now) {
            Ok(()) => assert!(before < most && rows <= self.settings.limit.max(1)),
            Err(refused) => {
                assert!(before >= most || rows > self.settings.limit.max(1));
                assert_eq!(refused.ticket.payload, payload);
                self.leave(payload, "not accepted");
            }
        }
        assert!(of_level(self) <= most);
    }

    /// Gives free instances what they may get now.
    fn ask(&mut self) {
        self.wake = None;
        while self.free > 0 {
            let (mut batch, mut refused) = (Vec::new(), Vec::new());
            let gone = &self.gone;
            let alive = |id: &u32| !gone.borrow().contains(id);
            let next = self
                .scheduler
                .next(self.now, &mut batch, &mut refused, alive);
            self.refuse(refused);
            match next {
                Next::Dispatch(reason) => {
                    self.free -= 1;
                    self.check(&batch, reason);
                    for ticket in &batch {
                        self.leave(ticket.payload, "ran");
                        self.dispatched.push(ticket.payload);
                    }
                }
                Next::WaitUntil(until) => {
                    assert!(batch.is_empty());
                    assert!(until > self.now, "told to wait for the past");
                    self.wake = Some(until);
                    self.check_waiting();
                    return;
                }
                Next::Empty => {
                    assert!(batch.is_empty() && self.scheduler.is_empty());
                    return;
                }
            }
        }
    }

    fn check(&self, batch: &[Ticket<u32>], reason: Reason) {
        let rows: u32 = batch.iter().map(|ticket| ticket.rows.max(1)).sum();
        let limit = self.settings.limit.max(1);
        assert!(
            !batch.is_empty() && rows <= limit,
            "{rows} rows in a batch of at most {limit}"
        );
        assert!(
            batch.iter().all(|ticket| ticket.key == batch[0].key),
            "keys are mixed"
        );
        for ticket in batch {
            assert!(
                !self.gone.borrow().contains(&ticket.payload),
                "runs for nobody"
            );
            if self.policy(ticket).timeout_action == TimeoutAction::Reject {
                let late = self
                    .deadline(ticket)
                    .is_some_and(|deadline| deadline <= self.now);
                assert!(!late, "runs after its deadline");
            }
        }
        let lowest = batch.iter().map(|ticket| self.level(ticket)).max();
        let ran = |ticket: &Ticket<u32>| batch.iter().any(|b| b.payload == ticket.payload);
        for ticket in self.waiting().filter(|ticket| !ran(ticket)) {
            assert!(
                Some(self.level(ticket)) >= lowest,
                "a lower level ran first"
            );
        }
        let all: u32 = self.waiting().map(|ticket| ticket.rows.max(1)).sum();
        let even = self
            .waiting()
            .all(|ticket| ticket.rows <= 1 && ticket.key == batch[0].key);
        if reason != Reason::Single && even && all >= limit {
            assert_eq!(
                (rows, reason),
                (limit, Reason::Full),
                "a full batch was waiting"
            );
        }
        if reason == Reason::Idle {
            assert!(
                self.dynamic()
                    .is_some_and(|dynamic| dynamic.max_queue_delay.is_zero())
            );
        }
    }

    /// A free instance waits only if nobody has waited longer than the delay.
    fn check_waiting(&self) {
        let delay = self
            .dynamic()
            .expect("the default scheduler never waits")
            .max_queue_delay;
        for ticket in self.waiting() {
            assert!(
                self.now - ticket.arrived < delay,
                "waited longer than the delay"
            );
        }
    }

    /// Lets time pass, stopping at every timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = [self.wake, self.scheduler.next_deadline()];
            let next = timers
                .into_iter()
                .flatten()
                .filter(|timer| *timer <= end)
                .min();
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            let mut refused = Vec::new();
            self.scheduler.expire(self.now, &mut refused);
            self.refuse(refused);
            let deadline = self.scheduler.next_deadline();
            assert!(
                deadline.is_none_or(|deadline| deadline > self.now),
                "a timer that never ends"
            );
            self.on_time();
            self.ask();
        }
        self.now = end;
        self.on_time();
    }

    fn on_time(&self) {
        for ticket in self.waiting() {
            if self.policy(ticket).timeout_action == TimeoutAction::Reject {
                let deadline = self.deadline(ticket);
                assert!(
                    deadline.is_none_or(|deadline| deadline > self.now),
                    "overlooked deadline"
                );
            }
        }
    }

    fn play(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Push {
                    rows,
                    key,
                    priority,
                    timeout,
                } => {
                    self.push(rows, key, priority, timeout);
                    self.ask();
                }
                Event::Free => {
                    self.free += 1;
                    self.ask();
                }
                Event::Leave(index) if !self.accepted.is_empty() => {
                    let id = index.index(self.accepted.len()) as u32;
                    self.gone.borrow_mut().insert(id);
                }
                Event::Leave(_) => {}
                Event::Pass(time) => self.pass(Duration::from_millis(time)),
            }
            assert_eq!(
                self.scheduler.len(),
                self.waiting().count(),
                "lost or doubled"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_request_leaves_once_and_within_the_rules(
        settings in settings(),
        events in prop::collection::vec(event(), 1..80),
        drained in any::<bool>(),
    ) {
        let mut run = Run::new(settings);
        run.play(events);
        if drained {
            let mut rest = Vec::new();
            run.scheduler.drain(&mut rest);
            for ticket in rest {
                run.leave(ticket.payload, "drained");
            }
        } else {
            run.free = 1_000;
            run.ask();
            run.pass(Duration::from_secs(10));
        }
        prop_assert!(run.scheduler.is_empty());
        prop_assert_eq!(run.left.len(), run.accepted.len());
    }

    #[test]
    fn order_of_arrival_is_kept_in_each_level_unless_delay_is_asked_for(
        mut settings in settings(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        if let SchedulerSpec::Dynamic(dynamic) = &mut settings.spec {
            dynamic.policy.timeout_action = TimeoutAction::Reject;
            let own = dynamic.priorities.iter_mut().flat_map(|p| p.policies.values_mut());
            own.for_each(|policy| policy.timeout_action = TimeoutAction::Reject);
        }
        let mut run = Run::new(settings);
        run.play(events);
        for level in 1..5 {
            let ran = run.dispatched.iter();
            let of_level = ran.filter(|id| run.level(&run.accepted[**id as usize]) == level);
            prop_assert!(of_level.is_sorted(), "level {level} of {:?}", run.dispatched);
        }
    }

    #[test]
    fn answers_leave_in_the_order_of_their_numbers(
        order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
        skipped in prop::collection::btree_set(0_u64..40, 0..10),
        early in 0_usize..40,
    ) {
        let (mut reorder, mut out) = (Reorder::new(), Vec::new());
        let numbers: Vec<u64> = (0..40).map(|_| reorder.enter()).collect();
        prop_assert_eq!(numbers, (0..40).collect::<Vec<_>>());
        for number in &order[..early] {
            if skipped.contains(number) {
                reorder.skip(*number, &mut out);
            } else {
                prop_assert_eq!(reorder.finish(*number, *number, &mut out), Ok(()));
                prop_assert_eq!(reorder.finish(*number, 99, &mut out), Err(99), "twice");
            }
            // What has left is exactly what nothing earlier is missing for.
            let done = &order[..=order.iter().position(|n| n == number).unwrap_or(0)];
            let first_missing = (0..40).find(|n| !done.contains(n)).unwrap_or(40);
            let expect: Vec<u64> = (0..first_missing).filter(|n| !skipped.contains(n)).collect();
            prop_assert_eq!(&out, &expect);
        }
        prop_assert_eq!(reorder.is_empty(), early == 40);
        prop_assert_eq!(reorder.finish(1000, 1, &mut out), Err(1));
    }
}

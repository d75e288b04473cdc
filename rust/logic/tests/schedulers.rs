// SPDX-License-Identifier: Apache-2.0
//! The batcher's rules one by one, as tables, with a made-up clock.

use std::time::{Duration, Instant};

use nerite_logic::Code;
use nerite_logic::schedulers::{BatchKey, Next, Reason, Refused, Scheduler, Ticket};
use nerite_logic::spec::{DynamicBatching, Priorities, QueuePolicy, SchedulerSpec, TimeoutAction};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn policy(timeout: u64) -> QueuePolicy {
    QueuePolicy {
        default_timeout: (timeout > 0).then(|| ms(timeout)),
        ..QueuePolicy::default()
    }
}

fn dynamic(preferred: &[u32], delay: u64, policy: QueuePolicy) -> SchedulerSpec {
    SchedulerSpec::Dynamic(DynamicBatching {
        preferred_sizes: preferred.to_vec(),
        max_queue_delay: ms(delay),
        policy,
        ..DynamicBatching::default()
    })
}

/// Three levels, of which requests that ask for none have the second.
fn leveled(delay: u64, default: QueuePolicy, own: &[(u32, QueuePolicy)]) -> SchedulerSpec {
    SchedulerSpec::Dynamic(DynamicBatching {
        max_queue_delay: ms(delay),
        policy: default,
        priorities: Some(Priorities {
            levels: 3,
            default: 2,
            policies: own.iter().copied().collect(),
        }),
        ..DynamicBatching::default()
    })
}

/// A scheduler of `(id, rows)` payloads with its clock.
struct Bench {
    scheduler: Scheduler<u32>,
    start: Instant,
    refused: Vec<Refused<u32>>,
}

impl Bench {
    fn new(spec: &SchedulerSpec, max_batch_size: u32) -> Self {
        let scheduler = Scheduler::new(spec, max_batch_size, "m");
        Self {
            scheduler,
            start: Instant::now(),
            refused: Vec::new(),
        }
    }

    fn at(&self, time: u64) -> Instant {
        self.start + ms(time)
    }

    fn ticket(&self, id: u32, rows: u32, time: u64) -> Ticket<u32> {
        let key = BatchKey::new();
        Ticket {
            rows,
            key,
            arrived: self.at(time),
            priority: 0,
            timeout: None,
            payload: id,
        }
    }

    fn push(&mut self, id: u32, rows: u32, time: u64) {
        let (ticket, now) = (self.ticket(id, rows, time), self.at(time));
        self.scheduler.push(ticket, now).expect("there is room");
    }

    /// Pushes one row of this priority; whether it was accepted.
    fn push_at(&mut self, id: u32, priority: u32, time: u64) -> bool {
        let ticket = Ticket {
            priority,
            ..self.ticket(id, 1, time)
        };
        let now = self.at(time);
        self.scheduler.push(ticket, now).is_ok()
    }

    fn next(&mut self, time: u64) -> (Next, Vec<u32>) {
        self.next_alive(time, |_| true)
    }

    fn next_alive(&mut self, time: u64, alive: impl Fn(&u32) -> bool) -> (Next, Vec<u32>) {
        let (mut batch, now) = (Vec::new(), self.at(time));
        let next = self
            .scheduler
            .next(now, &mut batch, &mut self.refused, alive);
        (
            next,
            batch.into_iter().map(|ticket| ticket.payload).collect(),
        )
    }

    fn refusals(&mut self) -> Vec<(u32, Code, String)> {
        self.refused
            .drain(..)
            .map(|r| (r.ticket.payload, r.error.code, r.error.message.to_string()))
            .collect()
    }
}

#[test]
fn a_batch_is_closed_by_the_first_rule_that_applies() {
    use Next::Dispatch;
    use Reason::{Delay, Full, Idle, Preferred};
    struct Case {
        name: &'static str,
        preferred: &'static [u32],
        delay: u64,
        rows: &'static [u32],
        /// Milliseconds after the requests came.
        at: u64,
        expect: (Next, usize),
    }
    let case = |name, preferred, delay, rows, at, expect| Case {
        name,
        preferred,
        delay,
        rows,
        at,
        expect,
    };
    let wait = Next::WaitUntil;
    let start = Instant::now();
    let cases: [Case; 18] = [
        case("nothing", &[], 0, &[], 0, (Next::Empty, 0)),
        case(
            "no delay sends one alone",
            &[],
            0,
            &[1],
            0,
            (Dispatch(Idle), 1),
        ),
        case(
            "no delay sends what is there",
            &[],
            0,
            &[1, 2, 1],
            0,
            (Dispatch(Idle), 3),
        ),
        case(
            "no delay outranks preferred",
            &[2],
            0,
            &[1, 1, 1],
            0,
            (Dispatch(Idle), 3),
        ),
        case("full at once", &[], 9, &[4, 4], 0, (Dispatch(Full), 2)),
        case(
            "rows count, not requests",
            &[],
            9,
            &[8, 1],
            0,
            (Dispatch(Full), 1),
        ),
        case(
            "the next does not fit",
            &[],
            9,
            &[5, 4],
            0,
            (Dispatch(Full), 1),
        ),
        case(
            "no more than the limit",
            &[],
            0,
            &[1; 20],
            0,
            (Dispatch(Full), 8),
        ),
        case(
            "zero rows take a place",
            &[],
            0,
            &[0; 20],
            0,
            (Dispatch(Full), 8),
        ),
        case(
            "preferred reached",
            &[4],
            9,
            &[2, 2],
            0,
            (Dispatch(Preferred), 2),
        ),
        case(
            "exactly the preferred",
            &[4],
            9,
            &[2, 2, 1],
            0,
            (Dispatch(Preferred), 2),
        ),
        case(
            "the largest preferred",
            &[2, 6],
            9,
            &[1; 7],
            0,
            (Dispatch(Preferred), 6),
        ),
        case(
            "the smaller preferred",
            &[2, 6],
            9,
            &[1; 3],
            0,
            (Dispatch(Preferred), 2),
        ),
        case(
            "beyond all preferred",
            &[2, 6],
            9,
            &[3, 4],
            0,
            (Dispatch(Preferred), 2),
        ),
        case(
            "full outranks preferred",
            &[4],
            9,
            &[1; 9],
            0,
            (Dispatch(Full), 8),
        ),
        case("delay over", &[4], 9, &[1, 1], 9, (Dispatch(Delay), 2)),
        case(
            "delay outranks preferred",
            &[4],
            9,
            &[1; 5],
            9,
            (Dispatch(Delay), 5),
        ),
        case(
            "wait for company",
            &[4],
            9,
            &[1, 1],
            8,
            (wait(start + ms(9)), 0),
        ),
    ];
    for case in cases {
        let mut bench = Bench::new(&dynamic(case.preferred, case.delay, policy(0)), 8);
        bench.start = start;
        for (id, rows) in case.rows.iter().enumerate() {
            bench.push(id as u32, *rows, 0);
        }
        let (next, batch) = bench.next(case.at);
        assert_eq!((next, batch.len()), case.expect, "{}", case.name);
        let order: Vec<u32> = (0..batch.len() as u32).collect();
        assert_eq!(batch, order, "{}: in order of arrival", case.name);
    }
}

#[test]
fn the_default_scheduler_runs_requests_one_by_one_in_order() {
    let mut bench = Bench::new(&SchedulerSpec::Default, 4);
    for id in 0..3 {
        bench.push(id, 4, 0);
    }
    for id in 0..3 {
        assert_eq!(bench.next(0), (Next::Dispatch(Reason::Single), vec![id]));
    }
    assert_eq!(bench.next(0), (Next::Empty, vec![]));
}

#[test]
fn a_model_without_batch_dimension_runs_one_request_at_a_time() {
    let mut bench = Bench::new(&dynamic(&[], 9, policy(0)), 0);
    bench.push(0, 1, 0);
    bench.push(1, 1, 0);
    assert_eq!(bench.next(0), (Next::Dispatch(Reason::Full), vec![0]));
    assert_eq!(bench.next(0), (Next::Dispatch(Reason::Full), vec![1]));
}

#[test]
fn a_request_larger_than_any_batch_is_given_back() {
    for spec in [SchedulerSpec::Default, dynamic(&[], 0, policy(0))] {
        let mut bench = Bench::new(&spec, 4);
        let (ticket, now) = (bench.ticket(7, 5, 0), bench.at(0));
        let refused = bench
            .scheduler
            .push(ticket.clone(), now)
            .expect_err("5 rows of 4");
        assert_eq!(refused.ticket, ticket);
        assert_eq!(refused.error.code, Code::InvalidArg);
        assert_eq!(
            refused.error.message,
            "inference request batch-size must be <= 4 for 'm'"
        );
        assert!(bench.scheduler.is_empty());
    }
}

#[test]
fn the_walk_stops_at_the_first_unequal_key() {
    let key = |n: i64| BatchKey::from_slice(&[n]);
    for delay in [0, 9] {
        let mut bench = Bench::new(&dynamic(&[], delay, policy(0)), 8);
        for (id, k) in [1, 1, 2, 1].into_iter().enumerate() {
            let ticket = Ticket {
                key: key(k),
                ..bench.ticket(id as u32, 1, 0)
            };
            let now = bench.at(0);
            bench.scheduler.push(ticket, now).expect("there is room");
        }
        assert_eq!(bench.next(0), (Next::Dispatch(Reason::Full), vec![0, 1]));
        assert_eq!(bench.next(0), (Next::Dispatch(Reason::Full), vec![2]));
    }
}

#[test]
fn preferred_is_still_sent_exactly_when_the_key_changes_behind_it() {
    let mut bench = Bench::new(&dynamic(&[2], 9, policy(0)), 8);
    for (id, k) in [1, 1, 1, 2].into_iter().enumerate() {
        let key = BatchKey::from_slice(&[k]);
        let (ticket, now) = (
            Ticket {
                key,
                ..bench.ticket(id as u32, 1, 0)
            },
            bench.at(0),
        );
        bench.scheduler.push(ticket, now).expect("there is room");
    }
    assert_eq!(
        bench.next(0),
        (Next::Dispatch(Reason::Preferred), vec![0, 1])
    );
    assert_eq!(bench.next(0), (Next::Dispatch(Reason::Full), vec![2]));
    assert_eq!(bench.next(0), (Next::WaitUntil(bench.at(9)), vec![]));
}

#[test]
fn the_delay_counts_from_the_oldest_request_and_a_waiting_batch_grows() {
    let mut bench = Bench::new(&dynamic(&[], 10, policy(0)), 4);
    bench.push(0, 1, 0);
    assert_eq!(bench.next(0), (Next::WaitUntil(bench.at(10)), vec![]));
    bench.push(1, 1, 6);
    assert_eq!(bench.next(6), (Next::WaitUntil(bench.at(10)), vec![]));
    assert_eq!(bench.next(10), (Next::Dispatch(Reason::Delay), vec![0, 1]));
    bench.push(2, 3, 11);
    assert_eq!(bench.next(11), (Next::WaitUntil(bench.at(21)), vec![]));
    bench.push(3, 1, 12);
    assert_eq!(bench.next(12), (Next::Dispatch(Reason::Full), vec![2, 3]));
}

#[test]
fn a_full_queue_refuses_and_has_room_again_after_a_batch() {
    let limited = QueuePolicy {
        max_queue_size: Some(2),
        ..policy(0)
    };
    let mut bench = Bench::new(&dynamic(&[], 0, limited), 8);
    bench.push(0, 1, 0);
    bench.push(1, 1, 0);
    let (ticket, now) = (bench.ticket(2, 1, 0), bench.at(0));
    let refused = bench
        .scheduler
        .push(ticket, now)
        .expect_err("two wait already");
    assert_eq!(refused.ticket.payload, 2);
    assert_eq!(refused.error.code, Code::Unavailable);
    assert_eq!(refused.error.message, "Exceeds maximum queue size");
    assert_eq!(bench.next(0).1, [0, 1]);
    bench.push(3, 1, 0);
    assert_eq!(bench.scheduler.len(), 1);
}

#[test]
fn a_timeout_is_reported_when_due_while_every_instance_is_busy() {
    let mut bench = Bench::new(&dynamic(&[], 0, policy(50)), 8);
    bench.push(0, 1, 0);
    bench.push(1, 1, 30);
    assert_eq!(bench.scheduler.next_deadline(), Some(bench.at(50)));
    let (early, due) = (bench.at(49), bench.at(50));
    bench.scheduler.expire(early, &mut bench.refused);
    assert_eq!(bench.refusals(), []);
    bench.scheduler.expire(due, &mut bench.refused);
    let expired = (0, Code::Unavailable, "Request timeout expired".to_owned());
    assert_eq!(bench.refusals(), [expired]);
    assert_eq!(bench.scheduler.next_deadline(), Some(bench.at(80)));
    assert_eq!(bench.next(60), (Next::Dispatch(Reason::Idle), vec![1]));
    assert_eq!(bench.scheduler.next_deadline(), None);
}

#[test]
fn only_a_shorter_timeout_overrides_and_only_a_default_there_is() {
    let cases = [
        // default, override allowed, the request's own, expected deadline
        (0, false, Some(10), None),
        (0, true, Some(10), None),
        (50, false, Some(10), Some(50)),
        (50, true, Some(10), Some(10)),
        (50, true, Some(90), Some(50)),
        (50, true, Some(0), Some(50)),
        (50, true, None, Some(50)),
    ];
    for (default, allowed, own, expect) in cases {
        let policy = QueuePolicy {
            allow_timeout_override: allowed,
            ..policy(default)
        };
        let mut bench = Bench::new(&dynamic(&[], 0, policy), 8);
        let ticket = Ticket {
            timeout: own.map(ms),
            ..bench.ticket(0, 1, 0)
        };
        let now = bench.at(0);
        bench.scheduler.push(ticket, now).expect("there is room");
        let expect = expect.map(|time| bench.at(time));
        assert_eq!(
            bench.scheduler.next_deadline(),
            expect,
            "{default} {allowed} {own:?}"
        );
    }
}

#[test]
fn delayed_requests_run_behind_all_that_are_not_late() {
    let delay = QueuePolicy {
        timeout_action: TimeoutAction::Delay,
        ..policy(50)
    };
    let mut bench = Bench::new(&dynamic(&[], 0, delay), 2);
    bench.push(0, 1, 0);
    bench.push(1, 1, 1);
    bench.push(2, 1, 40);
    let now = bench.at(60);
    bench.scheduler.expire(now, &mut bench.refused);
    bench.push(3, 1, 60);
    assert_eq!(bench.next(60), (Next::Dispatch(Reason::Full), vec![2, 3]));
    bench.push(4, 1, 61);
    assert_eq!(bench.next(61), (Next::Dispatch(Reason::Full), vec![4, 0]));
    assert_eq!(bench.next(1000), (Next::Dispatch(Reason::Idle), vec![1]));
    assert_eq!(bench.refusals(), []);
}

#[test]
fn a_newcomer_overtakes_late_requests_that_the_batch_had_counted() {
    let delay = QueuePolicy {
        timeout_action: TimeoutAction::Delay,
        ..policy(5)
    };
    let mut bench = Bench::new(&dynamic(&[], 100, delay), 4);
    bench.push(0, 3, 0);
    assert_eq!(bench.next(6).0, Next::WaitUntil(bench.at(100)));
    bench.push(1, 2, 7);
    assert_eq!(bench.next(7), (Next::Dispatch(Reason::Full), vec![1]));
    assert_eq!(bench.next(100), (Next::Dispatch(Reason::Delay), vec![0]));
}

#[test]
fn callers_that_left_take_no_place_in_the_batch() {
    let mut bench = Bench::new(&dynamic(&[], 9, policy(0)), 2);
    for id in 0..4 {
        bench.push(id, 1, 0);
    }
    let (next, batch) = bench.next_alive(0, |id| *id != 0 && *id != 3);
    assert_eq!((next, batch), (Next::Dispatch(Reason::Full), vec![1, 2]));
    assert_eq!(
        bench.refusals(),
        [(0, Code::Cancelled, String::new())]
            .into_iter()
            .chain([(3, Code::Cancelled, String::new())])
            .collect::<Vec<_>>()
    );
    assert_eq!(bench.next(0), (Next::Empty, vec![]));
}

#[test]
fn a_batch_that_loses_its_callers_waits_again() {
    let mut bench = Bench::new(&dynamic(&[2], 9, policy(0)), 4);
    bench.push(0, 1, 0);
    bench.push(1, 1, 0);
    assert_eq!(
        bench.next_alive(1, |id| *id != 0),
        (Next::WaitUntil(bench.at(9)), vec![])
    );
    assert_eq!(bench.refusals().len(), 1);
    let mut single = Bench::new(&SchedulerSpec::Default, 4);
    single.push(0, 1, 0);
    assert_eq!(single.next_alive(0, |_| false), (Next::Empty, vec![]));
    assert_eq!(single.refusals().len(), 1);
}

#[test]
fn sweeping_frees_places_without_an_instance() {
    let limited = QueuePolicy {
        max_queue_size: Some(1),
        ..policy(0)
    };
    let mut bench = Bench::new(&dynamic(&[], 9, limited), 4);
    bench.push(0, 1, 0);
    bench.scheduler.sweep(&mut bench.refused, |_| false);
    assert_eq!(bench.refusals().len(), 1);
    bench.push(1, 1, 0);
}

#[test]
fn draining_gives_back_everything_in_order() {
    let delay = QueuePolicy {
        timeout_action: TimeoutAction::Delay,
        ..policy(5)
    };
    let mut bench = Bench::new(&dynamic(&[], 100, delay), 4);
    bench.push(0, 1, 0);
    let now = bench.at(6);
    bench.scheduler.expire(now, &mut bench.refused);
    bench.push(1, 1, 6);
    let mut all = Vec::new();
    bench.scheduler.drain(&mut all);
    assert_eq!(
        all.iter().map(|ticket| ticket.payload).collect::<Vec<_>>(),
        [1, 0]
    );
    assert!(bench.scheduler.is_empty());
    assert_eq!(bench.scheduler.next_deadline(), None);
    assert_eq!(bench.next(200), (Next::Empty, vec![]));
}

#[test]
fn an_upper_level_runs_before_everything_below_it() {
    let mut bench = Bench::new(&leveled(0, policy(0), &[]), 2);
    // No level, level 0 and one that there is not are the default level, 2.
    for (id, priority) in [(0, 3), (1, 0), (2, 3), (3, 4), (4, 1), (5, 2), (6, 1)] {
        assert!(bench.push_at(id, priority, u64::from(id)));
    }
    assert_eq!(bench.scheduler.len(), 7);
    let ran: Vec<Vec<u32>> = (0..4).map(|_| bench.next(10).1).collect();
    assert_eq!(ran, [vec![4, 6], vec![1, 3], vec![5, 0], vec![2]]);
    assert_eq!(bench.next(10).0, Next::Empty);
}

#[test]
fn a_newcomer_of_an_upper_level_joins_the_batch_that_waits() {
    let mut bench = Bench::new(&leveled(20, policy(0), &[]), 4);
    assert!(bench.push_at(0, 3, 0));
    assert!(bench.push_at(1, 3, 1));
    assert_eq!(bench.next(1).0, Next::WaitUntil(bench.at(20)));
    assert!(bench.push_at(2, 1, 5));
    // The delay still counts from the oldest, whatever its level.
    assert_eq!(bench.next(5).0, Next::WaitUntil(bench.at(20)));
    assert_eq!(
        bench.next(20),
        (Next::Dispatch(Reason::Delay), vec![2, 0, 1])
    );
}

#[test]
fn a_delayed_request_waits_behind_those_of_its_level_and_before_the_level_below() {
    let delay = QueuePolicy {
        timeout_action: TimeoutAction::Delay,
        ..policy(10)
    };
    let mut bench = Bench::new(&leveled(0, policy(0), &[(2, delay)]), 1);
    assert!(bench.push_at(0, 2, 0));
    assert!(bench.push_at(1, 3, 1));
    assert_eq!(bench.scheduler.next_deadline(), Some(bench.at(10)));
    let (now, mut refused) = (bench.at(10), Vec::new());
    bench.scheduler.expire(now, &mut refused);
    assert!(refused.is_empty());
    assert!(bench.push_at(2, 2, 11));
    assert!(bench.push_at(3, 1, 12));
    let ran: Vec<Vec<u32>> = (0..4).map(|_| bench.next(13).1).collect();
    assert_eq!(ran, [[3], [2], [0], [1]]);
}

#[test]
fn levels_have_their_own_timeouts_and_sizes() {
    let small = QueuePolicy {
        max_queue_size: Some(1),
        ..policy(0)
    };
    let mut bench = Bench::new(&leveled(0, policy(10), &[(1, small)]), 1);
    assert!(bench.push_at(0, 1, 0));
    assert!(!bench.push_at(1, 1, 0), "level 1 is full");
    assert!(bench.push_at(2, 2, 0));
    assert!(bench.push_at(3, 3, 0));
    let (now, mut refused) = (bench.at(10), Vec::new());
    bench.scheduler.expire(now, &mut refused);
    let ids: Vec<u32> = refused.iter().map(|r| r.ticket.payload).collect();
    assert_eq!(ids, [2, 3], "the default policy is that of the others");
    assert_eq!(bench.next(10).1, [0]);
    assert!(bench.push_at(4, 1, 11), "there is room again");
}

#[test]
fn callers_that_left_are_found_on_every_level() {
    let mut bench = Bench::new(&leveled(0, policy(0), &[]), 3);
    for (id, priority) in [(0, 3), (1, 1), (2, 2)] {
        assert!(bench.push_at(id, priority, 0));
    }
    assert_eq!(bench.next_alive(1, |id| *id != 2).1, [1, 0]);
    assert_eq!(bench.refused.len(), 1);
    assert!(bench.scheduler.is_empty());
}

#[test]
fn one_level_is_the_queue_with_its_policy() {
    let only = QueuePolicy {
        max_queue_size: Some(2),
        ..policy(0)
    };
    let spec = SchedulerSpec::Dynamic(DynamicBatching {
        priorities: Some(Priorities {
            levels: 1,
            default: 1,
            policies: [(1, only)].into(),
        }),
        ..DynamicBatching::default()
    });
    let mut bench = Bench::new(&spec, 8);
    assert!(bench.push_at(0, 7, 0));
    assert!(bench.push_at(1, 1, 0));
    assert!(!bench.push_at(2, 0, 0));
    assert_eq!(bench.next(1).1, [0, 1]);
}

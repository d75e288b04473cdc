// SPDX-License-Identifier: Apache-2.0
//! The rules of the sequence batcher, as tables and for every play of events, with a made-up clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test's failure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nerite_logic::Code;
use nerite_logic::message::CorrelationId;
use nerite_logic::schedulers::sequences::{Member, Sequences, Step};
use nerite_logic::schedulers::{BatchKey, Next, Reason, Refused, Ticket};
use nerite_logic::spec::{Direct, Oldest, SequenceBatching, SequenceStrategy};
use proptest::prelude::*;

const IDLE: u64 = 100;

#[derive(Clone, Debug, PartialEq)]
struct Request {
    number: usize,
    id: CorrelationId,
    start: bool,
    end: bool,
}

impl Member for Request {
    fn step(&self) -> Step<'_> {
        Step {
            id: &self.id,
            start: self.start,
            end: self.end,
        }
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings(strategy: SequenceStrategy, instances: usize) -> SequenceBatching {
    SequenceBatching {
        strategy,
        max_idle: ms(IDLE),
        instances,
        controls: Vec::new(),
    }
}

fn direct() -> SequenceStrategy {
    SequenceStrategy::Direct(Direct::default())
}

fn oldest(candidates: usize, preferred: &[u32], delay: u64) -> SequenceStrategy {
    SequenceStrategy::Oldest(Oldest {
        max_candidates: candidates,
        preferred_sizes: preferred.to_vec(),
        max_delay: ms(delay),
    })
}

/// A batcher with its clock; requests are written `7s` (START of 7), `7`, `7e` (END) and `7se`.
struct Bench {
    batcher: Sequences<Request>,
    start: Instant,
    count: usize,
    gone: BTreeSet<usize>,
    refused: Vec<Refused<Request>>,
    rows: Vec<bool>,
}

impl Bench {
    fn new(strategy: SequenceStrategy, instances: usize, max_batch_size: u32) -> Self {
        Self {
            batcher: Sequences::new(&settings(strategy, instances), max_batch_size, "seq"),
            start: Instant::now(),
            count: 0,
            gone: BTreeSet::new(),
            refused: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn at(&self, time: u64) -> Instant {
        self.start + ms(time)
    }

    fn ticket(&mut self, word: &str, time: u64) -> Ticket<Request> {
        let flags = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let id = word[..word.len() - flags.len()].parse().unwrap_or(0);
        self.count += 1;
        Ticket {
            rows: 1,
            key: BatchKey::new(),
            arrived: self.at(time),
            priority: 0,
            timeout: None,
            payload: Request {
                number: self.count - 1,
                id: match id {
                    0 => CorrelationId::None,
                    id => CorrelationId::Number(id),
                },
                start: flags.contains('s'),
                end: flags.contains('e'),
            },
        }
    }

    fn push(&mut self, time: u64, words: &str) {
        for word in words.split(' ') {
            let ticket = self.ticket(word, time);
            let now = self.at(time);
            self.batcher.push(ticket, now).expect(word);
        }
    }

    fn refusal(&mut self, time: u64, word: &str) -> String {
        let ticket = self.ticket(word, time);
        let refused = self.batcher.push(ticket, self.at(time)).expect_err(word);
        refused.error.message.to_string()
    }

    /// The batch of an instance in the words of `push`; empty if there is none.
    fn next(&mut self, instance: usize, time: u64) -> String {
        let mut into = Vec::new();
        self.rows.clear();
        let (now, gone) = (self.at(time), &self.gone);
        let alive = |request: &Request| !gone.contains(&request.number);
        let next = self.batcher.next(
            instance,
            now,
            &mut into,
            &mut self.rows,
            &mut self.refused,
            alive,
        );
        assert_eq!(matches!(next, Next::Dispatch(_)), !into.is_empty());
        let words: Vec<String> = into.iter().map(|ticket| word(&ticket.payload)).collect();
        words.join(" ")
    }
}

fn word(request: &Request) -> String {
    let flag = |set, letter| if set { letter } else { "" };
    let (start, end) = (flag(request.start, "s"), flag(request.end, "e"));
    format!("{}{start}{end}", request.id)
}

#[test]
fn what_belongs_to_no_sequence_is_refused_in_tritons_words() {
    let mut bench = Bench::new(direct(), 1, 4);
    assert_eq!(
        bench.refusal(0, "0s"),
        "inference request to model 'seq' must specify a non-zero or non-empty correlation ID"
    );
    assert_eq!(
        bench.refusal(0, "5"),
        "inference request for sequence 5 to model 'seq' must specify the START flag on the first \
         request of the sequence"
    );
    let mut two = bench.ticket("5s", 0);
    two.rows = 2;
    let refused = bench.batcher.push(two, bench.at(0)).expect_err("two rows");
    assert_eq!(
        refused.error.message,
        "inference request to model 'seq' must specify batch-size 1 due to requirements of sequence \
         batcher"
    );
    assert_eq!(bench.batcher.len(), 0);
}

#[test]
fn a_sequence_runs_in_order_one_request_at_a_time() {
    let mut bench = Bench::new(oldest(4, &[], 0), 1, 4);
    bench.push(0, "1s 1 1e");
    let batches: Vec<String> = (0..4).map(|_| bench.next(0, 0)).collect();
    assert_eq!(batches, ["1s", "1", "1e", ""]);
    assert!(
        bench
            .refusal(0, "1")
            .contains("must specify the START flag")
    );
}

#[test]
fn requests_of_different_sequences_run_together() {
    let mut bench = Bench::new(oldest(4, &[], 0), 1, 4);
    bench.push(0, "1s 2s 1 3s 2e 3 3e");
    let batches: Vec<String> = (0..4).map(|_| bench.next(0, 0)).collect();
    assert_eq!(batches, ["1s 2s 3s", "1 2e 3", "3e", ""]);
}

#[test]
fn sequences_spread_over_the_instances_and_stay_where_they_are() {
    let mut bench = Bench::new(direct(), 2, 2);
    bench.push(0, "1s 2s 3s 1e 2e 3e");
    assert_eq!(bench.next(1, 0), "2s");
    assert_eq!(bench.next(0, 0), "1s 3s");
    assert_eq!(bench.next(0, 0), "1e 3e");
    assert_eq!(
        (bench.next(0, 0), bench.next(1, 0)),
        ("".into(), "2e".into())
    );
}

#[test]
fn a_row_is_kept_and_left_empty_while_its_sequence_has_no_request() {
    let mut bench = Bench::new(direct(), 1, 4);
    bench.push(0, "1s 2s 3s");
    assert_eq!(bench.next(0, 0), "1s 2s 3s");
    assert_eq!(bench.rows, [true, true, true]);
    bench.push(1, "3 1");
    assert_eq!(bench.next(0, 1), "1 3");
    assert_eq!(bench.rows, [true, false, true]);
    bench.push(2, "3e 2");
    assert_eq!(bench.next(0, 2), "2 3e");
    bench.push(3, "2");
    bench.next(0, 3);
    assert_eq!(
        bench.rows,
        [false, true],
        "the row of a sequence that has ended is gone"
    );
}

#[test]
fn what_finds_no_slot_waits_its_turn() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s 2s 3s 3e 2e");
    assert_eq!(bench.next(0, 0), "1s");
    assert_eq!(bench.next(0, 0), "");
    bench.push(1, "1e");
    let batches: Vec<String> = (0..5).map(|_| bench.next(0, 1)).collect();
    assert_eq!(batches, ["1e", "2s", "2e", "3s", "3e"]);
}

#[test]
fn an_id_may_start_again_once_its_end_is_there() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s 1e 1s 1e");
    let batches: Vec<String> = (0..5).map(|_| bench.next(0, 0)).collect();
    assert_eq!(batches, ["1s", "1e", "1s", "1e", ""]);
}

#[test]
fn a_start_in_the_middle_begins_anew_in_the_same_slot() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s 1 1s 1e");
    let batches: Vec<String> = (0..4).map(|_| bench.next(0, 0)).collect();
    assert_eq!(batches, ["1s", "1", "1s", "1e"]);
}

#[test]
fn an_idle_sequence_ends_and_makes_room() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s 2s");
    assert_eq!(bench.next(0, 0), "1s");
    assert_eq!(bench.next(0, IDLE - 1), "");
    assert_eq!(bench.batcher.next_deadline(), Some(bench.at(IDLE)));
    assert_eq!(bench.next(0, IDLE), "2s");
    assert!(
        bench
            .refusal(IDLE, "1")
            .contains("must specify the START flag")
    );
}

#[test]
fn a_sequence_whose_requests_wait_is_not_idle() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s");
    assert_eq!(bench.next(0, 5 * IDLE), "1s");
    assert_eq!(bench.next(0, 6 * IDLE - 1), "");
    bench.push(6 * IDLE - 1, "1e");
}

#[test]
fn a_timeout_ends_a_whole_sequence_of_the_backlog() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s");
    let mut late = bench.ticket("2s", 0);
    late.timeout = Some(ms(10));
    bench.batcher.push(late, bench.at(0)).expect("room");
    bench.push(5, "2e 3s");
    assert_eq!(bench.next(0, 9), "1s");
    let mut refused = Vec::new();
    bench.batcher.expire(bench.at(10), &mut refused);
    let told: Vec<_> = refused
        .iter()
        .map(|r| (word(&r.ticket.payload), r.error.code))
        .collect();
    assert_eq!(
        told,
        [
            ("2s".into(), Code::Unavailable),
            ("2e".into(), Code::Unavailable)
        ]
    );
    assert_eq!(
        refused[0].error.message,
        "timeout of the corresponding sequence has been expired"
    );
    bench.push(11, "1e");
    assert_eq!(
        (bench.next(0, 11), bench.next(0, 11)),
        ("1e".into(), "3s".into())
    );
}

#[test]
fn a_cancelled_head_takes_its_sequence_along() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s 1 1e 2s");
    bench.gone.insert(0);
    assert_eq!(bench.next(0, 0), "2s");
    let told: Vec<String> = bench
        .refused
        .iter()
        .map(|r| word(&r.ticket.payload))
        .collect();
    assert_eq!(told, ["1s", "1", "1e"]);
    assert!(
        bench
            .refused
            .iter()
            .all(|r| r.error.code == Code::Cancelled)
    );
}

#[test]
fn oldest_waits_for_a_preferred_size_but_not_beyond_the_delay() {
    let mut bench = Bench::new(oldest(8, &[2, 3], 10), 1, 8);
    bench.push(0, "1s");
    assert_eq!(bench.next(0, 0), "");
    bench.push(1, "2s");
    assert_eq!(bench.next(0, 1), "1s 2s");
    bench.push(2, "1 2 3s 4s");
    assert_eq!(bench.next(0, 2), "1 2 3s");
    assert_eq!(bench.next(0, 3), "");
    assert_eq!(bench.next(0, 12), "4s");
}

#[test]
fn direct_waits_for_a_share_of_its_slots() {
    let strategy = SequenceStrategy::Direct(Direct {
        max_delay: ms(10),
        minimum_share: 0.5,
    });
    let mut bench = Bench::new(strategy, 1, 4);
    bench.push(0, "1s");
    assert_eq!(bench.next(0, 9), "");
    assert_eq!(bench.next(0, 10), "1s");
    bench.push(20, "1 2s");
    assert_eq!(bench.next(0, 20), "1 2s");
}

#[test]
fn unequal_shapes_run_one_after_the_other() {
    let mut bench = Bench::new(direct(), 1, 4);
    for (word, dim) in [("1s", 3), ("2s", 4), ("3s", 3)] {
        let mut ticket = bench.ticket(word, 0);
        ticket.key = BatchKey::from_slice(&[dim]);
        bench.batcher.push(ticket, bench.at(0)).expect("room");
    }
    let batches: Vec<String> = (0..4).map(|_| bench.next(0, 0)).collect();
    assert_eq!(batches, ["1s", "2s", "3s", ""]);
}

#[test]
fn a_closed_batcher_finishes_what_waits_and_nothing_else() {
    let mut bench = Bench::new(direct(), 1, 1);
    bench.push(0, "1s 2s 3s 3");
    bench.batcher.close();
    let batches: Vec<String> = (0..5).map(|_| bench.next(0, 0)).collect();
    assert_eq!(batches, ["1s", "2s", "3s", "3", ""]);
    assert!(bench.batcher.is_empty());
}

#[derive(Clone, Debug)]
enum Event {
    Push {
        id: u64,
        start: bool,
        end: bool,
        key: i64,
        timeout: Option<u64>,
    },
    Free(usize),
    Leave(prop::sample::Index),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let push = (
        1_u64..6,
        prop::bool::weighted(0.4),
        prop::bool::weighted(0.3),
        0_i64..2,
    );
    let timeout = prop::option::weighted(0.2, 1_u64..40);
    prop_oneof![
        6 => (push, timeout).prop_map(|((id, start, end, key), timeout)| {
            Event::Push { id, start, end, key, timeout }
        }),
        4 => (0_usize..3).prop_map(Event::Free),
        1 => any::<prop::sample::Index>().prop_map(Event::Leave),
        2 => (1_u64..60).prop_map(Event::Pass),
    ]
}

fn strategy() -> impl Strategy<Value = SequenceStrategy> {
    let direct = (0_u64..20, 0.0_f32..=1.0).prop_map(|(delay, share)| {
        SequenceStrategy::Direct(Direct {
            max_delay: ms(delay),
            minimum_share: share,
        })
    });
    let oldest = (0_usize..5, prop::collection::vec(1_u32..5, 0..3), 0_u64..20)
        .prop_map(|(candidates, preferred, delay)| oldest(candidates, &preferred, delay));
    prop_oneof![direct, oldest]
}

/// The books of one play: who is where, and who has left.
struct Play {
    bench: Bench,
    now: u64,
    limit: usize,
    slots: usize,
    is_direct: bool,
    pushed: Vec<Request>,
    left: BTreeSet<usize>,
    /// The sequence of each request: a number for each START that was accepted.
    of: BTreeMap<usize, usize>,
    current: BTreeMap<String, usize>,
    /// Where a sequence runs: instance, and row if rows are kept.
    places: BTreeMap<usize, (usize, Option<usize>)>,
    last: BTreeMap<usize, usize>,
    /// When a request of a sequence last came or was given out.
    touched: BTreeMap<usize, u64>,
}

impl Play {
    /// Forgets the sequences that were idle for too long.
    fn end_idle(&mut self) {
        let waits = |sequence| {
            let mut requests = self.of.iter().filter(|(_, of)| **of == sequence);
            requests.any(|(number, _)| !self.left.contains(number))
        };
        let idle: BTreeSet<usize> = self
            .current
            .values()
            .copied()
            .filter(|sequence| !waits(*sequence) && self.touched[sequence] + IDLE <= self.now)
            .collect();
        self.current.retain(|_, sequence| !idle.contains(sequence));
    }

    fn push(&mut self, event: &Event) {
        let Event::Push {
            id,
            start,
            end,
            key,
            timeout,
        } = event
        else {
            return;
        };
        let flags = format!(
            "{}{}",
            if *start { "s" } else { "" },
            if *end { "e" } else { "" }
        );
        let mut ticket = self.bench.ticket(&format!("{id}{flags}"), self.now);
        ticket.key = BatchKey::from_slice(&[*key]);
        ticket.timeout = timeout.map(ms);
        let request = ticket.payload.clone();
        let name = id.to_string();
        match self.bench.batcher.push(ticket, self.bench.at(self.now)) {
            Ok(()) => {
                let known = self.current.get(&name).copied();
                let sequence = match (known, start) {
                    (Some(sequence), _) => sequence,
                    (None, true) => request.number,
                    (None, false) => panic!("accepted without a START"),
                };
                self.of.insert(request.number, sequence);
                self.touched.insert(sequence, self.now);
                match end {
                    true => self.current.remove(&name),
                    false => self.current.insert(name, sequence),
                };
                self.pushed.push(request);
            }
            Err(refused) => {
                assert_eq!(refused.ticket.payload, request);
                assert!(
                    !start && !self.current.contains_key(&name),
                    "{:?}",
                    refused.error
                );
                self.left.insert(request.number);
            }
        }
    }

    fn free(&mut self, instance: usize) -> bool {
        let mut into = Vec::new();
        let mut rows = Vec::new();
        let (now, gone) = (self.bench.at(self.now), self.bench.gone.clone());
        let alive = |request: &Request| !gone.contains(&request.number);
        let refused = &mut self.bench.refused;
        let next = self
            .bench
            .batcher
            .next(instance, now, &mut into, &mut rows, refused, alive);
        self.note_refused();
        assert_eq!(matches!(next, Next::Dispatch(_)), !into.is_empty());
        if let Next::WaitUntil(until) = next {
            assert!(until > now);
        }
        assert!(into.len() <= self.limit);
        if self.is_direct && !into.is_empty() {
            assert_eq!(rows.iter().filter(|row| **row).count(), into.len());
            assert!(rows.len() <= self.slots);
        } else {
            assert!(rows.is_empty());
        }
        let mut filled = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| **row)
            .map(|(at, _)| at);
        let mut seen = BTreeSet::new();
        for ticket in &into {
            let number = ticket.payload.number;
            assert!(alive(&ticket.payload));
            assert!(self.left.insert(number), "left twice");
            assert_eq!(ticket.key, into[0].key);
            let sequence = self.of[&number];
            self.touched.insert(sequence, self.now);
            assert!(seen.insert(sequence), "twice in a batch");
            let place = (instance, filled.next());
            let before = *self.places.entry(sequence).or_insert(place);
            assert_eq!(before, place, "a sequence moved");
            let earlier = self.last.insert(sequence, number);
            assert!(earlier < Some(number), "out of order");
        }
        !into.is_empty()
    }

    fn note_refused(&mut self) {
        for refused in self.bench.refused.drain(..) {
            assert!(
                self.left.insert(refused.ticket.payload.number),
                "left twice"
            );
            if refused.error.code == Code::Unavailable {
                let sequence = self.of[&refused.ticket.payload.number];
                assert!(!self.places.contains_key(&sequence), "it had a slot");
            }
            // The sequence is over, unless a later one has the name.
            let sequence = self.of[&refused.ticket.payload.number];
            self.current.retain(|_, current| *current != sequence);
        }
    }
}

proptest! {
    #[test]
    fn every_request_leaves_once_in_order_and_where_its_sequence_is(
        strategy in strategy(),
        instances in 1_usize..4,
        limit in 1_u32..5,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let slots = match &strategy {
            SequenceStrategy::Oldest(oldest) if oldest.max_candidates > 0 => oldest.max_candidates,
            _ => limit as usize,
        };
        let is_direct = matches!(strategy, SequenceStrategy::Direct(_));
        let mut play = Play {
            bench: Bench::new(strategy, instances, limit),
            now: 0,
            limit: limit as usize,
            slots,
            is_direct,
            pushed: Vec::new(),
            left: BTreeSet::new(),
            of: BTreeMap::new(),
            current: BTreeMap::new(),
            places: BTreeMap::new(),
            last: BTreeMap::new(),
            touched: BTreeMap::new(),
        };
        for event in &events {
            match event {
                Event::Push { .. } => play.push(event),
                Event::Free(instance) => { play.free(instance % instances); }
                Event::Leave(index) if !play.pushed.is_empty() => {
                    let number = index.get(&play.pushed).number;
                    play.bench.gone.insert(number);
                }
                Event::Leave(_) => {}
                Event::Pass(time) => {
                    play.now += time;
                    let mut refused = Vec::new();
                    let now = play.bench.at(play.now);
                    play.bench.batcher.expire(now, &mut refused);
                    prop_assert!(play.bench.batcher.next_deadline().is_none_or(|at| at > now));
                    play.bench.refused.append(&mut refused);
                    play.note_refused();
                    play.end_idle();
                }
            }
            prop_assert!(play.bench.batcher.active() <= slots * instances);
            let waiting = play.pushed.iter().filter(|r| !play.left.contains(&r.number)).count();
            prop_assert_eq!(play.bench.batcher.len(), waiting);
        }
        // Nobody waits for ever: idle sequences make room.
        for _ in 0..events.len() + 2 {
            play.now += IDLE + 50;
            while (0..instances).any(|instance| play.free(instance)) {}
        }
        prop_assert!(play.bench.batcher.is_empty());
        prop_assert_eq!(play.bench.batcher.next_deadline().is_some(), play.bench.batcher.active() > 0);
        for request in &play.pushed {
            prop_assert!(play.left.contains(&request.number));
        }
    }
}

#[test]
fn reasons_tell_why_a_batch_left() {
    let mut bench = Bench::new(oldest(4, &[], 0), 1, 2);
    bench.push(0, "1s 2s 3s");
    let mut reasons = Vec::new();
    for _ in 0..2 {
        let (mut into, mut rows, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let now = bench.at(0);
        reasons.push(
            bench
                .batcher
                .next(0, now, &mut into, &mut rows, &mut refused, |_| true),
        );
    }
    assert_eq!(
        reasons,
        [Next::Dispatch(Reason::Full), Next::Dispatch(Reason::Idle)]
    );
}

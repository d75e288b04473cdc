// SPDX-License-Identifier: Apache-2.0
//! Resources of instances: the rules one by one, and what must hold for every play.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test's failure.

use std::collections::BTreeMap;

use nerite_logic::rate_limit::{Group, Member, Need, RateLimiter, Resource};
use proptest::prelude::*;

fn group(count: u32, priority: u32, needs: &[(&str, u32)]) -> Group {
    let resource = |(name, count): &(&str, u32)| Resource {
        name: (*name).to_owned(),
        count: *count,
        global: false,
    };
    Group {
        count,
        rate_limiter: Need {
            resources: needs.iter().map(resource).collect(),
            priority,
        },
        ..Group::default()
    }
}

fn fixed(resources: &[(&str, u32)]) -> RateLimiter {
    let named = resources.iter().map(|(name, n)| ((*name).to_owned(), *n));
    RateLimiter::new(named.collect())
}

fn one(limiter: &mut RateLimiter, priority: u32, needs: &[(&str, u32)]) -> Member {
    limiter.admit(&group(1, priority, needs)).unwrap()[0]
}

fn stage(limiter: &mut RateLimiter, member: Member, ran: bool) -> Vec<Member> {
    let mut granted = Vec::new();
    limiter.stage(member, ran, &mut granted);
    granted
}

fn rest(limiter: &mut RateLimiter, member: Member) -> Vec<Member> {
    let mut granted = Vec::new();
    limiter.rest(member, true, &mut granted);
    granted
}

#[test]
fn there_is_the_most_that_one_needs_unless_it_is_said() {
    let mut limiter = fixed(&[("S", 9)]);
    let small = one(&mut limiter, 1, &[("R", 2), ("S", 1)]);
    assert_eq!((limiter.available("R"), limiter.available("S")), (2, 9));
    let large = one(&mut limiter, 1, &[("R", 5)]);
    assert_eq!(limiter.available("R"), 5);
    limiter.dismiss(large, &mut Vec::new());
    assert_eq!(limiter.available("R"), 2);
    limiter.dismiss(small, &mut Vec::new());
    assert_eq!(limiter.available("R"), 0);
}

#[test]
fn those_run_together_for_whom_there_is_enough() {
    let mut limiter = fixed(&[("R", 4)]);
    let members = limiter.admit(&group(3, 0, &[("R", 2)])).unwrap();
    let granted = members.iter().map(|m| stage(&mut limiter, *m, false));
    let granted: Vec<Vec<Member>> = granted.collect();
    assert_eq!(granted, [vec![members[0]], vec![members[1]], vec![]]);
    assert_eq!(limiter.held("R"), 4);
    assert_eq!(rest(&mut limiter, members[0]), [members[2]]);
}

#[test]
fn nobody_overtakes_the_first_so_that_much_is_got_too() {
    let mut limiter = fixed(&[("R", 4)]);
    let small = limiter.admit(&group(3, 1, &[("R", 2)])).unwrap();
    let large = one(&mut limiter, 1, &[("R", 4)]);
    stage(&mut limiter, small[0], false);
    assert!(stage(&mut limiter, large, false).is_empty());
    assert!(stage(&mut limiter, small[1], false).is_empty());
    assert_eq!(rest(&mut limiter, small[0]), [large]);
    assert_eq!(rest(&mut limiter, large), [small[1]]);
}

#[test]
fn priority_two_gets_half_the_turns() {
    let mut limiter = fixed(&[("R", 1)]);
    let often = one(&mut limiter, 1, &[("R", 1)]);
    let seldom = one(&mut limiter, 2, &[("R", 1)]);
    stage(&mut limiter, often, false);
    stage(&mut limiter, seldom, false);
    let mut turns = BTreeMap::new();
    for _ in 0..90 {
        let holder = *[often, seldom].iter().find(|m| limiter.holds(**m)).unwrap();
        *turns.entry(holder).or_insert(0) += 1;
        stage(&mut limiter, holder, true);
    }
    assert_eq!((turns[&often], turns[&seldom]), (60, 30));
}

#[test]
fn a_newcomer_is_not_ahead_by_all_that_others_ran() {
    let mut limiter = fixed(&[("R", 1)]);
    let old = one(&mut limiter, 1, &[("R", 1)]);
    for _ in 0..100 {
        assert_eq!(stage(&mut limiter, old, true), [old]);
    }
    let new = one(&mut limiter, 1, &[("R", 1)]);
    stage(&mut limiter, new, false);
    assert_eq!(stage(&mut limiter, old, true), [new]);
    let after = stage(&mut limiter, new, true);
    assert!(after == [old] || after == [new]);
    let mut holders = Vec::new();
    for _ in 0..6 {
        let holder = if limiter.holds(old) { old } else { new };
        holders.push(holder);
        stage(&mut limiter, holder, true);
    }
    assert!(holders.contains(&old));
}

#[test]
fn what_cannot_be_is_told_as_triton_tells_it() {
    let mut limiter = fixed(&[("R", 1)]);
    let refused = limiter.admit(&group(1, 1, &[("R", 2)])).unwrap_err();
    assert_eq!(
        refused.message,
        "Resource count for \"R\" is limited to 1 which will prevent scheduling of one or more model \
         instances, the minimum required count is 2"
    );
    one(&mut limiter, 1, &[("C", 1)]);
    let mut shared = group(1, 1, &[("C", 1)]);
    shared.rate_limiter.resources[0].global = true;
    let refused = limiter.admit(&shared).unwrap_err();
    assert_eq!(
        refused.message,
        "Resource \"C\" is present as both global and device-specific resource in the model configuration."
    );
}

#[test]
fn a_resource_that_stands_twice_is_needed_once() {
    let mut limiter = fixed(&[]);
    let twice = one(&mut limiter, 1, &[("R", 2), ("R", 1)]);
    assert_eq!(stage(&mut limiter, twice, false), [twice]);
    assert_eq!(limiter.held("R"), 2);
}

#[derive(Clone, Debug)]
enum Event {
    Stage(prop::sample::Index),
    Rest(prop::sample::Index, bool),
    Admit(Vec<(usize, u32)>, u32),
    Dismiss(prop::sample::Index),
}

const NAMES: [&str; 3] = ["A", "B", "C"];

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => index().prop_map(Event::Stage),
        4 => (index(), any::<bool>()).prop_map(|(who, ran)| Event::Rest(who, ran)),
        2 => (prop::collection::vec((0_usize..3, 0_u32..5), 0..4), 0_u32..4)
            .prop_map(|(needs, priority)| Event::Admit(needs, priority)),
        1 => index().prop_map(Event::Dismiss),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn never_more_is_held_than_there_is_and_everybody_gets_a_turn(
        events in prop::collection::vec(event(), 1..80),
        limits in (5_u32..9, 5_u32..9),
    ) {
        // Of C there is what is needed.
        let mut limiter = fixed(&[("A", limits.0), ("B", limits.1)]);
        let mut members: Vec<Member> = Vec::new();
        let mut staged: Vec<Member> = Vec::new();
        for event in events {
            let mut granted = Vec::new();
            match event {
                Event::Admit(needs, priority) => {
                    let needs: Vec<_> = needs.iter().map(|(n, count)| (NAMES[*n], *count)).collect();
                    members.extend(limiter.admit(&group(1, priority, &needs)).unwrap());
                }
                Event::Stage(index) if !members.is_empty() => {
                    let who = members[index.index(members.len())];
                    staged.retain(|m| *m != who);
                    staged.push(who);
                    limiter.stage(who, limiter.holds(who), &mut granted);
                }
                Event::Rest(index, ran) if !members.is_empty() => {
                    let who = members[index.index(members.len())];
                    staged.retain(|m| *m != who);
                    limiter.rest(who, ran, &mut granted);
                }
                Event::Dismiss(index) if !members.is_empty() => {
                    let who = members.swap_remove(index.index(members.len()));
                    staged.retain(|m| *m != who);
                    limiter.dismiss(who, &mut granted);
                }
                _ => {}
            }
            for who in granted {
                prop_assert!(limiter.holds(who) && staged.contains(&who), "granted unasked");
                staged.retain(|m| *m != who);
            }
            for (name, most) in [("A", limits.0), ("B", limits.1)] {
                prop_assert!(limiter.held(name) <= u64::from(most), "more than there is of {name}");
            }
            prop_assert!(staged.iter().all(|m| !limiter.holds(*m)), "a grant was not told");
        }
        // Those that run end one by one, and stage again: each of the waiting runs within as many ends as
        // the turns of the others may take.
        let mut waiting = staged;
        for _ in 0..10_000 {
            if waiting.is_empty() {
                break;
            }
            let holder = members.iter().find(|m| limiter.holds(**m));
            let holder = *holder.expect("somebody waits and nobody runs");
            let mut granted = Vec::new();
            limiter.stage(holder, true, &mut granted);
            waiting.retain(|m| !granted.contains(m));
            // Whoever was longest in the list of holders must not hold for ever.
            members.rotate_left(1);
        }
        prop_assert!(waiting.is_empty(), "{waiting:?} never ran");
    }
}

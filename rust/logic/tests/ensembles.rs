// SPDX-License-Identifier: Apache-2.0
//! What must hold for every ensemble, whatever the order in which its steps are answered.
//!
//! A run plays random graphs: inputs are numbers, a step adds up what it reads, and the answers of decoupled
//! steps are told apart. The same graph computed in the plainest way says what must come out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test's failure.

use std::collections::{BTreeMap, BTreeSet};

use nerite_logic::schedulers::ensemble::{Call, Flow, Plan};
use nerite_logic::spec::{EnsembleSpec, ModelSpec, StepSpec, Tie};
use proptest::prelude::*;

/// A step reads `reads` and writes the tensor of its own number behind the inputs.
#[derive(Clone, Debug)]
struct Graph {
    inputs: usize,
    reads: Vec<Vec<usize>>,
    /// Steps that write nothing although they are asked to.
    silent: BTreeSet<usize>,
    outputs: Vec<usize>,
}

impl Graph {
    fn spec(&self) -> EnsembleSpec {
        let tie = |tensor: usize| Tie {
            name: format!("t{tensor}").into(),
            tensor,
        };
        EnsembleSpec {
            tensors: self.inputs + self.reads.len(),
            outputs: self.outputs.clone(),
            steps: (0..self.reads.len())
                .map(|step| StepSpec {
                    model: "m".into(),
                    version: None,
                    inputs: self.reads[step].iter().copied().map(tie).collect(),
                    outputs: vec![tie(self.inputs + step)],
                })
                .collect(),
            most_in_flight: None,
        }
    }

    /// The plainest way: a tensor is what its step makes of what it reads.
    fn value(&self, tensor: usize, given: &[Option<u64>]) -> Option<u64> {
        let Some(step) = tensor.checked_sub(self.inputs) else {
            return given[tensor];
        };
        if self.silent.contains(&step) {
            return None;
        }
        let mut sum = 1;
        for read in &self.reads[step] {
            match self.value(*read, given) {
                Some(value) => sum += value,
                // An optional input may be left out; what a step owes may not.
                None if *read < self.inputs => {}
                None => return None,
            }
        }
        Some(sum)
    }

    fn needed(&self, outputs: &[usize]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut waiting = outputs.to_vec();
        while let Some(tensor) = waiting.pop() {
            if let Some(step) = tensor.checked_sub(self.inputs)
                && found.insert(step)
            {
                waiting.extend(&self.reads[step]);
            }
        }
        found
    }
}

fn graphs() -> impl Strategy<Value = Graph> {
    (1_usize..4, 1_usize..8).prop_flat_map(|(inputs, steps)| {
        let reads: Vec<_> = (0..steps)
            .map(|step| prop::collection::vec(0..inputs + step, 1..4))
            .collect();
        let silent = prop::collection::btree_set(0..steps, 0..2);
        let outputs = prop::collection::btree_set(0..inputs + steps, 1..4);
        (reads, silent, outputs).prop_map(move |(reads, silent, outputs)| Graph {
            inputs,
            reads,
            silent,
            outputs: outputs.into_iter().collect(),
        })
    })
}

proptest! {
    #[test]
    fn whatever_the_order_of_answers_the_same_comes_out(
        graph in graphs(),
        given in prop::collection::vec(prop::option::of(0_u64..100), 4),
        asked in prop::collection::vec(any::<bool>(), 4),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 16),
    ) {
        let plan = Plan::new(&graph.spec());
        let given = &given[..graph.inputs];
        let mut flow = Flow::new(&plan, given.iter().copied(), |output| asked[output]);
        let wanted: Vec<usize> = graph.outputs.iter().zip(&asked)
            .filter(|(_, asked)| **asked).map(|(tensor, _)| *tensor).collect();
        let needed = graph.needed(&wanted);
        let mut running: Vec<(Call, u64)> = Vec::new();
        let mut begun = BTreeSet::new();
        let mut picks = picks.iter().cycle();
        let ended = loop {
            while let Some((call, inputs)) = flow.next(&plan) {
                prop_assert!(begun.insert(call.step), "step {} ran twice", call.step);
                prop_assert!(needed.contains(&call.step), "nobody asked for step {}", call.step);
                running.push((call, 1 + inputs.iter().map(|(_, value)| value).sum::<u64>()));
            }
            if let Some(ended) = flow.ended(&plan) {
                prop_assert!(running.is_empty());
                break ended;
            }
            prop_assert!(!running.is_empty(), "nothing runs and nothing has ended");
            let (call, sum) = running.remove(picks.next().unwrap().index(running.len()));
            let says = (!graph.silent.contains(&call.step)).then_some(sum);
            flow.answer(&plan, call, says.map(|sum| (graph.inputs + call.step, sum)), false);
            flow.end(call);
        };
        prop_assert!(flow.is_over() && ended.first);
        let expected: BTreeMap<usize, u64> = graph.outputs.iter().enumerate()
            .filter(|(index, _)| asked[*index])
            .filter_map(|(index, tensor)| Some((index, graph.value(*tensor, given)?)))
            .collect();
        prop_assert_eq!(ended.outputs.into_iter().collect::<BTreeMap<_, _>>(), expected);
        prop_assert_eq!(ended.stuck, begun != needed);
    }
}

/// `x -> split (decoupled) -> a, b -> join`: every answer of the split is worked on by itself.
fn fan() -> EnsembleSpec {
    let json = r#"{"name":"e","platform":"ensemble",
        "input":[{"name":"x","data_type":"TYPE_INT32","dims":[1]}],
        "output":[{"name":"y","data_type":"TYPE_INT32","dims":[1]}],
        "ensemble_scheduling":{"step":[
            {"model_name":"split","model_version":-1,"input_map":{"i":"x"},"output_map":{"o":"s"}},
            {"model_name":"a","model_version":-1,"input_map":{"i":"s"},"output_map":{"o":"p"}},
            {"model_name":"b","model_version":2,"input_map":{"i":"s"},"output_map":{"o":"q"}},
            {"model_name":"join","model_version":-1,"input_map":{"l":"p","r":"q"},"output_map":{"o":"y"}}],
          "max_inflight_requests":3}}"#;
    ModelSpec::from_config_json(json).unwrap().ensemble.unwrap()
}

#[test]
fn a_configuration_becomes_steps() {
    let spec = fan();
    assert_eq!(spec.tensors, 5);
    assert_eq!(spec.most_in_flight, Some(3));
    let plan = Plan::new(&spec);
    let fed = |step| {
        (0..4)
            .filter(|later| plan.feeds(step, *later))
            .collect::<Vec<_>>()
    };
    assert_eq!([fed(0), fed(1), fed(3)], [vec![1, 2, 3], vec![3], vec![]]);
    let versions: Vec<_> = spec.steps.iter().map(|step| step.version).collect();
    assert_eq!(versions, [None, None, Some(2), None]);
    assert_eq!(spec.outputs, [4]);
}

proptest! {
    #[test]
    fn answers_of_a_decoupled_step_leave_in_order_and_never_mix(
        answers in 0_u64..6,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 32),
    ) {
        let spec = fan();
        let plan = Plan::new(&spec);
        let mut flow = Flow::new(&plan, [Some(1000)], |_| true);
        let (mut left, mut sent) = (answers, 0);
        let mut running: Vec<(Call, Vec<u64>)> = Vec::new();
        let mut told = Vec::new();
        let mut picks = picks.iter().cycle();
        while !flow.is_over() {
            while let Some((call, inputs)) = flow.next(&plan) {
                running.push((call, inputs.into_iter().map(|(_, value)| value).collect()));
            }
            while let Some(ended) = flow.ended(&plan) {
                if !ended.first {
                    prop_assert!(!ended.outputs.is_empty());
                    told.push(ended.outputs[0].1);
                }
            }
            if running.is_empty() {
                break;
            }
            let index = picks.next().unwrap().index(running.len());
            let (call, inputs) = running[index].clone();
            match call.step {
                0 if left > 0 => {
                    left -= 1;
                    flow.answer(&plan, call, [(1, sent)], true);
                    sent += 1;
                    continue;
                }
                0 => {}
                3 => {
                    prop_assert_eq!(inputs[0], inputs[1], "two answers were mixed");
                    flow.answer(&plan, call, [(4, inputs[0])], false);
                }
                step => flow.answer(&plan, call, [(step + 1, inputs[0])], false),
            }
            flow.end(call);
            running.swap_remove(index);
        }
        prop_assert!(flow.is_over());
        prop_assert_eq!(told, (0..answers).collect::<Vec<_>>());
    }
}

#[test]
fn only_the_step_whose_answers_are_next_is_said_to_be_ahead() {
    let json = r#"{"name":"e","platform":"ensemble",
        "input":[{"name":"x","data_type":"TYPE_INT32","dims":[1]}],
        "output":[{"name":"y","data_type":"TYPE_INT32","dims":[1]}],
        "ensemble_scheduling":{"step":[
            {"model_name":"a","model_version":-1,"input_map":{"i":"x"},"output_map":{"o":"s"}},
            {"model_name":"b","model_version":-1,"input_map":{"i":"s"},"output_map":{"o":"y"}}]}}"#;
    let spec = ModelSpec::from_config_json(json).unwrap().ensemble.unwrap();
    let plan = Plan::new(&spec);
    let mut flow = Flow::new(&plan, [Some(0)], |_| true);
    let (a, _) = flow.next(&plan).unwrap();
    flow.answer(&plan, a, [(1, 1)], true);
    flow.answer(&plan, a, [(1, 2)], true);
    let calls = [flow.next(&plan).unwrap(), flow.next(&plan).unwrap()];
    let [(first, one), (second, two)] = calls;
    assert_eq!((one[0].1, two[0].1), (1, 2));
    for call in [first, second] {
        flow.answer(&plan, call, [(2, 7)], true);
        flow.answer(&plan, call, [(2, 8)], true);
    }
    let ahead = |flow: &Flow<i32>| [a, first, second].map(|call| flow.backlog(call));
    assert_eq!(ahead(&flow), [2, 2, 0]);
    assert_eq!(flow.ended(&plan).unwrap().outputs.to_vec(), [(0, 7)]);
    assert_eq!(ahead(&flow), [2, 1, 0]);
    flow.end(first);
    assert_eq!(flow.ended(&plan).unwrap().outputs.to_vec(), [(0, 8)]);
    assert_eq!(flow.ended(&plan).unwrap().outputs.to_vec(), [(0, 7)]);
    assert_eq!(ahead(&flow), [1, 0, 1]);
}

#[test]
fn outputs_from_before_the_decoupled_step_go_with_each_of_its_answers() {
    let mut spec = fan();
    spec.outputs = vec![0, 4];
    let plan = Plan::new(&spec);
    let mut flow = Flow::new(&plan, [Some(7)], |_| true);
    let (split, _) = flow.next(&plan).unwrap();
    flow.answer(&plan, split, [(1, 1)], true);
    for _ in 0..2 {
        let (call, inputs) = flow.next(&plan).unwrap();
        let tensor = call.step + 1;
        flow.answer(&plan, call, [(tensor, inputs[0].1)], false);
        flow.end(call);
    }
    let (join, _) = flow.next(&plan).unwrap();
    assert!(flow.ended(&plan).is_none());
    flow.answer(&plan, join, [(4, 9)], false);
    flow.end(join);
    let ended = flow.ended(&plan).unwrap();
    assert_eq!(ended.outputs.to_vec(), [(0, 7), (1, 9)]);
    assert!(!flow.is_over());
    flow.end(split);
    assert!(flow.ended(&plan).is_none() && flow.is_over());
}

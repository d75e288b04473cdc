// SPDX-License-Identifier: Apache-2.0
//! Which steps of an ensemble can run, with what, and what comes out of it in which order.
//!
//! A [`Plan`] is made once for a version, a [`Flow`] for each request. The engine asks for the next
//! [`Call`], runs it, and says what came of it; a tensor leaves the flow with the last step that reads it.
//!
//! Every answer of a decoupled step opens a **branch**: what is computed from that answer, up to the next
//! decoupled step. All inputs of a step come from one branch (the configuration is refused otherwise).
//! Branches are kept depth first, so that what they end in leaves in the order of the answers that opened
//! them, however their steps overtake each other. An ensemble without decoupled steps has the one branch
//! that it begins with.

use smallvec::SmallVec;

use crate::spec::EnsembleSpec;

/// What is known of an ensemble before any request.
#[derive(Clone, Debug)]
pub struct Plan {
    tensors: usize,
    outputs: Vec<usize>,
    steps: Vec<Step>,
    /// The steps that read each tensor, each once.
    readers: Vec<SmallVec<[usize; 2]>>,
    /// For each step, whether each other one needs, by whatever way, what it writes.
    feeds: Vec<Vec<bool>>,
}

#[derive(Clone, Debug)]
struct Step {
    inputs: SmallVec<[usize; 4]>,
    outputs: SmallVec<[usize; 4]>,
}

impl Plan {
    /// The plan of an ensemble.
    #[must_use]
    pub fn new(spec: &EnsembleSpec) -> Self {
        let steps: Vec<_> = spec
            .steps
            .iter()
            .map(|step| Step {
                inputs: step.inputs.iter().map(|tie| tie.tensor).collect(),
                outputs: step.outputs.iter().map(|tie| tie.tensor).collect(),
            })
            .collect();
        let reads = |tensor| move |(_, step): &(usize, &Step)| step.inputs.contains(&tensor);
        let readers = (0..spec.tensors)
            .map(|tensor| {
                let steps = steps.iter().enumerate().filter(reads(tensor));
                steps.map(|(index, _)| index).collect()
            })
            .collect();
        let feeds = (0..steps.len()).map(|step| fed_by(step, &steps)).collect();
        Self {
            tensors: spec.tensors,
            outputs: spec.outputs.clone(),
            steps,
            readers,
            feeds,
        }
    }

    /// Whether step `later` needs what step `earlier` writes, or what others make of that.
    #[must_use]
    pub fn feeds(&self, earlier: usize, later: usize) -> bool {
        let row = self.feeds.get(earlier);
        row.and_then(|row| row.get(later)).copied().unwrap_or(false)
    }

    /// The steps without which the outputs that are `asked` for cannot be had.
    fn needed(&self, asked: &[bool]) -> SmallVec<[bool; 8]> {
        let mut needed: SmallVec<[bool; 8]> = SmallVec::from_elem(false, self.steps.len());
        let outputs = self.outputs.iter().zip(asked).filter(|(_, asked)| **asked);
        let mut wanted: SmallVec<[usize; 8]> = outputs.map(|(tensor, _)| *tensor).collect();
        while let Some(tensor) = wanted.pop() {
            for (step, needed) in self.steps.iter().zip(&mut needed) {
                if step.outputs.contains(&tensor) && !std::mem::replace(needed, true) {
                    wanted.extend_from_slice(&step.inputs);
                }
            }
        }
        needed
    }
}

/// The steps that need what `step` writes.
fn fed_by(step: usize, steps: &[Step]) -> Vec<bool> {
    let mut fed = vec![false; steps.len()];
    let mut waiting = vec![step];
    while let Some(writer) = waiting.pop().and_then(|step| steps.get(step)) {
        for (index, reader) in steps.iter().enumerate() {
            let reads = reader
                .inputs
                .iter()
                .any(|read| writer.outputs.contains(read));
            if let Some(known) = fed.get_mut(index).filter(|known| reads && !**known) {
                *known = true;
                waiting.push(index);
            }
        }
    }
    fed
}

/// A step that is to run, or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Which step.
    pub step: usize,
    branch: u32,
}

/// A tensor in a branch.
#[derive(Debug)]
enum Place<T> {
    /// Nobody has written it.
    Unset,
    /// It is an optional input that the request left out.
    Absent,
    /// It is there, for so many more uses.
    Held(T, usize),
    /// All that needed it have had it.
    Used,
}

#[derive(Debug)]
struct Branch<T> {
    id: u32,
    depth: u32,
    /// The branch that it came of.
    parent: u32,
    /// Branches that came of it and have not ended.
    children: usize,
    places: SmallVec<[Place<T>; 6]>,
    begun: SmallVec<[bool; 8]>,
    /// Steps that run or are about to.
    busy: usize,
    /// Other branches came of it: they have the answers.
    opened: bool,
}

/// A branch that has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended<T> {
    /// Those of the outputs asked for that there are, by their place in the declaration.
    pub outputs: SmallVec<[(usize, T); 2]>,
    /// A step that is needed could not be made, for want of an input that nobody wrote.
    pub stuck: bool,
    /// It is the one that the request began with.
    pub first: bool,
}

/// One request on its way through an ensemble.
#[derive(Debug)]
pub struct Flow<T> {
    asked: SmallVec<[bool; 4]>,
    needed: SmallVec<[bool; 8]>,
    /// Depth first; the first one is that of the request.
    branches: SmallVec<[Branch<T>; 1]>,
    ready: SmallVec<[Call; 4]>,
    next_id: u32,
}

/// Inputs of a call: their place among the step's ties, and their values.
pub type Inputs<T> = SmallVec<[(usize, T); 4]>;

impl<T: Clone> Flow<T> {
    /// A request with these inputs, in the order of the declaration (`None` for an optional one that is
    /// left out), for those of the outputs that are `asked` for.
    pub fn new(
        plan: &Plan,
        inputs: impl IntoIterator<Item = Option<T>>,
        asked: impl Fn(usize) -> bool,
    ) -> Self {
        let asked: SmallVec<[bool; 4]> = (0..plan.outputs.len()).map(asked).collect();
        let mut flow = Self {
            needed: plan.needed(&asked),
            asked,
            branches: SmallVec::new(),
            ready: SmallVec::new(),
            next_id: 0,
        };
        flow.branches.push(flow.branch(plan, 0, 0, 0));
        flow.next_id = 1;
        for (tensor, value) in inputs.into_iter().enumerate() {
            flow.put(plan, 0, tensor, value);
        }
        flow.find_ready(plan, 0);
        flow
    }

    /// Whether the outputs asked for need this step.
    #[must_use]
    pub fn needs(&self, step: usize) -> bool {
        self.needed.get(step).copied().unwrap_or(false)
    }

    /// Branches under way that came of the one of this call, if it is that whose answers are next.
    ///
    /// The others are not to be held back: what comes before them may wait for the model that they keep.
    #[must_use]
    pub fn backlog(&self, call: Call) -> usize {
        let branch = self.branches.iter().enumerate();
        // All that is before the branch in question is what it came of.
        let mut line = branch.take_while(|(at, branch)| branch.depth as usize == *at);
        let found = line.find(|(_, branch)| branch.id == call.branch);
        found.map_or(0, |(_, branch)| branch.children)
    }

    /// The next step that can run, and what it reads; optional inputs that are absent are left out.
    pub fn next(&mut self, plan: &Plan) -> Option<(Call, Inputs<T>)> {
        // The oldest first: where there is room for one, it must not be kept from what comes before.
        let call = (!self.ready.is_empty()).then(|| self.ready.remove(0))?;
        let branch = self.position(call.branch)?;
        let branch = self.branches.get_mut(branch)?;
        let step = plan.steps.get(call.step)?;
        let taken = |(tie, tensor): (usize, &usize)| {
            let place = branch.places.get_mut(*tensor)?;
            Some((tie, take(place)?))
        };
        let inputs = step.inputs.iter().enumerate().filter_map(taken).collect();
        Some((call, inputs))
    }

    /// A call was answered with these values, each with the number of its tensor. An answer that
    /// `opens` a branch is one of any number, that of a decoupled step.
    pub fn answer(
        &mut self,
        plan: &Plan,
        call: Call,
        values: impl IntoIterator<Item = (usize, T)>,
        opens: bool,
    ) {
        let Some(mut at) = self.position(call.branch) else {
            return;
        };
        if opens {
            at = self.open(plan, at);
        }
        for (tensor, value) in values {
            self.put(plan, at, tensor, Some(value));
        }
        self.find_ready(plan, at);
    }

    /// A call has had its last answer.
    pub fn end(&mut self, call: Call) {
        if let Some(at) = self.position(call.branch)
            && let Some(branch) = self.branches.get_mut(at)
        {
            branch.busy = branch.busy.saturating_sub(1);
        }
    }

    /// The next branch that has come to its end, unless an earlier one has not.
    pub fn ended(&mut self, plan: &Plan) -> Option<Ended<T>> {
        let mut at = 0;
        // Where an earlier branch goes on, only what came of it can be next.
        let mut floor = None;
        while let Some(branch) = self.branches.get(at) {
            if floor.is_some_and(|depth| branch.depth <= depth) {
                return None;
            }
            let next = self.branches.get(at + 1);
            let is_leaf = next.is_none_or(|next| next.depth <= branch.depth);
            if branch.busy == 0 && is_leaf {
                let ended = self.close(plan, at);
                if ended.is_some() {
                    return ended;
                }
                (at, floor) = (0, None);
                continue;
            }
            if is_leaf && !branch.opened {
                return None;
            }
            if branch.busy > 0 {
                floor = Some(branch.depth);
            }
            at += 1;
        }
        None
    }

    /// Whether nothing is left to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.branches.is_empty()
    }

    /// Takes a branch out; nothing is told of one whose answers others had.
    fn close(&mut self, plan: &Plan, at: usize) -> Option<Ended<T>> {
        let outputs = self.outputs(plan, at);
        let branch = self.branches.remove(at);
        if let Some(parent) = self.position(branch.parent)
            && let Some(parent) = self.branches.get_mut(parent)
        {
            parent.children = parent.children.saturating_sub(1);
        }
        if branch.opened {
            return None;
        }
        let needed = self.needed.iter().zip(&branch.begun);
        Some(Ended {
            stuck: needed.into_iter().any(|(needed, begun)| *needed && !begun),
            first: branch.depth == 0,
            outputs,
        })
    }

    /// The outputs that a branch ends in: its own, and with them those of the branches that it came of.
    fn outputs(&self, plan: &Plan, at: usize) -> SmallVec<[(usize, T); 2]> {
        let mut outputs = SmallVec::new();
        let mut own = 0;
        for (index, tensor) in plan.outputs.iter().enumerate() {
            if !self.asked.get(index).copied().unwrap_or(false) {
                continue;
            }
            let mut depth = u32::MAX;
            let line = self.branches.iter().take(at + 1).rev().filter(|branch| {
                let is_above = branch.depth < depth;
                depth = depth.min(branch.depth);
                is_above
            });
            let held = line.map(|branch| (branch.id, branch.places.get(*tensor)));
            for (id, place) in held {
                if let Some(Place::Held(value, _)) = place {
                    own += usize::from(self.branches.get(at).is_some_and(|own| own.id == id));
                    outputs.push((index, value.clone()));
                    break;
                }
            }
        }
        if own == 0 {
            // A branch that wrote none is not answered with those of the one before alone.
            outputs.clear();
        }
        outputs
    }

    fn branch(&self, plan: &Plan, id: u32, depth: u32, parent: u32) -> Branch<T> {
        Branch {
            id,
            depth,
            parent,
            children: 0,
            places: (0..plan.tensors).map(|_| Place::Unset).collect(),
            begun: SmallVec::from_elem(false, self.needed.len()),
            busy: 0,
            opened: false,
        }
    }

    /// Opens a branch behind all that came of the one at `at` before, and says where.
    fn open(&mut self, plan: &Plan, at: usize) -> usize {
        let (mut parent, mut depth) = (0, 0);
        if let Some(branch) = self.branches.get_mut(at) {
            branch.opened = true;
            branch.children += 1;
            (parent, depth) = (branch.id, branch.depth);
        }
        let below = self.branches.iter().skip(at + 1);
        let place = at + 1 + below.take_while(|branch| branch.depth > depth).count();
        let branch = self.branch(plan, self.next_id, depth + 1, parent);
        self.next_id = self.next_id.wrapping_add(1);
        self.branches.insert(place, branch);
        place
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.branches.iter().position(|branch| branch.id == id)
    }

    /// Sets a tensor, if anybody needs it.
    fn put(&mut self, plan: &Plan, at: usize, tensor: usize, value: Option<T>) {
        let uses = self.uses(plan, tensor);
        let Some(place) = self
            .branches
            .get_mut(at)
            .and_then(|branch| branch.places.get_mut(tensor))
        else {
            return;
        };
        *place = match value {
            None => Place::Absent,
            Some(_) if uses == 0 => Place::Used,
            Some(value) => Place::Held(value, uses),
        };
    }

    /// How often a tensor is needed: by inputs of steps, and in the answer.
    fn uses(&self, plan: &Plan, tensor: usize) -> usize {
        let read = |step: &usize| {
            let inputs = plan.steps.get(*step).filter(|_| self.needs(*step));
            inputs.map_or(0, |step| count(&step.inputs, tensor))
        };
        let readers = plan.readers.get(tensor);
        let reads: usize = readers.map_or(0, |steps| steps.iter().map(read).sum());
        let mut outputs = plan.outputs.iter().zip(&self.asked);
        let is_output = outputs.any(|(output, asked)| *asked && *output == tensor);
        reads + usize::from(is_output)
    }

    /// Notes the steps of a branch whose inputs are all there now.
    fn find_ready(&mut self, plan: &Plan, at: usize) {
        let Self {
            branches,
            needed,
            ready,
            ..
        } = self;
        let Some(branch) = branches.get_mut(at) else {
            return;
        };
        let steps = plan.steps.iter().zip(needed.iter()).enumerate();
        for (index, (step, needed)) in steps {
            let is_set = |tensor: &usize| !matches!(branch.places.get(*tensor), Some(Place::Unset));
            if !*needed || !step.inputs.iter().all(is_set) {
                continue;
            }
            let Some(begun) = branch.begun.get_mut(index) else {
                continue;
            };
            if !std::mem::replace(begun, true) {
                branch.busy += 1;
                ready.push(Call {
                    step: index,
                    branch: branch.id,
                });
            }
        }
    }
}

fn count(tensors: &[usize], tensor: usize) -> usize {
    tensors.iter().filter(|each| **each == tensor).count()
}

/// A value for one more use; the last one takes it along.
fn take<T: Clone>(place: &mut Place<T>) -> Option<T> {
    match place {
        Place::Held(value, left) if *left > 1 => {
            *left -= 1;
            Some(value.clone())
        }
        Place::Held(..) => match std::mem::replace(place, Place::Used) {
            Place::Held(value, _) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

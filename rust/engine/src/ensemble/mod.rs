// SPDX-License-Identifier: Apache-2.0
//! Ensembles: a version whose requests are answered by other versions (`spec/triton.md` 5.6).
//!
//! A request to an ensemble stays on the I/O thread that owns its connection. [`run::Run`] asks
//! `nerite_logic::schedulers::ensemble` what can run, hands the steps' requests to the lane like those of any
//! client, and is woken by their replies; tensors go from one to the next as they are. No thread and no
//! queue belong to an ensemble. Dropping a run frees the slots of its steps.

pub mod counting;
pub mod run;
mod step;

use std::sync::Arc;

use arc_swap::ArcSwap;
use nerite_logic::Error;
use nerite_logic::message::RequestedOutput;
use nerite_logic::schedulers::ensemble::Plan;
use nerite_logic::spec::{EnsembleSpec, StepSpec};
use smallvec::SmallVec;
use tokio::sync::Semaphore;

use crate::table::Table;
use crate::version::Version;

/// What a version of an ensemble has instead of instances.
#[derive(Debug)]
pub struct Ensemble {
    spec: EnsembleSpec,
    plan: Plan,
    /// The outputs that each step is asked for.
    outputs: Vec<SmallVec<[RequestedOutput; 2]>>,
    /// Room for requests to each step; empty where there is no limit.
    room: Vec<Arc<Semaphore>>,
    table: Arc<ArcSwap<Table>>,
}

impl Ensemble {
    /// An ensemble whose models are found in `table`.
    #[must_use]
    pub fn new(spec: &EnsembleSpec, table: Arc<ArcSwap<Table>>) -> Self {
        let asked = |step: &StepSpec| {
            let outputs = step.outputs.iter().map(|tie| RequestedOutput {
                name: tie.name.clone(),
                ..RequestedOutput::default()
            });
            outputs.collect()
        };
        let room = spec.most_in_flight.map(|most| {
            let most = most.min(Semaphore::MAX_PERMITS);
            let semaphores = spec.steps.iter().map(|_| Arc::new(Semaphore::new(most)));
            semaphores.collect()
        });
        Self {
            plan: Plan::new(spec),
            outputs: spec.steps.iter().map(asked).collect(),
            room: room.unwrap_or_default(),
            spec: spec.clone(),
            table,
        }
    }

    /// The versions that the steps `needed` reach now; `owner` is the ensemble's own.
    ///
    /// They are found together, before the first step: what is loaded or unloaded meanwhile makes no
    /// difference to a request that has begun.
    fn versions(
        &self,
        owner: &Version,
        needed: impl Fn(usize) -> bool,
    ) -> Result<SmallVec<[Option<Arc<Version>>; 4]>, Error> {
        let table = self.table.load();
        let find = |(index, step): (usize, &StepSpec)| {
            if !needed(index) {
                return Ok(None);
            }
            // The ensemble's own repository goes before all others.
            let key = owner.namespace.get();
            let key = key.map(|namespace| format!("{}\0{namespace}", step.model));
            let near = key.filter(|key| table.entry(key).is_some());
            let name = near.as_deref().unwrap_or(&step.model);
            table.find(name, step.version).map(Arc::clone).map(Some)
        };
        self.spec.steps.iter().enumerate().map(find).collect()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! One request on its way through an ensemble.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use nerite_logic::message::{Control, InferRequest, InferResponse, Parameters, Shape, Tensor};
use nerite_logic::schedulers::batch_dimension::fit;
use nerite_logic::schedulers::ensemble::{Call, Ended, Flow, Inputs};
use nerite_logic::{DataType, Error};
use smallvec::SmallVec;

use super::Ensemble;
use super::counting::{Account, Timings};
use super::step::Step;
use crate::gather::{backend_shape, client_shape, find};
use crate::lane::Outcome;
use crate::responses::Answer;
use crate::trace::{Point, Trace};
use crate::version::Version;

/// Answers of one step that may be worked on at a time, where the configuration sets no limit; one more
/// waits where it comes from.
const MOST_BRANCHES: usize = 128;

/// A tensor between two steps.
#[derive(Clone, Debug)]
struct Value {
    datatype: DataType,
    shape: Shape,
    data: Bytes,
    /// Its first dimension is that of a batch.
    has_batch: bool,
}

/// What every step is told of the request.
#[derive(Debug)]
struct Forwarded {
    id: ByteString,
    control: Control,
    parameters: Parameters,
}

/// A request to an ensemble, moved on by whoever waits for its answers.
#[derive(Debug)]
pub struct Run {
    version: Arc<Version>,
    steps: SmallVec<[Option<Arc<Version>>; 4]>,
    flow: Flow<Value>,
    running: SmallVec<[Step; 2]>,
    forwarded: Forwarded,
    account: Account,
    trace: Option<Arc<Trace>>,
    over: bool,
}

impl Run {
    /// Begins a request that has passed its check; nothing moves before it is asked for answers.
    ///
    /// # Errors
    /// If a model of the ensemble is not there.
    pub fn new(
        version: &Arc<Version>,
        request: InferRequest,
        rows: u32,
        received: Instant,
        trace: Option<Arc<Trace>>,
        outer: Option<Arc<Timings>>,
    ) -> Result<Self, Error> {
        let ensemble = ensemble_of(version)?;
        if let Some(trace) = &trace {
            trace.mark(Point::QueueStart);
        }
        let spec = &version.spec;
        let inputs = spec.inputs.iter().map(|declared| {
            find(&request.inputs, declared).map(|tensor| Value {
                datatype: tensor.datatype,
                shape: backend_shape(spec, declared, &tensor.shape),
                data: tensor.data.clone(),
                has_batch: spec.batches(),
            })
        });
        let asked = |index: usize| {
            let name = spec.outputs.get(index).map(|output| &output.name);
            let mut listed = request.outputs.iter();
            request.outputs.is_empty() || listed.any(|output| Some(&output.name) == name)
        };
        let flow = Flow::new(&ensemble.plan, inputs, asked);
        let mut account = Account::new(Arc::clone(version), rows, received, outer);
        let steps = ensemble.versions(version, |step| flow.needs(step));
        let steps = steps.map_err(|why| {
            account.end(false);
            within(version, why)
        })?;
        Ok(Self {
            version: Arc::clone(version),
            steps,
            flow,
            running: SmallVec::new(),
            forwarded: Forwarded {
                id: request.id,
                control: request.control,
                parameters: request.parameters,
            },
            account,
            trace,
            over: false,
        })
    }

    /// The next answer; nothing must be asked for behind the last one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Answer> {
        let moved = self.advance(context);
        moved.map(|outcome| {
            let last = outcome.is_err() || self.flow.is_over() || !self.version.spec.decoupled;
            if matches!(outcome, Ok(Some(_))) {
                self.account.answered();
            }
            if last {
                self.account.end(outcome.is_ok());
                self.running.clear();
                self.over = true;
            }
            let outcome = outcome
                .map_err(|why| within(&self.version, why))
                .transpose();
            Answer::now(outcome, last)
        })
    }

    /// The only answer of an ensemble that is not decoupled.
    pub fn poll_only(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let none = || Err(Error::internal("an ensemble ended without an answer"));
        self.poll_next(context)
            .map(|answer| answer.outcome.unwrap_or_else(none))
    }

    /// Moves on until there is something to tell.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<InferResponse>, Error>> {
        if self.over {
            return Poll::Ready(Err(Error::internal(
                "asked for answers behind the last one",
            )));
        }
        let version = Arc::clone(&self.version);
        let ensemble = ensemble_of(&version)?;
        loop {
            while let Some((call, inputs)) = self.flow.next(&ensemble.plan) {
                self.begin(ensemble, call, inputs)?;
            }
            while let Some(ended) = self.flow.ended(&ensemble.plan) {
                if let Some(response) = self.response(ended)? {
                    return Poll::Ready(Ok(Some(response)));
                }
            }
            if self.flow.is_over() {
                return Poll::Ready(Ok(None));
            }
            if !self.poll_steps(ensemble, context)? {
                return Poll::Pending;
            }
        }
    }

    fn begin(
        &mut self,
        ensemble: &Ensemble,
        call: Call,
        inputs: Inputs<Value>,
    ) -> Result<(), Error> {
        let missing = || Error::internal("a step has no model");
        let version = self.steps.get(call.step).and_then(Option::as_ref);
        let version = Arc::clone(version.ok_or_else(missing)?);
        let step = ensemble.spec.steps.get(call.step).ok_or_else(missing)?;
        let tensor = |(tie, value): (usize, Value)| {
            let name = &step.inputs.get(tie)?.name;
            let (_, declared) = version.spec.input(name)?;
            let (has_batch, batches) = (value.has_batch, version.spec.batches());
            Some(Tensor {
                name: name.clone(),
                datatype: value.datatype,
                shape: fit(value.shape, has_batch, &declared.dims, batches),
                data: value.data,
            })
        };
        let request = InferRequest {
            id: self.forwarded.id.clone(),
            control: self.forwarded.control.clone(),
            parameters: self.forwarded.parameters.clone(),
            inputs: inputs.into_iter().filter_map(tensor).collect(),
            outputs: ensemble.outputs.get(call.step).cloned().unwrap_or_default(),
            ..InferRequest::default()
        };
        let timings = Arc::clone(&self.account.timings);
        let room = ensemble.room.get(call.step);
        let trace = self.trace.as_ref();
        self.running
            .push(Step::new(call, version, request, timings, trace, room));
        Ok(())
    }

    /// Takes what the steps have to say; whether any of them had something.
    fn poll_steps(
        &mut self,
        ensemble: &Ensemble,
        context: &mut Context<'_>,
    ) -> Result<bool, Error> {
        let mut moved = false;
        let waiting: SmallVec<[usize; 4]> = self
            .running
            .iter()
            .filter(|step| step.is_waiting())
            .map(|step| step.call.step)
            .collect();
        let mut index = 0;
        while let Some(step) = self.running.get_mut(index) {
            if step.is_decoupled() && is_held_back(ensemble, &self.flow, step.call, &waiting) {
                index += 1;
                continue;
            }
            let Poll::Ready(Answer { outcome, last, .. }) = step.poll(context) else {
                index += 1;
                continue;
            };
            moved = true;
            let call = step.call;
            if let Some(outcome) = outcome {
                let values = values(ensemble, call, outcome?, step.version.spec.batches());
                let opens = step.version.spec.decoupled;
                self.flow.answer(&ensemble.plan, call, values, opens);
            }
            if last {
                self.flow.end(call);
                self.running.remove(index);
            } else {
                index += 1;
            }
        }
        Ok(moved)
    }

    /// What a branch ends in, if it is told.
    fn response(&self, ended: Ended<Value>) -> Result<Option<InferResponse>, Error> {
        let spec = &self.version.spec;
        if ended.stuck && ended.first && !spec.decoupled {
            let id = match &*self.forwarded.id {
                "" => "<id_unknown>",
                id => id,
            };
            return Err(Error::invalid(format!(
                "[request id: {id}] unexpected deadlock, at least one output is not set while no more \
                 ensemble steps can be made"
            )));
        }
        if ended.outputs.is_empty() && spec.decoupled {
            return Ok(None);
        }
        let tensor = |(index, value): (usize, Value)| {
            let declared = spec.outputs.get(index)?;
            let dims = declared.reshape.as_ref().unwrap_or(&declared.dims);
            let shape = fit(value.shape, value.has_batch, dims, spec.batches());
            Some(Tensor {
                name: declared.name.clone(),
                datatype: value.datatype,
                shape: client_shape(spec, declared, &shape),
                data: value.data,
            })
        };
        Ok(Some(InferResponse {
            parameters: Parameters::new(),
            outputs: ended.outputs.into_iter().filter_map(tensor).collect(),
        }))
    }
}

/// Whether a decoupled step is to wait with its next answer; `waiting` are the steps that wait for room.
fn is_held_back(ensemble: &Ensemble, flow: &Flow<Value>, call: Call, waiting: &[usize]) -> bool {
    if ensemble.room.is_empty() {
        return flow.backlog(call) >= MOST_BRANCHES;
    }
    // What comes after a step that waits is not: it makes room.
    let mut waiting = waiting.iter();
    waiting.any(|later| ensemble.plan.feeds(call.step, *later))
}

/// The answer of a step as ensemble tensors.
fn values(
    ensemble: &Ensemble,
    call: Call,
    response: InferResponse,
    has_batch: bool,
) -> impl Iterator<Item = (usize, Value)> {
    let ties = ensemble.spec.steps.get(call.step);
    let ties = ties.map_or(&[][..], |step| &step.outputs);
    response.outputs.into_iter().filter_map(move |tensor| {
        let tie = ties.iter().find(|tie| tie.name == tensor.name)?;
        let value = Value {
            datatype: tensor.datatype,
            shape: tensor.shape,
            data: tensor.data,
            has_batch,
        };
        Some((tie.tensor, value))
    })
}

fn ensemble_of(version: &Version) -> Result<&Ensemble, Error> {
    let missing = || Error::internal(format!("model '{}' is no ensemble", version.spec.name));
    version.ensemble.as_ref().ok_or_else(missing)
}

#[cold]
fn within(version: &Version, why: Error) -> Error {
    let text = format!("in ensemble '{}', {}", version.spec.name, why.message);
    Error::new(why.code, text)
}

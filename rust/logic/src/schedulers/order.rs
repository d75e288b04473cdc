// SPDX-License-Identifier: Apache-2.0
//! Answers leave in the order in which their requests came (`preserve_ordering`).
//!
//! Several instances of a model finish batches in any order. Each request takes a number when it is
//! accepted; an answer is held back until all with lower numbers have left.

use std::collections::VecDeque;

/// Puts finished work back into the order in which it was started.
#[derive(Debug)]
pub struct Reorder<T> {
    /// The number of the front of `places`.
    first: u64,
    places: VecDeque<Place<T>>,
}

#[derive(Debug)]
enum Place<T> {
    /// Not finished.
    Pending,
    /// Finished, but not yet at the front.
    Held(T),
    /// Left without an answer of its own, e.g. refused before it ran.
    Skipped,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self {
            first: 0,
            places: VecDeque::new(),
        }
    }
}

impl<T> Reorder<T> {
    /// Nothing under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of a request that is accepted now.
    pub fn enter(&mut self) -> u64 {
        self.places.push_back(Place::Pending);
        self.first + self.places.len() as u64 - 1
    }

    /// Hands in the answer to request `number` and appends to `out` all that may leave now, in order.
    /// Gives the answer back if that number was never given or is finished already.
    ///
    /// # Errors
    /// The answer, if it is not waited for.
    pub fn finish(&mut self, number: u64, answer: T, out: &mut Vec<T>) -> Result<(), T> {
        match self.place(number) {
            Some(place @ Place::Pending) => *place = Place::Held(answer),
            _ => return Err(answer),
        }
        self.release(out);
        Ok(())
    }

    /// Stops waiting for request `number`, which was answered elsewhere; appends to `out` all that may
    /// leave now.
    pub fn skip(&mut self, number: u64, out: &mut Vec<T>) {
        if let Some(place @ Place::Pending) = self.place(number) {
            *place = Place::Skipped;
            self.release(out);
        }
    }

    /// Requests that have not left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether every request has left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn place(&mut self, number: u64) -> Option<&mut Place<T>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.places.get_mut(index)
    }

    fn release(&mut self, out: &mut Vec<T>) {
        while self
            .places
            .front()
            .is_some_and(|place| !matches!(place, Place::Pending))
        {
            self.first += 1;
            if let Some(Place::Held(answer)) = self.places.pop_front() {
                out.push(answer);
            }
        }
    }
}

//! What is to happen when: a queue of actions by time, and slots for the things they act on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::fraud::Kind;

/// The streams of people that set a world in motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    /// Somebody wants a ride and opens the app.
    WantRide,
    /// Somebody looks around in the app.
    Browse,
    /// Somebody sees an ad on another site.
    SeeAd,
}

/// Things to do. Numbers are slots of trips, payments, sessions, scripts and repetitions, or indices of cities and drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Somebody turns up in a city.
    Arrival(Arrival, u8),
    /// Nobody turned up; the rate of arrivals may have changed since.
    Redraw(Arrival, u8),
    /// The next step of a session.
    Click(u32),
    /// The request to which a session has led reaches dispatch.
    Request(u32),
    Match(u32),
    Arrive(u32),
    PickUp(u32),
    Complete(u32),
    CancelByRider(u32),
    CancelByDriver(u32),
    NoShow(u32),
    Authorise(u32),
    Refund(u32),
    ChargeBack(u32),
    /// A fraud episode of this kind begins.
    Episode(Kind),
    /// The next payment of an episode.
    Attempt(u32),
    /// A pair that rides again.
    RideAgain(u32),
    SignOn(u32),
    SignOff(u32),
}

/// Actions by time; those of equal time in the order in which they were planned.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    queue: BinaryHeap<Reverse<(i64, u64, Action)>>,
    planned: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, time_us: i64, action: Action) {
        self.planned += 1;
        self.queue.push(Reverse((time_us, self.planned, action)));
    }

    pub(crate) fn next_us(&self) -> i64 {
        self.queue.peek().map_or(i64::MAX, |Reverse((time_us, ..))| *time_us)
    }

    pub(crate) fn pop(&mut self) -> Option<(i64, Action)> {
        self.queue.pop().map(|Reverse((time_us, _, action))| (time_us, action))
    }
}

/// Values with stable numbers; numbers of removed values are used again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.values[slot as usize] = Some(value);
            return slot;
        }
        self.values.push(Some(value));
        (self.values.len() - 1) as u32
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.values.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.values.get(slot as usize)?.as_ref()
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.values.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_by_time_then_as_planned() {
        let mut agenda = Agenda::default();
        for (time_us, slot) in [(5, 1), (3, 2), (5, 0), (4, 9)] {
            agenda.plan(time_us, Action::Click(slot));
        }
        assert_eq!(agenda.next_us(), 3);
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, [(3, Action::Click(2)), (4, Action::Click(9)), (5, Action::Click(1)), (5, Action::Click(0))]);
    }

    #[test]
    fn slots_are_used_again() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert("a"), slots.insert("b"));
        assert_eq!(slots.remove(a), Some("a"));
        assert_eq!((slots.remove(a), slots.get(b)), (None, Some(&"b")));
        assert_eq!(slots.insert("c"), a);
    }
}

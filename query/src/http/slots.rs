//! Places for queries that run at once, first come, first served. A query that waits too long is refused, with how many are before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Problem;

/// Places of one kind.
pub(super) struct Slots {
    places: Arc<Semaphore>,
    count: usize,
    waiting: AtomicUsize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(count)), count, waiting: AtomicUsize::new(0) }
    }

    /// A place, as soon as there is one; a problem if there is none for that long.
    pub(super) async fn take(&self, wait: Duration) -> Result<OwnedSemaphorePermit, Problem> {
        let before = Waiting::new(&self.waiting);
        match timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::busy(self.count, before.others())),
        }
    }
}

/// One that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }

    fn others(&self) -> usize {
        self.0.load(Ordering::Relaxed).saturating_sub(1)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

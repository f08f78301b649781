//! An object store that fails on purpose, for tests of everything that writes to one.
//!
//! Real stores fail in ways that a healthy one in a test never shows: an error although the write happened, "already
//! exists" about one's own write, no answer at all. A [`FaultStore`] plays such faults from a script and counts them, so
//! that a test can prove that its fault happened.
//!
//! ```
//! use std::sync::Arc;
//! use object_store::memory::InMemory;
//! use watershed_lake::faults::{Fault, FaultStore, Operation, Outcome};
//!
//! let store = FaultStore::new(Arc::new(InMemory::new()));
//! // The next write below a log folder happens, but is reported as an error.
//! store.plan(Fault::new(Operation::Put, "_delta_log/", Outcome::FailAfter));
//! assert_eq!(store.fired(), 0);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// Which requests a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A write in one request, conditional or not.
    Put,
    /// The start of a write in parts.
    Multipart,
    /// A read, or a look at the head.
    Get,
    /// A listing.
    List,
    /// A removal.
    Delete,
}

/// What happens instead of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing is done, and an error is reported.
    FailBefore,
    /// It is done, and an error is reported.
    FailAfter,
    /// It is done, and "already exists" (409) is reported, as by a store whose client repeated the request.
    ExistsAfter,
    /// It is done, and "precondition failed" (412) is reported, for the same reason.
    PreconditionAfter,
    /// It is done, after some milliseconds.
    Slow,
    /// Nothing is done, and no answer comes until [`FaultStore::release`] or the caller's timeout.
    HangBefore,
    /// It is done, and no answer comes until [`FaultStore::release`] or the caller's timeout.
    HangAfter,
    /// A conditional write overwrites what is there, as on a store that does not know conditions.
    IgnoreCondition,
}

/// One line of the script.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    path_part: String,
    outcome: Outcome,
    skip: usize,
    times: usize,
}

impl Fault {
    /// A fault of the next request of this kind whose path contains `path_part`.
    pub fn new(operation: Operation, path_part: &str, outcome: Outcome) -> Self {
        Self { operation, path_part: path_part.to_owned(), outcome, skip: 0, times: 1 }
    }

    /// Lets this many requests pass first.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Happens this often instead of once.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
}

/// How long a slow request takes beyond its time.
const SLOW: Duration = Duration::from_millis(20);

/// Faults at random: any outcome that makes sense for a request, one request in so many.
struct Weather {
    state: u64,
    one_in: u64,
    /// How often each outcome was played.
    played: BTreeMap<Outcome, usize>,
}

impl Weather {
    fn next(&mut self, operation: Operation) -> Option<Outcome> {
        use Outcome::{ExistsAfter, FailAfter, FailBefore, HangAfter, HangBefore, PreconditionAfter, Slow};
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = z ^ (z >> 31);
        if !drawn.is_multiple_of(self.one_in) {
            return None;
        }
        let choices: &[Outcome] = match operation {
            Operation::Put => &[FailBefore, FailAfter, ExistsAfter, PreconditionAfter, HangBefore, HangAfter, Slow],
            Operation::Delete => &[FailBefore, FailAfter, HangAfter, Slow],
            Operation::Multipart | Operation::Get | Operation::List => &[FailBefore, HangBefore, Slow],
        };
        let outcome = choices[(drawn / self.one_in) as usize % choices.len()];
        *self.played.entry(outcome).or_default() += 1;
        Some(outcome)
    }
}

/// An object store that plays faults from a script, or at random, and otherwise does what the store inside does.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<Vec<Fault>>>,
    weather: Arc<Mutex<Option<Weather>>>,
    fired: Arc<AtomicUsize>,
    released: Arc<Notify>,
}

impl FaultStore {
    /// Wraps a store; without a plan it is transparent.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, script: Arc::default(), weather: Arc::default(), fired: Arc::default(), released: Arc::default() }
    }

    /// Adds a fault. Of several that fit a request the one planned first plays.
    pub fn plan(&self, fault: Fault) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// From now on one request in `one_in` meets a random fault; the same seed draws the same ones. Hanging requests hang until the caller's
    /// timeout.
    pub fn storm(&self, seed: u64, one_in: u64) {
        let weather = Weather { state: seed, one_in: one_in.max(1), played: BTreeMap::new() };
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = Some(weather);
    }

    /// How often the storm has played each outcome.
    pub fn played(&self) -> BTreeMap<Outcome, usize> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|weather| weather.played.clone()).unwrap_or_default()
    }

    /// Forgets what is planned, and ends a storm.
    pub fn heal(&self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many faults have played.
    pub fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }

    /// Lets all requests that hang go on.
    pub fn release(&self) {
        self.released.notify_waiters();
    }

    fn next(&self, operation: Operation, path: &Path) -> Option<Outcome> {
        if let Some(weather) = self.weather.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let outcome = weather.next(operation);
            self.fired.fetch_add(usize::from(outcome.is_some()), Ordering::SeqCst);
            return outcome;
        }
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |fault: &Fault| fault.operation == operation && path.as_ref().contains(&fault.path_part) && fault.times > 0;
        let fault = script.iter_mut().find(|fault| fits(fault))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        self.fired.fetch_add(1, Ordering::SeqCst);
        Some(fault.outcome)
    }

    async fn play<T>(&self, operation: Operation, path: &Path, real: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let outcome = self.next(operation, path);
        self.play_out(outcome, path, real).await
    }

    async fn play_out<T>(&self, outcome: Option<Outcome>, path: &Path, real: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let broken = || Error::Generic { store: "FaultStore", source: format!("planned fault at '{path}'").into() };
        match outcome {
            None | Some(Outcome::IgnoreCondition) => real.await,
            Some(Outcome::FailBefore) => Err(broken()),
            Some(Outcome::Slow) => {
                tokio::time::sleep(SLOW).await;
                real.await
            }
            Some(Outcome::HangBefore) => {
                self.released.notified().await;
                Err(broken())
            }
            Some(after) => {
                real.await?;
                match after {
                    Outcome::PreconditionAfter => Err(Error::Precondition {
                        path: path.to_string(),
                        source: "planned fault: a repeated request met its own write".into(),
                    }),
                    Outcome::ExistsAfter => Err(Error::AlreadyExists {
                        path: path.to_string(),
                        source: "planned fault: a repeated request met its own write".into(),
                    }),
                    Outcome::HangAfter => {
                        self.released.notified().await;
                        Err(broken())
                    }
                    _ => Err(broken()),
                }
            }
        }
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let outcome = self.next(Operation::Put, location);
        if outcome == Some(Outcome::IgnoreCondition) {
            opts.mode = PutMode::Overwrite;
        }
        self.play_out(outcome, location, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.play(Operation::Multipart, location, self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.play(Operation::Get, location, self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.and_then(move |path| {
            let store = store.clone();
            async move {
                let real = async {
                    let one = futures::stream::once(futures::future::ready(Ok(path.clone()))).boxed();
                    store.inner.delete_stream(one).try_collect::<Vec<_>>().await.map(|_| path.clone())
                };
                store.play(Operation::Delete, &path, real).await
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let path = prefix.clone().unwrap_or_default();
            let real = futures::future::ready(Ok(store.inner.list(prefix.as_ref())));
            store.play(Operation::List, &path, real).await
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.play(Operation::List, &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.play(Operation::Put, to, self.inner.copy_opts(from, to, options)).await
    }
}

//! Upkeep in the background: compacts and vacuums the tables that this process writes, one at a time.
//!
//! ```text
//! commits ─► how many files each table got ─► one task for the process: compact what is due, then vacuum what is due
//! ```
//!
//! Nothing waits for it and nothing fails with it: what cannot be done now is done later, and a process that ends in the middle leaves the
//! table as it was. State: which tables were written, and when each was looked at.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use watershed_message::Message;

use crate::TableName;
use crate::compact::Compaction;
use crate::error::{LakeError, Result};
use crate::limits;
use crate::table::{Shared, Table};
use crate::tiers::CompactOptions;
use crate::vacuum::VacuumOptions;
use crate::warehouse::Warehouse;

/// Files of tables, relative to their folders, that are needed whatever the tables' logs say.
pub type Needed = HashMap<TableName, HashSet<String>>;

/// Finds out what is needed now.
pub type FindNeeded = Arc<dyn Fn() -> BoxFuture<'static, Result<Needed, Message>> + Send + Sync>;

/// What is done in the background.
#[derive(Clone)]
pub struct UpkeepOptions {
    /// How small files are merged; `None`: they are not.
    pub compact: Option<CompactOptions>,
    /// How long replaced files are kept; `None`: for ever.
    pub vacuum: Option<Duration>,
    /// What a vacuum must not touch. Asked before each one; where it fails, nothing is deleted.
    pub needed: FindNeeded,
}

/// What upkeep has done in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpkeepCounts {
    /// Compactions committed.
    pub compactions: u64,
    /// Small files they replaced.
    pub compacted_files: u64,
    /// Size of these.
    pub compacted_bytes: u64,
    /// Files they made of them.
    pub written_files: u64,
    /// Size of these.
    pub written_bytes: u64,
    /// Merges thrown away because another writer came first.
    pub given_up: u64,
    /// Times a table could not be compacted or vacuumed.
    pub failures: u64,
    /// Files deleted.
    pub vacuumed_files: u64,
}

/// What commits leave word in, and what became of it: one of a warehouse handle and all its clones.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// Commits leave no word as long as nothing listens.
    listening: AtomicBool,
    tables: Mutex<HashMap<TableName, Due>>,
    wake: Notify,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    compactions: AtomicU64,
    compacted_files: AtomicU64,
    compacted_bytes: AtomicU64,
    written_files: AtomicU64,
    written_bytes: AtomicU64,
    given_up: AtomicU64,
    failures: AtomicU64,
    vacuumed_files: AtomicU64,
}

/// A table that was written.
#[derive(Debug)]
struct Due {
    table: Weak<Shared>,
    /// Files it got since it was looked at.
    added: usize,
    /// When it was last looked at for small files; `None`: never.
    looked: Option<Instant>,
    /// When it was last vacuumed, and up to which time in ms since 1970.
    vacuumed: Option<(Instant, i64)>,
}

impl Upkeep {
    /// A commit has added or replaced this many files.
    pub(crate) fn committed(&self, table: &Arc<Shared>, files: usize) {
        if files == 0 || !self.listening.load(Ordering::Acquire) {
            return;
        }
        let mut tables = self.tables();
        let due = tables.entry(table.identity.name.clone()).or_insert(Due { table: Weak::new(), added: 0, looked: None, vacuumed: None });
        if due.table.as_ptr() != Arc::as_ptr(table) {
            due.table = Arc::downgrade(table);
        }
        due.added += files;
        drop(tables);
        self.wake.notify_one();
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<TableName, Due>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> UpkeepCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        UpkeepCounts {
            compactions: of(&self.counts.compactions),
            compacted_files: of(&self.counts.compacted_files),
            compacted_bytes: of(&self.counts.compacted_bytes),
            written_files: of(&self.counts.written_files),
            written_bytes: of(&self.counts.written_bytes),
            given_up: of(&self.counts.given_up),
            failures: of(&self.counts.failures),
            vacuumed_files: of(&self.counts.vacuumed_files),
        }
    }

    fn count(&self, done: &Compaction) {
        let add = |count: &AtomicU64, more: u64| count.fetch_add(more, Ordering::Relaxed);
        add(&self.counts.compactions, done.commits);
        add(&self.counts.compacted_files, done.files_before);
        add(&self.counts.compacted_bytes, done.bytes_before);
        add(&self.counts.written_files, done.files_after);
        add(&self.counts.written_bytes, done.bytes_after);
        add(&self.counts.given_up, done.given_up);
    }

    /// The tables for which `is_due` holds, those with most new files first. Handles that nobody holds any more are forgotten.
    fn due(&self, is_due: impl Fn(&Due) -> bool) -> Vec<Table> {
        let mut tables = self.tables();
        tables.retain(|_, due| due.table.strong_count() > 0);
        let mut found = tables.values().filter(|due| is_due(due)).map(|due| (due.added, due.table.upgrade())).collect::<Vec<_>>();
        found.sort_by_key(|(added, _)| std::cmp::Reverse(*added));
        found.into_iter().filter_map(|(_, shared)| Some(Table { shared: shared? })).collect()
    }

    fn change(&self, table: &Table, change: impl FnOnce(&mut Due)) {
        if let Some(due) = self.tables().get_mut(table.name()) {
            change(due);
        }
    }
}

impl Warehouse {
    /// Starts upkeep of the tables that are written through this handle or its clones from now on. Started twice, both would do the work.
    pub fn start_upkeep(&self, options: UpkeepOptions) -> UpkeepTask {
        let (upkeep, stop) = (self.upkeep().clone(), Arc::new(AtomicBool::new(false)));
        upkeep.listening.store(true, Ordering::Release);
        let (asked, asked_to_stop) = oneshot::channel();
        let work = Work { upkeep: upkeep.clone(), options, stop: stop.clone() };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = work.go_on() => {}
                _ = asked_to_stop => {}
            }
        });
        UpkeepTask { upkeep, stop, asked: Some(asked), task }
    }

    /// What upkeep has done in this process; all 0 where it was not started.
    pub fn upkeep_counts(&self) -> UpkeepCounts {
        self.upkeep().counts()
    }
}

/// Upkeep at work. Dropped, it ends; a merge under way is thrown away.
#[derive(Debug)]
pub struct UpkeepTask {
    upkeep: Arc<Upkeep>,
    stop: Arc<AtomicBool>,
    asked: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl UpkeepTask {
    /// Begins nothing more, and waits a little for what is under way to be thrown away or committed.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.upkeep.wake.notify_one();
        if tokio::time::timeout(limits::UPKEEP_STOP_TIMEOUT, &mut self.task).await.is_err() {
            tracing::debug!("upkeep is cut off; what it was about to do is done later");
        }
    }
}

impl Drop for UpkeepTask {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.upkeep.listening.store(false, Ordering::Release);
        drop(self.asked.take());
    }
}

struct Work {
    upkeep: Arc<Upkeep>,
    options: UpkeepOptions,
    stop: Arc<AtomicBool>,
}

impl Work {
    async fn go_on(&self) {
        while !self.stopped() {
            // A commit wakes it; what is due by the clock is seen then or a little later.
            let _ = tokio::time::timeout(limits::UPKEEP_LOOK_EVERY, self.upkeep.wake.notified()).await;
            self.compact().await;
            self.vacuum().await;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn compact(&self) {
        let Some(options) = &self.options.compact else { return };
        let is_due = |due: &Due| {
            let waited = due.looked.is_none_or(|looked| looked.elapsed() > limits::COMPACT_QUIET);
            due.added >= options.files_min || (due.added > 0 && waited)
        };
        for table in self.upkeep.due(is_due) {
            if self.stopped() {
                return;
            }
            self.upkeep.change(&table, |due| (due.added, due.looked) = (0, Some(Instant::now())));
            match table.compact(options, &self.stop).await {
                Ok(done) => self.upkeep.count(&done),
                Err(error) => self.failed(&table, "compacted", &error),
            }
        }
    }

    async fn vacuum(&self) {
        let Some(retention) = self.options.vacuum else { return };
        let [least, most] = limits::VACUUM_EVERY;
        let every = (retention / 5).clamp(least, most);
        let tables = self.upkeep.due(|due| due.vacuumed.is_none_or(|(at, _)| at.elapsed() >= every));
        if tables.is_empty() || self.stopped() {
            return;
        }
        let needed = match (self.options.needed)().await {
            Ok(needed) => needed,
            Err(error) => {
                self.upkeep.counts.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "it is not known which files are still needed, so none are deleted; looking again later");
                // Not again at every commit.
                tables.iter().for_each(|table| self.upkeep.change(table, |due| due.postpone()));
                return;
            }
        };
        let nothing = HashSet::new();
        for table in tables {
            if self.stopped() {
                return;
            }
            let mut since_ms = None;
            self.upkeep.change(&table, |due| {
                since_ms = due.vacuumed.map(|(_, until_ms)| until_ms).filter(|&until_ms| until_ms > 0);
                due.postpone();
            });
            let needed = needed.get(table.name()).unwrap_or(&nothing);
            // The first of a process looks at the folder: what was forgotten was so by processes before it.
            let options = VacuumOptions { retention, forgotten: since_ms.is_none(), since_ms, needed, dry_run: false };
            match table.vacuum(options).await {
                Ok(done) => {
                    self.upkeep.counts.vacuumed_files.fetch_add(done.files(), Ordering::Relaxed);
                    self.upkeep.change(&table, |due| due.vacuumed = Some((Instant::now(), done.until_ms)));
                }
                Err(error) => self.failed(&table, "vacuumed", &error),
            }
        }
    }

    fn failed(&self, table: &Table, action: &str, error: &LakeError) {
        if matches!(error, LakeError::TableReplaced { .. } | LakeError::TableChanged { .. } | LakeError::TableGrown { .. }) {
            // Whoever writes it on has another handle, and leaves word again.
            self.upkeep.tables().remove(table.name());
            return;
        }
        self.upkeep.counts.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(table = %table.name(), %error, "the table was not {action}; it is tried again later");
    }
}

impl Due {
    /// Vacuumed no further than before; but not again at once.
    fn postpone(&mut self) {
        self.vacuumed = Some((Instant::now(), self.vacuumed.map_or(0, |(_, until_ms)| until_ms)));
    }
}

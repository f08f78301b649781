//! What the embedded broker holds: topics with their partitions' logs, and the offsets that consumer groups committed.
//!
//! Topics and offsets are kept in `broker.json`, replaced as a whole; records in one folder for each partition.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;
use watershed_message::Message;

use super::log::PartitionLog;
use super::protocol::ErrorCode;

/// A file is closed at this size at the latest; records go away by whole files.
const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Files being written cannot be deleted: all of them together take at most this part of the budget.
const ACTIVE_SEGMENTS_SHARE: u64 = 4;

/// Partitions a topic may have: each costs a folder and an open file.
const PARTITIONS_MAX: i32 = 1024;

/// What is kept in `broker.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    cluster_id: String,
    topics: BTreeMap<String, KeptTopic>,
    /// Group, topic, partition: the offset committed.
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<i32, i64>>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptTopic {
    id: Uuid,
    partitions: i32,
}

/// A topic as requests see it.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: i32,
}

type SharedLog = Arc<Mutex<PartitionLog>>;

/// All that the broker holds. Shared by its connections.
#[derive(Debug)]
pub(super) struct Catalog {
    folder: PathBuf,
    retention_bytes: u64,
    retention: Option<Duration>,
    kept: Mutex<Kept>,
    /// `broker.json` as it was written last.
    saved: Mutex<Vec<u8>>,
    logs: RwLock<BTreeMap<String, Vec<SharedLog>>>,
    /// Changes with every append: what waiting fetches wait for.
    appended: watch::Sender<u64>,
    /// Held for as long as this lives: no second broker in the same folder.
    _lock: File,
}

impl Catalog {
    pub(super) fn open(folder: PathBuf, retention_bytes: u64, retention: Option<Duration>) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("broker.lock"))?;
        let taken = || Message::new("another broker is using this folder").next("stop it or take another folder");
        lock.try_lock().map_err(|_| io::Error::other(taken()))?;
        let mut kept: Kept = match fs::read(folder.join("broker.json")) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        if kept.cluster_id.is_empty() {
            kept.cluster_id = Uuid::new_v4().to_string();
        }
        let (appended, _) = watch::channel(0);
        let catalog = Self {
            folder,
            retention_bytes,
            retention,
            kept: Mutex::default(),
            saved: Mutex::default(),
            logs: RwLock::default(),
            appended,
            _lock: lock,
        };
        for (name, topic) in &kept.topics {
            catalog.open_logs(name, topic)?;
        }
        *catalog.kept() = kept;
        Ok(catalog)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topic_folder(&self, name: &str, id: Uuid) -> PathBuf {
        self.folder.join("topics").join(format!("{name}.{id}"))
    }

    fn open_logs(&self, name: &str, topic: &KeptTopic) -> io::Result<()> {
        let folder = self.topic_folder(name, topic.id);
        let open = |partition: i32| PartitionLog::open(folder.join(partition.to_string())).map(Mutex::new).map(Arc::new);
        let logs: io::Result<Vec<_>> = (0..topic.partitions).map(open).collect();
        self.logs.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), logs?);
        Ok(())
    }

    /// Writes `broker.json` if anything changed.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec_pretty(&*self.kept())?;
        if *saved != text {
            let draft = self.folder.join("broker.json.draft");
            fs::write(&draft, &text)?;
            fs::rename(draft, self.folder.join("broker.json"))?;
            *saved = text;
        }
        Ok(())
    }

    pub(super) fn cluster_id(&self) -> String {
        self.kept().cluster_id.clone()
    }

    pub(super) fn topics(&self) -> Vec<Topic> {
        let of = |(name, topic): (&String, &KeptTopic)| Topic { name: name.clone(), id: topic.id, partitions: topic.partitions };
        self.kept().topics.iter().map(of).collect()
    }

    pub(super) fn topic(&self, name: &str) -> Option<Topic> {
        self.kept().topics.get(name).map(|topic| Topic { name: name.into(), id: topic.id, partitions: topic.partitions })
    }

    pub(super) fn create_topic(&self, name: &str, partitions: i32) -> Result<Topic, ErrorCode> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || name.starts_with('.') || !name.chars().all(allowed) {
            return Err(ErrorCode::InvalidTopicException);
        }
        // -1 asks for the broker's default.
        let partitions = if partitions == -1 { 1 } else { partitions };
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(ErrorCode::InvalidPartitions);
        }
        let topic = KeptTopic { id: Uuid::new_v4(), partitions };
        let mut kept = self.kept();
        if kept.topics.contains_key(name) {
            return Err(ErrorCode::TopicAlreadyExists);
        }
        self.open_logs(name, &topic).map_err(|_| ErrorCode::KafkaStorageError)?;
        kept.topics.insert(name.into(), topic.clone());
        drop(kept);
        self.save().map_err(|_| ErrorCode::KafkaStorageError)?;
        Ok(Topic { name: name.into(), id: topic.id, partitions })
    }

    pub(super) fn delete_topic(&self, name: &str) -> Result<(), ErrorCode> {
        let removed = self.kept().topics.remove(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.logs.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.save().map_err(|_| ErrorCode::KafkaStorageError)?;
        fs::remove_dir_all(self.topic_folder(name, removed.id)).map_err(|_| ErrorCode::KafkaStorageError)
    }

    /// The log of a partition.
    pub(super) fn log(&self, topic: &str, partition: i32) -> Result<SharedLog, ErrorCode> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let log = logs.get(topic).and_then(|logs| logs.get(usize::try_from(partition).ok()?));
        log.cloned().ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Size at which a file is closed: smaller the more partitions share the budget.
    pub(super) fn segment_bytes(&self) -> u64 {
        let partitions: usize = self.logs.read().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum();
        (self.retention_bytes / ACTIVE_SEGMENTS_SHARE / partitions.max(1) as u64).clamp(64 * 1024, SEGMENT_BYTES_MAX)
    }

    /// Wakes fetches that wait for records.
    pub(super) fn announce_append(&self) {
        self.appended.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn appends(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// Deletes the oldest files, over all partitions, until the rest is within the budget, and those past the retention time.
    pub(super) fn delete_old(&self, now: SystemTime) -> io::Result<()> {
        let logs: Vec<SharedLog> = self.logs.read().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect();
        let lock = |log: &SharedLog| -> Option<(u64, Option<SystemTime>)> {
            let log = log.lock().ok()?;
            Some((log.bytes(), log.oldest_closed()))
        };
        let mut total: u64 = logs.iter().filter_map(lock).map(|(bytes, _)| bytes).sum();
        let too_old = self.retention.and_then(|retention| now.checked_sub(retention));
        if let Some(too_old) = too_old {
            for log in &logs {
                log.lock().unwrap_or_else(PoisonError::into_inner).close_idle(too_old)?;
            }
        }
        loop {
            let closed = logs.iter().filter_map(|log| Some((lock(log)?.1?, log)));
            let Some((modified, log)) = closed.min_by_key(|(modified, _)| *modified) else { return Ok(()) };
            if total <= self.retention_bytes && too_old.is_none_or(|too_old| modified >= too_old) {
                return Ok(());
            }
            total -= log.lock().unwrap_or_else(PoisonError::into_inner).delete_oldest()?;
        }
    }

    pub(super) fn commit_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.kept().groups.entry(group.into()).or_default().entry(topic.into()).or_default().insert(partition, offset);
    }

    /// The offset committed; -1 if there is none.
    pub(super) fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> i64 {
        let kept = self.kept();
        kept.groups.get(group).and_then(|topics| topics.get(topic)?.get(&partition).copied()).unwrap_or(-1)
    }

    /// All that a group committed, by topic.
    pub(super) fn committed(&self, group: &str) -> BTreeMap<String, BTreeMap<i32, i64>> {
        self.kept().groups.get(group).cloned().unwrap_or_default()
    }
}

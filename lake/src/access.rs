//! Requests to the object store: bounded in time, tried again with back-off, decided by reading.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{LakeError, Result};
use crate::limits;

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Our bytes are there.
    Won,
    /// Someone else's bytes are there: these.
    Lost(Bytes),
}

/// How long and how often requests are tried.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tries of one request, at least 1.
    pub attempts: u32,
    /// Longest time of one try.
    pub timeout: Duration,
    /// First wait between tries; doubles, up to [`limits::BACKOFF_MAX`].
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: limits::REQUEST_ATTEMPTS, timeout: limits::REQUEST_TIMEOUT, backoff: limits::BACKOFF_FIRST }
    }
}

/// An object as it was read: its bytes and a tag that differs when the object was replaced.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) bytes: Bytes,
    pub(crate) tag: String,
}

/// The store, rooted at the warehouse, with patience.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) patience: Patience,
}

/// A failed try, sorted by what to do about it.
enum Failure {
    Final(Error),
    Again(String),
}

impl Access {
    /// Reads an object; `None` when it does not exist.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Found>> {
        self.patiently("read", path, || async {
            let found = async {
                let result = self.store.get(path).await?;
                let tag = tag(&result.meta);
                Ok(Found { bytes: result.bytes().await?, tag })
            };
            absent_is_none(found.await)
        })
        .await
    }

    /// The tag of an object; `None` when it does not exist.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<String>> {
        self.patiently("look at", path, || async {
            let options = GetOptions { head: true, ..GetOptions::default() };
            absent_is_none(self.store.get_opts(path, options).await.map(|result| tag(&result.meta)))
        })
        .await
    }

    /// All objects below a folder.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        self.patiently("list", folder, || self.store.list(Some(folder)).try_collect()).await
    }

    /// Those that come after `offset` in the order of their names.
    pub(crate) async fn list_from(&self, folder: &Path, offset: &Path) -> Result<Vec<ObjectMeta>> {
        self.patiently("list", folder, || self.store.list_with_offset(Some(folder), offset).try_collect()).await
    }

    /// Whether anything exists below a folder.
    pub(crate) async fn any_below(&self, folder: &Path) -> Result<bool> {
        self.patiently("list", folder, || async { self.store.list(Some(folder)).next().await.transpose().map(|first| first.is_some()) })
            .await
    }

    /// The folders directly below a folder; the root when `None`.
    pub(crate) async fn folders(&self, folder: Option<&Path>) -> Result<Vec<Path>> {
        let root = Path::default();
        self.patiently("list", folder.unwrap_or(&root), || async {
            self.store.list_with_delimiter(folder).await.map(|listing| listing.common_prefixes)
        })
        .await
    }

    /// Removes objects; those already gone are no error.
    pub(crate) async fn delete(&self, paths: &[Path]) -> Result<()> {
        let deletions = paths.iter().cloned().map(|path| async move {
            self.patiently("delete", &path, || async { absent_is_none(self.store.delete(&path).await).map(|_| ()) }).await
        });
        futures::stream::iter(deletions).buffer_unordered(limits::DELETIONS_AT_ONCE).try_collect().await
    }

    /// Writes an object under a name that is ours alone, in parts when it is large.
    pub(crate) async fn put_own(&self, path: &Path, bytes: &Bytes) -> Result<()> {
        let parts = 1 + (bytes.len() / limits::UPLOAD_PART_BYTES) as u32;
        self.patiently_within(self.patience.timeout * parts, "write", path, || async {
            if bytes.len() <= limits::UPLOAD_PART_BYTES {
                return self.store.put(path, PutPayload::from_bytes(bytes.clone())).await.map(|_| ());
            }
            let mut upload = self.store.put_multipart(path).await?;
            let sent = send_parts(upload.as_mut(), bytes).await;
            if sent.is_err() {
                // Without this the store keeps invisible parts; the error that matters is the first one.
                let _ = upload.abort().await;
            }
            sent
        })
        .await
    }

    /// Writes an object unless one is there already. The outcome is what is there afterwards, whatever the
    /// store answered: a retried request may be told "already exists" about its own first try.
    ///
    /// Two writers that put equal bytes both win, so bytes that must have one winner carry their writer's identity.
    pub(crate) async fn put_if_absent(&self, path: &Path, bytes: &Bytes) -> Result<(PutOutcome, Option<String>)> {
        let mut backoff = Backoff::new(self.patience);
        let reason = loop {
            let options = PutOptions::from(PutMode::Create);
            let payload = PutPayload::from_bytes(bytes.clone());
            let answer = match tokio::time::timeout(self.patience.timeout, self.store.put_opts(path, payload, options)).await {
                Ok(Ok(written)) => return Ok((PutOutcome::Won, written.e_tag)),
                Ok(Err(error)) => sort(error),
                Err(_) => Failure::Again(timed_out(self.patience.timeout)),
            };
            match self.get(path).await {
                Ok(Some(found)) if found.bytes == bytes => return Ok((PutOutcome::Won, Some(found.tag))),
                Ok(Some(found)) => return Ok((PutOutcome::Lost(found.bytes), Some(found.tag))),
                Err(error) => break error.to_string(),
                Ok(None) => match answer {
                    Failure::Final(source) => return Err(failed("write", path, source)),
                    Failure::Again(reason) if !backoff.wait().await => break reason,
                    Failure::Again(reason) => tracing::warn!(%path, reason, "conditional write left nothing behind; trying again"),
                },
            }
        };
        Err(LakeError::Unclear { path: path.to_string(), reason })
    }

    async fn patiently<T, F, W>(&self, operation: &'static str, path: &Path, attempt: F) -> Result<T>
    where
        F: FnMut() -> W,
        W: Future<Output = object_store::Result<T>>,
    {
        self.patiently_within(self.patience.timeout, operation, path, attempt).await
    }

    async fn patiently_within<T, F, W>(&self, timeout: Duration, operation: &'static str, path: &Path, attempt: F) -> Result<T>
    where
        F: FnMut() -> W,
        W: Future<Output = object_store::Result<T>>,
    {
        let outcome = attempts(Patience { timeout, ..self.patience }, operation, path, attempt).await;
        outcome.map_err(|source| failed(operation, path, source))
    }
}

/// Tries a request until it succeeds, fails for good, or patience ends.
pub(crate) async fn attempts<T, F, W>(patience: Patience, operation: &str, path: &Path, mut attempt: F) -> object_store::Result<T>
where
    F: FnMut() -> W,
    W: Future<Output = object_store::Result<T>>,
{
    let mut backoff = Backoff::new(patience);
    loop {
        let failure = match tokio::time::timeout(patience.timeout, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => sort(error),
            Err(_) => Failure::Again(timed_out(patience.timeout)),
        };
        let reason = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Again(reason) => reason,
        };
        if !backoff.wait().await {
            return Err(Error::Generic { store: "warehouse", source: reason.into() });
        }
        tracing::warn!(%path, operation, reason, "the store failed; trying again");
    }
}

async fn send_parts(upload: &mut dyn MultipartUpload, bytes: &Bytes) -> object_store::Result<()> {
    let mut parts = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(limits::UPLOAD_PART_BYTES));
        parts.push(upload.put_part(part.into()));
    }
    futures::stream::iter(parts).buffer_unordered(limits::UPLOADS_AT_ONCE).try_collect::<Vec<()>>().await?;
    upload.complete().await.map(|_| ())
}

/// Tells one object from its successor under the same name.
pub(crate) fn tag(meta: &ObjectMeta) -> String {
    match &meta.e_tag {
        Some(tag) => tag.clone(),
        None => format!("{}-{}", meta.last_modified.timestamp_micros(), meta.size),
    }
}

/// Absence is an answer, not a failure to be tried again.
pub(crate) fn absent_is_none<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a local folder takes no files, in the words of the operating system.
enum Refusal {
    Full(String),
    NotWritable(String),
}

/// What the operating system refused, if that is where an error comes from.
fn refusal(error: &Error) -> Option<Refusal> {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<std::io::Error>() {
            return match found.kind() {
                StorageFull | QuotaExceeded => Some(Refusal::Full(found.to_string())),
                PermissionDenied | ReadOnlyFilesystem => Some(Refusal::NotWritable(found.to_string())),
                _ => None,
            };
        }
        cause = error.source();
    }
    None
}

/// Names an error that ended a request. The folder of a full or refused file is named, not the file: that has a new name with each try,
/// and the same thing should read the same.
fn failed(operation: &'static str, path: &Path, source: Error) -> LakeError {
    if !matches!(operation, "write" | "delete") {
        return LakeError::Store { operation, path: path.to_string(), source };
    }
    let parts: Vec<_> = path.parts().collect();
    let folder = || Path::from_iter(parts[..parts.len().saturating_sub(1)].iter().cloned()).to_string();
    match (refusal(&source), &source) {
        (Some(Refusal::Full(reason)), _) => LakeError::Full { folder: folder(), reason },
        (Some(Refusal::NotWritable(reason)), _) => LakeError::NotWritable { path: folder(), reason },
        (None, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {
            LakeError::NotWritable { path: folder(), reason: source.to_string() }
        }
        _ => LakeError::Store { operation, path: path.to_string(), source },
    }
}

fn sort(error: Error) -> Failure {
    // Trying again at once would not help; the caller gets the error, and may come back later.
    if refusal(&error).is_some() {
        return Failure::Final(error);
    }
    match error {
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::UnknownConfigurationKey { .. } => Failure::Final(error),
        other => Failure::Again(other.to_string()),
    }
}

fn timed_out(timeout: Duration) -> String {
    format!("no answer within {} ms", timeout.as_millis())
}

/// Waits between tries: doubling, with jitter so that writers that collided do not collide again.
pub(crate) struct Backoff {
    left: u32,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { left: patience.attempts.saturating_sub(1), next: patience.backoff }
    }

    /// Waits, or says `false` when all tries are used up.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let jitter = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 512.0;
        tokio::time::sleep(self.next.mul_f64(0.75 + jitter)).await;
        self.next = (self.next * 2).min(limits::BACKOFF_MAX);
        true
    }
}

//! The store as delta-rs sees it: listings in order of names, which it takes for granted but a local folder does not
//! give, and reads that are tried again, which it does not do itself.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

use crate::access::{Access, Patience, absent_is_none, attempts};

/// A store whose listings are sorted and whose reads are patient. It collects listings first: use it for log folders,
/// not for whole warehouses.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    store: Arc<dyn ObjectStore>,
    patience: Patience,
    outage: Outage,
}

/// Whether the store did not answer to the end of all patience, and what it said. delta-rs hides this in errors of many kinds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outage(Arc<OnceLock<String>>);

impl Outage {
    /// What the store said, if it failed.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn note(&self, error: Error) -> Error {
        if !matches!(error, Error::NotFound { .. }) {
            // The first one says why.
            let _ = self.0.set(error.to_string());
        }
        error
    }
}

impl Ordered {
    pub(crate) fn new(access: &Access) -> Self {
        Self { store: access.store.clone(), patience: access.patience, outage: Outage::default() }
    }

    /// Tells later whether the store failed.
    pub(crate) fn outage(&self) -> Outage {
        self.outage.clone()
    }
}

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ordered({})", self.store)
    }
}

/// `list` makes the listing again for each try.
fn sorted<F>(patience: Patience, outage: Outage, prefix: Option<&Path>, list: F) -> BoxStream<'static, Result<ObjectMeta>>
where
    F: Fn() -> BoxStream<'static, Result<ObjectMeta>> + Send + Sync + 'static,
{
    let prefix = prefix.cloned().unwrap_or_default();
    let collected = async move {
        let listed = attempts(patience, "list", &prefix, || list().try_collect::<Vec<_>>()).await;
        let mut files = listed.map_err(|error| outage.note(error))?;
        files.sort_unstable_by(|left, right| left.location.cmp(&right.location));
        Ok::<_, Error>(futures::stream::iter(files.into_iter().map(Ok)))
    };
    futures::stream::once(collected).try_flatten().boxed()
}

#[async_trait]
impl ObjectStore for Ordered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found =
            attempts(self.patience, "read", location, || async { absent_is_none(self.store.get_opts(location, options.clone()).await) });
        found
            .await
            .map_err(|error| self.outage.note(error))?
            .ok_or_else(|| Error::NotFound { path: location.to_string(), source: "no such object".into() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(location, ranges).await.map_err(|error| self.outage.note(error))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, folder) = (self.store.clone(), prefix.cloned());
        sorted(self.patience, self.outage.clone(), prefix, move || store.list(folder.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, folder, offset) = (self.store.clone(), prefix.cloned(), offset.clone());
        sorted(self.patience, self.outage.clone(), prefix, move || store.list_with_offset(folder.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

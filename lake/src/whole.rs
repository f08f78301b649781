//! The store as scans see it: a read that gives fewer bytes than were asked for is an error. Stores cut a range off at the end of an object, which is
//! right of them; what reads Parquet panics over it, where a file is shorter than its table's log says.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Whole(pub(crate) Arc<dyn ObjectStore>);

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn cut_off(location: &Path, wanted: &Range<u64>, found: u64) -> Error {
    let ends = wanted.start + found;
    let said = format!(
        "'{location}' ends after {ends} bytes, and {} were to be there: it was cut short, or another file took its place",
        wanted.end
    );
    Error::Generic { store: "object store", source: said.into() }
}

#[async_trait]
impl ObjectStore for Whole {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let wanted = options.range.clone();
        let result = self.0.get_opts(location, options).await?;
        match wanted {
            Some(GetRange::Bounded(wanted)) if result.range.end < wanted.end => {
                Err(cut_off(location, &wanted, result.range.end.saturating_sub(wanted.start)))
            }
            _ => Ok(result),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let read = self.0.get_ranges(location, ranges).await?;
        match ranges.iter().zip(&read).find(|(wanted, bytes)| (bytes.len() as u64) < wanted.end - wanted.start) {
            Some((wanted, bytes)) => Err(cut_off(location, wanted, bytes.len() as u64)),
            None => Ok(read),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

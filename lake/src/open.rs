//! From the URL of a warehouse, or of a folder that others write, to a store rooted at it.

use std::collections::HashMap;
use std::path::absolute;
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;
use uuid::Uuid;

use crate::access::{Access, PutOutcome};
use crate::error::{LakeError, Result};
use crate::limits;

const HINT: &str = "use a path, file:///path, or s3://bucket/prefix";

/// What becomes of a local folder that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made.
    Make,
    /// Nothing is found in it, until somebody else makes it.
    Leave,
}

/// Opens the store of a warehouse: a path, `file://`, `s3://bucket/prefix` or `memory://`.
pub(crate) fn store_for(text: &str, options: &HashMap<String, String>, missing: Missing) -> Result<(Arc<dyn ObjectStore>, Url)> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "file" => {
            let folder = url.to_file_path().map_err(|()| bad(text, "it is not an absolute path".to_owned(), HINT))?;
            local(text, &folder, missing)
        }
        Ok(url) if matches!(url.scheme(), "s3" | "s3a") => s3(text, url, options),
        Ok(url) if url.scheme() == "memory" => Ok((Arc::new(InMemory::new()), folder_url(url))),
        // A single letter is a Windows drive, not a scheme.
        Ok(url) if url.scheme().len() > 1 => Err(bad(text, format!("scheme '{}' is not supported", url.scheme()), HINT)),
        _ => local(text, std::path::Path::new(text), missing),
    }
}

/// Opens the store of a folder that others write: as for a warehouse, but nothing is made, and a local folder must be there.
///
/// Errors: [`LakeError::BadWarehouse`].
pub fn open_folder(text: &str, options: &HashMap<String, String>) -> Result<(Arc<dyn ObjectStore>, Url)> {
    let local = match Url::parse(text) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        Ok(url) if url.scheme().len() > 1 => None,
        _ => Some(std::path::PathBuf::from(text)),
    };
    if let Some(folder) = local.filter(|folder| !folder.is_dir()) {
        return Err(bad(
            text,
            format!("there is no folder {}", folder.display()),
            "check the path; one that does not begin with / is taken from where Watershed was started",
        ));
    }
    store_for(text, options, Missing::Leave)
}

/// Makes sure that the store refuses to overwrite when told not to; everything else rests on that.
pub(crate) async fn check_conditional(access: &Access, url: &Url) -> Result<()> {
    let probe = Path::from(format!("_watershed/probe/{}", Uuid::new_v4()));
    let first = access.put_if_absent(&probe, &Bytes::from_static(b"first")).await?.0;
    let second = access.put_if_absent(&probe, &Bytes::from_static(b"second")).await;
    let standing = access.get(&probe).await;
    access.delete(std::slice::from_ref(&probe)).await?;
    let kept = standing?.is_some_and(|found| found.bytes == b"first".as_slice());
    match (first, second?.0) {
        (PutOutcome::Won, PutOutcome::Lost(_)) if kept => Ok(()),
        _ => Err(LakeError::NotConditional { url: url.to_string() }),
    }
}

fn local(text: &str, folder: &std::path::Path, missing: Missing) -> Result<(Arc<dyn ObjectStore>, Url)> {
    let failed = |error: std::io::Error| bad(text, error.to_string(), "check that the folder may be created and written");
    let address =
        |folder: &std::path::Path| Url::from_directory_path(folder).map_err(|()| bad(text, "it is not an absolute path".to_owned(), HINT));
    let folder = absolute(folder).map_err(failed)?;
    if missing == Missing::Leave && std::fs::metadata(&folder).is_err_and(|why| why.kind() == std::io::ErrorKind::NotFound) {
        let prefix = Path::from_absolute_path(&folder).map_err(|error| bad(text, error.to_string(), HINT))?;
        return Ok((Arc::new(PrefixStore::new(LocalFileSystem::new(), prefix)), address(&folder)?));
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let folder = folder.canonicalize().map_err(failed)?;
    let url = address(&folder)?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| bad(text, error.to_string(), HINT))?;
    // Empty partition folders would make listings of the warehouse slower and slower.
    Ok((Arc::new(store.with_automatic_cleanup(true)), url))
}

fn s3(text: &str, url: Url, options: &HashMap<String, String>) -> Result<(Arc<dyn ObjectStore>, Url)> {
    let client = ClientOptions::new().with_timeout(limits::REQUEST_TIMEOUT).with_connect_timeout(limits::REQUEST_TIMEOUT / 3);
    // Our own requests are tried again, too, but a scan reads through this store alone.
    let retry = RetryConfig { max_retries: 5, retry_timeout: limits::REQUEST_TIMEOUT, backoff: BackoffConfig::default() };
    let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
    for (key, value) in options {
        let parsed: AmazonS3ConfigKey = key.to_ascii_lowercase().parse().map_err(|_| {
            bad(text, format!("'{key}' is not an option of S3"), "use keys such as aws_endpoint, aws_region, aws_access_key_id")
        })?;
        builder = builder.with_config(parsed, value);
        if matches!(parsed, AmazonS3ConfigKey::Endpoint) && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
    }
    let builder = builder.with_url(url.as_str()).with_conditional_put(S3ConditionalPut::ETagMatch);
    let store = builder.build().map_err(|error| bad(text, error.to_string(), "check bucket, region, endpoint and credentials"))?;
    let prefix = Path::from_url_path(url.path()).map_err(|error| bad(text, error.to_string(), HINT))?;
    let store: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) };
    Ok((store, folder_url(url)))
}

fn folder_url(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

fn bad(url: &str, reason: String, hint: &'static str) -> LakeError {
    LakeError::BadWarehouse { url: url.to_owned(), reason, hint }
}

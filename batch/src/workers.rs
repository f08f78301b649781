//! Threads that compute jobs, apart from those that serve pipelines, signals and queries: a job may keep a thread busy for long between two
//! awaits.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};

use crate::BatchError;

/// The pool's handle; starts it at the first call.
pub(crate) fn handle() -> Result<Handle, BatchError> {
    static POOL: Mutex<Option<Handle>> = Mutex::new(None);
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = pool.as_ref() {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_multi_thread().thread_name("job").enable_all().build();
    let runtime = runtime.map_err(|why| BatchError::Setup(format!("no threads for jobs: {why}")))?;
    // It lives as long as the process: a runtime must not be dropped on a thread of another one.
    let handle = Box::leak(Box::new(runtime)).handle().clone();
    *pool = Some(handle.clone());
    Ok(handle)
}

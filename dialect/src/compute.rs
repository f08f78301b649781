//! What queries and jobs are computed with: memory, spill space and threads; and how it is reported that memory or spill space ran out.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use tokio::runtime::{Builder, Handle};
use watershed_message::Message;

/// How many memory consumers an out-of-memory message names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// The stack of a thread that computes: an expression is computed by calls within each other, one for each level. Touched pages alone are taken.
const STACK_BYTES: usize = 8 << 20;
/// The setting that DataFusion names when spill space is full.
const SPILL_SETTING: &str = "max_temp_directory_size";

/// Memory and spill space for all that is computed in this environment together. Operators spill into `spill_dir`, else into the system's folder
/// for temporary files. Fails if nothing can be written to `spill_dir`.
pub fn environment(memory_bytes: usize, spill_dir: Option<&Path>, spill_bytes: u64) -> Result<Arc<RuntimeEnv>, Message> {
    let disk = match spill_dir {
        Some(dir) => DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![dir.to_path_buf()])),
        None => DiskManagerBuilder::default(),
    };
    let pool = TrackConsumersPool::new(FairSpillPool::new(memory_bytes), CONSUMERS_NAMED);
    RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk.with_max_temp_directory_size(spill_bytes))
        .with_memory_pool(Arc::new(pool))
        .build_arc()
        .map_err(|error| match (spill_dir, error.find_root()) {
            (Some(dir), DataFusionError::IoError(why)) => Message::new(format!("queries and jobs cannot spill to {}", dir.display()))
                .why(why.to_string())
                .next("name as query.spill_dir a folder that is there and may be written; leave it out for the system's temporary folder"),
            (_, other) => Message::new(other.strip_backtrace()),
        })
}

/// The pool of threads of this name, which all of the process share; started at the first call.
///
/// Work that keeps a thread busy for long between two awaits belongs on a pool of its own: on the caller's runtime it would hold up signals
/// (Ctrl-C), pipelines, and everyone else's input and output.
pub fn workers(thread_name: &'static str) -> io::Result<Handle> {
    static POOLS: Mutex<BTreeMap<&'static str, Handle>> = Mutex::new(BTreeMap::new());
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = pools.get(thread_name) {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_multi_thread().thread_name(thread_name).thread_stack_size(STACK_BYTES).enable_all().build()?;
    // It lives as long as the process: a runtime must not be dropped on a thread of another one.
    let handle = Box::leak(Box::new(runtime)).handle().clone();
    pools.insert(thread_name, handle.clone());
    Ok(handle)
}

/// What ran out, in one line, if memory or spill space did; `None` for any other failure.
pub fn out_of_memory(error: &DataFusionError) -> Option<String> {
    let root = error.find_root();
    let said = match root {
        DataFusionError::ResourcesExhausted(said) => said.clone(),
        // Spill space that is full comes wrapped in errors of Arrow's, known only by the setting it names.
        other => Some(other.strip_backtrace()).filter(|said| said.contains(SPILL_SETTING))?,
    };
    let line = said.lines().next().unwrap_or_default();
    // The list of consumers speaks of operators and not of the query; the advice names settings of DataFusion's and not ours.
    let cut = [" with top memory consumers", ". Please try increasing"].into_iter().filter_map(|tail| line.find(tail)).min();
    Some(line[..cut.unwrap_or(line.len())].to_owned())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::error::ArrowError;

    use super::*;

    #[test]
    fn what_ran_out_is_told_from_other_failures() {
        let pool = DataFusionError::ResourcesExhausted("8 MB for x with top memory consumers (across reservations) as:\n  x".to_owned());
        assert_eq!(out_of_memory(&pool.context("while sorting")).as_deref(), Some("8 MB for x"));
        let full = "The used disk space has exceeded the limit of 64.0 KB. Please try increasing the config: `max_temp_directory_size`.";
        let full = DataFusionError::from(ArrowError::IoError(full.to_owned(), io::Error::other(full)));
        let said = out_of_memory(&full).unwrap();
        assert!(said.ends_with("The used disk space has exceeded the limit of 64.0 KB"), "{said}");
        assert_eq!(out_of_memory(&DataFusionError::Execution("division by zero".to_owned())), None);
    }

    #[test]
    fn a_spill_folder_that_is_not_there_is_named_with_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        assert!(environment(1 << 20, Some(folder.path()), 1 << 20).is_ok());
        let missing = folder.path().join("not/there");
        let Message { what, why, next } = environment(1 << 20, Some(&missing), 1 << 20).unwrap_err();
        assert_eq!(what, format!("queries and jobs cannot spill to {}", missing.display()));
        assert!(why.is_some_and(|why| why.contains("No such file")) && next.is_some_and(|next| next.contains("query.spill_dir")));
    }

    #[test]
    fn one_pool_serves_all_who_name_it() {
        let ids = ["one", "one", "two"].map(|name| workers(name).unwrap().id());
        assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    }
}

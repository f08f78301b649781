//! Opens what the configuration names: the warehouse, the sources, a query session. Removes tables.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use watershed_batch::{JobRunner, Limits, Runs};
use watershed_dialect::Secret;
use watershed_ingest::Secrets;
use watershed_ingest::files::OpenedFolder;
use watershed_ingest::kafka::KafkaSettings;
use watershed_ingest::{FileSources, Sources};
use watershed_lake::{LakeError, TableName, Warehouse, open_folder};
use watershed_message::Message;
use watershed_query::{Session, SessionOptions};

use crate::config::Config;
use crate::{system, upkeep};

/// The warehouse in force, made if it is not there: for those who bring it definitions.
pub async fn make(config: &Config) -> Result<Warehouse> {
    let warehouse = Warehouse::open(config.text("warehouse"), &config.handed_on("storage")).await?;
    Ok(warehouse.with_retention(upkeep::retention(config)?))
}

/// The warehouse in force, which must be there.
pub async fn open(config: &Config) -> Result<Warehouse> {
    check_there(&open_to_read(config)?).await?;
    make(config).await
}

/// Refuses a warehouse that is not there: a wrong path, or a disk that was not mounted, must not look like an empty lake.
pub async fn check_there(warehouse: &Warehouse) -> Result<()> {
    if !warehouse.is_empty().await? {
        return Ok(());
    }
    let folder = warehouse.url().to_file_path().ok().filter(|_| warehouse.url().scheme() == "file");
    let why = if folder.is_some_and(|folder| !folder.is_dir()) { "the folder does not exist" } else { "nothing is stored there" };
    let next = "name the right one with --warehouse, or make it with `watershed apply DIR`";
    bail!(Message::new(format!("there is no warehouse at {}", warehouse.url())).why(why).next(next))
}

/// The warehouse in force, for commands that only read: it may be one that this user cannot write, or that is not there.
pub fn open_to_read(config: &Config) -> Result<Warehouse> {
    Ok(Warehouse::open_to_read(config.text("warehouse"), &config.handed_on("storage"))?)
}

/// Removes a streaming table with its rows and its pipeline's state, or a materialized view with its rows and its job's runs.
///
/// Errors: a process runs the pipeline.
pub async fn forget_table(warehouse: &Warehouse, name: &TableName) -> Result<()> {
    watershed_stream::remove(warehouse, name).await?;
    // A view without runs is due at once, should it be made again.
    Ok(Runs::new(warehouse.clone()).forget(name).await?)
}

/// How to reach Kafka.
pub fn kafka(config: &Config) -> KafkaSettings {
    KafkaSettings {
        bootstrap: config.text("kafka.bootstrap").to_owned(),
        properties: config.handed_on("kafka").into_iter().collect(),
        secrets: Secrets::new(secret),
    }
}

/// What a definition names by `secret('NAME')` or `secret_file('/path')`. The error never holds a value.
fn secret(secret: &Secret) -> Result<String, Message> {
    match secret {
        Secret::Environment(name) => std::env::var(name).map_err(|_| {
            Message::new(format!("the environment variable {name}, which {secret} names, is not set for this process"))
                .next("set it and start again")
        }),
        Secret::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(Message::new(format!("the file of {secret} cannot be read"))
                .why(error.to_string())
                .next("check that it is there and that this user may read it")),
        },
    }
}

/// All sources: Kafka at `kafka`, and folders of files, for which the settings of the warehouse's store hold as well. Within a runtime.
pub fn sources(config: &Config, warehouse: &Warehouse, kafka: KafkaSettings) -> Arc<Sources> {
    let options = config.handed_on("storage");
    let open = move |path: &str| match open_folder(path, &options) {
        Ok((store, url)) => {
            Ok(OpenedFolder { store, local: url.scheme() == "file", root: url.to_file_path().ok().filter(|_| url.scheme() == "file") })
        }
        Err(LakeError::BadWarehouse { reason, hint, .. }) => Err(Message::new(reason).next(hint)),
        Err(other) => Err(other.message()),
    };
    let files = FileSources::new(warehouse.store().clone(), Arc::new(open));
    Arc::new(Sources { kafka, files })
}

/// What runs jobs in `warehouse`, with the limits in force.
pub fn job_runner(config: &Config, warehouse: Warehouse) -> Result<JobRunner> {
    let limits = Limits {
        memory_bytes: usize::try_from(config.bytes("batch.memory_limit")?)?,
        spill_dir: config.optional("query.spill_dir").map(PathBuf::from),
        spill_bytes: config.bytes("query.spill_limit")?,
        ..Limits::default()
    };
    Ok(JobRunner::new(warehouse, limits)?)
}

/// A session over `warehouse` with the limits in force.
pub fn session(config: &Config, warehouse: Warehouse) -> Result<Session> {
    let options = SessionOptions {
        memory_limit_bytes: usize::try_from(config.bytes("query.memory_limit")?)?,
        spill_dir: config.optional("query.spill_dir").map(PathBuf::from),
        spill_limit_bytes: config.bytes("query.spill_limit")?,
        system_tables: system::tables(&warehouse),
    };
    Ok(Session::with_options(warehouse, options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_where_their_definition_says_or_it_is_told_what_is_missing() {
        // Every process has this one.
        assert_eq!(secret(&Secret::Environment("PATH".to_owned())), Ok(std::env::var("PATH").unwrap()));
        let error = secret(&Secret::Environment("NO_SUCH_SECRET".to_owned())).unwrap_err();
        let what = "the environment variable NO_SUCH_SECRET, which secret('NO_SUCH_SECRET') names, is not set for this process";
        assert_eq!(error, Message::new(what).next("set it and start again"));

        let folder = tempfile::tempdir().unwrap();
        let of_file = |text: &str| {
            let path = folder.path().join("secret");
            std::fs::write(&path, text).unwrap();
            secret(&Secret::File(path.to_str().unwrap().to_owned()))
        };
        // Editors end a file with a line break, which belongs to no password.
        for (text, right) in [("pass word\n", "pass word"), ("pass\r\n", "pass"), ("two\nlines\n", "two\nlines"), (" pass", " pass")] {
            assert_eq!(of_file(text), Ok(right.to_owned()), "{text:?}");
        }
        let missing = folder.path().join("missing").to_str().unwrap().to_owned();
        let error = secret(&Secret::File(missing.clone())).unwrap_err();
        assert_eq!(error.what, format!("the file of secret_file('{missing}') cannot be read"));
        assert!(error.why.is_some() && error.next.is_some_and(|next| next.contains("this user may read it")));
    }
}

//! Upkeep of tables as the settings under `lake.` say: what runs in the background of processes that write, and what `compact` and `vacuum`
//! share with it.

use std::sync::Arc;

use anyhow::{Result, bail};
use futures::FutureExt;
use watershed_dialect::did_you_mean;
use watershed_lake::{CompactOptions, FindNeeded, LakeError, Needed, Retention, TableName, UpkeepOptions, UpkeepTask, Warehouse};
use watershed_message::Message;

use crate::config::Config;

/// Starts it. The tables are those written through this handle of the warehouse or its clones.
pub fn start(config: &Config, warehouse: &Warehouse) -> Result<UpkeepTask> {
    let compact = if config.flag("lake.compact")? { Some(compact_options(config)?) } else { None };
    let options = UpkeepOptions { compact, vacuum: config.span("lake.vacuum_retention")?, needed: find_needed(warehouse) };
    Ok(warehouse.start_upkeep(options))
}

/// How small files are merged.
pub fn compact_options(config: &Config) -> Result<CompactOptions> {
    let (file_bytes, files_min) = (config.bytes("lake.file_size")?, config.number("lake.compact_files")?);
    Ok(CompactOptions { file_bytes: file_bytes.max(1), files_min: files_min.max(2), everything: false })
}

/// How long new tables keep replaced files and their log.
pub fn retention(config: &Config) -> Result<Retention> {
    let default = Retention::default();
    let files = config.span("lake.vacuum_retention")?.unwrap_or(default.files);
    Ok(Retention { files, log: config.span("lake.log_retention")?.unwrap_or(default.log) })
}

/// The files that pipelines may still read or commit: those of their newest epochs.
///
/// A record that was decided is carried out at the next start, and its rows are sent to the sinks that wait for it, however long that takes.
/// Files of older records are done with; those of epochs that no record decides are never read again.
pub async fn needed(warehouse: &Warehouse) -> Result<Needed, Message> {
    let records = watershed_stream::newest_epochs(warehouse).await.map_err(|error| error.message())?;
    let mut needed = Needed::new();
    for table in records.into_iter().flat_map(|record| record.tables) {
        needed.entry(table.table).or_default().extend(table.files.into_iter().map(|file| file.path));
    }
    Ok(needed)
}

fn find_needed(warehouse: &Warehouse) -> FindNeeded {
    let warehouse = warehouse.clone();
    Arc::new(move || {
        let warehouse = warehouse.clone();
        async move { needed(&warehouse).await }.boxed()
    })
}

/// The tables with these names, or all there are.
pub async fn tables(warehouse: &Warehouse, wanted: Vec<TableName>) -> Result<Vec<TableName>> {
    let there = warehouse.tables().await?;
    for name in &wanted {
        if !there.contains(name) {
            let names: Vec<String> = there.iter().map(ToString::to_string).collect();
            let near = did_you_mean(&name.to_string(), names.iter().map(String::as_str));
            let next = near.unwrap_or_else(|| "SHOW TABLES lists them".to_owned());
            bail!(Message::new(format!("there is no table {name} in {}", warehouse.url())).next(next));
        }
    }
    Ok(if wanted.is_empty() { there } else { wanted })
}

/// Whether some table could not be looked after. The others are all the same.
#[derive(Debug, Default)]
pub struct Failed(bool);

impl Failed {
    /// Says why.
    pub fn note(&mut self, error: &LakeError) {
        tell!("error: {error}");
        self.0 = true;
    }

    /// The code that the program ends with.
    pub fn code(&self) -> u8 {
        u8::from(self.0)
    }
}

/// What upkeep does, in a few words.
pub fn described(config: &Config) -> String {
    let merged = if config.text("lake.compact") == "true" { "small files are merged" } else { "small files are left as they are" };
    let deleted = match config.optional("lake.vacuum_retention") {
        Some(span) => format!("replaced ones deleted after {span}"),
        None => "replaced ones kept".to_owned(),
    };
    format!("{merged}, {deleted}; new tables keep {} of log", config.text("lake.log_retention"))
}

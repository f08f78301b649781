//! The files of `_delta_log`: names and the actions that matter here.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{LakeError, Result};

/// What this program calls itself in commits.
pub(crate) const ENGINE: &str = concat!("watershed/", env!("CARGO_PKG_VERSION"));

/// The log folder of a table.
pub(crate) fn log_folder(table: &Path) -> Path {
    table.clone().join("_delta_log")
}

/// The log file of one version.
pub(crate) fn version_path(table: &Path, version: i64) -> Path {
    log_folder(table).join(format!("{version:020}.json"))
}

/// Whether a file of the log is a checkpoint or a pointer to one.
pub(crate) fn is_checkpoint(file_name: &str) -> bool {
    file_name == "_last_checkpoint" || file_name.contains(".checkpoint.")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    pub(crate) size: i64,
    #[serde(default)]
    pub(crate) modification_time: i64,
    pub(crate) data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "hint")]
    pub(crate) stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_vector: Option<serde_json::Value>,
}

/// A text, if that is what is there.
fn hint<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<String>, D::Error> {
    Ok(serde_json::Value::deserialize(value)?.as_str().map(str::to_owned))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub(crate) data_change: bool,
    /// Bytes of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    pub(crate) app_id: String,
    pub(crate) version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_updated: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) format: Format,
    pub(crate) schema_string: String,
    #[serde(default)]
    pub(crate) partition_columns: Vec<String>,
    #[serde(default)]
    pub(crate) configuration: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created_time: Option<i64>,
}

impl MetaData {
    /// Whether its files have other names for columns than the table.
    pub(crate) fn maps_columns(&self) -> bool {
        self.configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self { provider: "parquet".to_owned(), options: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: i32,
    pub(crate) min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) writer_features: Option<Vec<String>>,
}

impl Protocol {
    /// The first reader feature that a plain Parquet scan does not honour.
    pub(crate) fn unreadable(&self) -> Option<String> {
        match self.min_reader_version {
            // Version 2 allows column mapping, and most tables that allow it have none: their properties tell.
            1 | 2 => None,
            _ => {
                // Deletion vectors are judged file by file: most tables that allow them have none.
                let known =
                    ["timestampNtz", "v2Checkpoint", "deletionVectors", "columnMapping", "vacuumProtocolCheck", "appendOnly", "invariants"];
                self.reader_features.iter().flatten().find(|feature| !known.contains(&feature.as_str())).cloned()
            }
        }
    }

    /// The first writer feature that a plain append does not honour.
    pub(crate) fn unwritable(&self) -> Option<String> {
        match self.min_writer_version {
            ..=2 => None,
            3..=6 => Some(format!("writer protocol version {}", self.min_writer_version)),
            _ => {
                let known = ["timestampNtz", "v2Checkpoint", "deletionVectors", "vacuumProtocolCheck", "appendOnly", "invariants"];
                self.writer_features.iter().flatten().find(|feature| !known.contains(&feature.as_str())).cloned()
            }
        }
    }
}

/// What to do about a table that uses a feature which is not supported.
pub(crate) fn way_out(feature: &str) -> &'static str {
    match feature {
        DELETION_VECTORS => {
            "have the engine that wrote it rewrite those files (Spark: REORG TABLE … APPLY (PURGE); ALTER TABLE … SET TBLPROPERTIES \
             ('delta.enableDeletionVectors' = 'false') makes no new ones), or read it there"
        }
        COLUMN_MAPPING => {
            "copy its rows into a table without it (Spark: CREATE TABLE … USING delta AS SELECT …), or read it with another engine"
        }
        "typeWidening" | "typeWidening-preview" => {
            "have the engine that wrote it rewrite its files (Spark: ALTER TABLE … DROP FEATURE 'typeWidening'), or read it there"
        }
        "variantType" | "variantType-preview" | "variantShredding-preview" | "variantShredding" => {
            "copy its rows with the column as text (Spark: to_json) or as columns of plain types, or read it with another engine"
        }
        _ => "copy its rows into a table without that feature, or read it with another engine",
    }
}

pub(crate) const DELETION_VECTORS: &str = "deletion vectors";
pub(crate) const COLUMN_MAPPING: &str = "column mapping";

/// One line of a log file: exactly one field is present.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Action {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit_info: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) meta_data: Option<MetaData>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<Txn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) add: Option<Add>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remove: Option<Remove>,
}

impl Action {
    /// Whether it adds or removes rows, and does not just rearrange them.
    pub(crate) fn changes_data(&self) -> bool {
        self.add.as_ref().is_some_and(|add| add.data_change) || self.remove.as_ref().is_some_and(|remove| remove.data_change)
    }
}

/// The actions of one log file.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Action>> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
        .map(|line| serde_json::from_slice(line).map_err(|error| LakeError::Damaged { path: path.to_string(), reason: error.to_string() }))
        .collect()
}

/// The text of one log file.
pub(crate) fn render(actions: &[Action]) -> Result<bytes::Bytes> {
    let mut text = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut text, action)
            .map_err(|error| LakeError::Damaged { path: "_delta_log".to_owned(), reason: error.to_string() })?;
        text.push(b'\n');
    }
    Ok(text.into())
}

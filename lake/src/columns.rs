//! Columns that a table gets after it was made.
//!
//! One commit of metadata: no file is written or read again, rows that are there have NULL in the new columns. The columns are named in a property of
//! the table, so that whoever still writes by a definition without them is known to be none that wants another table; columns that others add are not
//! there, and stop a pipeline.

use std::collections::BTreeMap;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use serde_json::Value;
use uuid::Uuid;

use crate::TableName;
use crate::access::PutOutcome;
use crate::clock;
use crate::error::{LakeError, Result};
use crate::limits::COMMIT_ATTEMPTS;
use crate::log::{Action, ENGINE, Protocol, render, version_path};
use crate::log_checkpoint::Wanted;
use crate::replay::replay;
use crate::schema;
use crate::state;
use crate::table::Table;
use crate::warehouse::Warehouse;

/// The property that names the columns which a table got later, as a JSON list.
const ADDED: &str = "watershed.addedColumns";

impl Warehouse {
    /// Gives a table the columns of `schema` that it lacks, at their places there, as columns that may be NULL. One that has them all is left alone,
    /// so it can be repeated. What it has besides, from an earlier call, follows at the end.
    ///
    /// Errors: [`LakeError::TableDiffers`] if a column that it has is another one in `schema`, or is not there; [`LakeError::BadType`].
    pub async fn add_columns(&self, name: &TableName, schema: &SchemaRef) -> Result<Table> {
        let (wanted, wanted_schema) = schema::to_delta(schema)?;
        for _ in 0..COMMIT_ATTEMPTS {
            let table = self.table(name).await?;
            let differs = || LakeError::TableDiffers {
                table: name.clone(),
                what: "schema",
                existing: schema::describe(&table.schema()),
                wanted: schema::describe(&wanted_schema),
            };
            let (version, tag) = {
                let state = table.fresh().await?;
                table.check_writable(&state.protocol, "given more columns")?;
                (state.version, state.tag.clone())
            };
            let folder = state::folder_of(name)?;
            let before = replay(self.access(), &folder, Some(version), Wanted::default()).await?;
            let mut metadata = before.metadata;
            let merged = merge(&metadata.schema_string, &wanted, &added(&metadata.configuration)).ok_or_else(differs)?;
            if merged.new.is_empty() {
                return Ok(table);
            }
            let mut all = added(&metadata.configuration);
            all.extend(merged.new.iter().filter_map(name_of).map(str::to_owned));
            metadata.schema_string = merged.schema_string;
            metadata.configuration.insert(ADDED.to_owned(), serde_json::json!(all).to_string());
            let info = serde_json::json!({
                "timestamp": clock::now().timestamp_millis(),
                "operation": "ADD COLUMNS",
                "operationParameters": { "columns": Value::from(merged.new).to_string() },
                "readVersion": version,
                "isBlindAppend": true,
                "engineInfo": ENGINE,
                "txnId": Uuid::new_v4().to_string(),
            });
            let mut actions = vec![Action { commit_info: Some(info), ..Action::default() }];
            if let Some(protocol) = raised(&before.protocol, &wanted_schema) {
                actions.push(Action { protocol: Some(protocol), ..Action::default() });
            }
            actions.push(Action { meta_data: Some(metadata), ..Action::default() });
            // An unclear outcome is an error here; who repeats the call finds the columns there, or adds them.
            match self.access().put_if_absent(&version_path(&folder, version + 1), &render(&actions)?).await? {
                (PutOutcome::Won, _) => {
                    table.check_predecessor(version, tag).await?;
                    crate::step("columns_added");
                    return self.table(name).await;
                }
                (PutOutcome::Lost(_), _) => {}
            }
        }
        Err(LakeError::TooBusy { table: name.clone(), attempts: COMMIT_ATTEMPTS })
    }
}

/// The columns that a table with these properties got later.
pub(crate) fn added(properties: &BTreeMap<String, String>) -> Vec<String> {
    properties.get(ADDED).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

/// Whether a table with the columns `held` takes rows with the columns `wanted`: each is there, in this order, and takes all their values; what the
/// table has besides it got later, and may be NULL.
pub(crate) fn takes(held: &Schema, added: &[String], wanted: &Schema) -> bool {
    let came_later = |column: &&FieldRef| {
        let is_wanted = wanted.field_with_name(column.name()).is_ok();
        !is_wanted && column.is_nullable() && added.contains(column.name())
    };
    let own: Vec<&FieldRef> = held.fields().iter().filter(|column| !came_later(column)).collect();
    let fits = |(column, field): (&&FieldRef, &FieldRef)| {
        column.name() == field.name() && column.data_type() == field.data_type() && (column.is_nullable() || !field.is_nullable())
    };
    own.len() == wanted.fields().len() && own.iter().zip(wanted.fields()).all(fits)
}

struct Merged {
    schema_string: String,
    /// The fields that are new.
    new: Vec<Value>,
}

/// The fields of `wanted`, those that are there as they are; then what is there besides. `None` if they cannot be those of one table.
fn merge(held: &str, wanted: &str, added: &[String]) -> Option<Merged> {
    let (mut held, wanted): (Value, Value) = (serde_json::from_str(held).ok()?, serde_json::from_str(wanted).ok()?);
    let mut rest = held.get("fields")?.as_array()?.clone();
    let (mut fields, mut new) = (Vec::new(), Vec::new());
    for field in wanted.get("fields")?.as_array()? {
        match rest.iter().position(|known| name_of(known) == name_of(field)) {
            Some(place) => {
                let known = rest.remove(place);
                let narrower = known["nullable"] == false && field["nullable"] == true;
                if known["type"] != field["type"] || narrower {
                    return None;
                }
                fields.push(known);
            }
            None => {
                // To readers of Delta `City` is `city`.
                let name = name_of(field)?.to_lowercase();
                if rest.iter().chain(&fields).filter_map(name_of).any(|known| known.to_lowercase() == name) {
                    return None;
                }
                let mut field = field.clone();
                field["nullable"] = Value::Bool(true);
                fields.push(field.clone());
                new.push(field);
            }
        }
    }
    if !rest.iter().all(|field| field["nullable"] == true && name_of(field).is_some_and(|name| added.iter().any(|known| known == name))) {
        return None;
    }
    fields.extend(rest);
    held["fields"] = Value::Array(fields);
    Some(Merged { schema_string: held.to_string(), new })
}

fn name_of(field: &Value) -> Option<&str> {
    field.get("name")?.as_str()
}

/// The protocol that columns of `schema` want, if it is not the one the table has.
fn raised(protocol: &Protocol, schema: &Schema) -> Option<Protocol> {
    const LOCAL_TIMES: &str = "timestampNtz";
    let has = |features: &Option<Vec<String>>| features.iter().flatten().any(|feature| feature == LOCAL_TIMES);
    if !schema::has_local_times(schema) || (has(&protocol.reader_features) && has(&protocol.writer_features)) {
        return None;
    }
    let with = |features: &Option<Vec<String>>, others: &[&str]| {
        // A table without a list has what its version numbers mean.
        let mut list = features.clone().unwrap_or_else(|| others.iter().map(|name| (*name).to_owned()).collect());
        if !list.iter().any(|feature| feature == LOCAL_TIMES) {
            list.push(LOCAL_TIMES.to_owned());
        }
        Some(list)
    };
    Some(Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: with(&protocol.reader_features, &[]),
        writer_features: with(&protocol.writer_features, &["appendOnly", "invariants"]),
    })
}

//! The tables a pipeline writes, and what must be in their Delta logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::future::join_all;
use watershed_dialect::{LateRows, SqlError};
use watershed_lake::{Commit, LakeError, Table, TableName, Warehouse, side};

use crate::StreamError;
use crate::epoch::{EpochRecord, ShardId, TableEpoch};
use crate::operators::expect;
use crate::plan::Blueprint;
use crate::writer::{Target, quarantine_schema};

/// The name of the table that `blueprint` writes.
pub fn main_name(blueprint: &Blueprint) -> Result<TableName, StreamError> {
    Ok(TableName::new(&blueprint.table.schema, &blueprint.table.table).map_err(SqlError::new)?)
}

/// Where the bad rows of a source go: beside the raw tables, split by pipeline, since each pipeline decodes only what it needs.
pub fn quarantine_name(source: &str) -> Result<TableName, StreamError> {
    Ok(TableName::new("bronze", format!("{source}${}", side::QUARANTINE)).map_err(SqlError::new)?)
}

/// What follows a table's name in that of its late rows: `<table>$late`.
pub const LATE: &str = side::LATE;
/// What follows a table's name in that of the rows that violate an expectation.
pub const VIOLATIONS: &str = side::VIOLATIONS;
/// The side tables that a pipeline may have of its own.
pub const SIDES: [(Target, &str); 2] = [(Target::Late, LATE), (Target::Violations, VIOLATIONS)];

/// A table that a pipeline writes.
#[derive(Debug, Clone)]
pub struct DeclaredTable {
    /// Its name.
    pub name: TableName,
    /// Its columns.
    pub schema: SchemaRef,
    /// The columns that its files are parted by.
    pub partitioned_by: Vec<String>,
}

/// The tables that a pipeline writes: its own, those of the rows that are set aside, as far as its definition asks for them, and the
/// quarantine of each of its sources.
pub fn declared(blueprint: &Blueprint) -> Result<BTreeMap<Target, DeclaredTable>, StreamError> {
    let main = main_name(blueprint)?;
    let table = |name: TableName, schema: &SchemaRef, partitioned_by: &[String]| DeclaredTable {
        name,
        schema: schema.clone(),
        partitioned_by: partitioned_by.to_vec(),
    };
    let mut tables = BTreeMap::new();
    for (target, side) in SIDES {
        let schema = match target {
            // Late rows that are dropped need no table.
            Target::Late => blueprint.late_schema.as_ref().filter(|_| blueprint.table.late_rows == LateRows::Divert),
            _ => blueprint.violations_schema.as_ref(),
        };
        if let Some(schema) = schema {
            tables.insert(target, table(main.side(side), schema, &[]));
        }
    }
    for (place, source) in blueprint.sources.iter().enumerate() {
        let quarantine = quarantine_name(&source.definition.name)?;
        tables.insert(Target::Quarantine(place), table(quarantine, &quarantine_schema(), &["pipeline".to_string()]));
    }
    tables.insert(Target::Main, table(main, &blueprint.schema, &blueprint.table.partitioned_by));
    Ok(tables)
}

/// Opens the tables of a pipeline; makes those that are not there yet, but none that its newest record names: such a one is gone, and
/// an empty one in its place would only be in the way of a copy.
pub async fn open(
    warehouse: &Warehouse,
    blueprint: &Blueprint,
    shard: &ShardId,
    newest: Option<&EpochRecord>,
) -> Result<BTreeMap<Target, Table>, StreamError> {
    let make = async |target: Target, table: &DeclaredTable| {
        if let Some(record) = newest.filter(|record| record.tables.iter().any(|t| t.table == table.name))
            && let Err(LakeError::NoSuchTable(_)) = warehouse.table(&table.name).await
        {
            return Err(gone(shard, &table.name, record.epoch));
        }
        let made = warehouse.create_table(&table.name, table.schema.clone(), &table.partitioned_by).await;
        match (made, target) {
            // Inner columns may be called otherwise by now: late rows go on under the names that their table has.
            (Err(LakeError::TableDiffers { .. }), Target::Late) if !blueprint.late_mixed => {
                let names = warehouse.table(&table.name).await?.schema();
                let schema = under_names_of(&table.schema, &names).unwrap_or_else(|| table.schema.clone());
                Ok(warehouse.create_table(&table.name, schema, &table.partitioned_by).await?)
            }
            (made, _) => Ok(made?),
        }
    };
    let mut tables = BTreeMap::new();
    for (target, table) in declared(blueprint)? {
        tables.insert(target, make(target, &table).await?);
    }
    let main = main_name(blueprint)?;
    for (target, side) in SIDES {
        if tables.contains_key(&target) {
            continue;
        }
        // Of a definition that no longer asks for it: its last epoch may still have to be carried out.
        match warehouse.table(&main.side(side)).await {
            Ok(table) => drop(tables.insert(target, table)),
            Err(LakeError::NoSuchTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(tables)
}

/// Gives the tables of a pipeline the columns that its definition has got at the end; rows that are there have NULL in them. Late rows have none of
/// these: they are kept as they came to a step with state, and what comes there does not change.
///
/// Each table takes one commit, and one that has its columns is left alone, so whoever was cut short repeats it. Until then the definition in force goes
/// on over tables with columns that it does not write.
pub async fn widen(warehouse: &Warehouse, blueprint: &Blueprint) -> Result<(), StreamError> {
    let main = main_name(blueprint)?;
    for (table, schema) in
        [(main.side(VIOLATIONS), expect::side_schema(&blueprint.schema, &blueprint.names)), (main, blueprint.schema.clone())]
    {
        match warehouse.add_columns(&table, &schema).await {
            Ok(_) | Err(LakeError::NoSuchTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `schema` with columns that may all be NULL: rows that are older than a column have no value in it, whatever its query says.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()).into()
}

/// `schema` with the names of `names`; `None` unless there are as many.
pub(crate) fn under_names_of(schema: &SchemaRef, names: &SchemaRef) -> Option<SchemaRef> {
    let renamed = |(field, named): (&FieldRef, &FieldRef)| field.as_ref().clone().with_name(named.name());
    let as_many = schema.fields().len() == names.fields().len();
    as_many.then(|| Schema::new(schema.fields().iter().zip(names.fields()).map(renamed).collect::<Vec<_>>()).into())
}

/// Rows as a table has them that has the columns of several kinds of rows: each by its name, NULL in those that they do not have.
pub(crate) fn among(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, StreamError> {
    let column = |field: &FieldRef| match rows.column_by_name(field.name()) {
        Some(column) => (Arc::new(field.as_ref().clone().with_data_type(column.data_type().clone())), column.clone()),
        None => (field.clone(), new_null_array(field.data_type(), rows.num_rows())),
    };
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = schema.fields().iter().map(column).unzip();
    Ok(RecordBatch::try_new(Schema::new(fields).into(), columns)?)
}

/// The tables that new rows go to: all but that of late rows when these are dropped.
pub fn written(tables: &BTreeMap<Target, Table>, late_rows: LateRows) -> BTreeMap<Target, Table> {
    let wanted = |target: &Target| *target != Target::Late || late_rows == LateRows::Divert;
    tables.iter().filter(|(target, _)| wanted(target)).map(|(target, table)| (*target, table.clone())).collect()
}

/// The application id of a pipeline's transactions in one of its tables.
///
/// The quarantine is shared and outlives the pipeline's own tables. When these are made again, epochs begin at 1 again, so there the id
/// names the life of the main table as well: the old life's epochs must not be taken for ours.
fn app_id(shard: &ShardId, target: Target, tables: &BTreeMap<Target, Table>) -> String {
    match (target, tables.get(&Target::Main)) {
        (Target::Quarantine(_), Some(main)) => format!("{}/{}", shard.app_id(), main.id()),
        _ => shard.app_id(),
    }
}

/// Carries out what a record decided: all tables side by side. Repeating it changes nothing.
pub async fn commit(shard: &ShardId, record: &EpochRecord, tables: &BTreeMap<Target, Table>) -> Result<(), StreamError> {
    let commits = record.tables.iter().filter(|t| !t.files.is_empty()).map(async |epoch| {
        let Some((target, table)) = tables.iter().find(|(_, t)| *t.name() == epoch.table) else {
            return Err(no_such_table(shard, epoch));
        };
        let commit = Commit {
            app_id: app_id(shard, *target, tables),
            app_version: record.epoch as i64,
            previous_app_version: epoch.previous_epoch.map(|e| e as i64),
            files: epoch.files.clone(),
            operation: "STREAMING UPDATE".into(),
        };
        table.commit(commit).await?;
        watershed_lake::step("one_table_committed");
        Ok(())
    });
    join_all(commits).await.into_iter().collect()
}

/// Checks that the tables are the ones the record speaks of and are where it left them: at it, or just before.
pub async fn check(shard: &ShardId, record: &EpochRecord, tables: &BTreeMap<Target, Table>) -> Result<(), StreamError> {
    for epoch in &record.tables {
        let Some((target, table)) = tables.iter().find(|(_, t)| *t.name() == epoch.table) else {
            // A side table that the definition no longer asks for has nothing more to redo once it is up to date.
            if epoch.files.is_empty() {
                continue;
            }
            return Err(no_such_table(shard, epoch));
        };
        if table.id() != epoch.table_id {
            return Err(inconsistent(
                shard,
                format!(
                    "table {} was dropped or replaced since epoch {} (its Delta id was {}, now {})",
                    epoch.table,
                    record.epoch,
                    epoch.table_id,
                    table.id()
                ),
                &format!("restore the table, or start anew with `watershed rebuild {}`", shard.pipeline),
            ));
        }
        let stands = table.transaction_version(&app_id(shard, *target, tables)).await?.map(|v| v as u64);
        let done = record.last_epoch_of(epoch);
        if stands != done && stands != epoch.previous_epoch {
            return Err(inconsistent(
                shard,
                format!(
                    "table {} holds epoch {}, but the newest epoch record is {} and expects {}",
                    epoch.table,
                    stands.map_or("none".into(), |v| v.to_string()),
                    record.epoch,
                    done.map_or("none".into(), |v| v.to_string()),
                ),
                &format!(
                    "somebody restored or removed a part of the warehouse: restore table and `_watershed` folder from the same time, or \
                     start anew with `watershed rebuild {}`",
                    shard.pipeline
                ),
            ));
        }
        // What is still to be carried out must be there: a log that names files which are gone cannot be read any more.
        if stands != done
            && let Some(file) = table.missing(&epoch.files).await?
        {
            return Err(inconsistent(
                shard,
                format!("epoch {} is to add file '{file}' to table {}, and that is gone", record.epoch, epoch.table),
                &format!("restore it, or start anew with `watershed rebuild {}`", shard.pipeline),
            ));
        }
    }
    Ok(())
}

/// Checks that a pipeline without records has never written: else its state was deleted under a live table.
pub async fn check_untouched(shard: &ShardId, tables: &BTreeMap<Target, Table>) -> Result<(), StreamError> {
    for (target, table) in tables {
        if let Some(version) = table.transaction_version(&app_id(shard, *target, tables)).await? {
            return Err(inconsistent(
                shard,
                format!(
                    "table {} holds epoch {version}, but there is no epoch record: the folder {} was deleted under a live table",
                    table.name(),
                    shard.folder()
                ),
                &format!("restore the folder from a backup, or start anew with `watershed rebuild {}`", shard.pipeline),
            ));
        }
    }
    Ok(())
}

fn gone(shard: &ShardId, table: &TableName, epoch: u64) -> StreamError {
    inconsistent(
        shard,
        format!("table {table} is gone: epoch {epoch} wrote to it, and somebody has removed it since"),
        &format!(
            "restore it from a copy, or start anew with `watershed rebuild {}`, which reads the source from its beginning",
            shard.pipeline
        ),
    )
}

fn no_such_table(shard: &ShardId, epoch: &TableEpoch) -> StreamError {
    inconsistent(
        shard,
        format!("the newest epoch record names files of table {}, which the definition no longer has", epoch.table),
        "put the definition back until the epoch is committed",
    )
}

fn inconsistent(shard: &ShardId, what: String, hint: &str) -> StreamError {
    StreamError::Inconsistent { pipeline: shard.pipeline.to_string(), what, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::pipelines::remove;
    use crate::project::Project;

    async fn transact(shard: &ShardId, tables: &BTreeMap<Target, Table>, epoch: i64) {
        for (target, table) in tables {
            let commit = Commit {
                app_id: app_id(shard, *target, tables),
                app_version: epoch,
                previous_app_version: None,
                files: Vec::new(),
                operation: "STREAMING UPDATE".into(),
            };
            table.commit(commit).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_epoch_with_late_rows_is_carried_out_after_the_definition_drops_them() {
        let text = |options: &str| {
            format!(
                "CREATE SOURCE rides (id VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second')
                 WITH (connector = 'kafka', topic = 'rides', format = 'json');
                 CREATE STREAMING TABLE gold.rides {options} AS SELECT window_start, count(*) AS n
                 FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start, window_end;"
            )
        };
        let plan = async |options: &str| {
            let project = Project::parse([text(options).as_str()]).unwrap();
            project.plan(project.tables.values().next().unwrap()).await.unwrap()
        };
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let diverting = plan("").await;
        let shard = ShardId { pipeline: main_name(&diverting).unwrap(), shard: 0 };
        assert!(open(&warehouse, &diverting, &shard, None).await.unwrap().contains_key(&Target::Late));

        let dropping = plan("WITH (late_rows = 'drop')").await;
        let tables = open(&warehouse, &dropping, &shard, None).await.unwrap();
        assert!(tables.contains_key(&Target::Late), "the last epoch may have files for it");
        assert!(!written(&tables, dropping.table.late_rows).contains_key(&Target::Late), "new late rows are dropped");
        assert!(written(&tables, diverting.table.late_rows).contains_key(&Target::Late));
    }

    #[tokio::test]
    async fn what_is_declared_is_what_is_made_and_all_of_it_is_removed() {
        let table = |head: &str| {
            format!(
                "CREATE SOURCE rides (id VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second')
                 WITH (connector = 'kafka', topic = 'rides', format = 'json');
                 CREATE STREAMING TABLE gold.rides {head} AS SELECT window_start, count(*) AS n
                 FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start, window_end;"
            )
        };
        let constraint = "(CONSTRAINT many EXPECT (n > 1) ON VIOLATION QUARANTINE)";
        let (main, late, violations, quarantine) = ("gold.rides", "gold.rides$late", "gold.rides$violations", "bronze.rides$quarantine");
        let cases = [
            (String::new(), vec![quarantine, main, late]),
            ("WITH (late_rows = 'drop')".to_string(), vec![quarantine, main]),
            (format!("{constraint} WITH (late_rows = 'drop')"), vec![quarantine, main, violations]),
            (constraint.to_string(), vec![quarantine, main, late, violations]),
        ];
        for (head, expected) in cases {
            let project = Project::parse([table(&head).as_str()]).unwrap();
            let blueprint = project.plan(project.tables.values().next().unwrap()).await.unwrap();
            let mut names: Vec<String> = declared(&blueprint).unwrap().values().map(|table| table.name.to_string()).collect();
            names.sort();
            assert_eq!(names, expected, "{head}");

            let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
            let shard = ShardId { pipeline: main_name(&blueprint).unwrap(), shard: 0 };
            open(&warehouse, &blueprint, &shard, None).await.unwrap();
            let stored = async || {
                let mut names: Vec<String> = warehouse.tables().await.unwrap().iter().map(ToString::to_string).collect();
                names.sort();
                names
            };
            assert_eq!(stored().await, expected, "{head}");
            remove(&warehouse, &shard.pipeline).await.unwrap();
            assert_eq!(stored().await, [quarantine], "{head}");
        }
    }

    #[tokio::test]
    async fn a_table_made_anew_begins_anew_in_the_shared_quarantine_too() {
        let text = "CREATE SOURCE rides (id VARCHAR) WITH (connector = 'kafka', topic = 'rides', format = 'json');
                    CREATE STREAMING TABLE silver.rides AS SELECT id FROM rides;";
        let project = Project::parse([text]).unwrap();
        let blueprint = project.plan(project.tables.values().next().unwrap()).await.unwrap();
        let shard = ShardId { pipeline: main_name(&blueprint).unwrap(), shard: 0 };
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();

        let tables = open(&warehouse, &blueprint, &shard, None).await.unwrap();
        check_untouched(&shard, &tables).await.unwrap();
        transact(&shard, &tables, 7).await;
        let error = check_untouched(&shard, &tables).await.unwrap_err();
        assert!(error.to_string().contains("deleted under a live table"), "{error}");

        remove(&warehouse, &shard.pipeline).await.unwrap();
        let tables = open(&warehouse, &blueprint, &shard, None).await.unwrap();
        check_untouched(&shard, &tables).await.unwrap();
        transact(&shard, &tables, 1).await;
    }
}

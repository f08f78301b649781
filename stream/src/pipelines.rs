//! The pipelines of a warehouse, whoever runs them: makes and removes their tables, and says what state they are in.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use watershed_lake::{LakeError, TableName, Warehouse};

use crate::StreamError;
use crate::epoch::{self, EpochRecord, ShardId};
use crate::holder::{self, Held, Vitals};
use crate::plan::Blueprint;
use crate::project::Project;
use crate::tables;

const LISTINGS_AT_ONCE: usize = 16;

/// Makes the tables of all pipelines, so that they can be queried before their first row.
pub async fn prepare(warehouse: &Warehouse, project: &Project) -> Result<BTreeMap<TableName, Blueprint>, StreamError> {
    let blueprints = project.plan_all().await?;
    for (name, blueprint) in &blueprints {
        let shard = ShardId { pipeline: name.clone(), shard: 0 };
        match tables::open(warehouse, blueprint, &shard, epoch::newest(warehouse, &shard).await?.as_ref()).await {
            Ok(_) => {}
            // Its pipeline will say so when it runs; that is no reason to keep other definitions from coming into force.
            Err(error @ StreamError::Inconsistent { .. }) => tracing::warn!(%error, "a table is not as its pipeline left it"),
            Err(error) => return Err(error),
        }
    }
    Ok(blueprints)
}

/// The pipelines among `blueprints` whose newest epoch has state that another plan, or an older version, has left, or that cannot be read: they
/// cannot go on from it.
pub async fn unfit<'a>(
    warehouse: &Warehouse,
    blueprints: impl IntoIterator<Item = (&'a TableName, &'a Blueprint)>,
) -> Result<BTreeSet<TableName>, StreamError> {
    let mut unfit = BTreeSet::new();
    for (name, blueprint) in blueprints {
        let fits = match epoch::newest(warehouse, &ShardId { pipeline: name.clone(), shard: 0 }).await {
            Ok(newest) => newest.is_none_or(|record| record.state.is_empty() || blueprint.spec.accepts(&record.definition)),
            Err(StreamError::Corrupt { .. }) => false,
            Err(error) => return Err(error),
        };
        if !fits {
            unfit.insert(name.clone());
        }
    }
    Ok(unfit)
}

/// Drops the rows and the state of one pipeline and makes its tables again, empty: the next run reads its source from the beginning.
///
/// Errors: [`StreamError::Held`] while a process runs it.
pub async fn rebuild(warehouse: &Warehouse, blueprint: &Blueprint) -> Result<(), StreamError> {
    let shard = ShardId { pipeline: tables::main_name(blueprint)?, shard: 0 };
    remove(warehouse, &shard.pipeline).await?;
    tables::open(warehouse, blueprint, &shard, None).await?;
    Ok(())
}

/// Fails while a process runs the pipeline; passes where there is none of that name, as for a table that a job writes.
///
/// Errors: [`StreamError::Held`].
pub async fn check_free(warehouse: &Warehouse, pipeline: &TableName) -> Result<(), StreamError> {
    holder::check_free(warehouse, &ShardId { pipeline: pipeline.clone(), shard: 0 }).await
}

/// Removes a pipeline's state and its table with the late and the violating rows; quarantined rows of the source stay.
///
/// Errors: [`StreamError::Held`] while a process runs it.
pub async fn remove(warehouse: &Warehouse, pipeline: &TableName) -> Result<(), StreamError> {
    check_free(warehouse, pipeline).await?;
    // Records go first: what then remains is a table without state, which is refused by name, never silently started over.
    warehouse.remove(&warehouse.list(&Path::from(epoch::folder(pipeline))).await?).await?;
    let sides = tables::SIDES.map(|(_, side)| pipeline.side(side));
    for table in std::iter::once(pipeline.clone()).chain(sides) {
        match warehouse.drop_table(&table).await {
            Ok(()) | Err(LakeError::NoSuchTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A pipeline as the warehouse knows it, whoever runs it.
#[derive(Debug)]
pub struct PipelineReport {
    /// The table it writes.
    pub pipeline: TableName,
    /// Its newest epoch; `None` if it could not begin yet.
    pub record: Option<EpochRecord>,
    /// Whether somebody runs it.
    pub held: Held,
    /// What they last said of it.
    pub vitals: Option<Vitals>,
    /// Why this version cannot run it, unless a process runs it.
    pub refused: Option<String>,
}

/// All pipelines of the warehouse that somebody has run, in name order.
pub async fn reports(warehouse: &Warehouse) -> Result<Vec<PipelineReport>, StreamError> {
    let read = shards(warehouse).await?.into_iter().map(|shard| async move {
        let (newest, (held, vitals)) = tokio::join!(epoch::newest(warehouse, &shard), holder::look(warehouse, &shard));
        let record = newest?;
        let known = record.is_some() || vitals.is_some();
        Ok::<_, StreamError>(known.then_some(PipelineReport { pipeline: shard.pipeline, record, held, vitals, refused: None }))
    });
    let reports: Vec<Option<PipelineReport>> = FuturesOrdered::from_iter(read).try_collect().await?;
    Ok(reports.into_iter().flatten().collect())
}

/// These reports, and of each pipeline in `refused` why this version cannot run it, also of those that nobody has run yet. One that a process
/// runs is left as it is: that process may be of another version.
pub fn with_refused(mut reports: Vec<PipelineReport>, refused: &BTreeMap<TableName, String>) -> Vec<PipelineReport> {
    for (pipeline, why) in refused {
        let mut known = false;
        for report in reports.iter_mut().filter(|report| report.pipeline == *pipeline) {
            known = true;
            if !matches!(report.held, Held::Running | Held::Failing) {
                (report.held, report.refused) = (Held::Failed, Some(why.clone()));
            }
        }
        if !known {
            let pipeline = pipeline.clone();
            reports.push(PipelineReport { pipeline, record: None, held: Held::Failed, vitals: None, refused: Some(why.clone()) });
        }
    }
    reports.sort_by(|one, other| one.pipeline.cmp(&other.pipeline));
    reports
}

/// The newest epoch record of each pipeline of the warehouse, in name order.
pub async fn newest_epochs(warehouse: &Warehouse) -> Result<Vec<EpochRecord>, StreamError> {
    Ok(reports(warehouse).await?.into_iter().filter_map(|report| report.record).collect())
}

/// The pipelines that have run: those of which the warehouse holds records.
pub async fn started(warehouse: &Warehouse) -> Result<BTreeSet<TableName>, StreamError> {
    let mut started = BTreeSet::new();
    for shard in shards(warehouse).await? {
        if !epoch::numbers(warehouse, &shard).await?.is_empty() {
            started.insert(shard.pipeline);
        }
    }
    Ok(started)
}

/// All that have run, as their folders say: whoever decides what files are needed must miss none.
pub(crate) async fn shards(warehouse: &Warehouse) -> Result<Vec<ShardId>, StreamError> {
    let names = folders(warehouse, &Path::from(epoch::PIPELINES)).await?;
    let pipelines: Vec<TableName> = names.into_iter().filter_map(|name| name.parse().ok()).collect();
    let listed = pipelines.into_iter().map(|pipeline| async move {
        let numbers = folders(warehouse, &Path::from(epoch::folder(&pipeline))).await?;
        let mut numbers: Vec<u32> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
        numbers.sort_unstable();
        Ok::<_, StreamError>(numbers.into_iter().map(move |shard| ShardId { pipeline: pipeline.clone(), shard }))
    });
    let listed: Vec<_> = futures::stream::iter(listed).buffered(LISTINGS_AT_ONCE).try_collect().await?;
    Ok(listed.into_iter().flatten().collect())
}

/// The names of the folders in a folder.
async fn folders(warehouse: &Warehouse, folder: &Path) -> Result<Vec<String>, StreamError> {
    let listed = warehouse.store().list_with_delimiter(Some(folder)).await?;
    Ok(listed.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::holder::Identity;

    #[tokio::test]
    async fn what_a_process_runs_is_not_removed() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
        let (run, of_a_job): (TableName, TableName) = ("silver.rides".parse().unwrap(), "gold.by_day".parse().unwrap());
        for table in [&run, &of_a_job] {
            warehouse.create_table(table, schema.clone(), &[]).await.unwrap();
        }
        let (shard, me) = (ShardId { pipeline: run.clone(), shard: 0 }, Identity::of_this_process());
        holder::say(&warehouse, &shard, &me, None, false).await;
        let error = remove(&warehouse, &run).await.unwrap_err();
        assert!(matches!(error, StreamError::Held { .. }), "{error}");
        remove(&warehouse, &of_a_job).await.unwrap();
        assert_eq!(warehouse.tables().await.unwrap(), std::slice::from_ref(&run));

        holder::say(&warehouse, &shard, &me, None, true).await;
        remove(&warehouse, &run).await.unwrap();
        assert!(warehouse.tables().await.unwrap().is_empty());
    }
}

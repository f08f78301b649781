//! A physical plan in the words of MapReduce, for EXPLAIN: jobs and queries are computed alike.
//!
//! | DataFusion | here |
//! |---|---|
//! | scan, filter, projection, window assignment | *map*: a task for each partition of the input |
//! | partial aggregate | *combine*: what a map task adds up before it hands rows on |
//! | hash repartition | *shuffle*: rows of one key go to one task |
//! | final aggregate, join, window function, sort of what was shuffled | *reduce* |
//! | one task's rows handed to all tasks of a join | *broadcast* |
//! | all tasks' rows to one task, in order or not | *gather* |
//! | what a job does with its result | *write* |
//!
//! ```text
//! map        3 tasks  read 3 splits; book, copies
//! combine    3 tasks  sum(copies) by book
//! shuffle    2 tasks  by book
//! reduce     2 tasks  sum(copies) by book
//! ```

use std::fmt;
use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::AsOfJoin;

/// Each stage of a job has this many tasks at least, so that its shuffle is one on any machine.
pub const JOB_TASKS_MIN: usize = 2;
/// Characters of one thing that a stage does; longer ones are cut.
const WHAT_CHARS_MAX: usize = 160;

/// What a stage is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reads rows and treats each by itself.
    Map,
    /// Adds up what one map task has, before rows travel.
    Combine,
    /// Sends rows of one key to one task.
    Shuffle,
    /// Treats all rows of a key together.
    Reduce,
    /// Gives the rows of one side of a join to every task.
    Broadcast,
    /// Brings the rows of all tasks together.
    Gather,
    /// Keeps the result.
    Write,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map => "map",
            Self::Combine => "combine",
            Self::Shuffle => "shuffle",
            Self::Reduce => "reduce",
            Self::Broadcast => "broadcast",
            Self::Gather => "gather",
            Self::Write => "write",
        })
    }
}

/// One stage: tasks that do the same side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it is for.
    pub step: Step,
    /// How many tasks it has; of a shuffle, how many it feeds.
    pub tasks: usize,
    /// What each task does, in order.
    pub what: Vec<String>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, tasks, what } = self;
        write!(f, "{:<10} {tasks:>3} {:<5}  {}", step.to_string(), if *tasks == 1 { "task" } else { "tasks" }, what.join("; "))
    }
}

/// The stages by which a job refreshes `view`: those of its plan, and the commit.
pub fn refresh_stages(plan: &Arc<dyn ExecutionPlan>, view: &str) -> Vec<Stage> {
    let mut stages = stages(plan);
    stages.push(written(view));
    stages
}

/// The stages by which a job refreshes `view` by an as-of join, which is no plan of DataFusion's.
pub fn as_of_stages(join: &AsOfJoin, view: &str) -> Vec<Stage> {
    let read = |(schema, table): &(String, String), time: &str| format!("read {schema}.{table}, sort by {time}");
    let newest = if join.strict { "before" } else { "not later than" };
    let what = format!("newest {} {newest} {} by {}", join.feature_time, join.time, join.keys.join(", "));
    let stage = |step, what| Stage { step, tasks: 1, what };
    vec![
        stage(Step::Map, vec![read(&join.facts, &join.time), read(&join.features, &join.feature_time)]),
        stage(Step::Gather, vec!["all rows in one task".to_owned()]),
        stage(Step::Reduce, vec![what]),
        written(view),
    ]
}

fn written(view: &str) -> Stage {
    let what = format!("Parquet files, then one commit that replaces the rows of {view}");
    Stage { step: Step::Write, tasks: 1, what: vec![what] }
}

/// `map -> combine -> shuffle -> reduce`, and below it a line for each stage.
pub fn shown(stages: &[Stage]) -> String {
    let lines: Vec<String> = stages.iter().map(ToString::to_string).collect();
    format!("{}\n{}", steps(stages), lines.join("\n"))
}

/// `map -> combine -> shuffle -> reduce`
pub fn steps(stages: &[Stage]) -> String {
    let steps: Vec<String> = stages.iter().map(|stage| stage.step.to_string()).collect();
    steps.join(" -> ")
}

/// The stages of a plan, each after those whose rows it takes.
pub fn stages(plan: &Arc<dyn ExecutionPlan>) -> Vec<Stage> {
    let inputs: Vec<Vec<Stage>> = plan.children().into_iter().map(stages).collect();
    let tasks = plan.output_partitioning().partition_count();
    let node: &dyn ExecutionPlan = plan.as_ref();
    if node.is::<UnionExec>() || node.is::<InterleaveExec>() {
        return united(inputs, tasks);
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let on: Vec<String> = join.on().iter().map(|(left, right)| format!("{} = {}", sql(left), sql(right))).collect();
        let what = format!("{} join on {}", join.join_type().to_string().to_lowercase(), on.join(" and "));
        return joined(inputs, tasks, what, *join.partition_mode() == PartitionMode::CollectLeft);
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        let on: Vec<String> = join.on().iter().map(|(left, right)| format!("{} = {}", sql(left), sql(right))).collect();
        return joined(inputs, tasks, format!("{} join on {}", join.join_type().to_string().to_lowercase(), on.join(" and ")), false);
    }
    if node.is::<CrossJoinExec>() || node.is::<NestedLoopJoinExec>() {
        return joined(inputs, tasks, "join each with each".to_owned(), true);
    }
    let mut stages: Vec<Stage> = inputs.into_iter().flatten().collect();
    match step_of(node) {
        Some(step) => add(&mut stages, step, tasks, describe(node)),
        None => add_in_place(&mut stages, tasks, describe(node)),
    }
    stages
}

/// The step that an operator begins; `None` for one that goes on with the rows where they are.
fn step_of(node: &dyn ExecutionPlan) -> Option<Step> {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return Some(match aggregate.mode() {
            AggregateMode::Partial | AggregateMode::PartialReduce => Step::Combine,
            _ => Step::Reduce,
        });
    }
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
        // Dealing rows out evenly is no shuffle: no task needs another's rows.
        return matches!(repartition.partitioning(), Partitioning::Hash(..)).then_some(Step::Shuffle);
    }
    let gathers = node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>();
    gathers.then_some(Step::Gather)
}

/// Adds an operator to the last stage if that has the same step, else a stage.
fn add(stages: &mut Vec<Stage>, step: Step, tasks: usize, what: Option<String>) {
    match stages.last_mut() {
        Some(last) if last.step == step && last.tasks == tasks => last.what.extend(what),
        _ => stages.push(Stage { step, tasks, what: what.into_iter().collect() }),
    }
}

/// Adds an operator that leaves rows in their tasks. After rows that have just travelled it is their reduce, or the map of a new job.
fn add_in_place(stages: &mut Vec<Stage>, tasks: usize, what: Option<String>) {
    let Some(what) = what else { return };
    match stages.last_mut() {
        None => stages.push(Stage { step: Step::Map, tasks, what: vec![what] }),
        Some(last) if matches!(last.step, Step::Map | Step::Reduce) => {
            // A map whose rows are dealt out has as many tasks as read them, and more after that.
            last.what.push(what);
        }
        Some(_) => stages.push(Stage { step: Step::Reduce, tasks, what: vec![what] }),
    }
}

/// Inputs that are all maps are one map over all their splits.
fn united(inputs: Vec<Vec<Stage>>, tasks: usize) -> Vec<Stage> {
    let all_maps = inputs.iter().all(|stages| matches!(stages.as_slice(), [Stage { step: Step::Map, .. }]));
    let count = inputs.len();
    let mut stages: Vec<Stage> = inputs.into_iter().flatten().collect();
    if !all_maps || stages.is_empty() {
        return stages;
    }
    let mut what = vec![format!("each of {count} inputs")];
    let mut said: Vec<String> = stages.iter().map(|stage| stage.what.join(", ")).collect();
    said.dedup();
    what.extend(said);
    stages.clear();
    stages.push(Stage { step: Step::Map, tasks, what });
    stages
}

fn joined(inputs: Vec<Vec<Stage>>, tasks: usize, what: String, broadcast: bool) -> Vec<Stage> {
    let mut inputs = inputs.into_iter();
    let mut stages = inputs.next().unwrap_or_default();
    if broadcast {
        // The gathering is what makes one copy of the rows to hand round.
        if stages.last().is_some_and(|last| last.step == Step::Gather) {
            stages.pop();
        }
        stages.push(Stage { step: Step::Broadcast, tasks, what: vec!["one side of the join to every task".to_owned()] });
        stages.extend(inputs.flatten());
        add_in_place(&mut stages, tasks, Some(what));
    } else {
        stages.extend(inputs.flatten());
        stages.push(Stage { step: Step::Reduce, tasks, what: vec![what] });
    }
    stages
}

/// What an operator does, for a person; `None` for one that changes no rows.
fn describe(node: &dyn ExecutionPlan) -> Option<String> {
    let text = if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let functions: Vec<String> =
            aggregate.aggr_expr().iter().map(|function| function.human_display().unwrap_or(function.name()).to_owned()).collect();
        let keys: Vec<String> = aggregate.group_expr().expr().iter().map(|(_, name)| unqualified(name)).collect();
        let functions = if functions.is_empty() { "distinct rows".to_owned() } else { functions.join(", ") };
        if keys.is_empty() { functions } else { format!("{functions} by {}", keys.join(", ")) }
    } else if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
        match repartition.partitioning() {
            Partitioning::Hash(keys, _) => format!("by {}", list(keys)),
            other => format!("dealt out to {} tasks", other.partition_count()),
        }
    } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
        format!("where {}", sql(filter.predicate()))
    } else if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let computed = |expr: &str, alias: &str| if expr == alias { expr.to_owned() } else { format!("{expr} as {alias}") };
        let columns: Vec<String> = projection.expr().iter().map(|column| computed(&sql(&column.expr), &column.alias)).collect();
        format!("select {}", columns.join(", "))
    } else if let Some(sort) = node.downcast_ref::<SortExec>() {
        match sort.fetch() {
            Some(rows) => format!("first {rows} by {}", sort.expr()),
            None => format!("sort by {}", sort.expr()),
        }
    } else if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
        format!("in the order of {}", merge.expr())
    } else if node.is::<CoalescePartitionsExec>() {
        "all rows in one task".to_owned()
    } else if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
        scanned(scan)
    } else {
        match node.name() {
            "CooperativeExec" | "CoalesceBatchesExec" | "HeldInputExec" | "RowsAtOnceExec" => return None,
            "PlaceholderRowExec" => "one row".to_owned(),
            "EmptyExec" => "no rows: the table is empty".to_owned(),
            name => name.strip_suffix("Exec").unwrap_or(name).to_owned(),
        }
    };
    Some(cut(text))
}

fn scanned(scan: &DataSourceExec) -> String {
    let Some(files) = scan.data_source().downcast_ref::<FileScanConfig>() else { return "read rows given in the query".to_owned() };
    let count = files.file_groups.iter().map(|group| group.len()).sum::<usize>();
    let folder = files.file_groups.iter().flat_map(|group| group.iter()).next().map(|file| {
        let parts: Vec<String> = file.object_meta.location.parts().take(2).map(|part| part.as_ref().to_owned()).collect();
        parts.join(".")
    });
    let what = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
    format!("read {} ({what})", folder.unwrap_or_else(|| "files".to_owned()))
}

fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    datafusion::physical_expr_common::physical_expr::fmt_sql(expr.as_ref()).to_string()
}

fn list(exprs: &[Arc<dyn PhysicalExpr>]) -> String {
    exprs.iter().map(sql).collect::<Vec<_>>().join(", ")
}

/// `sales.book` → `book`; what is no plain column stays as it is.
fn unqualified(name: &str) -> String {
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$'));
    if plain(name) { name.rsplit('.').next().unwrap_or(name).to_owned() } else { name.to_owned() }
}

fn cut(text: String) -> String {
    if text.chars().count() <= WHAT_CHARS_MAX {
        return text;
    }
    text.chars().take(WHAT_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan_text, session_config, session_state};
    use datafusion::prelude::SessionContext;

    async fn explained(query: &str) -> Vec<(Step, usize, String)> {
        let config = session_config().with_target_partitions(2);
        let context = SessionContext::new_with_state(session_state(config, None));
        context.sql("CREATE TABLE rides AS SELECT * FROM (VALUES ('a', 1), ('b', 2), ('c', 3)) AS t (city, fare)").await.unwrap();
        context.sql("CREATE TABLE cities AS SELECT * FROM (VALUES ('a', 'A'), ('b', 'B')) AS t (city, name)").await.unwrap();
        let logical = plan_text(&context, query).await.unwrap_or_else(|e| panic!("{}", e.render(query, None)));
        let plan = context.execute_logical_plan(logical).await.unwrap().create_physical_plan().await.unwrap();
        stages(&plan).into_iter().map(|stage| (stage.step, stage.tasks, stage.what.join("; "))).collect()
    }

    fn kinds(stages: &[(Step, usize, String)]) -> Vec<Step> {
        stages.iter().map(|(step, ..)| *step).collect()
    }

    #[tokio::test]
    async fn splits_are_mapped_combined_shuffled_and_reduced() {
        let split = |rows: &str| format!("SELECT * FROM (VALUES {rows}) AS split (book, copies)");
        let splits = [split("('A', 2), ('B', 8)"), split("('B', 15)"), split("('C', 4), ('A', 3)")].join(" UNION ALL ");
        let found = explained(&format!("SELECT book, sum(copies) AS copies FROM ({splits}) AS s GROUP BY book")).await;
        assert_eq!(kinds(&found), [Step::Map, Step::Combine, Step::Shuffle, Step::Reduce], "{found:#?}");
        assert_eq!(found.iter().map(|(_, tasks, _)| *tasks).collect::<Vec<_>>(), [3, 3, 2, 2], "{found:#?}");
        assert!(found[0].2.contains("each of 3 inputs"), "{found:#?}");
        assert!(found[1].2.contains("by book") && found[1].2.contains("sum("), "{found:#?}");
        assert!(found[2].2.contains("by book"), "{found:#?}");
        assert!(found[3].2.contains("by book"), "{found:#?}");
    }

    #[tokio::test]
    async fn filters_are_mapped_and_sorts_gathered() {
        let found = explained("SELECT city, fare * 2 AS twice FROM rides WHERE fare > 1").await;
        assert_eq!(kinds(&found), [Step::Map], "{found:#?}");
        assert!(found[0].2.contains("where") && found[0].2.contains("twice"), "{found:#?}");
        let found = explained("SELECT city, count(*) AS n FROM rides GROUP BY city ORDER BY n DESC LIMIT 3").await;
        assert_eq!(kinds(&found).last(), Some(&Step::Gather), "{found:#?}");
        assert!(kinds(&found).contains(&Step::Shuffle), "{found:#?}");
    }

    #[tokio::test]
    async fn small_sides_of_joins_are_handed_round() {
        let found = explained("SELECT name, fare FROM rides JOIN cities ON rides.city = cities.city").await;
        assert!(kinds(&found).contains(&Step::Broadcast), "{found:#?}");
        assert!(found.last().unwrap().2.contains("inner join on"), "{found:#?}");
    }

    #[test]
    fn stages_are_shown_in_columns() {
        let stage = |step, tasks, what: &str| Stage { step, tasks, what: vec![what.to_owned(), "more".to_owned()] };
        let shown = shown(&[stage(Step::Map, 3, "read"), stage(Step::Broadcast, 1, "one side")]);
        assert_eq!(shown, "map -> broadcast\nmap          3 tasks  read; more\nbroadcast    1 task   one side; more");
    }
}

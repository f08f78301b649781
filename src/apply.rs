//! `watershed apply`: makes a project's definitions those of the warehouse.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use watershed_lake::{Definitions, TableName, Warehouse};
use watershed_message::Message;
use watershed_stream::tables;

use crate::changes::{self, Change, InForce};
use crate::project::{self, Checked, Home};
use crate::{Context, left, stored, warehouse};

/// Check a project's .sql files, show what they change, and make it so
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything is parsed and planned first; with any mistake nothing is changed. Of each table that changes it is said whether it \
carries on from its rows and state, or why it cannot: then it is refused unless --rebuild drops them and reads the source anew.

Examples:
  watershed apply sql/                 show what changes, ask, do it
  watershed apply sql/ --dry-run       only show
  watershed apply sql/ --yes           do not ask (scripts)
  watershed apply sql/ --yes --rebuild")]
pub struct Args {
    /// The folder of .sql files [default: the setting `project`]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show what would change and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Rebuild tables whose query changed: their rows and state are dropped
    #[arg(long)]
    rebuild: bool,
}

/// Applies a folder.
pub async fn run(args: Args, context: &Context) -> Result<u8> {
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(context.config.text("project")));
    // It may not be there yet.
    let there = warehouse::open_to_read(&context.config)?;
    let files = project::read(Path::new(&folder))?;
    let in_force = there.definitions().await?;
    let home = Home { warehouse: &there, in_force: &in_force, kafka: &warehouse::kafka(&context.config) };
    let checked = project::check_at(&files, Some(home)).await?;
    let warehouse = if args.dry_run { there } else { warehouse::make(&context.config).await? };
    let difference = Difference::find(&warehouse, in_force, checked).await?;
    if difference.changes.is_empty() {
        let only_text = !changes::same_text(&difference.old, &difference.new);
        if !args.dry_run {
            difference.carry_out(&warehouse).await?;
        }
        let (url, folder) = (warehouse.url(), folder.display());
        match (only_text, args.dry_run) {
            (false, _) => say!("nothing to change: {url} is as in {folder}"),
            (true, false) => say!("only the text differs, and was taken over: {url} is as in {folder}"),
            (true, true) => say!("only the text differs between {url} and {folder}; a dry run: nothing was changed"),
        }
        return Ok(0);
    }
    say!("{}:", warehouse.url());
    let held = if args.rebuild { difference.held(&warehouse).await } else { BTreeMap::new() };
    say!("{}", changes::render(&difference.changes, args.rebuild, &held, context.terminal.color_output()).trim_end());
    difference.allowed(args.rebuild)?;
    if args.dry_run {
        say!("a dry run: nothing was changed");
        return Ok(0);
    }
    if !args.yes && !context.terminal.confirm("Go ahead?")? {
        say!("nothing was changed");
        return Ok(0);
    }
    let summary = changes::summary(&difference.changes);
    let revision = difference.carry_out(&warehouse).await?;
    say!("applied as revision {revision}: {summary}");
    Ok(0)
}

/// New definitions beside those in force.
pub struct Difference {
    old: Definitions,
    new: Checked,
    /// What differs.
    pub changes: Vec<Change>,
}

impl Difference {
    /// Compares `new` with what is in force, `old`.
    pub async fn find(warehouse: &Warehouse, old: Definitions, new: Checked) -> Result<Self> {
        let project = project::applied(&old);
        let plans = changes::plans(&project).await;
        let started = watershed_stream::started(warehouse).await?;
        let back = new.project.tables.keys().filter(|name| started.contains(*name) && !project.tables.contains_key(*name));
        let left = left::find(warehouse, old.revision, &back.cloned().collect()).await?;
        let unfit = watershed_stream::unfit(warehouse, new.blueprints.iter().filter(|(name, _)| started.contains(*name))).await?;
        let in_force = InForce { project: &project, plans: &plans, started: &started, left: &left, unfit: &unfit };
        let mut changes = changes::between(&in_force, &new);
        let views = project::applied_views(&old)?;
        let mut known = project::declared(&project, &plans);
        known.extend(new.foreign.clone());
        stored::loosen(warehouse, &mut known).await?;
        let (before, _) = views.plan(project.sources.values(), &known).await;
        changes.extend(changes::between_views(&views, &before, &new));
        changes::of_another_kind(&mut changes, &in_force, &views, &new);
        changes.extend(changes::of_panels(&old, &new));
        Ok(Self { old, new, changes })
    }

    /// What is in the way of rebuilding tables, by name.
    async fn held(&self, warehouse: &Warehouse) -> BTreeMap<String, String> {
        let mut held = BTreeMap::new();
        for table in changes::rebuilt(&self.changes) {
            if let Err(error) = watershed_stream::check_free(warehouse, &table).await {
                held.insert(table.to_string(), error.message().what);
            }
        }
        held
    }

    /// An error if a table would be rebuilt and `rebuild` does not allow that.
    pub fn allowed(&self, rebuild: bool) -> Result<()> {
        let rebuilt = changes::rebuilt(&self.changes);
        if rebuilt.is_empty() || rebuild {
            return Ok(());
        }
        let names: Vec<String> = rebuilt.iter().map(ToString::to_string).collect();
        let what = "changed, and rows and state of the old one do not fit the new one; nothing was changed";
        let next = "--rebuild drops them and reads the topic anew, or refreshes the view; or give the new query a name of its own";
        bail!(Message::new(format!("the query of {} {what}", names.join(", "))).next(next));
    }

    /// Makes it so: tables first, then the definitions, so that a failure leaves the old ones in force, which go on over tables with columns more.
    /// Returns the revision.
    pub async fn carry_out(self, warehouse: &Warehouse) -> Result<u64> {
        let rebuilt = changes::rebuilt(&self.changes);
        let cannot = |table: &TableName| format!("cannot drop {table} to make it anew");
        // All before the first is dropped: none or all.
        for table in &rebuilt {
            watershed_stream::check_free(warehouse, table).await.with_context(|| cannot(table))?;
        }
        for table in changes::grown(&self.changes) {
            let Some(blueprint) = self.new.blueprints.get(&table) else { continue };
            tables::widen(warehouse, blueprint).await.with_context(|| format!("cannot give {table} its new columns"))?;
        }
        for table in &rebuilt {
            warehouse::forget_table(warehouse, table).await.with_context(|| cannot(table))?;
        }
        watershed_stream::prepare(warehouse, &self.new.project).await.context("cannot make the tables")?;
        // So that views, too, can be queried before they have rows.
        for view in self.new.views.iter() {
            let Some(schema) = self.new.view_schemas.get(&view.name) else { continue };
            let made = warehouse.create_table(&view.name, schema.clone(), &view.definition.partitioned_by).await;
            made.with_context(|| format!("cannot make the table of {}", view.name))?;
        }
        if changes::same_text(&self.old, &self.new) {
            return Ok(self.old.revision);
        }
        let saved = warehouse.save_definitions(&self.old, self.new.definitions).await?;
        Ok(saved.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{SqlFile, check};
    use crate::trial::Trial;

    /// Sums of what the inner query makes of `c`, by hour. The schema of the table of late rows has its type.
    async fn summing(expression: &str) -> Checked {
        let text = format!(
            "CREATE SOURCE s (c INT, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t) WITH (connector = 'kafka', topic = 't', format = 'json');
             CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS
             SELECT window_start, CAST(sum(x) AS BIGINT) AS x
             FROM TUMBLE(TABLE (SELECT t, {expression} AS x FROM s), DESCRIPTOR(t), INTERVAL '1 hour')
             GROUP BY window_start, window_end;"
        );
        check(&[SqlFile { name: "x.sql".to_owned(), text }]).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_inner_type_that_changes_means_a_new_table_with_its_side_tables() {
        let trial = Trial::new().await;
        let late = r#"{"c":4,"t":"2024-06-01T08:59:00Z"}"#;
        trial.send(&[r#"{"c":1,"t":"2024-06-01T08:10:00Z"}"#, r#"{"c":2,"t":"2024-06-01T09:10:00Z"}"#, late]);
        let old = summing("c").await;
        let project = old.project.clone();
        let difference = async |new: Checked| {
            let in_force = trial.warehouse.definitions().await.unwrap();
            Difference::find(&trial.warehouse, in_force, new).await.unwrap()
        };
        difference(old).await.carry_out(&trial.warehouse).await.unwrap();
        trial.run(&project, true).await;
        let sums = "SELECT x FROM t ORDER BY window_start";
        assert_eq!(trial.rows("gold.x", sums).await, ["1", "2"]);
        assert_eq!(trial.rows("gold.x$late", "SELECT x, arrow_typeof(x) FROM t").await, ["4|Int32"]);

        let difference = difference(summing("c * 100").await).await;
        let changes: Vec<_> = difference.changes.iter().map(|change| (&change.action, change.name.as_str())).collect();
        assert_eq!(changes, [(&changes::Action::Rebuild, "gold.x")]);
        let said = changes::render(&difference.changes, true, &BTreeMap::new(), false);
        assert!(said.contains("rebuilds: "), "{said}");
        let refused = difference.allowed(false).unwrap_err().to_string();
        assert!(refused.contains("the query of gold.x changed") && refused.contains("--rebuild"), "{refused}");
        let as_it_is = watershed_stream::prepare(&trial.warehouse, &difference.new.project).await.err().unwrap().to_string();
        assert!(as_it_is.contains("gold.x$late"), "the side table does not fit as it is: {as_it_is}");

        difference.allowed(true).unwrap();
        let project = difference.new.project.clone();
        difference.carry_out(&trial.warehouse).await.unwrap();
        trial.run(&project, true).await;
        assert_eq!(trial.rows("gold.x", sums).await, ["100", "200"]);
        assert_eq!(trial.rows("gold.x$late", "SELECT x, arrow_typeof(x) FROM t").await, ["400|Int64"]);
    }
}

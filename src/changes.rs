//! What an `apply` would change: new definitions against those in force.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{FieldRef, SchemaRef};
use watershed_batch::Views;
use watershed_dialect::{MaterializedViewDefinition, SinkDefinition, SourceDefinition, StreamingTableDefinition, same_sql};
use watershed_lake::kind::{PANEL, SINK, SOURCE, TABLE, VIEW};
use watershed_lake::{Definitions, TableName};
use watershed_stream::{Blueprint, Project};

use crate::fate::{self, Fate, same_expectations};
use crate::left::Left;
use crate::project::Checked;
use crate::terminal::paint;

/// What happens to one definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It changes; rows and state stay.
    Change,
    /// It changes, and rows or state do not fit it: they are dropped, or it is refused.
    Rebuild,
    /// It is no longer defined.
    Drop,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// `source`, `streaming table`, `materialized view`, `sink` or `panel`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Why, or with what consequence.
    pub remark: String,
    /// The columns that its tables get.
    pub columns: Vec<String>,
    /// What drops of it with [`Action::Rebuild`], if the remark does not say it.
    loss: &'static str,
}

impl Change {
    fn new(action: Action, kind: &'static str, name: impl ToString, remark: impl Into<String>) -> Self {
        Self { action, kind, name: name.to_string(), remark: remark.into(), columns: Vec::new(), loss: "" }
    }

    /// One that drops rows and state of a streaming table.
    fn rebuilds(name: &TableName, why: impl Into<String>) -> Self {
        let loss = "rows and state are dropped, the source is read again from its start";
        Self { loss, ..Self::new(Action::Rebuild, TABLE, name, why) }
    }

    /// What it comes to, in one sentence. `held` says who keeps it from being rebuilt, if `rebuild` allows that.
    fn said(&self, rebuild: bool, held: &BTreeMap<String, String>) -> String {
        if self.action != Action::Rebuild {
            return self.remark.clone();
        }
        let (why, loss) = (&self.remark, self.loss);
        match (rebuild, held.get(&self.name)) {
            (true, Some(by)) => format!("refused: {by}; to be rebuilt since {why}"),
            (true, None) if loss.is_empty() => format!("rebuilds: {why}"),
            (true, None) => format!("rebuilds: {why}; {loss}"),
            (false, _) if loss.is_empty() => format!("refused without --rebuild: {why}"),
            (false, _) => format!("refused: {why}; with --rebuild {loss}"),
        }
    }
}

/// The definitions in force.
pub struct InForce<'a> {
    /// As they were applied.
    pub project: &'a Project,
    /// Their plans, as far as this version can still plan them.
    pub plans: &'a BTreeMap<TableName, Blueprint>,
    /// The tables whose pipelines have run, so that there are rows, offsets and state.
    pub started: &'a BTreeSet<TableName>,
    /// Those of them that are no longer defined, as they last were.
    pub left: &'a BTreeMap<TableName, Left>,
    /// The tables whose newest state the new plans do not take as it is recorded.
    pub unfit: &'a BTreeSet<TableName>,
}

/// The differences, in the order: sources, tables, sinks; by name.
pub fn between(old: &InForce, new: &Checked) -> Vec<Change> {
    let tables = of_tables(old, new);
    let mut changes = Vec::new();
    for (name, source) in &new.project.sources {
        // Those whose rows and state it changes say so themselves.
        let carries_on = || {
            let reads = |table: &&TableName| {
                old.project.tables.contains_key(*table) && new.blueprints[*table].names.iter().any(|read| read == name)
            };
            let changed = |table: &TableName| tables.iter().any(|change| change.name == table.to_string());
            let names = new.blueprints.keys().filter(reads).filter(|table| !changed(table)).map(ToString::to_string).collect::<Vec<_>>();
            if names.is_empty() { String::new() } else { format!("carries on: {}", names.join(", ")) }
        };
        match old.project.sources.get(name) {
            None if old.project.unreadable.contains_key(name) => {
                changes.push(Change::new(Action::Change, SOURCE, name, "this version could not read what was applied"));
            }
            None => changes.push(Change::new(Action::Create, SOURCE, name, "")),
            Some(same) if same == source => {}
            Some(known) if *source == (SourceDefinition { start: source.start, ..known.clone() }) => {
                changes.push(Change::new(Action::Change, SOURCE, name, "where pipelines begin that have never run"));
            }
            Some(_) => changes.push(Change::new(Action::Change, SOURCE, name, carries_on())),
        }
    }
    for name in old.project.sources.keys().filter(|name| !new.project.sources.contains_key(*name)) {
        changes.push(Change::new(Action::Drop, SOURCE, name, "quarantined rows stay"));
    }
    changes.extend(tables);
    changes.extend(of_sinks(old, new));
    changes
}

fn of_tables(old: &InForce, new: &Checked) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, table) in &new.project.tables {
        match old.project.tables.get(name) {
            Some(known) => match fate::of(name, known, old.plans.get(name), table, old, new) {
                Fate::Same => {}
                Fate::CarriesOn { what, columns } => {
                    let remark = format!("carries on: {what}; rows and state stay");
                    changes.push(Change { columns, ..Change::new(Action::Change, TABLE, name, remark) });
                }
                Fate::Rebuilds(why) => changes.push(Change::rebuilds(name, why)),
            },
            None if old.project.unreadable.contains_key(&name.to_string()) => {
                changes.push(Change::rebuilds(name, "this version cannot read its old definition"));
            }
            None if old.started.contains(name) => changes.push(of_returning(name, table, old, new)),
            None => changes.push(Change::new(Action::Create, TABLE, name, "")),
        }
    }
    let unreadable = old.project.unreadable.keys().filter_map(|name| name.parse().ok());
    let tables: BTreeSet<TableName> = old.project.tables.keys().cloned().chain(unreadable).collect();
    for name in tables.iter().filter(|name| !new.project.tables.contains_key(*name)) {
        changes.push(Change::new(Action::Drop, TABLE, name, format!("its pipeline ends; rows stay until `watershed drop {name}`")));
    }
    changes
}

fn of_sinks(old: &InForce, new: &Checked) -> Vec<Change> {
    let mut changes = Vec::new();
    let columns = |plans: &BTreeMap<TableName, Blueprint>, name: &str| -> Option<Vec<String>> {
        let sink = plans.values().flat_map(|plan| &plan.sinks).find(|sink| sink.definition.name == name)?;
        Some(sink.schema.fields().iter().map(|field| field.name().clone()).collect())
    };
    for (name, sink) in &new.project.sinks {
        let from_now_on = format!("for rows emitted from now on; {}.{} carries on", sink.schema, sink.table);
        match old.project.sinks.get(name) {
            None => changes.push(Change::new(Action::Create, SINK, name, from_now_on)),
            Some(known) if same_sink(known, sink) => {
                // `SELECT *` of a table that has got columns.
                if let Some((before, after)) = columns(old.plans, name).zip(columns(&new.blueprints, name))
                    && before != after
                {
                    let added: Vec<String> = after.into_iter().filter(|column| !before.contains(column)).collect();
                    changes.push(Change::new(Action::Change, SINK, name, format!("its messages get {}, {from_now_on}", added.join(", "))));
                }
            }
            Some(_) => changes.push(Change::new(Action::Change, SINK, name, from_now_on)),
        }
    }
    for name in old.project.sinks.keys().filter(|name| !new.project.sinks.contains_key(*name)) {
        changes.push(Change::new(Action::Drop, SINK, name, "what it has sent stays in the topic"));
    }
    changes
}

/// What happens to a table that is defined again while rows and state of its last definition are there: its pipeline takes them up, so they
/// must be what the new one would have made.
fn of_returning(name: &TableName, table: &StreamingTableDefinition, old: &InForce, new: &Checked) -> Change {
    let Some(left) = old.left.get(name) else {
        return Change::rebuilds(name, "what its rows and state were made by is no longer known");
    };
    let back = "is back with the rows and state it left";
    match fate::of(name, &left.definition, Some(&left.plan), table, old, new) {
        Fate::Rebuilds(why) => Change::rebuilds(name, format!("it {back}, and {why}")),
        Fate::Same => Change::new(Action::Create, TABLE, name, format!("{back}, and goes on after them")),
        Fate::CarriesOn { what, columns } => {
            Change { columns, ..Change::new(Action::Create, TABLE, name, format!("{back}, and goes on after them: {what}")) }
        }
    }
}

/// A name that goes from a streaming table to a view, or back: a job replaces all rows of its view, and a pipeline goes on after its own.
/// What was there is dropped, and said in one line.
pub fn of_another_kind(changes: &mut Vec<Change>, old: &InForce, views: &Views, new: &Checked) {
    let was_table = |name: &TableName| old.project.tables.contains_key(name) || old.started.contains(name);
    for change in changes.iter_mut().filter(|change| matches!(change.action, Action::Create | Action::Rebuild)) {
        let Ok(name) = change.name.parse::<TableName>() else { continue };
        let was = match change.kind {
            VIEW if was_table(&name) => "a streaming table was, whose rows and state are dropped",
            TABLE if views.get(&name).is_some() => "a materialized view was, whose rows are dropped",
            _ => continue,
        };
        *change = Change::new(Action::Rebuild, change.kind, &change.name, format!("takes a name where {was}"));
    }
    changes.retain(|change| {
        let Ok(name) = change.name.parse::<TableName>() else { return true };
        let stays = match change.kind {
            TABLE => new.views.get(&name).is_some(),
            VIEW => new.project.tables.contains_key(&name),
            _ => false,
        };
        change.action != Action::Drop || !stays
    });
}

fn same_sink(one: &SinkDefinition, other: &SinkDefinition) -> bool {
    same_sql(&one.query, &other.query) && *one == SinkDefinition { query: one.query.clone(), ..other.clone() }
}

/// The differences in materialized views, in the order in which they are refreshed. `before` are the columns of the views in force, as far as they
/// still plan.
pub fn between_views(old: &Views, before: &BTreeMap<TableName, SchemaRef>, new: &Checked) -> Vec<Change> {
    let change = |action, name: &TableName, remark: &str| Change::new(action, VIEW, name, remark);
    let mut changes = Vec::new();
    for view in new.views.iter() {
        let Some(known) = old.get(&view.name) else {
            changes.push(change(Action::Create, &view.name, ""));
            continue;
        };
        let same_columns = before.get(&view.name).zip(new.view_schemas.get(&view.name)).is_some_and(|(before, after)| takes(before, after));
        if !same_columns || known.definition.partitioned_by != view.definition.partitioned_by {
            let what = if same_columns { "its partitioning changes" } else { "its columns change" };
            let loss = "its rows are dropped until the next refresh";
            changes.push(Change { loss, ..change(Action::Rebuild, &view.name, what) });
        } else if !same_sql(&known.definition.query, &view.definition.query) {
            changes.push(change(Action::Change, &view.name, "its query: the old rows stay until the next refresh"));
        } else if !same_expectations(&known.definition.expectations, &view.definition.expectations) {
            changes.push(change(Action::Change, &view.name, "its constraints: the old rows stay until the next refresh"));
        } else if !same_settings(&known.definition, &view.definition) {
            changes.push(change(Action::Change, &view.name, "schedule and settings only"));
        }
    }
    for view in old.iter().filter(|view| new.views.get(&view.name).is_none()) {
        let remark = format!("its job ends; rows stay until `watershed drop {}`", view.name);
        changes.push(change(Action::Drop, &view.name, &remark));
    }
    changes
}

/// Whether a table with the columns `held` takes rows with those of `wanted`.
fn takes(held: &SchemaRef, wanted: &SchemaRef) -> bool {
    let fits = |(held, wanted): (&FieldRef, &FieldRef)| {
        held.name() == wanted.name() && held.data_type() == wanted.data_type() && (held.is_nullable() || !wanted.is_nullable())
    };
    held.fields().len() == wanted.fields().len() && held.fields().iter().zip(wanted.fields()).all(fits)
}

/// Whether all but queries and constraints, which were looked at, is the same.
fn same_settings(one: &MaterializedViewDefinition, other: &MaterializedViewDefinition) -> bool {
    let (query, expectations) = (one.query.clone(), one.expectations.clone());
    *one == MaterializedViewDefinition { query, expectations, ..other.clone() }
}

/// The differences of the dashboard's panels, by name.
pub fn of_panels(old: &Definitions, new: &Checked) -> Vec<Change> {
    let panels = |items: &[watershed_lake::Definition]| -> BTreeMap<String, String> {
        items.iter().filter(|item| item.kind == PANEL).map(|item| (item.name.clone(), item.sql.clone())).collect()
    };
    let (before, after) = (panels(&old.items), panels(&new.definitions));
    let change = |action, name: &String| Change::new(action, PANEL, name, "");
    let kept_or_new = after.iter().filter_map(|(name, sql)| match before.get(name) {
        None => Some(change(Action::Create, name)),
        Some(same) if same_sql(same, sql) => None,
        Some(_) => Some(change(Action::Change, name)),
    });
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| change(Action::Drop, name));
    kept_or_new.chain(gone).collect()
}

/// The differences as lines with + ~ -. `rebuild` allows that rows and state are dropped; `held` says by name what is in the way of it.
pub fn render(changes: &[Change], rebuild: bool, held: &BTreeMap<String, String>, color: bool) -> String {
    let mut out = String::new();
    for change in changes {
        let (sign, style) = match change.action {
            Action::Create => ("+", "32"),
            Action::Change => ("~", "33"),
            Action::Rebuild => ("~", "1;33"),
            Action::Drop => ("-", "31"),
        };
        let said = change.said(rebuild, held);
        let remark = if said.is_empty() { String::new() } else { format!("  ({said})") };
        out.push_str(&format!("{}{remark}\n", paint(&format!("  {sign} {} {}", change.kind, change.name), style, color)));
    }
    out
}

/// `2 created, 1 changed`
pub fn summary(changes: &[Change]) -> String {
    let count = |wanted: &[Action]| changes.iter().filter(|change| wanted.contains(&change.action)).count();
    let parts = [
        (count(&[Action::Create]), "created"),
        (count(&[Action::Change]), "changed"),
        (count(&[Action::Rebuild]), "rebuilt"),
        (count(&[Action::Drop]), "dropped"),
    ];
    let said: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if said.is_empty() { "no change".to_owned() } else { said.join(", ") }
}

/// The tables that must be rebuilt.
pub fn rebuilt(changes: &[Change]) -> Vec<TableName> {
    changes.iter().filter(|change| change.action == Action::Rebuild).filter_map(|change| change.name.parse().ok()).collect()
}

/// The streaming tables that get columns.
pub fn grown(changes: &[Change]) -> Vec<TableName> {
    changes.iter().filter(|change| !change.columns.is_empty()).filter_map(|change| change.name.parse().ok()).collect()
}

/// The plans of the definitions in force. What this version can no longer plan is left out and so counts as changed.
pub async fn plans(project: &Project) -> BTreeMap<TableName, Blueprint> {
    let mut plans = BTreeMap::new();
    for (name, table) in &project.tables {
        if let Ok(blueprint) = project.plan(table).await {
            plans.insert(name.clone(), blueprint);
        }
    }
    for sink in project.sinks.values() {
        // One that this version cannot plan has no columns to compare.
        let _ = project.plan_sink(sink, &mut plans).await;
    }
    plans
}

/// True if nothing differs, comments and blanks included.
pub fn same_text(old: &Definitions, new: &Checked) -> bool {
    old.items == new.definitions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{SqlFile, check};

    const SOURCE_SQL: &str = "CREATE SOURCE rides (city VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 second') \
                              WITH (connector = 'kafka', topic = 'rides', format = 'json');";

    async fn checked(text: &str) -> Checked {
        check(&[SqlFile { name: "x.sql".to_owned(), text: format!("{SOURCE_SQL}\n{text}") }]).await.unwrap()
    }

    async fn changes(old: &str, new: &Checked) -> Vec<Change> {
        let project = checked(old).await.project;
        let started = project.tables.keys().cloned().collect();
        between(
            &InForce {
                project: &project,
                plans: &plans(&project).await,
                started: &started,
                left: &BTreeMap::new(),
                unfit: &BTreeSet::new(),
            },
            new,
        )
    }

    async fn actions(old: &str, new: &str) -> Vec<(Action, String)> {
        changes(old, &checked(new).await).await.into_iter().map(|change| (change.action, change.name)).collect()
    }

    const A: &str = "CREATE STREAMING TABLE silver.a AS SELECT city FROM rides;";

    #[tokio::test]
    async fn comments_and_blanks_change_nothing() {
        assert_eq!(actions(A, "-- note\nCREATE STREAMING TABLE silver.a AS\n  SELECT city -- the city\n FROM rides;").await, []);
    }

    #[tokio::test]
    async fn settings_change_in_place_but_a_query_means_a_new_table() {
        let interval = "CREATE STREAMING TABLE silver.a WITH (commit_interval = '1 second') AS SELECT city FROM rides;";
        assert_eq!(actions(A, interval).await, [(Action::Change, "silver.a".to_owned())]);
        let query = "CREATE STREAMING TABLE silver.a AS SELECT at, city FROM rides;";
        assert_eq!(actions(A, query).await, [(Action::Rebuild, "silver.a".to_owned())]);
        let whole = "CREATE STREAMING TABLE silver.a AS SELECT city, at FROM rides;";
        let partitioned = "CREATE STREAMING TABLE silver.a PARTITIONED BY (city) AS SELECT city, at FROM rides;";
        assert_eq!(actions(whole, partitioned).await, [(Action::Rebuild, "silver.a".to_owned())]);
    }

    #[tokio::test]
    async fn what_this_version_cannot_read_is_rebuilt_or_dropped() {
        let mut project = checked("").await.project;
        for name in ["silver.a", "silver.b"] {
            project.unreadable.insert(name.to_owned(), watershed_dialect::SqlError::new("no option 'gone'"));
        }
        let (plans, started, left) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let found = between(
            &InForce { project: &project, plans: &plans, started: &started, left: &left, unfit: &BTreeSet::new() },
            &checked(A).await,
        );
        let found: Vec<_> = found.into_iter().map(|change| (change.action, change.name)).collect();
        assert_eq!(found, [(Action::Rebuild, "silver.a".to_owned()), (Action::Drop, "silver.b".to_owned())]);
    }

    #[tokio::test]
    async fn an_edited_expression_means_a_new_table_and_says_what_was_edited() {
        let old = "CREATE STREAMING TABLE silver.a AS SELECT upper(city) AS city FROM rides;";
        let changes = changes(old, &checked(&old.replace("upper", "lower")).await).await;
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].action, Action::Rebuild);
        assert!(changes[0].remark.starts_with("column city is lower(city), was upper(city)"), "{}", changes[0].remark);
        let moved = "CREATE STREAMING TABLE silver.a AS SELECT upper(r.city) AS city FROM rides AS r;";
        assert_eq!(actions(old, moved).await, [(Action::Change, "silver.a".to_owned())]);
    }

    #[tokio::test]
    async fn another_start_concerns_pipelines_that_have_never_run() {
        let text = format!("{}\n{A}", SOURCE_SQL.replace("topic = 'rides'", "topic = 'rides', start = 'latest'"));
        let new = check(&[SqlFile { name: "x.sql".to_owned(), text }]).await.unwrap();
        let found = changes(A, &new).await;
        assert_eq!(found.len(), 1, "rows and state stay: {found:?}");
        assert_eq!((&found[0].action, found[0].kind), (&Action::Change, SOURCE));
        assert_eq!(found[0].remark, "where pipelines begin that have never run");
    }

    /// Offsets of one topic mean nothing in another.
    #[tokio::test]
    async fn another_topic_means_a_new_table_once_rows_were_read() {
        let text = format!("{}\n{A}", SOURCE_SQL.replace("topic = 'rides'", "topic = 'trips'"));
        let new = check(&[SqlFile { name: "x.sql".to_owned(), text }]).await.unwrap();
        let old = checked(A).await.project;
        let plans = plans(&old).await;
        let found = |started: &BTreeSet<TableName>| {
            between(&InForce { project: &old, plans: &plans, started, left: &BTreeMap::new(), unfit: &BTreeSet::new() }, &new)
        };
        let none = found(&BTreeSet::new());
        assert_eq!(none.iter().map(|change| &change.action).collect::<Vec<_>>(), [&Action::Change]);
        let read = found(&old.tables.keys().cloned().collect());
        assert_eq!(read.iter().map(|change| &change.action).collect::<Vec<_>>(), [&Action::Change, &Action::Rebuild]);
        assert!(
            read[1].remark.contains("its source reads topic 'trips', and what it has was read from topic 'rides'"),
            "{}",
            read[1].remark
        );
    }

    /// A position counts rows, and what is a row depends on how a file is read.
    #[tokio::test]
    async fn files_that_are_read_otherwise_mean_a_new_table_once_rows_were_read() {
        let source = |path: &str, options: &str| {
            let text =
                format!("CREATE SOURCE rides (city VARCHAR) WITH (connector = 'files', path = '{path}', format = 'csv'{options}); {A}");
            async move { check(&[SqlFile { name: "x.sql".to_owned(), text }]).await.unwrap() }
        };
        let old = source("in", "").await;
        let (started, left) = (old.project.tables.keys().cloned().collect(), BTreeMap::new());
        let in_force = InForce { project: &old.project, plans: &old.blueprints, started: &started, left: &left, unfit: &BTreeSet::new() };
        let rebuilds = |new: &Checked| rebuilt(&between(&in_force, new)).len() == 1;
        for other in [", header = 'false'", ", delimiter = ';'", ", suffix = '.txt'"] {
            assert!(rebuilds(&source("in", other).await), "{other}");
        }
        assert!(rebuilds(&source("out", "").await));
        for same in ["", ", header = 'true', delimiter = ','", ", poll_interval = '1 second'"] {
            assert!(!rebuilds(&source("in", same).await), "{same}");
        }
        assert!(!rebuilds(&source("in/", "").await), "the same folder");
    }

    /// Its rows and state are there, and its pipeline goes on from them.
    #[tokio::test]
    async fn a_table_that_is_back_is_compared_with_what_it_was() {
        let warehouse = watershed_lake::Warehouse::open("memory://", &std::collections::HashMap::new()).await.unwrap();
        let mut applied = Definitions::default();
        let was = "CREATE STREAMING TABLE silver.a AS SELECT upper(city) AS city FROM rides;";
        for text in [was, "", ""] {
            let items = checked(text).await.definitions;
            applied = warehouse.save_definitions(&applied, items).await.unwrap();
        }
        let started: BTreeSet<TableName> = ["silver.a".parse().unwrap()].into();
        let project = crate::project::applied(&applied);
        let found = async |new: &str, started: &BTreeSet<TableName>| {
            let left = crate::left::find(&warehouse, applied.revision, started).await.unwrap();
            let in_force = InForce { project: &project, plans: &BTreeMap::new(), started, left: &left, unfit: &BTreeSet::new() };
            let mut changes = between(&in_force, &checked(new).await);
            assert_eq!(changes.len(), 1);
            let change = changes.remove(0);
            (change.action, change.remark)
        };
        let (action, remark) = found(was, &started).await;
        assert_eq!(action, Action::Create);
        assert!(remark.contains("goes on"), "{remark}");
        let other = &was.replace("upper", "lower");
        let (action, remark) = found(other, &started).await;
        assert_eq!(action, Action::Rebuild);
        assert!(remark.contains("is back") && remark.contains("lower(city)"), "{remark}");
        assert_eq!(found(other, &BTreeSet::new()).await, (Action::Create, String::new()), "it has no rows");
        let unknown = was.replace("silver.a", "silver.b");
        let of_unknown = ["silver.b".parse().unwrap()].into();
        assert_eq!(found(&unknown, &of_unknown).await.0, Action::Rebuild, "no revision says what made its rows");
    }

    #[tokio::test]
    async fn constraints_and_sinks_leave_rows_and_state_alone() {
        let with =
            |constraint: &str, more: &str| format!("CREATE STREAMING TABLE silver.a ({constraint}) AS SELECT city FROM rides; {more}");
        let known = with("CONSTRAINT known EXPECT (city IS NOT NULL) ON VIOLATION QUARANTINE", "");
        assert_eq!(actions(A, &known).await, [(Action::Change, "silver.a".to_owned())]);
        assert_eq!(actions(&known, &known.replace(" (CONSTRAINT", "\n (CONSTRAINT").replace("city IS NOT", "City  is not")).await, []);
        let sink = with(
            "CONSTRAINT known EXPECT (city IS NOT NULL) ON VIOLATION QUARANTINE",
            "CREATE SINK out TO KAFKA (topic = 't') AS SELECT * FROM STREAM(silver.a);",
        );
        assert_eq!(actions(&known, &sink).await, [(Action::Create, "out".to_owned())]);
        assert_eq!(actions(&sink, &sink.replace("SELECT * FROM STREAM", "select  * from STREAM")).await, []);
        assert_eq!(actions(&sink, &sink.replace("'t'", "'u'")).await, [(Action::Change, "out".to_owned())]);
        assert_eq!(actions(&sink, &known).await, [(Action::Drop, "out".to_owned())]);
    }

    #[tokio::test]
    async fn what_is_new_and_what_is_gone() {
        let b = "CREATE STREAMING TABLE silver.b AS SELECT city FROM rides;";
        assert_eq!(actions(A, b).await, [(Action::Create, "silver.b".to_owned()), (Action::Drop, "silver.a".to_owned())]);
    }

    #[tokio::test]
    async fn views_change_in_place_unless_their_columns_do() {
        let actions = async |old: &str, new: &str| -> Vec<(Action, String)> {
            let (old, new) = (checked(&format!("{A}{old}")).await, checked(&format!("{A}{new}")).await);
            let changes = between_views(&old.views, &old.view_schemas, &new);
            changes.into_iter().map(|change| (change.action, change.name)).collect()
        };
        let view = |clause: &str, query: &str| format!("CREATE MATERIALIZED VIEW gold.v {clause} AS {query};");
        let one = view("", "SELECT city FROM silver.a");
        let named = |action| vec![(action, "gold.v".to_owned())];
        assert_eq!(actions("", &one).await, named(Action::Create));
        assert_eq!(actions(&one, &one).await, []);
        assert_eq!(actions(&one, &one.replace("SELECT city", "select /* all */ city")).await, []);
        assert_eq!(actions(&one, &view("TRIGGER ON UPDATE", "SELECT city FROM silver.a")).await, named(Action::Change));
        assert_eq!(actions(&one, &view("", "SELECT city FROM silver.a WHERE city <> ''")).await, named(Action::Change));
        assert_eq!(actions(&one, &view("", "SELECT city, 1 AS one FROM silver.a")).await, named(Action::Rebuild));
        assert_eq!(actions(&one, "").await, named(Action::Drop));
    }

    #[tokio::test]
    async fn a_name_that_becomes_another_kind_drops_what_was_there() {
        let view = "CREATE MATERIALIZED VIEW silver.a AS SELECT 'x' AS city;";
        let (table, view) = (checked(A).await, checked(view).await);
        let (none, left, plans) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let started: BTreeSet<TableName> = ["silver.a".parse().unwrap()].into();
        let found = |old: &Checked, started: &BTreeSet<TableName>, new: &Checked| {
            let in_force = InForce { project: &old.project, plans: &plans, started, left: &left, unfit: &BTreeSet::new() };
            let mut changes = between(&in_force, new);
            changes.extend(between_views(&old.views, &old.view_schemas, new));
            of_another_kind(&mut changes, &in_force, &old.views, new);
            changes.into_iter().map(|change| (change.action, change.kind, change.name)).collect::<Vec<_>>()
        };
        let rebuilt = |kind| vec![(Action::Rebuild, kind, "silver.a".to_owned())];
        assert_eq!(found(&table, &started, &view), rebuilt(VIEW));
        assert_eq!(found(&table, &none, &view), rebuilt(VIEW));
        assert_eq!(found(&view, &none, &table), rebuilt(TABLE));
        assert_eq!(found(&checked("").await, &started, &view), rebuilt(VIEW), "its rows and state are still there");
        assert_eq!(found(&checked("").await, &none, &view), [(Action::Create, VIEW, "silver.a".to_owned())]);
    }

    #[tokio::test]
    async fn panels_come_change_and_go() {
        let panels = |text: &str| {
            let text = text.to_owned();
            async move { checked(&format!("{A}\n{text}")).await }
        };
        let old =
            panels("CREATE PANEL a WITH (chart = 'table') AS SELECT 1 AS n; CREATE PANEL b WITH (chart = 'table') AS SELECT 1 AS n;").await;
        let old = Definitions { revision: 1, items: old.definitions };
        let new =
            panels("CREATE PANEL b WITH (chart = 'table') AS SELECT 2 AS n; CREATE PANEL c WITH (chart = 'table') AS SELECT 1 AS n;").await;
        let changes: Vec<_> = of_panels(&old, &new).into_iter().map(|change| (change.action, change.name)).collect();
        let expected = [(Action::Change, "b"), (Action::Create, "c"), (Action::Drop, "a")];
        assert_eq!(changes, expected.map(|(action, name)| (action, name.to_owned())));
    }

    #[test]
    fn a_summary_counts() {
        let change = |action| Change::new(action, TABLE, "a.b", "");
        assert_eq!(summary(&[change(Action::Create), change(Action::Create), change(Action::Rebuild)]), "2 created, 1 rebuilt");
        assert_eq!(summary(&[]), "no change");
    }
}

//! A folder of `.sql` files as definitions: all of it is read and checked, and every mistake is shown at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail};
use arrow::datatypes::SchemaRef;
use watershed_batch::{View, Views};
use watershed_dialect::{Connector, SqlError, Statement, StatementKind, clear_secret};
use watershed_ingest::IngestError;
use watershed_ingest::kafka::KafkaSettings;
use watershed_lake::kind::{PANEL, SINK, SOURCE, TABLE, VIEW};
use watershed_lake::{Definition, Definitions, TableName, Warehouse};
use watershed_message::Message;
use watershed_stream::{Blueprint, Project, StreamError, tables as pipeline_tables};

use crate::foreign;
use crate::loops::{self, ClusterIds};
use crate::panels;
use crate::report::Rendered;
use crate::stored;

/// Schemas whose tables are not in the warehouse.
const OTHERS: [&str; 2] = ["system", "information_schema"];

fn unreadable_views(why: Message) -> anyhow::Error {
    anyhow!(Message::new("the applied definitions cannot be read by this version").why(why.said()).next("apply the project again"))
}

/// One file of a project.
#[derive(Clone)]
pub struct SqlFile {
    /// As messages show it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A checked project.
pub struct Checked {
    /// What is defined, in file order, as the warehouse keeps it.
    pub definitions: Vec<Definition>,
    /// The same, parsed.
    pub project: Project,
    /// The same, planned.
    pub blueprints: BTreeMap<TableName, Blueprint>,
    /// The materialized views.
    pub views: Views,
    /// Their columns.
    pub view_schemas: BTreeMap<TableName, SchemaRef>,
    /// The tables of others that they read, and their columns.
    pub foreign: BTreeMap<TableName, SchemaRef>,
}

/// Reads all `.sql` files below `folder`, sorted by path.
pub fn read(folder: &Path) -> Result<Vec<SqlFile>> {
    if !folder.is_dir() {
        bail!(Message::new(format!("{} is not a folder", folder.display())).next("give the folder that holds the project's .sql files"));
    }
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    if paths.is_empty() {
        let next = "a project is a folder of CREATE SOURCE, STREAMING TABLE, MATERIALIZED VIEW and SINK statements";
        bail!(Message::new(format!("there is no .sql file in {}", folder.display())).next(next));
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Editors on Windows put a mark at the beginning of a file.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Ok(SqlFile { name: path.display().to_string(), text })
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "sql") && !hidden {
            paths.push(path);
        }
    }
    Ok(())
}

/// Parses and plans everything. The error shows every mistake, not only the first.
pub async fn check(files: &[SqlFile]) -> Result<Checked> {
    check_at(files, None).await
}

/// Where a project is to run.
pub struct Home<'a> {
    /// Views may read tables that others write there.
    pub warehouse: &'a Warehouse,
    /// What is defined there.
    pub in_force: &'a Definitions,
    /// How to reach Kafka.
    pub kafka: &'a KafkaSettings,
}

/// The same with what its home says: of tables that others write, and of Kafka's clusters.
pub async fn check_at(files: &[SqlFile], home: Option<Home<'_>>) -> Result<Checked> {
    let mut problems = Vec::new();
    let mut project = Project::default();
    let mut definitions = Vec::new();
    let mut tables: Vec<(TableName, &SqlFile, Statement)> = Vec::new();
    let mut sinks: Vec<(&SqlFile, Statement)> = Vec::new();
    let mut views: Vec<(View, &SqlFile, Statement)> = Vec::new();
    let mut panels: Vec<(&SqlFile, Statement)> = Vec::new();
    for file in files {
        let statements = match watershed_dialect::parse(&file.text) {
            Ok(statements) => statements,
            Err(error) => {
                problems.push(shown(&error, file));
                continue;
            }
        };
        for statement in statements {
            if let Err(error) = readable(&statement.kind) {
                problems.push(shown(&error.at(statement.line, statement.column), file));
                continue;
            }
            if let StatementKind::CreateMaterializedView(view) = &statement.kind {
                let name = format!("{}.{}", view.schema, view.table);
                match View::new(view.clone()) {
                    Ok(view) if views.iter().any(|(other, ..): &(View, _, _)| other.name == view.name) => {
                        let error = SqlError::new(format!("'{name}' is defined twice")).hint("rename or remove one of them");
                        problems.push(shown(&error.at(statement.line, statement.column), file));
                    }
                    Ok(view) => {
                        definitions.push(Definition { name, kind: VIEW.to_owned(), sql: statement.text.clone() });
                        views.push((view, file, statement));
                    }
                    Err(error) => problems.push(shown(&statement.place(error), file)),
                }
                continue;
            }
            if let Err(error) = runnable(&statement.kind) {
                // Without the line it is in, which may hold a secret.
                let place = format!("{}:{}:{}", file.name, statement.line, statement.column);
                problems.push(SqlError { message: format!("{}\n --> {place}", error.message), ..error }.render("", None));
                continue;
            }
            match project.add(statement.kind.clone()) {
                Ok(()) => {}
                Err(error) => {
                    problems.push(shown(&error.at_least(statement.line, statement.column), file));
                    continue;
                }
            }
            let (name, kind) = match &statement.kind {
                StatementKind::CreateSource(source) => (source.name.clone(), SOURCE),
                StatementKind::CreateStreamingTable(table) => (format!("{}.{}", table.schema, table.table), TABLE),
                StatementKind::CreateSink(sink) => (sink.name.clone(), SINK),
                StatementKind::CreatePanel(panel) => (panel.name.clone(), PANEL),
                StatementKind::CreateMaterializedView(_)
                | StatementKind::ExplainView(_)
                | StatementKind::ExplainTable(_)
                | StatementKind::Other(_) => continue,
            };
            if kind == PANEL && definitions.iter().any(|other: &Definition| other.kind == PANEL && other.name == name) {
                let error = SqlError::new(format!("panel '{name}' is defined twice")).hint("rename or remove one of them");
                problems.push(shown(&error.at(statement.line, statement.column), file));
                continue;
            }
            definitions.push(Definition { name: name.clone(), kind: kind.to_owned(), sql: statement.text.clone() });
            match (kind, name.parse()) {
                (TABLE, Ok(name)) => tables.push((name, file, statement)),
                (SINK, _) => sinks.push((file, statement)),
                (PANEL, _) => panels.push((file, statement)),
                _ => {}
            }
        }
    }
    let mut blueprints = BTreeMap::new();
    // A file that could not be read may hold the sources that the others name.
    if problems.is_empty() {
        for (name, file, statement) in tables {
            let Some(table) = project.tables.get(&name) else { continue };
            match project.plan(table).await {
                Ok(blueprint) => drop(blueprints.insert(name, blueprint)),
                Err(StreamError::Sql(error)) => problems.push(shown(&statement.place(error), file)),
                Err(StreamError::Constraint(error)) => problems.push(shown(&error, file)),
                Err(error) => problems.push(shown(&SqlError::from(error.message()).at(statement.line, statement.column), file)),
            }
        }
    }
    // Nor can a sink follow a table that could not be planned.
    if problems.is_empty() {
        for (file, statement) in &sinks {
            let StatementKind::CreateSink(sink) = &statement.kind else { continue };
            match project.plan_sink(sink, &mut blueprints).await {
                Ok(()) => {}
                Err(StreamError::Sql(error)) => problems.push(shown(&statement.place(error), file)),
                Err(error) => problems.push(shown(&SqlError::from(error.message()).at(statement.line, statement.column), file)),
            }
        }
    }
    let clusters = match &home {
        Some(home) if problems.is_empty() => loops::clusters(&blueprints, home.kafka).await,
        _ => ClusterIds::default(),
    };
    for (sink, error) in if problems.is_empty() { loops::find(&blueprints, &clusters) } else { Vec::new() } {
        let defines = |statement: &Statement| matches!(&statement.kind, StatementKind::CreateSink(known) if known.name == sink.name);
        let Some((file, statement)) = sinks.iter().find(|(_, statement)| defines(statement)) else { continue };
        problems.push(shown(&error.at(statement.line, statement.column), file));
    }
    let ordered = Views::new(views.iter().map(|(view, ..)| view.clone()).collect());
    let (ordered, mistakes) = ordered.map_or_else(|mistakes| (Views::default(), mistakes), |ordered| (ordered, Vec::new()));
    let (mut view_schemas, mut foreign) = (BTreeMap::new(), BTreeMap::new());
    let mut wrong = mistakes;
    // Views read tables, so those come first.
    if problems.is_empty() && wrong.is_empty() {
        let mut known = declared(&project, &blueprints);
        let reads = ordered.iter().flat_map(|view| &view.reads);
        let unknown = reads.filter(|name| !known.contains_key(*name) && ordered.get(name).is_none()).cloned().collect();
        if let Some(home) = &home {
            foreign = foreign::find(home.warehouse, home.in_force, &unknown).await?;
        }
        known.extend(foreign.clone());
        if let Some(home) = &home {
            stored::loosen(home.warehouse, &mut known).await?;
        }
        (view_schemas, wrong) = ordered.plan(project.sources.values(), &known).await;
    }
    for mistake in wrong {
        let Some((_, file, statement)) = views.iter().find(|(view, ..)| view.name == mistake.view) else { continue };
        let placed = mistake.error.line.is_some();
        let error = match mistake.error {
            error if mistake.of_constraint => error,
            error if placed => statement.place(error),
            error => error.at(statement.line, statement.column),
        };
        problems.push(shown(&error, file));
    }
    // Panels read both.
    if problems.is_empty() {
        let of_pipelines = declared(&project, &blueprints).into_iter();
        let known = panels::Tables::of(of_pipelines.chain(view_schemas.clone())).await?;
        for (file, statement) in panels {
            let StatementKind::CreatePanel(panel) = &statement.kind else { continue };
            if let Err(error) = known.check(panel).await {
                let placed = error.line.is_some();
                let error = if placed { statement.place(error) } else { error.at(statement.line, statement.column) };
                problems.push(shown(&error, file));
            }
        }
    }
    if problems.is_empty() {
        return Ok(Checked { definitions, project, blueprints, views: ordered, view_schemas, foreign });
    }
    let count = problems.len();
    let mut text = problems.join("\n");
    if count > 1 {
        text.push_str(&format!("\n{count} mistakes; nothing was changed\n"));
    }
    Err(Rendered(text).into())
}

/// Refuses tables in schemas that queries see other tables in. Not part of parsing: older definitions may hold them.
fn readable(statement: &StatementKind) -> Result<(), SqlError> {
    let (schema, table) = match statement {
        StatementKind::CreateStreamingTable(table) => (&table.schema, &table.table),
        StatementKind::CreateMaterializedView(view) => (&view.schema, &view.table),
        _ => return Ok(()),
    };
    if !OTHERS.iter().any(|other| other.eq_ignore_ascii_case(schema)) {
        return Ok(());
    }
    Err(SqlError::new(format!("'{schema}.{table}' could not be read: the tables of schema '{schema}' are Watershed's own"))
        .hint(format!("name another schema, such as gold.{table}")))
}

/// What a start of pipelines would find wrong with a source or a sink, and secrets in clear text: definitions are kept, every revision.
fn runnable(statement: &StatementKind) -> Result<(), SqlError> {
    let (what, settings, checked) = match statement {
        StatementKind::CreateSource(source) => {
            let checked = watershed_ingest::check_source(source);
            let Connector::Kafka { properties, .. } = &source.connector else { return checked.map_err(definition_error) };
            (format!("source '{}'", source.name), properties, checked)
        }
        StatementKind::CreateSink(sink) => (format!("sink '{}'", sink.name), &sink.properties, watershed_ingest::check_sink(sink)),
        _ => return Ok(()),
    };
    if let Some(name) = clear_secret(settings) {
        return Err(SqlError::new(format!("{what} holds a secret in clear text: 'kafka.{name}'"))
            .detail("definitions are kept in the warehouse, every revision of them")
            .hint(format!(
                "write 'kafka.{name}' = secret('ENV_NAME'), an environment variable of the process that runs the pipelines, or \
                 secret_file('/path'); a secret that was applied before is in older revisions: replace it by another"
            )));
    }
    checked.map_err(definition_error)
}

fn definition_error(error: IngestError) -> SqlError {
    SqlError::from(error.message())
}

fn shown(error: &SqlError, file: &SqlFile) -> String {
    error.render(&file.text, Some(&file.name))
}

/// The tables that pipelines write, side tables included, and their columns: what a view may read.
pub fn declared(project: &Project, blueprints: &BTreeMap<TableName, Blueprint>) -> BTreeMap<TableName, SchemaRef> {
    let of_pipelines =
        blueprints.values().filter_map(|blueprint| pipeline_tables::declared(blueprint).ok()).flat_map(BTreeMap::into_values);
    let mut tables: BTreeMap<TableName, SchemaRef> = of_pipelines.map(|table| (table.name, table.schema)).collect();
    // What was quarantined stays when the last pipeline of its source goes.
    for source in project.sources.keys() {
        if let Ok(name) = pipeline_tables::quarantine_name(source) {
            tables.insert(name, watershed_stream::writer::quarantine_schema());
        }
    }
    tables
}

/// The pipelines that were applied to a warehouse. What this version cannot read is kept apart, so that the others can run, and so that a project
/// can be applied that puts it right.
pub fn applied(definitions: &Definitions) -> Project {
    let mut project = Project::default();
    for item in definitions.items.iter().filter(|item| [SOURCE, TABLE, SINK].contains(&item.kind.as_str())) {
        if let Err(error) = project.read(&item.sql) {
            let kept = if item.kind == SINK { &mut project.unreadable_sinks } else { &mut project.unreadable };
            kept.insert(item.name.clone(), error);
        }
    }
    project
}

/// The materialized views that were applied to a warehouse. Those that this version cannot read are left out, and told of: the other jobs run.
pub fn applied_views(definitions: &Definitions) -> Result<Views> {
    /// Once in a process: `system.jobs` asks each time that it is read.
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut views = Vec::new();
    for item in definitions.items.iter().filter(|item| item.kind == VIEW) {
        match Views::parse([item.sql.as_str()]) {
            Ok(read) => views.extend(read.iter().cloned()),
            Err(error) if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(item.name.clone()) => {
                tell!("{} cannot be read by this version of Watershed, and does not run: {error}", item.name);
            }
            Err(_) => {}
        }
    }
    Views::new(views).map_err(|mistakes| unreadable_views(mistakes[0].error.message()))
}

#[cfg(test)]
mod tests;

//! A folder of `.sql` files as definitions: all of it is read and checked, and every mistake is shown at its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use watershed_dialect::{SqlError, Statement, StatementKind};
use watershed_lake::{Definition, Definitions, TableName};
use watershed_stream::{Blueprint, Project, StreamError};

use crate::report::Rendered;

/// [`Definition::kind`] of a source.
pub const SOURCE: &str = "source";
/// [`Definition::kind`] of a streaming table.
pub const TABLE: &str = "streaming table";

/// [`Definition::kind`] of a sink.
pub const SINK: &str = "sink";

/// One file of a project.
pub struct SqlFile {
    /// As it stands in messages.
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
}

/// Reads all `.sql` files below `folder`, sorted by path.
pub fn read(folder: &Path) -> Result<Vec<SqlFile>> {
    if !folder.is_dir() {
        bail!("{} is not a folder; give the folder that holds the project's .sql files", folder.display());
    }
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    if paths.is_empty() {
        bail!(
            "there is no .sql file in {}; a project is a folder of CREATE SOURCE, CREATE STREAMING TABLE and CREATE SINK statements",
            folder.display()
        );
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
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
    let mut problems = Vec::new();
    let mut project = Project::default();
    let mut definitions = Vec::new();
    let mut tables: Vec<(TableName, &SqlFile, Statement)> = Vec::new();
    let mut sinks: Vec<(&SqlFile, Statement)> = Vec::new();
    for file in files {
        let statements = match watershed_dialect::parse(&file.text) {
            Ok(statements) => statements,
            Err(error) => {
                problems.push(shown(&error, file));
                continue;
            }
        };
        for statement in statements {
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
                StatementKind::Other(_) => continue,
            };
            definitions.push(Definition { name: name.clone(), kind: kind.to_owned(), sql: statement.text.clone() });
            match (kind, name.parse()) {
                (TABLE, Ok(name)) => tables.push((name, file, statement)),
                (SINK, _) => sinks.push((file, statement)),
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
                Err(error) => problems.push(shown(&SqlError::new(error.to_string()).at(statement.line, statement.column), file)),
            }
        }
    }
    // Nor can a sink follow a table that could not be planned.
    if problems.is_empty() {
        for (file, statement) in sinks {
            let StatementKind::CreateSink(sink) = &statement.kind else { continue };
            match project.plan_sink(sink, &mut blueprints).await {
                Ok(()) => {}
                Err(StreamError::Sql(error)) => problems.push(shown(&statement.place(error), file)),
                Err(error) => problems.push(shown(&SqlError::new(error.to_string()).at(statement.line, statement.column), file)),
            }
        }
    }
    if problems.is_empty() {
        return Ok(Checked { definitions, project, blueprints });
    }
    let count = problems.len();
    let mut text = problems.join("\n");
    if count > 1 {
        text.push_str(&format!("\n{count} mistakes; nothing was changed\n"));
    }
    Err(Rendered(text).into())
}

fn shown(error: &SqlError, file: &SqlFile) -> String {
    error.render(&file.text, Some(&file.name))
}

/// The project that was applied to a warehouse.
pub fn applied(definitions: &Definitions) -> Result<Project> {
    Project::parse(definitions.items.iter().map(|item| item.sql.as_str()))
        .context("the applied definitions cannot be read by this version; apply the project again")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE_SQL: &str = "CREATE SOURCE rides (city VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 second')\n\
                              WITH (connector = 'kafka', topic = 'rides', format = 'json');\n";

    fn file(name: &str, text: &str) -> SqlFile {
        SqlFile { name: name.to_owned(), text: text.to_owned() }
    }

    async fn mistakes(files: &[SqlFile]) -> String {
        check(files).await.err().expect("a mistake").to_string()
    }

    #[tokio::test]
    async fn a_project_is_kept_as_written() {
        let table = "CREATE STREAMING TABLE silver.rides AS SELECT city, at FROM rides";
        let checked = check(&[file("a.sql", SOURCE_SQL), file("b.sql", &format!("-- all\n{table};"))]).await.unwrap();
        let kept: Vec<(&str, &str)> = checked.definitions.iter().map(|d| (d.name.as_str(), d.kind.as_str())).collect();
        assert_eq!(kept, [("rides", SOURCE), ("silver.rides", TABLE)]);
        assert_eq!(checked.definitions[1].sql, table);
        assert_eq!(checked.blueprints.len(), 1);
    }

    #[tokio::test]
    async fn mistakes_in_queries_are_shown_at_their_place_in_the_file() {
        let table = "-- demand\nCREATE STREAMING TABLE silver.rides AS\nSELECT citty FROM rides;";
        let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table)]).await;
        assert!(said.contains("b.sql:3:8") && said.contains("SELECT citty FROM rides") && said.contains("city"), "{said}");
    }

    #[tokio::test]
    async fn mistakes_in_constraints_and_sinks_are_shown_at_their_place_in_the_file() {
        let table = "CREATE STREAMING TABLE silver.rides (\n  CONSTRAINT known EXPECT (citty IS NOT NULL)\n) AS SELECT city FROM rides;";
        let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table)]).await;
        assert!(said.contains("b.sql:2:28") && said.contains("did you mean 'city'?"), "{said}");

        let table = "CREATE STREAMING TABLE silver.rides AS SELECT city FROM rides;";
        let sink = |query: &str| file("c.sql", &format!("-- out\nCREATE SINK out TO KAFKA (topic = 'out') AS\n{query};"));
        let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table), sink("SELECT citi FROM STREAM(silver.rides)")]).await;
        assert!(said.contains("c.sql:3:8") && said.contains("did you mean 'city'?"), "{said}");
        let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table), sink("SELECT city FROM STREAM(silver.ridse)")]).await;
        assert!(said.contains("c.sql:3:1") && said.contains("did you mean 'silver.rides'?"), "{said}");
    }

    #[tokio::test]
    async fn every_broken_file_is_named() {
        let said = mistakes(&[file("a.sql", "CREATE SOURCE x ("), file("b.sql", "SELEC 1;"), file("c.sql", SOURCE_SQL)]).await;
        assert!(said.contains("a.sql:") && said.contains("b.sql:1:1") && said.contains("2 mistakes"), "{said}");
    }

    #[tokio::test]
    async fn a_query_is_no_definition_and_names_are_taken_once() {
        let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", SOURCE_SQL), file("c.sql", "\n  SELECT 1;")]).await;
        assert!(said.contains("defined twice") && said.contains("b.sql:1:1") && said.contains("c.sql:2:3"), "{said}");
    }
}

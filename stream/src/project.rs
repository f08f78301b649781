//! A project: the sources, streaming tables and sinks of one folder of SQL, planned.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use watershed_dialect::union_all::sources_of;
use watershed_dialect::{
    LateRows, SinkDefinition, SourceDefinition, SourceTable, SqlError, StatementKind, StreamingTableDefinition, did_you_mean, parse,
    placed, plan_expectation, plan_sink, plan_streaming_table, session_config, session_state,
};
use watershed_lake::TableName;

use crate::StreamError;
use crate::hidden::SOURCES_MAX;
use crate::operators::expect::VIOLATED;
use crate::plan::{Blueprint, Ends};
use crate::sink_plan::SinkBlueprint;
use crate::tables::{self, LATE, VIOLATIONS};

/// Definitions by name.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Sources.
    pub sources: BTreeMap<String, SourceDefinition>,
    /// Streaming tables.
    pub tables: BTreeMap<TableName, StreamingTableDefinition>,
    /// Sinks.
    pub sinks: BTreeMap<String, SinkDefinition>,
    /// Sources and streaming tables that were applied once and that this version cannot read, by name, and why.
    pub unreadable: BTreeMap<String, SqlError>,
    /// The same of sinks. Nothing tells which table's rows they are to send, so no pipeline can run.
    pub unreadable_sinks: BTreeMap<String, SqlError>,
}

/// What a project comes to.
pub struct Planned {
    /// The pipelines that can run.
    pub blueprints: BTreeMap<TableName, Blueprint>,
    /// Why the others cannot.
    pub refused: BTreeMap<TableName, StreamError>,
}

impl Project {
    /// Reads definitions from texts; statements of other kinds are refused.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SqlError> {
        let mut project = Self::default();
        texts.into_iter().try_for_each(|text| project.read(text))?;
        Ok(project)
    }

    /// Adds the definitions of one text.
    pub fn read(&mut self, text: &str) -> Result<(), SqlError> {
        for statement in parse(text)? {
            self.add(statement.kind).map_err(|error| error.at_least(statement.line, statement.column))?;
        }
        Ok(())
    }

    /// Adds one definition. Refuses a name that is taken, and statements that define nothing.
    pub fn add(&mut self, statement: StatementKind) -> Result<(), SqlError> {
        match statement {
            StatementKind::CreateSource(source) => match self.sources.entry(source.name.clone()) {
                std::collections::btree_map::Entry::Occupied(_) => Err(taken(&source.name)),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(source);
                    Ok(())
                }
            },
            StatementKind::CreateStreamingTable(table) => {
                let name = TableName::new(&table.schema, &table.table).map_err(SqlError::new)?;
                match self.tables.entry(name.clone()) {
                    std::collections::btree_map::Entry::Occupied(_) => Err(taken(&name.to_string())),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(table);
                        Ok(())
                    }
                }
            }
            StatementKind::CreateSink(sink) => match self.sinks.entry(sink.name.clone()) {
                std::collections::btree_map::Entry::Occupied(_) => Err(taken(&sink.name)),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(sink);
                    Ok(())
                }
            },
            StatementKind::CreateMaterializedView(_) => Err(SqlError::new("a materialized view is no pipeline: a job refreshes it")),
            // A panel shows tables; no pipeline depends on it.
            StatementKind::CreatePanel(_) => Ok(()),
            StatementKind::ExplainView(_) | StatementKind::ExplainTable(_) | StatementKind::Other(_) => {
                Err(SqlError::new("this statement defines nothing")
                    .hint("a project holds CREATE SOURCE, STREAMING TABLE, MATERIALIZED VIEW and SINK; run queries in `watershed shell`"))
            }
        }
    }

    /// Plans one streaming table, without the sinks that follow it. Errors point into the table's query text, those of its constraints
    /// ([`StreamError::Constraint`]) into the text that defines it.
    pub async fn plan(&self, table: &StreamingTableDefinition) -> Result<Blueprint, StreamError> {
        let ctx = SessionContext::new_with_state(session_state(session_config(), None));
        for source in self.sources.values() {
            ctx.register_table(source.name.as_str(), Arc::new(SourceTable::new(source.clone())))?;
        }
        let state = ctx.state();
        let plan = plan_streaming_table(&state, table).await.map_err(|error| self.meant(error))?;
        let sources = self.sources_of(&plan)?;
        let result = plan.schema().as_arrow();
        if let Some(first) = table.expectations.first()
            && result.column_with_name(VIOLATED).is_some()
        {
            let error =
                SqlError::new(format!("a table with constraints cannot have a column '{VIOLATED}': rows that are set aside have one"));
            return Err(StreamError::Constraint(error.hint("give the column another name with AS").at(first.line, first.column)));
        }
        let predicates = table.expectations.iter().map(|e| plan_expectation(&state, e, result).map_err(StreamError::Constraint));
        let ends =
            Ends { predicates: predicates.collect::<Result<_, _>>()?, has_sinks: self.sinks.values().any(|sink| follows(sink, table)) };
        let blueprint = Blueprint::new(&sources, table, &plan, state.execution_props(), ends)?;
        check_sides(&blueprint)?;
        if table.max_ahead.is_some() && blueprint.meeting().is_none() {
            let error = SqlError::new("no source can wait for another here, so 'max_ahead' says nothing").detail(
                "it says how far one source may be ahead of another, where windows, OVER or DEDUPLICATE follow a UNION ALL of them",
            );
            return Err(error.hint("leave it out").into());
        }
        Ok(blueprint)
    }

    /// The sources that a plan reads, each once, in the order in which it names them.
    fn sources_of(&self, plan: &LogicalPlan) -> Result<Vec<SourceDefinition>, StreamError> {
        let mut sources: Vec<SourceDefinition> = Vec::new();
        for name in sources_of(plan) {
            if sources.iter().all(|known| known.name != name) {
                sources.push(self.sources.get(&name).ok_or_else(|| self.no_source(&name))?.clone());
            }
        }
        match sources.len() {
            0 => Err(SqlError::new("the query reads no source").into()),
            1..=SOURCES_MAX => Ok(sources),
            many => Err(SqlError::new(format!("the query reads {many} sources, and one pipeline can read {SOURCES_MAX}"))
                .hint("make streaming tables of some of them each and unite these when you query")
                .into()),
        }
    }

    /// An error that names a source which is there but cannot be read, with the reason for that.
    fn meant(&self, error: SqlError) -> SqlError {
        match self.unreadable.keys().find(|name| error.message.contains(&format!("'{name}'"))) {
            Some(name) => self.no_source(name),
            None => error,
        }
    }

    fn no_source(&self, name: &str) -> SqlError {
        match self.unreadable.get(name) {
            Some(error) => SqlError::from(error.message().within(format!("source '{name}' cannot be read by this version"))),
            None => SqlError::new(format!("'{name}' is not a source")),
        }
    }

    /// Plans a sink and lets it follow its table, which is planned already. Errors point into the sink's query text.
    pub async fn plan_sink(&self, sink: &SinkDefinition, tables: &mut BTreeMap<TableName, Blueprint>) -> Result<(), StreamError> {
        let wanted = format!("{}.{}", sink.schema, sink.table);
        let Some(blueprint) = tables.values_mut().find(|blueprint| follows(sink, &blueprint.table)) else {
            let names: Vec<String> = tables.keys().map(ToString::to_string).collect();
            return Err(SqlError::new(format!("'{wanted}' is no streaming table, so there is nothing to follow"))
                .detail(format!("streaming tables: {}", names.join(", ")))
                .maybe_hint(did_you_mean(&wanted, names.iter().map(String::as_str)))
                .at(1, 1)
                .into());
        };
        let ctx = SessionContext::new_with_state(session_state(session_config(), None));
        let schema = tables::nullable(&blueprint.schema);
        let plan = plan_sink(&ctx.state(), sink, schema.clone()).await?;
        blueprint.sinks.push(SinkBlueprint::new(sink, &schema, &plan, ctx.state().execution_props())?);
        Ok(())
    }

    /// Plans all streaming tables and the sinks that follow them. Errors: the first that [`Self::plan_each`] finds.
    pub async fn plan_all(&self) -> Result<BTreeMap<TableName, Blueprint>, StreamError> {
        let Planned { blueprints, refused } = self.plan_each().await;
        refused.into_values().next().map_or(Ok(blueprints), Err)
    }

    /// Plans each streaming table with the sinks that follow it. What was applied by another version may be refused by this one, and that
    /// stops no other pipeline.
    pub async fn plan_each(&self) -> Planned {
        let unreadable = self.unreadable.iter().filter_map(|(name, error)| Some((name.parse().ok()?, error.clone().into())));
        let mut planned = Planned { blueprints: BTreeMap::new(), refused: unreadable.collect() };
        if let Some((sink, error)) = self.unreadable_sinks.first_key_value() {
            let what = format!("sink '{sink}', which may be to follow this table, cannot be read by this version");
            let refused = |name: &TableName| (name.clone(), SqlError::from(error.message().within(what.clone())).into());
            planned.refused.extend(self.tables.keys().map(refused));
            return planned;
        }
        for (name, table) in &self.tables {
            match self.plan(table).await {
                Ok(blueprint) => drop(planned.blueprints.insert(name.clone(), blueprint)),
                Err(error) => drop(planned.refused.insert(name.clone(), error)),
            }
        }
        for sink in self.sinks.values() {
            let Ok(table) = TableName::new(&sink.schema, &sink.table) else { continue };
            if planned.refused.contains_key(&table) {
                continue;
            }
            if let Err(error) = self.plan_sink(sink, &mut planned.blueprints).await {
                // Run without its sink, it would commit rows that are then never sent.
                planned.blueprints.remove(&table);
                planned.refused.insert(table, error);
            }
        }
        planned
    }
}

fn follows(sink: &SinkDefinition, table: &StreamingTableDefinition) -> bool {
    (&sink.schema, &sink.table) == (&table.schema, &table.table)
}

/// Refuses columns that the table's side tables have, too: nothing could hold both.
fn check_sides(blueprint: &Blueprint) -> Result<(), StreamError> {
    let table = &blueprint.table;
    let keeps_late = table.late_rows == LateRows::Divert;
    let said = if blueprint.names.are_several() { "source, source_partition" } else { "source_partition" };
    if let Some(name) = blueprint.late_schema.as_ref().filter(|_| keeps_late).and_then(twice) {
        let of = blueprint.names.iter().collect::<Vec<_>>().join("' or '");
        let error = SqlError::new(format!("column '{name}' of '{of}' would be twice in {}.{}${LATE}", table.schema, table.table))
            .detail(format!("late rows are kept with {said}, source_offset and watermark beside the columns that the query reads"))
            .hint(
                "leave it out of what is read, TABLE (SELECT … FROM s), or rename it in the source if METADATA, or write WITH (late_rows = 'drop')",
            );
        return Err(placed(error, &table.query).into());
    }
    if let Some(name) = blueprint.late_conflict.as_ref().filter(|_| keeps_late) {
        let error = SqlError::new(format!("late rows of its parts have a column '{name}' of several types"))
            .detail(format!("all of them are kept in {}.{}${LATE}", table.schema, table.table))
            .hint("cast it to one type in what each part reads, TABLE (SELECT … FROM s), or write WITH (late_rows = 'drop')");
        return Err(placed(error, &table.query).into());
    }
    if let (Some(name), Some(first)) = (blueprint.violations_schema.as_ref().and_then(twice), table.expectations.first()) {
        let error = SqlError::new(format!("column '{name}' would be twice in {}.{}${VIOLATIONS}", table.schema, table.table))
            .detail(format!("rows that violate a constraint are kept with {said} and source_offset beside the columns of the table"))
            .hint("give the column another name with AS");
        return Err(StreamError::Constraint(error.at(first.line, first.column)));
    }
    Ok(())
}

/// The first name that two columns have; readers compare names without regard to case.
fn twice(schema: &SchemaRef) -> Option<&str> {
    let mut seen = HashSet::new();
    schema.fields().iter().rev().find(|field| !seen.insert(field.name().to_lowercase())).map(|field| field.name().as_str())
}

fn taken(name: &str) -> SqlError {
    SqlError::new(format!("'{name}' is defined twice")).hint("rename or remove one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "CREATE SOURCE s (t TIMESTAMP NOT NULL, Source_Offset BIGINT METADATA FROM 'offset', k VARCHAR, watermark BIGINT,
                          WATERMARK FOR t AS t - INTERVAL '1 second') WITH (topic = 't');";
    const DEDUPLICATE: &str = "DEDUPLICATE(TABLE s PARTITION BY k, DESCRIPTOR(t), INTERVAL '1 minute')";

    /// What planning says of a table, with the word of its query that is pointed at.
    async fn refused(head: &str, query: &str) -> Option<(String, String)> {
        let project = Project::parse([format!("{SOURCE} CREATE STREAMING TABLE a.b {head} AS {query};").as_str()]).unwrap();
        let table = project.tables.values().next().unwrap();
        match project.plan(table).await {
            Ok(_) => None,
            Err(StreamError::Sql(error)) => {
                let (line, column) = (error.line.unwrap() as usize, error.column.unwrap() as usize);
                let rest: String = table.query.lines().nth(line - 1).unwrap().chars().skip(column - 1).collect();
                Some((rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned(), error.message))
            }
            Err(error) => Some((String::new(), error.to_string())),
        }
    }

    #[tokio::test]
    async fn columns_that_side_tables_have_are_refused_while_planning() {
        let late = |name: &str| Some(format!("column '{name}' of 's' would be twice in a.b$late"));
        let windowed = |what: &str| {
            let window = "TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end";
            format!("SELECT window_start, {what} AS x FROM {window}")
        };
        let found = refused("", &windowed("max(source_offset)")).await.unwrap();
        assert_eq!((found.0.as_str(), Some(found.1)), ("source_offset", late("source_offset")));
        assert_eq!(refused("", &windowed("count(k)")).await, None, "they are not read");
        let query = format!("SELECT * FROM {DEDUPLICATE}");
        let found = refused("", &query).await.unwrap();
        assert_eq!((found.0.as_str(), Some(found.1)), ("s", late("watermark")), "the source is what the query names");
        assert_eq!(refused("WITH (late_rows = 'drop')", &query).await, None);
        assert_eq!(refused("", "SELECT * FROM s").await, None, "no row is late");

        let constraint = |action: &str| format!("(CONSTRAINT c EXPECT (k <> '') ON VIOLATION {action})");
        let query = "SELECT k, source_offset FROM s";
        let (_, said) = refused(&constraint("QUARANTINE"), query).await.unwrap();
        assert!(said.starts_with("column 'source_offset' would be twice in a.b$violations"), "{said}");
        assert_eq!(refused(&constraint("FAIL"), query).await, None);
    }
}

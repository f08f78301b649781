//! Counts whether every row that was produced is somewhere: in a table, among the late, the quarantined, the duplicates, or those that
//! violate an expectation.
//!
//! For a table that keeps each row (no filter, no aggregate) the rows are counted in the tables themselves, not taken from
//! counters. Rows that `DEDUPLICATE` or `OVER` has read but must hold until the watermark passes them are waiting; they come with the
//! next run. For tables that sum up or filter it is checked that every row was read.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use watershed_dialect::union_all::sources_of;
use watershed_dialect::{Connector, SourceTable, StreamingTableDefinition, plan_streaming, session_config, session_state};
use watershed_ingest::{KafkaSettings, kafka};
use watershed_lake::{TableName, Warehouse};
use watershed_query::Session;
use watershed_query::shell::{Cell, Column, Layout, Style, grouped};
use watershed_stream::writer::Target;
use watershed_stream::{EpochRecord, Project, newest_epochs, tables};

use crate::terminal::{Terminal, paint, picked};

/// Rows in the topics, by source.
pub struct Produced {
    by_source: BTreeMap<String, (String, u64)>,
}

impl Produced {
    /// Rows ever written to the topic of `source`; 0 if it has none.
    pub fn of(&self, source: &str) -> u64 {
        self.by_source.get(source).map_or(0, |(_, rows)| *rows)
    }

    fn topic(&self, source: &str) -> &str {
        self.by_source.get(source).map_or("", |(topic, _)| topic)
    }
}

/// Asks Kafka where the topics of all sources end.
pub async fn produced(settings: &KafkaSettings, project: &Project) -> Result<Produced> {
    let mut by_source = BTreeMap::new();
    for (name, source) in &project.sources {
        // What a folder holds is not known before it was read: there is nothing to compare with.
        let Connector::Kafka { topic, .. } = &source.connector else { continue };
        let (settings, asked) = (settings.clone(), topic.clone());
        let ranges = tokio::task::spawn_blocking(move || kafka::partitions(&settings, &asked)).await?;
        let ranges = ranges.with_context(|| format!("cannot ask where topic {topic} ends"))?;
        let rows = ranges.iter().map(|range| range.high.max(0) as u64).sum();
        by_source.insert(name.clone(), (topic.clone(), rows));
    }
    Ok(Produced { by_source })
}

/// One pipeline's part of the account.
struct Line {
    topic: String,
    table: TableName,
    produced: u64,
    rows_in: u64,
    in_table: u64,
    late: u64,
    quarantined: u64,
    deduplicated: u64,
    /// Set aside or dropped because they violate an expectation.
    violating: u64,
    kind: Kind,
}

/// What becomes of the rows that a pipeline reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Each goes on at once.
    Kept,
    /// Each goes on or is a duplicate, once the watermark has passed it.
    KeptLater,
    /// They are summed up or filtered.
    Summed,
}

/// The whole account.
pub struct Account {
    lines: Vec<Line>,
}

/// Counts in the tables and compares.
pub async fn account(session: &Session, warehouse: &Warehouse, project: &Project, produced: &Produced) -> Result<Account> {
    let records: BTreeMap<TableName, EpochRecord> =
        newest_epochs(warehouse).await?.into_iter().map(|record| (record.pipeline.clone(), record)).collect();
    let stored = warehouse.tables().await?;
    let mut lines = Vec::new();
    for (name, table) in &project.tables {
        let blueprint = project.plan(table).await?;
        let sources: Vec<&str> = blueprint.names.iter().collect();
        if !sources.iter().all(|source| produced.by_source.contains_key(*source)) {
            continue;
        }
        let counters = records.get(name).map(|record| record.counters).unwrap_or_default();
        let declared = tables::declared(&blueprint)?;
        let pipeline = name.to_string().replace('\'', "''");
        let mut quarantined = 0;
        for source in &sources {
            let quarantine = quoted(&tables::quarantine_name(source)?);
            quarantined += count(session, &format!("SELECT count(*) FROM {quarantine} WHERE pipeline = '{pipeline}'")).await?;
        }
        let late = match declared.get(&Target::Late) {
            Some(late) => count(session, &format!("SELECT count(*) FROM {}", quoted(&late.name))).await?,
            // Those that are dropped are in no table.
            None => counters.rows_late,
        };
        // It stays when the definition no longer asks for it, and so do its rows.
        let violations = name.side(tables::VIOLATIONS);
        let has_violations = stored.contains(&violations);
        let kept = if has_violations { count(session, &format!("SELECT count(*) FROM {}", quoted(&violations))).await? } else { 0 };
        lines.push(Line {
            topic: sources.iter().map(|source| produced.topic(source)).collect::<Vec<_>>().join(", "),
            table: name.clone(),
            produced: sources.iter().map(|source| produced.of(source)).sum(),
            rows_in: counters.rows_in,
            in_table: count(session, &format!("SELECT count(*) FROM {}", quoted(name))).await?,
            late,
            quarantined,
            deduplicated: counters.rows_deduplicated,
            violating: kept + counters.rows_dropped,
            kind: kind(project, table).await?,
        });
    }
    lines.sort_by(|a, b| (&a.topic, a.kind, &a.table).cmp(&(&b.topic, b.kind, &b.table)));
    Ok(Account { lines })
}

fn quoted(name: &TableName) -> String {
    format!("\"{}\".\"{}\"", name.schema(), name.table())
}

async fn count(session: &Session, sql: &str) -> Result<u64> {
    let mut stream = session.query(sql).await?.stream;
    let Some(batch) = stream.next().await else { bail!("'{sql}' gave no row") };
    let rows = batch?.column(0).as_primitive::<Int64Type>().value(0);
    Ok(u64::try_from(rows)?)
}

async fn kind(project: &Project, table: &StreamingTableDefinition) -> Result<Kind> {
    let context = SessionContext::new_with_state(session_state(session_config(), None));
    for source in project.sources.values() {
        context.register_table(source.name.as_str(), std::sync::Arc::new(SourceTable::new(source.clone())))?;
    }
    let plan = plan_streaming(&context.state(), &table.query).await?;
    let sources = sources_of(&plan);
    let mut kind = Kind::Kept;
    plan.apply(|node| {
        kind = kind.max(match node {
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_) => Kind::Kept,
            // A row of a source that is read for several parts may be in the table as often.
            LogicalPlan::Union(_) if sources.iter().all(|name| sources.iter().filter(|other| *other == name).count() == 1) => Kind::Kept,
            LogicalPlan::Extension(extension) if extension.node.name() == "Deduplicate" => Kind::KeptLater,
            LogicalPlan::Window(_) => Kind::KeptLater,
            _ => Kind::Summed,
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(kind)
}

impl Line {
    fn found(&self) -> u64 {
        self.in_table + self.late + self.quarantined + self.deduplicated + self.violating
    }

    /// Rows read whose turn has not come.
    fn waiting(&self) -> u64 {
        if self.kind == Kind::KeptLater { self.rows_in.saturating_sub(self.found()) } else { 0 }
    }

    fn accounted(&self) -> u64 {
        if self.kind == Kind::Summed { self.rows_in } else { self.found() + self.waiting() }
    }

    fn holds(&self) -> bool {
        self.rows_in == self.produced && self.accounted() == self.produced
    }
}

impl Account {
    /// True if every row is accounted for.
    pub fn holds(&self) -> bool {
        self.lines.iter().all(Line::holds)
    }

    /// The account as a table, with a verdict.
    pub fn render(&self, terminal: &Terminal) -> String {
        let color = terminal.color_output();
        let style = Style { width: None, unicode: terminal.output, color };
        let heading = |name: &str, number| Column { name: name.to_owned(), number, whole: true };
        let numbers = ["produced", "in table", "late", "quarantined", "duplicates", "violating", "waiting"];
        let mut columns = vec![heading("topic", false), heading("table", false)];
        columns.extend(numbers.map(|name| heading(name, true)));
        columns.push(heading("", false));
        let mut rows = Vec::new();
        let mut before = "";
        for line in &self.lines {
            let topic = if line.topic == before { "" } else { &line.topic };
            before = &line.topic;
            let verdict = match (line.holds(), line.kind) {
                (true, Kind::Summed) => "ok (sums)".to_owned(),
                (true, _) => "ok".to_owned(),
                (false, _) => format!("{} FOUND", grouped(line.accounted() as usize)),
            };
            let mut cells = vec![topic.to_owned(), line.table.to_string()];
            let counts = [line.produced, line.in_table, line.late, line.quarantined, line.deduplicated, line.violating, line.waiting()];
            cells.extend(counts.map(|count| grouped(count as usize)));
            cells.push(verdict);
            rows.push(cells.into_iter().map(Cell::Text).collect::<Vec<_>>());
        }
        // What holds for no table says nothing: of late rows on, only what there is.
        let counted = |at: usize| rows.iter().any(|row: &Vec<Cell>| !matches!(&row[at], Cell::Text(text) if text == "0"));
        let kept: Vec<usize> = (0..columns.len()).filter(|&at| !(4..9).contains(&at) || counted(at)).collect();
        let without_topic = || {
            let (columns, rows) = picked(&columns, &rows, &kept[1..]);
            terminal.fit(&columns, &rows)
        };
        let (columns, rows) = picked(&columns, &rows, &kept);
        let wide =
            || Layout::fit(&columns, &rows, &style).map(|layout| layout.head(&columns, &style) + &layout.rows(&columns, &rows, &style));
        let table = terminal.fit(&columns, &rows).or_else(without_topic).or_else(wide).unwrap_or_default();
        let verdict = if self.holds() {
            paint(
                "reconciled: every row produced is in a table, late, quarantined, a duplicate,\nin violation of a constraint, or waiting for the watermark",
                "1;32",
                color,
            )
        } else {
            paint("NOT reconciled: not as many rows were found as produced", "1;31", color)
        };
        format!("{table}\n{verdict}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind) -> Line {
        Line {
            topic: "rides".to_owned(),
            table: "silver.rides".parse().unwrap(),
            produced: 100,
            rows_in: 100,
            in_table: 86,
            late: 3,
            quarantined: 5,
            deduplicated: 2,
            violating: 4,
            kind,
        }
    }

    #[test]
    fn a_missing_row_is_noticed() {
        assert!(Account { lines: vec![line(Kind::Kept), line(Kind::KeptLater), line(Kind::Summed)] }.holds());
        assert!(!Account { lines: vec![Line { in_table: 85, ..line(Kind::Kept) }] }.holds());
        assert!(!Account { lines: vec![Line { in_table: 87, ..line(Kind::Kept) }] }.holds());
        assert!(!Account { lines: vec![Line { violating: 3, ..line(Kind::Kept) }] }.holds());
        assert!(!Account { lines: vec![Line { rows_in: 99, ..line(Kind::Summed) }] }.holds());
    }

    #[test]
    fn rows_may_wait_only_in_a_deduplication_and_never_be_too_many() {
        let waiting = Line { in_table: 76, ..line(Kind::KeptLater) };
        assert_eq!((waiting.waiting(), waiting.holds()), (10, true));
        assert!(!Line { in_table: 87, ..line(Kind::KeptLater) }.holds());
    }

    #[tokio::test]
    async fn late_rows_that_are_dropped_are_looked_for_in_no_table() {
        let text = "CREATE SOURCE rides (id VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 second') \
                    WITH (connector = 'kafka', topic = 'rides', format = 'json'); \
                    CREATE STREAMING TABLE silver.rides WITH (late_rows = 'drop') AS \
                    SELECT id FROM DEDUPLICATE(TABLE rides PARTITION BY id, DESCRIPTOR(at), INTERVAL '1 minute');";
        let project = Project::parse([text]).unwrap();
        let warehouse = Warehouse::open("memory://", &std::collections::HashMap::new()).await.unwrap();
        watershed_stream::prepare(&warehouse, &project).await.unwrap();
        let session = Session::new(warehouse.clone()).unwrap();
        let produced = Produced { by_source: [("rides".to_owned(), ("rides".to_owned(), 0))].into() };
        let account = account(&session, &warehouse, &project, &produced).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(account.holds() && account.lines.len() == 1);
    }

    #[tokio::test]
    async fn queries_are_told_apart_by_what_they_do_with_rows() {
        let source = "CREATE SOURCE rides (id VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 second') \
                      WITH (connector = 'kafka', topic = 'rides', format = 'json');";
        let window =
            "SELECT window_start, count(*) AS n FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start";
        let over = "SELECT id, count(*) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS n FROM rides";
        let queries = [
            (over, Kind::KeptLater),
            ("SELECT *, upper(id) AS big FROM rides", Kind::Kept),
            ("SELECT id FROM DEDUPLICATE(TABLE rides PARTITION BY id, DESCRIPTOR(at), INTERVAL '1 minute')", Kind::KeptLater),
            ("SELECT id FROM rides WHERE id <> 'x'", Kind::Summed),
            ("SELECT id FROM rides UNION ALL SELECT id FROM trips", Kind::Kept),
            ("SELECT id FROM rides UNION ALL SELECT upper(id) FROM rides", Kind::Summed),
            (window, Kind::Summed),
        ];
        for (query, expected) in queries {
            let other = source.replace("rides", "trips");
            let text = format!("{source} {other} CREATE STREAMING TABLE silver.x AS {query};");
            let project = Project::parse([text.as_str()]).unwrap();
            let table = project.tables.values().next().unwrap();
            assert_eq!(kind(&project, table).await.unwrap(), expected, "{query}");
        }
    }
}

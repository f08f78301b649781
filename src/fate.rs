//! What becomes of the rows and the state of a streaming table whose definition changes: the pipeline carries on from them, or they are dropped and
//! it is rebuilt. Decided by the specs of its plans (`stream/src/spec/difference.rs`), never by texts.

use watershed_dialect::{Connector, Expectation, Format, SourceDefinition, StreamingTableDefinition, same_sql};
use watershed_ingest::folder_of;
use watershed_lake::TableName;
use watershed_stream::{Blueprint, Change, change};

use crate::changes::InForce;
use crate::project::Checked;

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing differs but, at most, blanks and comments.
    Same,
    /// Its rows and state stay.
    CarriesOn {
        /// What changes.
        what: String,
        /// The columns that its tables get.
        columns: Vec<String>,
    },
    /// Its rows and state are not what the new definition would have made, because of this.
    Rebuilds(String),
}

/// What becomes of a table that stays defined, or that is defined again over the rows and state that it left. `before` is its plan in force.
pub fn of(
    name: &TableName,
    known: &StreamingTableDefinition,
    before: Option<&Blueprint>,
    table: &StreamingTableDefinition,
    old: &InForce,
    new: &Checked,
) -> Fate {
    let Some((before, after)) = before.zip(new.blueprints.get(name)) else {
        return Fate::Rebuilds("this version cannot plan its old query".to_owned());
    };
    let columns = match change(&before.spec, &after.spec) {
        Change::Rebuild(why) => return Fate::Rebuilds(why),
        Change::Columns(columns) => columns,
        Change::Nothing => Vec::new(),
    };
    for (before, after) in before.sources.iter().zip(&after.sources) {
        let (was, is) = (place_of(&before.definition), place_of(&after.definition));
        if was != is && old.started.contains(name) {
            return Fate::Rebuilds(format!("its source reads {is}, and what it has was read from {was}"));
        }
    }
    if known.partitioned_by != table.partitioned_by {
        return Fate::Rebuilds("its partitioning changes".to_owned());
    }
    let edited = !same_sql(&known.query, &table.query);
    if (edited || !columns.is_empty()) && old.unfit.contains(name) {
        let way_out = "once its pipeline has run by this version under the definition in force, it carries on";
        return Fate::Rebuilds(format!("its state is of an older version, which tells too little of it; {way_out}"));
    }
    let mut what = Vec::new();
    match columns.as_slice() {
        [] if edited => what.push("its query is written otherwise and means the same".to_owned()),
        [] => {}
        [one] => what.push(format!("column {one} is new, and NULL in the rows that are there")),
        several => what.push(format!("columns {} are new, and NULL in the rows that are there", several.join(", "))),
    }
    if !same_expectations(&known.expectations, &table.expectations) {
        what.push("new rows are held to other constraints".to_owned());
    }
    let settings = |table: &StreamingTableDefinition| (table.commit_interval, table.late_rows, table.max_ahead);
    if settings(known) != settings(table) {
        what.push("settings change".to_owned());
    }
    if what.is_empty() { Fate::Same } else { Fate::CarriesOn { what: what.join("; "), columns } }
}

/// What positions in a source mean, in words: where its rows are, and of files how they are told apart.
fn place_of(source: &SourceDefinition) -> String {
    let (path, suffix) = match &source.connector {
        Connector::Kafka { topic, .. } => return format!("topic '{topic}'"),
        Connector::Files { path, suffix, .. } => (path, suffix),
    };
    let format = match &source.format {
        Format::Json => "JSON".to_owned(),
        Format::Parquet => "Parquet".to_owned(),
        Format::Csv { delimiter, header } => {
            let header = if *header { "with" } else { "without" };
            format!("CSV {header} a header, '{}' between fields", delimiter.escape_ascii())
        }
    };
    format!("the files '*{suffix}' of '{}' ({format})", folder_of(path))
}

/// Whether rows are held to the same expectations.
pub fn same_expectations(one: &[Expectation], other: &[Expectation]) -> bool {
    let same = |(one, other): (&Expectation, &Expectation)| {
        one.name == other.name && one.action == other.action && same_sql(&one.predicate, &other.predicate)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::changes::{between, plans, render};
    use crate::project::{SqlFile, check};

    const SOURCE: &str =
        "CREATE SOURCE rides (city VARCHAR, at TIMESTAMP NOT NULL, fare BIGINT, WATERMARK FOR at AS at - INTERVAL '1 second')
        WITH (connector = 'kafka', topic = 'rides', format = 'json');";
    const PLAIN: &str = "CREATE STREAMING TABLE silver.a AS SELECT city FROM rides;";
    const SUMS: &str = "CREATE STREAMING TABLE gold.a AS SELECT window_start, city, sum(fare) AS fares
        FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end, city;";

    async fn checked(text: &str) -> Checked {
        let text = if text.contains("CREATE SOURCE") { text.to_owned() } else { format!("{SOURCE}\n{text}") };
        check(&[SqlFile { name: "x.sql".to_owned(), text }]).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn shown(old: &str, new: &str, unfit: &BTreeSet<TableName>, rebuild: bool, held: &[&str]) -> String {
        let (project, new) = (checked(old).await.project, checked(new).await);
        let (plans, started) = (plans(&project).await, project.tables.keys().cloned().collect());
        let left = BTreeMap::new();
        let in_force = InForce { project: &project, plans: &plans, started: &started, left: &left, unfit };
        let held = held.iter().map(|name| ((*name).to_owned(), format!("{name} is held by process 7"))).collect();
        render(&between(&in_force, &new), rebuild, &held, false)
    }

    async fn says(old: &str, new: &str) -> String {
        shown(old, new, &BTreeSet::new(), false, &[]).await
    }

    #[tokio::test]
    async fn what_carries_on_says_what_changes() {
        let stay = "rows and state stay)\n";
        let table = |name: &str, what: &str| format!("  ~ streaming table {name}  (carries on: {what}; {stay}");
        let wider = PLAIN.replace("city FROM", "city, fare, 'x' AS tag FROM");
        assert_eq!(says(PLAIN, &wider).await, table("silver.a", "columns fare, tag are new, and NULL in the rows that are there"));
        let twice = SUMS.replace("AS fares", "AS fares, sum(fare) * 2 AS twice");
        assert_eq!(says(SUMS, &twice).await, table("gold.a", "column twice is new, and NULL in the rows that are there"));
        let held_to = PLAIN.replace(" AS SELECT", " (CONSTRAINT c EXPECT (city <> '')) AS SELECT");
        assert_eq!(says(PLAIN, &held_to).await, table("silver.a", "new rows are held to other constraints"));
        let faster = PLAIN.replace(" AS SELECT", " WITH (commit_interval = '1 second') AS SELECT");
        assert_eq!(says(PLAIN, &faster).await, table("silver.a", "settings change"));
        let alias = PLAIN.replace("city FROM rides", "r.city FROM rides AS r");
        assert_eq!(says(PLAIN, &alias).await, table("silver.a", "its query is written otherwise and means the same"));
        assert_eq!(says(PLAIN, &PLAIN.replace("city FROM", " city /* the city */ FROM")).await, "");
        let all = held_to.replace("SELECT city", "SELECT city, fare");
        let both = "column fare is new, and NULL in the rows that are there; new rows are held to other constraints";
        assert_eq!(says(PLAIN, &all).await, table("silver.a", both));
    }

    #[tokio::test]
    async fn sinks_and_sources_say_that_their_pipelines_carry_on() {
        let sink = format!("{PLAIN} CREATE SINK out TO KAFKA (topic = 't') AS SELECT * FROM STREAM(silver.a);");
        assert_eq!(says(PLAIN, &sink).await, "  + sink out  (for rows emitted from now on; silver.a carries on)\n");
        let said = says(&sink, &sink.replace("city FROM", "city, fare FROM")).await;
        assert!(said.ends_with("  ~ sink out  (its messages get fare, for rows emitted from now on; silver.a carries on)\n"), "{said}");
        let idle = format!("{}{PLAIN}{SUMS}", SOURCE.replace("format =", "idle_timeout = '3 seconds', format ="));
        assert_eq!(says(&format!("{PLAIN}{SUMS}"), &idle).await, "  ~ source rides  (carries on: gold.a, silver.a)\n");
    }

    #[tokio::test]
    async fn what_does_not_carry_on_is_refused_or_rebuilt_and_says_why() {
        let counted = SUMS.replace("AS fares", "AS fares, count(*) AS n");
        let why = "count(1) is new, and windows that are open have not computed it from their beginning";
        let loss = "rows and state are dropped, the source is read again from its start";
        let (line, none) = (|said: &str| format!("  ~ streaming table gold.a  ({said})\n"), BTreeSet::new());
        assert_eq!(says(SUMS, &counted).await, line(&format!("refused: {why}; with --rebuild {loss}")));
        assert_eq!(shown(SUMS, &counted, &none, true, &[]).await, line(&format!("rebuilds: {why}; {loss}")));
        let said = shown(SUMS, &counted, &none, true, &["gold.a"]).await;
        assert_eq!(said, line(&format!("refused: gold.a is held by process 7; to be rebuilt since {why}")));
        // State that says too little of itself.
        let (twice, unfit) = (SUMS.replace("AS fares", "AS fares, sum(fare) * 2 AS twice"), [name("gold.a")].into());
        let said = shown(SUMS, &twice, &unfit, false, &[]).await;
        assert!(
            said.contains("(refused: its state is of an older version, which tells too little of it; once its pipeline has run"),
            "{said}"
        );
        assert_eq!(shown(SUMS, SUMS, &unfit, false, &[]).await, "", "nothing was edited");
    }

    fn name(text: &str) -> TableName {
        text.parse().unwrap()
    }
}

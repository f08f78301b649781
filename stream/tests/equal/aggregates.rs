//! Every aggregate that planning accepts gets through its windows.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use watershed_dialect::{SourceTable, plan_streaming, session_config, session_state};
use watershed_stream::{Project, StreamError};

use crate::topic::Topic;

const SOURCE: &str = "CREATE SOURCE s (c BIGINT, s VARCHAR, b BOOLEAN, f DOUBLE, d DECIMAL(10, 2), t TIMESTAMP NOT NULL,
    WATERMARK FOR t AS t - INTERVAL '1 second') WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days');";

const MESSAGES: [&str; 4] = [
    r#"{"c":1,"s":"x","b":true,"f":0.5,"d":"1.50","t":"2024-06-01T10:00:01Z"}"#,
    r#"{"c":2,"s":"y","b":false,"f":1.5,"d":"2.50","t":"2024-06-01T10:00:02Z"}"#,
    r#"{"t":"2024-06-01T10:00:03Z"}"#,
    r#"{"c":3,"s":"z","t":"2024-06-01T11:00:00Z"}"#,
];

/// A value of each type that columns have.
const VALUES: [&str; 15] = [
    "c",
    "s",
    "b",
    "f",
    "d",
    "t",
    "CAST(c AS TINYINT)",
    "CAST(c AS INT)",
    "CAST(f AS REAL)",
    "CAST(t AS DATE)",
    "arrow_cast(s, 'Binary')",
    "[c]",
    "named_struct('c', c)",
    "NULL",
    "INTERVAL '1 day'",
];

fn query(columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().enumerate().map(|(at, call)| format!("{call} AS a{at}")).collect();
    let window = "FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end";
    format!("SELECT {} {window}", columns.join(", "))
}

fn definition(columns: &[String]) -> String {
    format!("{SOURCE}\nCREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS {};", query(columns))
}

fn state() -> SessionState {
    let ctx = SessionContext::new_with_state(session_state(session_config(), None));
    let project = Project::parse([SOURCE]).expect("a source");
    ctx.register_table("s", Arc::new(SourceTable::new(project.sources["s"].clone()))).expect("registered");
    ctx.state()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_is_refused_while_planning_or_gets_through_its_window() {
    let state = state();
    let mut names: Vec<&String> = state.aggregate_functions().keys().collect();
    names.sort();
    let one = |name: &str, value: &str| [format!("{name}({value})"), format!("{name}(DISTINCT {value})")];
    let two = |name: &str, value: &str| ["0.5", "c", "','", "c, 0.5"].map(|more| format!("{name}({value}, {more})"));
    let mut calls: Vec<String> = Vec::new();
    for name in names {
        calls.extend(VALUES.iter().flat_map(|value| one(name, value)));
        calls.extend(["c", "s", "f", "d"].iter().flat_map(|value| two(name, value)));
    }
    let (mut accepted, mut refused) = (Vec::new(), BTreeSet::new());
    for call in calls {
        match plan_streaming(&state, &query(std::slice::from_ref(&call))).await {
            Ok(_) => accepted.push(call),
            Err(error) if error.message.ends_with("cannot be computed") => drop(refused.insert(call)),
            Err(_) => {}
        }
    }
    for call in ["approx_distinct(f)", "approx_distinct(CAST(f AS REAL))", "bit_xor(DISTINCT c)"] {
        assert!(refused.contains(call), "{call} is accepted; refused: {refused:?}");
    }
    for call in ["approx_distinct(c)", "bit_xor(c)", "bit_and(DISTINCT c)", "count(DISTINCT f)", "sum(d)", "min(s)", "string_agg(s, ',')"] {
        assert!(accepted.iter().any(|known| known == call), "{call} is refused");
    }
    assert!(accepted.len() > 200, "{}", accepted.len());
    for calls in accepted.chunks(100) {
        let topic = Topic::new();
        topic.send(&MESSAGES);
        topic.run(&definition(calls), true).await.unwrap_or_else(|error| panic!("{error}\n{calls:?}"));
        assert_eq!(topic.rows("gold.x", "SELECT count(*) FROM t").await, ["2"], "{calls:?}");
    }
}

#[tokio::test]
async fn an_aggregate_that_cannot_be_computed_is_named_at_its_place_with_a_way_out() {
    for (call, said, way_out) in [
        ("approx_distinct(f)", "approx_distinct() of DOUBLE cannot be computed", "count(DISTINCT …) takes values of all types"),
        ("bit_xor(DISTINCT c)", "bit_xor() of DISTINCT BIGINT cannot be computed", "leave DISTINCT out"),
        ("count(DISTINCT c, s)", "count(DISTINCT …) of several columns is not supported", "count(DISTINCT (a, b))"),
    ] {
        let project = Project::parse([definition(&[call.to_owned()]).as_str()]).expect("definitions");
        let table = project.tables.values().next().expect("a table");
        let Err(StreamError::Sql(error)) = project.plan(table).await else { panic!("{call} is accepted") };
        assert!(error.message.contains(said), "{call}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(way_out), "{call}: {error}");
        let column = table.query.find(call.split('(').next().expect("a name")).expect("it is there") as u64 + 1;
        let distinct = table.query.find("DISTINCT").map(|at| at as u64 + 1);
        assert!(error.line == Some(1) && (error.column == Some(column) || error.column == distinct), "{call}: {error}");
    }
}

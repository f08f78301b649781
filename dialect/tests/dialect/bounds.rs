//! However a statement grows: it is answered, or refused with the limit that it passed, in little time. An overflow of the stack ends the tests.

use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;
use watershed_dialect::{SqlError, StatementKind, deep, parse, plan_expectation, plan_materialized_view, plan_streaming, plan_text};

use crate::grown::{EXPRESSIONS, Grown, STATEMENTS};
use crate::shared::{session, with_rows};

/// How long one statement may take, whatever it is. At the limits it is 5 s on a machine with nothing else to do.
const LONGEST: Duration = Duration::from_secs(60);

const SIZES: &[usize] = &[10, 250, 1_000, 10_000, 100_000];
/// For statements whose query is parsed as that of another, which grows in all sizes.
const SIZES_AGAIN: &[usize] = &[10, 1_000, 100_000];

/// What one statement came to: no error at a small size, then one that names a limit.
async fn grow(of: &[Grown], sizes: &[usize], text: impl Fn(String) -> String, run: impl AsyncFn(&str) -> Result<(), String>) {
    let mut slow = Vec::new();
    for (name, production) in of {
        let mut worked = true;
        for &n in sizes {
            let text = text(production(n));
            let started = Instant::now();
            let said = run(&text).await;
            let took = started.elapsed();
            println!("{name} {n} {took:?} {}", said.as_ref().err().map_or("answered".to_owned(), |e| e.chars().take(150).collect()));
            if took > LONGEST {
                slow.push(format!("{name} × {n}: {took:?}"));
            }
            match said {
                Ok(()) => worked = true,
                Err(error) if n == sizes[0] => {
                    worked = false;
                    assert!(!error.is_empty(), "{name}");
                }
                Err(error) if worked => assert!(error.contains("limit"), "{name} × {n}: {error}"),
                Err(_) => {}
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

fn told(error: SqlError) -> String {
    error.to_string()
}

async fn query(ctx: &SessionContext, text: &str) -> Result<(), String> {
    let statements = parse(text).map_err(told)?;
    if statements.len() != 1 {
        return Ok(());
    }
    let plan = plan_text(ctx, text).await.map_err(told)?;
    let physical = deep(async {
        let plan = ctx.state().optimize(&plan)?;
        ctx.state().create_physical_plan(&plan).await
    });
    physical.await.map(drop).map_err(|e| e.strip_backtrace())
}

#[tokio::test]
async fn expressions_of_queries() {
    let ctx = session();
    grow(EXPRESSIONS, SIZES, |expression| format!("SELECT {expression} AS v"), async |text| query(&ctx, text).await).await;
}

#[tokio::test]
async fn conditions_over_columns() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1), (Some("b"), Some(1), 2), (None, None, 3)]);
    let conditions: &[Grown] = &[
        ("v = 1 OR v = 2 …", |n| (0..n).map(|i| format!("v = {i}")).collect::<Vec<_>>().join(" OR ")),
        ("v <> 1 AND v <> 2 …", |n| (0..n).map(|i| format!("v <> {i}")).collect::<Vec<_>>().join(" AND ")),
        ("k LIKE … OR …", |n| (0..n).map(|i| format!("k LIKE '%{i}%'")).collect::<Vec<_>>().join(" OR ")),
        ("pairs", |n| (0..n).map(|i| format!("(v = {i} AND k = 'k{i}')")).collect::<Vec<_>>().join(" OR ")),
        ("IN", |n| format!("v IN ({})", (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(", "))),
        ("IN of texts", |n| format!("k IN ({})", (0..n).map(|i| format!("'key number {i}'")).collect::<Vec<_>>().join(", "))),
        ("v + v …", |n| format!("{} > 0", vec!["v"; n].join(" + "))),
        ("k || k …", |n| format!("{} > ''", vec!["k"; n].join(" || "))),
        ("CASE", |n| format!("CASE {} END = 1", (0..n).map(|i| format!("WHEN v = {i} THEN {i}")).collect::<Vec<_>>().join(" "))),
    ];
    grow(conditions, SIZES, |condition| format!("SELECT k FROM t WHERE {condition}"), async |text| query(&ctx, text).await).await;
}

#[tokio::test]
async fn statements() {
    let ctx = session();
    grow(STATEMENTS, SIZES, |statement| statement, async |text| query(&ctx, text).await).await;
}

/// The same grammar is used in definitions.
#[tokio::test]
async fn definitions() {
    let ctx = session();
    let define = async |text: &str| -> Result<(), String> {
        for statement in parse(text).map_err(told)? {
            match statement.kind {
                StatementKind::CreateStreamingTable(table) => {
                    let plan = plan_streaming(&ctx.state(), &table.query).await.map_err(told)?;
                    for expectation in &table.expectations {
                        plan_expectation(&ctx.state(), expectation, plan.schema().as_arrow()).map_err(told)?;
                    }
                }
                StatementKind::CreateMaterializedView(view) => {
                    plan_materialized_view(&ctx.state(), &view).await.map_err(told)?;
                }
                StatementKind::CreateSource(_) | StatementKind::CreatePanel(_) | StatementKind::CreateSink(_) => {}
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    };
    let streaming = |expression| format!("CREATE STREAMING TABLE silver.x AS SELECT ride_id, {expression} AS v FROM rides");
    grow(EXPRESSIONS, SIZES, streaming, define).await;
    let expected = |e| format!("CREATE STREAMING TABLE silver.x (CONSTRAINT c EXPECT ({e} IS NOT NULL)) AS SELECT ride_id FROM rides");
    grow(EXPRESSIONS, SIZES_AGAIN, expected, define).await;
    grow(EXPRESSIONS, SIZES_AGAIN, |e| format!("CREATE SINK s WITH (topic = 't') AS SELECT {e} AS v FROM STREAM(silver.x)"), define).await;
    grow(EXPRESSIONS, SIZES_AGAIN, |e| format!("CREATE PANEL p AS SELECT {e} AS v"), define).await;
    grow(STATEMENTS, SIZES, |statement| format!("CREATE MATERIALIZED VIEW gold.x AS {statement}"), define).await;
    let columns: &[Grown] = &[
        ("columns of a source", |n| (0..n).map(|i| format!("c{i} INT")).collect::<Vec<_>>().join(", ")),
        ("lists", |n| format!("c INT{}", "[]".repeat(n))),
        ("LIST<…>", |n| format!("c {}INT{}", "LIST<".repeat(n), ">".repeat(n))),
        ("STRUCT<…>", |n| format!("c {}INT{}", "STRUCT<a ".repeat(n), ">".repeat(n))),
        ("ROW(…)", |n| format!("c {}INT{}", "ROW(a ".repeat(n), ")".repeat(n))),
    ];
    grow(columns, SIZES, |columns| format!("CREATE SOURCE s ({columns}) WITH (topic = 't')"), define).await;
}

#[test]
fn what_nests_too_deeply_is_told_so() {
    for text in ["CASE WHEN 1=1 THEN ", "NOT ", "- ", "(", "abs(", "[", "INTERVAL ", "EXPLAIN ", "CAST(CASE WHEN "] {
        let text = if text == "EXPLAIN " { text.repeat(100) } else { format!("SELECT {}1", text.repeat(100)) };
        let error = parse(&text).unwrap_err();
        assert!(error.message.starts_with("the statement is nested too deeply: 48 levels are the limit"), "{text}: {error}");
    }
}

#[test]
fn a_chain_of_any_operator_has_a_limit_and_those_of_and_and_or_have_none() {
    for operator in ["+", "||", "=", "LIKE", "IS DISTINCT FROM", "&"] {
        let text = |n: usize| format!("SELECT {}", vec!["a"; n + 1].join(&format!(" {operator} ")));
        parse(&text(500)).unwrap_or_else(|e| panic!("{operator}: {e}"));
        let error = parse(&text(501)).unwrap_err();
        assert_eq!(error.message, "the expression has too many operators in a row: 500 are the limit", "{operator}");
    }
    for operator in ["AND", "OR"] {
        let text = format!("SELECT {}", vec!["a = 1"; 16_000].join(&format!(" {operator} ")));
        parse(&text).unwrap_or_else(|e| panic!("{operator}: {e}"));
    }
}

//! Scalar functions in batch and in streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::FieldRef;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use watershed_dialect::{deep, plan_streaming, plan_text};
use watershed_functions::is_guarded;

use crate::shared::{lines, rows, session};
use crate::small_tables::cells;

#[tokio::test]
async fn cells_and_distances_of_columns_and_constants() {
    let ctx = session();
    // At 2 decimals, so that the last digits of a sine do not matter.
    let query = "SELECT s2_cell(lat, lon, 12), s2_cell(lat, lon, level), round(distance_m(lat, lon, 0, 0) * 100) / 100
                 FROM (VALUES (49.703498679, 11.770681595, 2), (0.0, 0.0, 0), (NULL, 1.0, 3), (91.0, 1.0, 3), (0.0, 1.0, 31)) AS t (lat, lon, level)";
    let found = lines(&ctx, query).await;
    assert_eq!(found[0].split(' ').take(2).collect::<Vec<_>>(), ["47a1cbd", "47"]);
    assert_eq!(found[1], "1000001 1 0.0");
    // NULL, no place on Earth, no such level: nothing, and no failure.
    assert_eq!(found[2], "");
    assert_eq!(found[3], "");
    assert_eq!(found[4].split(' ').count(), 2, "{}", found[4]);
    // Whole numbers, decimals and constants will do.
    let query = "SELECT s2_cell(1, CAST(2 AS DECIMAL(5, 2)), 0), distance_m(0, 0, 0, 0), s2_cell(NULL, 1, 3) IS NULL";
    assert_eq!(lines(&ctx, query).await, ["1 0.0 true"]);
}

#[tokio::test]
async fn a_level_that_does_not_exist_is_refused_at_its_place() {
    let ctx = session();
    let query = "SELECT city, s2_cell(1.0, 2.0, 31) FROM rides";
    let error = rows(&ctx, query).await.unwrap_err();
    assert!(error.message.contains("no level 31"), "{error}");
    assert_eq!((error.line, error.column), (Some(1), Some(14)), "{error}");
    let error = rows(&ctx, "SELECT distance_m('a', 2, 3) FROM rides").await.unwrap_err();
    assert!(error.message.starts_with("distance_m() does not take"), "{error}");
}

#[tokio::test]
async fn streams_may_call_them() {
    let ctx = session();
    let query = "SELECT s2_cell(pickup['lat'], pickup['lon'], 12) AS cell, window_start, count(*) AS rides
                 FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute')
                 GROUP BY s2_cell(pickup['lat'], pickup['lon'], 12), window_start";
    plan_streaming(&ctx.state(), query).await.unwrap_or_else(|e| panic!("{}", e.render(query, None)));
}

async fn failure(ctx: &SessionContext, query: &str) -> String {
    computed(ctx, query).await.expect_err(query)
}

#[tokio::test]
async fn what_would_make_a_huge_value_is_refused_before_it_is_made() {
    let ctx = session();
    for (expression, name) in [
        ("repeat('x', 600000000)", "repeat"),
        ("repeat(s, n)", "repeat"),
        ("lpad('x', 500000000, 'y')", "lpad"),
        ("rpad(s, CAST(n AS INT))", "rpad"),
        ("array_length(range(0, 100000000))", "range"),
        ("array_length(range(0, 1099511627776))", "range"),
        ("array_length(range(n))", "range"),
        ("range(TIMESTAMP '2000-01-01', TIMESTAMP '2024-01-01', INTERVAL '1 second')", "range"),
        ("array_length(generate_series(100000000, 0, -1))", "generate_series"),
        ("array_length(generate_series(-9223372036854775807, 9223372036854775807))", "generate_series"),
        ("array_length(array_repeat(1, 100000000))", "array_repeat"),
        ("array_length(array_repeat(s, n))", "array_repeat"),
        ("array_length(array_resize([1], 100000000, 0))", "array_resize"),
        ("length(concat(repeat('x', 60000000), repeat('y', 60000000)))", "concat"),
        ("length(replace(repeat('x', 100000), 'x', repeat('y', 1000)))", "replace"),
        ("length(array_to_string(range(0, 8000000), repeat('x', 100)))", "array_to_string"),
        ("length(concat_ws(repeat('x', 40000000), 'a', 'b', 'c'))", "concat_ws"),
        ("length(regexp_replace(repeat('x', 100000), 'x', repeat('y', 1000), 'g'))", "regexp_replace"),
        ("length(regexp_replace(repeat('x', 50000000), 'x+', '$0$0', 'g'))", "regexp_replace"),
        ("length(encode(repeat('x', 40000000), 'hex'))", "encode"),
        ("array_length(array_concat(range(0, 5000000), range(0, 5000000)))", "array_concat"),
        ("array_length(range(0, 5000000) || range(0, 5000000))", "array_concat"),
        ("array_length(array_append([repeat(s, 40000000)], repeat(s, 40000000)))", "array_append"),
        ("array_length([repeat(s, 40000000), repeat(s, 40000000)])", "make_array"),
        ("array_length(string_to_array(repeat('x,', 10000000), ','))", "string_to_array"),
        ("array_length(array_resize([s], 100000, repeat('x', 1000)))", "array_resize"),
        ("array_length(arrays_zip(range(0, 4000000), [1], [1], [1]))", "arrays_zip"),
        ("array_length(array_replace_all(array_repeat(s, 100000), 'x', repeat('y', 1000)))", "array_replace_all"),
        ("length(lpad('x', 20000000, 'üü'))", "lpad"),
        ("length(to_char(TIMESTAMP '2024-01-01', repeat('%A', 4000000)))", "to_char"),
        ("length(translate(repeat('x', 20000000), 'x', '😀'))", "translate"),
        ("length(overlay(repeat('x', 40000000) PLACING repeat('y', 40000000) FROM 2))", "overlay"),
    ] {
        let query = format!("SELECT {expression} FROM (VALUES ('x', 600000000)) t(s, n)");
        let error = failure(&ctx, &query).await;
        assert!(error.contains(&format!("{name}() would make a value of ")) && error.contains("64 MiB are the limit"), "{query}: {error}");
    }
    for query in [
        "WITH RECURSIVE d AS (SELECT CAST('x' AS VARCHAR) AS s, 1 AS n UNION ALL SELECT s || s, n + 1 FROM d WHERE n < 60) SELECT max(length(s)) FROM d",
        "SELECT length(repeat('x', 60000000) || repeat('y', 60000000))",
        "SELECT length(s || repeat('y', 60000000)) FROM (SELECT repeat('x', n) AS s FROM (VALUES (50000000)) t(n))",
    ] {
        let error = failure(&ctx, query).await;
        assert!(error.contains("|| would make a value of ") && error.contains("64 MiB are the limit"), "{query}: {error}");
    }
    let query = "SELECT 'a' || s || NULL IS NULL AS n, 'a' || s || 'ü' AS v, s || s AS w FROM (VALUES ('x'), (NULL), ('')) t(s) ORDER BY s";
    assert_eq!(lines(&ctx, query).await, ["true aü", "true axü xx", "true"]);
    assert_eq!(rows(&ctx, "SELECT s || 'b' FROM (VALUES ('x')) t(s)").await.unwrap().lines().nth(1), Some("| s || 'b' |"));
    let query = "SELECT length(string_agg(s, repeat(',', 30000))) FROM (SELECT 'x' AS s FROM generate_series(1, 5000))";
    let error = failure(&ctx, query).await;
    assert!(error.contains("string_agg() would make a value of "), "{error}");
    let query = "SELECT string_agg(s, ', ' ORDER BY s), string_agg(DISTINCT s, '-' ORDER BY s), string_agg(s, '') FROM (VALUES ('b'), ('a'), (NULL), ('a')) t(s)";
    assert_eq!(lines(&ctx, query).await, ["a, a, b a-b baa"]);
    let query = "SELECT g, string_agg(s, '+') FROM (VALUES (1, 'a'), (2, 'b'), (1, 'c')) t(g, s) GROUP BY g ORDER BY g";
    assert_eq!(lines(&ctx, query).await, ["1 a+c", "2 b"]);
    // Of few places what they become may be long.
    let query = "SELECT length(regexp_replace(repeat('xy', 1000000) || 'z', 'z', repeat('y', 1000), 'g')), length(replace(repeat('xy', 1000000), 'z', repeat('y', 1000)))";
    assert_eq!(lines(&ctx, query).await, ["2001000 2000000"]);
    // A constant is in each row.
    let error = failure(&ctx, "SELECT repeat('x', 1000000) AS s FROM generate_series(1, 5000)").await;
    assert!(error.contains("repeat() would make 5000 values of 5000000000 bytes"), "{error}");
    // Many that are big together.
    let query = "SELECT length(repeat('x', CAST(60000000 + n AS BIGINT))) FROM (VALUES (1), (2), (3), (4), (5)) t(n)";
    let error = failure(&ctx, query).await;
    assert!(error.contains("repeat() would make 5 values of 300000015 bytes, and 256 MiB are the limit"), "{error}");
    let query = "SELECT length(repeat('xy', 1000)), lpad('1', 3, '0'), range(3), generate_series(3, 1, -1), array_repeat('a', 2), repeat(NULL, 3) IS NULL,
                        range(DATE '2024-01-01', DATE '2024-01-03', INTERVAL '1 day')[2], concat('a', NULL, 'b'), replace('aXa', 'X', 'b'),
                        array_resize([1], 2, 0), repeat('a', -1)";
    assert_eq!(lines(&ctx, query).await, ["2000 001 [0, 1, 2] [3, 2, 1] [a, a] true 2024-01-02 ab aba [1, 0]"]);
    let query = "SELECT array_to_string([1, NULL, 3], '-', '*'), concat_ws(',', 'a', NULL, 'b'), regexp_replace('aXbX', 'X', '$0-', 'g'), encode('a', 'hex'),
                        array_concat([1], [2, 3]), [1] || [2], [1, n], string_to_array('a,b', ','), translate('abc', 'b', 'ü'),
                        regexp_match('ab', '(a)(b)'), levenshtein('kitten', 'sitting'), array_has_all([1, 2], [2]), array_has([n, 2], 1), to_char(DATE '2024-01-01', '%Y')
                 FROM (VALUES (1)) t(n)";
    assert_eq!(lines(&ctx, query).await, ["1-*-3 a,b aX-bX- 61 [1, 2, 3] [1, 2] [1, 1] [a, b] aüc [a, b] 3 true true 2024"]);
}

#[tokio::test]
async fn what_would_take_too_long_is_refused_before_it_begins() {
    let ctx = session();
    for query in [
        "SELECT levenshtein(repeat('a', 600000), repeat('b', 600000))",
        "SELECT levenshtein(repeat('a', n), repeat('b', n)) FROM (VALUES (70000)) t(n)",
        "SELECT array_has_all(range(0, 1000000), range(1000000, 0, -1))",
    ] {
        let error = failure(&ctx, query).await;
        assert!(error.contains(" would compare ") && error.contains("4000000000 are the limit"), "{query}: {error}");
    }
}

/// Calls every function with long and large arguments: one whose result is larger than those must be guarded.
#[tokio::test]
async fn every_function_that_grows_is_guarded() {
    let ctx = session();
    let (text, word, count) = ("repeat('a', 1000)", "'a'", "1000");
    let kinds = [text, word, count, "array_repeat('aaaaaaaa', 100)", "TIMESTAMP '2024-01-01'", "encode('aaaa', 'hex')::BYTEA"];
    let texts = kinds.map(|kind| format!("SELECT {kind} AS x"));
    let mut arguments = vec![];
    for text in &texts {
        let batches = computed(&ctx, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        arguments.push((batches[0].schema().field(0).clone(), size(&batches)));
    }
    let functions: BTreeMap<String, Arc<ScalarUDF>> =
        ctx.state().scalar_functions().values().map(|function| (function.name().to_owned(), Arc::clone(function))).collect();
    let (mut calls, mut grown) = (0, BTreeSet::new());
    for (name, function) in &functions {
        for arity in 0..=3_u32 {
            for choice in 0..kinds.len().pow(arity) {
                let chosen: Vec<usize> = (0..arity).map(|place| choice / kinds.len().pow(place) % kinds.len()).collect();
                let fields: Vec<FieldRef> = chosen.iter().map(|kind| Arc::new(arguments[*kind].0.clone())).collect();
                if fields_with_udf(&fields, function.as_ref()).is_err() {
                    continue;
                }
                let given: Vec<&str> = chosen.iter().map(|kind| kinds[*kind]).collect();
                let Ok(made) = computed(&ctx, &format!("SELECT {name}({})", given.join(", "))).await else { continue };
                calls += 1;
                let given: usize = chosen.iter().map(|kind| arguments[*kind].1).sum();
                if size(&made) > 4 * given + 256 {
                    grown.insert(name.as_str());
                }
            }
        }
    }
    assert!(calls > 2_000, "{calls} calls");
    assert!(grown.contains("repeat") && grown.contains("range") && grown.len() > 8, "{grown:?}");
    let unguarded: Vec<_> = grown.into_iter().filter(|name| !is_guarded(&functions[*name])).collect();
    assert_eq!(unguarded, Vec::<&str>::new());
}

async fn computed(ctx: &SessionContext, query: &str) -> Result<Vec<RecordBatch>, String> {
    let plan = plan_text(ctx, query).await.map_err(|error| error.to_string())?;
    let frame = ctx.execute_logical_plan(plan).await.map_err(|error| error.to_string())?;
    // As a session plans.
    let (task, plan) = (Arc::new(frame.task_ctx()), deep(frame.create_physical_plan()).await);
    collect(plan.map_err(|error| error.to_string())?, task).await.map_err(|error| error.to_string())
}

fn size(batches: &[RecordBatch]) -> usize {
    batches.iter().flat_map(RecordBatch::columns).map(|column| column.to_data().get_slice_memory_size().unwrap()).sum()
}

#[tokio::test]
async fn a_list_has_what_it_has_however_it_is_written() {
    let ctx = session();
    let rows = "(VALUES (1, [1, NULL]), (NULL, [NULL, 2])) t(n, l)";
    for (query, right) in [
        (
            format!("SELECT array_has([n, 2], 7), array_has([1, NULL], 7), array_has(l, 7) FROM {rows} ORDER BY n"),
            vec!["false false false"; 2],
        ),
        (
            format!("SELECT array_has([n, 2], 2), array_has([1, NULL], 1), array_has([NULL, 2], n) FROM {rows} ORDER BY n"),
            vec!["true true false", "true true NULL"],
        ),
    ] {
        assert_eq!(cells(&ctx, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn bytes_are_counted() {
    let ctx = session();
    // Of a text `length` counts characters; of bytes that are no text there are none.
    let rows = "(VALUES ('5a00', 'ä'), ('ff', ''), (NULL, NULL)) t(h, s)";
    let query = format!("SELECT length(decode(h, 'hex')), octet_length(decode(h, 'hex')), length(s), octet_length(s) FROM {rows}");
    assert_eq!(cells(&ctx, &query).await, ["2 2 1 2", "1 1 0 0", "NULL NULL NULL NULL"]);
    let query = "SELECT length(X'FF00'), octet_length(X'FF00'), length(arrow_cast(X'FF00', 'BinaryView')), length(arrow_cast(X'FF', 'LargeBinary')), length(12345)";
    assert_eq!(cells(&ctx, query).await, ["2 2 2 1 5"]);
}

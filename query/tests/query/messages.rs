//! What a statement that fails says is for people: no debug text of a program, whatever fails.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use watershed_lake::{Commit, TableName, Warehouse};
use watershed_query::Session;

/// Each fails: while it is parsed, planned, optimised or run.
const FAILING: &str = "
SELECT x FROM t PIVOT (sum(n) FOR name IN ('a', 'b'))
SELECT * FROM t UNPIVOT (v FOR k IN (n, m))
SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY n ORDER BY m MEASURES a.n AS x PATTERN (a b) DEFINE a AS n > 1)
SELECT ('a').b FROM t
SELECT (n).b FROM t
SELECT (upper(name)).x.y FROM t
SELECT n.a.b.c.d.e FROM t
SELECT a.b.c.d.e.f FROM t
SET TIME ZONE 'Europe/Nowhere'
SET TIME ZONE LOCAL
SET (a, b) = (1, 2)
SET nothing.of.this = 1
RESET nothing.of.this
SHOW nothing
SELECT * FROM t TABLESAMPLE SYSTEM (10)
SELECT * FROM t ASOF JOIN u MATCH_CONDITION (t.n >= u.n) ON t.n = u.n
SELECT * FROM t CROSS APPLY (SELECT 1) x
SELECT * FROM t OUTER APPLY (SELECT 1) x
SELECT * FROM generate_series(TIMESTAMP '2024-01-01', 5, INTERVAL '1 hour')
SELECT * FROM generate_series('a')
SELECT * FROM range()
SELECT unnest(n) FROM t
SELECT unnest(name) FROM t
SELECT * FROM unnest(5)
SELECT * FROM unnest(l) WITH ORDINALITY
SELECT * FROM t, UNNEST(t.n) u(v)
SELECT list_filter(l, x -> x > 1) FROM t
SELECT [x FOR x IN l] FROM t
SELECT array_transform(l, x -> x + 1) FROM t
SELECT name LIKE 'a' ESCAPE 'ab' FROM t
SELECT name LIKE name ESCAPE '$' FROM t
SELECT name SIMILAR TO 'a' ESCAPE '$' FROM t
SELECT name RLIKE '[' FROM t
SELECT name ~ '(' FROM t
SELECT regexp_replace(name, '(', 'x') FROM t
SELECT n -> 'a' FROM t
SELECT name ->> 'a' FROM t
SELECT name @> 'a' FROM t
SELECT n ^ m FROM t WHERE name # 1
SELECT !n FROM t
SELECT n!! FROM t
SELECT @n FROM t
SELECT |/ n FROM t
SELECT CAST('x' AS JSON)
SELECT CAST('x' AS UUID)
SELECT CAST(n AS ENUM('a')) FROM t
SELECT CAST(n AS GEOMETRY) FROM t
SELECT 'x'::nothing
SELECT CAST('x' AS INT)
SELECT CAST('x' AS TIMESTAMP)
SELECT CAST('x' AS DATE)
SELECT CAST('1.5x' AS DECIMAL(10, 2))
SELECT CAST(name AS BIGINT) FROM t
SELECT CAST(name AS BOOLEAN) FROM t
SELECT CAST(99999 AS TINYINT)
SELECT CAST(n AS DECIMAL(99, 2)) FROM t
SELECT CAST(l AS BIGINT) FROM t
SELECT arrow_cast(n, 'Nothing') FROM t
SELECT 1 / 0
SELECT n / 0 FROM t
SELECT n % 0 FROM t
SELECT DATE '2024-13-45'
SELECT TIMESTAMP 'yesterday'
SELECT TIME 'noon'
SELECT INTERVAL 'many days'
SELECT INTERVAL '1' CENTURY
SELECT INTERVAL n DAY FROM t
SELECT INTERVAL '1-2' YEAR TO MONTH
SELECT INTERVAL '1 day' + 'x'
SELECT -'x'
SELECT -INTERVAL 'x'
SELECT NOT 'x' FROM t
SELECT NOT n FROM t
SELECT name + 1 FROM t
SELECT l + 1 FROM t
SELECT n + true FROM t
SELECT n AND name FROM t
SELECT n = l FROM t
SELECT l < 5 FROM t
SELECT n FROM t WHERE n
SELECT n FROM t WHERE name
SELECT n FROM t HAVING n > 1
SELECT n, sum(m) FROM t
SELECT sum(sum(n)) FROM t
SELECT sum(n) OVER (ORDER BY nothing) FROM t
SELECT n FROM t WHERE sum(n) > 1
SELECT n FROM t WHERE row_number() OVER () = 1
SELECT row_number() FROM t
SELECT upper(name) OVER () FROM t
SELECT sum(n) OVER (ROWS BETWEEN 1 FOLLOWING AND 1 PRECEDING) FROM t
SELECT sum(n) OVER (ORDER BY name RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t
SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN name PRECEDING AND CURRENT ROW) FROM t
SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t
SELECT lag(n, name) OVER (ORDER BY n) FROM t
SELECT ntile(0) OVER (ORDER BY n) FROM t
SELECT nth_value(n) OVER (ORDER BY n) FROM t
SELECT sum(n) FILTER (WHERE name) FROM t
SELECT sum(DISTINCT n ORDER BY m) FROM t
SELECT count(DISTINCT n, m) FROM t
SELECT percentile_cont(2) WITHIN GROUP (ORDER BY n) FROM t
SELECT percentile_cont(0.5, 2) FROM t
SELECT approx_percentile_cont(n, 5) FROM t
SELECT string_agg(name) FROM t
SELECT sum(name) FROM t
SELECT avg(l) FROM t
SELECT max(l, n) FROM t
SELECT nothing(n) FROM t
SELECT substr(n) FROM t
SELECT upper() FROM t
SELECT upper(1, 2, 3)
SELECT date_trunc('aeon', TIMESTAMP '2024-01-01')
SELECT date_trunc(5, TIMESTAMP '2024-01-01')
SELECT date_part('aeon', TIMESTAMP '2024-01-01')
SELECT extract(aeon FROM TIMESTAMP '2024-01-01')
SELECT date_bin(INTERVAL '0 days', TIMESTAMP '2024-01-01')
SELECT date_bin('x', 5)
SELECT to_timestamp('never')
SELECT to_date('never')
SELECT to_char(n, 'YYYY') FROM t
SELECT TIMESTAMP '2024-01-01' AT TIME ZONE 'Nowhere/At_All'
SELECT TIMESTAMP '2024-01-01' AT TIME ZONE n FROM t
SELECT POSITION(n IN name) FROM t
SELECT SUBSTRING(name FOR name) FROM t
SELECT OVERLAY(name PLACING 1 FROM 2) FROM t
SELECT TRIM(BOTH 1 FROM 2)
SELECT l['a'] FROM t
SELECT l[1:'x'] FROM t
SELECT name[1] FROM t
SELECT n['a'] FROM t
SELECT {'a': 1}.b
SELECT MAP {'a': 1, 'b'}
SELECT MAP([1, 2], [3])
SELECT struct(1)['c9']
SELECT named_struct('a')
SELECT ROW(1, 2) = 3
SELECT [1, 'x', [2]]
SELECT array_length('x')
SELECT range(1, 10, 0)
SELECT k FROM t
SELECT T.N FROM t AS a
SELECT \"N\" FROM t
SELECT a.* FROM t
SELECT s.t.* FROM t
SELECT t.*, nothing.* FROM t
SELECT * EXCLUDE (nothing) FROM t
SELECT * EXCEPT (n, n) FROM t
SELECT * REPLACE (1 AS nothing) FROM t
SELECT * RENAME (n AS x) FROM t
SELECT * ILIKE '%x%' FROM t
SELECT COLUMNS('x') FROM t
SELECT DISTINCT ON (n) n FROM t ORDER BY m
SELECT TOP 5 n FROM t
SELECT n INTO x FROM t
SELECT n FROM t ORDER BY ALL
SELECT n FROM t ORDER BY 9
SELECT n FROM t ORDER BY nothing
SELECT n FROM t GROUP BY 9
SELECT n FROM t GROUP BY sum(m)
SELECT n FROM t GROUP BY ()
SELECT DISTINCT n FROM t ORDER BY m
SELECT n FROM t LIMIT 'x'
SELECT n FROM t LIMIT n
SELECT n FROM t LIMIT -1
SELECT n FROM t LIMIT 1 OFFSET -1
SELECT n FROM t LIMIT 10 PERCENT
SELECT n FROM t LIMIT 1 BY n
SELECT n FROM t FETCH FIRST 5 PERCENT ROWS ONLY
SELECT n FROM t FOR UPDATE
SELECT n FROM t QUALIFY n > 1
SELECT n FROM t WINDOW w AS (ORDER BY nothing)
SELECT sum(n) OVER w FROM t
SELECT n FROM t UNION SELECT n, m FROM t
SELECT n FROM t UNION SELECT l FROM t
SELECT n FROM t EXCEPT SELECT n, m FROM t
SELECT n FROM t INTERSECT SELECT l FROM t
SELECT n FROM t MINUS SELECT n FROM t
WITH x AS (SELECT 1), x AS (SELECT 2) SELECT * FROM x
WITH x(a, b) AS (SELECT 1) SELECT * FROM x
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n, n FROM r) SELECT * FROM r
WITH RECURSIVE r AS (SELECT 1 AS n EXCEPT SELECT n FROM r) SELECT * FROM r
SELECT * FROM (SELECT n FROM t) x(a, b)
SELECT * FROM (VALUES (1), (2, 3)) x
SELECT * FROM (VALUES (1), ([1])) x
SELECT * FROM t JOIN t ON true
SELECT * FROM t JOIN t u USING (nothing)
SELECT * FROM t NATURAL FULL JOIN u
SELECT n FROM t a JOIN t b ON a.n = b.n
SELECT * FROM t JOIN u ON t.n
SELECT * FROM t SEMI JOIN u
SELECT * FROM nowhere
SELECT * FROM nowhere.t
SELECT * FROM a.b.c.d
SELECT * FROM 'x.parquet'
SELECT * FROM read_parquet('x')
SELECT * FROM t VERSION AS OF 3
SELECT * FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01'
SELECT * FROM t AT (VERSION => 1)
SELECT * FROM LATERAL (SELECT 1) x RIGHT JOIN LATERAL (SELECT 2) y ON true
SELECT * FROM t RIGHT JOIN LATERAL (SELECT t.n) y ON true
SELECT (SELECT n FROM t)
SELECT (SELECT n, m FROM t)
SELECT (SELECT u.n FROM t u WHERE u.m >= t.m) FROM t
SELECT n IN (SELECT n, m FROM t) FROM t
SELECT (n, m) IN (SELECT n FROM t) FROM t
SELECT (n, m) IN ((1, 2)) FROM t WHERE (n, m) > 5
SELECT n > ALL (SELECT n, m FROM t) FROM t
SELECT n = ANY (5) FROM t
SELECT n > ALL (l) FROM t
SELECT n LIKE ANY ('a', 'b') FROM t
SELECT * FROM t LEFT JOIN u ON t.n IN (SELECT n FROM u)
SELECT (SELECT count(*) FROM t u GROUP BY ROLLUP (u.n, t.n)) FROM t
SELECT n FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.n = t.nothing)
SELECT CASE WHEN n THEN 1 END FROM t
SELECT CASE n WHEN 'x' THEN 1 END FROM t
SELECT CASE WHEN true THEN 1 ELSE [1] END
SELECT coalesce(1, [2])
SELECT n BETWEEN 'a' AND 'b' FROM t
SELECT n IN ('a', 'b') FROM t
SELECT n IN (l) FROM t
SELECT n IN UNNEST(l) FROM t
SELECT n IS JSON FROM t
SELECT n IS NORMALIZED FROM t
SELECT n OVERLAPS m FROM t
SELECT (n, m) OVERLAPS (1, 2) FROM t
SELECT n COLLATE \"de\" FROM t
SELECT name COLLATE nothing FROM t
SELECT GROUPING(n) FROM t
SELECT GROUPING(m) FROM t GROUP BY ROLLUP (n)
SELECT n FROM t GROUP BY GROUPING SETS (n, nothing)
SELECT CURRENT_DATABASE()
SELECT CEIL(n TO DAY) FROM t
SELECT CONVERT(n, INT) FROM t
SELECT CONVERT(INT, n) FROM t
SELECT B'12' + 1
SELECT X'zz'
SELECT N'x' + 1
SELECT U&'\\12'
SELECT $1 + $0
SELECT ?
SELECT :name
SELECT 1e999999
SELECT 99999999999999999999999999999999999999999999999999999999999999999999999999999999999
INSERT INTO t VALUES (1)
UPDATE t SET n = 1
DELETE FROM t
DELETE FROM t USING u
MERGE INTO t USING u ON t.n = u.n WHEN MATCHED THEN DELETE
TRUNCATE t
CREATE TABLE x (a INT)
CREATE TABLE x AS SELECT 1
CREATE TEMP TABLE x AS SELECT 1
CREATE VIEW x AS SELECT 1
CREATE VIEW x (a OPTIONS (b = 1)) AS SELECT 1
CREATE EXTERNAL TABLE x STORED AS NOTHING LOCATION 'y'
CREATE SCHEMA x
CREATE DATABASE x
CREATE INDEX x ON t (n)
CREATE FUNCTION f(INT) RETURNS INT RETURN $1
CREATE USER x
DROP TABLE t
DROP VIEW x
DROP SCHEMA s
ALTER TABLE t ADD COLUMN x INT
GRANT SELECT ON t TO x
BEGIN
COMMIT
CALL f()
USE s
ANALYZE TABLE t
OPTIMIZE t
VACUUM t
PRAGMA x
ATTACH 'x' AS y
DECLARE c CURSOR FOR SELECT 1
FETCH c
EXPLAIN FORMAT NOTHING SELECT 1
EXPLAIN VERBOSE ANALYZE SELECT nothing FROM t
DESCRIBE nowhere
SHOW COLUMNS FROM nowhere
SHOW CREATE TABLE nowhere
SHOW FUNCTIONS LIKE 5
COPY t FROM 'x.csv'
COPY t TO 'x.nothing' STORED AS NOTHING
EXECUTE nothing(1)
DEALLOCATE nothing
PREPARE p AS SELECT $1 + $nothing
SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(n), INTERVAL '1 minute')
SELECT * FROM DEDUPLICATE(TABLE t, DESCRIPTOR(n), INTERVAL '1 minute')
SELECT n FROM t LATERAL VIEW explode(l) x AS y
SELECT n FROM t PREWHERE n > 1
SELECT n FROM t CONNECT BY n = m
SELECT n FROM t CLUSTER BY n
SELECT n FROM t SORT BY n
FROM t |> WHERE n > 1
SELECT n FROM t SETTINGS x = 1
SELECT n FROM t FORMAT JSON
SELECT AS STRUCT n FROM t
SELECT VALUE n FROM t
SELECT PRIOR n FROM t
SELECT interval(1)
SELECT try_cast('x' AS nothing)
SELECT SAFE_CAST('x' AS nothing)
SELECT 'a' 'b' + 1
SELECT l.x FROM t
SELECT t.l.x FROM t
";

/// Pieces of a program's debug text.
const CODE: [&str; 28] = [
    " { ",
    "Some(",
    "None,",
    "Ident ",
    "Ident{",
    "Expr::",
    "DataType::",
    "LogicalPlan",
    "ScalarValue",
    "BinaryExpr",
    "InSubquery",
    "Utf8",
    "Int64",
    "Int32",
    "Float64",
    "Timestamp(",
    "Decimal128",
    "Date32",
    "List(",
    "Field {",
    "Internal error",
    "bug in DataFusion",
    "bug report",
    "Error during planning",
    "Optimizer rule",
    "sqltorel",
    "ast node",
    "Literal(",
];

async fn session() -> Session {
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    for name in ["s.t", "s.u"] {
        let name: TableName = name.parse().unwrap();
        let list: ArrayRef =
            Arc::new(arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some(vec![Some(1), None])]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef, true),
            ("m", Arc::new(Int64Array::from(vec![2])) as ArrayRef, true),
            ("name", Arc::new(StringArray::from(vec!["x"])) as ArrayRef, true),
            ("l", list, true),
        ])
        .unwrap();
        let table = warehouse.create_table(&name, batch.schema(), &[]).await.unwrap();
        let mut writer = table.writer("test");
        writer.write(batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        table
            .commit(Commit {
                app_id: "test/0".to_owned(),
                app_version: 1,
                previous_app_version: None,
                files,
                operation: "WRITE".to_owned(),
            })
            .await
            .unwrap();
    }
    Session::new(warehouse).unwrap()
}

async fn message(session: &Session, statement: &str) -> Option<String> {
    let result = match session.query(statement).await {
        Ok(result) => result,
        Err(why) => return Some(why.render(statement, None)),
    };
    match result.stream.try_collect::<Vec<_>>().await {
        Ok(_) => None,
        Err(why) => Some(watershed_query::QueryError::from(why).render(statement, None)),
    }
}

#[tokio::test]
async fn no_message_has_debug_text_in_it() {
    let session = session().await;
    let (mut failed, mut wrong) = (0, Vec::new());
    for statement in FAILING.lines().filter(|line| !line.is_empty()) {
        let Some(message) = message(&session, statement).await else { continue };
        failed += 1;
        // What the statement itself says may be in it.
        let words = message.replace(statement, "");
        if let Some(code) = CODE.iter().find(|code| words.contains(**code) && !statement.contains(**code)) {
            wrong.push(format!("{statement}\n  has '{code}': {message}"));
        }
        if message.lines().next().is_some_and(|line| line.trim_start_matches("error:").trim().is_empty()) {
            wrong.push(format!("{statement}\n  says nothing: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{} messages:\n{}", wrong.len(), wrong.join("\n"));
    assert!(failed > 200, "only {failed} statements fail");
}

#[tokio::test]
async fn what_a_library_says_of_its_own_workings_is_said_of_the_statement() {
    let session = session().await;
    for (statement, said) in [
        ("SELECT to_date(name) FROM s.t", "CAST(… AS DATE) reads dates of all years"),
        ("SELECT bool_and(n > 1) OVER (ORDER BY n ROWS 1 PRECEDING) FROM s.t", "begin the frame with UNBOUNDED PRECEDING"),
        ("SELECT date_bin(INTERVAL '1 day', TIMESTAMP '9999-12-31 23:00:00')", "where nanoseconds are counted"),
        ("SELECT n FROM s.t WHERE rank() OVER (ORDER BY n) = 1", "write QUALIFY instead"),
        ("SELECT n FROM s.t WHERE unnest(l) = 1", "CROSS JOIN UNNEST"),
        ("SELECT n FROM s.t ORDER BY unnest(l)", "CROSS JOIN UNNEST"),
        ("SELECT t.n FROM s.t JOIN s.u ON row_number() OVER (ORDER BY t.n) = u.n", "compute it in a query in FROM"),
        ("SELECT count(DISTINCT n, m) FROM s.t", "count(DISTINCT (a, b))"),
    ] {
        let message = message(&session, statement).await.expect(statement);
        assert!(message.contains(said), "{statement}: {message}");
    }
}

#[tokio::test]
async fn types_have_their_names_in_sql() {
    let session = session().await;
    for query in ["DESCRIBE s.t", "SHOW COLUMNS FROM s.t", "SELECT data_type FROM information_schema.columns WHERE table_schema = 's'"] {
        let batches: Vec<RecordBatch> = session.query(query).await.unwrap().stream.try_collect().await.unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        assert!(shown.contains("BIGINT[]") && shown.contains("VARCHAR"), "{query}:\n{shown}");
        assert!(!shown.contains("Utf8") && !shown.contains("Int64"), "{query}:\n{shown}");
    }
}

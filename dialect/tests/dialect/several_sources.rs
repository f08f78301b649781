//! UNION ALL and JOIN of sources: which can run as a stream, and what is said of the others.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use watershed_dialect::interval_join;
use watershed_dialect::{SourceTable, SqlError, plan_streaming};

use crate::shared::{session, source};

async fn planned(query: &str) -> Result<LogicalPlan, SqlError> {
    let ctx = session();
    for definition in [
        "CREATE SOURCE a (k VARCHAR, n BIGINT, t TIMESTAMP NOT NULL, made TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '1 s') WITH (topic = 'a')",
        "CREATE SOURCE b (u TIMESTAMP NOT NULL, k VARCHAR, m INT, made TIMESTAMP, WATERMARK FOR u AS u - INTERVAL '1 s') WITH (topic = 'b')",
        "CREATE SOURCE timeless (k VARCHAR, at TIMESTAMP) WITH (topic = 'c')",
    ] {
        let source = source(definition);
        ctx.register_table(source.name.clone(), Arc::new(SourceTable::new(source))).unwrap();
    }
    plan_streaming(&ctx.state(), query).await
}

const BOTH: &str = "SELECT t, k FROM a UNION ALL SELECT u, k FROM b";
const NEAR: &str = "a.k = b.k AND a.t BETWEEN b.u - INTERVAL '5 minutes' AND b.u + INTERVAL '1 minute'";
const BACK: &str = "RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW";

#[tokio::test]
async fn accepted() {
    let minute = |rows: &str, time: &str| {
        format!(
            "SELECT window_start, count(*) AS n FROM TUMBLE(TABLE ({rows}), DESCRIPTOR({time}), INTERVAL '1 minute') GROUP BY window_start"
        )
    };
    for query in [
        BOTH.to_owned(),
        "SELECT k FROM a UNION ALL SELECT k FROM timeless".to_owned(),
        "SELECT k FROM a UNION ALL (SELECT k FROM b UNION ALL SELECT upper(k) FROM a WHERE n > 1)".to_owned(),
        minute(BOTH, "t"),
        minute("SELECT x, k FROM (SELECT t AS x, k FROM a WHERE n > 1 UNION ALL SELECT u, k FROM b) WHERE k <> 'x'", "x"),
        format!("SELECT k FROM DEDUPLICATE(TABLE ({BOTH}) PARTITION BY k, DESCRIPTOR(t), INTERVAL '1 hour')"),
        format!("SELECT count(*) OVER (PARTITION BY k ORDER BY t {BACK}) AS n FROM ({BOTH})"),
        format!("{} UNION ALL {}", minute("SELECT * FROM a", "t"), minute("SELECT * FROM b", "u")),
        format!("SELECT a.n, b.m FROM a JOIN b ON {NEAR}"),
        format!("SELECT a.n, b.m FROM a FULL JOIN b ON {NEAR}"),
        format!("SELECT a.n, b.m FROM a JOIN b ON {NEAR} AND a.made < b.made AND a.n > b.m"),
        "SELECT x.n, y.n AS m FROM a x JOIN a y ON x.k = y.k AND y.t > x.t AND y.t - INTERVAL '1 hour' <= x.t".to_owned(),
        minute(&format!("SELECT a.t FROM a LEFT JOIN b ON {NEAR}"), "t"),
        minute(&format!("SELECT b.u FROM a RIGHT JOIN b ON {NEAR}"), "u"),
        minute(&format!("SELECT b.u FROM a JOIN b ON {NEAR}"), "u"),
        "SELECT x.k FROM DEDUPLICATE(TABLE a PARTITION BY k, DESCRIPTOR(t), INTERVAL '1 hour') x JOIN b ON x.k = b.k AND x.t BETWEEN b.u AND b.u"
            .to_owned(),
        "SELECT x.k FROM (SELECT k, t FROM a UNION ALL SELECT 'x', t FROM a) x LEFT JOIN b ON x.k = b.k AND x.t BETWEEN b.u AND b.u".to_owned(),
    ] {
        planned(&query).await.unwrap_or_else(|e| panic!("{}", e.render(&query, None)));
    }
}

#[tokio::test]
async fn refused_with_what_to_write_instead() {
    let tumble = |rows: &str, time: &str| format!("SELECT * FROM TUMBLE(TABLE ({rows}), DESCRIPTOR({time}), INTERVAL '1 minute')");
    let once = "SELECT k, t FROM DEDUPLICATE(TABLE a PARTITION BY k, DESCRIPTOR(t), INTERVAL '1 hour')";
    let cases = [
        ("SELECT k FROM a UNION SELECT k FROM b".to_owned(), "UNION over streams", "write UNION ALL"),
        (tumble("SELECT made, k FROM a UNION ALL SELECT u, k FROM b", "made"), "is by 'made', which is not 't'", "put t AS made"),
        (tumble("SELECT t, k FROM a UNION ALL SELECT made, k FROM b", "t"), "reads source 'b'", "put u AS t"),
        (tumble("SELECT t FROM a UNION ALL SELECT at FROM timeless", "t"), "source 'timeless' declares none", "WATERMARK FOR"),
        (
            tumble(&format!("{once} UNION ALL SELECT k, u FROM b"), "t"),
            "TUMBLE over a UNION ALL with DEDUPLICATE",
            "DEDUPLICATE(TABLE (SELECT",
        ),
        (format!("{once} UNION ALL SELECT k, t FROM a"), "source 'a' is read by several parts", "below these steps"),
        ("SELECT a.n FROM a JOIN b ON a.k = b.k".to_owned(), "without a bound in time", "bound the event times"),
        ("SELECT a.n FROM a JOIN b ON a.k = b.k AND a.t >= b.u".to_owned(), "on one side only", "BETWEEN"),
        ("SELECT a.n FROM a JOIN b ON a.t BETWEEN b.u AND b.u + INTERVAL '1 s'".to_owned(), "without an equality", "a.k = b.k"),
        (
            "SELECT a.n FROM a JOIN b ON a.k = b.k AND a.t BETWEEN b.u + INTERVAL '2 s' AND b.u + INTERVAL '1 s'".to_owned(),
            "leave no time between",
            "BETWEEN earlier AND later",
        ),
        ("SELECT a.n FROM a JOIN b ON a.k = b.k AND a.made BETWEEN b.u AND b.u".to_owned(), "JOIN is by 'made'", "bound t in ON"),
        ("SELECT a.n FROM a JOIN timeless c ON a.k = c.k AND a.t BETWEEN c.at AND c.at".to_owned(), "declares none", "WATERMARK FOR at"),
        (
            tumble(&format!("SELECT b.u AS x FROM a LEFT JOIN b ON {NEAR}"), "x"),
            "which is NULL in rows without a partner",
            "the side whose rows are all kept",
        ),
        (
            format!(
                "SELECT x.n FROM ({}) x JOIN b ON x.k = b.k AND x.w BETWEEN b.u AND b.u",
                "SELECT window_end AS w, k, count(*) AS n FROM TUMBLE(TABLE a, DESCRIPTOR(t), INTERVAL '1 s') GROUP BY window_end, k"
            ),
            "a JOIN over GROUP BY",
            "join them when you query",
        ),
        (
            format!("SELECT x.k FROM ({once}) x JOIN a y ON x.k = y.k AND x.t BETWEEN y.t AND y.t"),
            "on both sides of a JOIN",
            "join them when you query",
        ),
    ];
    for (query, message, hint) in cases {
        let error = planned(&query).await.expect_err(&query);
        assert!(error.message.contains(message), "{query}\n{}", error.render(&query, None));
        assert!(error.hint.as_deref().unwrap_or("").contains(hint), "{query}\n{}", error.render(&query, None));
        assert!(error.line.is_some(), "no place: {query}\n{error}");
    }
}

#[tokio::test]
async fn bounds_are_read_from_comparisons_of_any_form() {
    fn join_of(plan: &LogicalPlan) -> Option<&datafusion::logical_expr::Join> {
        match plan {
            LogicalPlan::Join(join) => Some(join),
            other => other.inputs().into_iter().find_map(join_of),
        }
    }
    const SECOND: i64 = 1_000_000;
    for (on, least_us, most_us, rest) in [
        ("a.t BETWEEN b.u - INTERVAL '5 s' AND b.u + INTERVAL '1 s'", -5 * SECOND, SECOND, 0),
        ("b.u BETWEEN a.t - INTERVAL '5 s' AND a.t + INTERVAL '1 s'", -SECOND, 5 * SECOND, 0),
        ("a.t > b.u AND a.t + INTERVAL '2 s' < b.u + INTERVAL '1 minute'", 1, 58 * SECOND - 1, 0),
        ("b.u <= a.t AND INTERVAL '3 s' + b.u >= a.t AND a.n < 1 + b.m * 2", 0, 3 * SECOND, 1),
        ("a.t = b.u + INTERVAL '7 s' AND a.made > b.made", 7 * SECOND, 7 * SECOND, 1),
        ("a.t BETWEEN b.u AND b.u + INTERVAL '9 s' AND a.t <= b.u + INTERVAL '4 s'", 0, 4 * SECOND, 0),
    ] {
        let query = format!("SELECT a.n, b.m FROM a JOIN b ON a.k = b.k AND {on}");
        let plan = planned(&query).await.unwrap_or_else(|e| panic!("{}", e.render(&query, None)));
        let meeting = interval_join::of(join_of(&plan).unwrap()).unwrap();
        assert_eq!((meeting.least_us, meeting.most_us, meeting.rest.len()), (least_us, most_us, rest), "{on}");
        assert_eq!(meeting.times.map(|time| time.name.as_str()), ["t", "u"], "{on}");
    }
}

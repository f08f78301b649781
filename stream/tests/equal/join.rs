//! Random rows of two sources, and of one that is joined with itself: `JOIN` within an interval gives in a stream what it gives in DataFusion over the
//! rows that were in time.

use proptest::prelude::*;

use crate::property::{LateIf, Run, Ties, runs};
use crate::union::check_rows;

/// Rows of `trips` up to 7 seconds before and 3 after one of `walks`, of the same city.
const NEAR: &str = "t.city = w.town AND t.time BETWEEN w.at - INTERVAL '7 seconds' AND w.at + INTERVAL '3 seconds'";

fn pairs(kind: &str, on: &str) -> String {
    format!("SELECT t.id, t.time, t.seats, w.who, w.at, w.fare, w.town FROM trips t {kind} JOIN walks w ON {on}")
}

fn disordered() -> impl Strategy<Value = Run> {
    runs(20_000_000, Ties::Few)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_kinds(run in disordered()) {
        for kind in ["INNER", "LEFT", "RIGHT", "FULL"] {
            let (late, expected) = check_rows(&pairs(kind, NEAR), LateIf::Behind, &run)?;
            prop_assert_eq!(late, expected);
        }
    }

    #[test]
    fn other_bounds_and_keys(run in runs(20_000_000, Ties::Many)) {
        for on in [
            // At the same moment, after a while, before a while; as comparisons.
            "t.city = w.town AND t.time BETWEEN w.at AND w.at",
            "t.city = w.town AND t.time BETWEEN w.at + INTERVAL '2 seconds' AND w.at + INTERVAL '9 seconds'",
            "w.who = t.id AND w.at > t.time + INTERVAL '1 second' AND t.time >= w.at - INTERVAL '12 seconds'",
            "t.city = w.town AND t.seats = w.steps AND w.at BETWEEN t.time - INTERVAL '20 seconds' AND t.time + INTERVAL '20 seconds'",
            "upper(t.city) = upper(w.town) AND t.id + 1 = w.who AND w.at BETWEEN t.time - INTERVAL '20 seconds' AND t.time",
        ] {
            for kind in ["INNER", "LEFT", "RIGHT", "FULL"] {
                check_rows(&pairs(kind, on), LateIf::Behind, &run)?;
            }
        }
    }

    #[test]
    fn further_conditions(run in disordered()) {
        check_rows(&pairs("INNER", &format!("{NEAR} AND t.seats > w.steps")), LateIf::Behind, &run)?;
        // Those of one side alone are asked before rows meet.
        check_rows(&format!("{} WHERE t.seats > 2 AND w.steps < t.seats + 3", pairs("INNER", NEAR)), LateIf::Behind, &run)?;
        check_rows(&pairs("LEFT", &format!("{NEAR} AND w.steps > 4")), LateIf::Behind, &run)?;
        check_rows(&format!("{} WHERE w.who IS NULL OR w.steps > 4", pairs("LEFT", NEAR)), LateIf::Behind, &run)?;
    }

    #[test]
    fn of_one_source_with_itself(run in disordered()) {
        for kind in ["INNER", "LEFT", "FULL"] {
            check_rows(
                &format!(
                    "SELECT a.id, a.time, b.id AS other, b.time AS later FROM trips a {kind} JOIN (SELECT * FROM trips WHERE seats > 3) b \
                     ON a.city = b.city AND b.time BETWEEN a.time AND a.time + INTERVAL '8 seconds'"
                ),
                LateIf::Behind,
                &run,
            )?;
        }
    }

    #[test]
    fn before_and_after_other_steps(run in disordered()) {
        // GROUP BY, OVER and DEDUPLICATE go by the time of the side whose rows are always there.
        for (kind, time) in [("INNER", "t.time"), ("INNER", "w.at"), ("LEFT", "t.time"), ("RIGHT", "w.at")] {
            let met = format!("SELECT {time} AS at, t.id, t.city, w.who, w.fare FROM trips t {kind} JOIN walks w ON {NEAR}");
            check_rows(
                &format!(
                    "SELECT window_start, city, count(*) AS n, count(who) AS met, sum(fare) AS fares FROM \
                     TUMBLE(TABLE ({met}), DESCRIPTOR(at), INTERVAL '10 seconds') GROUP BY window_start, window_end, city"
                ),
                LateIf::Behind,
                &run,
            )?;
            check_rows(
                &format!(
                    "SELECT at, id, who, count(*) OVER (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '5 seconds' PRECEDING AND CURRENT ROW) \
                     AS n FROM ({met})"
                ),
                LateIf::Behind,
                &run,
            )?;
        }
        check_rows(
            &format!(
                "SELECT t.id, t.time, w.who FROM (SELECT id, time, city FROM DEDUPLICATE(TABLE trips PARTITION BY id, city, time, DESCRIPTOR(time), \
                 INTERVAL '30 seconds')) t JOIN walks w ON {NEAR}"
            ),
            LateIf::Behind,
            &run,
        )?;
        check_rows(
            "SELECT t.id, t.time, w.who FROM (SELECT id, time, city FROM trips WHERE seats > 2 UNION ALL SELECT -id, time, upper(city) FROM trips) t \
             LEFT JOIN walks w ON upper(t.city) = upper(w.town) AND w.at BETWEEN t.time - INTERVAL '4 seconds' AND t.time + INTERVAL '4 seconds'",
            LateIf::Behind,
            &run,
        )?;
    }

    #[test]
    fn results_that_depend_on_order_are_the_same_in_each_run(run in disordered()) {
        check_rows(
            &format!(
                "SELECT window_start, round(sum(CAST(fare AS DOUBLE)), 3) AS fares FROM TUMBLE(TABLE ({}), DESCRIPTOR(time), INTERVAL '10 seconds') \
                 GROUP BY window_start, window_end",
                pairs("LEFT", NEAR)
            ),
            LateIf::Behind,
            &run,
        )?;
    }
}

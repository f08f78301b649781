//! Scalar functions in batch and in streams.

use watershed_dialect::plan_streaming;

use crate::shared::{lines, rows, session};

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

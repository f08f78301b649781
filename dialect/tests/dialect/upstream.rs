//! Faults of DataFusion that we guard against, as it has them: a test that fails here says that one is mended, and its guard can go.
//! `docs/upstream.md` lists them.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};

/// What DataFusion itself gives, cells joined by spaces.
async fn theirs(query: &str) -> Result<String> {
    let mut config = SessionConfig::new();
    config.options_mut().execution.time_zone = Some("UTC".into());
    let batches = SessionContext::new_with_config(config).sql(query).await?.collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    let body = table.lines().skip(3).filter(|line| line.starts_with('|'));
    let cells = body.map(|line| line.split('|').map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join(" "));
    Ok(cells.collect::<Vec<_>>().join("; "))
}

#[tokio::test]
async fn the_greatest_of_a_group_depends_on_the_order_of_nan() {
    let query = |rows: &str| format!("SELECT max(d) FROM (SELECT 1 AS k, CAST(s AS DOUBLE) AS d FROM (VALUES {rows}) t(s)) GROUP BY k");
    assert_eq!(theirs(&query("('NaN'), ('2')")).await.unwrap(), "2.0");
    assert_eq!(theirs(&query("('2'), ('NaN')")).await.unwrap(), "NaN");
}

#[tokio::test]
async fn a_nan_stays_in_the_sum_of_a_frame_it_has_left() {
    let query = "SELECT sum(d) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
                 FROM (VALUES (1, CAST('NaN' AS DOUBLE)), (2, 1.0), (3, 1.0)) t(i, d) ORDER BY i OFFSET 2";
    assert_eq!(theirs(query).await.unwrap(), "NaN");
}

#[tokio::test]
async fn zeros_are_two_partitions() {
    let zeros = "(SELECT CAST(s AS DOUBLE) AS d FROM (VALUES ('0.0'), ('-0.0')) t(s))";
    assert_eq!(theirs(&format!("SELECT count(*) OVER (PARTITION BY d) FROM {zeros}")).await.unwrap(), "1; 1");
}

#[tokio::test]
async fn doubles_and_long_decimals_cannot_be_compared_with_decimals() {
    let query = "SELECT d > CAST(0.5 AS DECIMAL(2, 1)) FROM (VALUES (CAST('1e300' AS DOUBLE))) t(d)";
    assert!(theirs(query).await.is_err());
    let query =
        "SELECT d > CAST(0.5 AS DECIMAL(2, 1)) FROM (VALUES (CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)))) t(d)";
    assert!(theirs(query).await.is_err());
}

#[tokio::test]
async fn times_of_text_and_far_years_fail() {
    assert!(theirs("SELECT to_timestamp(s) FROM (VALUES ('2024-05-06')) t(s)").await.is_err());
    assert!(theirs("SELECT to_timestamp('9999-12-31')").await.is_err());
    let far = "SELECT date_trunc('month', arrow_cast('0001-01-01T05:00:00', 'Timestamp(Microsecond, None)'))";
    assert!(theirs(far).await.is_err());
    let series = "SELECT * FROM generate_series(arrow_cast('2024-01-01', 'Timestamp(Microsecond, None)'), \
                  arrow_cast('2024-01-02', 'Timestamp(Microsecond, None)'), INTERVAL '12 hours')";
    assert!(theirs(series).await.is_err());
}

#[tokio::test]
async fn date_bin_cuts_at_midnight_utc() {
    let query = "SELECT date_bin(INTERVAL '1 day', to_timestamp(1720000000) AT TIME ZONE 'Europe/Berlin')";
    assert!(theirs(query).await.unwrap().contains("T02:00:00"));
}

//! `/healthz`, `/readyz` and `/metrics`: what a supervisor and a monitoring system ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::timeout;

use super::Site;

/// How long the warehouse may take to answer for the process to be ready.
const WAREHOUSE_WAIT: Duration = Duration::from_secs(3);
/// OpenMetrics, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The older form, which differs in the names before the values of counters, and in its end.
const TEXT_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// 200 as long as the process answers at all: a reason to restart it is that it does not.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// 200 if the process can do its work, else 503 with the reasons.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> Response {
    let mut reasons = (site.parts.not_ready)();
    if let Some(lake) = &site.parts.lake {
        match timeout(WAREHOUSE_WAIT, lake.warehouse.definitions()).await {
            Ok(Ok(definitions)) if definitions.revision > 0 => {}
            Ok(Ok(_)) => match lake.warehouse.is_empty().await {
                Ok(false) => {}
                Ok(true) => reasons.push("nothing is stored in the warehouse: its path may be wrong, or its disk not mounted".to_owned()),
                Err(error) => reasons.push(format!("the warehouse cannot be read: {error}")),
            },
            Ok(Err(error)) => reasons.push(format!("the warehouse cannot be read: {error}")),
            Err(_) => reasons.push(format!("the warehouse did not answer within {} s", WAREHOUSE_WAIT.as_secs())),
        }
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

/// The metrics of the process: OpenMetrics, unless only text is accepted.
pub(super) async fn metrics(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let accepted: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accepted = accepted.join(",").to_ascii_lowercase();
    let text = (site.parts.metrics)();
    if accepted.contains("text/plain") && !accepted.contains("openmetrics") {
        return ([(header::CONTENT_TYPE, TEXT_METRICS)], as_text(&text)).into_response();
    }
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

/// OpenMetrics as Prometheus' older text: counters and infos are named as their values are, and nothing marks the end.
fn as_text(metrics: &str) -> String {
    let mut suffixes = HashMap::new();
    for line in metrics.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            suffixes.insert(name, suffix);
        }
    }
    let mut text = String::with_capacity(metrics.len());
    for line in metrics.lines() {
        let about = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match about {
            None if line == "# EOF" => {}
            Some(("UNIT", _)) => {}
            Some((word @ ("HELP" | "TYPE"), rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let rest = if word == "TYPE" && rest == "info" { "gauge" } else { rest };
                text.push_str(&format!("# {word} {name}{} {rest}\n", suffixes.get(name).unwrap_or(&"")));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::as_text;

    #[test]
    fn older_scrapers_read_counters_under_the_names_of_their_values() {
        let metrics = "# HELP w_rows Rows.\n# TYPE w_rows counter\nw_rows_total{a=\"x\"} 3\n# HELP w_wait_seconds Wait.\n\
                       # TYPE w_wait_seconds gauge\n# UNIT w_wait_seconds seconds\nw_wait_seconds 0.5\n# HELP w_build B.\n# TYPE w_build info\n\
                       w_build_info{version=\"1\"} 1\n# EOF\n";
        assert_eq!(
            as_text(metrics),
            "# HELP w_rows_total Rows.\n# TYPE w_rows_total counter\nw_rows_total{a=\"x\"} 3\n# HELP w_wait_seconds Wait.\n\
             # TYPE w_wait_seconds gauge\nw_wait_seconds 0.5\n# HELP w_build_info B.\n# TYPE w_build_info gauge\nw_build_info{version=\"1\"} 1\n"
        );
    }
}

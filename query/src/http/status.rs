//! `/healthz`, `/readyz` and `/metrics`: what a supervisor and a monitoring system ask.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::timeout;

use super::Site;

/// How long the warehouse may take to answer for the process to be ready.
const WAREHOUSE_WAIT: Duration = Duration::from_secs(3);
/// OpenMetrics, which Prometheus asks for and every scraper of its family reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// 200 as long as the process answers at all: a reason to restart it is that it does not.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// 200 if the process can do its work, else 503 with the reasons.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> Response {
    let mut reasons = (site.parts.not_ready)();
    if let Some(lake) = &site.parts.lake {
        match timeout(WAREHOUSE_WAIT, lake.warehouse.definitions()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => reasons.push(format!("the warehouse cannot be read: {error}")),
            Err(_) => reasons.push(format!("the warehouse did not answer within {} s", WAREHOUSE_WAIT.as_secs())),
        }
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

/// The metrics of the process.
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], (site.parts.metrics)()).into_response()
}

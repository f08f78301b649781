//! The dashboard's panels: what the applied project defines with `CREATE PANEL`, and the rows of each.
//!
//! Rows are computed at most once in [`FRESH_FOR`] however many people look. A panel whose tables do not exist yet is no error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use datafusion::common::TableReference;
use datafusion::sql::resolve::resolve_table_references;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use watershed_dialect::{Chart, PanelDefinition, StatementKind};
use watershed_lake::clock::now_ms;
use watershed_lake::kind::PANEL;
use watershed_lake::{Definitions, Warehouse};

use super::encode::{Encoder, Format};
use super::problem::Problem;
use super::sql::slot;
use super::{Lake, Site};
use crate::{QueryError, Session};

/// For how long the rows of a panel are not computed again.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// How long a panel's query may take.
const QUERY_TIME_MAX: Duration = Duration::from_secs(15);
/// Rows of a panel: a picture of more shows nothing more.
const ROWS_MAX: usize = 5_000;

/// The newest answer of each panel, and the query it belongs to.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Fresh>>>>>);

struct Fresh {
    until: Instant,
    query: String,
    body: Bytes,
}

impl Cache {
    /// One caller at a time computes a panel; the others wait for what it finds.
    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<Option<Fresh>>> {
        let mut panels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(panels.entry(name.to_owned()).or_default())
    }
}

/// Answers `GET /panels`.
pub(super) async fn list(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let lake = lake(&site)?;
    let definitions = lake.warehouse.definitions().await.map_err(QueryError::from)?;
    let panels: Vec<Value> = panels(&definitions).iter().map(described).collect();
    Ok(axum::Json(json!({ "warehouse": place(&lake.warehouse), "revision": definitions.revision, "panels": panels })).into_response())
}

/// Answers `GET /panels/<name>`.
pub(super) async fn rows(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let lake = lake(&site)?;
    let definitions = lake.warehouse.definitions().await.map_err(QueryError::from)?;
    let found = panels(&definitions).into_iter().find(|panel| panel.name == name);
    let panel = found.ok_or_else(|| Problem::not_found(&format!("there is no panel '{name}'"), "/panels lists all"))?;
    let cached = site.panels.of(&name);
    let mut cached = cached.lock().await;
    if let Some(fresh) = cached.as_ref().filter(|fresh| fresh.until > Instant::now() && fresh.query == panel.query) {
        return Ok(respond(fresh.body.clone()));
    }
    let _slot = slot(&site).await?;
    let mut counted = site.parts.counters.begin();
    let computed = match timeout(QUERY_TIME_MAX, compute(lake, &panel)).await {
        Ok(computed) => computed,
        Err(_) => Err(Problem::too_long(QUERY_TIME_MAX.as_secs())),
    };
    counted.end(computed.is_ok());
    let body = computed?;
    *cached = Some(Fresh { until: Instant::now() + FRESH_FOR, query: panel.query, body: body.clone() });
    Ok(respond(body))
}

fn lake(site: &Site) -> Result<&Lake, Problem> {
    site.parts.lake.as_ref().ok_or_else(|| Problem::not_found("there are no tables here", "ask `watershed serve`"))
}

fn respond(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The applied panels in the order they stand on the page. One that this version cannot read is left out, with a word in the log.
fn panels(definitions: &Definitions) -> Vec<PanelDefinition> {
    let read = |sql: &str| match watershed_dialect::parse(sql).map(|mut statements| statements.pop().map(|statement| statement.kind)) {
        Ok(Some(StatementKind::CreatePanel(panel))) => Some(panel),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "a panel's definition cannot be read; apply the project again");
            None
        }
    };
    let mut panels: Vec<_> = definitions.items.iter().filter(|item| item.kind == PANEL).filter_map(|item| read(&item.sql)).collect();
    panels.sort_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
    panels
}

fn described(panel: &PanelDefinition) -> Value {
    let chart = match panel.chart {
        Chart::Line => "line",
        Chart::Area => "area",
        Chart::Bar => "bar",
        Chart::Map => "map",
        Chart::Funnel => "funnel",
        Chart::Table => "table",
    };
    json!({
        "name": panel.name, "title": panel.title, "about": panel.about, "chart": chart, "x": panel.x, "y": panel.y,
        "series": panel.series, "size": panel.size, "label": panel.label, "unit": panel.unit, "wide": panel.wide,
    })
}

/// The warehouse's address without what might be a secret in it.
fn place(warehouse: &Warehouse) -> String {
    let url = warehouse.url();
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

async fn compute(lake: &Lake, panel: &PanelDefinition) -> Result<Bytes, Problem> {
    let started = Instant::now();
    let result = match lake.session.query(&panel.query).await {
        Ok(result) => result,
        Err(error) => {
            let missing = missing_tables(&lake.session, &panel.query).await?;
            if missing.is_empty() {
                return Err(error.into());
            }
            return Ok(Bytes::from(json!({ "state": "missing", "tables": missing }).to_string()));
        }
    };
    let schema = result.schema();
    let named = [&panel.x, &panel.y, &panel.series, &panel.size, &panel.label];
    if let Some(unknown) = named.into_iter().flatten().find(|name| schema.column_with_name(name).is_none()) {
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Problem::request(
            &format!("panel '{}' names the column '{unknown}', which its query does not have", panel.name),
            &format!("its query has: {}", columns.join(", ")),
        ));
    }
    let (mut batches, mut rows, mut stream) = (Vec::<RecordBatch>::new(), 0, result.stream);
    while rows <= ROWS_MAX
        && let Some(batch) = stream.next().await
    {
        let batch = batch.map_err(QueryError::from)?;
        rows += batch.num_rows();
        batches.push(batch);
    }
    drop(stream);
    let all = concat_batches(&schema, &batches).map_err(|why| QueryError::Failed(why.to_string()))?;
    let mut encoder = Encoder::new(Format::Json, &schema)?;
    let shown = [encoder.rows(&all.slice(0, rows.min(ROWS_MAX)))?, encoder.end()?].concat();
    let columns: Vec<Value> = schema
        .fields()
        .iter()
        .map(|field| json!({ "name": field.name(), "number": field.data_type().is_numeric(), "time": field.data_type().is_temporal() }))
        .collect();
    let about = json!({
        "state": if rows == 0 { "empty" } else { "ready" }, "truncated": rows > ROWS_MAX, "columns": columns,
        "took_ms": started.elapsed().as_millis() as u64, "as_of_ms": now_ms(),
    });
    // The rows are JSON already: they become the last member.
    let mut body = about.to_string().into_bytes();
    body.pop();
    body.extend_from_slice(b",\"rows\":");
    body.extend_from_slice(&shown);
    body.push(b'}');
    Ok(body.into())
}

/// Tables (with their schema) that a query names and the lake does not have.
async fn missing_tables(session: &Session, query: &str) -> Result<Vec<String>, QueryError> {
    let statements = watershed_dialect::parse(query)?;
    let Some(StatementKind::Other(statement)) = statements.first().map(|statement| &statement.kind) else { return Ok(Vec::new()) };
    let (named, _) = resolve_table_references(statement, true)?;
    let known = session.tables().await?;
    let made_up = session.system_tables();
    let mut missing = Vec::new();
    for reference in named {
        let TableReference::Partial { schema, table } = &reference else { continue };
        let there = known.iter().any(|name| name.schema() == schema.as_ref() && name.table() == table.as_ref());
        let made_up = schema.as_ref() == "system" && made_up.iter().any(|name| name == table.as_ref());
        if !there && !made_up && schema.as_ref() != "information_schema" {
            missing.push(format!("{schema}.{table}"));
        }
    }
    Ok(missing)
}

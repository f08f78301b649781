//! The dashboard's panels: what the applied project defines with `CREATE PANEL`, and the rows of each.
//!
//! Rows are computed at most once in [`FRESH_FOR`] however many people look, and less often if that takes long; while they are computed, older
//! ones are shown. So a slow panel is old, and no other is. Panels have places of their own among the queries: long ones over `/sql` turn none
//! off. A panel whose tables do not exist yet is no error.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type, SchemaRef};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use datafusion::common::TableReference;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::sql::resolve::resolve_table_references;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use watershed_dialect::{Chart, PanelDefinition, StatementKind};
use watershed_lake::clock::now_ms;
use watershed_lake::kind::PANEL;
use watershed_lake::{Definitions, Warehouse};

use super::encode::{Encoder, Format, Numbers};
use super::panel_columns::check_panel;
use super::panel_rows::{Shown, shown};
use super::problem::Problem;
use super::{Lake, Site};
use crate::counters::{self, Asked, Counted, Who};
use crate::weight::held;
use crate::{QueryError, Session};

/// For how long the rows of a panel are not computed again.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// Rows that took long are not computed again for so many times as long.
const REST: u32 = 3;
/// How long someone waits for new rows where older ones can be shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a panel's query may take.
const QUERY_TIME_MAX: Duration = Duration::from_secs(15);
/// How long a panel waits for others before it.
const SLOT_WAIT: Duration = Duration::from_secs(15);
/// Answers up to this size are kept whatever the memory of queries has room for.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// What the page says of the pipelines, above the panels.
const PIPELINES: &str = "SELECT pipeline, state, watermark_lag_ms, lag_records, late, quarantined, age_ms FROM system.pipelines";

/// The newest answer of each panel.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<String, Arc<Cached>>>);

/// A panel as it is defined now, and its answer.
struct Cached {
    panel: PanelDefinition,
    answer: watch::Sender<Option<Computed>>,
    at_work: AtomicBool,
}

#[derive(Clone)]
struct Computed {
    fresh_until: Instant,
    body: Result<Bytes, Problem>,
    _held: Option<Arc<MemoryReservation>>,
}

impl Cache {
    /// What there is of a panel of just this definition.
    fn of(&self, panel: PanelDefinition) -> Arc<Cached> {
        let mut panels = self.lock();
        match panels.get(&panel.name) {
            Some(cached) if cached.panel == panel => Arc::clone(cached),
            _ => {
                let name = panel.name.clone();
                let cached = Arc::new(Cached { panel, answer: watch::Sender::new(None), at_work: AtomicBool::new(false) });
                panels.insert(name, Arc::clone(&cached));
                cached
            }
        }
    }

    /// Forgets panels that are not defined any more.
    fn keep(&self, panels: &[PanelDefinition]) {
        self.lock().retain(|name, _| name.is_empty() || panels.iter().any(|panel| panel.name == *name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Cached>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one who computes a panel. Whatever ends it, those who wait get an answer.
struct AtWork {
    cached: Arc<Cached>,
    started: Instant,
    body: Result<Bytes, Problem>,
    /// A large body's part of the memory of queries.
    held: Option<Arc<MemoryReservation>>,
}

impl AtWork {
    /// `None` if another one is at it.
    fn begin(cached: &Arc<Cached>) -> Option<Self> {
        let body = Err(Problem::request("the panel's query ended without an answer", "look at the log of the server"));
        let free = !cached.at_work.swap(true, Ordering::AcqRel);
        free.then(|| Self { cached: Arc::clone(cached), started: Instant::now(), body, held: None })
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let body = std::mem::replace(&mut self.body, Ok(Bytes::new()));
        let rest = FRESH_FOR.max(self.started.elapsed() * REST);
        self.cached.answer.send_replace(Some(Computed { fresh_until: Instant::now() + rest, body, _held: self.held.take() }));
        self.cached.at_work.store(false, Ordering::Release);
    }
}

/// Answers `GET /panels`.
pub(super) async fn list(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let lake = lake(&site)?;
    let definitions = lake.warehouse.definitions().await.map_err(QueryError::from)?;
    let panels = panels(&definitions);
    site.panels.keep(&panels);
    let panels: Vec<Value> = panels.iter().map(described).collect();
    Ok(axum::Json(json!({ "warehouse": place(&lake.warehouse), "revision": definitions.revision, "panels": panels })).into_response())
}

/// Answers `GET /panels/<name>`.
pub(super) async fn rows(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let lake = lake(&site)?;
    let definitions = lake.warehouse.definitions().await.map_err(QueryError::from)?;
    let found = panels(&definitions).into_iter().find(|panel| panel.name == name);
    let panel = found.ok_or_else(|| Problem::not_found(&format!("there is no panel '{name}'"), "/panels lists all"))?;
    Ok(respond(answer(&site, panel).await?))
}

/// Answers `GET /pipelines`: what the page says above the panels, as a panel of its own.
pub(super) async fn pipelines(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let panel = PanelDefinition {
        name: String::new(),
        title: String::new(),
        about: None,
        chart: Chart::Table,
        x: None,
        y: None,
        series: None,
        size: None,
        label: None,
        unit: None,
        position: 0,
        wide: false,
        query: PIPELINES.to_owned(),
    };
    Ok(respond(answer(&site, panel).await?))
}

/// The rows of a panel: new ones, or older ones if those take long.
async fn answer(site: &Arc<Site>, panel: PanelDefinition) -> Result<Bytes, Problem> {
    let cached = site.panels.of(panel);
    let mut answers = cached.answer.subscribe();
    let known = answers.borrow_and_update().clone();
    if let Some(known) = &known
        && known.fresh_until > Instant::now()
    {
        return known.body.clone();
    }
    if let Some(at_work) = AtWork::begin(&cached) {
        tokio::spawn(work(Arc::clone(site), at_work));
    }
    let older = known.and_then(|known| known.body.ok());
    let patience = if older.is_some() { PATIENCE } else { SLOT_WAIT + QUERY_TIME_MAX };
    if timeout(patience, answers.changed()).await.is_err()
        && let Some(older) = older
    {
        return Ok(older);
    }
    let newest = answers.borrow().clone();
    newest.map_or_else(|| Err(Problem::too_long(QUERY_TIME_MAX.as_secs())), |newest| newest.body)
}

/// Computes a panel, once there is a place for it.
async fn work(site: Arc<Site>, mut at_work: AtWork) {
    let computed = async {
        let lake = lake(&site)?;
        let _slot = site.panel_slots.take(SLOT_WAIT).await?;
        at_work.started = Instant::now();
        // Who looks at the page does not matter: the query is the project's.
        let asked = Asked::new(Who::new(counters::PANEL, None, None), &at_work.cached.panel.query);
        let mut counted = site.parts.counters.begin(asked);
        let computed = match timeout(QUERY_TIME_MAX, compute(lake, &at_work.cached.panel, &mut counted)).await {
            Ok(computed) => computed,
            Err(_) => Err(Problem::too_long(QUERY_TIME_MAX.as_secs())),
        };
        counted.end(computed.is_ok());
        let body = computed?;
        let held = if body.len() > SMALL_BYTES_MAX { Some(held(&lake.session.memory_pool(), "panel", body.len())) } else { None };
        Ok::<_, Problem>((body, held.transpose().map_err(QueryError::from)?.map(Arc::new)))
    };
    let computed = computed.await;
    match computed {
        Ok((body, held)) => (at_work.body, at_work.held) = (Ok(body), held),
        Err(problem) => at_work.body = Err(problem),
    }
}

fn lake(site: &Site) -> Result<&Lake, Problem> {
    site.parts.lake.as_ref().ok_or_else(|| Problem::not_found("there are no tables here", "ask `watershed serve`"))
}

fn respond(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The applied panels in the order of the page. One that this version cannot read is left out, with a word in the log.
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

async fn compute(lake: &Lake, panel: &PanelDefinition, counted: &mut Counted) -> Result<Bytes, Problem> {
    let started = Instant::now();
    let session = lake.session.for_client();
    let result = match session.query(&panel.query).await {
        Ok(result) => result,
        Err(error) => {
            let missing = missing_tables(&session, &panel.query).await?;
            if missing.is_empty() {
                return Err(error.into());
            }
            return Ok(Bytes::from(json!({ "state": "missing", "tables": missing }).to_string()));
        }
    };
    counted.takes(Arc::clone(&result.memory));
    let schema = result.schema();
    check_panel(panel, &schema).map_err(QueryError::from)?;
    // It would fail for every row.
    Encoder::new(Format::Json(Numbers::Plain), &schema)?;
    // Of a line the newest points matter, in whichever order they come; of all else what the query puts first.
    let along = panel.x.as_ref().filter(|_| matches!(panel.chart, Chart::Line | Chart::Area)).and_then(|x| schema.index_of(x).ok());
    let Shown { rows, json, cut } = shown(result.stream, &schema, along).await?;
    let about = json!({
        "state": if rows.num_rows() == 0 { "empty" } else { "ready" }, "truncated": cut.is_some(), "cut_at": cut.map(|cut| cut.to_string()),
        "columns": columns(&schema), "not_finite": not_finite(&rows), "took_ms": started.elapsed().as_millis() as u64, "as_of_ms": now_ms(),
    });
    // The rows are JSON already: they become the last member.
    let mut body = about.to_string().into_bytes();
    body.pop();
    body.extend_from_slice(b",\"rows\":");
    body.extend_from_slice(&json);
    body.push(b'}');
    Ok(body.into())
}

fn columns(schema: &SchemaRef) -> Vec<Value> {
    let described = |field: &FieldRef| {
        let kind = field.data_type();
        let exact = kind.is_numeric() && !kind.is_floating();
        json!({ "name": field.name(), "number": kind.is_numeric(), "exact": exact, "time": kind.is_temporal() })
    };
    schema.fields().iter().map(described).collect()
}

/// Where a number is none: the name of each such column, and in it by row `NaN`, `Infinity` or `-Infinity`. JSON has only `null` for them.
fn not_finite(batch: &RecordBatch) -> Value {
    let mut found = serde_json::Map::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()).filter(|(field, _)| field.data_type().is_floating()) {
        let Ok(column) = cast(column, &DataType::Float64) else { continue };
        let values = column.as_primitive::<Float64Type>().iter().enumerate();
        let named = values.filter_map(|(row, value)| Some((row.to_string(), json!(name_of(value.filter(|value| !value.is_finite())?)))));
        let named: serde_json::Map<String, Value> = named.collect();
        if !named.is_empty() {
            found.insert(field.name().clone(), named.into());
        }
    }
    found.into()
}

fn name_of(not_finite: f64) -> &'static str {
    match not_finite {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
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

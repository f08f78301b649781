//! What a browser, a script and a monitoring system read over HTTP.
//!
//! | address | answer |
//! |---|---|
//! | `/` | the dashboard: one page, drawn in the browser; needs nothing from elsewhere |
//! | `/sql?q=…`, `POST /sql` | the rows of a query as JSON or CSV |
//! | `/panels`, `/panels/<name>`, `/pipelines` | what the dashboard shows: the panels the project defines, the rows of one, the state of the pipelines |
//! | `/healthz`, `/readyz` | whether the process lives; whether it can do its work |
//! | `/metrics` | Prometheus' text format |
//!
//! There is no access control, so [`crate::listen::listen`] takes loopback addresses only, and `guard.rs` keeps out the one stranger who can
//! reach those: a web page in a browser on this machine.

mod connections;
mod encode;
mod exact;
mod guard;
mod head;
mod page;
mod panel_columns;
mod panel_rows;
mod panels;
mod problem;
mod slots;
mod sql;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use watershed_lake::Warehouse;

use crate::{QueryError, ServerCounters, Session};
pub use connections::ConnectionLimits;
pub use panel_columns::check_panel;
use problem::Problem;
use slots::Slots;

/// What one server may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Rows of one result. A larger one is an error, never cut short in silence.
    pub rows_max: usize,
    /// From the request to the last byte.
    pub query_time_max: Duration,
    /// Queries at once over `/sql`; further ones wait, then are sent away.
    pub queries_max: usize,
    /// How long a query waits for another one to end.
    pub query_wait_max: Duration,
    /// Panels that are computed at once; further ones wait.
    pub panels_max: usize,
    /// Connections.
    pub connections: ConnectionLimits,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            rows_max: 10_000_000,
            query_time_max: Duration::from_secs(300),
            queries_max: 8,
            query_wait_max: Duration::from_secs(2),
            panels_max: 4,
            connections: ConnectionLimits::default(),
        }
    }
}

/// Tables to be read.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Where the panels are defined.
    pub warehouse: Warehouse,
    /// Whose memory and threads queries share; each has a session of its own.
    pub session: Session,
}

/// What a server serves.
#[derive(Clone)]
pub struct HttpParts {
    /// `None`: no dashboard and no SQL, only the state of the process.
    pub lake: Option<Lake>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Why the process cannot do its work now; nothing if it can.
    pub not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Counts queries and connections, for `metrics` to tell.
    pub counters: Arc<ServerCounters>,
    /// What it may spend.
    pub limits: HttpLimits,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `parts` on `listener`, which [`crate::listen::listen`] gave.
    pub fn start(listener: TcpListener, parts: HttpParts) -> Result<Self, QueryError> {
        let address = listener.local_addr().map_err(|why| QueryError::Setup(format!("the HTTP server has no address: {why}").into()))?;
        let (limits, counters) = (parts.limits.connections, Arc::clone(&parts.counters));
        let task = tokio::spawn(connections::serve(listener, router(parts), limits, counters));
        tracing::info!(%address, "serving HTTP");
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to open in a browser.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Shared by all requests.
struct Site {
    parts: HttpParts,
    /// Places of queries over `/sql`.
    slots: Slots,
    /// Places of panels.
    panel_slots: Slots,
    panels: panels::Cache,
}

fn router(parts: HttpParts) -> Router {
    let (slots, panel_slots) = (Slots::new(parts.limits.queries_max), Slots::new(parts.limits.panels_max));
    let site = Arc::new(Site { slots, panel_slots, parts, panels: panels::Cache::default() });
    let mut router =
        Router::new().route("/healthz", get(status::health)).route("/readyz", get(status::ready)).route("/metrics", get(status::metrics));
    if site.parts.lake.is_some() {
        router = router
            .route("/", get(page::index))
            .route("/assets/{name}", get(page::asset))
            .route("/sql", get(sql::get).post(sql::post))
            .route("/pipelines", get(panels::pipelines))
            .route("/panels", get(panels::list))
            .route("/panels/{name}", get(panels::rows));
    }
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).layer(from_fn(guard::guard)).with_state(site)
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(
        &format!("there is nothing at {}", uri.path()),
        "/ is the dashboard, /sql?q=… runs a query; the guide lists the rest",
    )
}

async fn wrong_method() -> Problem {
    Problem::method()
}

#[cfg(test)]
mod tests;

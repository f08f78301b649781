//! What a browser, a script and a monitoring system read over HTTP.
//!
//! | address | answer |
//! |---|---|
//! | `/` | the dashboard: one page, drawn in the browser; needs nothing from elsewhere |
//! | `/sql?q=…` | the rows of a query as JSON or CSV |
//! | `/panels`, `/panels/<name>` | what the dashboard shows: the panels the project defines, the rows of one |
//! | `/healthz`, `/readyz` | whether the process lives; whether it can do its work |
//! | `/metrics` | Prometheus' text format |
//!
//! There is no access control, so [`crate::listen::listen`] takes loopback addresses only, and `guard.rs` keeps out the one stranger who can
//! reach those: a web page in a browser on this machine.

mod counters;
mod encode;
mod guard;
mod page;
mod panels;
mod problem;
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
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use watershed_lake::Warehouse;

use crate::{QueryError, Session};
pub use counters::QueryCounters;
use problem::Problem;

/// What one server may spend.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Rows of one result. A larger one is an error, never cut short in silence.
    pub rows_max: usize,
    /// From the request to the last byte.
    pub query_time_max: Duration,
    /// Queries at once; further ones wait a moment, then are sent away.
    pub queries_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { rows_max: 10_000_000, query_time_max: Duration::from_secs(300), queries_max: 8 }
    }
}

/// Tables to be read.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Where the panels are defined.
    pub warehouse: Warehouse,
    /// What queries run in.
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
    /// Counts queries, for `metrics` to tell.
    pub counters: Arc<QueryCounters>,
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
        let address = listener.local_addr().map_err(|why| QueryError::Setup(format!("the HTTP server has no address: {why}")))?;
        let router = router(parts);
        let task = tokio::spawn(async move {
            // It only ends when it is dropped: failed connections are its own business.
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%address, %error, "the HTTP server ended");
            }
        });
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
    /// One permit for each query that runs.
    slots: Arc<Semaphore>,
    panels: panels::Cache,
}

fn router(parts: HttpParts) -> Router {
    let site = Arc::new(Site { slots: Arc::new(Semaphore::new(parts.limits.queries_max)), parts, panels: panels::Cache::default() });
    let mut router =
        Router::new().route("/healthz", get(status::health)).route("/readyz", get(status::ready)).route("/metrics", get(status::metrics));
    if site.parts.lake.is_some() {
        router = router
            .route("/", get(page::index))
            .route("/assets/{name}", get(page::asset))
            .route("/sql", get(sql::get))
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

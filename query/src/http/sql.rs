//! `GET /sql?q=…[&format=json|csv][&limit=…]`: the rows of one query.
//!
//! Small results are held back until they are complete, so that whatever goes wrong is told as an error. Of larger ones the rows are
//! sent as they are computed, in flat memory; if something then goes wrong, the transfer is broken off, so that nobody takes a part for
//! the whole. A client that goes away ends its query.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use watershed_dialect::{StatementKind, did_you_mean};

use super::counters::Counted;
use super::encode::{Encoder, Format};
use super::problem::Problem;
use super::{HttpLimits, Lake, Site};
use crate::QueryError;

/// How much of a result is held back.
const HELD_BACK_BYTES: usize = 256 << 10;
/// Pieces that wait between a query and its client.
const CHUNKS_AHEAD: usize = 2;
/// How long a request waits for another query to end.
const SLOT_WAIT: Duration = Duration::from_secs(2);
/// Parameters there are.
const PARAMETERS: [&str; 3] = ["q", "format", "limit"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    sql: String,
    format: Format,
    /// The first so many rows only.
    limit: Option<usize>,
}

impl Asked {
    fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|why| {
            Problem::request(&format!("the address cannot be read: {why}"), "encode the query: curl -G --data-urlencode 'q=…'")
        })?;
        let (mut sql, mut format, mut limit) = (None, None, None);
        for (name, value) in pairs {
            let twice = match name.as_str() {
                "q" => sql.replace(value).is_some(),
                "format" => format.replace(format_named(&value)?).is_some(),
                "limit" => limit.replace(number(&value)?).is_some(),
                _ => {
                    let next = did_you_mean(&name, PARAMETERS).unwrap_or_else(|| format!("parameters are {}", PARAMETERS.join(", ")));
                    return Err(Problem::request(&format!("there is no parameter '{name}'"), &next));
                }
            };
            if twice {
                return Err(Problem::request(&format!("parameter '{name}' stands twice"), "give it once"));
            }
        }
        let sql = sql.filter(|text| !text.trim().is_empty());
        let sql = sql.ok_or_else(|| Problem::request("there is no query", "add ?q=SELECT… to the address, with spaces as %20 or +"))?;
        Ok(Self { sql, format: format.unwrap_or_else(|| accepted(headers)), limit })
    }
}

fn format_named(name: &str) -> Result<Format, Problem> {
    match name {
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        other => Err(Problem::request(&format!("there is no format '{other}'"), "use json or csv")),
    }
}

fn number(text: &str) -> Result<usize, Problem> {
    text.parse().map_err(|_| Problem::request(&format!("limit '{text}' is not a number of rows"), "write for example limit=100"))
}

/// CSV if the client prefers it to JSON.
fn accepted(headers: &HeaderMap) -> Format {
    let (mut json, mut csv) = (0.0, 0.0);
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in accepts.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        match media.as_str() {
            "application/json" => json = quality,
            "text/csv" => csv = quality,
            _ => {}
        }
    }
    if csv > json { Format::Csv } else { Format::Json }
}

/// Answers `GET /sql`.
pub(super) async fn get(State(site): State<Arc<Site>>, uri: Uri, headers: HeaderMap) -> Response {
    match answer(&site, &uri, &headers).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(site: &Site, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let asked = Asked::read(uri, headers)?;
    let Some(lake) = &site.parts.lake else { return Err(Problem::not_found("there are no tables here", "ask `watershed serve`")) };
    let mut running = Running::start(site, lake, &asked).await?;
    let mut held = Vec::new();
    loop {
        match running.next().await? {
            Some(bytes) => held.push(bytes),
            None => return Ok(respond(&asked, Body::from(held.concat()))),
        }
        if held.iter().map(Bytes::len).sum::<usize>() >= HELD_BACK_BYTES {
            return Ok(respond(&asked, running.stream(held)));
        }
    }
}

fn respond(asked: &Asked, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asked.format.content_type()));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A query on its way out. Dropping it cancels the query.
pub(super) struct Running {
    stream: SendableRecordBatchStream,
    encoder: Encoder,
    limits: HttpLimits,
    /// Rows asked for.
    limit: Option<usize>,
    rows: usize,
    deadline: Instant,
    ended: bool,
    counted: Counted,
    _slot: OwnedSemaphorePermit,
}

impl Running {
    async fn start(site: &Site, lake: &Lake, asked: &Asked) -> Result<Self, Problem> {
        let limits = site.parts.limits;
        let deadline = Instant::now() + limits.query_time_max;
        let slot = slot(site).await?;
        let mut counted = site.parts.counters.begin();
        let planned = async {
            only_reads(&asked.sql)?;
            let result = timeout_at(deadline, lake.session.query(&asked.sql)).await;
            let stream = result.map_err(|_| Problem::too_long(limits.query_time_max.as_secs()))??.stream;
            let encoder = Encoder::new(asked.format, &stream.schema())?;
            Ok::<_, Problem>((stream, encoder))
        };
        let planned = planned.await;
        counted_if_failed(&planned, &mut counted);
        let (stream, encoder) = planned?;
        Ok(Self { stream, encoder, limits, limit: asked.limit, rows: 0, deadline, ended: false, counted, _slot: slot })
    }

    /// The next bytes of the answer; `None` behind the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let next = self.take().await;
        if let Ok(None) = next {
            self.counted.end(true);
        }
        counted_if_failed(&next, &mut self.counted);
        next
    }

    async fn take(&mut self) -> Result<Option<Bytes>, Problem> {
        while !self.ended {
            let next = timeout_at(self.deadline, self.stream.next()).await;
            let bytes = match next.map_err(|_| Problem::too_long(self.limits.query_time_max.as_secs()))? {
                Some(batch) => {
                    let batch = batch.map_err(QueryError::from)?;
                    let limit = self.limit.filter(|limit| *limit <= self.limits.rows_max);
                    let room = limit.unwrap_or(self.limits.rows_max) - self.rows;
                    if limit.is_none() && batch.num_rows() > room {
                        return Err(Problem::too_many_rows(self.limits.rows_max));
                    }
                    let batch = batch.slice(0, batch.num_rows().min(room));
                    self.rows += batch.num_rows();
                    let bytes = self.encoder.rows(&batch)?;
                    self.ended = limit == Some(self.rows);
                    if self.ended { [bytes, self.encoder.end()?].concat().into() } else { bytes }
                }
                None => {
                    self.ended = true;
                    self.encoder.end()?
                }
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// A body of the bytes held back and all that follow. It is filled beside the connection, so that a client that stops reading
    /// cannot hold the query beyond its time.
    fn stream(mut self, held: Vec<Bytes>) -> Body {
        let (sender, mut receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS_AHEAD);
        // Without the mark a body that ends is one that was broken off.
        let complete = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&complete);
        tokio::spawn(async move {
            let deadline = self.deadline;
            let work = async {
                for bytes in held {
                    if sender.send(Ok(bytes)).await.is_err() {
                        return;
                    }
                }
                loop {
                    let piece = match self.next().await {
                        Ok(Some(bytes)) => Ok(bytes),
                        Ok(None) => return mark.store(true, Ordering::Release),
                        Err(problem) => {
                            tracing::warn!(what = problem.what, why = problem.why, rows = self.rows, "result broken off");
                            Err(std::io::Error::other(problem.what))
                        }
                    };
                    let broken = piece.is_err();
                    if sender.send(piece).await.is_err() || broken {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = timeout_at(deadline + SLOT_WAIT, work) => {}
                () = sender.closed() => {}
            }
        });
        Body::from_stream(futures::stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|piece| match piece {
                None if !complete.swap(true, Ordering::Acquire) => Some(Err(std::io::Error::other("the result was broken off"))),
                piece => piece,
            })
        }))
    }
}

/// A place among the queries that may run at once.
pub(super) async fn slot(site: &Site) -> Result<OwnedSemaphorePermit, Problem> {
    match timeout(SLOT_WAIT, Arc::clone(&site.slots).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::busy(site.parts.limits.queries_max)),
    }
}

fn counted_if_failed<T>(result: &Result<T, Problem>, counted: &mut Counted) {
    if result.is_err() {
        counted.end(false);
    }
}

/// A request must change nothing: neither settings, which all requests share, nor files, which `COPY … TO` writes.
fn only_reads(text: &str) -> Result<(), Problem> {
    let statements = watershed_dialect::parse(text).map_err(QueryError::from)?;
    let reads = |statement: &watershed_dialect::Statement| match &statement.kind {
        StatementKind::Other(other) => is_reading(other),
        // The session says why it refuses definitions.
        _ => true,
    };
    if statements.iter().all(reads) {
        return Ok(());
    }
    Err(Problem::request("a request over HTTP only reads", "use SELECT, SHOW, DESCRIBE or EXPLAIN; `watershed shell` does SET and COPY"))
}

fn is_reading(statement: &DfStatement) -> bool {
    match statement {
        DfStatement::Explain(explain) => is_reading(&explain.statement),
        DfStatement::Statement(statement) => matches!(
            statement.as_ref(),
            SqlStatement::Query(_)
                | SqlStatement::ExplainTable { .. }
                | SqlStatement::ShowTables { .. }
                | SqlStatement::ShowColumns { .. }
                | SqlStatement::ShowFunctions { .. }
                | SqlStatement::ShowVariable { .. }
        ),
        _ => false,
    }
}

//! `GET /sql?q=…[&format=json|csv][&limit=…][&numbers=exact]`, or `POST /sql` with the query as its body: the rows of one query.
//!
//! Small results are held back until they are complete, so that whatever goes wrong is answered with an error. Of larger ones the rows are
//! sent as they are computed, in flat memory; if something then goes wrong, the transfer is broken off, so that no client takes a part for
//! the whole. A client that goes away ends its query. Every request has a session of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::Extension;
use axum::body::{Body, HttpBody};
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
use watershed_lake::pieces;

use super::connections::Peer;
use super::encode::{Encoder, Format, Numbers};
use super::problem::Problem;
use super::{HttpLimits, Lake, Site};
use crate::counters::{self, Counted, HTTP, Who};
use crate::memory::PIECE_BYTES_TARGET;
use crate::{QueryError, QueryResult};

/// How much of a result is held back.
const HELD_BACK_BYTES: usize = 256 << 10;
/// Pieces that wait between a query and its client.
const CHUNKS_AHEAD: usize = 2;
/// How long the last bytes of a result may take when the query's time is over.
const LAST_BYTES_WAIT: Duration = Duration::from_secs(2);
/// A query as a body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long it may take to come.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// What a body of SQL is called. A web page cannot send it to another site without asking, and is not answered.
const SQL_TYPE: &str = "application/sql";
/// Parameters there are.
const PARAMETERS: [&str; 4] = ["q", "format", "limit", "numbers"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    sql: String,
    format: Format,
    /// The first so many rows only.
    limit: Option<usize>,
}

impl Asked {
    /// `body` is the query, unless it is in the address.
    fn read(uri: &Uri, headers: &HeaderMap, body: Option<String>) -> Result<Self, Problem> {
        if !is_utf8(uri.query().unwrap_or_default()) {
            return Err(Problem::request("the address is not text in UTF-8", "encode the query in UTF-8: curl -G --data-urlencode 'q=…'"));
        }
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|why| {
            Problem::request(&format!("the address cannot be read: {why}"), "encode the query: curl -G --data-urlencode 'q=…'")
        })?;
        let (mut sql, mut format, mut limit, mut numbers) = (body, None, None, None);
        for (name, value) in pairs {
            let twice = match name.as_str() {
                "q" => sql.replace(value).is_some(),
                "format" => format.replace(format_named(&value)?).is_some(),
                "limit" => limit.replace(number(&value)?).is_some(),
                "numbers" => numbers.replace(numbers_named(&value)?).is_some(),
                _ => {
                    let next = did_you_mean(&name, PARAMETERS).unwrap_or_else(|| format!("parameters are {}", PARAMETERS.join(", ")));
                    return Err(Problem::request(&format!("there is no parameter '{name}'"), &next));
                }
            };
            if twice {
                let next = if name == "q" { "give one query, in the address or as the body" } else { "give it once" };
                return Err(Problem::request(&format!("parameter '{name}' stands twice"), next));
            }
        }
        let sql = sql.map(without_mark).filter(|text| !text.trim().is_empty());
        let sql = sql.ok_or_else(|| Problem::request("there is no query", "add ?q=SELECT… to the address, with spaces as %20 or +"))?;
        let format = match (format.unwrap_or_else(|| accepted(headers)), numbers) {
            (Format::Json(_), Some(numbers)) => Format::Json(numbers),
            (format, _) => format,
        };
        Ok(Self { sql, format, limit })
    }
}

/// Whether a query is text once its `%XX` are bytes. What is not would be read with other characters in its place.
fn is_utf8(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// Editors on Windows put a mark at the beginning of a file.
fn without_mark(text: String) -> String {
    text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)
}

fn format_named(name: &str) -> Result<Format, Problem> {
    match name {
        "json" => Ok(Format::Json(Numbers::Plain)),
        "csv" => Ok(Format::Csv),
        other => Err(Problem::request(&format!("there is no format '{other}'"), "use json or csv")),
    }
}

fn numbers_named(name: &str) -> Result<Numbers, Problem> {
    match name {
        "plain" => Ok(Numbers::Plain),
        "exact" => Ok(Numbers::Exact),
        other => Err(Problem::request(&format!("numbers cannot be '{other}'"), "use plain, or exact for text in place of what is rounded")),
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
    if csv > json { Format::Csv } else { Format::Json(Numbers::Plain) }
}

/// Answers `GET /sql`.
pub(super) async fn get(State(site): State<Arc<Site>>, peer: Option<Extension<Peer>>, uri: Uri, headers: HeaderMap) -> Response {
    answer(&site, peer, &uri, &headers, None).await.unwrap_or_else(Problem::into_response)
}

/// Answers `POST /sql`.
pub(super) async fn post(
    State(site): State<Arc<Site>>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answered = async {
        let text = text_of(&headers, body).await?;
        answer(&site, peer, &uri, &headers, Some(text)).await
    };
    answered.await.unwrap_or_else(Problem::into_response)
}

async fn text_of(headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SQL_TYPE) {
        return Err(Problem::not_sql(kind));
    }
    if let Some(coding) = headers.get(header::CONTENT_ENCODING).filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::coded_body(coding.to_str().unwrap_or("?")));
    }
    let bytes = timeout(BODY_WAIT, whole(body)).await.map_err(|_| Problem::silent(BODY_WAIT.as_secs()))??;
    String::from_utf8(bytes).map_err(|_| Problem::request("the query is not text in UTF-8", "send it in UTF-8"))
}

/// All of a body. One that is announced as too long is not read at all.
async fn whole(body: Body) -> Result<Vec<u8>, Problem> {
    let fits = |length: u64| if length > BODY_BYTES_MAX as u64 { Err(Problem::long_body(BODY_BYTES_MAX)) } else { Ok(()) };
    fits(body.size_hint().lower())?;
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|why| Problem::broken_body(&why))?;
        fits((bytes.len() + piece.len()) as u64)?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn answer(
    site: &Site,
    peer: Option<Extension<Peer>>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Option<String>,
) -> Result<Response, Problem> {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let who = Who::new(HTTP, peer.map(|Extension(Peer(address))| address), agent);
    let asked = Asked::read(uri, headers, body)?;
    let Some(lake) = &site.parts.lake else { return Err(Problem::not_found("there are no tables here", "ask `watershed serve`")) };
    let mut running = Running::start(site, lake, who, &asked).await?;
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
    /// Of the newest batch, what is not written yet.
    pieces: VecDeque<RecordBatch>,
    deadline: Instant,
    /// No rows follow those in `pieces`.
    rows_ended: bool,
    /// All is written.
    ended: bool,
    counted: Counted,
    _slot: OwnedSemaphorePermit,
}

impl Running {
    async fn start(site: &Site, lake: &Lake, who: Who, asked: &Asked) -> Result<Self, Problem> {
        let limits = site.parts.limits;
        let deadline = Instant::now() + limits.query_time_max;
        let slot = site.slots.take(limits.query_wait_max).await?;
        let mut counted = site.parts.counters.begin(counters::Asked::new(who, &asked.sql));
        let planned = async {
            only_reads(&asked.sql)?;
            let session = lake.session.for_client();
            let result = timeout_at(deadline, session.query(&asked.sql)).await;
            let result = result.map_err(|_| Problem::too_long(limits.query_time_max.as_secs()))??;
            let encoder = Encoder::new(asked.format, &result.schema())?;
            Ok::<_, Problem>((result, encoder))
        };
        let planned = planned.await;
        counted_if_failed(&planned, &mut counted);
        let (QueryResult { stream, memory, .. }, encoder) = planned?;
        counted.takes(memory);
        let pieces = VecDeque::new();
        let limit = asked.limit;
        Ok(Self { stream, encoder, limits, limit, rows: 0, pieces, deadline, rows_ended: false, ended: false, counted, _slot: slot })
    }

    /// The next bytes of the answer; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let next = self.take().await;
        if let Ok(None) = next {
            self.counted.end(true);
        }
        counted_if_failed(&next, &mut self.counted);
        next
    }

    async fn take(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                let bytes = self.encoder.rows(&piece)?;
                if !bytes.is_empty() {
                    return Ok(Some(bytes));
                }
            } else if self.ended {
                return Ok(None);
            } else if self.rows_ended {
                self.ended = true;
                return Ok(Some(self.encoder.end()?));
            } else {
                self.take_batch().await?;
            }
        }
    }

    async fn take_batch(&mut self) -> Result<(), Problem> {
        let next = timeout_at(self.deadline, self.stream.next()).await;
        let Some(batch) = next.map_err(|_| Problem::too_long(self.limits.query_time_max.as_secs()))? else {
            self.rows_ended = true;
            return Ok(());
        };
        let batch = batch.map_err(QueryError::from)?;
        let limit = self.limit.filter(|limit| *limit <= self.limits.rows_max);
        let room = limit.unwrap_or(self.limits.rows_max) - self.rows;
        if limit.is_none() && batch.num_rows() > room {
            return Err(Problem::too_many_rows(self.limits.rows_max));
        }
        let batch = batch.slice(0, batch.num_rows().min(room));
        self.rows += batch.num_rows();
        self.counted.sent(batch.num_rows());
        self.rows_ended = limit == Some(self.rows);
        self.pieces.extend(pieces(batch, PIECE_BYTES_TARGET));
        Ok(())
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
                _ = timeout_at(deadline + LAST_BYTES_WAIT, work) => {}
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

fn counted_if_failed<T>(result: &Result<T, Problem>, counted: &mut Counted) {
    if result.is_err() {
        counted.end(false);
    }
}

/// A request must change nothing: neither settings, which would end with it, nor files, which `COPY … TO` writes.
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
                | SqlStatement::ShowCreate { .. }
                | SqlStatement::ShowVariable { .. }
        ),
        _ => false,
    }
}

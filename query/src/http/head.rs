//! The head of a connection's first request, read before it counts as a client: one that is too long or does not come is answered with the
//! reason, which hyper does not give.

use std::io;
use std::time::Duration;

use axum::body::{HttpBody, to_bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::guard::{is_of_supervisors, with_headers};
use super::problem::Problem;

/// The first line, which holds the address with its query.
const LINE_BYTES_MAX: usize = 65_000;
/// The first line and all headers.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// What hyper takes.
const HEADERS_MAX: usize = 100;
/// How long a client has to take the reason and leave.
pub(super) const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// What is read of a client that has not yet heard that it is not answered.
pub(super) const UNREAD_BYTES_MAX: usize = 4 << 20;

/// What came first.
pub(super) enum Head {
    /// A whole head, or what is none: hyper says so.
    Came(Vec<u8>),
    /// The client left.
    Gone,
    /// It will not be read.
    Refused(Problem),
}

/// Reads to the end of the head.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Head> {
    let mut bytes = Vec::with_capacity(4 << 10);
    loop {
        let looked_at = bytes.len().saturating_sub(3);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(Head::Gone);
        }
        // Not text: a client that speaks TLS, or something else.
        if !bytes[0].is_ascii_graphic() && !bytes[0].is_ascii_whitespace() {
            return Ok(Head::Came(bytes));
        }
        let end = bytes[looked_at..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| looked_at + at);
        let line = bytes.iter().take(LINE_BYTES_MAX + 1).position(|byte| *byte == b'\n');
        if line.is_none() && bytes.len() > LINE_BYTES_MAX {
            return Ok(Head::Refused(Problem::long_address(LINE_BYTES_MAX)));
        }
        let read = end.unwrap_or(bytes.len());
        if read > HEAD_BYTES_MAX || bytes[..read].iter().filter(|byte| **byte == b'\n').count() > HEADERS_MAX {
            return Ok(Head::Refused(Problem::long_headers(HEAD_BYTES_MAX, HEADERS_MAX)));
        }
        if end.is_some() {
            return Ok(Head::Came(bytes));
        }
    }
}

/// True if this request comes from what looks after the process.
pub(super) fn is_from_supervisor(head: &[u8]) -> bool {
    let path = head.strip_prefix(b"GET ").and_then(|rest| rest.split(|byte| matches!(byte, b' ' | b'?')).next());
    path.and_then(|path| std::str::from_utf8(path).ok()).is_some_and(is_of_supervisors)
}

/// Tells a client why it is not answered, and ends the connection so that it can read that.
pub(super) async fn turn_away(stream: &mut TcpStream, problem: Problem) {
    let mut response = with_headers(problem.into_response());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let farewell = async {
        let bytes = written(response).await?;
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        // A connection that is closed with bytes unread is reset, and the client may lose its answer.
        let (mut unread, mut buffer) = (0, [0; 8 << 10]);
        while unread < UNREAD_BYTES_MAX {
            match stream.read(&mut buffer).await? {
                0 => break,
                more => unread += more,
            }
        }
        Ok::<_, io::Error>(())
    };
    // Nobody is left who could hear of a failure.
    let _ = timeout(LEAVE_WAIT, farewell).await;
}

/// A small response as it goes over the wire.
async fn written(response: Response) -> io::Result<Vec<u8>> {
    let (parts, body) = response.into_parts();
    let length = body.size_hint().upper().unwrap_or_default();
    let body = to_bytes(body, length as usize).await.map_err(io::Error::other)?;
    let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_LENGTH {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::is_from_supervisor;

    #[test]
    fn supervisors_are_known_by_what_they_ask() {
        for head in ["GET /healthz HTTP/1.1\r\n", "GET /metrics?x=1 HTTP/1.1\r\n", "GET /readyz HTTP/1.0\r\n"] {
            assert!(is_from_supervisor(head.as_bytes()), "{head}");
        }
        for head in
            ["GET /sql?q=/healthz HTTP/1.1\r\n", "POST /healthz HTTP/1.1\r\n", "GET /healthzz HTTP/1.1\r\n", "", "PRI * HTTP/2.0\r\n"]
        {
            assert!(!is_from_supervisor(head.as_bytes()), "{head}");
        }
    }
}

//! Errors as JSON: `{"error": {"what": …, "why": …, "next": …}}`; SQL errors also say where (`line`, `column`).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use watershed_message::Message;

use crate::QueryError;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) what: String,
    pub(super) why: Option<String>,
    pub(super) next: Option<String>,
    /// Line and column in the SQL text.
    pub(super) place: Option<(u64, u64)>,
}

impl Problem {
    fn new(status: StatusCode, what: &str, why: Option<&str>, next: &str) -> Self {
        Self { status, what: what.to_owned(), why: why.map(str::to_owned), next: Some(next.to_owned()), place: None }
    }

    /// The request itself is wrong.
    pub(super) fn request(what: &str, next: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what, None, next)
    }

    pub(super) fn not_found(what: &str, next: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, what, None, next)
    }

    pub(super) fn method() -> Self {
        let why = "nothing here can be changed over HTTP";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered, and POST by /sql", Some(why), "use GET")
    }

    /// The one who asks may not.
    pub(super) fn stranger(what: &str, why: &str, next: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, what, Some(why), next)
    }

    /// No place for a query came free in time.
    pub(super) fn busy(queries_max: usize, waiting: usize) -> Self {
        let others = match waiting {
            0 => String::new(),
            1 => ", and another one waits".to_owned(),
            several => format!(", and {several} others wait"),
        };
        let why = match queries_max {
            1 => format!("1 query runs already{others}"),
            several => format!("{several} queries run already{others}"),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the query was not started", Some(&why), "try again in a moment")
    }

    /// No place for a connection.
    pub(super) fn crowded(connections_max: usize) -> Self {
        let why = format!("{connections_max} connections are at work already");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the connection was not taken", Some(&why), "try again in a moment")
    }

    /// No request came.
    pub(super) fn silent(seconds: u64) -> Self {
        let why = format!("it did not come within {seconds} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, "there was no whole request", Some(&why), "connect when there is something to ask")
    }

    pub(super) fn long_address(bytes_max: usize) -> Self {
        let why = format!("it is longer than {bytes_max} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "the address was not read", Some(&why), "send a long query as the body: POST /sql")
    }

    pub(super) fn long_headers(bytes_max: usize, count_max: usize) -> Self {
        let why = format!("they have more than {count_max} lines or {bytes_max} bytes");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers were not read", Some(&why), "send fewer and shorter ones")
    }

    /// A body that is none of SQL: only a program sends such a one, never a page of another site.
    pub(super) fn not_sql(content_type: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("the body was not read: its type is '{content_type}'"),
            None,
            "send the query as it is, with the header Content-Type: application/sql",
        )
    }

    /// A body that is compressed.
    pub(super) fn coded_body(coding: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("the body was not read: it is encoded as '{coding}'"),
            None,
            "send the query as it is, without Content-Encoding",
        )
    }

    pub(super) fn long_body(bytes_max: usize) -> Self {
        let why = format!("it is longer than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the query was not read", Some(&why), "write a shorter one")
    }

    /// A body whose pieces are not those of HTTP, or that ends early; then nobody may be there to hear of it.
    pub(super) fn broken_body(why: &(dyn std::error::Error + 'static)) -> Self {
        // The last of the reasons says what is wrong; those around it say that it was about a body.
        let mut root = why;
        while let Some(inner) = root.source() {
            root = inner;
        }
        Self::new(
            StatusCode::BAD_REQUEST,
            "the body cannot be read",
            Some(&root.to_string()),
            "send it with Content-Length, or in chunks that are whole",
        )
    }

    pub(super) fn too_long(seconds: u64) -> Self {
        let why = format!("it took longer than {seconds} s");
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the query was ended",
            Some(&why),
            "narrow it with WHERE, or use the SQL shell, which has no such limit",
        )
    }

    pub(super) fn too_many_rows(rows_max: usize) -> Self {
        let why = format!("its result has more than {rows_max} rows");
        Self::new(StatusCode::BAD_REQUEST, "the query was ended", Some(&why), "aggregate, or ask for the first rows with &limit=…")
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::Lake(_) | QueryError::Setup(_) => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        if let QueryError::Sql(sql) = error {
            let place = sql.line.zip(sql.column);
            return Self { status, what: sql.message, why: sql.detail, next: sql.hint, place };
        }
        let Message { what, why, next } = error.message();
        Self { status, what, why, next, place: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = serde_json::Map::new();
        error.insert("what".to_owned(), Value::from(self.what));
        for (name, text) in [("why", self.why), ("next", self.next)] {
            error.extend(text.map(|text| (name.to_owned(), Value::from(text))));
        }
        if let Some((line, column)) = self.place {
            error.extend([("line".to_owned(), Value::from(line)), ("column".to_owned(), Value::from(column))]);
        }
        let mut response = (self.status, axum::Json(json!({ "error": error }))).into_response();
        let more = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
            // What is left of the body is not read, so no other request can come over this connection. (HTTP/2 leaves the header out.)
            StatusCode::PAYLOAD_TOO_LARGE => Some((header::CONNECTION, "close")),
            _ => None,
        };
        response.headers_mut().extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values may hold what the parts are shown with.
    #[test]
    fn nothing_is_taken_apart_again() {
        let said = Message::new("no file 'a; b: c'").why("the disk 'd; e: f' is gone").next("mount 'g; h: i'");
        let Problem { what, why, next, .. } = QueryError::Told(said.clone()).into();
        assert_eq!(Message { what, why, next }, said);
        let Problem { what, why, next, .. } = QueryError::Failed(said).into();
        assert_eq!(what, "the query failed");
        assert_eq!(why.as_deref(), Some("no file 'a; b: c': the disk 'd; e: f' is gone"));
        assert_eq!(next.as_deref(), Some("mount 'g; h: i'"));
        let refused = QueryError::Refused { what: "'a; b: c' is no table".to_owned(), hint: "try 'd; e'".to_owned() };
        let Problem { what, why, next, .. } = refused.into();
        assert_eq!((what.as_str(), why, next.as_deref()), ("'a; b: c' is no table", None, Some("try 'd; e'")));
    }
}

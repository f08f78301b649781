//! Errors on the wire: a code that clients map to their exceptions, a text for people, and for our own shell the parts of the error, so
//! that it shows the same lines and caret as at home.

use arrow_flight::error::FlightError;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use watershed_dialect::SqlError;
use watershed_message::Message;

use crate::QueryError;

const MESSAGE: &str = "watershed-sql-message-bin";
const DETAIL: &str = "watershed-sql-detail-bin";
const HINT: &str = "watershed-sql-hint-bin";
const PLACE: &str = "watershed-sql-place";
/// The parts of any other error.
const WHAT: &str = "watershed-what-bin";
const WHY: &str = "watershed-why-bin";
const NEXT: &str = "watershed-next-bin";

/// Clients give up on headers beyond a few kilobytes, and percent-encoding may triple a text.
const TEXT_BYTES_MAX: usize = 2000;

/// An error as a client gets it.
pub(super) fn told(error: QueryError) -> Status {
    let code = match &error {
        QueryError::Sql(_) | QueryError::Value(_) => Code::InvalidArgument,
        QueryError::Refused { .. } => Code::Unimplemented,
        QueryError::OutOfMemory { .. } => Code::ResourceExhausted,
        QueryError::Lake(_) => Code::Unavailable,
        QueryError::Failed(_) | QueryError::Setup(_) => Code::Internal,
        QueryError::Told(_) => Code::Unknown,
    };
    let QueryError::Sql(sql) = &error else { return said(code, &error.message()) };
    let mut parts = parts([(MESSAGE, Some(&sql.message)), (DETAIL, sql.detail.as_ref()), (HINT, sql.hint.as_ref())]);
    if let (Some(line), Some(column)) = (sql.line, sql.column)
        && let Ok(place) = format!("{line}:{column}").parse()
    {
        parts.insert(PLACE, place);
    }
    Status::with_metadata(code, shortened(&error.to_string()), parts)
}

/// The same for a statement that is prepared. Drivers take "unimplemented" there for a server that prepares nothing at all, and go other ways.
pub(super) fn told_of_preparing(error: QueryError) -> Status {
    let status = told(error);
    match status.code() {
        Code::Unimplemented => Status::with_metadata(Code::InvalidArgument, status.message(), status.metadata().clone()),
        _ => status,
    }
}

/// A status that says this.
pub(super) fn said(code: Code, message: &Message) -> Status {
    let parts = parts([(WHAT, Some(&message.what)), (WHY, message.why.as_ref()), (NEXT, message.next.as_ref())]);
    Status::with_metadata(code, shortened(&message.to_string()), parts)
}

fn parts(texts: [(&'static str, Option<&String>); 3]) -> MetadataMap {
    let mut parts = MetadataMap::new();
    for (key, text) in texts {
        if let Some(text) = text {
            parts.insert_bin(key, MetadataValue::from_bytes(shortened(text).as_bytes()));
        }
    }
    parts
}

/// The error that a server sent us.
pub(super) fn heard(error: FlightError) -> QueryError {
    match error {
        FlightError::Tonic(status) => of_status(&status),
        FlightError::Arrow(error) => QueryError::Failed(error.to_string().into()),
        other => QueryError::Told(Message::new("the server's answer was not understood").why(other.to_string())),
    }
}

pub(super) fn of_status(status: &Status) -> QueryError {
    let part = |key: &str| {
        let bytes = status.metadata().get_bin(key)?.to_bytes().ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    if let Some(message) = part(MESSAGE) {
        let place = status.metadata().get(PLACE).and_then(|place| place.to_str().ok()).and_then(|place| place.split_once(':'));
        let number = |text: &str| text.parse().ok();
        let (line, column) = place.map_or((None, None), |(line, column)| (number(line), number(column)));
        return QueryError::Sql(SqlError { message, detail: part(DETAIL), hint: part(HINT), line, column });
    }
    match status.code() {
        // Words of the transport, not of a server.
        Code::Unavailable | Code::Unknown if std::error::Error::source(status).is_some() => QueryError::Told(
            Message::new("the connection to the server is lost").next("check that `watershed serve` runs there, and try again"),
        ),
        // A frame of HTTP read as one of gRPC.
        _ if status.message().contains("compression flag") => QueryError::Told(
            Message::new("what answers there is no Flight SQL server")
                .next("write the address that `watershed serve` names for Flight SQL, not the dashboard's"),
        ),
        Code::OutOfRange | Code::ResourceExhausted if status.message().contains("message length too large") => {
            QueryError::Told(Message::new("a row of the result is too large for one message").next("leave out its longest columns"))
        }
        _ => QueryError::Told(match part(WHAT) {
            Some(what) => Message { what, why: part(WHY), next: part(NEXT) },
            None => Message::new(status.message()),
        }),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > TEXT_BYTES_MAX) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(error: QueryError) -> QueryError {
        of_status(&told(error))
    }

    #[test]
    fn an_sql_error_keeps_its_parts() {
        let error = SqlError::new("column 'cíty' does not exist").detail("columns here: a, b").hint("did you mean 'a'?").at(3, 14);
        assert!(matches!(there_and_back(QueryError::Sql(error.clone())), QueryError::Sql(back) if back == error));
        let bare = SqlError::new("no");
        assert!(matches!(there_and_back(QueryError::Sql(bare.clone())), QueryError::Sql(back) if back == bare));
    }

    #[test]
    fn other_clients_read_place_and_hint_in_the_text() {
        let status = told(QueryError::Sql(SqlError::new("no such thing").hint("try another").at(2, 7)));
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "no such thing (line 2, column 7); try another"));
    }

    #[test]
    fn what_cannot_be_prepared_is_an_invalid_statement() {
        let refused = || QueryError::Refused { what: "a session only reads".to_owned(), hint: "do otherwise".to_owned() };
        assert_eq!(told(refused()).code(), Code::Unimplemented);
        let status = told_of_preparing(refused());
        assert_eq!((status.code(), of_status(&status).message()), (Code::InvalidArgument, refused().message()));
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let error = QueryError::Refused { what: "a session only reads".to_owned(), hint: "do otherwise".to_owned() };
        let rendered = error.render("", None);
        assert_eq!(there_and_back(error).render("", None), rendered);
    }

    /// Values may hold what the parts are shown with.
    #[test]
    fn nothing_is_taken_apart_again() {
        let why = "Cannot cast string '1; 2: 3' to value of INT type";
        let failed = QueryError::Value(why.into());
        assert_eq!(told(failed).message(), format!("the query failed: {why}"));
        let message = Message::new("no file 'a; b: c'").why("the disk 'd; e: f' is gone").next("mount 'g; h: i'");
        for error in [QueryError::Value(why.into()), QueryError::Failed(message.clone()), QueryError::Told(message)] {
            let parts = error.message();
            assert_eq!(there_and_back(error).message(), parts);
        }
    }

    #[test]
    fn endless_texts_are_cut_between_characters() {
        let cut = shortened(&"ü€".repeat(5000));
        assert!(cut.len() < TEXT_BYTES_MAX + 8 && cut.ends_with(" …"));
    }
}

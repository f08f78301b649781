//! Actions that Flight has and arrow-flight has no functions for: cancelling, and what there is of sessions.
//!
//! `CancelFlightInfo` and Flight SQL's older `CancelQuery` give back the `FlightInfo` of a query; its ticket names the query. Session
//! options: `catalog` can be read, and set to the one catalog there is; all else is answered with an error for the option.

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, ActionType};

use super::queries::{Cancelled, Queries, QueryId};
use super::statement::id_of;
use super::wire::{Writer, field, fields, unpacked};
use crate::QueryError;
use crate::catalog::CATALOG;
use crate::session::refused;

const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const SET_OPTIONS: &str = "SetSessionOptions";
const GET_OPTIONS: &str = "GetSessionOptions";
const CLOSE: &str = "CloseSession";

/// The option that names the catalog.
const CATALOG_OPTION: &str = "catalog";

/// `CancelStatus` and `CancelResult` of the protocol.
pub(super) const CANCELLED: i32 = 1;
const NOT_CANCELLABLE: i32 = 3;

/// `SetSessionOptionsResult.ErrorValue`
const INVALID_NAME: u64 = 1;
const INVALID_VALUE: u64 = 2;

/// `CloseSessionResult.Status`
const CLOSED: u64 = 1;

/// The actions answered here.
pub(super) fn actions() -> Vec<ActionType> {
    let described = |name: &str, description: &str| ActionType { r#type: name.to_owned(), description: description.to_owned() };
    vec![
        described(CANCEL_FLIGHT_INFO, "Ends a query.\nRequest: CancelFlightInfoRequest\nResponse: CancelFlightInfoResult"),
        described(SET_OPTIONS, "Sets options of the session.\nRequest: SetSessionOptionsRequest\nResponse: SetSessionOptionsResult"),
        described(GET_OPTIONS, "Reads options of the session.\nRequest: GetSessionOptionsRequest\nResponse: GetSessionOptionsResult"),
        described(CLOSE, "Ends the session.\nRequest: CloseSessionRequest\nResponse: CloseSessionResult"),
    ]
}

/// Does an action; gives the body of its result.
pub(super) fn act(queries: &Queries, action: &Action) -> Result<Vec<u8>, QueryError> {
    match action.r#type.as_str() {
        CANCEL_FLIGHT_INFO => {
            let info = field(&action.body, 1).ok_or_else(|| malformed(CANCEL_FLIGHT_INFO))?;
            Ok(Writer::default().number(1, cancel(queries, info)? as u64).finish())
        }
        SET_OPTIONS => set_options(&action.body),
        GET_OPTIONS => {
            let value = Writer::default().bytes(1, CATALOG.as_bytes()).finish();
            Ok(Writer::default().bytes(1, &entry(CATALOG_OPTION.as_bytes(), &value)).finish())
        }
        // What a connection set ends with it; there is nothing else to close.
        CLOSE => Ok(Writer::default().number(1, CLOSED).finish()),
        other => Err(refused(&format!("there is no action '{other}' here"), "ListActions names those there are")),
    }
}

/// Ends the query that a `FlightInfo` (as bytes) refers to; gives the protocol's word for what became of it.
pub(super) fn cancel(queries: &Queries, info: &[u8]) -> Result<i32, QueryError> {
    let id = query_of(info).ok_or_else(|| malformed("cancelling"))?;
    Ok(match queries.cancel(id) {
        Cancelled::BeforeStart | Cancelled::Running => CANCELLED,
        Cancelled::Unknown => NOT_CANCELLABLE,
    })
}

/// `FlightInfo.endpoint[0].ticket.ticket` is an `Any` of a `TicketStatementQuery`.
fn query_of(info: &[u8]) -> Option<QueryId> {
    let ticket = field(field(field(info, 3)?, 1)?, 1)?;
    let (address, message) = unpacked(ticket)?;
    if address != TicketStatementQuery::type_url() {
        return None;
    }
    id_of(field(message, 1)?).ok()
}

/// Answers with an error for each option that is not there.
fn set_options(request: &[u8]) -> Result<Vec<u8>, QueryError> {
    let mut result = Writer::default();
    for option in fields(request, 1).ok_or_else(|| malformed(SET_OPTIONS))? {
        let name = field(option, 1).unwrap_or_default();
        let value = field(option, 2).and_then(|value| field(value, 1)).unwrap_or_default();
        let error = match (name == CATALOG_OPTION.as_bytes(), value == CATALOG.as_bytes()) {
            (true, true) => continue,
            (true, false) => INVALID_VALUE,
            (false, _) => INVALID_NAME,
        };
        result = result.bytes(1, &entry(name, &Writer::default().number(1, error).finish()));
    }
    Ok(result.finish())
}

/// One entry of a map.
fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    Writer::default().bytes(1, key).bytes(2, value).finish()
}

fn malformed(what: &str) -> QueryError {
    refused(&format!("{what} needs the FlightInfo of a query of this server, and this is none"), "send it back as GetFlightInfo gave it")
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;
    use crate::flight::wire::packed;

    fn queries() -> Queries {
        Queries::within(&UnboundedMemoryPool::default())
    }

    #[test]
    fn the_ticket_of_an_info_names_the_query() {
        let id = QueryId::new_v4();
        let ticket = packed(&TicketStatementQuery { statement_handle: id.as_bytes().to_vec().into() });
        let message = |inner: &[u8]| Writer::default().bytes(1, inner).finish();
        let endpoint = message(&message(&ticket));
        let info = Writer::default().bytes(1, b"schema").bytes(3, &endpoint).number(4, 7).finish();
        assert_eq!(query_of(&info), Some(id));
        assert_eq!(query_of(b"nonsense"), None);
        let body = message(&info);
        let answer = act(&queries(), &Action::new(CANCEL_FLIGHT_INFO, body)).unwrap();
        assert_eq!(answer, Writer::default().number(1, NOT_CANCELLABLE as u64).finish());
    }

    #[test]
    fn each_option_that_is_not_there_is_answered() {
        let text = |value: &str| Writer::default().bytes(1, value.as_bytes()).finish();
        let option = |name: &str, value: &str| entry(name.as_bytes(), &text(value));
        let request = Writer::default()
            .bytes(1, &option("catalog", "watershed"))
            .bytes(1, &option("catalog", "other"))
            .bytes(1, &option("colour", "red"))
            .finish();
        let errors = act(&queries(), &Action::new(SET_OPTIONS, request)).unwrap();
        let names: Vec<_> = fields(&errors, 1).unwrap().into_iter().map(|error| field(error, 1).unwrap()).collect();
        assert_eq!(names, [b"catalog".as_slice(), b"colour"]);
    }

    #[test]
    fn an_unknown_action_is_named() {
        let error = act(&queries(), &Action::new("Dance", "")).unwrap_err().to_string();
        assert!(error.contains("'Dance'") && error.contains("ListActions"), "{error}");
    }
}

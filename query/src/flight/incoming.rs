//! Parameters as they come: messages of Arrow IPC from strangers, looked at before they are decoded. arrow-ipc trusts what they announce: a
//! compressed buffer that says it holds 2⁶² bytes ends the process, one beyond the end of its message panics.

use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow::ipc::{self, root_as_message};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::{FutureExt, Stream, TryStreamExt};
use tonic::Status;

use super::status::told;
use crate::QueryError;
use crate::session::refused;

/// Rows of one message: one can be bound, and an error that says so wants to know of a second.
const ROWS_MAX: i64 = 1_000;

/// The first batches of a stream of messages: there is no need to read on, as one row is what can be bound.
pub(super) async fn batches(messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static) -> Result<Vec<RecordBatch>, Status> {
    let checked = messages.map_err(FlightError::from).and_then(|message| async move { check(&message).map(|()| message) });
    let mut rows = FlightRecordBatchStream::new_from_flight_data(checked);
    let read = async {
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            batches.push(batch);
            if batches.len() > 1 {
                break;
            }
        }
        Ok::<_, FlightError>(batches)
    };
    match AssertUnwindSafe(read).catch_unwind().await {
        Ok(batches) => batches.map_err(Status::from),
        Err(_) => Err(told(malformed("it cannot be decoded"))),
    }
}

fn check(message: &FlightData) -> Result<(), FlightError> {
    if message.data_header.is_empty() {
        return Ok(());
    }
    look_at(message).map_err(|error| FlightError::from(told(error)))
}

fn look_at(message: &FlightData) -> Result<(), QueryError> {
    let head = root_as_message(&message.data_header).map_err(|_| malformed("its head is damaged"))?;
    match head.header_type() {
        ipc::MessageHeader::Schema => Ok(()),
        ipc::MessageHeader::RecordBatch => {
            let batch = head.header_as_record_batch().ok_or_else(|| malformed("its head is damaged"))?;
            if !(0..=ROWS_MAX).contains(&batch.length()) {
                return Err(refused("more than one row of parameters was bound to a query", "run it once for each row"));
            }
            check_batch(&batch, message.data_body.len())
        }
        ipc::MessageHeader::DictionaryBatch => {
            let dictionary = head.header_as_dictionary_batch().and_then(|batch| batch.data());
            check_batch(&dictionary.ok_or_else(|| malformed("its head is damaged"))?, message.data_body.len())
        }
        _ => Err(malformed("it is neither a schema nor rows")),
    }
}

/// Buffers are in the message, and nothing is longer than these can hold.
fn check_batch(batch: &ipc::RecordBatch<'_>, body_bytes: usize) -> Result<(), QueryError> {
    if batch.compression().is_some() {
        return Err(refused("compressed parameters are not read", "switch compression off in the client"));
    }
    let inside = |buffer: &ipc::Buffer| {
        let (Ok(from), Ok(length)) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length())) else { return false };
        from.checked_add(length).is_some_and(|end| end <= body_bytes)
    };
    let longest = i64::try_from(body_bytes).unwrap_or(i64::MAX).saturating_mul(8).saturating_add(ROWS_MAX);
    let holds = |node: &ipc::FieldNode| (0..=longest).contains(&node.length()) && (0..=node.length()).contains(&node.null_count());
    let all_inside = batch.buffers().is_none_or(|buffers| buffers.iter().all(inside));
    let all_hold = batch.nodes().is_none_or(|nodes| nodes.iter().all(holds));
    if all_inside && all_hold { Ok(()) } else { Err(malformed("it announces more than it holds")) }
}

fn malformed(why: &str) -> QueryError {
    refused(&format!("the message with the parameters was not read: {why}"), "bind one row of values as Arrow IPC")
}

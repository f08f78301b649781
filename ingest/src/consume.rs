//! The few librdkafka calls that rdkafka has no safe form of, each wrapped in a small safe one: all `unsafe` of the consumer is here.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tracing::debug;

use crate::client::Context;
use crate::error::{IngestError, Result};
use crate::source::Headers;

type ErrorCode = native::rd_kafka_resp_err_t;
const NO_ERROR: ErrorCode = ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR;

/// The queue into which librdkafka puts a consumer's records. Must be dropped before its client.
pub(crate) struct Queue(NonNull<native::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    /// The consumer's queue, with all callbacks redirected to it.
    pub(crate) fn of_consumer(client: &Client<Context>) -> Result<Self> {
        // SAFETY: the client is alive; the returned queue handle is ours to destroy.
        let queue = unsafe {
            native::rd_kafka_poll_set_consumer(client.native_ptr());
            native::rd_kafka_queue_get_consumer(client.native_ptr())
        };
        let reason = "librdkafka gave no consumer queue; is group.id empty?";
        NonNull::new(queue).map(Self).ok_or_else(|| IngestError::Client { doing: "starting".into(), reason: reason.into() })
    }

    /// Takes up to `most` records; waits until there are so many or time is up, and serves callbacks meanwhile.
    pub(crate) fn take(&mut self, most: usize, timeout: Duration) -> Result<Chunk> {
        let mut messages: Vec<*mut native::rd_kafka_message_t> = Vec::with_capacity(most);
        let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX).max(c_int::from(!timeout.is_zero()));
        // SAFETY: the queue is alive; `messages` has room for `most` pointers, and the call says how many it wrote.
        let taken = unsafe { native::rd_kafka_consume_batch_queue(self.0.as_ptr(), timeout_ms, messages.as_mut_ptr(), most) };
        let Ok(taken) = usize::try_from(taken) else {
            // SAFETY: reads a thread-local.
            let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_last_error() });
            return Err(IngestError::Client { doing: "reading".into(), reason: code.to_string() });
        };
        // SAFETY: as above, the first `taken` are initialised.
        unsafe { messages.set_len(taken) };
        Ok(Chunk { messages: messages.into_iter() })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// Messages taken from a queue; those not looked at are given back when it is dropped.
pub(crate) struct Chunk {
    messages: std::vec::IntoIter<*mut native::rd_kafka_message_t>,
}

impl Chunk {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.len() == 0
    }
}

impl Iterator for Chunk {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.messages.next().and_then(NonNull::new).map(Message)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// One message; given back to librdkafka when dropped.
pub(crate) struct Message(NonNull<native::rd_kafka_message_t>);

/// What a message is.
pub(crate) enum Consumed<'a> {
    Record { offset: i64, timestamp_ms: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]> },
    Failure { code: RDKafkaErrorCode, reason: String },
}

impl Message {
    fn native(&self) -> &native::rd_kafka_message_t {
        // SAFETY: valid until destroyed in `drop`.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn partition(&self) -> i32 {
        self.native().partition
    }

    pub(crate) fn consumed(&self) -> Consumed<'_> {
        let native = self.native();
        if native.err != NO_ERROR {
            // SAFETY: for a message with an error this returns a C string that lives as long as the message.
            let reason = unsafe { native::rd_kafka_message_errstr(native) };
            // SAFETY: as above; null is checked.
            let reason = if reason.is_null() { String::new() } else { unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned() };
            return Consumed::Failure { code: RDKafkaErrorCode::from(native.err), reason };
        }
        // SAFETY: the message is alive; a null type pointer is allowed. The buffers live as long as the message.
        unsafe {
            Consumed::Record {
                offset: native.offset,
                timestamp_ms: native::rd_kafka_message_timestamp(native, ptr::null_mut()),
                key: bytes(native.key, native.key_len),
                value: bytes(native.payload, native.len),
            }
        }
    }

    pub(crate) fn headers(&self) -> Headers {
        let mut found = ptr::null_mut();
        let mut headers = Headers::new();
        // SAFETY: the message is alive and keeps its headers.
        if unsafe { native::rd_kafka_message_headers(self.native(), &mut found) } != NO_ERROR {
            return headers;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `found` belongs to the message; on success all three are set and live as long as it.
            unsafe {
                if native::rd_kafka_header_get_all(found, headers.len(), &mut name, &mut value, &mut size) != NO_ERROR {
                    return headers;
                }
                headers.push((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes(value, size).map(<[u8]>::to_vec)));
            }
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// SAFETY: `data` is null or points to `size` bytes that live for `'a`.
unsafe fn bytes<'a>(data: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: by contract.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), size) })
}

/// Partitions of one topic, each with an offset.
pub(crate) struct PartitionList(NonNull<native::rd_kafka_topic_partition_list_t>);

impl PartitionList {
    pub(crate) fn new(topic: &CString, partitions: impl Iterator<Item = (i32, i64)>) -> Self {
        // SAFETY: the list is ours; the entry returned by `add` is valid until the next call; the topic's name is copied.
        unsafe {
            let list = native::rd_kafka_topic_partition_list_new(partitions.size_hint().0 as c_int);
            for (partition, offset) in partitions {
                (*native::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition)).offset = offset;
            }
            Self(NonNull::new(list).expect("librdkafka aborts when out of memory"))
        }
    }

    /// Makes these the consumer's partitions.
    pub(crate) fn assign(&self, client: &Client<Context>) -> Result<()> {
        // SAFETY: both are alive; the list is copied.
        let code = unsafe { native::rd_kafka_assign(client.native_ptr(), self.0.as_ptr()) };
        if code == NO_ERROR {
            return Ok(());
        }
        Err(IngestError::Client { doing: "assigning partitions".into(), reason: RDKafkaErrorCode::from(code).to_string() })
    }

    /// Commits these offsets without waiting for an answer.
    pub(crate) fn commit(&self, client: &Client<Context>) {
        // SAFETY: both are alive; the list is copied.
        let code = unsafe { native::rd_kafka_commit(client.native_ptr(), self.0.as_ptr(), 1) };
        if code != NO_ERROR {
            debug!("offsets for lag tools were not committed: {}", RDKafkaErrorCode::from(code));
        }
    }

    /// Takes the numbers given for times in milliseconds since 1970, and asks for the offset of the first record of each partition that is not
    /// older: in the order given, negative where there is none.
    pub(crate) fn at_times(&self, client: &Client<Context>, timeout: Duration) -> std::result::Result<Vec<i64>, KafkaError> {
        let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: both are alive; the call replaces the offsets of the list's `cnt` elements, and says of each whether it could.
        unsafe {
            let code = native::rd_kafka_offsets_for_times(client.native_ptr(), self.0.as_ptr(), timeout_ms);
            let list = self.0.as_ref();
            let elements = std::slice::from_raw_parts(list.elems, list.cnt as usize);
            let failed = std::iter::once(code).chain(elements.iter().map(|element| element.err)).find(|&code| code != NO_ERROR);
            match failed {
                Some(code) => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::from(code))),
                None => Ok(elements.iter().map(|element| element.offset).collect()),
            }
        }
    }

    /// How far the consumer has read in each, in the order given; negative where nothing was read. Does not wait.
    pub(crate) fn positions(&self, client: &Client<Context>) -> Vec<i64> {
        // SAFETY: both are alive; the call sets the offsets of the list's `cnt` elements.
        unsafe {
            if native::rd_kafka_position(client.native_ptr(), self.0.as_ptr()) != NO_ERROR {
                return Vec::new();
            }
            let list = self.0.as_ref();
            std::slice::from_raw_parts(list.elems, list.cnt as usize).iter().map(|element| element.offset).collect()
        }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once.
        unsafe { native::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) };
    }
}

/// The end of a partition as the client last heard of it; `None` until it has.
pub(crate) fn cached_high_watermark(client: &Client<Context>, topic: &CString, partition: i32) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client and the name are alive; the call only reads a cache and sets both numbers.
    let code = unsafe { native::rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &mut low, &mut high) };
    (code == NO_ERROR && high >= 0).then_some(high)
}

/// How long an answer may lag the time that librdkafka gives the request: it says itself that time is up.
const ANSWER_LAG: Duration = Duration::from_millis(500);

/// The id of a topic; `None` if the broker has none for it. The error is what the broker said of the topic, or why it said nothing.
pub(crate) fn topic_id(
    client: &Client<Context>,
    topic: &CString,
    timeout: Duration,
) -> std::result::Result<Option<String>, RDKafkaErrorCode> {
    let in_ms = |time: Duration| c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    let mut names = [topic.as_ptr()];
    let mut said = [0; 256];
    // SAFETY: the client, the name and the buffer outlive the calls. What is made here is destroyed here, the event last, since the result and
    // all that is read of it belong to the event; each pointer is checked before it is used.
    unsafe {
        let queue = native::rd_kafka_queue_new(client.native_ptr());
        let options = native::rd_kafka_AdminOptions_new(client.native_ptr(), native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        // Without it a request lives for a minute. It only fails for times that are out of bounds.
        native::rd_kafka_AdminOptions_set_request_timeout(options, in_ms(timeout), said.as_mut_ptr(), said.len());
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        native::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
        native::rd_kafka_TopicCollection_destroy(topics);
        native::rd_kafka_AdminOptions_destroy(options);
        let event = native::rd_kafka_queue_poll(queue, in_ms(timeout.saturating_add(ANSWER_LAG)));
        let found = described_id(event);
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_queue_destroy(queue);
        found
    }
}

/// SAFETY: `event` is null or alive.
unsafe fn described_id(event: *mut native::rd_kafka_event_t) -> std::result::Result<Option<String>, RDKafkaErrorCode> {
    // SAFETY: by contract; results belong to the event, a topic and its id to the result, and the text to the id.
    unsafe {
        if event.is_null() {
            return Err(RDKafkaErrorCode::OperationTimedOut);
        }
        let failure = native::rd_kafka_event_error(event);
        if failure != NO_ERROR {
            return Err(failure.into());
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let error = native::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null() && native::rd_kafka_error_code(error) != NO_ERROR {
            return Err(native::rd_kafka_error_code(error).into());
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*topics);
        let is_none =
            id.is_null() || native::rd_kafka_Uuid_most_significant_bits(id) == 0 && native::rd_kafka_Uuid_least_significant_bits(id) == 0;
        if is_none {
            return Ok(None);
        }
        let text = native::rd_kafka_Uuid_base64str(id);
        Ok((!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

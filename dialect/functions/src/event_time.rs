//! The type of event times.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, TimeUnit};

/// Microseconds, UTC.
pub fn event_time_type() -> DataType {
    static UTC: LazyLock<Arc<str>> = LazyLock::new(|| "UTC".into());
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.clone()))
}

//! Event times that would wreck the watermark, and years that no function of time knows.

use super::*;

#[test]
fn an_event_time_that_would_wreck_the_watermark_is_set_aside() {
    let columns = || vec![column("event_time", utc(), true), column("id", DataType::Int64, true)];
    let at = |ms: i64| format!("{{\"event_time\":{ms},\"id\":1}}");
    let rows = [
        at(APPEND_MS),
        at(APPEND_MS + 3_600_000),
        at(APPEND_MS + 3_601_000),
        r#"{"event_time":"0001-01-01T00:00:00Z"}"#.into(),
        r#"{"event_time":"9999-12-31T23:59:59Z"}"#.into(),
        r#"{"event_time":"1969-07-20T20:17:40Z"}"#.into(),
        r#"{"event_time":null}"#.into(),
        r#"{"id":1}"#.into(),
    ];
    // Also when the column was not asked for.
    for wanted in [vec![0, 1], vec![1], vec![]] {
        let decoded = JsonDecode::new(&definition(columns()), &wanted).unwrap().decode(&raw(&rows)).unwrap();
        assert_eq!(decoded.rows.num_rows(), 3, "{wanted:?}");
        let expected = [
            "column 'event_time': event time is 3601 s ahead of the Kafka timestamp, more than max_skew (3600 s)",
            "column 'event_time': absurd event time (not in the years 2 to 9998)",
            "column 'event_time': absurd event time (not in the years 2 to 9998)",
            "column 'event_time': NULL, yet it is the event time",
            "column 'event_time': missing",
        ];
        assert_eq!(reasons(&decoded.quarantined.unwrap()), expected);
    }
}

/// A producer whose clock is wrong sets both.
#[test]
fn a_timestamp_that_is_ahead_vouches_for_no_event_time() {
    let columns = || vec![column("event_time", utc(), true)];
    let (in_2100, later_ms) = (4_102_444_800_000, 3_600_000);
    let mut batch = RawBatch::new(3);
    let times = [(in_2100, in_2100), (in_2100, APPEND_MS), (APPEND_MS, in_2100), (APPEND_MS + later_ms, in_2100)];
    for (offset, (written_ms, time_ms)) in (0i64..).zip(times) {
        batch.push(offset, written_ms, None, Some(format!("{{\"event_time\":{time_ms}}}").as_bytes()));
    }
    batch.taken_ms = Some(APPEND_MS + later_ms);
    let decoded = JsonDecode::new(&definition(columns()), &[0]).unwrap().decode(&batch).unwrap();
    assert_eq!(decoded.offsets.values(), &[1], "its time is right, whatever the message's is");
    let reasons = reasons(&decoded.quarantined.unwrap());
    assert!(reasons[0].contains("s ahead of when it was read, more than max_skew (3600 s)"), "{reasons:?}");
    assert!(reasons[1].contains("s ahead of the Kafka timestamp"), "{reasons:?}");
    assert_eq!(reasons.len(), 3);
}

/// A message's own timestamp cannot vouch for itself: it is held against the time of reading.
#[test]
fn a_timestamp_of_a_clock_that_is_ahead_is_set_aside() {
    let columns = vec![metadata("event_time", utc(), Metadata::Timestamp)];
    let mut batch = RawBatch::new(3);
    for (offset, ahead_ms) in (0i64..).zip([0, 3_600_000, 3_601_000, 30 * 365 * 86_400_000, -5_000]) {
        batch.push(offset, APPEND_MS + ahead_ms, None, Some(b"{}"));
    }
    let decode = |batch: &RawBatch| JsonDecode::new(&definition(columns.clone()), &[0]).unwrap().decode(batch).unwrap();
    assert_eq!(decode(&batch).rows.num_rows(), 5, "it is not known when they were read");
    batch.taken_ms = Some(APPEND_MS);
    let decoded = decode(&batch);
    assert_eq!(decoded.offsets.values(), &[0, 1, 4]);
    let reasons = reasons(&decoded.quarantined.unwrap());
    assert_eq!(reasons[0], "event time is 3601 s ahead of when it was read, more than max_skew (3600 s)");
}

/// No function of time goes beyond them: wherever a time comes from.
#[test]
fn years_beyond_9999_are_set_aside_within_structs_and_lists_and_of_messages() {
    let fields: Vec<FieldRef> = vec![Arc::new(Field::new("at", utc(), true)), Arc::new(Field::new("day", DataType::Date32, true))];
    let columns = vec![column("s", DataType::Struct(fields.into()), true), column("l", list_of(utc()), true)];
    let messages = [
        r#"{"s":{"at":253402300799999,"day":2932896},"l":[-62135596800000]}"#,
        r#"{"s":{"at":253402300800000}}"#,
        r#"{"s":{"day":2932897}}"#,
        r#"{"s":{"at":"0000-12-31T23:59:59Z"}}"#,
        r#"{"l":[0,null,-62135596800001]}"#,
    ];
    let decoded = decode_all(columns, &messages);
    assert_eq!(decoded.offsets.values(), &[100]);
    let expected = [
        "column 's.at': 253402300800000 is taken for milliseconds since 1970 and evidently counts microseconds: declare the column as TIMESTAMP EPOCH 'microseconds'",
        "column 's.day': 2932897 does not fit DATE (days since 1970, years 1 to 9999)",
        "column 's.at': not in the years 1 to 9999",
        "column 'l': not in the years 1 to 9999",
    ];
    assert_eq!(reasons(&decoded.quarantined.unwrap()), expected);

    let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let reason_of = |data_type: DataType, ms: i64| {
        let mut batch = RawBatch::new(0);
        batch.push(0, ms, None, Some(b"{}"));
        let definition = definition(vec![metadata("sent", data_type, Metadata::Timestamp)]);
        JsonDecode::new(&definition, &[0]).unwrap().decode(&batch).unwrap().quarantined.map(|bad| reasons(&bad)[0].clone())
    };
    assert_eq!(reason_of(utc(), 253_402_300_799_999), None);
    for ms in [253_402_300_800_000, i64::MAX] {
        assert_eq!(reason_of(utc(), ms).as_deref(), Some("column 'sent': not in the years 1 to 9999"));
    }
    assert_eq!(reason_of(nanoseconds.clone(), 4_102_444_800_000), None);
    let reason = reason_of(nanoseconds, 253_402_300_799_999).unwrap();
    assert!(reason.contains("does not fit a TIMESTAMP in nanoseconds"), "{reason}");
}

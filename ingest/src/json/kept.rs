//! Columns of type JSON: a value of any kind, kept as the text it is written in.

use serde::de::IgnoredAny;

use super::cursor::{Cursor, Reject};

/// The text of the value that comes next, which is at `depth`. Other systems will read it, so it must be JSON to the letter.
pub(super) fn value_as_text<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<&'a [u8], Reject> {
    let start = cursor.position();
    cursor.skip_value(depth)?;
    let text = cursor.since(start);
    match serde_json::from_slice::<IgnoredAny>(text) {
        Ok(IgnoredAny) => Ok(text),
        Err(error) => Err(Reject::new(format!("not JSON: {error} of the value"))),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field};
    use watershed_dialect::definition::{Metadata, SourceColumn};

    use super::super::tests::{column, decode_all, metadata, reasons};

    /// A nullable column with JSON at these places.
    fn kept(name: &str, data_type: DataType, json: &[&[usize]]) -> SourceColumn {
        SourceColumn { json: json.iter().map(|place| place.to_vec()).collect(), ..column(name, data_type, true) }
    }

    #[test]
    fn a_value_of_any_kind_is_kept_as_it_is_written() {
        let texts = [
            r#"{ "b": [1, 2.50, {"c": "\u00e9"}],"a" :null }"#,
            "[ ]",
            r#""text, \"quoted\"""#,
            "12345678901234567890.10",
            "-1e400",
            "true",
            "\"é\"",
        ];
        let messages: Vec<String> = texts.iter().map(|text| format!("{{\"n\": 1, \"j\" : {text} }}")).collect();
        let decoded = decode_all(vec![kept("j", DataType::Utf8, &[&[]])], &messages);
        assert!(decoded.quarantined.is_none(), "{:?}", decoded.quarantined);
        assert_eq!(decoded.rows.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), texts);
    }

    #[test]
    fn null_and_what_is_missing_are_null_and_what_is_no_json_is_refused() {
        let decoded = decode_all(
            vec![kept("j", DataType::Utf8, &[&[]])],
            &[r#"{"j":null}"#, "{}", r#"{"j":{"a":NaN}}"#, r#"{"j":{"a":1,}}"#, r#"{"j":01}"#, r#"{"j":{"a":2}}"#],
        );
        let column = decoded.rows.column(0).as_string::<i32>();
        assert_eq!(column.iter().collect::<Vec<_>>(), [None, None, Some(r#"{"a":2}"#)]);
        assert_eq!(
            reasons(&decoded.quarantined.expect("three are no JSON")),
            [
                "column 'j': not JSON: expected value at line 1 column 6 of the value",
                "column 'j': not JSON: key must be a string at line 1 column 8 of the value",
                "column 'j': not JSON: invalid number at line 1 column 2 of the value",
            ]
        );
        let needed = SourceColumn { json: vec![vec![]], ..column_not_null("j") };
        let decoded = decode_all(vec![needed], &[r#"{"j":null}"#, r#"{"j":0}"#]);
        assert_eq!(decoded.rows.column(0).as_string::<i32>().value(0), "0");
        assert_eq!(reasons(&decoded.quarantined.expect("one is NULL")), ["column 'j': null, yet it is NOT NULL"]);
    }

    fn column_not_null(name: &str) -> SourceColumn {
        column(name, DataType::Utf8, false)
    }

    #[test]
    fn fields_and_elements_are_kept_too() {
        let extra = vec![Field::new("id", DataType::Int64, true), Field::new("extra", DataType::Utf8, true)];
        let items = DataType::List(Field::new_list_field(DataType::Utf8, true).into());
        let columns = vec![kept("trip", DataType::Struct(extra.into()), &[&[1]]), kept("items", items, &[&[0]])];
        let decoded = decode_all(columns, &[r#"{"trip":{"id":7,"extra":{"a":[1]}},"items":[{"b":2},null,"x"]}"#]);
        assert!(decoded.quarantined.is_none(), "{:?}", decoded.quarantined);
        let trip = decoded.rows.column(0).as_struct();
        assert_eq!(trip.column(1).as_string::<i32>().value(0), r#"{"a":[1]}"#);
        let items = decoded.rows.column(1).as_list::<i32>().value(0);
        assert_eq!(items.as_string::<i32>().iter().collect::<Vec<_>>(), [Some(r#"{"b":2}"#), None, Some(r#""x""#)]);
    }

    #[test]
    fn a_text_column_says_how_an_object_is_kept() {
        let decoded = decode_all(vec![column("v", DataType::Utf8, true)], &[r#"{"v":{"a":1}}"#, r#"{"v":1}"#]);
        assert_eq!(
            reasons(&decoded.quarantined.expect("both are no text")),
            [
                "column 'v': expected a string, found an object; declare the column as JSON to keep its text",
                "column 'v': expected a string, found a number",
            ]
        );
    }

    #[test]
    fn the_whole_message_is_kept_to_the_byte() {
        let messages = ["\u{feff}{\"n\" : 1 } ", "nothing", r#"{"n":2,"j":{"é":[]}}"#];
        let columns = vec![
            metadata("text", DataType::Utf8, Metadata::Value),
            metadata("bytes", DataType::Binary, Metadata::Value),
            column("n", DataType::Int64, true),
        ];
        let decoded = decode_all(columns, &messages);
        let texts: Vec<_> = decoded.rows.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, [messages[0], messages[2]], "what is no JSON object is not taken");
        let bytes: Vec<_> = decoded.rows.column(1).as_binary::<i32>().iter().flatten().collect();
        assert_eq!(bytes, [messages[0].as_bytes(), messages[2].as_bytes()]);
        assert_eq!(decoded.rows.column(0).null_count(), 0);
    }
}

//! The table of the guide that says what becomes of a value: each line holds.

use watershed_dialect::{StatementKind, parse};

use super::*;

const GUIDE: &str = include_str!("../../../../docs/guide/create-source.md");

/// What is between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// One value of a column that is declared so: as JSON, or the reason.
fn decoded(declared: &str, text: &str) -> Result<Value, String> {
    let mut statements = parse(&format!("CREATE SOURCE s (v {declared}) WITH (topic = 't')")).unwrap();
    let StatementKind::CreateSource(source) = statements.remove(0).kind else { panic!("not a source") };
    let decoded = JsonDecode::new(&source, &[0]).unwrap().decode(&raw(&[format!("{{\"v\":{text}}}")])).unwrap();
    match decoded.quarantined {
        Some(bad) => Err(reasons(&bad)[0].clone()),
        None => Ok(to_json(&decoded.rows)[0].get("v").cloned().unwrap_or(Value::Null)),
    }
}

#[test]
fn what_the_guide_says_of_values_is_so() {
    let table = GUIDE.split("| in the message | declared | becomes |\n").nth(1).expect("the table");
    let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 20, "{rows:#?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [values, declared, becomes] = cells.as_slice() else { panic!("{row}") };
        let declared = quoted(declared)[0];
        for value in quoted(values) {
            let got = decoded(declared, value);
            let said = quoted(becomes).first().copied();
            match (becomes.trim(), &got) {
                ("NULL", Ok(Value::Null)) => {}
                (quarantine, Err(reason)) if quarantine.starts_with("quarantine") => {
                    assert!(said.is_none_or(|said| reason.contains(said)), "{row}\n{value}: {reason}");
                }
                (_, Ok(shown)) => {
                    let said: Value = serde_json::from_str(said.unwrap_or_else(|| panic!("{row}\n{value} becomes {shown}"))).unwrap();
                    assert_eq!(*shown, said, "{row}\n{value}");
                }
                (_, Err(reason)) => panic!("{row}\n{value}: {reason}"),
            }
        }
    }
}

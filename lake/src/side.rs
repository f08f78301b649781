//! The tables that are kept beside another one: `<table>$<suffix>`.

/// Rows that came too late for their window.
pub const LATE: &str = "late";
/// Messages of a source that were not accepted.
pub const QUARANTINE: &str = "quarantine";
/// Rows that violate an expectation.
pub const VIOLATIONS: &str = "violations";

/// All suffixes, and what is in such a table, for people.
const WORDS: [(&str, &str); 3] = [(LATE, "late rows"), (QUARANTINE, "rows not accepted"), (VIOLATIONS, "rows violating an expectation")];

/// What is in the side table of this name; `None` if it is not one.
pub fn words(table: &str) -> Option<&'static str> {
    let (_, suffix) = table.rsplit_once('$')?;
    WORDS.iter().find(|(known, _)| *known == suffix).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_side_table_says_what_is_in_it() {
        let said = ["rides$late", "rides$quarantine", "rides$violations", "a$late$violations"].map(words);
        let rows = ["late rows", "rows not accepted", "rows violating an expectation", "rows violating an expectation"];
        assert_eq!(said, rows.map(Some));
        assert_eq!(["rides", "rides$", "rides$other", "late", "late$rides"].map(words), [None; 5]);
    }
}

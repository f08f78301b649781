//! Where statements begin and end in what was typed. Pure.
//!
//! Quotes (`'…'`, `"…"`, `$$…$$`, `$tag$…$tag$`), comments (`-- …`, `/* … */`, nested) and the semicolon are all it knows of SQL. A backslash at the
//! start of a line, outside of a statement, begins a command that ends with the line; so does a point before a letter, which
//! other shells have there and no statement begins with.

/// A piece of input that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it is.
    pub kind: UnitKind,
    /// As written, without the backslash or the final semicolon, trimmed.
    pub text: String,
    /// Byte at which `text` begins in the input.
    pub start: usize,
    /// False for SQL whose semicolon has not come yet.
    pub complete: bool,
}

/// What a [`Unit`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// A statement.
    Sql,
    /// A backslash command; the text is without the backslash.
    Command,
}

/// Splits input into statements and commands, in order. Comments alone make no unit.
pub fn split(input: &str) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut scanner = Scanner { input, at: 0 };
    while let Some(unit) = scanner.next_unit() {
        units.push(unit);
    }
    units
}

/// True if Enter should run `input`: it is blank, or a command, or its last statement has its semicolon.
pub fn is_complete(input: &str) -> bool {
    split(input).last().is_none_or(|unit| unit.complete) && !ends_inside_comment(input)
}

fn ends_inside_comment(input: &str) -> bool {
    let mut scanner = Scanner { input, at: 0 };
    while scanner.at < input.len() {
        if scanner.skip_quoted() == Some(Ended::AtInputEnd) {
            return input[..scanner.at].contains("/*");
        }
        scanner.at += scanner.rest().chars().next().map_or(0, char::len_utf8);
    }
    false
}

/// The text of `unit` at the place it had in `input`, everything before it blanked, so that positions in errors are those of the input.
pub fn in_place(input: &str, unit: &Unit) -> String {
    let before: String = input[..unit.start].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    before + &unit.text
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Properly,
    AtInputEnd,
}

struct Scanner<'a> {
    input: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn next_unit(&mut self) -> Option<Unit> {
        self.skip_blank();
        // Semicolons that end nothing.
        while self.rest().starts_with(';') {
            self.at += 1;
            self.skip_blank();
        }
        if self.rest().is_empty() {
            return None;
        }
        if self.rest().starts_with('\\') {
            let line = self.rest().lines().next().unwrap_or_default();
            let unit = Unit { kind: UnitKind::Command, text: line[1..].trim().to_owned(), start: self.at + 1, complete: true };
            self.at += line.len();
            return Some(unit);
        }
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            let line = self.rest().lines().next().unwrap_or_default();
            let unit = Unit { kind: UnitKind::Command, text: line.trim().to_owned(), start: self.at, complete: true };
            self.at += line.len();
            return Some(unit);
        }
        let start = self.at;
        while !self.rest().is_empty() {
            if self.rest().starts_with(';') {
                let text = self.input[start..self.at].trim_end().to_owned();
                self.at += 1;
                return Some(Unit { kind: UnitKind::Sql, text, start, complete: true });
            }
            if self.skip_quoted().is_none() {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
        }
        let text = self.input[start..].trim_end().to_owned();
        Some(Unit { kind: UnitKind::Sql, text, start, complete: false })
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) {
        loop {
            self.at = self.input.len() - self.rest().trim_start().len();
            let comment = self.rest().starts_with("--") || self.rest().starts_with("/*");
            if !comment || self.skip_quoted().is_none() {
                return;
            }
        }
    }

    /// If a quote or comment begins here, goes to its end.
    fn skip_quoted(&mut self) -> Option<Ended> {
        let rest = self.rest();
        let (length, ended) = match rest.as_bytes() {
            [quote @ (b'\'' | b'"'), ..] => after(rest, 1, rest[1..].find(char::from(*quote)).map(|at| at + 1)),
            [b'-', b'-', ..] => (rest.find('\n').map_or(rest.len(), |at| at + 1), Ended::Properly),
            [b'/', b'*', ..] => after(rest, 0, block_comment_length(rest)),
            [b'$', ..] => {
                let tag = self.dollar_quote()?;
                after(rest, tag.len(), rest[tag.len()..].find(tag).map(|at| at + tag.len()))
            }
            _ => return None,
        };
        self.at += length;
        Some(ended)
    }
}

impl<'a> Scanner<'a> {
    /// `$$` or `$tag$` if a text in such quotes begins here; within a name or before digits `$` is no quote.
    fn dollar_quote(&self) -> Option<&'a str> {
        let in_name = self.input[..self.at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let tag = self.rest()[1..].split_once('$')?.0;
        let is_tag = !tag.starts_with(|c: char| c.is_ascii_digit()) && tag.chars().all(|c| c.is_alphanumeric() || c == '_');
        (is_tag && !in_name).then(|| &self.rest()[..tag.len() + 2])
    }
}

fn after(rest: &str, opening: usize, length: Option<usize>) -> (usize, Ended) {
    match length {
        Some(length) => (opening + length, Ended::Properly),
        None => (rest.len(), Ended::AtInputEnd),
    }
}

fn block_comment_length(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(next) = text[at..].find(['/', '*']) {
        at += next;
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<String> {
        split(input).into_iter().map(|unit| unit.text).collect()
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not_end_a_statement() {
        assert_eq!(texts("select ';', \"a;b\" -- x;\n, 1; select 2;"), ["select ';', \"a;b\" -- x;\n, 1", "select 2"]);
        assert_eq!(texts("select $$a;b$$; select $x$;$$;$x$, $1; select 3"), ["select $$a;b$$", "select $x$;$$;$x$, $1", "select 3"]);
        assert_eq!(texts("select 1 from a.b$late; select 2 from a.b$late"), ["select 1 from a.b$late", "select 2 from a.b$late"]);
        assert_eq!(texts("select 'it''s; fine'; /* a; /* b; */ c; */ select 3"), ["select 'it''s; fine'", "select 3"]);
    }

    #[test]
    fn input_of_any_length_is_split_in_little_time() {
        let begun = std::time::Instant::now();
        for (piece, units) in [
            (";", 0),
            ("-- note\n", 0),
            ("/* note */", 0),
            ("select 1;", 100_000),
            ("select 'a;b', $$c;d$$;", 100_000),
            ("\\d\n", 100_000),
            ("'", 1),
            ("/*", 0),
            ("$a", 1),
            ("(", 1),
            ("ü", 1),
        ] {
            let input = piece.repeat(100_000);
            assert_eq!(split(&input).len(), units, "{piece}");
            is_complete(&input);
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_backslash_begins_a_command_only_outside_a_statement() {
        assert_eq!(split(".tables\nselect .5;\n").iter().map(|unit| unit.kind).collect::<Vec<_>>(), [UnitKind::Command, UnitKind::Sql]);
        let units = split("\\timing on\nselect 1,\n\\d\n;\n\\d silver.x");
        let kinds: Vec<UnitKind> = units.iter().map(|unit| unit.kind).collect();
        assert_eq!(kinds, [UnitKind::Command, UnitKind::Sql, UnitKind::Command]);
        assert_eq!((units[0].text.as_str(), units[2].text.as_str()), ("timing on", "d silver.x"));
    }

    #[test]
    fn enter_runs_only_what_is_whole() {
        for whole in ["", "  ", "select 1;", "select 1; -- done", "\\d", ";", "-- a note", "select '\n;';"] {
            assert!(is_complete(whole), "{whole:?}");
        }
        for part in ["select 1", "select 1; select 2", "select 'a;", "select \"a;", "select 1 /* ;", "/* note", "select 1; /* note"] {
            assert!(!is_complete(part), "{part:?}");
        }
    }

    #[test]
    fn a_unit_keeps_its_place() {
        let input = "select 1;\n  select ü;";
        let second = &split(input)[1];
        assert_eq!(in_place(input, second), "         \n  select ü");
    }
}

//! Where statements begin and end in what was typed. Pure.
//!
//! Quotes (`'…'`, `E'…'`, `"…"`, `$$…$$`, `$tag$…$tag$`), comments (`-- …`, `/* … */`, nested) and the semicolon are all it knows of SQL. A backslash
//! outside of them begins a command that ends with the line; within a statement it is no part of that, and comes before it, as in psql. A point
//! before a letter, outside of a statement, begins one, too: other shells have it there, and no statement begins with it.

use std::ops::Range;

/// A piece of input that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it is.
    pub kind: UnitKind,
    /// As written, without the backslash or the final semicolon, trimmed; blanks are where a command was.
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

/// Splits input into statements and commands, in the order they run. Comments alone make no unit.
pub fn split(input: &str) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut scanner = Scanner { input, at: 0 };
    while scanner.next_into(&mut units) {}
    units
}

/// True if Enter should run `input`: it is blank, or its last line has a command, or its last statement has its semicolon.
pub fn is_complete(input: &str) -> bool {
    let units = split(input);
    let last_command = units.iter().rfind(|unit| unit.kind == UnitKind::Command);
    let ends_in_command = last_command.is_some_and(|unit| !input[unit.start..].trim_end().contains('\n'));
    (ends_in_command || units.last().is_none_or(|unit| unit.complete)) && !ends_inside_comment(input)
}

/// The statement whose semicolon has not come yet, without commands.
pub fn unfinished(input: &str) -> Option<String> {
    split(input).pop().filter(|unit| !unit.complete).map(|unit| unit.text)
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

    /// Adds the next statement, after the commands within it, or the next command. False at the end.
    fn next_into(&mut self, units: &mut Vec<Unit>) -> bool {
        self.skip_blank();
        // Semicolons that end nothing.
        while self.rest().starts_with(';') {
            self.at += 1;
            self.skip_blank();
        }
        if self.rest().is_empty() {
            return false;
        }
        if self.rest().starts_with('\\') {
            units.push(self.command(1));
            return true;
        }
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            units.push(self.command(0));
            return true;
        }
        let (start, mut commands) = (self.at, Vec::new());
        while !self.rest().is_empty() && !self.rest().starts_with(';') {
            if self.rest().starts_with('\\') {
                let began = self.at;
                units.push(self.command(1));
                commands.push(began..self.at);
            } else if self.skip_quoted().is_none() {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
        }
        let (end, complete) = (self.at, !self.rest().is_empty());
        self.at += usize::from(complete);
        units.push(Unit { kind: UnitKind::Sql, text: blanked(self.input, start..end, &commands), start, complete });
        true
    }

    /// The command that begins here, after so many bytes, and ends with the line.
    fn command(&mut self, opening: usize) -> Unit {
        let line = self.rest().lines().next().unwrap_or_default();
        let unit = Unit { kind: UnitKind::Command, text: line[opening..].trim().to_owned(), start: self.at + opening, complete: true };
        self.at += line.len();
        unit
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
            [b'\'', ..] if self.after_e() => after(rest, 1, escaped_length(&rest[1..])),
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
    /// Whether an `E` by itself comes just before: in the text that it begins a backslash takes away the meaning of what follows.
    fn after_e(&self) -> bool {
        let before = self.input[..self.at].strip_suffix(['e', 'E']);
        before.is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$'))
    }

    /// `$$` or `$tag$` if a text in such quotes begins here; within a name or before digits `$` is no quote.
    fn dollar_quote(&self) -> Option<&'a str> {
        let in_name = self.input[..self.at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let tag = self.rest()[1..].split_once('$')?.0;
        let is_tag = !tag.starts_with(|c: char| c.is_ascii_digit()) && tag.chars().all(|c| c.is_alphanumeric() || c == '_');
        (is_tag && !in_name).then(|| &self.rest()[..tag.len() + 2])
    }
}

/// This part of the input, blanks in place of the commands within it, trimmed at its end.
fn blanked(input: &str, part: Range<usize>, commands: &[Range<usize>]) -> String {
    let (mut text, mut at) = (String::with_capacity(part.len()), part.start);
    for command in commands {
        text.push_str(&input[at..command.start]);
        text.extend(input[command.clone()].chars().map(|_| ' '));
        at = command.end;
    }
    text.push_str(&input[at..part.end]);
    text.truncate(text.trim_end().len());
    text
}

/// How long a text is whose characters may be escaped, its closing quote included.
fn escaped_length(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'\'' if bytes.next_if(|(_, next)| *next == b'\'').is_none() => return Some(at + 1),
            _ => {}
        }
    }
    None
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
            ("x\\d\n", 100_001),
            ("E'", 1),
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
    fn a_command_within_a_statement_comes_before_it_and_is_no_part_of_it() {
        assert_eq!(split(".tables\nselect .5;\n").iter().map(|unit| unit.kind).collect::<Vec<_>>(), [UnitKind::Command, UnitKind::Sql]);
        let input = "\\timing on\nselect 1,\n\\d größe\n(2 \\x on;\n) as ü;\n\\d silver.x";
        let units = split(input);
        let found: Vec<(UnitKind, &str)> = units.iter().map(|unit| (unit.kind, unit.text.as_str())).collect();
        assert_eq!(
            found,
            [
                (UnitKind::Command, "timing on"),
                (UnitKind::Command, "d größe"),
                (UnitKind::Command, "x on;"),
                (UnitKind::Sql, "select 1,\n        \n(2       \n) as ü"),
                (UnitKind::Command, "d silver.x"),
            ]
        );
        assert_eq!(in_place(input, &units[3]), "          \nselect 1,\n        \n(2       \n) as ü");
        // In quotes and comments it is text.
        let quoted = "select '\\d', \"\\d\", $$\\d$$, E'it\\'s ''\\d', e'\\\\' -- \\d\n/* \\d */";
        assert_eq!(texts(&format!("{quoted};")), [quoted]);
        // Not after an E, but after a name that ends in one.
        assert_eq!(texts("select date'\\';"), ["select date'\\'"]);
    }

    #[test]
    fn a_statement_goes_on_after_a_command() {
        for whole in ["select 1,\n\\d", "select 1,\n\\d  ", "select (1, \\timing on", "\\d\nselect 1\n\\x"] {
            assert!(is_complete(whole), "{whole:?}");
        }
        for part in ["select 1,\n\\d\n2", "select 1,\n\\d\n2\n", "\\d\nselect 1", "select '\n\\d", "select 1 -- \\d"] {
            assert!(!is_complete(part), "{part:?}");
        }
        assert_eq!(unfinished("\\d\nselect 1,\n\\d x").as_deref(), Some("select 1,"));
        assert_eq!(["select 1;\n\\d", "\\d", ""].map(unfinished), [None, None, None]);
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

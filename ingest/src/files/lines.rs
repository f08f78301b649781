//! Cuts a text file into lines, block by block. In CSV a line break within quotes does not end a line.
//!
//! Lines that hold nothing but space are passed over and not counted. State: a block or two of the file.

use std::ops::Range;

use memchr::{memchr, memchr2};

use super::folder::OneFile;
use crate::error::Result;

/// Bytes read at once.
const BLOCK_BYTES: u64 = 4 << 20;
/// A longer line is no line: most likely a quote was opened and not closed.
const LINE_BYTES_MAX: usize = 16 << 20;
/// What is kept of such a line, to show what it was.
const SHOWN_BYTES_MAX: usize = 1024;

/// A line, as a place in [`Lines::bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A whole one, without its line break.
    Whole(Range<usize>),
    /// One that cannot be taken: as much as is worth showing, and why.
    Bad(Range<usize>, &'static str),
}

/// The lines of a file, one after another.
pub(crate) struct Lines {
    file: OneFile,
    /// What is between fields; `None` where quotes mean nothing.
    delimiter: Option<u8>,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    start: usize,
    next_byte: u64,
    /// The rest of a line that was too long is passed over first.
    skipping: bool,
}

impl Lines {
    pub(crate) fn new(file: OneFile, delimiter: Option<u8>) -> Self {
        Self { file, delimiter, buffer: Vec::new(), start: 0, next_byte: 0, skipping: false }
    }

    /// The bytes of a line that [`Lines::next`] gave last.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.buffer[range.clone()]
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let rest = &self.buffer[self.start..];
            if self.skipping {
                match memchr(b'\n', rest) {
                    Some(end) => {
                        self.start += end + 1;
                        self.skipping = false;
                    }
                    None if self.at_end() => return Ok(None),
                    None => {
                        self.start = self.buffer.len();
                        self.fill().await?;
                    }
                }
                continue;
            }
            if let Some(end) = line_end(rest, self.delimiter, self.at_end()) {
                let line = self.start..self.start + end;
                // The last line may have no line break.
                self.start = (self.start + end + 1).min(self.buffer.len());
                match self.trimmed(line) {
                    Some(line) => return Ok(Some(Line::Whole(line))),
                    None => continue,
                }
            }
            let ended = self.at_end();
            if ended && rest.is_empty() {
                return Ok(None);
            }
            if ended || rest.len() > LINE_BYTES_MAX {
                // No line ends here. If a quote is to blame, lines begin again after the next line break.
                let unclosed = ended || self.delimiter.is_some();
                let why = if unclosed { "a quote is opened and never closed" } else { "the line is longer than 16 MiB" };
                let first = memchr(b'\n', rest).unwrap_or(rest.len());
                let shown = self.start..self.start + first.min(SHOWN_BYTES_MAX);
                self.start += first;
                self.skipping = true;
                return Ok(Some(Line::Bad(shown, why)));
            }
            self.fill().await?;
        }
    }

    fn at_end(&self) -> bool {
        self.next_byte >= self.file.entry.size
    }

    /// Without carriage return and without the mark that some programs begin files with; `None` if nothing is left but space.
    fn trimmed(&self, mut line: Range<usize>) -> Option<Range<usize>> {
        if self.buffer[line.clone()].ends_with(b"\r") {
            line.end -= 1;
        }
        (!self.buffer[line.clone()].trim_ascii().is_empty()).then_some(line)
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let end = (self.next_byte + BLOCK_BYTES).min(self.file.entry.size);
        let block = self.file.read(self.next_byte..end).await?;
        let marked = self.next_byte == 0 && block.starts_with(b"\xef\xbb\xbf");
        self.buffer.extend_from_slice(if marked { &block[3..] } else { &block });
        self.next_byte = end;
        Ok(())
    }
}

/// Whether a line of CSV holds a carriage return outside of quotes: most likely all lines of its file end in one alone.
pub(crate) fn holds_carriage_return(line: &[u8], delimiter: u8) -> bool {
    first_outside_quotes(line, b'\r', Some(delimiter), true).is_some_and(|found| found < line.len())
}

/// Where the line at the beginning of `bytes` ends: the place of its line break, or, at the end of the file, of the end.
fn line_end(bytes: &[u8], delimiter: Option<u8>, at_end: bool) -> Option<usize> {
    first_outside_quotes(bytes, b'\n', delimiter, at_end)
}

/// The place of the first `wanted` outside of quotes, or, at the end of the file, of the end.
fn first_outside_quotes(bytes: &[u8], wanted: u8, delimiter: Option<u8>, at_end: bool) -> Option<usize> {
    let rest = (at_end && !bytes.is_empty()).then_some(bytes.len());
    let Some(delimiter) = delimiter else { return memchr(wanted, bytes).or(rest) };
    let mut at = 0;
    loop {
        let Some(found) = memchr2(b'"', wanted, &bytes[at..]).map(|found| at + found) else { return rest };
        if bytes[found] == wanted {
            return Some(found);
        }
        at = found + 1;
        // A quote opens a field only where the field begins.
        if found > 0 && bytes[found - 1] != delimiter {
            continue;
        }
        loop {
            at += memchr(b'"', &bytes[at..])? + 1;
            match bytes.get(at) {
                Some(b'"') => at += 1,
                // The next block says whether this quote closes the field.
                None if !at_end => return None,
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hide_line_breaks_only_where_a_field_is_quoted() {
        let end = |text: &str, at_end| line_end(text.as_bytes(), Some(b','), at_end);
        assert_eq!(end("a,b\nc", false), Some(3));
        assert_eq!(end("a,\"b\nc\",d\ne", false), Some(9));
        assert_eq!(end("\"a \"\" b\n\"\nc", false), Some(9));
        assert_eq!(end("5\" pipe,6\nx", false), Some(9), "a quote within a field is a quote");
        assert_eq!(end("a,\"b\nc", false), None);
        assert_eq!(end("a,\"b\nc", true), None, "never closed");
        assert_eq!(end("a,\"b\"", false), None, "it may go on with a second quote");
        assert_eq!(end("a,\"b\"", true), Some(5));
        assert_eq!((end("a,b", false), end("a,b", true), end("", true)), (None, Some(3), None));
        assert_eq!(line_end(b"{\"a\":\"\n", None, false), Some(6));
    }
}

//! Walks over the bytes of one JSON text: white space, strings, numbers, and values that are not wanted.

use std::borrow::Cow;

use memchr::memchr2;

/// Objects and arrays may lie this deep in one another.
pub(super) const DEPTH_MAX: usize = 128;

/// Why a record is not accepted: a reason and the path of the column it is about.
#[derive(Debug)]
pub(super) struct Reject(Box<(Vec<String>, String)>);

impl Reject {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(Box::new((Vec::new(), reason.into())))
    }

    /// Says that it happened inside of the field `name`.
    pub(super) fn within(mut self, name: &str) -> Self {
        self.0.0.push(name.into());
        self
    }

    /// Adds to the reason.
    pub(super) fn more(mut self, text: &str) -> Self {
        self.0.1.push_str(text);
        self
    }

    /// The reason as it is written in the quarantine.
    pub(super) fn into_reason(self) -> String {
        let (mut path, reason) = *self.0;
        if path.is_empty() {
            return reason;
        }
        path.reverse();
        format!("column '{}': {reason}", path.join("."))
    }
}

/// A position in a text that is known to be UTF-8.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        self.at += count;
    }

    /// Goes back to where [`Cursor::position`] was.
    pub(super) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// How far this has come: an argument to [`Cursor::since`].
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The bytes from `position` to here.
    pub(super) fn since(&self, position: usize) -> &'a [u8] {
        &self.bytes[position..self.at]
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes over `byte` if it comes next.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Passes over `byte`, which must come next.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Reject> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(&format!("'{}'", byte as char))) }
    }

    /// Passes over `true`, `false` or `null`, which must come next.
    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), Reject> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// "Not JSON", with the place.
    pub(super) fn unexpected(&self, wanted: &str) -> Reject {
        if let [b'N', b'a', b'N', ..] | [b'I', b'n', b'f', ..] = self.rest() {
            return Reject::new(format!("not JSON at byte {}: expected {wanted}, found {}", self.at, self.kind()));
        }
        match std::str::from_utf8(self.rest()).ok().and_then(|rest| rest.chars().next()) {
            Some(found) => Reject::new(format!("not JSON at byte {}: expected {wanted}, found {found:?}", self.at)),
            None => Reject::new(format!("not JSON: ends after {} bytes, expected {wanted}", self.at)),
        }
    }

    /// What kind of value comes next, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self.peek() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            Some(b'-' | b'0'..=b'9') => "a number",
            Some(b'N') if self.rest().starts_with(b"NaN") => "NaN, which JSON does not have (write null, or \"NaN\" in quotes)",
            Some(b'I') if self.rest().starts_with(b"Infinity") => {
                "Infinity, which JSON does not have (write null, or \"Infinity\" in quotes)"
            }
            Some(_) => "something else",
            None => "the end of the message",
        }
    }

    /// The value next is not of the kind that the column needs.
    pub(super) fn mismatch(&self, wanted: &str) -> Reject {
        Reject::new(format!("expected {wanted}, found {}", self.kind()))
    }

    /// The string that comes next: without its quotes, and whether it holds escapes.
    #[inline]
    pub(super) fn raw_string(&mut self) -> Result<(&'a [u8], bool), Reject> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match memchr2(b'"', b'\\', &self.bytes[self.at..]) {
                Some(distance) if self.bytes[self.at + distance] == b'"' => {
                    let end = self.at + distance;
                    self.at = end + 1;
                    return Ok((&self.bytes[start..end], escaped));
                }
                // A backslash and what it escapes.
                Some(distance) if self.at + distance + 2 <= self.bytes.len() => {
                    escaped = true;
                    self.at += distance + 2;
                }
                _ => {
                    self.at = self.bytes.len();
                    return Err(self.unexpected("'\"'"));
                }
            }
        }
    }

    /// The string that comes next, escapes resolved.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, Reject> {
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Cow::Borrowed(raw));
        }
        let mut text = Vec::with_capacity(raw.len());
        unescape(raw, &mut text)?;
        Ok(Cow::Owned(text))
    }

    /// The number that comes next, as written. Its form is checked against the JSON grammar.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Reject> {
        let start = self.at;
        self.eat(b'-');
        if self.eat(b'0') {
            if let Some(b'0'..=b'9') = self.peek() {
                return Err(self.unexpected("no digit behind a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Result<(), Reject> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Passes over any value, looking no closer than needed to find its end: strings to their closing quote, brackets to their match,
    /// numbers as a run of the bytes numbers are made of.
    pub(super) fn skip_value(&mut self, depth: usize) -> Result<(), Reject> {
        match self.peek() {
            Some(b'"') => self.raw_string().map(|_| ()),
            Some(b'{' | b'[') => self.skip_nested(depth),
            Some(b't') => self.expect_word("true"),
            Some(b'f') => self.expect_word("false"),
            Some(b'n') => self.expect_word("null"),
            Some(b'-' | b'0'..=b'9') => {
                while let Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') = self.peek() {
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), Reject> {
        // One bit for each open bracket: 1 is an object.
        let mut open: u128 = 0;
        let mut count = 0;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.raw_string()?;
                    continue;
                }
                Some(bracket @ (b'{' | b'[')) => {
                    count += 1;
                    check_depth(depth + count)?;
                    open = open << 1 | u128::from(bracket == b'{');
                }
                Some(bracket @ (b'}' | b']')) => {
                    if (open & 1 == 1) != (bracket == b'}') {
                        return Err(self.unexpected(if open & 1 == 1 { "'}'" } else { "']'" }));
                    }
                    open >>= 1;
                    count -= 1;
                }
                Some(_) => {}
                None => return Err(self.unexpected("a closing bracket")),
            }
            self.at += 1;
            if count == 0 {
                return Ok(());
            }
        }
    }
}

/// Refuses what is nested too deep.
pub(super) fn check_depth(depth: usize) -> Result<(), Reject> {
    if depth > DEPTH_MAX { Err(Reject::new(format!("nested deeper than {DEPTH_MAX}"))) } else { Ok(()) }
}

/// Appends `raw` (the inside of a string) to `text` with its escapes resolved.
pub(super) fn unescape(raw: &[u8], text: &mut Vec<u8>) -> Result<(), Reject> {
    let mut rest = raw;
    while let Some(distance) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..distance]);
        let escape = *rest.get(distance + 1).ok_or_else(|| Reject::new("a string ends in a backslash"))?;
        rest = &rest[distance + 2..];
        text.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (character, used) = unicode_escape(rest)?;
                rest = &rest[used..];
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => return Err(Reject::new(format!("unknown escape '\\{}' in a string", other.escape_ascii()))),
        });
    }
    text.extend_from_slice(rest);
    Ok(())
}

/// The character that follows `\u` as digits and how many bytes it took; characters beyond the 16-bit plane come as two escapes.
fn unicode_escape(rest: &[u8]) -> Result<(char, usize), Reject> {
    let hex = |at: usize| -> Result<u32, Reject> {
        let digits = rest.get(at..at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        digits.ok_or_else(|| Reject::new("a \\u escape without four hexadecimal digits"))
    };
    let first = hex(0)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, 4));
    }
    let lone = || Reject::new("a \\u escape that is half of a surrogate pair");
    if first > 0xDBFF || rest.get(4..6) != Some(b"\\u") {
        return Err(lone());
    }
    let second = hex(6)?;
    if !(0xDC00..=0xDFFF).contains(&second) {
        return Err(lone());
    }
    let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    char::from_u32(code).map(|character| (character, 10)).ok_or_else(lone)
}

//! `WITH (name = value, …)` and `TO KAFKA (name = value, …)`: each option is taken once, and what is left over is an error with the nearest name that exists.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use crate::SqlError;
use crate::cursor::{Cursor, error_at};
use crate::definition::{ClientSetting, Secret};
use crate::nearest::did_you_mean;

/// With what the names of the Kafka client's settings begin.
const CLIENT: &str = "kafka.";

/// Options as written, not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Options {
    given: Vec<Given>,
    /// Names that were asked for, for the error about one that was not.
    known: Vec<String>,
}

#[derive(Debug)]
struct Given {
    name: String,
    value: String,
    /// Set if the value is to be looked up.
    secret: Option<Secret>,
    place: Location,
    value_place: Location,
}

/// A value and where it is written.
pub(crate) struct OptionValue {
    pub(crate) text: String,
    pub(crate) place: Location,
}

impl Options {
    /// Parses `WITH (…)` if it comes next.
    pub(crate) fn parse(cursor: &mut Cursor) -> Result<Self, SqlError> {
        if cursor.take(&["WITH"]) { Self::parse_list(cursor) } else { Ok(Self::default()) }
    }

    /// Parses `(name = value, …)`.
    pub(crate) fn parse_list(cursor: &mut Cursor) -> Result<Self, SqlError> {
        let mut options = Self::default();
        cursor.expect_token(&Token::LParen)?;
        cursor.list(|cursor| {
            let place = cursor.here();
            let name = option_name(cursor)?;
            cursor.expect_token(&Token::Eq)?;
            let value_place = cursor.here();
            let secret = secret(cursor)?;
            if secret.is_some() && !name.starts_with(CLIENT) {
                return Err(error_at(value_place, format!("option '{name}' is no secret"))
                    .hint("settings of the Kafka client may be looked up, such as kafka.sasl.password = secret('KAFKA_PASSWORD')"));
            }
            let value = if secret.is_some() { String::new() } else { option_value(cursor)? };
            if options.given.iter().any(|g| g.name == name) {
                return Err(error_at(place, format!("option '{name}' is given twice")));
            }
            options.given.push(Given { name, value, secret, place, value_place });
            Ok(())
        })?;
        Ok(options)
    }

    /// Takes an option out.
    pub(crate) fn take(&mut self, name: &str) -> Option<OptionValue> {
        self.known.push(name.to_string());
        let at = self.given.iter().position(|g| g.name == name)?;
        let given = self.given.remove(at);
        Some(OptionValue { text: given.value, place: given.value_place })
    }

    /// Takes one of a few words.
    pub(crate) fn take_word<T: Clone>(&mut self, name: &str, words: &[(&str, T)], default: T) -> Result<T, SqlError> {
        let Some(value) = self.take(name) else { return Ok(default) };
        match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&value.text)) {
            Some((_, meaning)) => Ok(meaning.clone()),
            None => {
                let choices: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
                Err(error_at(value.place, format!("{name} cannot be '{}'", value.text))
                    .detail(format!("it is {}", choices.join(" or ")))
                    .maybe_hint(did_you_mean(&value.text, words.iter().map(|(word, _)| *word))))
            }
        }
    }

    /// Takes a length of time above zero.
    pub(crate) fn take_duration(&mut self, name: &str, default: Duration) -> Result<Duration, SqlError> {
        let Some(value) = self.take(name) else { return Ok(default) };
        match parse_duration_us(&value.text) {
            Ok(us) if us > 0 => Ok(Duration::from_micros(us as u64)),
            Ok(_) => Err(error_at(value.place, format!("{name} must be longer than zero"))),
            Err(why) => Err(error_at(value.place, format!("{name}: {why}")).hint("write a number and a unit, such as '5 seconds'")),
        }
    }

    /// [`Self::take_duration`] of an option that has no default.
    pub(crate) fn take_some_duration(&mut self, name: &str) -> Result<Option<Duration>, SqlError> {
        let is_given = self.given.iter().any(|given| given.name == name);
        let duration = self.take_duration(name, Duration::ZERO)?;
        Ok(is_given.then_some(duration))
    }

    /// Takes all settings of the Kafka client, without the prefix.
    pub(crate) fn take_client_settings(&mut self) -> BTreeMap<String, ClientSetting> {
        let (with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut self.given).into_iter().partition(|g| g.name.starts_with(CLIENT));
        self.given = without;
        let setting = |g: Given| (g.name[CLIENT.len()..].to_string(), g.secret.map_or(ClientSetting::Text(g.value), ClientSetting::Secret));
        with.into_iter().map(setting).collect()
    }

    /// Fails if anything was not taken. `also` are names that exist but are not taken by name.
    pub(crate) fn finish(self, of: &str, also: &[&str]) -> Result<(), SqlError> {
        let Some(unknown) = self.given.first() else { return Ok(()) };
        let known = || self.known.iter().map(String::as_str).chain(also.iter().copied());
        let list: Vec<&str> = known().collect();
        Err(error_at(unknown.place, format!("{of} has no option '{}'", unknown.name))
            .detail(format!("options: {}", list.join(", ")))
            .maybe_hint(did_you_mean(&unknown.name, known())))
    }
}

/// `name`, `a.b.c` or `'a.b.c'`; lower case.
fn option_name(cursor: &mut Cursor) -> Result<String, SqlError> {
    if matches!(cursor.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
        return Ok(cursor.string("an option's name")?.to_lowercase());
    }
    let mut name = cursor.name("an option's name")?.0.to_lowercase();
    while cursor.take_token(&Token::Period) {
        name = format!("{name}.{}", cursor.name("the rest of the option's name")?.0.to_lowercase());
    }
    Ok(name)
}

/// `secret('NAME')` or `secret_file('/path')`, if it comes next.
fn secret(cursor: &mut Cursor) -> Result<Option<Secret>, SqlError> {
    let make = match cursor.peek_word() {
        Some(word) if word.value.eq_ignore_ascii_case("secret") => Secret::Environment as fn(String) -> Secret,
        Some(word) if word.value.eq_ignore_ascii_case("secret_file") => Secret::File as fn(String) -> Secret,
        _ => return Ok(None),
    };
    cursor.parser.advance_token();
    cursor.expect_token(&Token::LParen)?;
    let place = cursor.here();
    let text = cursor.string("where the secret is, such as 'KAFKA_PASSWORD'")?;
    if text.is_empty() {
        return Err(error_at(place, "the secret has no name").hint("write secret('KAFKA_PASSWORD') or secret_file('/run/secrets/kafka')"));
    }
    cursor.expect_token(&Token::RParen)?;
    Ok(Some(make(text)))
}

fn option_value(cursor: &mut Cursor) -> Result<String, SqlError> {
    cursor.take(&["INTERVAL"]);
    let token = cursor.parser.peek_token_ref().token.clone();
    let value = match token {
        Token::SingleQuotedString(text) => text,
        Token::Number(digits, _) => digits,
        Token::Word(word) if word.quote_style.is_none() && ["true", "false"].contains(&word.value.to_lowercase().as_str()) => {
            word.value.to_lowercase()
        }
        Token::Word(word) if word.quote_style.is_none() => {
            return Err(cursor.expected("a value in single quotes").hint(format!("write '{}'", word.value)));
        }
        _ => return Err(cursor.expected("a value in single quotes")),
    };
    cursor.parser.advance_token();
    Ok(value)
}

/// `INTERVAL '10 seconds'` or `INTERVAL '10' SECOND`, in microseconds.
pub(crate) fn parse_interval_us(cursor: &mut Cursor) -> Result<i64, SqlError> {
    cursor.expect(&["INTERVAL"]).map_err(|e| e.hint("write INTERVAL '10 seconds'"))?;
    let place = cursor.here();
    let mut text = match cursor.parser.peek_token_ref().token.clone() {
        Token::Number(digits, _) => {
            cursor.parser.advance_token();
            digits
        }
        _ => cursor.string("a length of time")?,
    };
    let unit = cursor.peek_word().filter(|w| unit_us(&w.value).is_some()).map(|w| w.value.clone());
    if let Some(unit) = unit {
        cursor.parser.advance_token();
        text = format!("{text} {unit}");
    }
    parse_duration_us(&text).map_err(|why| error_at(place, why).hint("write a number and a unit, such as INTERVAL '10 seconds'"))
}

/// `5 seconds`, `1 minute 30 s`, `500ms`: microseconds, not negative.
pub(crate) fn parse_duration_us(text: &str) -> Result<i64, String> {
    let mut total: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a length of time is missing".into());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| format!("'{text}' is not a length of time"))?;
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor = match unit_us(unit) {
            Some(factor) => factor,
            None if unit.is_empty() => return Err(format!("'{text}' has no unit")),
            None if ["month", "months", "year", "years"].contains(&unit.to_lowercase().as_str()) => {
                return Err(format!("'{text}' has no fixed length: use days"));
            }
            None => {
                const SHOWN: [&str; 7] = ["microseconds", "milliseconds", "seconds", "minutes", "hours", "days", "weeks"];
                let hint = did_you_mean(unit, SHOWN).map(|h| format!("; {h}")).unwrap_or_default();
                return Err(format!("'{unit}' is not a unit of time{hint}"));
            }
        };
        total = number.checked_mul(factor).and_then(|us| total.checked_add(us)).ok_or_else(|| format!("'{text}' is too long"))?;
        rest = after.trim_start();
    }
    Ok(total)
}

fn unit_us(unit: &str) -> Option<i64> {
    Some(match unit.to_lowercase().as_str() {
        "us" | "microsecond" | "microseconds" => 1,
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        "w" | "week" | "weeks" => 604_800_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, us) in
            [("5 seconds", 5_000_000), ("500ms", 500_000), ("1 minute 30 s", 90_000_000), (" 2 Days ", 172_800_000_000), ("0 s", 0)]
        {
            assert_eq!(parse_duration_us(text), Ok(us), "{text}");
        }
        let why = |text| parse_duration_us(text).unwrap_err();
        assert!(why("5").contains("no unit"));
        assert!(why("1 month").contains("fixed length"));
        assert!(why("5 secnds").contains("'seconds'"));
        assert!(why("-5 s").contains("not a length"));
        assert!(why("").contains("missing"));
        assert!(why("99999999999999 days").contains("too long"));
    }
}

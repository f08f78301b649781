//! Numbers from JSON: integers and decimals exactly or not at all, floating point to the nearest.

use super::cursor::{Cursor, Reject};

const NUMBER: &str = "a number";

/// A whole number; also in quotes, as producers write 64-bit numbers for JavaScript's sake. `1.0` and `1e3` are whole.
pub(super) fn integer(cursor: &mut Cursor<'_>) -> Result<i128, Reject> {
    match cursor.peek() {
        Some(b'-' | b'0'..=b'9') => plain_integer(cursor),
        Some(b'"') => {
            let text = cursor.string()?;
            let mut inner = Cursor::new(&text);
            whole(plain_integer(&mut inner), &inner, &text)
        }
        _ => Err(cursor.mismatch("a whole number")),
    }
}

fn plain_integer(cursor: &mut Cursor<'_>) -> Result<i128, Reject> {
    let rest = cursor.rest();
    let negative = rest.first() == Some(&b'-');
    let digits = &rest[usize::from(negative)..];
    let mut value: i64 = 0;
    let mut count = 0;
    // 18 digits fit in any case.
    while let Some(digit @ b'0'..=b'9') = digits.get(count)
        && count < 18
    {
        value = value * 10 + i64::from(digit - b'0');
        count += 1;
    }
    let plain = count > 0 && !(digits[0] == b'0' && count > 1) && !matches!(digits.get(count), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
    if plain {
        cursor.advance(count + usize::from(negative));
        return Ok(i128::from(if negative { -value } else { value }));
    }
    let number = cursor.number()?;
    scaled(number, 38, 0).ok_or_else(|| does_not_fit(number, "a whole number"))
}

/// A decimal of at most `precision` digits, `scale` of them after the point, as its unscaled value; a number or a string.
pub(super) fn decimal(cursor: &mut Cursor<'_>, precision: u8, scale: i8) -> Result<i128, Reject> {
    let parse = |cursor: &mut Cursor<'_>| {
        let number = cursor.number()?;
        scaled(number, precision, scale).ok_or_else(|| does_not_fit(number, &format!("DECIMAL({precision}, {scale})")))
    };
    match cursor.peek() {
        Some(b'-' | b'0'..=b'9') => parse(cursor),
        Some(b'"') => {
            let text = cursor.string()?;
            let mut inner = Cursor::new(&text);
            whole(parse(&mut inner), &inner, &text)
        }
        _ => Err(cursor.mismatch(NUMBER)),
    }
}

/// A floating-point number; in quotes also `NaN`, `Infinity` and `-Infinity`, for which JSON has no numbers.
pub(super) fn float<T: std::str::FromStr + Float>(cursor: &mut Cursor<'_>) -> Result<T, Reject> {
    match cursor.peek() {
        Some(b'-' | b'0'..=b'9') => plain_float(cursor),
        Some(b'"') => {
            let text = cursor.string()?;
            match &*text {
                b"NaN" => Ok(T::NAN),
                b"Infinity" => Ok(T::INFINITY),
                b"-Infinity" => Ok(T::MINUS_INFINITY),
                text => {
                    let mut inner = Cursor::new(text);
                    whole(plain_float(&mut inner), &inner, text)
                }
            }
        }
        _ => Err(cursor.mismatch(NUMBER)),
    }
}

fn plain_float<T: std::str::FromStr + Float>(cursor: &mut Cursor<'_>) -> Result<T, Reject> {
    let number = cursor.number()?;
    let parsed = std::str::from_utf8(number).ok().and_then(|text| text.parse::<T>().ok());
    parsed.filter(|value| value.is_finite_number()).ok_or_else(|| does_not_fit(number, T::NAME))
}

/// The two floating-point types.
pub(super) trait Float: Sized {
    const NAME: &'static str;
    const NAN: Self;
    const INFINITY: Self;
    const MINUS_INFINITY: Self;
    fn is_finite_number(&self) -> bool;
}

impl Float for f64 {
    const NAME: &'static str = "DOUBLE";
    const NAN: Self = f64::NAN;
    const INFINITY: Self = f64::INFINITY;
    const MINUS_INFINITY: Self = f64::NEG_INFINITY;
    fn is_finite_number(&self) -> bool {
        self.is_finite()
    }
}

impl Float for f32 {
    const NAME: &'static str = "FLOAT";
    const NAN: Self = f32::NAN;
    const INFINITY: Self = f32::INFINITY;
    const MINUS_INFINITY: Self = f32::NEG_INFINITY;
    fn is_finite_number(&self) -> bool {
        self.is_finite()
    }
}

/// The number must be all there is in the string it is in.
fn whole<T>(parsed: Result<T, Reject>, inner: &Cursor<'_>, text: &[u8]) -> Result<T, Reject> {
    match parsed {
        Ok(value) if inner.rest().is_empty() => Ok(value),
        Err(reject) if inner.rest().is_empty() && !text.is_empty() => Err(reject),
        _ => Err(Reject::new(format!("expected a number, found the string '{}'", shown(text)))),
    }
}

pub(super) fn does_not_fit(number: &[u8], target: &str) -> Reject {
    Reject::new(format!("{} does not fit {target}", shown(number)))
}

/// Text for a reason: not too long.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// `number` × 10^`scale` as a whole number, or `None` if that is not exact or has more than `precision` digits.
/// `number` must have the form of a JSON number.
fn scaled(number: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, number) = match number {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let (mut mantissa, mut zeros, mut fraction, mut exponent) = (0_i128, 0_u32, 0_i64, 0_i64);
    let mut behind_point = false;
    for (index, &byte) in number.iter().enumerate() {
        match byte {
            b'.' => behind_point = true,
            b'e' | b'E' => {
                exponent = parse_exponent(&number[index + 1..]);
                break;
            }
            // Zeros count only once another digit follows them: 1.500 has one digit after the point.
            b'0' if mantissa == 0 => fraction += i64::from(behind_point),
            b'0' => {
                zeros += 1;
                fraction += i64::from(behind_point);
            }
            digit => {
                mantissa = mantissa.checked_mul(10_i128.checked_pow(zeros + 1)?)?.checked_add(i128::from(digit - b'0'))?;
                zeros = 0;
                fraction += i64::from(behind_point);
            }
        }
    }
    if mantissa == 0 {
        return Some(0);
    }
    let shift = i64::from(zeros) - fraction + exponent + i64::from(scale);
    // The mantissa's last digit is not zero, so a negative shift would lose it.
    let value = mantissa.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

/// Whether a number in text is exactly `value` × 10^-`scale`.
pub(crate) fn is_decimal(text: &str, value: i128, scale: i8) -> bool {
    let text = text.trim();
    scaled(text.strip_prefix('+').unwrap_or(text).as_bytes(), 38, scale) == Some(value)
}

/// An exponent; one too long to matter becomes one too big to fit.
fn parse_exponent(digits: &[u8]) -> i64 {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let value = digits.iter().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000));
    if negative { -value } else { value }
}

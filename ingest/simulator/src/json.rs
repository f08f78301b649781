//! Writes JSON straight into a byte buffer: no tree, no formatter, no escaping, because every string of the world is
//! made of characters that need none. Decimals are written from whole hundredths, so they are exact.

use crate::calendar::{DAY_US, SECOND_US};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends fields to an object that has begun and already holds one.
pub(crate) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(crate) fn raw(&mut self, text: &str) {
        debug_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)));
        self.bytes.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn name(&mut self, name: &str) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
    }

    #[inline]
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        debug_assert!(!value.contains(['"', '\\']), "{value} would need escaping");
        self.name(name);
        self.raw("\"");
        self.raw(value);
        self.raw("\"");
    }

    /// `"name":"<prefix><number, at least six digits>"`.
    #[inline]
    pub(crate) fn numbered(&mut self, name: &str, prefix: &str, number: u32) {
        self.name(name);
        self.raw("\"");
        self.bare_numbered(prefix, number);
        self.raw("\"");
    }

    #[inline]
    pub(crate) fn bare_numbered(&mut self, prefix: &str, number: u32) {
        self.raw(prefix);
        self.digits(u64::from(number), 6);
    }

    /// `"name":"<prefix><16 hexadecimal digits>"`.
    #[inline]
    pub(crate) fn hashed(&mut self, name: &str, prefix: &str, value: u64) {
        self.name(name);
        self.raw("\"");
        self.bare_hashed(prefix, value);
        self.raw("\"");
    }

    #[inline]
    pub(crate) fn bare_hashed(&mut self, prefix: &str, value: u64) {
        self.raw(prefix);
        self.hex(value, 16);
    }

    /// The lowest `count` hexadecimal digits.
    #[inline]
    fn hex(&mut self, value: u64, count: usize) {
        let mut digits = [0u8; 16];
        for (index, digit) in digits[..count].iter_mut().enumerate() {
            *digit = HEX[(value >> (4 * (count - 1 - index))) as usize & 15];
        }
        self.bytes.extend_from_slice(&digits[..count]);
    }

    /// A version 4 UUID of `high` (48 + 12 bits used) and the lowest 62 bits of `low`.
    #[inline]
    pub(crate) fn uuid(&mut self, high: u64, low: u64) {
        let high = (high & !0xf000) | 0x4000;
        let low = (low & (u64::MAX >> 2)) | (1 << 63);
        self.hex(high >> 32, 8);
        self.raw("-");
        self.hex(high >> 16, 4);
        self.raw("-");
        self.hex(high, 4);
        self.raw("-");
        self.hex(low >> 48, 4);
        self.raw("-");
        self.hex(low, 12);
    }

    /// Decimal digits with zeros in front up to `least`.
    #[inline]
    fn digits(&mut self, mut value: u64, least: usize) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while value > 0 {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.bytes.extend_from_slice(&digits[at.min(digits.len() - least)..]);
    }

    /// `value / 10^places`, exactly.
    #[inline]
    fn fixed(&mut self, value: i64, places: u32) {
        if value < 0 {
            self.raw("-");
        }
        let (value, unit) = (value.unsigned_abs(), 10u64.pow(places));
        self.digits(value / unit, 1);
        if places > 0 {
            self.raw(".");
            self.digits(value % unit, places as usize);
        }
    }

    #[inline]
    pub(crate) fn integer(&mut self, name: &str, value: i64) {
        self.name(name);
        self.fixed(value, 0);
    }

    #[inline]
    pub(crate) fn tenths(&mut self, name: &str, value: i64) {
        self.name(name);
        self.fixed(value, 1);
    }

    #[inline]
    pub(crate) fn hundredths(&mut self, name: &str, value: i64) {
        self.name(name);
        self.fixed(value, 2);
    }

    /// `"name":"<UUID>"`.
    #[inline]
    pub(crate) fn uuid_field(&mut self, name: &str, (high, low): (u64, u64)) {
        self.name(name);
        self.raw("\"");
        self.uuid(high, low);
        self.raw("\"");
    }

    /// Degrees with six decimals.
    #[inline]
    pub(crate) fn degrees(&mut self, name: &str, value: f64) {
        self.name(name);
        self.fixed((value * 1e6).round() as i64, 6);
    }

    /// An IPv4 address.
    #[inline]
    pub(crate) fn address(&mut self, name: &str, parts: [u8; 4]) {
        self.name(name);
        for (index, part) in parts.into_iter().enumerate() {
            self.raw(if index == 0 { "\"" } else { "." });
            self.digits(u64::from(part), 1);
        }
        self.raw("\"");
    }

    /// `"name":{"lat":…,"lon":…}` with six decimals, a tenth of a metre.
    #[inline]
    pub(crate) fn point(&mut self, name: &str, (lat, lon): (f64, f64)) {
        self.name(name);
        self.raw("{\"lat\":");
        self.fixed((lat * 1e6).round() as i64, 6);
        self.raw(",\"lon\":");
        self.fixed((lon * 1e6).round() as i64, 6);
        self.raw("}");
    }
}

/// RFC 3339 in UTC with microseconds, 27 bytes. Keeps the text of the last second, as most events share theirs.
#[derive(Debug)]
pub(crate) struct ClockText {
    second: i64,
    text: [u8; 27],
}

pub(crate) const CLOCK_BYTES: usize = 27;

impl ClockText {
    pub(crate) fn new() -> Self {
        let mut clock = Self { second: 0, text: *b"1970-01-01T00:00:00.000000Z" };
        clock.set_second(0);
        clock
    }

    pub(crate) fn of(&mut self, time_us: i64) -> &[u8; CLOCK_BYTES] {
        let second = time_us.div_euclid(SECOND_US);
        if second != self.second {
            self.set_second(second);
        }
        put(&mut self.text[20..26], time_us.rem_euclid(SECOND_US));
        &self.text
    }

    fn set_second(&mut self, second: i64) {
        self.second = second;
        let (year, month, day) = civil(second.div_euclid(DAY_US / SECOND_US));
        let of_day = second.rem_euclid(DAY_US / SECOND_US);
        put(&mut self.text[0..4], year);
        put(&mut self.text[5..7], month);
        put(&mut self.text[8..10], day);
        put(&mut self.text[11..13], of_day / 3_600);
        put(&mut self.text[14..16], of_day / 60 % 60);
        put(&mut self.text[17..19], of_day % 60);
    }
}

fn put(digits: &mut [u8], mut value: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day number since 1970, for years 1 to 9999. Counts in years that begin in March, so that the
/// leap day is the last day of its year.
fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut bytes = Vec::new();
        write(&mut Writer::new(&mut bytes));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(written(|w| w.hundredths("fare", 1_205)), ",\"fare\":12.05");
        assert_eq!(written(|w| w.hundredths("fare", -7)), ",\"fare\":-0.07");
        assert_eq!(written(|w| w.hundredths("fare", i64::MIN)), ",\"fare\":-92233720368547758.08");
        assert_eq!(written(|w| w.tenths("speed", 0)), ",\"speed\":0.0");
        assert_eq!(written(|w| w.integer("n", 1_000_000)), ",\"n\":1000000");
        assert_eq!(written(|w| w.numbered("id", "d_", 42)), ",\"id\":\"d_000042\"");
        assert_eq!(written(|w| w.numbered("id", "d_", 1_234_567)), ",\"id\":\"d_1234567\"");
        assert_eq!(written(|w| w.point("p", (-23.5505, 0.000001))), ",\"p\":{\"lat\":-23.550500,\"lon\":0.000001}");
        assert_eq!(written(|w| w.address("ip", [20, 0, 7, 254])), ",\"ip\":\"20.0.7.254\"");
        assert_eq!(written(|w| w.uuid(u64::MAX, u64::MAX)), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(written(|w| w.hashed("h", "x", 0xab)), ",\"h\":\"x00000000000000ab\"");
    }

    #[test]
    fn times_are_rfc_3339() {
        let mut clock = ClockText::new();
        let mut text = |time_us| String::from_utf8(clock.of(time_us).to_vec()).unwrap();
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(1_767_596_400_123_456), "2026-01-05T07:00:00.123456Z");
        assert_eq!(text(1_709_164_800_000_000), "2024-02-29T00:00:00.000000Z");
        assert_eq!(text(4_107_542_399_999_999), "2100-02-28T23:59:59.999999Z");
        assert_eq!(text(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
    }
}

//! Kafka's wire format: numbers, texts, lists and structures as bytes, in both directions.
//!
//! Since some version of each request (its *flexible* one) lengths are variable-length numbers plus one, and each structure ends with tagged
//! fields; of these this broker sends none and passes over those it gets.
//!
//! Bytes come from strangers. A length is checked against the bytes that are there before anything is made of it, and one request holds at
//! most [`ELEMENTS_MAX`] list elements, so that it cannot ask for more memory than a small multiple of its own size.

#[cfg(test)]
pub(super) mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// List elements of one request, all lists together: room for a fetch of tens of thousands of partitions.
pub(super) const ELEMENTS_MAX: usize = 100_000;

/// Bytes of a text: as many as the format before the flexible one can hold.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the request ends in the middle of a field")]
    CutOff,
    #[error("the request has a length that its format does not allow")]
    Length,
    #[error("the request has more than {} list elements", ELEMENTS_MAX)]
    Elements,
    #[error("the request has a text that is not UTF-8")]
    Text,
    #[error("the request goes on after its last field")]
    LeftOver,
}

/// Takes fields from the front of a message.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    bytes: Bytes,
    pub(super) version: i16,
    flexible: bool,
    elements_left: usize,
}

/// Puts fields at the end of a message.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: BytesMut,
    pub(super) version: i16,
    flexible: bool,
}

/// Something that a message is made of.
pub(super) trait Field: Sized {
    fn read(from: &mut Reader) -> Result<Self, Malformed>;
    fn write(&self, to: &mut Writer);
    /// Some value, as large or odd as may come; the same for the same state of `random`.
    #[cfg(test)]
    fn any(random: &mut tests::Random, version: i16) -> Self;
}

impl Reader {
    pub(super) fn new(bytes: Bytes, version: i16, flexible: bool) -> Self {
        Self { bytes, version, flexible, elements_left: ELEMENTS_MAX }
    }

    /// The rest of the message in a flexible version, or in an older one.
    pub(super) fn flexible(self, flexible: bool) -> Self {
        Self { flexible, ..self }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.bytes.len() {
            return Err(Malformed::CutOff);
        }
        Ok(self.bytes.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        taken.first_chunk().copied().ok_or(Malformed::CutOff)
    }

    /// A number of seven bits a byte, the lowest first; at most 32 bits.
    fn unsigned(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Length)
    }

    /// A length; `None` for what is null.
    fn length(&mut self, classic: impl FnOnce(&mut Self) -> Result<i32, Malformed>) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return Ok(self.unsigned()?.checked_sub(1).map(|length| length as usize));
        }
        match classic(self)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed::Length),
        }
    }

    /// Passes over tagged fields. A client may send some that this broker does not know.
    pub(super) fn tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned()? {
            self.element()?;
            self.unsigned()?;
            let size = self.unsigned()? as usize;
            self.take(size)?;
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), Malformed> {
        self.elements_left = self.elements_left.checked_sub(1).ok_or(Malformed::Elements)?;
        Ok(())
    }

    /// A message that is all that is left.
    pub(super) fn whole<T: Field>(mut self) -> Result<T, Malformed> {
        let message = T::read(&mut self)?;
        if self.bytes.is_empty() { Ok(message) } else { Err(Malformed::LeftOver) }
    }
}

impl Writer {
    pub(super) fn new(version: i16, flexible: bool) -> Self {
        Self { bytes: BytesMut::new(), version, flexible }
    }

    /// The message, whose first four bytes become the number of those after them.
    pub(super) fn framed(mut self) -> Bytes {
        let size = self.bytes.len().saturating_sub(4) as u32;
        if let Some(front) = self.bytes.first_chunk_mut() {
            *front = size.to_be_bytes();
        }
        self.bytes.freeze()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.put_slice(bytes);
    }

    fn unsigned(&mut self, mut value: u32) {
        while value > 0x7f {
            self.bytes.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// What is written here is smaller than 2 GiB: `records.rs` sees to that, and all else are names and numbers.
    fn length(&mut self, length: Option<usize>, classic: impl FnOnce(&mut Self, i32)) {
        if self.flexible {
            self.unsigned(length.map_or(0, |length| length as u32 + 1));
        } else {
            classic(self, length.map_or(-1, |length| length as i32));
        }
    }

    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.unsigned(0);
        }
    }
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn read(from: &mut Reader) -> Result<Self, Malformed> {
                Ok(Self::from_be_bytes(from.array()?))
            }

            fn write(&self, to: &mut Writer) {
                to.put(&self.to_be_bytes());
            }

            #[cfg(test)]
            fn any(random: &mut tests::Random, _: i16) -> Self {
                random.next() as Self
            }
        }
    )*};
}
number!(i8, i16, i32, i64);

impl Field for bool {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(i8::read(from)? != 0)
    }

    fn write(&self, to: &mut Writer) {
        i8::from(*self).write(to);
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, _: i16) -> Self {
        random.below(2) == 0
    }
}

impl Field for Uuid {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self::from_bytes(from.array()?))
    }

    fn write(&self, to: &mut Writer) {
        to.put(self.as_bytes());
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, _: i16) -> Self {
        Self::from_u128(u128::from(random.next()))
    }
}

impl Field for Option<String> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let Some(length) = from.length(|from| i16::read(from).map(i32::from))? else { return Ok(None) };
        if length > TEXT_BYTES_MAX {
            return Err(Malformed::Length);
        }
        let bytes = from.take(length)?;
        std::str::from_utf8(&bytes).map(|text| Some(text.to_owned())).map_err(|_| Malformed::Text)
    }

    fn write(&self, to: &mut Writer) {
        text(self.as_deref(), to);
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, version: i16) -> Self {
        (random.below(4) > 0).then(|| String::any(random, version))
    }
}

impl Field for String {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Option::read(from)?.ok_or(Malformed::Length)
    }

    fn write(&self, to: &mut Writer) {
        text(Some(self), to);
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, _: i16) -> Self {
        "Grüße 🚕".chars().cycle().take(random.below(9) * random.below(30)).collect()
    }
}

fn text(text: Option<&str>, to: &mut Writer) {
    to.length(text.map(str::len), |to, length| (length as i16).write(to));
    to.put(text.unwrap_or_default().as_bytes());
}

/// Record batches: a part of the message, not a copy.
impl Field for Option<Bytes> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let length = from.length(i32::read)?;
        length.map(|length| from.take(length)).transpose()
    }

    fn write(&self, to: &mut Writer) {
        to.length(self.as_ref().map(Bytes::len), |to, length| length.write(to));
        to.put(self.as_deref().unwrap_or_default());
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, _: i16) -> Self {
        (random.below(4) > 0).then(|| Bytes::from(vec![7; random.below(300)]))
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let Some(length) = from.length(i32::read)? else { return Ok(None) };
        // Each element takes a byte at least.
        if length > from.bytes.len() {
            return Err(Malformed::CutOff);
        }
        let mut elements = Vec::new();
        for _ in 0..length {
            from.element()?;
            elements.push(T::read(from)?);
        }
        Ok(Some(elements))
    }

    fn write(&self, to: &mut Writer) {
        list(self.as_deref(), to);
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, version: i16) -> Self {
        (random.below(4) > 0).then(|| Vec::any(random, version))
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        Option::read(from)?.ok_or(Malformed::Length)
    }

    fn write(&self, to: &mut Writer) {
        list(Some(self), to);
    }

    #[cfg(test)]
    fn any(random: &mut tests::Random, version: i16) -> Self {
        (0..random.below(4)).map(|_| T::any(random, version)).collect()
    }
}

fn list<T: Field>(elements: Option<&[T]>, to: &mut Writer) {
    to.length(elements.map(<[T]>::len), |to, length| length.write(to));
    for element in elements.unwrap_or_default() {
        element.write(to);
    }
}

/// Defines structures by the order of their fields on the wire.
///
/// `name: type` is in each version that is served; `name: type [3..]` in the versions of a range, and is its type's default, or what follows `=`,
/// in others.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty $([$versions:expr])? $(= $absent:expr)?),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(in crate::embedded) struct $name { $(pub(in crate::embedded) $field: $kind),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: messages!(@absent $kind $(, $absent)?)),* }
            }
        }

        impl $crate::embedded::wire::Field for $name {
            fn read(from: &mut $crate::embedded::wire::Reader) -> Result<Self, $crate::embedded::wire::Malformed> {
                let read = Self { $($field: if messages!(@within from.version $(, $versions)?) {
                    $crate::embedded::wire::Field::read(from)?
                } else {
                    messages!(@absent $kind $(, $absent)?)
                }),* };
                from.tags()?;
                Ok(read)
            }

            fn write(&self, to: &mut $crate::embedded::wire::Writer) {
                $(if messages!(@within to.version $(, $versions)?) {
                    $crate::embedded::wire::Field::write(&self.$field, to);
                })*
                to.no_tags();
            }

            #[cfg(test)]
            fn any(random: &mut $crate::embedded::wire::tests::Random, version: i16) -> Self {
                Self { $($field: if messages!(@within version $(, $versions)?) {
                    $crate::embedded::wire::Field::any(random, version)
                } else {
                    messages!(@absent $kind $(, $absent)?)
                }),* }
            }
        }
    )*};
    (@within $version:expr) => { true };
    (@within $version:expr, $versions:expr) => { ($versions).contains(&$version) };
    (@absent $kind:ty) => { <$kind>::default() };
    (@absent $kind:ty, $absent:expr) => { $absent };
}
pub(super) use messages;

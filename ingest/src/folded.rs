//! Names that differ in upper and lower case only, in any script.

use std::borrow::Cow;

/// The form in which names are compared that differ in case only. By way of upper case, so that `ß` is `SS` and the two forms of `σ` are one;
/// SQL folds the letters A to Z of a name without quotes, and leaves the others as they are.
pub(crate) fn folded(name: &str) -> String {
    if name.is_ascii() { name.to_ascii_lowercase() } else { name.to_uppercase().to_lowercase() }
}

/// The same of bytes that should be UTF-8.
pub(crate) fn folded_bytes(name: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(name) {
        Ok(text) => Cow::Owned(folded(text).into_bytes()),
        Err(_) => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_in_any_script() {
        for (one, other) in [("DeviceId", "deviceid"), ("grÖsse", "größe"), ("É", "é"), ("ΟΔΟΣ", "οδος"), ("ЦЕНА", "цена"), ("ﬁ", "FI")]
        {
            assert_eq!(folded(one), folded(other), "{one}");
        }
        assert_ne!(folded("e"), folded("é"));
        assert_eq!(folded_bytes(b"\xff"), b"\xff".as_slice());
    }
}

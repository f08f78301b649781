//! Percent-encoding of folder names and of paths in the Delta log.
//!
//! ```text
//! value        São Paulo
//! folder       city=S%C3%A3o%20Paulo             as Hive and Spark name partition folders
//! log path     city=S%25C3%25A3o%2520Paulo/…     the folder as a relative URI, as the Delta protocol asks
//! ```

/// Encodes all bytes but letters, digits, `-`, `_` and `.`: a name that every file system and store takes.
pub(crate) fn folder_name(text: &str) -> String {
    encode(text, |byte| matches!(byte, b'-' | b'_' | b'.'))
}

/// Encodes a path as a relative URI reference.
pub(crate) fn to_uri(path: &str) -> String {
    encode(path, |byte| matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b'=' | b'$' | b'@' | b'+' | b','))
}

/// Decodes `%XX`; anything malformed stays as it is, as lenient readers do.
pub(crate) fn from_uri(uri: &str) -> String {
    let bytes = uri.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = |offset: usize| bytes.get(index + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[index], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                index += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| uri.to_owned())
}

fn encode(text: &str, kept: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_survive_the_log() {
        for value in ["São Paulo", "a/b=c", "100%", "%41", "..", "\u{1F600} #?", ""] {
            let folder = format!("city={}", folder_name(value));
            assert_eq!(from_uri(&to_uri(&folder)), folder);
            assert_eq!(from_uri(folder.strip_prefix("city=").unwrap()), value);
        }
        assert_eq!(to_uri("city=S%C3%A3o"), "city=S%25C3%25A3o");
    }
}

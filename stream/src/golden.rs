//! Values that must stay as they are from version to version, kept as files in `stream/tests/golden`.

use std::path::Path;

/// Compares a text with a file. If they differ, the text is left where the message says, to be looked at and put in the file's place.
pub(crate) fn golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if known != text {
        let now = std::env::temp_dir().join("watershed-golden").join(file);
        std::fs::create_dir_all(now.parent().unwrap()).unwrap();
        std::fs::write(&now, text).unwrap();
        panic!("{} is not what it was; now it would be {}:\n{text}", path.display(), now.display());
    }
}

//! What is wrong with a Delta log that cannot be read: which file is damaged or missing.
//!
//! Looked for only once reading has failed. The commits behind the newest checkpoint must be there without a gap, and each be lines of
//! JSON.

use std::collections::BTreeMap;

use object_store::path::Path;

use crate::access::Access;
use crate::error::{LakeError, Result};
use crate::log::{self, log_folder};

/// The first damage found in the log of the table in `folder`; `None` if all that a reader needs looks right.
pub(crate) async fn damage(access: &Access, folder: &Path) -> Result<Option<LakeError>> {
    let mut commits: BTreeMap<i64, Path> = BTreeMap::new();
    let mut checkpoint = None;
    for file in access.list(&log_folder(folder)).await? {
        let name = file.location.filename().unwrap_or_default();
        let Some((version, rest)) = name.split_at_checked(20).and_then(|(digits, rest)| Some((digits.parse::<i64>().ok()?, rest))) else {
            continue;
        };
        if rest == ".json" {
            commits.insert(version, file.location);
        } else if log::is_checkpoint(name) {
            checkpoint = checkpoint.max(Some(version));
        }
    }
    let first = checkpoint.map_or(0, |version| version + 1);
    let Some((&last, _)) = commits.last_key_value() else { return Ok(None) };
    for version in first..=last {
        let Some(path) = commits.get(&version) else {
            let path = log::version_path(folder, version).to_string();
            return Ok(Some(LakeError::Damaged { path, reason: format!("it is missing, though version {last} is there") }));
        };
        let Some(found) = access.get(path).await? else { continue };
        match log::parse(path, &found.bytes) {
            Ok(actions) if actions.is_empty() => {
                return Ok(Some(LakeError::Damaged { path: path.to_string(), reason: "it is empty".to_owned() }));
            }
            Ok(_) => {}
            Err(damaged) => return Ok(Some(damaged)),
        }
    }
    Ok(None)
}

//! The applied project: which sources, streaming tables, materialized views, sinks and panels there are, as the SQL that defined them.
//!
//! Each apply writes `_watershed/definitions/<revision>.json` with create-if-absent; the newest revision counts, and
//! older ones are the history.

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::access::PutOutcome;
use crate::error::{LakeError, Result};
use crate::warehouse::Warehouse;

/// What [`Definition::kind`] may be, in SQL's words. The warehouse keeps these texts.
pub mod kind {
    /// `CREATE SOURCE`.
    pub const SOURCE: &str = "source";
    /// `CREATE STREAMING TABLE`.
    pub const TABLE: &str = "streaming table";
    /// `CREATE MATERIALIZED VIEW`.
    pub const VIEW: &str = "materialized view";
    /// `CREATE SINK`.
    pub const SINK: &str = "sink";
    /// `CREATE PANEL`.
    pub const PANEL: &str = "panel";
}

/// One applied definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// What it defines, such as `ride_events` or `silver.city_demand`.
    pub name: String,
    /// What kind of thing that is: one of [`kind`].
    pub kind: String,
    /// The statement as it was written.
    pub sql: String,
}

/// All definitions in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions {
    /// Rises by one with each apply; 0 when nothing was ever applied.
    pub revision: u64,
    /// The definitions, in the order they were given.
    pub items: Vec<Definition>,
}

impl Warehouse {
    /// The definitions in force.
    pub async fn definitions(&self) -> Result<Definitions> {
        let listed = self.access().list(&folder()).await?;
        let newest = listed.iter().filter_map(|file| revision_of(&file.location)).max();
        let Some(revision) = newest else { return Ok(Definitions::default()) };
        let gone = || LakeError::Damaged { path: path_of(revision).to_string(), reason: "it was removed while it was read".to_owned() };
        self.definitions_of(revision).await?.ok_or_else(gone)
    }

    /// The definitions of a revision, which need not be in force any more; `None` if there is no such revision.
    pub async fn definitions_of(&self, revision: u64) -> Result<Option<Definitions>> {
        let path = path_of(revision);
        let damaged = |reason: String| LakeError::Damaged { path: path.to_string(), reason };
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        let definitions: Definitions = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if definitions.revision != revision {
            return Err(damaged(format!("it says revision {}", definitions.revision)));
        }
        Ok(Some(definitions))
    }

    /// Puts `items` in force in place of `expected`, which must still be in force.
    ///
    /// Errors: [`LakeError::DefinitionsChanged`] when someone else applied other definitions meanwhile.
    pub async fn save_definitions(&self, expected: &Definitions, items: Vec<Definition>) -> Result<Definitions> {
        let next = Definitions { revision: expected.revision + 1, items };
        let path = path_of(next.revision);
        let text =
            serde_json::to_vec_pretty(&next).map_err(|error| LakeError::Damaged { path: path.to_string(), reason: error.to_string() })?;
        match self.put_if_absent(&path, Bytes::from(text)).await? {
            PutOutcome::Won => Ok(next),
            PutOutcome::Lost(_) => {
                let found = self.definitions().await?.revision;
                Err(LakeError::DefinitionsChanged { expected: expected.revision, found })
            }
        }
    }
}

fn folder() -> Path {
    Path::from("_watershed/definitions")
}

fn path_of(revision: u64) -> Path {
    folder().join(format!("{revision:020}.json"))
}

fn revision_of(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Warehouses hold this: a later version must read it.
    #[tokio::test]
    async fn definitions_are_written_as_ever() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let item = |name: &str, kind: &str, sql: &str| Definition { name: name.into(), kind: kind.into(), sql: sql.into() };
        let items = vec![item("s", kind::SOURCE, "CREATE SOURCE s"), item("a.b", kind::TABLE, "CREATE STREAMING TABLE a.b")];
        let saved = warehouse.save_definitions(&Definitions::default(), items).await.unwrap();
        let bytes = warehouse.read(&Path::from("_watershed/definitions/00000000000000000001.json")).await.unwrap().unwrap();
        let expected = r#"{
  "revision": 1,
  "items": [
    {
      "name": "s",
      "kind": "source",
      "sql": "CREATE SOURCE s"
    },
    {
      "name": "a.b",
      "kind": "streaming table",
      "sql": "CREATE STREAMING TABLE a.b"
    }
  ]
}"#;
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
        assert_eq!(warehouse.definitions().await.unwrap(), saved);
        let next = warehouse.save_definitions(&saved, Vec::new()).await.unwrap();
        assert_eq!(warehouse.definitions_of(1).await.unwrap(), Some(saved));
        assert_eq!(warehouse.definitions_of(2).await.unwrap(), Some(next));
        assert_eq!(warehouse.definitions_of(3).await.unwrap(), None);
    }
}

//! Streaming tables that are no longer defined, though their rows and state are still there: what last defined them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use watershed_dialect::StreamingTableDefinition;
use watershed_lake::kind::TABLE;
use watershed_lake::{TableName, Warehouse};
use watershed_stream::Blueprint;

use crate::project;

/// A table as it was last defined.
pub struct Left {
    /// What defined it.
    pub definition: StreamingTableDefinition,
    /// Its plan, with the source that it read then.
    pub plan: Blueprint,
}

/// What the newest revision before `revision` that has them says of `names`. Absent is what no revision that is kept has, and what this
/// version can no longer plan.
pub async fn find(warehouse: &Warehouse, revision: u64, names: &BTreeSet<TableName>) -> Result<BTreeMap<TableName, Left>> {
    let mut left = BTreeMap::new();
    let mut wanted: BTreeMap<String, &TableName> = names.iter().map(|name| (name.to_string(), name)).collect();
    for revision in (1..revision).rev() {
        if wanted.is_empty() {
            break;
        }
        let Some(definitions) = warehouse.definitions_of(revision).await? else { continue };
        let tables = definitions.items.iter().filter(|item| item.kind == TABLE);
        let known: Vec<&TableName> = tables.filter_map(|item| wanted.remove(&item.name)).collect();
        if known.is_empty() {
            continue;
        }
        let project = project::applied(&definitions);
        for name in known {
            let Some(definition) = project.tables.get(name) else { continue };
            if let Ok(plan) = project.plan(definition).await {
                left.insert(name.clone(), Left { definition: definition.clone(), plan });
            }
        }
    }
    Ok(left)
}

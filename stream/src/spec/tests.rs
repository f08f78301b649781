//! What counts as a change of a query, and what does not; what is explained of every table in `sql/`; values that records hold.

mod durable;
mod earlier;
mod edits;
mod grown;
mod grown_on;
mod lineage;
mod same;

use super::PlanSpec;
use super::difference::{Change, change};
use crate::StreamError;
use crate::plan::Blueprint;
use crate::project::Project;

pub(super) const PAY: &str = "CREATE SOURCE pay (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, amount BIGINT, small INT, rate DOUBLE,
    price DECIMAL(10, 2), city VARCHAR, town VARCHAR, flag BOOLEAN, day DATE, raw BINARY, tags LIST<VARCHAR>,
    place STRUCT<lat DOUBLE, lon DOUBLE>, later TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second')
    WITH (connector = 'kafka', topic = 'pay', format = 'json');";

/// The plan of a query over [`PAY`].
pub(super) async fn plan(query: &str) -> Blueprint {
    plan_of(PAY, &format!("CREATE STREAMING TABLE gold.x AS {query}")).await
}

pub(super) async fn plan_of(source: &str, table: &str) -> Blueprint {
    let project = Project::parse([source, table]).unwrap_or_else(|e| panic!("{e}\n{table}"));
    let planned = project.plan_all().await.unwrap_or_else(|e| panic!("{e}\n{table}"));
    planned.into_values().next().unwrap()
}

/// What differs between two plans.
pub(super) fn difference(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    match change(old, new) {
        Change::Nothing => None,
        Change::Columns(columns) => Some(format!("column {} is new", columns.join(", "))),
        Change::Rebuild(why) => Some(why),
    }
}

/// What differs between two queries.
pub(super) async fn between(old: &str, new: &str) -> Option<String> {
    tried(old, new).await.unwrap_or_else(|e| panic!("{e}\n{old}\n{new}"))
}

/// [`between`], or why one of them cannot be planned.
pub(super) async fn tried(old: &str, new: &str) -> Result<Option<String>, StreamError> {
    let plan = async |query: &str| {
        let project = Project::parse([PAY, &format!("CREATE STREAMING TABLE gold.x AS {query}")])?;
        Ok::<_, StreamError>(project.plan_all().await?.into_values().next().unwrap())
    };
    let (old, new) = (plan(old).await?, plan(new).await?);
    let said = difference(&old.spec, &new.spec);
    if said.is_none() {
        assert_eq!(old.fingerprint(), new.fingerprint());
    }
    Ok(said)
}

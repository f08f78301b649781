//! The lineage of a spec is that of the plan it was made from.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use watershed_dialect::lineage::lineage;
use watershed_dialect::{SourceTable, plan_streaming_table, session_config, session_state};

use super::PAY;
use super::durable::{KINDS, repository};
use crate::project::Project;

async fn agrees(project: &Project) {
    let context = SessionContext::new_with_state(session_state(session_config(), None));
    for source in project.sources.values() {
        context.register_table(source.name.as_str(), Arc::new(SourceTable::new(source.clone()))).unwrap();
    }
    for (name, table) in &project.tables {
        let plan = plan_streaming_table(&context.state(), table).await.unwrap();
        let of_spec = crate::spec::lineage::lineage(&project.plan(table).await.unwrap().spec);
        assert_eq!(of_spec, lineage(&plan), "{name}: {}", table.query);
        assert_eq!(of_spec.columns.len(), plan.schema().fields().len(), "{name}");
    }
}

#[tokio::test]
async fn specs_and_plans_tell_the_same_lineage() {
    agrees(&repository()).await;
    let more = [
        "SELECT place['lat'] AS lat, CASE amount WHEN 1 THEN city ELSE town END AS c, coalesce(rate, 0) AS rate FROM pay WHERE flag",
        "SELECT id, first_value(amount) OVER w AS f, count(*) FILTER (WHERE flag) OVER w AS n FROM pay
         WINDOW w AS (PARTITION BY upper(city) ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)",
    ];
    for query in KINDS.iter().map(|(_, query)| *query).chain(more) {
        agrees(&Project::parse([PAY, &format!("CREATE STREAMING TABLE gold.x AS {query}")]).unwrap()).await;
    }
}

//! `system.column_lineage`: of each column of a streaming table, a materialized view and a sink, which columns it is made of, in the words of
//! OpenLineage's column lineage facet. Made from the plans of the applied definitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use watershed_dialect::lineage::{Lineage, Origin, Role};
use watershed_lake::kind::{SINK, TABLE, VIEW};
use watershed_lake::{Definitions, Warehouse};
use watershed_message::Message;
use watershed_query::SystemTable;
use watershed_stream::Planned;
use watershed_stream::spec::lineage::lineage;

use super::columns::{maybe, text, texts};
use crate::project;
use crate::report::message_of;
use crate::{foreign, stored};

/// The table; plans the applied definitions again each time.
#[derive(Debug)]
pub struct ColumnLineage {
    warehouse: Warehouse,
}

/// One input of one column.
struct Line {
    output: String,
    kind: &'static str,
    /// `None` for what decides which rows there are.
    column: Option<String>,
    from: Origin,
    role: Role,
}

impl ColumnLineage {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse }
    }

    async fn batch(&self) -> Result<RecordBatch> {
        let lines = lines(&self.warehouse, &self.warehouse.definitions().await?).await?;
        let direct = |line: &Line| if line.role.is_direct() { "DIRECT" } else { "INDIRECT" };
        let columns = vec![
            texts(&lines, |line| Some(line.output.clone())),
            texts(&lines, |line| Some(line.kind.to_owned())),
            texts(&lines, |line| line.column.clone()),
            texts(&lines, |line| Some(line.from.input.clone())),
            texts(&lines, |line| Some(line.from.column.clone())),
            texts(&lines, |line| line.from.path.clone()),
            texts(&lines, |line| Some(direct(line).to_owned())),
            texts(&lines, |line| Some(line.role.name().to_owned())),
        ];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

/// Those of all definitions that this version can plan.
async fn lines(warehouse: &Warehouse, definitions: &Definitions) -> Result<Vec<Line>> {
    let project = project::applied(definitions);
    let Planned { blueprints, .. } = project.plan_each().await;
    let mut lines = Vec::new();
    for (name, blueprint) in &blueprints {
        push(&mut lines, name, TABLE, &lineage(&blueprint.spec));
    }
    let views = project::applied_views(definitions)?;
    let mut tables = project::declared(&project, &blueprints);
    let unknown = views.iter().flat_map(|view| &view.reads).filter(|name| !tables.contains_key(*name) && views.get(name).is_none());
    let unknown: BTreeSet<_> = unknown.cloned().collect();
    tables.extend(foreign::find(warehouse, definitions, &unknown).await?);
    stored::loosen(warehouse, &mut tables).await?;
    let of_views = views.lineage(project.sources.values(), &tables).await;
    for view in views.iter() {
        if let Some(lineage) = of_views.get(&view.name) {
            push(&mut lines, &view.name, VIEW, lineage);
        }
    }
    for sink in blueprints.values().flat_map(|blueprint| &blueprint.sinks) {
        push(&mut lines, &sink.definition.name, SINK, &sink.lineage);
    }
    Ok(lines)
}

fn push(lines: &mut Vec<Line>, output: &impl ToString, kind: &'static str, lineage: &Lineage) {
    let columns = lineage.columns.iter().map(|(name, from)| (Some(name.clone()), from));
    for (column, from) in columns.chain([(None, &lineage.rows)]) {
        lines.extend(from.iter().map(|(from, role)| Line {
            output: output.to_string(),
            kind,
            column: column.clone(),
            from: from.clone(),
            role: *role,
        }));
    }
}

#[async_trait::async_trait]
impl SystemTable for ColumnLineage {
    fn name(&self) -> &str {
        "column_lineage"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            text("output"),
            text("output_kind"),
            maybe(text("output_column")),
            text("input"),
            text("input_column"),
            maybe(text("input_path")),
            text("kind"),
            text("transformation"),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        self.batch().await.map_err(|error| message_of(error.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    /// `city   rides.city DIRECT IDENTITY`, by output.
    async fn said(files: &[project::SqlFile]) -> String {
        let checked = project::check(files).await.unwrap_or_else(|error| panic!("{error}"));
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let definitions = Definitions { revision: 1, items: checked.definitions };
        let (mut text, mut before) = (String::new(), None);
        for line in lines(&warehouse, &definitions).await.unwrap() {
            let head = format!("{} {}", line.kind, line.output);
            if before.as_ref() != Some(&head) {
                let _ = writeln!(text, "{}{head}", if before.is_some() { "\n" } else { "" });
                before = Some(head);
            }
            let path = line.from.path.map_or_else(String::new, |path| format!(" . {path}"));
            let column = line.column.unwrap_or_else(|| "(rows)".to_owned());
            let _ = writeln!(text, "  {column} <- {}.{}{path}: {}", line.from.input, line.from.column, line.role.name());
        }
        text
    }

    #[tokio::test]
    async fn every_column_of_the_repository_is_traced() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = said(&project::read(&root.join("sql")).unwrap()).await;
        let (golden, now) = (root.join("src/system/golden/column_lineage.txt"), std::env::temp_dir().join("watershed-column_lineage.txt"));
        let known = std::fs::read_to_string(&golden).unwrap_or_default();
        if known != found {
            std::fs::write(&now, &found).unwrap();
        }
        assert!(known == found, "{} is not what it was; now it would be {}", golden.display(), now.display());
    }

    #[tokio::test]
    async fn struct_fields_joins_subqueries_and_stars_are_traced() {
        let text = "
            CREATE SOURCE pay (id BIGINT, at TIMESTAMP NOT NULL, amount BIGINT, city VARCHAR, place STRUCT<lat DOUBLE, at STRUCT<lon DOUBLE>>,
              WATERMARK FOR at AS at - INTERVAL '1 second') WITH (connector = 'kafka', topic = 'pay', format = 'json');
            CREATE STREAMING TABLE silver.pay AS SELECT * FROM pay WHERE amount > 0;
            CREATE STREAMING TABLE silver.places AS
            SELECT place['lat'] AS lat, place['at']['lon'] + 1 AS lon, CASE WHEN amount > 9 THEN city ELSE 'x' END AS big FROM pay;
            CREATE MATERIALIZED VIEW gold.best AS
            SELECT p.city, max(p.amount) FILTER (WHERE p.id > 1) AS best, count(*) AS n
            FROM silver.pay AS p JOIN silver.places AS s ON p.city = s.big
            WHERE p.id IN (SELECT CAST(lat AS BIGINT) FROM silver.places WHERE lon > 0) GROUP BY p.city ORDER BY p.city;
            CREATE MATERIALIZED VIEW gold.named AS
            WITH b AS (SELECT * FROM gold.best) SELECT b.city AS town, rank() OVER (PARTITION BY b.n ORDER BY b.best) AS place FROM b
            UNION ALL SELECT lower(city), 0 FROM silver.pay;
            CREATE SINK out TO KAFKA (topic = 't') AS SELECT city, amount * 2 AS twice FROM STREAM(silver.pay) WHERE id > 1;";
        let found = said(&[project::SqlFile { name: "x.sql".to_owned(), text: text.to_owned() }]).await;
        let has = |line: &str| assert!(found.contains(line), "{line}\n{found}");
        has("streaming table silver.pay\n  id <- pay.id: IDENTITY\n  at <- pay.at: IDENTITY\n  amount <- pay.amount: IDENTITY\n");
        has("  (rows) <- pay.amount: FILTER\n");
        has("  lat <- pay.place . lat: IDENTITY\n  lon <- pay.place . at.lon: TRANSFORMATION\n");
        has("  big <- pay.amount: CONDITIONAL\n  big <- pay.city: TRANSFORMATION\n");
        has("  city <- silver.pay.city: IDENTITY\n  best <- silver.pay.amount: AGGREGATION\n  best <- silver.pay.id: FILTER\n");
        has("  (rows) <- silver.pay.city: JOIN\n  (rows) <- silver.pay.city: GROUP_BY\n  (rows) <- silver.pay.city: SORT\n");
        has("  (rows) <- silver.places.big: JOIN\n");
        has("  (rows) <- silver.places.lat: FILTER\n  (rows) <- silver.places.lon: FILTER\n");
        has("  town <- gold.best.city: IDENTITY\n  town <- silver.pay.city: TRANSFORMATION\n");
        has("  place <- gold.best.best: WINDOW\n  place <- gold.best.n: WINDOW\n");
        has(
            "sink out\n  city <- silver.pay.city: IDENTITY\n  twice <- silver.pay.amount: TRANSFORMATION\n  (rows) <- silver.pay.id: FILTER\n",
        );
        assert!(!found.contains("\n  n <- "), "it is made of no column\n{found}");
    }

    #[tokio::test]
    async fn the_table_has_a_row_for_each_input() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let view = "CREATE MATERIALIZED VIEW gold.v AS SELECT upper(output) AS big FROM gold.w";
        let other = "CREATE MATERIALIZED VIEW gold.w AS SELECT 'x' AS output";
        let item = |name: &str, sql: &str| watershed_lake::Definition { name: name.to_owned(), kind: VIEW.to_owned(), sql: sql.to_owned() };
        let before = warehouse.definitions().await.unwrap();
        warehouse.save_definitions(&before, vec![item("gold.v", view), item("gold.w", other)]).await.unwrap();
        let batch = ColumnLineage::new(warehouse).rows().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
        let row = text.lines().find(|line| line.contains("gold.v")).expect("a row").replace(' ', "");
        assert_eq!(row, "|gold.v|materializedview|big|gold.w|output||DIRECT|TRANSFORMATION|");
    }
}

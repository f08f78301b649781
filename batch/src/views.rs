//! The materialized views of a project: what is defined, what reads what, and whether each query works over the tables it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use watershed_dialect::lineage::{Lineage, lineage_of_view};
use watershed_dialect::{
    MaterializedViewDefinition, SourceDefinition, SourceTable, SqlError, StatementKind, parse, plan_expectation, plan_materialized_view,
    session_config, session_state, tables_read,
};
use watershed_lake::{TableName, clock};

use crate::schedule::check_schedule;

/// One materialized view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its name, and that of the job that refreshes it.
    pub name: TableName,
    /// What was said of it.
    pub definition: MaterializedViewDefinition,
    /// The tables its query names with their schema, sorted.
    pub reads: Vec<TableName>,
}

impl View {
    /// A view, with what its query reads. Places in errors count from the start of the query.
    pub fn new(definition: MaterializedViewDefinition) -> Result<Self, SqlError> {
        let name = TableName::new(&definition.schema, &definition.table).map_err(SqlError::new)?;
        let read = tables_read(&definition.query)?;
        let reads = read.into_iter().filter_map(|(schema, table)| TableName::new(schema, table).ok()).collect();
        Ok(Self { name, definition, reads })
    }

    /// Changes when the query, the partitioning or the expectations do: rows of another digest are those of another view.
    pub fn digest(&self) -> String {
        let mut text = format!("{}\n{:?}", self.definition.query, self.definition.partitioned_by);
        for expectation in &self.definition.expectations {
            text.push_str(&format!("\n{} {} {}", expectation.name, expectation.predicate, expectation.action.sql()));
        }
        // FNV-1a: the same in every process.
        let digest = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        format!("{digest:016x}")
    }
}

/// What is wrong with one view.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// The view.
    pub view: TableName,
    /// What is wrong; the place, if there is one, counts from the start of its query, or that of the text if a constraint is wrong.
    pub error: SqlError,
    /// A constraint is wrong.
    pub of_constraint: bool,
}

/// All views of a project, in an order in which each comes after those it reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Views {
    ordered: Vec<View>,
}

impl Views {
    /// Puts views in order. Every circle is a mistake of the views in it.
    pub fn new(views: Vec<View>) -> Result<Self, Vec<Mistake>> {
        let mut waiting: BTreeMap<TableName, View> = views.into_iter().map(|view| (view.name.clone(), view)).collect();
        let mut ordered = Vec::with_capacity(waiting.len());
        loop {
            let ready =
                waiting.values().find(|view| !view.reads.iter().any(|input| waiting.contains_key(input))).map(|view| view.name.clone());
            match ready.and_then(|name| waiting.remove(&name)) {
                Some(view) => ordered.push(view),
                None if waiting.is_empty() => return Ok(Self { ordered }),
                None => return Err(circles(&waiting)),
            }
        }
    }

    /// Reads views from the statements that define them.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SqlError> {
        let mut views = Vec::new();
        for text in texts {
            for statement in parse(text)? {
                if let StatementKind::CreateMaterializedView(definition) = &statement.kind {
                    views.push(View::new(definition.clone()).map_err(|error| statement.place(error))?);
                }
            }
        }
        Self::new(views).map_err(|mistakes| mistakes[0].error.clone())
    }

    /// Each after those it reads.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.ordered.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// The view of that name.
    pub fn get(&self, name: &TableName) -> Option<&View> {
        self.ordered.iter().find(|view| view.name == *name)
    }

    /// The views whose rows reach `name`, directly or through others, each after those it reads.
    pub fn upstream(&self, name: &TableName) -> Vec<&View> {
        let mut wanted: BTreeSet<&TableName> = self.get(name).iter().flat_map(|view| &view.reads).collect();
        let mut found = Vec::new();
        for view in self.ordered.iter().rev() {
            if wanted.contains(&view.name) && view.name != *name {
                wanted.extend(&view.reads);
                found.push(view);
            }
        }
        found.reverse();
        found
    }

    /// Plans every query over the tables of the project, whose columns are known though they may have no rows yet. Returns the columns of each
    /// view that plans, as its table will hold them, and every mistake.
    pub async fn plan<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a SourceDefinition>,
        tables: &BTreeMap<TableName, SchemaRef>,
    ) -> (BTreeMap<TableName, SchemaRef>, Vec<Mistake>) {
        let context = declared_context(tables);
        let mut mistakes = Vec::new();
        let mut schemas = BTreeMap::new();
        let of_query = |error: SqlError| (error, false);
        let unlikely = |error: datafusion::error::DataFusionError| of_query(SqlError::new(error.strip_backtrace()));
        for source in sources {
            if let Err(error) = context.register_table(source.name.as_str(), Arc::new(SourceTable::new(source.clone()))) {
                tracing::warn!(source = source.name, %error, "views are checked without it");
            }
        }
        for view in &self.ordered {
            let plan = async || {
                check_schedule(&view.definition.schedule, clock::now()).map_err(of_query)?;
                if tables.contains_key(&view.name) {
                    return Err(of_query(SqlError::new(format!("'{}' is defined twice", view.name)).hint("rename or remove one of them")));
                }
                let plan = plan_materialized_view(&context.state(), &view.definition).await.map_err(of_query)?;
                let schema: SchemaRef = Arc::clone(plan.schema().inner());
                declare(&context, &view.name, Arc::new(EmptyTable::new(schema.clone()))).map_err(unlikely)?;
                for expectation in &view.definition.expectations {
                    plan_expectation(&context.state(), expectation, &schema).map_err(|error| (error, true))?;
                }
                Ok(schema)
            };
            match plan().await {
                Ok(schema) => drop(schemas.insert(view.name.clone(), schema)),
                Err((error, of_constraint)) => mistakes.push(Mistake { view: view.name.clone(), error, of_constraint }),
            }
        }
        // A view over one that does not plan cannot plan either, and would only repeat it.
        let wrong: BTreeSet<TableName> = mistakes.iter().map(|mistake| mistake.view.clone()).collect();
        mistakes.retain(|mistake| !self.upstream(&mistake.view).iter().any(|view| wrong.contains(&view.name)));
        (schemas, mistakes)
    }
}

impl Views {
    /// What the columns of each view are made of, over the same as [`Views::plan`]; those that do not plan are absent.
    pub async fn lineage<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a SourceDefinition>,
        tables: &BTreeMap<TableName, SchemaRef>,
    ) -> BTreeMap<TableName, Lineage> {
        let (schemas, _) = self.plan(sources, tables).await;
        let mut known = tables.clone();
        known.extend(schemas.clone());
        let state = declared_context(&known).state();
        let mut found = BTreeMap::new();
        for view in self.ordered.iter().filter(|view| schemas.contains_key(&view.name)) {
            if let Ok(lineage) = lineage_of_view(&state, &view.definition).await {
                found.insert(view.name.clone(), lineage);
            }
        }
        found
    }
}

/// A session over tables of which the columns are known, and no rows.
pub fn declared_context(tables: &BTreeMap<TableName, SchemaRef>) -> SessionContext {
    let context = SessionContext::new_with_state(session_state(session_config(), None));
    for (name, schema) in tables {
        if let Err(error) = declare(&context, name, Arc::new(EmptyTable::new(schema.clone()))) {
            tracing::warn!(table = %name, %error, "queries are checked without it");
        }
    }
    context
}

/// Makes a table known to a session by its schema and name.
pub(crate) fn declare(context: &SessionContext, name: &TableName, table: Arc<dyn TableProvider>) -> datafusion::error::Result<()> {
    let defaults = context.state().config_options().catalog.clone();
    if let Some(catalog) = context.catalog(&defaults.default_catalog)
        && catalog.schema(name.schema()).is_none()
    {
        catalog.register_schema(name.schema(), Arc::new(MemorySchemaProvider::new()))?;
    }
    context.register_table(TableReference::partial(name.schema(), name.table()), table)?;
    Ok(())
}

/// One mistake for each circle among views none of which can come first.
fn circles(waiting: &BTreeMap<TableName, View>) -> Vec<Mistake> {
    let mut seen = BTreeSet::new();
    let mut mistakes = Vec::new();
    for start in waiting.keys() {
        // Each waiting view reads one that waits, so following them leads round in a circle.
        let mut path: Vec<&TableName> = vec![start];
        while let Some(next) = path.last().and_then(|last| waiting[*last].reads.iter().find(|input| waiting.contains_key(*input))) {
            if let Some(from) = path.iter().position(|name| *name == next) {
                let circle = &path[from..];
                if circle.iter().all(|name| seen.insert((*name).clone())) {
                    mistakes.push(circle_of(circle));
                }
                break;
            }
            path.push(next);
        }
    }
    mistakes
}

fn circle_of(circle: &[&TableName]) -> Mistake {
    let view = circle[0].clone();
    let error = match circle {
        [only] => SqlError::new(format!("'{only}' reads itself")).hint("read the tables it is made of"),
        several => {
            let names: Vec<String> = several.iter().chain(&several[..1]).map(ToString::to_string).collect();
            SqlError::new(format!("materialized views read each other in a circle: {}", names.join(" reads ")))
                .hint("let one of them read the tables that the others are made of")
        }
    };
    Mistake { view, error, of_constraint: false }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn view(name: &str, query: &str) -> View {
        let text = format!("CREATE MATERIALIZED VIEW {name} AS {query}");
        match parse(&text).unwrap().remove(0).kind {
            StatementKind::CreateMaterializedView(definition) => View::new(definition).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn names(views: impl IntoIterator<Item = impl std::borrow::Borrow<View>>) -> Vec<String> {
        views.into_iter().map(|view| view.borrow().name.to_string()).collect()
    }

    fn tables() -> BTreeMap<TableName, SchemaRef> {
        let schema = Arc::new(Schema::new(vec![Field::new("city", DataType::Utf8, true), Field::new("fare", DataType::Int64, true)]));
        BTreeMap::from([("silver.rides".parse().unwrap(), Arc::clone(&schema)), ("silver.other".parse().unwrap(), schema)])
    }

    async fn mistakes(views: Vec<View>) -> Vec<String> {
        let source = parse("CREATE SOURCE rides (city VARCHAR) WITH (topic = 't')").unwrap().remove(0).kind;
        let StatementKind::CreateSource(source) = source else { panic!() };
        let (_, found) = Views::new(views).unwrap().plan([&source], &tables()).await;
        found.into_iter().map(|mistake| format!("{}: {}", mistake.view, mistake.error)).collect()
    }

    #[test]
    fn each_comes_after_those_it_reads() {
        let views = Views::new(vec![
            view("gold.a", "SELECT * FROM gold.b JOIN gold.c ON true"),
            view("gold.b", "SELECT * FROM gold.d"),
            view("gold.c", "SELECT * FROM silver.rides"),
            view("gold.d", "SELECT * FROM silver.rides"),
            view("gold.e", "WITH x AS (SELECT * FROM gold.a) SELECT * FROM x WHERE EXISTS (SELECT 1 FROM gold.d)"),
        ])
        .unwrap();
        let order = names(views.iter().cloned());
        let place = |name: &str| order.iter().position(|n| n == name).unwrap();
        assert!(place("gold.d") < place("gold.b") && place("gold.b") < place("gold.a") && place("gold.c") < place("gold.a"), "{order:?}");
        assert_eq!(place("gold.e"), 4);
        let upstream = |name: &str| {
            let mut found = names(views.upstream(&name.parse().unwrap()).into_iter().cloned());
            found.sort();
            found
        };
        assert_eq!(upstream("gold.e"), ["gold.a", "gold.b", "gold.c", "gold.d"]);
        assert_eq!(upstream("gold.b"), ["gold.d"]);
        assert!(upstream("gold.c").is_empty() && upstream("gold.unknown").is_empty());
    }

    #[test]
    fn circles_are_named() {
        let found = Views::new(vec![
            view("gold.a", "SELECT * FROM gold.b"),
            view("gold.b", "SELECT * FROM gold.c"),
            view("gold.c", "SELECT * FROM gold.a"),
            view("gold.after", "SELECT * FROM gold.c"),
            view("gold.own", "SELECT * FROM gold.own"),
            view("gold.fine", "SELECT * FROM silver.rides"),
        ])
        .unwrap_err();
        let said: Vec<String> = found.iter().map(|mistake| mistake.error.message.clone()).collect();
        assert_eq!(
            said,
            ["materialized views read each other in a circle: gold.a reads gold.b reads gold.c reads gold.a", "'gold.own' reads itself"]
        );
    }

    #[tokio::test]
    async fn queries_are_planned_over_tables_without_rows() {
        let views = Views::new(vec![
            view("gold.top", "SELECT city, revenue FROM gold.by_city ORDER BY revenue DESC LIMIT 3"),
            view("gold.by_city", "SELECT city, sum(fare) AS revenue, approx_distinct(fare) AS fares FROM silver.rides GROUP BY city"),
        ])
        .unwrap();
        let (schemas, mistakes) = views.plan([], &tables()).await;
        assert_eq!(mistakes, []);
        let of = |name: &str| schemas[&name.parse::<TableName>().unwrap()].clone();
        assert_eq!(of("gold.top").fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["city", "revenue"]);
        assert_eq!(of("gold.by_city").field(2).data_type(), &DataType::Int64);
    }

    #[tokio::test]
    async fn every_mistake_is_told_once_with_the_nearest_name() {
        let said = mistakes(vec![
            view("gold.a", "SELECT citty FROM silver.rides"),
            view("gold.b", "SELECT city FROM silver.ride"),
            view("gold.c", "SELECT city FROM rides"),
            view("gold.over_a", "SELECT citty FROM gold.a"),
            view("silver.other", "SELECT 1 AS one"),
        ])
        .await;
        assert_eq!(said.len(), 4, "{said:#?}");
        assert!(
            said[0].starts_with("gold.a: column 'citty' does not exist (line 1, column 8)") && said[0].contains("'city'"),
            "{}",
            said[0]
        );
        assert!(said[1].contains("did you mean 'silver.rides'?"), "{}", said[1]);
        assert!(said[2].contains("'rides' is a source"), "{}", said[2]);
        assert!(said[3].contains("defined twice"), "{}", said[3]);
    }

    #[test]
    fn a_digest_is_of_what_makes_the_rows() {
        let one = view("gold.a", "SELECT 1 AS n");
        assert_eq!(one.digest(), view("gold.a", "SELECT 1 AS n").digest());
        assert_ne!(one.digest(), view("gold.a", "SELECT 2 AS n").digest());
    }
}

//! Prepared statements: planned once to tell their columns and parameters, planned again each time they run, with the values in the place of
//! the parameters: so they see the newest rows, and a value means what it means written into the text.
//!
//! State: by handle, the text, the session of the client that prepared it, and the values bound last. What was not used for long is let go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use uuid::Uuid;
use watershed_dialect::{SqlError, one_statement, parameters_named, with_values};

use super::edge;
use super::limits::{KEPT_BYTES_MAX, PARAMETERS_MAX, PREPARED_KEPT, PREPARED_MAX};
use super::literal::{literal, parsed};
use crate::session::{refuse_parameters, refused};
use crate::{QueryError, Session};

/// A prepared statement's name on the wire.
pub(super) type Handle = Uuid;

/// All prepared statements of a server.
#[derive(Default)]
pub(super) struct Prepared {
    statements: Mutex<HashMap<Handle, Statement>>,
}

struct Statement {
    session: Session,
    text: String,
    /// In order.
    parameters: Arc<[Parameter]>,
    /// One row: a column for each parameter.
    values: Option<RecordBatch>,
    used: Instant,
}

/// A parameter: `$1`, `$2`, … are named by their number.
pub(super) struct Parameter {
    name: String,
    /// The type of what is beside it, if that is known.
    beside: Option<DataType>,
    /// The type that it is cast to by the statement itself.
    cast_to: Option<DataType>,
}

/// What a client learns of a statement when it prepares it.
pub(super) struct Description {
    pub(super) handle: Handle,
    /// Columns of the result; none for statements without one.
    pub(super) columns: SchemaRef,
    /// Parameters in order, of types that clients write well.
    pub(super) parameters: SchemaRef,
}

impl Prepared {
    /// Plans and keeps a statement. Beyond the bound the one unused for longest is let go.
    pub(super) async fn prepare(&self, session: Session, text: String) -> Result<Description, QueryError> {
        let (columns, parameters) = describe(&session, &text).await?;
        let handle = Handle::new_v4();
        let mut statements = self.lock();
        let announced = announced(&parameters);
        statements.insert(handle, Statement { session, text, parameters, values: None, used: Instant::now() });
        make_room(&mut statements, handle);
        Ok(Description { handle, columns, parameters: announced })
    }

    /// Keeps the values of the parameters for the next run.
    pub(super) fn bind(&self, handle: Handle, batches: Vec<RecordBatch>) -> Result<(), QueryError> {
        let mut rows = batches.into_iter().filter(|batch| batch.num_rows() > 0);
        let values = rows.next();
        if rows.next().is_some() || values.as_ref().is_some_and(|batch| batch.num_rows() > 1) {
            return Err(unbound("more than one row of parameters was bound to a query".to_owned(), "run it once for each row"));
        }
        self.with(handle, |statement| statement.values = values)?;
        make_room(&mut self.lock(), handle);
        Ok(())
    }

    /// The statement's plan against the newest versions with the bound values in it, and the session to run it in.
    pub(super) async fn plan(&self, handle: Handle) -> Result<(Session, LogicalPlan), QueryError> {
        let known = |statement: &mut Statement| {
            (statement.session.clone(), statement.text.clone(), Arc::clone(&statement.parameters), statement.values.clone())
        };
        let (session, text, parameters, values) = self.with(handle, known)?;
        let mut statement = one_statement(&text)?;
        match values.as_ref().map(RecordBatch::num_columns) {
            // Some clients bind a row of no values where there are no parameters.
            None | Some(0) if parameters.is_empty() => {}
            Some(given) if parameters.is_empty() => {
                let given = if given == 1 { "1 value is".to_owned() } else { format!("{given} values are") };
                return Err(unbound(
                    format!("the statement has no parameters, and {given} bound"),
                    "write ? where a value belongs, or bind none",
                ));
            }
            _ => with_values(&mut statement, &bound(&parameters, values.as_ref())?)?,
        }
        let plan = session.plan(&statement).await?;
        refuse_parameters(&plan)?;
        Ok((session, plan))
    }

    /// The statement's text, and the session it was prepared in.
    pub(super) fn text(&self, handle: Handle) -> Result<(Session, String), QueryError> {
        self.with(handle, |statement| (statement.session.clone(), statement.text.clone()))
    }

    /// What its text and values take.
    pub(super) fn bytes(&self, handle: Handle) -> Result<usize, QueryError> {
        self.with(handle, |statement| statement.bytes())
    }

    /// Lets go of a statement; false if it was not there.
    pub(super) fn close(&self, handle: Handle) -> bool {
        self.lock().remove(&handle).is_some()
    }

    /// Lets go of what was not used for long.
    pub(super) fn sweep(&self) {
        self.sweep_older_than(PREPARED_KEPT);
    }

    fn sweep_older_than(&self, age: Duration) {
        self.lock().retain(|_, statement| statement.used.elapsed() < age);
    }

    fn with<T>(&self, handle: Handle, use_it: impl FnOnce(&mut Statement) -> T) -> Result<T, QueryError> {
        let mut statements = self.lock();
        let Some(statement) = statements.get_mut(&handle) else {
            return Err(refused("this prepared statement is not there: it was closed, or not used for long", "prepare it again"));
        };
        statement.used = Instant::now();
        Ok(use_it(statement))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Handle, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Statement {
    fn bytes(&self) -> usize {
        self.text.len() + self.values.as_ref().map_or(0, RecordBatch::get_array_memory_size)
    }
}

/// Lets go of those unused for longest, until the rest are within the bounds; never of `newest`.
fn make_room(statements: &mut HashMap<Handle, Statement>, newest: Handle) {
    let mut bytes: usize = statements.values().map(Statement::bytes).sum();
    while statements.len() > PREPARED_MAX || bytes > KEPT_BYTES_MAX {
        let others = statements.iter().filter(|(handle, _)| **handle != newest);
        let Some(oldest) = others.min_by_key(|(_, statement)| statement.used).map(|(handle, _)| *handle) else { return };
        bytes -= statements.remove(&oldest).map_or(0, |statement| statement.bytes());
    }
}

/// Columns and parameters of a statement, which is not run.
pub(super) async fn describe(session: &Session, text: &str) -> Result<(SchemaRef, Arc<[Parameter]>), QueryError> {
    let statement = one_statement(text)?;
    let plan = match session.plan(&statement).await {
        Ok(plan) => plan,
        Err(error) => return described_with_values(session, statement, error).await,
    };
    let parameters = parameters(&plan)?;
    let columns = match &plan {
        LogicalPlan::Statement(_) => Arc::new(Schema::empty()),
        plan if parameters.is_empty() => edge::schema(&session.ready(plan.clone()).await?.schema()),
        plan => edge::schema(&session.columns_expected(plan)),
    };
    Ok((columns, parameters))
}

/// Values that stand for parameters where no plan can be made without: what they are as SQL, and the type that clients are told.
const STAND_INS: [(&str, Option<DataType>); 6] = [
    ("NULL", None),
    ("'UTC'", None),
    ("1", Some(DataType::Int64)),
    ("INTERVAL '1 day'", None),
    ("TIMESTAMP '2000-01-01 00:00:00'", Some(DataType::Timestamp(TimeUnit::Microsecond, None))),
    ("[1]", None),
];
/// Statements of more parameters are tried with values of one kind only.
const MIXED_MAX: u32 = 3;

/// Columns and parameters of a statement that can be planned with values only, such as `… AT TIME ZONE ?`: of the first stand-ins that do.
async fn described_with_values(
    session: &Session,
    statement: watershed_dialect::Statement,
    error: QueryError,
) -> Result<(SchemaRef, Arc<[Parameter]>), QueryError> {
    let names: Vec<String> = parameters_named(&statement).into_iter().collect();
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let kinds = STAND_INS.len();
    let tries: Vec<Vec<usize>> = match count {
        0 => vec![],
        1..=MIXED_MAX => (0..kinds.pow(count)).map(|n| (0..count).map(|at| n / kinds.pow(at) % kinds).collect()).collect(),
        _ => (0..kinds).map(|kind| vec![kind; names.len()]).collect(),
    };
    for chosen in tries {
        let mut values = HashMap::new();
        for (name, kind) in names.iter().zip(&chosen) {
            values.insert(name.clone(), parsed(STAND_INS[*kind].0).map_err(|why| refused(&why, "write the values themselves"))?);
        }
        let mut tried = statement.clone();
        with_values(&mut tried, &values)?;
        let Ok(plan) = session.plan(&tried).await else { continue };
        let Ok(ready) = session.ready(plan).await else { continue };
        let numbered = |name: &str| name.trim_start_matches('$').parse::<usize>().ok();
        let mut parameters: Vec<_> = names.iter().zip(&chosen).collect();
        parameters.sort_by_key(|(name, _)| (numbered(name).is_none(), numbered(name), name.as_str()));
        let as_described = |(name, kind): (&String, &usize)| Parameter {
            name: name.trim_start_matches('$').to_owned(),
            beside: None,
            cast_to: STAND_INS[*kind].1.clone(),
        };
        return Ok((edge::schema(&ready.schema()), parameters.into_iter().map(as_described).collect()));
    }
    Err(error)
}

/// The handle in a command.
pub(super) fn handle_of(bytes: &[u8]) -> Result<Handle, QueryError> {
    Handle::from_slice(bytes).map_err(|_| refused("this handle is not one of this server's", "prepare the statement again"))
}

/// The parameters of a plan, in order: `$1`, `$2`, … by number, `$name`s by name.
fn parameters(plan: &LogicalPlan) -> Result<Arc<[Parameter]>, QueryError> {
    let mut numbered: BTreeMap<usize, Parameter> = BTreeMap::new();
    let mut named: BTreeMap<String, Parameter> = BTreeMap::new();
    for (id, parameter) in found_in(plan)? {
        match parameter.name.parse() {
            Ok(number) => drop(numbered.insert(number, parameter)),
            Err(_) => drop(named.insert(id, parameter)),
        }
    }
    let count = numbered.keys().next_back().copied().unwrap_or(0);
    if count.saturating_add(named.len()) > PARAMETERS_MAX {
        return Err(refused(&format!("a statement has {PARAMETERS_MAX} parameters at most"), "write some of the values themselves"));
    }
    let unused = |number: usize| Parameter { name: number.to_string(), beside: None, cast_to: None };
    let in_order = (1..=count).map(|number| numbered.remove(&number).unwrap_or_else(|| unused(number)));
    let in_order: Vec<Parameter> = in_order.collect();
    Ok(in_order.into_iter().chain(named.into_values()).collect())
}

/// Parameters as they are in a plan; beside several types, the one that all are compared in.
fn found_in(plan: &LogicalPlan) -> Result<HashMap<String, Parameter>, QueryError> {
    let mut found: HashMap<String, Parameter> = HashMap::new();
    let mut note = |id: &str, beside: Option<DataType>, cast_to: Option<DataType>| {
        let name = id.trim_start_matches('$').to_owned();
        let parameter = found.entry(id.to_owned()).or_insert(Parameter { name, beside: None, cast_to: None });
        // Two parameters that are beside nothing but each other are Null for DataFusion.
        let beside = beside.filter(|kind| *kind != DataType::Null);
        parameter.beside = match (parameter.beside.take(), beside) {
            (Some(one), Some(other)) => Some(comparison_coercion(&one, &other).unwrap_or(DataType::Utf8)),
            (one, other) => one.or(other),
        };
        parameter.cast_to = parameter.cast_to.take().or(cast_to);
    };
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for expr in limit.skip.iter().chain(&limit.fetch) {
                if let Expr::Placeholder(parameter) = expr.as_ref() {
                    note(&parameter.id, None, Some(DataType::Int64));
                }
            }
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                match part {
                    Expr::Placeholder(parameter) => {
                        note(&parameter.id, parameter.field.as_ref().map(|field| field.data_type().clone()), None);
                    }
                    Expr::Cast(cast) => {
                        if let Expr::Placeholder(parameter) = cast.expr.as_ref() {
                            note(&parameter.id, None, Some(cast.field.data_type().clone()));
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// The types of parameters that clients see: ones all clients know, text where none is known. The JDBC driver writes milliseconds whatever
/// unit we announce, so milliseconds are announced; clients that know better send microseconds all the same.
fn announced(parameters: &[Parameter]) -> SchemaRef {
    let field = |parameter: &Parameter| {
        let kind = match parameter.beside.as_ref().or(parameter.cast_to.as_ref()) {
            Some(DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
            Some(kind) => kind.clone(),
            None => DataType::Utf8,
        };
        Field::new(&parameter.name, kind, true)
    };
    edge::schema(&Schema::new(parameters.iter().map(field).collect::<Vec<_>>()))
}

/// The values for the parameters, as they would be written: named ones by the names of the columns, others by position.
fn bound(parameters: &[Parameter], values: Option<&RecordBatch>) -> Result<HashMap<String, SqlExpr>, QueryError> {
    let wanted = match parameters.len() {
        1 => "1 parameter".to_owned(),
        several => format!("{several} parameters"),
    };
    let Some(values) = values else {
        return Err(unbound(format!("the statement has {wanted} and no values were bound"), "bind one row of values"));
    };
    if values.num_columns() != parameters.len() {
        let given = values.num_columns();
        return Err(unbound(format!("the statement has {wanted}, and the row that was bound has {given}"), "bind one value for each"));
    }
    let mut bound = HashMap::new();
    for (at, parameter) in parameters.iter().enumerate() {
        let name = &parameter.name;
        // Clients name the columns of positional values as they like, some "0", "1", ….
        let by_name = if name.parse::<usize>().is_ok() { None } else { values.column_by_name(name) };
        let given = by_name.unwrap_or_else(|| values.column(at));
        let value = literal(given, 0, parameter.beside.as_ref())
            .map_err(|why| unbound(format!("the value of parameter ${name} cannot be used: {why}"), "bind a value that fits"))?;
        bound.insert(format!("${name}"), value);
    }
    Ok(bound)
}

fn unbound(what: String, hint: &str) -> QueryError {
    QueryError::Sql(SqlError::new(what).hint(hint))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, MapBuilder, RecordBatchOptions, StringArray, StringBuilder};
    use arrow::datatypes::Int64Type;
    use futures::TryStreamExt;

    use super::*;

    async fn session() -> Session {
        Session::new(watershed_lake::Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap().for_client()
    }

    async fn described(text: &str) -> Vec<(String, DataType)> {
        let description = Prepared::default().prepare(session().await, text.to_owned()).await.unwrap();
        description.parameters.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    }

    fn one(values: Vec<(&str, ArrayRef)>) -> Vec<RecordBatch> {
        vec![RecordBatch::try_from_iter(values).unwrap()]
    }

    async fn number(prepared: &Prepared, handle: Handle) -> Result<i64, QueryError> {
        let (session, plan) = prepared.plan(handle).await?;
        let rows: Vec<RecordBatch> = session.ready(plan).await?.start(|rows| rows)?.stream.try_collect().await?;
        Ok(rows[0].column(0).as_primitive::<Int64Type>().value(0))
    }

    #[tokio::test]
    async fn parameters_have_the_types_of_their_surroundings() {
        let text = "SELECT value, $4 FROM generate_series(1, 9) WHERE value > ? LIMIT ?".replace("$4", "CAST(? AS DATE)");
        let types = [("1", DataType::Date32), ("2", DataType::Int64), ("3", DataType::Int64)];
        assert_eq!(described(&text).await, types.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(described("SELECT $1").await, [("1".to_owned(), DataType::Utf8)]);
        assert!(described("SELECT 1").await.is_empty());
    }

    #[tokio::test]
    async fn values_are_bound_by_position_or_name_and_cast() {
        let prepared = Prepared::default();
        let sum = "SELECT sum(value) FROM generate_series(1, 100) WHERE value BETWEEN ? AND ?";
        let handle = prepared.prepare(session().await, sum.to_owned()).await.unwrap().handle;
        for (low, high, expected) in [(1, 3, 6), (10, 11, 21)] {
            let row = one(vec![("0", Arc::new(Int32Array::from(vec![low])) as _), ("1", Arc::new(Int64Array::from(vec![high])) as _)]);
            prepared.bind(handle, row).unwrap();
            assert_eq!(number(&prepared, handle).await.unwrap(), expected);
        }
        let named = "SELECT sum(value) FROM generate_series(1, 100) WHERE value >= $low AND value <= $high";
        let handle = prepared.prepare(session().await, named.to_owned()).await.unwrap().handle;
        let row =
            one(vec![("low", Arc::new(StringArray::from(vec!["4"])) as ArrayRef), ("high", Arc::new(StringArray::from(vec!["5"])) as _)]);
        prepared.bind(handle, row).unwrap();
        assert_eq!(number(&prepared, handle).await.unwrap(), 9);
    }

    #[tokio::test]
    async fn values_that_do_not_fit_are_named() {
        let prepared = Prepared::default();
        let text = "SELECT sum(value) FROM generate_series(1, 9) WHERE value > ?";
        let handle = prepared.prepare(session().await, text.to_owned()).await.unwrap().handle;
        let said = |error: QueryError| error.to_string();
        assert!(said(number(&prepared, handle).await.unwrap_err()).contains("no values were bound"));
        prepared.bind(handle, one(vec![("a", Arc::new(StringArray::from(vec!["many"])) as _)])).unwrap();
        let unfit = said(number(&prepared, handle).await.unwrap_err());
        assert!(unfit.contains("parameter $1") && unfit.contains("'many' is not a BIGINT"), "{unfit}");
        let two = one(vec![("a", Arc::new(Int64Array::from(vec![1, 2])) as _)]);
        assert!(said(prepared.bind(handle, two).unwrap_err()).contains("more than one row"));
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        maps.keys().append_value("k");
        maps.values().append_value("v");
        maps.append(true).unwrap();
        prepared.bind(handle, one(vec![("a", Arc::new(maps.finish()) as _)])).unwrap();
        let unfit = said(number(&prepared, handle).await.unwrap_err());
        assert!(unfit.contains("parameter $1 cannot be used: a MAP cannot be bound: bind two lists"), "{unfit}");
        assert!(prepared.close(handle) && !prepared.close(handle));
        assert!(said(number(&prepared, handle).await.unwrap_err()).contains("prepare it again"));
    }

    #[tokio::test]
    async fn values_without_a_parameter_are_refused() {
        let prepared = Prepared::default();
        let handle = prepared.prepare(session().await, "SELECT CAST(7 AS BIGINT)".to_owned()).await.unwrap().handle;
        assert_eq!(number(&prepared, handle).await.unwrap(), 7);
        let none = RecordBatchOptions::new().with_row_count(Some(1));
        prepared.bind(handle, vec![RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &none).unwrap()]).unwrap();
        assert_eq!(number(&prepared, handle).await.unwrap(), 7);
        prepared.bind(handle, one(vec![("a", Arc::new(Int64Array::from(vec![1])) as _)])).unwrap();
        let refused = number(&prepared, handle).await.unwrap_err().to_string();
        assert!(refused.contains("the statement has no parameters, and 1 value is bound"), "{refused}");
    }

    #[tokio::test]
    async fn statements_without_a_result_have_no_columns_and_no_effect_until_they_run() {
        let prepared = Prepared::default();
        let session = session().await;
        let set = prepared.prepare(session.clone(), "SET datafusion.execution.batch_size = 77".to_owned()).await.unwrap();
        assert!(set.columns.fields().is_empty());
        let shown = || async {
            let rows = session.query("SHOW datafusion.execution.batch_size").await.unwrap().stream;
            let rows: Vec<RecordBatch> = rows.try_collect().await.unwrap();
            rows[0].column(1).as_string::<i32>().value(0).to_owned()
        };
        assert_ne!(shown().await, "77");
        let (session, plan) = prepared.plan(set.handle).await.unwrap();
        session.ready(plan).await.unwrap();
        assert_eq!(shown().await, "77");
    }

    #[tokio::test]
    async fn unused_ones_are_let_go() {
        let prepared = Prepared::default();
        let handle = prepared.prepare(session().await, "SELECT 1".to_owned()).await.unwrap().handle;
        prepared.sweep_older_than(Duration::ZERO);
        assert!(prepared.plan(handle).await.is_err());
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_bytes() {
        let prepared = Prepared::default();
        let session = session().await;
        let first = prepared.prepare(session.clone(), "SELECT upper(?)".to_owned()).await.unwrap().handle;
        let large = "x".repeat(KEPT_BYTES_MAX / 3);
        let mut last = first;
        for _ in 0..4 {
            last = prepared.prepare(session.clone(), "SELECT upper(?)".to_owned()).await.unwrap().handle;
            prepared.bind(last, one(vec![("a", Arc::new(StringArray::from(vec![large.as_str()])) as _)])).unwrap();
        }
        assert!(prepared.text(first).is_err() && prepared.text(last).is_ok());
        let kept: usize = prepared.lock().values().map(Statement::bytes).sum();
        assert!(kept <= KEPT_BYTES_MAX, "{kept}");
    }
}

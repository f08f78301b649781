//! The DataFusion session that stream, batch and query share: its settings, and what it knows beyond DataFusion.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::datatype::DataTypeExt;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::{ExprSchemable, LogicalPlan, Operator, UserDefinedLogicalNode};
use datafusion::optimizer::Analyzer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType as SqlType};
use watershed_functions::deduplicate::{Deduplicate, DeduplicateExec};
use watershed_functions::event_time_type;
use watershed_functions::numbers::{self, RightNumbers, WideComparisons};
use watershed_functions::window::{WindowAssign, WindowAssignExec};
use watershed_functions::{self as functions, BoundedTexts, Series};

use crate::fenced::fenced;
use crate::in_order::{ColumnsInOrder, FiltersInOrder};
use crate::planning_time::timed_rules;
use crate::relation::WindowFunctionPlanner;

/// Settings every session starts from: strings are `Utf8`, times are UTC, errors know their place in the text.
pub fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(true);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // As `numbers/literals.rs` has it.
    options.sql_parser.parse_float_as_decimal = true;
    options.execution.parquet.schema_force_view_types = false;
    options.execution.time_zone = Some("UTC".into());
    // It compares what two descriptions of one plan say of NULL, and refuses plans that are right, such as INTERSECT over `x IS TRUE`.
    options.execution.skip_physical_aggregate_schema_check = true;
    config
}

/// A session with DataFusion's functions and ours: those of geography, window table functions, numbers that do not overflow in silence, and
/// `TIMESTAMP` as microseconds in UTC.
pub fn session_state(config: SessionConfig, runtime: Option<Arc<RuntimeEnv>>) -> SessionState {
    let mut analysis = Analyzer::new().rules;
    analysis.insert(0, Arc::new(WideComparisons));
    // It looks at types, which stand firm only when DataFusion's rules have run.
    analysis.push(Arc::new(RightNumbers));
    analysis.push(Arc::new(BoundedTexts));
    let mut physical = fenced(PhysicalOptimizer::new().rules);
    physical.insert(0, Arc::new(ColumnsInOrder));
    physical.push(Arc::new(FiltersInOrder));
    let mut builder = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_relation_planners(vec![Arc::new(WindowFunctionPlanner)])
        .with_type_planner(Arc::new(EventTimes))
        .with_query_planner(Arc::new(WithWindows))
        .with_analyzer_rules(analysis)
        .with_optimizer_rules(timed_rules())
        .with_physical_optimizer_rules(physical);
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(Operators));
    let known = builder.scalar_functions().get_or_insert_default();
    for function in known.iter_mut() {
        if let Some(ours) = functions::guarded(function).or_else(|| functions::retyped(function)) {
            *function = Arc::new(ours);
        }
    }
    known.extend(functions::all());
    builder.aggregate_functions().get_or_insert_default().extend(numbers::aggregates());
    if let Some(runtime) = runtime {
        builder = builder.with_runtime_env(runtime);
    }
    let mut state = builder.build();
    for (name, series) in Series::all() {
        state.register_udtf(name, Arc::new(series));
    }
    state
}

/// Plans operators that DataFusion has not, or has otherwise.
#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match raw.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(match functions::planned_operator(&raw.left, op, &raw.right, schema) {
            Some(planned) => PlannerResult::Planned(planned),
            None => PlannerResult::Original(raw),
        })
    }
}

/// Makes `TIMESTAMP` in casts and literals the type that event times have everywhere.
#[derive(Debug)]
struct EventTimes;

impl TypePlanner for EventTimes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        Ok(matches!(sql_type, SqlType::Timestamp(None | Some(6), _)).then(|| event_time_type().into_nullable_field_ref()))
    }
}

#[derive(Debug)]
struct WithWindows;

#[async_trait]
impl QueryPlanner for WithWindows {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(WindowNodes)]);
        match session.as_any().downcast_ref::<SessionState>() {
            Some(state) if filters_wrongly(plan)? => {
                // Such a join would find the bounds of its keys, to filter the other side by. Keys that have no order are an error there, and
                // -0.0 is below 0.0, which it is equal to.
                let mut state = state.clone();
                state.config_mut().options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
                planner.create_physical_plan(plan, &state).await
            }
            _ => planner.create_physical_plan(plan, session).await,
        }
    }
}

/// Whether the plan has a join on keys whose order is not that of their equality.
fn filters_wrongly(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            let is_odd = |data_type: DataType| data_type.is_nested() || numbers::has_variants(&data_type);
            found = join.on.iter().any(|(left, _)| left.get_type(join.left.schema()).is_ok_and(is_odd));
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Lowers our plan nodes to batch execution.
struct WindowNodes;

#[async_trait]
impl ExtensionPlanner for WindowNodes {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _planning_ctx: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let [input] = physical_inputs else { return Ok(None) };
        if let Some(node) = node.as_any().downcast_ref::<WindowAssign>() {
            let time_index = node.input.schema().index_of_column(&node.time_column)?;
            let schema = Arc::clone(node.schema.inner());
            return Ok(Some(Arc::new(WindowAssignExec::new(input.clone(), time_index, node.kind, schema))));
        }
        if let Some(node) = node.as_any().downcast_ref::<Deduplicate>() {
            let schema = node.input.schema();
            let keys = node.keys.iter().map(|key| schema.index_of_column(key)).collect::<Result<Vec<_>>>()?;
            let time_index = schema.index_of_column(&node.time_column)?;
            return Ok(Some(Arc::new(DeduplicateExec::new(input.clone(), keys, time_index, node.within_us))));
        }
        Ok(None)
    }
}

//! From a sink's query to the steps that its rows go through: filters and projections over the columns of its table.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use watershed_dialect::SinkDefinition;
use watershed_dialect::lineage::{Lineage, lineage};

use crate::StreamError;
use crate::hidden;
use crate::operator::{Chain, Operator};
use crate::operators::filter::Filter;
use crate::operators::project::Project;

#[derive(Clone)]
enum Step {
    Filter(Arc<dyn PhysicalExpr>, SchemaRef),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

/// What a sink means. Rows that enter and leave its steps end in hidden columns: their place, from which ids are made.
#[derive(Clone)]
pub struct SinkBlueprint {
    /// As defined.
    pub definition: SinkDefinition,
    /// The columns of a message.
    pub schema: SchemaRef,
    /// What its columns are made of.
    pub lineage: Lineage,
    /// The place of the id among them; `None` for ids made of the row's place.
    pub id: Option<usize>,
    steps: Vec<Step>,
}

impl SinkBlueprint {
    /// Lowers `plan`, which [`watershed_dialect::plan_sink`] made of the sink's query over a table with the columns `table`.
    pub fn new(definition: &SinkDefinition, table: &SchemaRef, plan: &LogicalPlan, props: &ExecutionProps) -> Result<Self, StreamError> {
        let mut steps = Vec::new();
        lower(plan, table, props, &mut steps)?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let id = definition.id.as_ref().map(|column| schema.index_of(column)).transpose()?;
        Ok(Self { definition: definition.clone(), schema, lineage: lineage(plan), id, steps })
    }

    /// A fresh chain of its steps.
    pub fn chain(&self) -> Chain {
        let make = |step: &Step| -> Box<dyn Operator> {
            match step {
                Step::Filter(predicate, schema) => Box::new(Filter::new(predicate.clone(), hidden::with_hidden(schema))),
                Step::Project(expressions, schema) => Box::new(Project::new(expressions.clone(), schema, true)),
            }
        };
        Chain::new(self.steps.iter().map(make).collect())
    }
}

fn lower(plan: &LogicalPlan, table: &SchemaRef, props: &ExecutionProps, steps: &mut Vec<Step>) -> Result<(), StreamError> {
    for input in plan.inputs() {
        lower(input, table, props, steps)?;
    }
    let physical = |expr: &Expr, schema: &DFSchema| create_physical_expr(expr, schema, props, &PhysicalPlanningContext::default());
    match plan {
        LogicalPlan::TableScan(scan) => {
            let wanted = scan.projection.clone().unwrap_or_else(|| (0..table.fields().len()).collect());
            let schema: SchemaRef = Schema::new(wanted.iter().map(|&i| table.fields()[i].clone()).collect::<Vec<_>>()).into();
            let column = |&i: &usize| Arc::new(PhysicalColumn::new(table.field(i).name(), i)) as Arc<dyn PhysicalExpr>;
            steps.push(Step::Project(wanted.iter().map(column).collect(), schema));
        }
        LogicalPlan::SubqueryAlias(_) => {}
        LogicalPlan::Filter(filter) => {
            let schema: SchemaRef = Arc::new(filter.input.schema().as_arrow().clone());
            steps.push(Step::Filter(physical(&filter.predicate, filter.input.schema())?, schema));
        }
        LogicalPlan::Projection(projection) => {
            let expressions = projection.expr.iter().map(|e| physical(e, projection.input.schema())).collect::<Result<Vec<_>, _>>()?;
            steps.push(Step::Project(expressions, Arc::new(plan.schema().as_arrow().clone())));
        }
        other => return Err(StreamError::Unsupported(other.display().to_string())),
    }
    Ok(())
}

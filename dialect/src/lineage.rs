//! Lineage of columns: which columns of its inputs each column of a result is made of, and which decide what rows there are.
//!
//! Words and meanings are those of OpenLineage's column lineage facet. *Direct* inputs are part of a value, *indirect* ones decide about it. Computed
//! from plans (`plan.rs`; of streaming tables from their specs), never from the text of a query.
//!
//! ```text
//! SELECT city, sum(fare * 2) AS total FROM rides WHERE fare > 0 GROUP BY city
//!
//! city   rides.city DIRECT IDENTITY
//! total  rides.fare DIRECT AGGREGATION
//! rows   rides.fare INDIRECT FILTER, rides.city INDIRECT GROUP_BY
//! ```

mod plan;

use std::collections::BTreeSet;

use datafusion::execution::SessionState;

use crate::as_of::{as_of_join, plan_side};
use crate::deep_stack::deep;
use crate::plan::plan_materialized_view;
use crate::{MaterializedViewDefinition, SqlError};

/// A column of an input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The table or source.
    pub input: String,
    /// Its column.
    pub column: String,
    /// Which field within it, names divided by dots; `None` for all of it.
    pub path: Option<String>,
}

/// What an input is to a column or to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is the value.
    Identity,
    /// The value is computed from it.
    Transformation,
    /// The value is computed from it in many rows.
    Aggregation,
    /// It decides which of several values it is.
    Conditional,
    /// It decides which rows there are.
    Filter,
    /// It decides which rows meet.
    Join,
    /// It decides which rows are summed up.
    GroupBy,
    /// It decides their order.
    Sort,
    /// It decides which rows a function over a window sees.
    Window,
}

impl Role {
    /// Whether values are part of the result.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Identity | Self::Transformation | Self::Aggregation)
    }

    /// As OpenLineage calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "IDENTITY",
            Self::Transformation => "TRANSFORMATION",
            Self::Aggregation => "AGGREGATION",
            Self::Conditional => "CONDITIONAL",
            Self::Filter => "FILTER",
            Self::Join => "JOIN",
            Self::GroupBy => "GROUP_BY",
            Self::Sort => "SORT",
            Self::Window => "WINDOW",
        }
    }
}

/// What something is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeSet<(Origin, Role)>);

impl Origins {
    /// A column as it is.
    pub fn column(input: &str, column: &str) -> Self {
        let origin = Origin { input: input.to_owned(), column: column.to_owned(), path: None };
        Self([(origin, Role::Identity)].into())
    }

    /// All of several.
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).collect())
    }

    /// Takes more in.
    pub fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The origins with what they are, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Origin, Role)> {
        self.0.iter()
    }

    /// Of a value that is computed from these.
    pub fn transformed(self) -> Self {
        self.mapped(|role| if role == Role::Identity { Role::Transformation } else { role })
    }

    /// Of a value that is computed from these in many rows.
    pub fn aggregated(self) -> Self {
        self.mapped(|role| if role.is_direct() { Role::Aggregation } else { role })
    }

    /// Of what only decides by these.
    pub fn deciding(self, role: Role) -> Self {
        self.mapped(|_| role)
    }

    /// The field of that name in these.
    pub fn field(self, name: &str) -> Self {
        let within = |(mut origin, role): (Origin, Role)| {
            if role == Role::Identity {
                origin.path = Some(origin.path.map_or_else(|| name.to_owned(), |path| format!("{path}.{name}")));
            }
            (origin, role)
        };
        Self(self.0.into_iter().map(within).collect())
    }

    fn mapped(self, to: impl Fn(Role) -> Role) -> Self {
        Self(self.0.into_iter().map(|(origin, role)| (origin, to(role))).collect())
    }
}

/// Of one result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Of its columns, in order.
    pub columns: Vec<(String, Origins)>,
    /// What decides which rows there are.
    pub rows: Origins,
}

/// The lineage of a plan.
pub use self::plan::lineage;

/// Whether a function over a window gives the value of one row.
pub fn picks_one(function: &str) -> bool {
    matches!(function, "first_value" | "last_value" | "nth_value" | "lag" | "lead")
}

/// The lineage of a materialized view, whose query must plan.
pub async fn lineage_of_view(state: &SessionState, view: &MaterializedViewDefinition) -> Result<Lineage, SqlError> {
    let Some(join) = as_of_join(&view.query)? else {
        let plan = plan_materialized_view(state, view).await?;
        return Ok(deep(async { lineage(&plan) }).await);
    };
    let of = async |query: &str| Ok::<_, SqlError>(lineage(&plan_side(state, query).await?));
    let (mut facts, features) = (deep(of(&join.facts_query)).await?, deep(of(&join.features_query)).await?);
    let named = |side: &Lineage, names: &[&str]| {
        let wanted = side.columns.iter().filter(|(column, _)| names.contains(&column.as_str()));
        Origins::all(wanted.map(|(_, from)| from.clone())).deciding(Role::Join)
    };
    let keys = join.keys.iter().map(String::as_str);
    let met_by = named(&facts, &keys.clone().chain([join.time.as_str()]).collect::<Vec<_>>());
    let met = named(&features, &keys.chain([join.feature_time.as_str()]).collect::<Vec<_>>());
    facts.rows = Origins::all([facts.rows, met_by, met, features.rows]);
    for (name, from) in features.columns {
        if !join.keys.contains(&name) {
            let taken = facts.columns.iter().any(|(known, _)| *known == name);
            facts.columns.push((if taken { format!("feature_{name}") } else { name }, from));
        }
    }
    Ok(facts)
}

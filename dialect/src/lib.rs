//! The SQL front end shared by stream and batch: statements, window table functions, planning.
//!
//! ```
//! use watershed_dialect::{StatementKind, parse};
//!
//! let statements = parse(
//!     "CREATE SOURCE rides (city VARCHAR, event_time TIMESTAMP NOT NULL, WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds')
//!      WITH (connector = 'kafka', topic = 'rides');
//!      CREATE STREAMING TABLE silver.demand AS
//!      SELECT window_start, city, count(*) AS rides
//!      FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start, city;",
//! )?;
//! assert!(matches!(&statements[1].kind, StatementKind::CreateStreamingTable(t) if t.query.starts_with("SELECT window_start")));
//! # Ok::<(), watershed_dialect::SqlError>(())
//! ```
//!
//! | question | file |
//! |---|---|
//! | what a statement may say | `statement.rs`, `create_source.rs`, `create_streaming_table.rs`, `create_materialized_view.rs`, `create_sink.rs`, `create_panel.rs`, `expectation.rs`, `clauses.rs` |
//! | how long, deep and much a statement may be | `bounds.rs`; where the stack for it comes from: `deep_stack.rs` |
//! | what is refused, because the planner would pass over it or plan it wrongly | `ignored.rs`, `refused.rs` |
//! | how the tree of a statement is walked over | `walk.rs` |
//! | how operators are read where sqlparser's way does not do | `infix.rs` |
//! | what functions compute | the crate `watershed-functions` in `functions/` |
//! | which table functions are planned here | `table_function.rs`, `relation.rs` |
//! | how a text becomes a plan | `plan.rs`, `plan_sink.rs` |
//! | which rows violate expectations | `violations.rs` |
//! | which rows a frame of OVER reaches | `over.rs` |
//! | how facts are joined with features as of their times | `as_of.rs` |
//! | which forms of SQL are rewritten before they are planned | `forms.rs`, `shorthand.rs`, `row_values.rs`, `order_keys.rs`, `using.rs`, `double_literals.rs` |
//! | how subqueries become joins | `subquery.rs`, `dependent.rs`, `one_value.rs` |
//! | what may run as a stream, and what a table can hold | `streamable.rs`, `storable.rs` |
//! | what queries and jobs are computed with: settings, memory, threads | `session.rs`, `compute.rs` |
//! | what EXPLAIN calls the stages of a plan | `stages.rs` |
//! | how counts beside distinct ones are computed by all threads | `counts.rs` |
//! | how errors find their words and places | `diagnose.rs`, `plain.rs`, `nearest.rs`, `locate.rs` |

pub mod compute;
pub mod definition;
pub mod over;
pub mod stages;
pub mod walk;

mod accumulators;
mod as_of;
mod bounds;
mod clauses;
mod column_type;
mod common_expression;
mod counts;
mod create_materialized_view;
mod create_panel;
mod create_sink;
mod create_source;
mod create_streaming_table;
mod cursor;
mod deep_stack;
mod dependent;
mod diagnose;
mod double_literals;
mod error;
mod expectation;
mod fenced;
mod forms;
mod ignored;
mod in_order;
mod infix;
mod interval;
pub mod interval_join;
pub mod lineage;
mod locate;
mod masked;
mod multiset;
mod nearest;
mod one_value;
mod options;
mod order_keys;
mod own_names;
mod panics;
mod parameter;
mod plain;
mod plan;
mod plan_sink;
mod planning_time;
mod refused;
mod relation;
mod row_values;
mod same;
mod session;
mod shorthand;
mod source_table;
mod statement;
mod storable;
mod streamable;
mod subquery;
mod syntax;
mod table_function;
mod time_zone;
pub mod union_all;
mod unique;
mod using;
mod value_sets;
mod violations;

pub use as_of::{AsOfJoin, as_of_columns, as_of_join, check_side};
pub use common_expression::{is_common_expression, plain_expression};
pub use counts::CountsBesideDistinct;
pub use deep_stack::{DEEP_STACK_BYTES, Deep, deep, on_deep_stack};
pub use definition::*;
pub use error::SqlError;
pub use expectation::plan_expectation;
pub use locate::{placed, placed_in};
pub use nearest::{did_you_mean, nearest};
pub use panics::{ProgramFault, of_panic, without_panic, without_panics};
pub use parameter::{parameters_named, with_values};
pub use plain::{is_of_statement, plain_message};
pub use plan::{one_statement, plan, plan_materialized_view, plan_streaming, plan_streaming_table, plan_text, tables_read};
pub use plan_sink::plan_sink;
pub use planning_time::is_brief;
pub use same::same_sql;
pub use session::{session_config, session_state};
pub use source_table::SourceTable;
pub use statement::{Statement, StatementKind, ViewName, parse};
pub use streamable::check_streamable;
pub use violations::{Rule, Violations, row_shown};

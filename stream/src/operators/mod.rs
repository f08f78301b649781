//! One file per operator. All are pure; see [`crate::operator::Operator`].

pub mod aggregate_final;
pub mod aggregate_partial;
pub mod assign_windows;
pub mod by_time;
pub mod deduplicate;
pub mod deliver;
pub mod expect;
pub mod filter;
pub mod fork;
pub mod group_table;
pub mod in_order;
pub mod interval_join;
pub mod late;
pub mod over;
pub mod place;
pub mod project;
pub mod rebase;

#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod limited;
#[cfg(test)]
mod tests;

//! The dialect as its users see it: statements, plans, results and errors.

mod batch;
mod bounds;
mod errors;
mod fenced;
mod forms;
mod found;
mod functions;
mod grown;
mod intervals;
mod keys;
mod numbers;
mod operators;
mod own_names;
mod panels;
mod project;
mod shared;
mod shorthand;
mod small_tables;
mod statements;
mod streaming;
mod subqueries;
mod times;
mod unique;
mod upstream;
mod value_sets;
mod views;

//! Sessions and the Flight SQL server over a real warehouse in memory, as those who use them see them.

mod bounds;
mod flight;
#[path = "../../../dialect/tests/dialect/grown.rs"]
mod grown;
mod hostile;
mod large_rows;
mod messages;
mod parameters;
mod session;

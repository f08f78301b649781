//! Sessions and the Flight SQL server over a real warehouse in memory, as those who use them see them.

mod flight;
mod hostile;
mod messages;
mod parameters;
mod session;

//! The table functions that this crate plans itself: names, how they are called, what their intervals are.

use datafusion::sql::sqlparser::ast::ObjectName;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFunction {
    Tumble,
    Hop,
    Cumulate,
    /// Known by name, to be refused.
    Session,
    Deduplicate,
}

use TableFunction::{Cumulate, Deduplicate, Hop, Session, Tumble};

impl TableFunction {
    pub(crate) const NAMES: [&str; 5] = ["tumble", "hop", "cumulate", "session", "deduplicate"];
    const ALL: [Self; 5] = [Tumble, Hop, Cumulate, Session, Deduplicate];

    /// The function of this name, in whichever case.
    pub(crate) fn of(name: &ObjectName) -> Option<Self> {
        let [part] = name.0.as_slice() else { return None };
        let ident = part.as_ident()?;
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(&ident.value))
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub(crate) fn usage(self) -> &'static str {
        match self {
            Tumble => "write TUMBLE(TABLE t, DESCRIPTOR(time_column), INTERVAL '1 minute')",
            Hop => "write HOP(TABLE t, DESCRIPTOR(time_column), INTERVAL '10 seconds' /* slide */, INTERVAL '1 minute' /* size */)",
            Cumulate => "write CUMULATE(TABLE t, DESCRIPTOR(time_column), INTERVAL '1 minute' /* step */, INTERVAL '1 hour' /* size */)",
            Session => "use TUMBLE or HOP, or compute sessions in batch with lag(…) OVER (PARTITION BY … ORDER BY …)",
            Deduplicate => "write DEDUPLICATE(TABLE t PARTITION BY key, DESCRIPTOR(time_column), INTERVAL '10 minutes')",
        }
    }

    /// The names that the interval arguments go by, in order, and how many of them must be there.
    pub(crate) fn intervals(self) -> (&'static [&'static str], usize) {
        match self {
            Tumble => (&["size", "offset"], 1),
            Hop => (&["slide", "size", "offset"], 2),
            Cumulate => (&["step", "size", "offset"], 2),
            Session => (&["gap"], 1),
            Deduplicate => (&["within"], 1),
        }
    }
}

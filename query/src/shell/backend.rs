//! Where a shell's statements run: in this process, or on a server. The shell knows no other difference.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::counters::{Asked, Counted, SHELL, ServerCounters, Who};
use crate::flight::Remote;
use crate::{QueryError, QueryResult, Session};

/// What a shell reads from. Cheap to clone; clones share settings.
#[derive(Clone)]
pub enum Backend {
    /// A session of this process.
    Embedded(Session),
    /// A server.
    Remote(Remote),
}

/// A table as listings show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    /// True for tables of `system`, made up when they are read: listed after all others.
    pub(super) computed: bool,
    pub(super) schema: String,
    pub(super) name: String,
}

impl From<Session> for Backend {
    fn from(session: Session) -> Self {
        Self::Embedded(session)
    }
}

impl From<Remote> for Backend {
    fn from(remote: Remote) -> Self {
        Self::Remote(remote)
    }
}

impl Backend {
    /// Runs a text of exactly one statement. Dropping the result cancels it.
    pub(super) async fn query(&self, text: &str) -> Result<QueryResult, QueryError> {
        match self {
            Self::Embedded(session) => session.query(text).await,
            Self::Remote(remote) => remote.query(text).await,
        }
    }

    /// A statement begins; a server counts what it is asked itself.
    pub(super) fn begin(&self, text: &str) -> Option<Counted> {
        let Self::Embedded(_) = self else { return None };
        Some(Arc::<ServerCounters>::default().begin(Asked::new(Who::new(SHELL, None, None), text)))
    }

    /// Every table, as of now.
    pub(super) async fn tables(&self) -> Result<Vec<Table>, QueryError> {
        let mut tables: Vec<Table> = match self {
            Self::Embedded(session) => {
                let of_lake = |name: watershed_lake::TableName| Table {
                    computed: false,
                    schema: name.schema().to_owned(),
                    name: name.table().to_owned(),
                };
                let of_system = |name| Table { computed: true, schema: "system".to_owned(), name };
                let of_lake = session.tables().await?.into_iter().map(of_lake);
                of_lake.chain(session.system_tables().into_iter().map(of_system)).collect()
            }
            Self::Remote(remote) => {
                remote.tables().await?.into_iter().map(|(schema, name, computed)| Table { computed, schema, name }).collect()
            }
        };
        tables.sort();
        Ok(tables)
    }

    /// The columns of a table, named with or without its schema; `None` if there is no such table.
    pub(super) async fn describe(&self, table: &str) -> Result<Option<SchemaRef>, QueryError> {
        match self {
            Self::Embedded(session) => session.describe(table).await,
            Self::Remote(remote) => remote.describe(table).await,
        }
    }

    /// Names of all functions a query can call, sorted.
    pub(super) async fn functions(&self) -> Result<Vec<String>, QueryError> {
        match self {
            Self::Embedded(session) => Ok(session.functions()),
            Self::Remote(remote) => remote.functions().await,
        }
    }
}

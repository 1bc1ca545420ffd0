//! What can go wrong below the rules: the disk, the engine, or the file itself.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use stack_types::{ErrorCode, MalformedEvent, Problem};
use thiserror::Error;

/// The file could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder of the file cannot be made or the file cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the engine or the system says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process has the file open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("the file has schema {found}, this version knows schemas up to {known}")]
    TooNew {
        /// The file's schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// A table could not be read or a migration failed; the file is as it was.
    #[error("cannot prepare the file")]
    Prepare(#[from] StoreError),
    /// The writer thread could not be started.
    #[error("cannot start the writer thread")]
    Thread(#[source] std::io::Error),
}

/// An operation failed below the rules. Cloning shares the cause, since one failed commit answers many callers.
#[derive(Debug, Clone)]
pub struct StoreError(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Engine(Box<redb::Error>),
    Damaged(Box<dyn Error + Send + Sync>),
    Broken(Box<dyn Error + Send + Sync>),
    Closed,
    Refused(Problem),
}

impl StoreError {
    /// Writing failed before and cannot go on yet.
    pub(crate) fn broken(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::new(Kind::Broken(source.into())))
    }

    /// The writer has ended or the store is shutting down.
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Kind::Closed))
    }

    /// Whoever asked may not do this any more; nothing has changed.
    pub(crate) fn refused(problem: Problem) -> Self {
        Self(Arc::new(Kind::Refused(problem)))
    }

    /// A stored record cannot be read.
    pub(crate) fn damaged(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::new(Kind::Damaged(source.into())))
    }

    /// Whether the engine failed: it may refuse every write from now on.
    pub(crate) fn is_engine(&self) -> bool {
        matches!(*self.0, Kind::Engine(_))
    }

    /// Whether the file holds something that cannot be read, as opposed to a passing fault.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(*self.0, Kind::Damaged(_))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.0 {
            Kind::Engine(_) => "storage operation failed",
            Kind::Damaged(_) => "stored record cannot be read",
            Kind::Broken(_) => "storage cannot write at the moment",
            Kind::Closed => "storage is closed",
            Kind::Refused(_) => "whoever asked may not do this any more",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            Kind::Engine(source) => Some(source.as_ref()),
            Kind::Damaged(source) | Kind::Broken(source) => Some(source.as_ref()),
            Kind::Closed | Kind::Refused(_) => None,
        }
    }
}

macro_rules! from_engine {
    ($($source:ty),+) => {
        $(impl From<$source> for StoreError {
            fn from(source: $source) -> Self {
                Self(Arc::new(Kind::Engine(Box::new(source.into()))))
            }
        })+
    };
}

from_engine!(
    redb::Error,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

impl From<MalformedEvent> for StoreError {
    fn from(source: MalformedEvent) -> Self {
        Self::damaged(source)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let Kind::Refused(problem) = &*error.0 {
            problem.clone()
        } else if error.is_damage() {
            Problem::internal(error)
        } else {
            let problem = Problem::unavailable(error);
            debug_assert_eq!(problem.code, ErrorCode::Unavailable);
            problem
        }
    }
}

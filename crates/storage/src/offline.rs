//! What is done to a file that no gateway has open.

use std::error::Error;
use std::fs;
use std::path::Path;

use redb::{Database, DatabaseError, StorageError};
use stack_types::Timestamp;

use crate::accounts::{self, AuditAction, AuditEntry, AuditOutcome, Revived};
use crate::{OpenError, StoreError, schema};

/// Memory for the file's pages.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// How large a file was and is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes before.
    pub before: u64,
    /// Bytes now.
    pub after: u64,
}

/// Makes of a copy a file that a gateway may start on. Between the copy and now people have signed out, links were used
/// and codes were spent, and the copy does not know: what is good once, or until somebody says otherwise, ends in it, in
/// the commit that puts the restoring on record.
///
/// # Errors
/// The file cannot be opened or written.
pub fn revive(path: &Path, now: Timestamp, keep_api_keys: bool) -> Result<Revived, OpenError> {
    let database = open(path)?;
    schema::prepare(&database, schema::MIGRATIONS)?;
    let tx = database.begin_write().map_err(StoreError::from)?;
    let revived = accounts::revive(&tx, now, keep_api_keys)?;
    let entry = AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action: AuditAction::DatabaseRestored,
        target: None,
        outcome: AuditOutcome::Ok,
    };
    accounts::append_audit(&tx, now, entry)?;
    // They are counted where a gateway runs.
    accounts::take_audited();
    tx.commit().map_err(StoreError::from)?;
    Ok(revived)
}

/// Gives back to the system what is empty in a file. Whatever ends this midway leaves a file that can be opened.
///
/// # Errors
/// The file cannot be opened or written.
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    let before = len(path)?;
    let mut database = open(path)?;
    database
        .compact()
        .map_err(|error| not_opened(path, error))?;
    drop(database);
    Ok(Compacted {
        before,
        after: len(path)?,
    })
}

fn len(path: &Path) -> Result<u64, OpenError> {
    let metadata = fs::metadata(path).map_err(|error| not_opened(path, error))?;
    Ok(metadata.len())
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.open(path).map_err(|source| match source {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
            path: path.to_owned(),
        },
        DatabaseError::Storage(StorageError::Io(source)) => not_opened(path, source),
        other => not_opened(path, other),
    })
}

fn not_opened(path: &Path, source: impl Error + Send + Sync + 'static) -> OpenError {
    OpenError::Open {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;

//! The schema's version, and the way from an older one. Opening migrates in one transaction: either the whole
//! file is of the newest schema afterwards, or it is as it was.

use redb::{Database, ReadableDatabase, ReadableTable, TableError, WriteTransaction};

use crate::{OpenError, StoreError, tables};

/// One step: brings a file from schema `from` to `from + 1`.
pub(crate) struct Migration {
    pub(crate) from: u32,
    pub(crate) run: fn(&WriteTransaction) -> Result<(), StoreError>,
}

/// The steps so far. A new file starts at the newest schema; the first schema was 1.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        from: 1,
        run: crate::migrate_rows::rows_to_blocks,
    },
    Migration {
        from: 2,
        run: crate::keys::tuples_to_bytes,
    },
    Migration {
        from: 3,
        run: crate::migrate_identity::accounts_and_sessions,
    },
    Migration {
        from: 4,
        run: crate::migrate_retention::rooms,
    },
];

const FIRST: u32 = 1;
const SCHEMA: &str = "schema";

/// A file's schema beside that of this version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) schema: u32,
    pub(crate) newest: u32,
}

/// Which schema a file has. One that says none is nobody's that this crate has made.
pub(crate) fn found(db: &Database) -> Result<Found, OpenError> {
    let newest = newest(MIGRATIONS);
    let tx = db.begin_read().map_err(StoreError::from)?;
    let stored = match tx.open_table(tables::META) {
        Ok(meta) => {
            let stored = meta.get(SCHEMA).map_err(StoreError::from)?;
            stored.map(|value| u32::try_from(value.value()).unwrap_or(u32::MAX))
        }
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(StoreError::from(error).into()),
    };
    match stored {
        Some(found) if found > newest => Err(OpenError::TooNew {
            found,
            known: newest,
        }),
        Some(schema) => Ok(Found { schema, newest }),
        None => Err(StoreError::damaged("it is a database, and none of a gateway").into()),
    }
}

fn newest(migrations: &[Migration]) -> u32 {
    FIRST + u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// Creates what is missing, and migrates what is older.
pub(crate) fn prepare(db: &Database, migrations: &[Migration]) -> Result<(), OpenError> {
    let newest = newest(migrations);
    let tx = db.begin_write().map_err(StoreError::from)?;
    let found = {
        let meta = tx.open_table(tables::META).map_err(StoreError::from)?;
        let stored = meta.get(SCHEMA).map_err(StoreError::from)?;
        stored.map(|value| u32::try_from(value.value()).unwrap_or(u32::MAX))
    };
    let from = found.unwrap_or(newest);
    if from > newest {
        return Err(OpenError::TooNew {
            found: from,
            known: newest,
        });
    }
    for migration in migrations.iter().filter(|migration| migration.from >= from) {
        tracing::info!(
            from = migration.from,
            to = migration.from + 1,
            "migrating the file"
        );
        (migration.run)(&tx)?;
    }
    tables::create_all(&tx)?;
    crate::import::give_up_all(&tx)?;
    {
        let mut meta = tx.open_table(tables::META).map_err(StoreError::from)?;
        meta.insert(SCHEMA, u64::from(newest))
            .map_err(StoreError::from)?;
    }
    tx.commit().map_err(StoreError::from)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn memory() -> Database {
        Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap()
    }

    fn schema_of(db: &Database) -> u64 {
        let meta = db.begin_read().unwrap().open_table(tables::META).unwrap();
        meta.get(SCHEMA).unwrap().unwrap().value()
    }

    fn mark(tx: &WriteTransaction) -> Result<(), StoreError> {
        tx.open_table(tables::META)?.insert("marked", 1)?;
        Ok(())
    }

    fn fail(tx: &WriteTransaction) -> Result<(), StoreError> {
        mark(tx)?;
        Err(StoreError::damaged("no"))
    }

    #[test]
    fn an_older_file_is_migrated_and_a_new_one_is_not() {
        let steps = &[Migration { from: 1, run: mark }];
        let older = memory();
        prepare(&older, &[]).unwrap();
        assert_eq!(schema_of(&older), 1);
        prepare(&older, steps).unwrap();
        assert_eq!(schema_of(&older), 2);
        let marked = |db: &Database| {
            let meta = db.begin_read().unwrap().open_table(tables::META).unwrap();
            meta.get("marked").unwrap().is_some()
        };
        assert!(marked(&older));

        let new = memory();
        prepare(&new, steps).unwrap();
        assert_eq!(schema_of(&new), 2);
        assert!(!marked(&new));
    }

    #[test]
    fn a_failed_migration_leaves_the_file_as_it_was() {
        let db = memory();
        prepare(&db, &[]).unwrap();
        let steps = &[Migration { from: 1, run: fail }];
        assert!(matches!(prepare(&db, steps), Err(OpenError::Prepare(_))));
        assert_eq!(schema_of(&db), 1);
        let meta = db.begin_read().unwrap().open_table(tables::META).unwrap();
        assert!(meta.get("marked").unwrap().is_none());
    }

    #[test]
    fn a_newer_file_is_refused() {
        let db = memory();
        prepare(&db, &[Migration { from: 1, run: mark }]).unwrap();
        let refused = prepare(&db, &[]);
        assert!(matches!(
            refused,
            Err(OpenError::TooNew { found: 2, known: 1 })
        ));
    }
}

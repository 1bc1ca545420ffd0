//! When people were last here. Written in batches by presence; nothing depends on it being exact.

use std::collections::HashMap;

use stack_types::{Timestamp, UserId};

use crate::{Store, StoreError, tables};

impl Store {
    /// Writes when users were last seen. A time that is not later than the one kept changes nothing.
    ///
    /// # Errors
    /// The commit failed; nothing of the batch was written.
    pub async fn record_last_seen(&self, seen: Vec<(UserId, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |tx, _| {
            let mut table = tx.open_table(tables::PRESENCE)?;
            for (user, at) in seen {
                let before = table.insert(user.as_str(), at.0)?.map(|row| row.value());
                if let Some(later) = before.filter(|before| *before > at.0) {
                    table.insert(user.as_str(), later)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// When these users were last seen; who never was is absent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_seen(&self, users: &[UserId]) -> Result<HashMap<UserId, Timestamp>, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::PRESENCE)?;
            let mut seen = HashMap::new();
            for user in users {
                if let Some(at) = table.get(user.as_str())? {
                    seen.insert(*user, Timestamp(at.value()));
                }
            }
            Ok(seen)
        })
    }
}

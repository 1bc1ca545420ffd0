//! Keeps in the file when people were last seen.

use stack_presence::{LastSeen, Recording, Seen};
use stack_storage::Store;

/// The file, as presence sees it.
pub(crate) struct Kept(pub(crate) Store);

impl LastSeen for Kept {
    fn record(&self, seen: Vec<Seen>) -> Recording<'_> {
        Box::pin(async move {
            let seen = seen
                .into_iter()
                .map(|seen| (seen.user_id, seen.at))
                .collect();
            Ok(self.0.record_last_seen(seen).await?)
        })
    }
}

//! Schema 4 knew no bound on the number of a room's events, nor the time of the last one once it is gone.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{HistoryVisibility, RoomId, RoomSettings, Seq, Timestamp};

use crate::room::RoomRecord;
use crate::{StoreError, record, tables};

#[derive(Serialize, Deserialize)]
struct RoomRecord4 {
    id: RoomId,
    title: String,
    settings: RoomSettings4,
    created_at: Timestamp,
    first: Seq,
    deleted: bool,
}

#[derive(Serialize, Deserialize)]
struct RoomSettings4 {
    public: bool,
    history: HistoryVisibility,
    retention_days: u32,
    max_message_bytes: u32,
    slow_mode_s: u32,
    allow_guests: bool,
    messages_per_10s: u32,
}

impl From<RoomRecord4> for RoomRecord {
    fn from(old: RoomRecord4) -> Self {
        let settings = old.settings;
        Self {
            id: old.id,
            title: old.title,
            settings: RoomSettings {
                public: settings.public,
                history: settings.history,
                retention_days: settings.retention_days,
                retention_messages: 0,
                max_message_bytes: settings.max_message_bytes,
                slow_mode_s: settings.slow_mode_s,
                allow_guests: settings.allow_guests,
                messages_per_10s: settings.messages_per_10s,
            },
            created_at: old.created_at,
            first: old.first,
            deleted: old.deleted,
            // Up to then the newest block of a room stood, and says it.
            last_ts: Timestamp(0),
        }
    }
}

/// Rewrites every room's record.
pub(crate) fn rooms(tx: &WriteTransaction) -> Result<(), StoreError> {
    let mut rooms = tx.open_table(tables::ROOMS)?;
    let mut records = Vec::new();
    for entry in rooms.iter()? {
        let (number, row) = entry?;
        let old: RoomRecord4 = record::decode(row.value())?;
        records.push((number.value(), RoomRecord::from(old)));
    }
    for (number, room) in records {
        rooms.insert(number, record::encode(&room)?.as_slice())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::schema;

    #[test]
    fn rooms_of_an_older_file_keep_their_settings() {
        let backend = redb::backends::InMemoryBackend::new();
        let db = Database::builder().create_with_backend(backend).unwrap();
        schema::prepare(&db, &schema::MIGRATIONS[..3]).unwrap();
        let tx = db.begin_write().unwrap();
        for (number, deleted) in [(1, false), (2, true)] {
            let old = RoomRecord4 {
                id: format!("room-{number}").parse().unwrap(),
                title: "Title".into(),
                settings: RoomSettings4 {
                    public: true,
                    history: HistoryVisibility::Joined,
                    retention_days: 3,
                    max_message_bytes: 4,
                    slow_mode_s: 5,
                    allow_guests: true,
                    messages_per_10s: 6,
                },
                created_at: Timestamp(7),
                first: Seq(8),
                deleted,
            };
            let row = record::encode(&old).unwrap();
            let mut rooms = tx.open_table(tables::ROOMS).unwrap();
            rooms.insert(number, row.as_slice()).unwrap();
        }
        tx.commit().unwrap();

        schema::prepare(&db, schema::MIGRATIONS).unwrap();
        let rooms = db.begin_read().unwrap().open_table(tables::ROOMS).unwrap();
        let row = rooms.get(2).unwrap().unwrap();
        let room: RoomRecord = record::decode(row.value()).unwrap();
        assert_eq!((room.id.as_str(), room.title.as_str()), ("room-2", "Title"));
        assert_eq!((room.created_at, room.first), (Timestamp(7), Seq(8)));
        assert!(room.deleted);
        let settings = RoomSettings {
            public: true,
            history: HistoryVisibility::Joined,
            retention_days: 3,
            retention_messages: 0,
            max_message_bytes: 4,
            slow_mode_s: 5,
            allow_guests: true,
            messages_per_10s: 6,
        };
        assert_eq!(room.settings, settings);
    }
}

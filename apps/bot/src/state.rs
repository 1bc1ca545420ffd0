//! What survives a restart: how far each room was read, which programs were begun, and the reminders.
//!
//! One small file. What must not be forgotten is on disk before it is acted on; how far a room was read follows within a
//! second, since reading on from a little before does no harm: answers have keys, and no program is begun twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stack_daemon::replace;
use stack_types::{RoomId, Seq, Timestamp, UserId};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

const VERSION: u32 = 1;

/// Something to remind somebody of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reminder {
    /// Where it was asked for, and will be told.
    pub(crate) room: RoomId,
    /// The message that asked for it. With the room it is the reminder's identity.
    pub(crate) seq: Seq,
    /// Who asked.
    pub(crate) user: UserId,
    /// When.
    pub(crate) due: Timestamp,
    /// Of what.
    pub(crate) text: String,
}

/// Why a reminder is not kept.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// The user has too many.
    TooManyOfUser,
    /// There are too many in all.
    TooMany,
    /// It cannot be written.
    Disk(io::Error),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    version: u32,
    rooms: BTreeMap<RoomId, RoomState>,
    reminders: Vec<Reminder>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RoomState {
    /// Everything up to here is answered.
    cursor: Seq,
    /// Behind the cursor: the messages for which a program was begun.
    begun: BTreeSet<Seq>,
}

/// The state, in memory and on disk.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    saved: Mutex<Saved>,
    /// What the file holds; held while it is written.
    on_disk: tokio::sync::Mutex<Saved>,
    /// Told when there is another reminder.
    reminded: Notify,
}

impl State {
    /// Reads the state from its folder. The caller holds the folder's lock.
    ///
    /// # Errors
    /// The file is there and holds something else.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("state.json");
        let saved = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} holds no state", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved {
                version: VERSION,
                ..Saved::default()
            },
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        if saved.version != VERSION {
            let version = saved.version;
            bail!(
                "{} has version {version}, and this bot knows {VERSION}",
                path.display()
            );
        }
        Ok(Self {
            path,
            on_disk: tokio::sync::Mutex::new(saved.clone()),
            saved: Mutex::new(saved),
            reminded: Notify::new(),
        })
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// The disk is full, or another fault; then it may be tried again.
    pub(crate) async fn save(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock().await;
        let now = self.saved.lock().clone();
        if now == *on_disk {
            return Ok(());
        }
        let text = serde_json::to_vec(&now)?;
        let path = self.path.clone();
        spawn_blocking(move || replace(&path, &text))
            .await
            .map_err(io::Error::other)??;
        *on_disk = now;
        Ok(())
    }

    /// How far a room was read; `None` when it never was.
    pub(crate) fn cursor(&self, room: &RoomId) -> Option<Seq> {
        self.saved.lock().rooms.get(room).map(|room| room.cursor)
    }

    /// Notes how far a room was read; it is written with the next save.
    pub(crate) fn read_to(&self, room: &RoomId, seq: Seq) {
        let mut saved = self.saved.lock();
        let state = saved.rooms.entry(room.clone()).or_default();
        state.cursor = state.cursor.max(seq);
        state.begun = state.begun.split_off(&state.cursor.next());
    }

    /// Notes that a program begins for a message, and has it on disk; `false` when one began before.
    ///
    /// # Errors
    /// It cannot be written; then nothing is noted.
    pub(crate) async fn begin(&self, room: &RoomId, seq: Seq) -> io::Result<bool> {
        let begins = {
            let mut saved = self.saved.lock();
            let state = saved.rooms.entry(room.clone()).or_default();
            state.begun.insert(seq)
        };
        if begins && let Err(error) = self.save().await {
            if let Some(state) = self.saved.lock().rooms.get_mut(room) {
                state.begun.remove(&seq);
            }
            return Err(error);
        }
        Ok(begins)
    }

    /// Keeps a reminder and has it on disk; kept again it stays as it is.
    pub(crate) async fn remind(
        &self,
        reminder: Reminder,
        of_user: usize,
        in_all: usize,
    ) -> Result<(), NotKept> {
        let (room, seq) = (reminder.room.clone(), reminder.seq);
        let added = {
            let mut saved = self.saved.lock();
            let known = |kept: &Reminder| kept.room == room && kept.seq == seq;
            let added = !saved.reminders.iter().any(known);
            if added {
                let of = |kept: &&Reminder| kept.user == reminder.user;
                if saved.reminders.iter().filter(of).count() >= of_user {
                    return Err(NotKept::TooManyOfUser);
                }
                if saved.reminders.len() >= in_all {
                    return Err(NotKept::TooMany);
                }
                saved.reminders.push(reminder);
            }
            added
        };
        if let Err(error) = self.save().await {
            if added {
                self.forget(&room, seq);
            }
            return Err(NotKept::Disk(error));
        }
        self.reminded.notify_one();
        Ok(())
    }

    /// Takes a reminder away, with the next save; whether there was one.
    pub(crate) fn forget(&self, room: &RoomId, seq: Seq) -> bool {
        let mut saved = self.saved.lock();
        let before = saved.reminders.len();
        saved
            .reminders
            .retain(|reminder| !(reminder.room == *room && reminder.seq == seq));
        saved.reminders.len() < before
    }

    /// Whether there is still this reminder.
    pub(crate) fn has_reminder(&self, room: &RoomId, seq: Seq) -> bool {
        let saved = self.saved.lock();
        saved
            .reminders
            .iter()
            .any(|reminder| reminder.room == *room && reminder.seq == seq)
    }

    /// The reminders, the next first.
    pub(crate) fn reminders(&self) -> Vec<Reminder> {
        let mut reminders = self.saved.lock().reminders.clone();
        reminders.sort_by_key(|reminder| reminder.due);
        reminders
    }

    /// Waits for another reminder.
    pub(crate) async fn reminded(&self) {
        self.reminded.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomId {
        "general".parse().unwrap()
    }

    fn reminder(seq: u64, user: &str) -> Reminder {
        Reminder {
            room: room(),
            seq: Seq(seq),
            user: user.parse().unwrap(),
            due: Timestamp(1000 - seq),
            text: "tea".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.cursor(&room()), None);
        state.read_to(&room(), Seq(5));
        assert!(state.begin(&room(), Seq(7)).await.unwrap());
        assert!(state.begin(&room(), Seq(9)).await.unwrap());
        for seq in [8, 10, 8] {
            let kept = state.remind(reminder(seq, "ann"), 5, 5).await;
            assert!(kept.is_ok());
        }
        drop(state);

        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.cursor(&room()), Some(Seq(5)));
        assert!(!state.begin(&room(), Seq(7)).await.unwrap());
        let seqs: Vec<_> = state.reminders().iter().map(|kept| kept.seq).collect();
        assert_eq!(seqs, [Seq(10), Seq(8)]);
        state.read_to(&room(), Seq(8));
        assert!(state.forget(&room(), Seq(8)));
        state.save().await.unwrap();
        drop(state);

        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.cursor(&room()), Some(Seq(8)));
        assert_eq!(state.reminders(), [reminder(10, "ann")]);
        assert!(!state.begin(&room(), Seq(9)).await.unwrap());
        // The cursor never goes back.
        state.read_to(&room(), Seq(3));
        assert_eq!(state.cursor(&room()), Some(Seq(8)));
    }

    #[tokio::test]
    async fn reminders_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        for seq in 1..=2 {
            assert!(state.remind(reminder(seq, "ann"), 2, 3).await.is_ok());
        }
        let third = state.remind(reminder(3, "ann"), 2, 3).await;
        assert!(matches!(third, Err(NotKept::TooManyOfUser)));
        assert!(state.remind(reminder(4, "ben"), 2, 3).await.is_ok());
        let fourth = state.remind(reminder(5, "ben"), 2, 3).await;
        assert!(matches!(fourth, Err(NotKept::TooMany)));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_noted() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let blocked = folder.path().join("state.json.tmp");
        std::fs::create_dir(&blocked).unwrap();
        assert!(state.begin(&room(), Seq(7)).await.is_err());
        let kept = state.remind(reminder(8, "ann"), 5, 5).await;
        assert!(matches!(kept, Err(NotKept::Disk(_))));
        std::fs::remove_dir(&blocked).unwrap();
        assert!(state.begin(&room(), Seq(7)).await.unwrap());
        assert!(state.reminders().is_empty());
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        for text in ["{", r#"{"version":2,"rooms":{},"reminders":[]}"#] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("state.json"), text).unwrap();
            assert!(State::open(folder.path()).is_err(), "{text}");
        }
    }
}

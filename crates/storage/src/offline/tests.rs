//! Files of a gateway that has ended: looked over, damaged, revived and made smaller.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stack_proto::JsonCodec;
use stack_types::{
    EventBody, EventDraft, GlobalRole, ManualClock, RoomSettings, Seq, SessionId, UserId,
};

use super::*;
use crate::accounts::{
    AccountKind, AuditFilter, Ceremony, CeremonyOwner, Delivery, NewSession, NewUser, SignIn,
    SignInMethod,
};
use crate::check::{CheckError, Checked, check};
use crate::{CreateRoom, KeptLog, Location, Store, StoreConfig, StoreHandle, tables};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const SAID: u64 = 150;

fn store(path: &Path) -> (Store, StoreHandle) {
    let config = StoreConfig {
        location: Location::File(path.to_owned()),
        // So that there are blocks and a log.
        kept_log: KeptLog {
            bytes: 4096,
            ..KeptLog::default()
        },
        ..StoreConfig::default()
    };
    let clock = Arc::new(ManualClock::new(NOW));
    let (store, handle, mut commits) = Store::open(config, Arc::new(JsonCodec), clock).unwrap();
    // The writer waits for whoever takes its commits.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let taken = async { while commits.next().await.is_some() {} };
        runtime.unwrap().block_on(taken);
    });
    (store, handle)
}

fn entry(action: AuditAction) -> AuditEntry {
    AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action,
        target: None,
        outcome: AuditOutcome::Ok,
    }
}

fn ann() -> UserId {
    "ann".parse().unwrap()
}

async fn say(store: &Store, count: u64) {
    let room = store.room(&"general".parse().unwrap()).unwrap().unwrap();
    for number in 0..count {
        let draft = EventDraft {
            sender: ann(),
            body: EventBody::Message {
                body: format!("number {number}"),
                data: None,
                key: None,
                reply_to: None,
            },
        };
        let said = store.room_op(room.id(), |tx| Ok(tx.append(draft))).await;
        said.unwrap();
    }
}

/// A file with a room, an account that is signed in, and a link that somebody holds.
async fn file(folder: &Path) -> PathBuf {
    let path = folder.join("stack.redb");
    let (store, handle) = store(&path);
    let create = CreateRoom {
        id: "general".parse().unwrap(),
        title: "General".to_owned(),
        settings: RoomSettings::default(),
        owner: ann(),
    };
    store.create_room(create).await.unwrap().unwrap();
    say(&store, SAID).await;
    let new = NewUser {
        id: ann(),
        username: "ann".parse().unwrap(),
        display_name: "Ann".to_owned(),
        email: None,
        email_verified: false,
        password_hash: Some("hash".to_owned()),
        role: GlobalRole::Member,
        kind: AccountKind::Person,
        invite: None,
    };
    let made = store.create_user(new, entry(AuditAction::Register)).await;
    made.unwrap().unwrap();
    let session = NewSession {
        id: SessionId::generate(NOW),
        user_id: ann(),
        device: "test".to_owned(),
        ip: String::new(),
        delivery: Delivery::Body,
        method: SignInMethod::Password,
        refresh: [1; 32],
        lifetime: Duration::from_secs(3600),
        idle: Duration::from_secs(3600),
    };
    let asked = SignIn {
        session,
        verified_hash: "hash".to_owned(),
        new_hash: None,
        clear_counter: "login:ann".to_owned(),
        audit: entry(AuditAction::Login),
    };
    store.sign_in(asked).await.unwrap().unwrap();
    let (owner, lives) = (CeremonyOwner::User(ann()), Duration::from_secs(1800));
    let link = (Ceremony::RecoveryLink, [2; 32], "state".to_owned());
    let put = store.put_ceremony(link.0, owner, link.1, link.2, lives);
    put.await.unwrap();
    drop(store);
    handle.shutdown().await;
    path
}

fn look(path: &Path) -> Result<Checked, CheckError> {
    check(path, &JsonCodec, &mut |_, _| ())
}

/// Changes the file below the store.
fn change(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = open(path).unwrap();
    let tx = database.begin_write().unwrap();
    change(&tx);
    tx.commit().unwrap();
}

#[tokio::test]
async fn a_sound_file_is_told_of_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    let before = std::fs::read(&path).unwrap();
    let mut told = Vec::new();
    let checked = check(&path, &JsonCodec, &mut |seen, all| told.push((seen, all))).unwrap();
    let room = &checked.rooms[0];
    // Its making, its maker's coming in, and what was said.
    let head = Seq(SAID + 1);
    assert_eq!((checked.rooms.len(), room.first), (1, Seq(1)));
    assert!(room.head >= head, "{room:?}");
    assert_eq!(checked.events(), room.head.0);
    assert_eq!((checked.accounts.users, checked.accounts.sessions), (1, 1));
    assert_eq!(checked.schema, checked.newest_schema);
    assert_eq!(checked.bytes, before.len() as u64);
    let last = told.last().unwrap();
    assert!(told.len() > 2 && last.0 == last.1, "{told:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_written_to_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    let (store, handle) = store(&path);
    assert!(matches!(look(&path), Err(CheckError::InUse)));
    assert!(matches!(compact(&path), Err(OpenError::InUse { .. })));
    let revived = revive(&path, NOW, true);
    assert!(matches!(revived, Err(OpenError::InUse { .. })));
    drop(store);
    handle.shutdown().await;
    look(&path).unwrap();
}

#[tokio::test]
async fn a_hole_in_a_room_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    change(&path, |tx| {
        let mut blocks = tx.open_table(tables::ROOM_BLOCKS).unwrap();
        let second = {
            let mut all = redb::ReadableTable::iter(&blocks).unwrap();
            all.nth(1).unwrap().unwrap().0.value()
        };
        blocks.remove(second).unwrap();
    });
    let Err(CheckError::Content(error)) = look(&path) else {
        panic!("the hole was not found")
    };
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.starts_with("room general: the events from "),
        "{source}"
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_and_a_newer_schema_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    let sound = std::fs::read(&path).unwrap();
    change(&path, |tx| {
        let mut rooms = tx.open_table(tables::ROOMS).unwrap();
        rooms.insert(1, [9].as_slice()).unwrap();
    });
    assert!(matches!(look(&path), Err(CheckError::Content(_))));

    std::fs::write(&path, &sound).unwrap();
    change(&path, |tx| {
        tx.open_table(tables::META)
            .unwrap()
            .insert("schema", 99)
            .unwrap();
    });
    let newer = look(&path);
    assert!(matches!(
        newer,
        Err(CheckError::Schema(OpenError::TooNew { found: 99, .. }))
    ));

    std::fs::write(&path, &sound).unwrap();
    change(&path, |tx| {
        tx.open_table(tables::META)
            .unwrap()
            .insert("schema", 3)
            .unwrap();
    });
    // Its records are of today's schema, which the way from the older one does not know what to do with.
    let before = std::fs::read(&path).unwrap();
    assert!(look(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_cut_short_or_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    let sound = std::fs::read(&path).unwrap();
    let well = look(&path).unwrap();
    let other = folder.path().join("other.redb");
    for kept in (0..sound.len()).step_by(sound.len() / 23) {
        std::fs::write(&other, &sound[..kept]).unwrap();
        assert!(look(&other).is_err(), "{kept} bytes");
    }
    for text in ["no database", "age-encryption.org/v1\n"] {
        std::fs::write(&other, text).unwrap();
        assert!(matches!(look(&other), Err(CheckError::Damaged(_))));
    }
    // A bit somewhere: either nothing that counts stands there, or it is found.
    let mut found = 0;
    for place in (0..sound.len()).step_by(sound.len() / 199) {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&other, &bytes).unwrap();
        match look(&other) {
            Ok(checked) => assert_eq!(checked, well, "at {place}"),
            Err(_) => found += 1,
        }
    }
    assert!(found > 0);
}

#[tokio::test]
async fn what_is_revived_has_its_rooms_and_nobody_signed_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    let before = look(&path).unwrap();
    let revived = revive(&path, NOW, true).unwrap();
    assert_eq!((revived.sessions, revived.api_keys_kept), (1, 0));
    let after = look(&path).unwrap();
    assert_eq!(after.rooms, before.rooms);
    assert_eq!((after.accounts.users, after.accounts.sessions), (1, 0));

    let (store, handle) = store(&path);
    let link = store.ceremony(Ceremony::RecoveryLink, [2; 32]);
    assert_eq!(link.unwrap(), None);
    assert!(store.sessions_of(ann()).unwrap().is_empty());
    let entries = store.find_audit(AuditFilter::default(), None, 1).await;
    assert_eq!(entries.unwrap().0[0].action, "database_restored");
    // It goes on where the copy ends.
    say(&store, 1).await;
    drop(store);
    handle.shutdown().await;
    assert_eq!(look(&path).unwrap().events(), before.events() + 1);
}

#[tokio::test]
async fn a_file_with_much_that_is_empty_gets_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path()).await;
    const FILL: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("fill");
    change(&path, |tx| {
        let mut fill = tx.open_table(FILL).unwrap();
        for number in 0..2000 {
            fill.insert(number, [0; 2000].as_slice()).unwrap();
        }
    });
    change(&path, |tx| {
        tx.delete_table(FILL).unwrap();
    });
    let before = std::fs::metadata(&path).unwrap().len();
    let compacted = compact(&path).unwrap();
    let after = std::fs::metadata(&path).unwrap().len();
    assert_eq!(compacted, Compacted { before, after });
    assert!(after < before / 2, "{before} {after}");
    look(&path).unwrap();
    assert!(compact(&folder.path().join("nothing")).is_err());
}

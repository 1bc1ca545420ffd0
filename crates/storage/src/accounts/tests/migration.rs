//! A file of schema 3 is read after its migration, and loses nothing.

use redb::Database;
use redb::backends::InMemoryBackend;
use stack_types::User;

use super::*;
use crate::accounts::{sessions, tables, users};
use crate::schema::{self, MIGRATIONS};

const THEN: Timestamp = Timestamp(1_700_000_000_000);

fn account(name: &str) -> Account {
    Account {
        user: User {
            id: UserId::generate(THEN),
            username: name.parse().unwrap(),
            display_name: name.to_owned(),
            role: GlobalRole::Admin,
            created_at: THEN,
        },
        email: Some(format!("{name}@example.org")),
        email_verified: true,
        password_hash: Some("hash".to_owned()),
        disabled: true,
        kind: AccountKind::Person,
    }
}

fn session(owner: UserId) -> Session {
    Session {
        id: SessionId::generate(THEN),
        user_id: owner,
        device: "test".to_owned(),
        ip: "192.0.2.1".to_owned(),
        created_at: THEN,
        last_seen_at: THEN.plus(MINUTE),
        expires_at: THEN.plus(90 * DAY),
        refresh_expires_at: THEN.plus(30 * DAY),
        revoked_at: Some(THEN),
        delivery: Delivery::Body,
        authenticated_at: THEN,
        method: SignInMethod::Password,
    }
}

#[test]
fn accounts_and_sessions_of_schema_2_are_read() {
    let db = Database::builder()
        .create_with_backend(InMemoryBackend::new())
        .unwrap();
    schema::prepare(&db, &MIGRATIONS[..1]).unwrap();
    let accounts = ["ann", "bob", "cat"].map(account);
    let sessions = accounts.each_ref().map(|account| session(account.user.id));
    let tx = db.begin_write().unwrap();
    for (account, session) in accounts.iter().zip(&sessions) {
        users::older::write(&tx, account);
        sessions::older::write(&tx, session, [7; 32]);
    }
    tx.commit().unwrap();

    schema::prepare(&db, MIGRATIONS).unwrap();
    let tx = db.begin_write().unwrap();
    for (account, session) in accounts.iter().zip(&sessions) {
        let table = tx.open_table(tables::USERS).unwrap();
        let found = users::get(&table, account.user.id.as_str()).unwrap();
        assert!(found.as_ref() == Some(account));
        let found = sessions::get(&tx, session.id).unwrap().unwrap();
        assert_eq!(&found.session, session);
        assert_eq!(found.current, [7; 32]);
    }
}

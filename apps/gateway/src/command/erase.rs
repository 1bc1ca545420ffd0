//! `users erase`: has everything erased that somebody has said, and waits until that is done.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use stack_ipc::service::{Admin, Erasure};
use stack_types::{ErrorCode, Problem, RoomId};

use super::{CommandError, Told};

/// How often it looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn erase<W: Write>(
    admin: &dyn Admin,
    user: &str,
    room: Option<RoomId>,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let asked = admin.erase_messages(user.to_owned(), room).await?;
    // Whoever stops waiting stops nothing.
    let done = loop {
        let mut all = admin.erasures().await?.into_iter();
        let found = all.find(|erasure| erasure.id == asked.id).ok_or_else(|| {
            Problem::new(ErrorCode::Gone, "the erasure is done and forgotten already")
        })?;
        if found.finished_at.is_some() {
            break found;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let rooms = match done.rooms {
        1 => "one room".to_owned(),
        rooms => format!("{rooms} rooms"),
    };
    let text = match done.events {
        0 => format!("{user} has said nothing that could be erased"),
        events => format!(
            "{events} events of {user} in {rooms} are erased; copies of the file from before still hold them"
        ),
    };
    told.line(&text, &as_json(&done))
}

fn as_json(erasure: &Erasure) -> Value {
    json!({
        "id": erasure.id,
        "user_id": erasure.user_id,
        "room": erasure.room,
        "requested_at": erasure.requested_at,
        "finished_at": erasure.finished_at,
        "rooms": erasure.rooms,
        "events": erasure.events,
    })
}

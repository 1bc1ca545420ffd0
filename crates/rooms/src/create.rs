//! Making, changing and deleting rooms.

use stack_storage::{AuditAction, CreateRoom, RoomTx};
use stack_types::{
    ErrorCode, EventBody, EventDraft, Problem, RoomAction, RoomId, RoomSettings, RoomSettingsPatch,
    UnsubscribeReason, UserId,
};

use crate::rights::{self, Action, At};
use crate::view::Room;
use crate::{Actor, Rooms};

/// A title in bytes at most.
const MAX_TITLE_BYTES: usize = 200;
/// Events that a room's settings keep at most: more than any room has.
const MOST_MESSAGES: u32 = 1_000_000_000;
/// Rooms that one user is in at most when they make another: every one of them stands in every list.
const MAX_ROOMS: usize = 1000;
/// Random characters behind a slug that is made from a title.
const SUFFIX_CHARS: usize = 6;

/// A room to be made.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// Its slug; made from the title when absent.
    pub id: Option<RoomId>,
    /// Its title.
    pub title: String,
    /// Where its settings differ from the defaults.
    pub settings: RoomSettingsPatch,
}

/// A change of a room; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct RoomPatch {
    /// Its new title.
    pub title: Option<String>,
    /// Where its settings change.
    pub settings: RoomSettingsPatch,
}

impl Rooms {
    /// Makes a room. The caller owns it.
    ///
    /// # Errors
    /// `invalid_field`; `limit_exceeded`; `conflict` when the slug is taken, also by a room that was deleted, since a cursor of the
    /// old room must not be taken for one of the new.
    pub async fn create(&self, user: UserId, new: NewRoom) -> Result<Room, Problem> {
        let title = clean_title(&new.title)?;
        let settings = RoomSettings::default().with(&new.settings);
        self.check_settings(&settings)?;
        if self.0.store.rooms_of(user).await?.len() >= MAX_ROOMS {
            let detail = format!("a user who is in {MAX_ROOMS} rooms makes no more");
            return Err(Problem::new(ErrorCode::LimitExceeded, detail));
        }
        let id = match new.id {
            Some(id) => id,
            None => self.slug(&title, user)?,
        };
        let create = CreateRoom {
            id,
            title,
            settings,
            owner: user,
        };
        let room = self.0.store.create_room(create).await?.ok_or_else(|| {
            Problem::new(ErrorCode::Conflict, "a room of this id exists or existed")
        })?;
        tracing::info!(room = %room.id(), user = %user, "room created");
        self.view(&user, &room)
    }

    /// Changes a room's title and settings. Guests of a room that closes to them are let go.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `invalid_field`.
    pub async fn change(
        &self,
        user: impl Into<Actor>,
        room: &RoomId,
        patch: RoomPatch,
    ) -> Result<Room, Problem> {
        let by = user.into();
        let user = by.user;
        let (found, _) = self.check(&user, room, Action::Own)?;
        let title = patch.title.as_deref().map(clean_title).transpose()?;
        self.check_settings(&found.settings().with(&patch.settings))?;
        let (hub, clock, changed) = (self.0.hub.clone(), self.0.clock.clone(), found.clone());
        let store = self.0.store.clone();
        let op = move |tx: &mut RoomTx<'_, '_>| {
            rights::check(tx, &user, Action::Own)?;
            let title = title.unwrap_or_else(|| tx.title());
            let settings = tx.settings().with(&patch.settings);
            if title == tx.title() && settings == tx.settings() {
                return Ok(());
            }
            if settings.public && !tx.settings().public {
                let target = tx.id().to_string();
                tx.audit(by.clone().did(AuditAction::RoomMadePublic, target));
            }
            let kept = |of: &RoomSettings| (of.retention_days, of.retention_messages);
            if kept(&settings) != kept(&tx.settings()) {
                let (days, messages) = kept(&settings);
                let target = format!("{} {days} {messages}", tx.id());
                tx.audit(by.did(AuditAction::RoomRetentionChanged, target));
            }
            tx.set_room(title.clone(), settings);
            tx.append(EventDraft {
                sender: user,
                body: EventBody::Room {
                    action: RoomAction::Changed,
                    title,
                    settings,
                },
            });
            tx.after_commit(move || {
                let now = At(&changed, clock.now(), &store);
                hub.end(changed.id(), UnsubscribeReason::Private, |subscription| {
                    rights::standing(&now, &subscription.user()) < Action::Read.asks_for()
                });
            });
            Ok(())
        };
        self.0.store.room_op(room, op).await?;
        self.view(&user, &found)
    }

    /// Deletes a room with everything in it.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub async fn delete(&self, user: impl Into<Actor>, room: &RoomId) -> Result<(), Problem> {
        let by = user.into();
        let user = by.user;
        self.check(&user, room, Action::Own)?;
        let hub = self.0.hub.clone();
        let op = move |tx: &mut RoomTx<'_, '_>| {
            rights::check(tx, &user, Action::Own)?;
            tx.delete();
            let target = tx.id().to_string();
            tx.audit(by.did(AuditAction::RoomDeleted, target));
            let room = tx.id().clone();
            tx.after_commit(move || hub.end(&room, UnsubscribeReason::Deleted, |_| true));
            Ok(())
        };
        self.0.store.room_op(room, op).await?;
        tracing::info!(%room, %user, "room deleted");
        Ok(())
    }

    fn check_settings(&self, settings: &RoomSettings) -> Result<(), Problem> {
        let body_bytes = u32::try_from(self.0.config.limits.body_bytes).unwrap_or(u32::MAX);
        check_bounds(settings, body_bytes)
    }

    /// A slug from a title, made unique by the random end of an id.
    fn slug(&self, title: &str, user: UserId) -> Result<RoomId, Problem> {
        let mut slug = String::new();
        for char in title.chars().flat_map(char::to_lowercase).take(40) {
            if char.is_ascii_alphanumeric() {
                slug.push(char);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        if slug.is_empty() {
            slug.push_str("room-");
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
        let random = UserId::generate(self.0.clock.now())
            .to_string()
            .to_lowercase();
        slug.push_str(&random[random.len() - SUFFIX_CHARS..]);
        tracing::trace!(%slug, %user, "slug made from a title");
        slug.parse().map_err(Problem::internal)
    }
}

/// Whether settings are within what they may be.
pub(crate) fn check_bounds(settings: &RoomSettings, body_bytes: u32) -> Result<(), Problem> {
    let most = [
        (
            "settings.max_message_bytes",
            settings.max_message_bytes,
            body_bytes,
        ),
        ("settings.slow_mode_s", settings.slow_mode_s, 24 * 60 * 60),
        ("settings.retention_days", settings.retention_days, 36_500),
        (
            "settings.retention_messages",
            settings.retention_messages,
            MOST_MESSAGES,
        ),
        ("settings.messages_per_10s", settings.messages_per_10s, 1000),
    ];
    for (field, value, most) in most {
        if value > most {
            return Err(Problem::invalid_field(
                field,
                format!("{field} is at most {most}"),
            ));
        }
    }
    Ok(())
}

pub(crate) fn clean_title(title: &str) -> Result<String, Problem> {
    let title = title.trim();
    if title.is_empty() || title.len() > MAX_TITLE_BYTES || title.chars().any(char::is_control) {
        return Err(Problem::invalid_field(
            "title",
            format!("a title is 1 to {MAX_TITLE_BYTES} bytes without control characters"),
        ));
    }
    Ok(title.to_owned())
}

//! Rooms on their way out: lines, as fast as they are asked for.

use std::collections::{HashSet, VecDeque};

use futures_util::future::BoxFuture;
use stack_auth::{AuditAction, Auth, Keeper};
use stack_ipc::service::{Export, Exported};
use stack_proto::JsonCodec;
use stack_storage::{AccountKind, PageLimit, RoomRef, Store};
use stack_types::{
    Clock as _, ErrorCode, EventBody, EventCodec as _, Problem, RoomId, Seq, SystemClock, UserId,
};

use super::line::{
    self, FORMAT, Header, Line, MemberLine, RoomEnd, RoomLine, Trailer, UserLine, VERSION,
};

/// Lines that are given at once, in bytes, about.
const PIECE_BYTES: usize = 128 * 1024;
/// Events that are read at once.
const PAGE: PageLimit = PageLimit {
    events: 256,
    bytes: PIECE_BYTES,
};
/// Rooms that are listed at once.
const ROOMS_AT_ONCE: usize = 500;

/// An export.
pub(crate) struct Exporter {
    keeper: Keeper,
    auth: Auth,
    store: Store,
    /// Rooms to come.
    rooms: VecDeque<RoomId>,
    /// A room that is gone meanwhile is left out of all, but not of those that were named.
    is_all: bool,
    going: Option<Going>,
    told: HashSet<UserId>,
    /// Lines that were not given yet.
    pending: Vec<u8>,
    done: Trailer,
    total: u64,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Header,
    Rooms,
    Over,
}

/// A room that is being given.
struct Going {
    room: RoomRef,
    first: Seq,
    after: Seq,
    /// The last event when it began: what comes later is not in the export.
    head: Seq,
}

impl Exporter {
    /// Begins an export of these rooms, or of all.
    ///
    /// # Errors
    /// `forbidden` to anybody but the operator; `not_found` for a room; `unavailable`.
    pub(crate) async fn begin(
        auth: Auth,
        keeper: Keeper,
        store: Store,
        named: Option<Vec<RoomId>>,
    ) -> Result<Self, Problem> {
        keeper.require_operator()?;
        let mut rooms = VecDeque::new();
        let mut total = 0;
        let is_all = named.is_none();
        match named {
            Some(named) => {
                for id in named {
                    let room = store.room(&id)?.ok_or_else(|| no_such_room(&id))?;
                    total += events_of(room.first(), room.head());
                    if rooms.contains(&id) {
                        let detail = format!("the room {id} is named twice");
                        return Err(Problem::invalid_field("rooms", detail));
                    }
                    rooms.push_back(id);
                }
            }
            None => loop {
                let after = rooms.back().cloned();
                let page = store.list_rooms(after, ROOMS_AT_ONCE).await?;
                let is_last = page.len() < ROOMS_AT_ONCE;
                for room in page {
                    total += events_of(room.first, room.head);
                    rooms.push_back(room.id);
                }
                if is_last {
                    break;
                }
            },
        }
        Ok(Self {
            keeper,
            auth,
            store,
            rooms,
            is_all,
            going: None,
            told: HashSet::new(),
            pending: Vec::new(),
            done: Trailer {
                rooms: 0,
                users: 0,
                events: 0,
            },
            total,
            stage: Stage::Header,
        })
    }

    async fn piece(&mut self) -> Result<Exported, Problem> {
        while self.pending.len() < PIECE_BYTES && self.stage != Stage::Over {
            self.go_on().await?;
        }
        Ok(Exported {
            lines: self.take(),
            done: self.done.events,
            total: self.total.max(self.done.events),
        })
    }

    /// Whole lines of what is pending: about a piece, and one at least.
    fn take(&mut self) -> Vec<u8> {
        let is_end = |byte: &u8| *byte == b'\n';
        let most = PIECE_BYTES.min(self.pending.len());
        let end = match self.pending[..most].iter().rposition(is_end) {
            Some(end) => end + 1,
            None => {
                let end = self.pending[most..].iter().position(is_end);
                end.map_or(self.pending.len(), |end| most + end + 1)
            }
        };
        let rest = self.pending.split_off(end);
        std::mem::replace(&mut self.pending, rest)
    }

    async fn go_on(&mut self) -> Result<(), Problem> {
        if self.stage == Stage::Header {
            let header = Header {
                format: FORMAT.to_owned(),
                version: VERSION,
                made_at: SystemClock.now(),
                by: concat!("stack-gateway ", env!("CARGO_PKG_VERSION")).to_owned(),
            };
            line::write(&Line::Header(header), &mut self.pending);
            self.stage = Stage::Rooms;
        } else if let Some(going) = self.going.take() {
            self.events(going).await?;
        } else if let Some(id) = self.rooms.pop_front() {
            self.room(id).await?;
        } else {
            let Trailer {
                rooms,
                users,
                events,
            } = self.done;
            let trailer = Trailer {
                rooms,
                users,
                events,
            };
            line::write(&Line::Trailer(trailer), &mut self.pending);
            self.stage = Stage::Over;
        }
        Ok(())
    }

    /// A room's beginning: the room, and who is in it.
    async fn room(&mut self, id: RoomId) -> Result<(), Problem> {
        let Some(room) = self.store.room(&id)? else {
            return match self.is_all {
                true => Ok(()),
                false => Err(no_such_room(&id)),
            };
        };
        let exported = AuditAction::RoomExported;
        let target = Some(id.to_string());
        self.auth
            .record_keeping(&self.keeper, exported, target)
            .await?;
        let now = SystemClock.now();
        let (head, first) = (room.head(), room.first());
        let begin = RoomLine {
            id,
            title: room.title(),
            settings: room.settings(),
            created_at: room.created_at(),
            first,
            last_ts: (first > head).then(|| room.last_ts()),
        };
        line::write(&Line::Room(begin), &mut self.pending);
        for (user, member) in room.members() {
            self.user(user)?;
            let member = Line::Member(MemberLine::of(user, member));
            line::write(&member, &mut self.pending);
        }
        let bans = room.bans(now).into_iter();
        let mutes = room.mutes(now).into_iter();
        let bans = bans.map(|ban| (ban.user_id, ban.by, Line::Ban(ban.into())));
        let mutes = mutes.map(|mute| (mute.user_id, mute.by, Line::Mute(mute.into())));
        for (user, by, kept_out) in bans.chain(mutes) {
            self.user(user)?;
            self.user(by)?;
            line::write(&kept_out, &mut self.pending);
        }
        self.going = Some(Going {
            room,
            first,
            after: first.prev(),
            head,
        });
        Ok(())
    }

    /// The next events of the room, or its end.
    async fn events(&mut self, mut going: Going) -> Result<(), Problem> {
        if going.after >= going.head {
            let end = RoomEnd {
                id: going.room.id().clone(),
                events: events_of(going.first, going.head),
            };
            line::write(&Line::RoomEnd(end), &mut self.pending);
            self.done.rooms += 1;
            return Ok(());
        }
        let page = self.store.page_after(&going.room, going.after, PAGE).await;
        let page = page?;
        if page.frames().is_empty() || page.first() != going.after.next() {
            return Err(gone(&going));
        }
        for (index, frame) in page.frames().iter().enumerate() {
            if page.first().0 + index as u64 > going.head.0 {
                break;
            }
            let event = JsonCodec.decode(&frame).map_err(Problem::internal)?;
            self.user(event.sender)?;
            if let EventBody::Member { user_id, .. } = event.body {
                self.user(user_id)?;
            }
            self.pending.extend_from_slice(&frame);
            self.pending.push(b'\n');
            self.done.events += 1;
            going.after = event.seq;
        }
        self.going = Some(going);
        Ok(())
    }

    /// Tells of somebody once, in front of what names them.
    fn user(&mut self, id: UserId) -> Result<(), Problem> {
        if !self.told.insert(id) {
            return Ok(());
        }
        // Accounts are never removed.
        let account = self.store.account(id)?;
        let account = account.ok_or_else(|| Problem::internal(Unknown(id)))?;
        let user = UserLine {
            id,
            username: account.user.username,
            display_name: account.user.display_name,
            bot: account.kind == AccountKind::Bot,
        };
        line::write(&Line::User(user), &mut self.pending);
        self.done.users += 1;
        Ok(())
    }
}

impl Export for Exporter {
    fn next(&mut self) -> BoxFuture<'_, Result<Exported, Problem>> {
        Box::pin(self.piece())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a room names {0}, who has no account")]
struct Unknown(UserId);

fn events_of(first: Seq, head: Seq) -> u64 {
    (head.0 + 1).saturating_sub(first.0)
}

fn no_such_room(id: &RoomId) -> Problem {
    Problem::not_found(format!("there is no room {id}"))
}

/// Retention was faster, or the room has been deleted.
fn gone(going: &Going) -> Problem {
    let id = going.room.id();
    if going.room.is_deleted() {
        return no_such_room(id);
    }
    let detail =
        format!("events of {id} have gone for their age while it was exported; export it again");
    Problem::new(ErrorCode::Conflict, detail)
}

//! Reading back: pages of a room's log.

use stack_storage::{PageLimit, RoomRef};
use stack_types::{EventBatch, Problem, RoomId, Seq, Timestamp, UserId};

use crate::Rooms;
use crate::rights::Action;
use crate::rooms::check_cursor;

const DEFAULT_LIMIT: usize = 50;

/// Bytes of a page at most, except that it holds at least one event. A page that ends early for it is read on with
/// a cursor like any other. Common WebSocket clients refuse frames of more than 1 MiB.
const MAX_PAGE_BYTES: usize = 900 * 1024;

/// Which page. The cursors are exclusive and at most one of them is given; without one it is the newest page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// Events behind this one.
    pub after: Option<Seq>,
    /// Events in front of this one.
    pub before: Option<Seq>,
    /// Events after this time.
    pub after_ts: Option<Timestamp>,
    /// How many at most; 50 when absent.
    pub limit: Option<u64>,
}

/// A page of a room's log.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events, oldest first.
    pub events: EventBatch,
    /// The room's last event.
    pub head: Seq,
    /// The first event that is there for the caller.
    pub first: Seq,
}

impl Rooms {
    /// A page of a room's log.
    ///
    /// # Errors
    /// `not_found`, `forbidden`; `invalid_field` for a limit out of range, more than one cursor, or an `after` beyond
    /// the last event.
    pub async fn history(
        &self,
        user: UserId,
        room: &RoomId,
        query: PageQuery,
    ) -> Result<Page, Problem> {
        let (room, _) = self.check(&user, room, Action::Read)?;
        let limit = self.page_limit(query.limit)?;
        let (head, from) = (room.head(), self.first_for(&room, &user));
        let events = match (query.after, query.before, query.after_ts) {
            (None, None, None) => self.newest(&room, head.next(), from, limit).await?,
            (Some(after), None, None) => {
                check_cursor("after", after, head)?;
                self.0
                    .store
                    .page_after(&room, after.max(from.prev()), limit)
                    .await?
            }
            (None, Some(before), None) => {
                self.newest(&room, before.min(head.next()), from, limit)
                    .await?
            }
            (None, None, Some(ts)) => {
                let after = self.0.store.last_until(&room, ts).await?;
                self.0
                    .store
                    .page_after(&room, after.max(from.prev()), limit)
                    .await?
            }
            _ => {
                let field = if query.before.is_some() {
                    "before"
                } else {
                    "after_ts"
                };
                return Err(Problem::invalid_field(
                    field,
                    "at most one of after, before and after_ts is given",
                ));
            }
        };
        Ok(Page {
            events,
            head,
            first: from,
        })
    }

    async fn newest(
        &self,
        room: &RoomRef,
        before: Seq,
        from: Seq,
        limit: PageLimit,
    ) -> Result<EventBatch, Problem> {
        let readable = before.0.saturating_sub(from.0.max(1));
        let events = usize::try_from(readable).map_or(limit.events, |most| limit.events.min(most));
        Ok(self
            .0
            .store
            .page_before(room, before, PageLimit { events, ..limit })
            .await?)
    }

    fn page_limit(&self, asked: Option<u64>) -> Result<PageLimit, Problem> {
        let most = self.0.config.limits.page_events;
        let events = match asked {
            None => DEFAULT_LIMIT.min(most),
            Some(asked) => usize::try_from(asked)
                .ok()
                .filter(|asked| (1..=most).contains(asked))
                .ok_or_else(|| Problem::invalid_field("limit", format!("limit is 1 to {most}")))?,
        };
        Ok(PageLimit {
            events,
            bytes: MAX_PAGE_BYTES,
        })
    }
}

//! The walk of erasures over the rooms: it looks for what is to be changed on snapshots, and has it changed.

use std::ops::Range;

use redb::ReadTransaction;
use stack_types::{EventBatch, RoomId, Seq, UserId};

use super::change::{Found, InRoom, erase_found, erased, gave_reasons};
use super::{ErasureRow, Place, change, next_job};
use crate::room::RoomRecord;
use crate::{PageLimit, Store, StoreError, record, room_ops, tables};

/// What one step looks at: read off the runtime, and held in memory meanwhile.
const PAGE: PageLimit = PageLimit {
    events: 4096,
    bytes: 1024 * 1024,
};
/// Events that one commit changes at most. They stand in the one event that tells of it.
const STEP: usize = 256;
/// Steps that find nothing move the job's place in the file only so often; a job that was cut off looks there again.
const QUIET_STEPS: u32 = 64;

/// Where the walk of erasures stands. It may be begun anew at any time.
#[derive(Debug)]
pub struct EraseWalk {
    /// A job's place, when it is further than the file says.
    further: Option<(u64, Place)>,
    quiet_steps: u32,
    /// A job whose step has failed: those behind it come first, so that none waits for one that cannot go on.
    failed: Option<u64>,
    /// Events that one commit changes at most.
    pub(crate) step: usize,
}

impl Default for EraseWalk {
    fn default() -> Self {
        Self {
            further: None,
            quiet_steps: 0,
            failed: None,
            step: STEP,
        }
    }
}

impl Store {
    /// One step of the oldest erasure that is not done; says whether there is more to do. For one task at a time.
    ///
    /// # Errors
    /// The file cannot be read, or the commit failed. The step is taken again once the erasures behind it are done.
    pub async fn erase_step(&self, walk: &mut EraseWalk) -> Result<bool, StoreError> {
        let failed = walk.failed;
        let Some((id, row)) = self.read(|tx| next_job(tx, failed))? else {
            walk.further = None;
            return Ok(false);
        };
        let step = self.step_of(walk, id, row).await;
        match step {
            Err(_) => (walk.failed, walk.further) = (Some(id), None),
            // It goes on after all.
            Ok(_) if failed == Some(id) => walk.failed = None,
            Ok(_) => {}
        }
        step
    }

    async fn step_of(
        &self,
        walk: &mut EraseWalk,
        id: u64,
        row: ErasureRow,
    ) -> Result<bool, StoreError> {
        let further = walk.further.filter(|(job, _)| *job == id);
        let place = further.map_or(row.place, |(_, place)| place);
        let next = match place {
            Place::Before(number) => self.enter_next(id, &row, number).await?,
            Place::In {
                number,
                after,
                until,
                changed,
            } => {
                let at = InRoom {
                    number,
                    after,
                    until,
                    changed,
                };
                self.look_on(id, &row, at, walk.step).await?
            }
            Place::End => return Ok(false),
        };
        walk.further = match next {
            Next::Written => {
                walk.quiet_steps = 0;
                None
            }
            Next::Quiet(place) => {
                walk.quiet_steps += 1;
                if walk.quiet_steps >= QUIET_STEPS {
                    walk.quiet_steps = 0;
                    self.note_place(id, place).await?;
                    None
                } else {
                    Some((id, place))
                }
            }
        };
        Ok(true)
    }

    /// Finds the room that comes next.
    async fn enter_next(&self, id: u64, row: &ErasureRow, number: u64) -> Result<Next, StoreError> {
        let (only, rooms) = (row.room.clone(), number..row.rooms_before);
        let found = self
            .read_blocking(move |tx| next_room(tx, rooms, only.as_ref()))
            .await?;
        let Some((number, room)) = found else {
            self.finish_erasure(id).await?;
            return Ok(Next::Written);
        };
        let Some(room) = self.room(&room)? else {
            // Deleted just now.
            return Ok(Next::Quiet(Place::Before(number + 1)));
        };
        let until = room.head();
        Ok(Next::Quiet(Place::In {
            number,
            after: Seq::ZERO,
            until,
            changed: 0,
        }))
    }

    /// Looks at a page of a room, and erases what it finds.
    async fn look_on(
        &self,
        id: u64,
        row: &ErasureRow,
        at: InRoom,
        most: usize,
    ) -> Result<Next, StoreError> {
        let room = self.read(|tx| room_ops::room_id(&tx.open_table(tables::ROOMS)?, at.number))?;
        let room = match room {
            Some(room) => self.room(&room)?,
            None => None,
        };
        let user = row.user;
        let found = match &room {
            Some(room) if at.after < at.until => {
                let page = self.page_after(room, at.after, PAGE).await?;
                if page.frames().is_empty() {
                    Found {
                        seqs: Vec::new(),
                        through: gone_through(at, room.is_deleted(), room.first()),
                    }
                } else {
                    self.find(page, at, user, most).await?
                }
            }
            _ => Found {
                seqs: Vec::new(),
                through: at.until,
            },
        };
        let is_done = found.through >= at.until;
        let reasons = room.as_ref().is_some_and(|room| gave_reasons(room, &user));
        if found.seqs.is_empty() && !is_done {
            let after = found.through;
            return Ok(Next::Quiet(Place::In {
                number: at.number,
                after,
                until: at.until,
                changed: at.changed,
            }));
        }
        if found.seqs.is_empty() && at.changed == 0 && !reasons {
            let next = match row.room {
                Some(_) => Place::End,
                None => Place::Before(at.number + 1),
            };
            if next != Place::End {
                return Ok(Next::Quiet(next));
            }
        }
        self.write_batch(move |batch| erase_found(batch, id, room.as_ref(), at, &found))
            .await?;
        Ok(Next::Written)
    }

    /// Which events of a page are to be changed. Off the runtime: a page may have thousands.
    async fn find(
        &self,
        page: EventBatch,
        at: InRoom,
        user: UserId,
        most: usize,
    ) -> Result<Found, StoreError> {
        let codec = self.inner.codec.clone();
        let search = tokio::task::spawn_blocking(move || {
            let mut through = page.last().min(at.until);
            let mut seqs = Vec::new();
            for (seq, frame) in (page.first().0..).map(Seq).zip(page.frames().iter()) {
                if seq > at.until {
                    break;
                }
                if seqs.len() == most {
                    through = seq.prev();
                    break;
                }
                // Whoever said something stands in it by their id.
                if contains(&frame, user.as_str().as_bytes())
                    && erased(codec.decode(&frame)?, &user).is_some()
                {
                    seqs.push(seq);
                }
            }
            Ok(Found { seqs, through })
        });
        search.await.map_err(StoreError::damaged)?
    }

    async fn note_place(&self, id: u64, place: Place) -> Result<(), StoreError> {
        self.write(move |tx, _| change(tx, id, |row| row.place = place))
            .await
    }

    async fn finish_erasure(&self, id: u64) -> Result<(), StoreError> {
        self.write(move |tx, now| {
            change(tx, id, |row| {
                (row.place, row.finished_at) = (Place::End, Some(now));
            })
        })
        .await
    }
}

/// What became of a step.
enum Next {
    /// The job's place in the file has moved.
    Written,
    /// There was nothing to write: its place is this.
    Quiet(Place),
}

/// Up to where nothing is left when a page has no event: the room was deleted meanwhile, or begins further on. There may
/// be more from where it begins now.
fn gone_through(at: InRoom, is_deleted: bool, first: Seq) -> Seq {
    if is_deleted {
        return at.until;
    }
    at.until.min(first.prev()).max(at.after)
}

/// The first of these rooms that is there; with `only`, that one alone.
fn next_room(
    tx: &ReadTransaction,
    numbers: Range<u64>,
    only: Option<&RoomId>,
) -> Result<Option<(u64, RoomId)>, StoreError> {
    if numbers.is_empty() {
        return Ok(None);
    }
    for entry in tx.open_table(tables::ROOMS)?.range(numbers)? {
        let (number, row) = entry?;
        let room: RoomRecord = record::decode(row.value())?;
        if only.is_some_and(|only| *only != room.id) {
            return Ok(None);
        }
        if !room.deleted {
            return Ok(Some((number.value(), room.id)));
        }
    }
    Ok(None)
}

fn contains(frame: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(frame, text).is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stack_proto::JsonCodec;
    use stack_types::{
        Event, EventBody, EventCodec, EventDraft, MalformedEvent, ManualClock, RoomSettings,
        Signal, Timestamp,
    };

    use super::*;
    use crate::{CreateRoom, ErasedBy, NewErasure, RoomTx, StoreConfig};

    /// Cannot read what holds this word.
    struct Stumbles;

    impl EventCodec for Stumbles {
        fn encode(&self, event: &Event, out: &mut Vec<u8>) {
            JsonCodec.encode(event, out);
        }

        fn decode(&self, frame: &[u8]) -> Result<Event, MalformedEvent> {
            let frame = if contains(frame, b"stumble") {
                b""
            } else {
                frame
            };
            JsonCodec.decode(frame)
        }

        fn signal(&self, signal: &Signal) -> Vec<u8> {
            JsonCodec.signal(signal)
        }
    }

    #[tokio::test]
    async fn a_job_that_cannot_go_on_keeps_none_behind_it_waiting() {
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let config = StoreConfig::default();
        let (store, _handle, _commits) = Store::open(config, Arc::new(Stumbles), clock).unwrap();
        let owner: UserId = "owner".parse().unwrap();
        for name in ["stumbling", "one", "two"] {
            let id: RoomId = name.parse().unwrap();
            let create = CreateRoom {
                id: id.clone(),
                title: "Room".to_owned(),
                settings: RoomSettings::default(),
                owner,
            };
            store.create_room(create).await.unwrap().unwrap();
            let body = EventBody::Message {
                body: "stumble".repeat(usize::from(name == "stumbling")),
                data: None,
                key: None,
                reply_to: None,
            };
            let draft = EventDraft {
                sender: owner,
                body,
            };
            let op = move |tx: &mut RoomTx<'_, '_>| Ok(tx.append(draft));
            store.room_op(&id, op).await.unwrap();
            let new = NewErasure {
                user: owner,
                room: Some(id),
                by: ErasedBy::default(),
            };
            store.erase(new).await.unwrap().unwrap();
        }
        let mut walk = EraseWalk::default();
        let mut failed = 0;
        while failed < 3 {
            match store.erase_step(&mut walk).await {
                Ok(more) => assert!(more),
                Err(_) => failed += 1,
            }
        }
        // Newest first.
        let is_done = |job: &crate::Erasure| job.finished_at.is_some();
        let done: Vec<_> = store.erasures().unwrap().iter().map(is_done).collect();
        assert_eq!(done, [true, true, false]);
    }

    #[test]
    fn what_expired_while_it_was_looked_at_ends_no_room() {
        let at = InRoom {
            number: 1,
            after: Seq(10),
            until: Seq(50),
            changed: 0,
        };
        assert_eq!(gone_through(at, false, Seq(31)), Seq(30));
        assert_eq!(gone_through(at, false, Seq(5)), Seq(10));
        assert_eq!(gone_through(at, false, Seq(60)), Seq(50));
        assert_eq!(gone_through(at, true, Seq(31)), Seq(50));
    }
}

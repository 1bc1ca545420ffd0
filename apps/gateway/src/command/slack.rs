//! A Slack export as the lines of `docs/EXPORT.md`. What cannot be carried over is counted under a name of its own and
//! told in the end; nothing is passed over in silence.
//!
//! An export is somebody else's file: nothing of it is written anywhere under a name that it gives, what is read of it
//! is bounded, and a fault in it is told with the file that it stands in.

mod archive;
mod channel;
mod mrkdwn;
mod people;
mod records;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use stack_types::{Clock as _, RoomId, SystemClock};

use crate::exchange::line::{self, FORMAT, Header, Line, Trailer, VERSION};
use archive::Archive;
use channel::Converting;
use people::{People, slug};
use records::{Channel, User};

/// Why an export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SlackError {
    /// The file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no ZIP, or a damaged one.
    #[error("{path} is no ZIP file that can be read: {source}")]
    Zip {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: zip::result::ZipError,
    },
    /// A file is missing that every export has.
    #[error("this is no Slack export: there is no {0} in it")]
    Missing(&'static str),
    /// A file in it is not what it should be.
    #[error("{file}: {reason}")]
    File {
        /// Which.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is more in it than is read.
    #[error("{0}")]
    TooLarge(String),
}

/// What was changed or left out, by what it is.
pub(super) type Left = BTreeMap<&'static str, u64>;

/// An export on its way over.
pub(super) struct Slack {
    archive: Archive,
    people: People,
    /// Channels and their days, to come.
    channels: VecDeque<(Channel, Vec<String>)>,
    rooms: HashSet<RoomId>,
    going: Option<(Converting, VecDeque<String>)>,
    has_header: bool,
    is_over: bool,
    /// The file that the last lines come from.
    at: String,
    done: u64,
    total: u64,
    told: Trailer,
    left: Left,
}

impl Slack {
    /// Opens an export, a ZIP or the folder that it was unpacked to. `with_public` makes public channels public rooms.
    pub(super) fn open(path: &Path, with_public: bool) -> Result<Self, SlackError> {
        let mut archive = Archive::open(path)?;
        let users: Vec<User> = match archive.list("users.json")? {
            Some(users) => users,
            None => archive
                .list("org_users.json")?
                .ok_or(SlackError::Missing("users.json"))?,
        };
        let public: Option<Vec<Channel>> = archive.list("channels.json")?;
        let private: Option<Vec<Channel>> = archive.list("groups.json")?;
        if public.is_none() && private.is_none() {
            return Err(SlackError::Missing("channels.json"));
        }
        let mut left = Left::new();
        for file in ["dms.json", "mpims.json"] {
            let conversations: Vec<serde::de::IgnoredAny> = archive.list(file)?.unwrap_or_default();
            add(
                &mut left,
                "direct conversations left out",
                conversations.len(),
            );
        }
        let mut days = archive.days(&mut left);
        let mut channels = VecDeque::new();
        let all = public
            .into_iter()
            .flatten()
            .map(|channel| (channel, with_public));
        for (mut channel, is_public) in all.chain(private.into_iter().flatten().map(|c| (c, false)))
        {
            channel.is_public = is_public;
            let by_name = channel.name.as_deref().and_then(|name| days.remove(name));
            let found = by_name.or_else(|| days.remove(&channel.id));
            channels.push_back((channel, found.unwrap_or_default()));
        }
        // Those of direct conversations are named after these.
        let of_none = days.keys().filter(|folder| !is_direct(folder));
        add(&mut left, "folders of no channel left out", of_none.count());
        let total = channels.iter().map(|(_, days)| days.len() as u64).sum();
        let names = channels.iter().filter_map(|(channel, _)| {
            let name = channel.name.clone()?;
            Some((channel.id.clone(), name))
        });
        Ok(Self {
            archive,
            people: People::new(users, names.collect()),
            channels,
            rooms: HashSet::new(),
            going: None,
            has_header: false,
            is_over: false,
            at: path.display().to_string(),
            done: 0,
            total,
            told: Trailer {
                rooms: 0,
                users: 0,
                events: 0,
            },
            left,
        })
    }

    /// The next lines; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, SlackError> {
        if self.is_over {
            return Ok(None);
        }
        let mut out = Vec::new();
        if !self.has_header {
            self.has_header = true;
            let header = Header {
                format: FORMAT.to_owned(),
                version: VERSION,
                made_at: SystemClock.now(),
                by: "a Slack export".to_owned(),
            };
            line::write(&Line::Header(header), &mut out);
        }
        let Some((mut converting, mut days)) = self.going.take() else {
            match self.channels.pop_front() {
                Some((channel, days)) => {
                    self.at = channel.name.clone().unwrap_or_else(|| channel.id.clone());
                    let room = self.room_of(&channel);
                    let (people, left) = (&mut self.people, &mut self.left);
                    let converting = Converting::begin(channel, room, people, left, &mut out);
                    self.going = Some((converting, days.into()));
                }
                None => {
                    self.told.users = self.people.told();
                    let Trailer {
                        rooms,
                        users,
                        events,
                    } = self.told;
                    let trailer = Trailer {
                        rooms,
                        users,
                        events,
                    };
                    line::write(&Line::Trailer(trailer), &mut out);
                    self.is_over = true;
                }
            }
            return Ok(Some(out));
        };
        if let Some(day) = days.pop_front() {
            let messages = self.archive.messages(&day, &mut self.left)?;
            converting.day(messages, &mut self.people, &mut self.left, &mut out);
            self.at = day;
            self.done += 1;
            self.going = Some((converting, days));
        } else {
            self.told.events += converting.end(&mut self.people, &mut self.left, &mut out);
            self.told.rooms += 1;
        }
        Ok(Some(out))
    }

    /// A room id that no channel in front has got.
    fn room_of(&mut self, channel: &Channel) -> RoomId {
        let name = channel.name.as_deref().and_then(|name| slug(name, 58));
        let base = name.or_else(|| slug(&channel.id, 58));
        let base = base.unwrap_or_else(|| "channel".to_owned());
        let mut number = 0_u64;
        loop {
            number += 1;
            let tried = match number {
                1 => base.clone(),
                _ => format!("{}-{number}", &base[..base.len().min(44)]),
            };
            if let Ok(id) = tried.parse::<RoomId>()
                && self.rooms.insert(id.clone())
            {
                return id;
            }
        }
    }

    /// What the last lines were made of.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Files that were read, and all.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// What was changed or left out so far.
    pub(super) fn left(&self) -> &Left {
        &self.left
    }
}

fn add(left: &mut Left, what: &'static str, count: usize) {
    if count > 0 {
        *left.entry(what).or_default() += count as u64;
    }
}

fn is_direct(folder: &str) -> bool {
    folder.starts_with("mpdm-")
        || (folder.starts_with('D') && folder.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

//! What is on the wire: `topic 0x00 payload`, one frame a message, and the pulse by which two gateways know of each
//! other that the wire between them works and what it lost.
//!
//! A publisher says its pulse under `control.bus` once a second, when a reader joins, and as the answer to a welcome that
//! was asked for; in it is how many frames it has sent in each family of topics. Order holds on a wire, so a reader that
//! takes a whole family knows between two pulses what did not arrive.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stack_types::Frames;
use tokio::sync::watch;

use crate::{Bus as _, MemBus, Message, Topic};

/// How often a publisher says its pulse.
pub(crate) const PULSE_EVERY: Duration = Duration::from_secs(1);

/// The topic of the pulse.
pub(crate) const PULSE: &str = "control.bus";

/// What [`PULSE`] is on the wire, and the prefix that asks for it alone.
pub(crate) const PULSE_WIRE: &[u8] = b"control.bus\0";

/// The family of answers to those who ask whether their subscription holds. It comes behind every other family in the
/// alphabet, which is the order in which ZeroMQ repeats subscriptions on a new connection.
pub(crate) const WELCOME: &str = "welcome.";

/// The longest name a welcome is asked for by; whoever asks for more is not one of us.
#[cfg(feature = "with-zmq")]
const MAX_WELCOME_BYTES: usize = 64;

/// The separator of topic and payload.
const END_OF_TOPIC: u8 = 0;

/// Families of topics that are counted.
const FAMILIES: [&str; 4] = ["room.", "presence.", "user.", "control."];

/// How many frames of each family were sent.
type Counts = [u64; FAMILIES.len()];

fn family(topic: &str) -> Option<usize> {
    FAMILIES.iter().position(|family| topic.starts_with(family))
}

/// What a publisher says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Pulse<'a> {
    /// Another one after a restart.
    publisher: &'a str,
    /// Frames sent since its start, by family in the order of [`FAMILIES`].
    frames: Counts,
}

/// The topic and the payload of what came over the wire.
pub(crate) fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == END_OF_TOPIC)?;
    let topic = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((topic, &bytes[end + 1..]))
}

/// The topic that a subscription asks to be welcomed under.
#[cfg(feature = "with-zmq")]
pub(crate) fn welcome_of(subscribed: &[u8]) -> Option<&str> {
    let topic = std::str::from_utf8(subscribed).ok()?.strip_suffix('\0')?;
    (topic.starts_with(WELCOME) && topic.len() <= WELCOME.len() + MAX_WELCOME_BYTES)
        .then_some(topic)
}

/// A sending end's account of itself.
#[derive(Debug)]
pub(crate) struct Sender {
    publisher: String,
    frames: Counts,
}

impl Sender {
    pub(crate) fn new(publisher: &str) -> Self {
        Self {
            publisher: publisher.to_owned(),
            frames: Counts::default(),
        }
    }

    /// Counts what is about to be sent.
    pub(crate) fn count(&mut self, message: &Message) {
        if let Some(family) = family(message.topic.as_str()) {
            self.frames[family] += message.frames.len() as u64;
        }
    }

    /// The pulse under a topic, as it goes out.
    pub(crate) fn pulse(&self, topic: &str) -> Vec<u8> {
        let pulse = Pulse {
            publisher: &self.publisher,
            frames: self.frames,
        };
        let payload = serde_json::to_vec(&pulse).expect("numbers and hex are JSON");
        [topic.as_bytes(), &[END_OF_TOPIC], &payload].concat()
    }
}

/// Writes a frame as it goes out into `out`.
pub(crate) fn frame(topic: &Topic, payload: &[u8], mut out: impl FnMut(&[u8])) {
    out(topic.as_str().as_bytes());
    out(&[END_OF_TOPIC]);
    out(payload);
}

/// How many bytes [`frame`] writes.
pub(crate) fn frame_len(topic: &Topic, payload: &[u8]) -> usize {
    topic.as_str().len() + 1 + payload.len()
}

/// What is lost where, counted for the life of a bus.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Messages that found the way out full.
    pub(crate) unsent: AtomicU64,
    /// Frames that were sent and did not arrive.
    pub(crate) lost: AtomicU64,
    /// What came over the wire and is no message.
    pub(crate) malformed: AtomicU64,
}

/// What the subscriptions of this process want of the wire.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<Wants>);

#[derive(Debug, Default)]
struct Wants {
    prefixes: HashMap<Vec<u8>, usize>,
    ticket: u64,
    removals: u64,
}

/// What [`Wanted::add`] tells.
pub(crate) struct Added {
    /// Whether nobody wanted it before.
    pub(crate) is_new: bool,
    /// Later ones are higher.
    pub(crate) ticket: u64,
}

impl Wanted {
    pub(crate) fn add(&self, prefix: &[u8]) -> Added {
        let mut wants = self.0.lock();
        wants.ticket += 1;
        let ticket = wants.ticket;
        let count = wants.prefixes.entry(prefix.to_vec()).or_default();
        *count += 1;
        Added {
            is_new: *count == 1,
            ticket,
        }
    }

    /// Whether nobody wants it any more.
    pub(crate) fn remove(&self, prefix: &[u8]) -> bool {
        let mut wants = self.0.lock();
        let Some(count) = wants.prefixes.get_mut(prefix) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            wants.prefixes.remove(prefix);
            wants.removals += 1;
        }
        last
    }

    fn look(&self) -> Look {
        let wants = self.0.lock();
        let whole = FAMILIES.map(|family| {
            (0..=family.len()).any(|end| wants.prefixes.contains_key(&family.as_bytes()[..end]))
        });
        Look {
            whole,
            ticket: wants.ticket,
            removals: wants.removals,
        }
    }
}

struct Look {
    /// The families of which everything is wanted.
    whole: [bool; FAMILIES.len()],
    ticket: u64,
    removals: u64,
}

/// What those who subscribe know of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// The newest ticket of which the publisher has said that it holds.
    pub(crate) welcomed: u64,
    /// The publisher was heard of on this connection.
    pub(crate) heard: bool,
    /// Nothing was heard of the publisher in time; nobody waits for it until it is heard of again.
    pub(crate) away: bool,
}

/// The receiving end of a wire: hands what arrives to the subscriptions of this process, and keeps the account.
pub(crate) struct Receiver {
    url: String,
    /// What welcomes for this end are called by, others than its own reach it too.
    name: String,
    local: MemBus,
    counters: Arc<Counters>,
    wanted: Arc<Wanted>,
    standing: watch::Sender<Standing>,
    /// The last topic, and the family it is in.
    topic: Option<(Topic, Option<usize>)>,
    publisher: String,
    answers: Answers,
    /// The newest ticket that is in force.
    settled: u64,
    /// The newest that will be at the next pulse.
    next_settled: u64,
    removals: u64,
    bases: [Option<u64>; FAMILIES.len()],
    received: Counts,
}

/// Whether a publisher can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// It filters for its subscribers, and says when it does.
    #[cfg_attr(
        not(feature = "with-zmq"),
        expect(dead_code, reason = "ZeroMQ's can be asked, and it is not built in")
    )]
    WhenAsked,
    /// It sends everything, and the subscriber filters.
    Never,
}

/// What became of something that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It was handed over, or was nothing.
    Message,
    /// The publisher is there.
    Pulse {
        /// It is not the one of before: what holds there has to be asked again.
        is_other: bool,
        /// It answers for this ticket.
        welcome: Option<u64>,
    },
}

impl Receiver {
    pub(crate) fn new(
        url: String,
        name: String,
        local: MemBus,
        counters: Arc<Counters>,
        wanted: Arc<Wanted>,
        standing: watch::Sender<Standing>,
        answers: Answers,
    ) -> Self {
        Self {
            url,
            name,
            local,
            counters,
            wanted,
            standing,
            topic: None,
            publisher: String::new(),
            answers,
            settled: 0,
            next_settled: 0,
            removals: 0,
            bases: Default::default(),
            received: Counts::default(),
        }
    }

    /// Takes what arrived. A pulse that answers for a ticket says so by its topic, `welcome.<who>.<ticket>`.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Heard {
        // What comes one behind the other is mostly about one room.
        let same = self.topic.as_ref().and_then(|(topic, family)| {
            let payload = bytes.strip_prefix(topic.as_str().as_bytes())?;
            Some((
                topic.clone(),
                *family,
                payload.strip_prefix(&[END_OF_TOPIC])?,
            ))
        });
        let (topic, family, payload) = match same {
            Some(same) => same,
            None => match self.first_of(bytes) {
                Ok(first) => first,
                Err(heard) => return heard,
            },
        };
        if let Some(family) = family {
            self.received[family] += 1;
        }
        // Closed only when this process goes down.
        let _ = self
            .local
            .publish(Message::new(topic, Frames::one(payload)));
        Heard::Message
    }

    /// Reads a message of another topic than the last one's; what is meant for us, or for nobody, ends here.
    fn first_of<'a>(&mut self, bytes: &'a [u8]) -> Result<(Topic, Option<usize>, &'a [u8]), Heard> {
        let Some((topic, payload)) = split(bytes) else {
            return Err(self.malformed());
        };
        if topic == PULSE {
            return Err(self.pulse(payload, None));
        }
        if let Some(name) = topic.strip_prefix(WELCOME) {
            let welcome = name
                .rsplit_once('.')
                .filter(|(name, _)| *name == self.name)
                .and_then(|(_, ticket)| ticket.parse().ok());
            return Err(self.pulse(payload, welcome));
        }
        let topic: Topic = topic.parse().map_err(|_| self.malformed())?;
        let family = family(topic.as_str());
        self.topic = Some((topic.clone(), family));
        Ok((topic, family, payload))
    }

    fn malformed(&self) -> Heard {
        self.counters.malformed.fetch_add(1, Ordering::Relaxed);
        Heard::Message
    }

    fn pulse(&mut self, payload: &[u8], welcome: Option<u64>) -> Heard {
        let Ok(pulse) = serde_json::from_slice::<Pulse<'_>>(payload) else {
            return self.malformed();
        };
        let is_other = self.publisher != pulse.publisher;
        if is_other {
            if self.publisher.is_empty() {
                tracing::info!(url = self.url, "hears the bus of {}", self.url);
            } else {
                tracing::warn!(
                    url = self.url,
                    "the publisher at {} was restarted",
                    self.url
                );
            }
            pulse.publisher.clone_into(&mut self.publisher);
            self.bases = Default::default();
            self.settled = 0;
        }
        if let Some(ticket) = welcome {
            self.settled = self.settled.max(ticket);
        }
        self.account(&pulse.frames);
        let settled = self.settled;
        self.standing.send_if_modified(|standing| {
            let before = *standing;
            standing.away = false;
            standing.heard = true;
            standing.welcomed = standing.welcomed.max(settled);
            *standing != before
        });
        Heard::Pulse { is_other, welcome }
    }

    /// The connection is gone.
    #[cfg(feature = "with-nng")]
    pub(crate) fn unheard(standing: &watch::Sender<Standing>) {
        standing.send_if_modified(|standing| std::mem::take(&mut standing.heard));
    }

    /// The newest ticket there is.
    #[cfg(feature = "with-zmq")]
    pub(crate) fn ticket(&self) -> u64 {
        self.wanted.look().ticket
    }

    /// Compares what was sent with what arrived, for each family of which everything is wanted, and was at the last
    /// pulse.
    fn account(&mut self, sent: &Counts) {
        let look = self.wanted.look();
        if self.answers == Answers::Never {
            // What was asked for takes effect here, but on what comes in from now on; what has come in and waits is
            // before the next pulse, or a reader that is a second behind counts some as lost.
            self.settled = std::mem::replace(&mut self.next_settled, look.ticket);
        }
        let kept = self.removals == look.removals;
        self.removals = look.removals;
        for (family, &sent) in sent.iter().enumerate() {
            let received = std::mem::take(&mut self.received[family]);
            let whole = look.whole[family];
            let Some(base) = self.bases[family].filter(|_| whole && kept) else {
                self.bases[family] = (whole && self.settled >= look.ticket).then_some(sent);
                continue;
            };
            self.bases[family] = Some(sent);
            let lost = sent.saturating_sub(base).saturating_sub(received);
            if lost > 0 {
                let topics = FAMILIES[family];
                tracing::warn!(
                    url = self.url,
                    lost,
                    "{lost} frames of {topics} were lost on the way"
                );
                self.counters.lost.fetch_add(lost, Ordering::Relaxed);
                self.local.lost(topics, lost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0011223344556677";

    /// For what is the same for both.
    #[cfg(feature = "with-nng")]
    const ANSWERS: Answers = Answers::Never;
    #[cfg(not(feature = "with-nng"))]
    const ANSWERS: Answers = Answers::WhenAsked;

    struct End {
        receiver: Receiver,
        counters: Arc<Counters>,
        wanted: Arc<Wanted>,
        standing: watch::Receiver<Standing>,
        sender: Sender,
    }

    fn end(answers: Answers) -> End {
        let (counters, wanted) = (Arc::new(Counters::default()), Arc::new(Wanted::default()));
        let (standing, watched) = watch::channel(Standing::default());
        let receiver = Receiver::new(
            "zmq+tcp://127.0.0.1:1".into(),
            "me".into(),
            MemBus::new(8),
            counters.clone(),
            wanted.clone(),
            standing,
            answers,
        );
        End {
            receiver,
            counters,
            wanted,
            standing: watched,
            sender: Sender::new(ID),
        }
    }

    impl End {
        fn says(&mut self, topic: &str, arrives: bool) {
            self.sender
                .count(&Message::one(topic.parse().unwrap(), b"x"));
            if arrives {
                let frame = [topic.as_bytes(), b"\0x"].concat();
                assert_eq!(self.receiver.take(&frame), Heard::Message);
            }
        }

        fn pulse(&mut self, topic: &str) -> Heard {
            self.receiver.take(&self.sender.pulse(topic))
        }

        fn lost(&self) -> u64 {
            self.counters.lost.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_frame_is_its_topic_and_its_payload() {
        assert_eq!(split(b"room.a\0{}"), Some(("room.a", &b"{}"[..])));
        assert_eq!(split(b"room.a\0"), Some(("room.a", &b""[..])));
        assert_eq!(split(b"room.a\0\0x"), Some(("room.a", &b"\0x"[..])));
        assert_eq!(split(b"room.a"), None);
        assert_eq!(split(b"\xff\0x"), None);
    }

    #[cfg(feature = "with-zmq")]
    #[test]
    fn who_asks_for_a_welcome_is_one_of_us() {
        assert_eq!(welcome_of(b"welcome.me.1\0"), Some("welcome.me.1"));
        for other in [&b"welcome.me.1"[..], b"room.a\0", b"", &[b'w'; 100]] {
            assert_eq!(welcome_of(other), None);
        }
    }

    #[cfg(feature = "with-zmq")]
    #[test]
    fn what_does_not_arrive_is_counted_for_whole_families() {
        let mut end = end(Answers::WhenAsked);
        end.says("room.a", false);
        let ticket = end.wanted.add(b"room.").ticket;
        end.says("room.a", false);
        assert!(matches!(
            end.pulse(PULSE),
            Heard::Pulse { is_other: true, .. }
        ));
        assert_eq!(end.standing.borrow().welcomed, 0);
        // The welcome of somebody else says nothing of ours.
        end.pulse("welcome.you.9");
        assert_eq!(end.standing.borrow().welcomed, 0);
        let welcome = end.pulse(&format!("welcome.me.{ticket}"));
        assert_eq!(
            welcome,
            Heard::Pulse {
                is_other: false,
                welcome: Some(ticket)
            }
        );
        assert_eq!(end.standing.borrow().welcomed, ticket);
        end.says("room.a", true);
        end.says("room.b", false);
        end.says("room.a", true);
        end.says("presence.a", false);
        end.pulse(PULSE);
        assert_eq!(end.lost(), 1);
        // A family of which a part is wanted says nothing.
        end.wanted.add(b"presence.a\0");
        end.says("presence.b", false);
        end.says("room.a", true);
        end.pulse(PULSE);
        end.pulse(PULSE);
        assert_eq!(end.lost(), 1);
        // One that is not wanted for a while is counted from anew.
        end.wanted.remove(b"room.");
        end.says("room.a", false);
        let ticket = end.wanted.add(b"").ticket;
        end.says("room.a", false);
        end.pulse(PULSE);
        end.says("room.a", true);
        end.pulse(&format!("welcome.me.{ticket}"));
        end.says("user.a", false);
        end.pulse(PULSE);
        assert_eq!(end.lost(), 2);
    }

    #[cfg(feature = "with-nng")]
    #[test]
    fn a_publisher_that_cannot_be_asked_is_counted_from_its_second_pulse() {
        let mut end = end(Answers::Never);
        end.wanted.add(b"room.");
        end.says("room.a", false);
        end.pulse(PULSE);
        assert!(end.standing.borrow().heard);
        end.says("room.a", false);
        end.pulse(PULSE);
        end.says("room.a", false);
        end.pulse(PULSE);
        assert_eq!(end.lost(), 1);
    }

    #[test]
    fn a_restarted_publisher_counts_from_anew() {
        let mut end = end(ANSWERS);
        end.wanted.add(b"room.");
        for _ in 0..3 {
            end.says("room.a", true);
            end.pulse(PULSE);
        }
        end.sender = Sender::new("another");
        end.says("room.a", false);
        assert!(matches!(
            end.pulse(PULSE),
            Heard::Pulse { is_other: true, .. }
        ));
        assert_eq!(end.lost(), 0);
    }

    #[test]
    fn what_is_no_message_is_counted() {
        let mut end = end(ANSWERS);
        for bad in [
            &b"no separator"[..],
            b"\0no topic",
            b"\xff\0x",
            b"control.bus\0{}",
        ] {
            end.receiver.take(bad);
        }
        assert_eq!(end.counters.malformed.load(Ordering::Relaxed), 4);
        assert!(!end.standing.borrow().heard);
    }
}

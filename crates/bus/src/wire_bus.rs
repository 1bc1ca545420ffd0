//! A bus that goes beyond this process: what is published here is heard here at once, as on [`MemBus`], and goes out
//! on the wire; what comes in from the wire is heard here and goes nowhere else.
//!
//! Every socket belongs to one thread, which may wait for it: one that sends for each library, one that receives for
//! each address that is listened to. Nobody else waits for any of them, except who subscribes, and only for a moment.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::outbox::Outbox;
use crate::wire::{Answers, Counters, Receiver, Standing, Wanted};
use crate::{
    Bus, BusConfig, BusUrl, Losses, MemBus, Message, OpenBusError, Prefix, PublishError,
    Subscribing,
};

/// How long a subscription waits for the publishers it dials to confirm it. Many times what it takes; one that has
/// not answered by then is not there, and gets the subscription when it comes.
const WELCOME_WITHIN: Duration = Duration::from_secs(1);

/// A thread that sends, and the queue to it.
pub(crate) struct Publisher {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) thread: JoinHandle<()>,
    /// Where it is bound, with the port that it got.
    pub(crate) bound: Option<BusUrl>,
}

/// A thread that receives from one address.
pub(crate) struct Link {
    pub(crate) url: BusUrl,
    pub(crate) socket: Box<dyn Dialled>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) answers: Answers,
    pub(crate) thread: JoinHandle<()>,
}

/// A SUB socket as its owner sees it.
pub(crate) trait Dialled: Send + Sync {
    /// Asks for a prefix, if there is one to ask for, and for a welcome under the ticket.
    fn want(&self, prefix: Option<&[u8]>, ticket: u64);

    /// Asks for the prefix no more.
    fn unwant(&self, prefix: &[u8]);

    /// Nobody waits for this publisher any more, until it is heard of.
    fn give_up(&self);

    /// Ends the thread.
    fn close(&self);
}

/// What a link is made from.
pub(crate) struct LinkParts {
    pub(crate) url: BusUrl,
    pub(crate) local: MemBus,
    pub(crate) counters: Arc<Counters>,
    pub(crate) wanted: Arc<Wanted>,
}

impl LinkParts {
    /// The receiving end, and how it tells of itself.
    pub(crate) fn receiver(
        self,
        answers: Answers,
        name: String,
    ) -> (Receiver, watch::Sender<Standing>) {
        let standing = watch::Sender::new(Standing::default());
        let receiver = Receiver::new(
            self.url.to_string(),
            name,
            self.local,
            self.counters,
            self.wanted,
            standing.clone(),
            answers,
        );
        (receiver, standing)
    }
}

/// The bus of several processes. Cloning it gives another handle on the same bus.
#[derive(Clone)]
pub struct WireBus {
    inner: Arc<Inner>,
}

struct Inner {
    local: MemBus,
    wanted: Arc<Wanted>,
    /// Held while what is wanted changes, so that every wire hears of the changes in their order.
    changing: Mutex<()>,
    counters: Arc<Counters>,
    outboxes: Vec<Arc<Outbox>>,
    links: Vec<LinkEnd>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    bound: Option<BusUrl>,
}

/// A link without its thread.
struct LinkEnd {
    url: BusUrl,
    socket: Box<dyn Dialled>,
    standing: watch::Receiver<Standing>,
    answers: Answers,
}

impl WireBus {
    /// Opens the sockets. Those that dial go on trying on their own.
    ///
    /// # Errors
    /// An address cannot be bound, or is one where what is said could be read by others.
    pub fn open(config: &BusConfig) -> Result<Self, OpenBusError> {
        config.check()?;
        let counters = Arc::new(Counters::default());
        let wanted = Arc::new(Wanted::default());
        // Whatever fails, what is open by then is closed again.
        let mut bus = Opening(Inner {
            local: MemBus::new(config.queue),
            wanted,
            changing: Mutex::default(),
            counters,
            outboxes: Vec::new(),
            links: Vec::new(),
            threads: Mutex::default(),
            bound: None,
        });
        bus.publishers(config)?;
        bus.links(config)?;
        Ok(Self {
            inner: Arc::new(bus.0),
        })
    }

    /// Where it is bound, with the port that it got.
    #[must_use]
    pub fn bound(&self) -> Option<&BusUrl> {
        self.inner.bound.as_ref()
    }
}

struct Opening(Inner);

impl Opening {
    fn publishers(&mut self, config: &BusConfig) -> Result<(), OpenBusError> {
        let mut publisher_id = [0; 8];
        getrandom::fill(&mut publisher_id).map_err(|_| OpenBusError::Randomness)?;
        let id = format!("{:016x}", u64::from_be_bytes(publisher_id));
        let inner = &mut self.0;
        let mut add = |publisher: Option<Publisher>| {
            if let Some(publisher) = publisher {
                inner.outboxes.push(publisher.outbox);
                inner.threads.lock().push(publisher.thread);
                inner.bound = publisher.bound.or(inner.bound.take());
            }
        };
        let counters = inner.counters.clone();
        #[cfg(feature = "with-nng")]
        add(crate::nng::publisher(config, &id, counters.clone())?);
        #[cfg(feature = "with-zmq")]
        add(crate::zmq::publisher(config, &id, counters.clone())?);
        Ok(())
    }

    fn links(&mut self, config: &BusConfig) -> Result<(), OpenBusError> {
        let inner = &mut self.0;
        for url in &config.subscribe {
            let parts = LinkParts {
                url: url.clone(),
                local: inner.local.clone(),
                counters: inner.counters.clone(),
                wanted: inner.wanted.clone(),
            };
            let link = match url {
                BusUrl::Mem => continue,
                #[cfg(feature = "with-nng")]
                BusUrl::Nng(endpoint) => crate::nng::link(parts, endpoint)?,
                #[cfg(feature = "with-zmq")]
                BusUrl::Zmq(endpoint) => crate::zmq::link(parts, endpoint, config.curve.as_ref())?,
                #[cfg(not(all(feature = "with-nng", feature = "with-zmq")))]
                _ => return Err(OpenBusError::NotCompiledIn { url: url.clone() }),
            };
            inner.threads.lock().push(link.thread);
            inner.links.push(LinkEnd {
                url: link.url,
                socket: link.socket,
                standing: link.standing,
                answers: link.answers,
            });
        }
        Ok(())
    }
}

impl LinkEnd {
    fn holds(&self, standing: Standing, ticket: u64) -> bool {
        match self.answers {
            Answers::WhenAsked => standing.welcomed >= ticket,
            Answers::Never => standing.heard,
        }
    }

    /// Waits until the publisher has confirmed everything up to the ticket, if it is there.
    async fn confirmed(&self, ticket: u64) {
        let mut standing = self.standing.clone();
        // An error means that the thread has ended, and with it the bus.
        let _ = standing
            .wait_for(|standing| standing.away || self.holds(*standing, ticket))
            .await;
    }

    fn give_up(&self, ticket: u64) {
        let standing = *self.standing.borrow();
        if !standing.away && !self.holds(standing, ticket) {
            tracing::warn!(url = %self.url, "nothing is heard of the bus of {}; it is dialled on", self.url);
            self.socket.give_up();
        }
    }
}

impl Inner {
    fn want(&self, prefix: &[u8]) -> u64 {
        let _in_order = self.changing.lock();
        let added = self.wanted.add(prefix);
        for link in &self.links {
            link.socket
                .want(added.is_new.then_some(prefix), added.ticket);
        }
        added.ticket
    }

    fn unwant(&self, prefix: &[u8]) {
        let _in_order = self.changing.lock();
        if self.wanted.remove(prefix) {
            for link in &self.links {
                link.socket.unwant(prefix);
            }
        }
    }

    async fn confirmed(&self, ticket: u64) {
        let all = async {
            for link in &self.links {
                link.confirmed(ticket).await;
            }
        };
        if tokio::time::timeout(WELCOME_WITHIN, all).await.is_err() {
            for link in &self.links {
                link.give_up(ticket);
            }
        }
    }

    fn close(&self) {
        // Last words first: they were published before.
        for outbox in &self.outboxes {
            outbox.close();
        }
        for link in &self.links {
            link.socket.close();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A panic of its was reported where it happened.
            let _ = thread.join();
        }
        self.local.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Bus for WireBus {
    fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.inner.local.publish(message.clone())?;
        for outbox in &self.inner.outboxes {
            outbox.put(message.clone());
        }
        Ok(())
    }

    fn subscribe(&self, prefix: Prefix) -> Subscribing<'_> {
        Box::pin(async move {
            let wire = prefix.to_wire();
            let (bus, over): (Weak<Inner>, _) = (Arc::downgrade(&self.inner), wire.clone());
            let subscription = self.inner.local.attach(prefix, move || {
                if let Some(bus) = bus.upgrade() {
                    bus.unwant(&over);
                }
            })?;
            let ticket = self.inner.want(&wire);
            self.inner.confirmed(ticket).await;
            Ok(subscription)
        })
    }

    fn dropped(&self) -> u64 {
        self.inner.local.dropped()
    }

    fn losses(&self) -> Losses {
        let counters = &self.inner.counters;
        Losses {
            dropped: self.dropped(),
            unsent: counters.unsent.load(Ordering::Relaxed),
            lost: counters.lost.load(Ordering::Relaxed),
            malformed: counters.malformed.load(Ordering::Relaxed),
        }
    }

    /// Waits for its threads, which send what was published before: half a second at most.
    fn close(&self) {
        self.inner.close();
    }
}

impl fmt::Debug for WireBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireBus")
            .field("bound", &self.inner.bound)
            .field("losses", &self.losses())
            .finish_non_exhaustive()
    }
}

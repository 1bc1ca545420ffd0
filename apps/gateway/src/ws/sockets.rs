//! The open sockets of this gateway by user and by session: to bound how many one user has, to close those of a
//! revoked session, and to tell a user's devices something.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use stack_bus::{Bus, Message, Prefix, SubscribeError, Subscription};
use stack_delivery::Outlet;
use stack_types::{ConnectionId, SessionId, UserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::revocation::{self, SessionsRevoked};

/// The open sockets. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    by_user: HashMap<UserId, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    connection: ConnectionId,
    session: SessionId,
    outlet: Arc<Outlet>,
    revoked: CancellationToken,
    /// Something on the bus was lost: the session may have been revoked.
    doubt: Arc<Notify>,
}

/// A socket's place among the open ones. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    sockets: Sockets,
    user: UserId,
    connection: ConnectionId,
    revoked: CancellationToken,
    doubt: Arc<Notify>,
}

impl Sockets {
    /// Listens to the bus for revoked sessions and for what users' devices are told.
    pub(crate) async fn listen(
        &self,
        bus: &dyn Bus,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), SubscribeError> {
        let controls = bus.subscribe(Prefix::controls()).await?;
        let users = bus.subscribe(Prefix::users()).await?;
        tasks.spawn(
            self.clone()
                .run(controls, stop.clone(), Self::control, Self::doubt_all),
        );
        tasks.spawn(self.clone().run(users, stop, Self::tell, |_| {}));
        Ok(())
    }

    /// Takes a place for a new socket; `None` when the user has `most` already.
    pub(super) fn enter(
        &self,
        user: UserId,
        session: SessionId,
        connection: ConnectionId,
        outlet: Arc<Outlet>,
        most: usize,
    ) -> Option<Place> {
        let mut registry = self.0.lock();
        let entries = registry.by_user.entry(user).or_default();
        if entries.len() >= most {
            return None;
        }
        let revoked = CancellationToken::new();
        let doubt = Arc::new(Notify::new());
        entries.push(Entry {
            connection,
            session,
            outlet,
            revoked: revoked.clone(),
            doubt: doubt.clone(),
        });
        Some(Place {
            sockets: self.clone(),
            user,
            connection,
            revoked,
            doubt,
        })
    }

    /// Closes the sockets of these sessions, and all of a user who is out.
    fn revoke(&self, revoked: &SessionsRevoked) {
        let registry = self.0.lock();
        for (user, entries) in &registry.by_user {
            for entry in entries {
                if revoked.user == Some(*user) || revoked.sessions.contains(&entry.session) {
                    entry.revoked.cancel();
                }
            }
        }
    }

    fn control(&self, message: &Message) {
        if message.topic.control_kind() != Some(revocation::KIND) {
            return;
        }
        for frame in message.frames.iter() {
            match serde_json::from_slice::<SessionsRevoked>(&frame) {
                Ok(revocation) => self.revoke(&revocation),
                Err(error) => {
                    tracing::error!(%error, "a revocation on the bus cannot be read: {error}")
                }
            }
        }
    }

    fn tell(&self, message: &Message) {
        let Some(user) = message.topic.user_id() else {
            return;
        };
        let registry = self.0.lock();
        for entry in registry.by_user.get(&user).into_iter().flatten() {
            entry.outlet.offer_lossy(message.frames.wire().clone());
        }
    }

    async fn run(
        self,
        mut messages: Subscription,
        stop: CancellationToken,
        act: fn(&Self, &Message),
        lost: fn(&Self),
    ) {
        let mut dropped = 0;
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => None,
                message = messages.recv() => message,
            };
            let Some(message) = message else {
                return;
            };
            act(&self, &message);
            if messages.dropped() > dropped {
                dropped = messages.dropped();
                lost(&self);
            }
        }
    }

    /// Lets every socket look at its session again.
    fn doubt_all(&self) {
        tracing::warn!(
            "a control message was lost on the bus, every socket looks at its session again"
        );
        for entry in self.0.lock().by_user.values().flatten() {
            entry.doubt.notify_one();
        }
    }
}

impl Place {
    /// Ends when the session behind the socket is revoked.
    pub(super) async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Ends when the session should be looked at again.
    pub(super) async fn doubt(&self) {
        self.doubt.notified().await;
    }

    /// The socket belongs to another session of the same user from now on.
    pub(super) fn change_session(&self, session: SessionId) {
        let mut registry = self.sockets.0.lock();
        let entries = registry.by_user.get_mut(&self.user);
        for entry in entries.into_iter().flatten() {
            if entry.connection == self.connection {
                entry.session = session;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.sockets.0.lock();
        if let Some(entries) = registry.by_user.get_mut(&self.user) {
            entries.retain(|entry| entry.connection != self.connection);
            if entries.is_empty() {
                registry.by_user.remove(&self.user);
            }
        }
    }
}

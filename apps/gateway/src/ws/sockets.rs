//! The open sockets of this gateway by user and by session: to bound how many one user has, to close those of a
//! revoked session, and to tell a user's devices something.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use stack_bus::{Bus, Message, Prefix, SubscribeError, Subscription};
use stack_delivery::Outlet;
use stack_types::{ConnectionId, SessionId, UserId};
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
}

/// A socket's place among the open ones. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    sockets: Sockets,
    user: UserId,
    connection: ConnectionId,
    revoked: CancellationToken,
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
        tasks.spawn(self.clone().run(controls, stop.clone(), Self::control));
        tasks.spawn(self.clone().run(users, stop, Self::tell));
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
        entries.push(Entry {
            connection,
            session,
            outlet,
            revoked: revoked.clone(),
        });
        Some(Place {
            sockets: self.clone(),
            user,
            connection,
            revoked,
        })
    }

    /// Closes the sockets of these sessions.
    fn revoke(&self, sessions: &[SessionId]) {
        let registry = self.0.lock();
        for entry in registry.by_user.values().flatten() {
            if sessions.contains(&entry.session) {
                entry.revoked.cancel();
            }
        }
    }

    fn control(&self, message: &Message) {
        if message.topic.control_kind() != Some(revocation::KIND) {
            return;
        }
        for frame in message.frames.iter() {
            match serde_json::from_slice::<SessionsRevoked>(&frame) {
                Ok(revocation) => self.revoke(&revocation.sessions),
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
    ) {
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => None,
                message = messages.recv() => message,
            };
            match message {
                Some(message) => act(&self, &message),
                None => return,
            }
        }
    }
}

impl Place {
    /// Ends when the session behind the socket is revoked.
    pub(super) async fn revoked(&self) {
        self.revoked.cancelled().await;
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

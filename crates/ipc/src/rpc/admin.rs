//! The interface `Admin`.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use capnp::Error;
use stack_proto::gateway_capnp::admin;
use stack_types::{Seq, Timestamp};

use super::exchange::{ExportImpl, ImportImpl, options_of};
use super::feed::SubscriptionImpl;
use super::fill;
use crate::server::{Conn, Handed};
use crate::service::{Admin, Answer, AuditQuery, TraceQuery};
use crate::wire::Call;

/// What the operator, or a bot with the scope for it, has got.
pub(super) struct AdminImpl {
    conn: Rc<Conn>,
    admin: Arc<dyn Admin>,
    _handed: Handed,
}

impl AdminImpl {
    pub(super) fn new(conn: Rc<Conn>, admin: Arc<dyn Admin>, handed: Handed) -> Self {
        Self {
            conn,
            admin,
            _handed: handed,
        }
    }

    async fn answer<T>(
        &self,
        ask: impl FnOnce(&dyn Admin) -> Result<Answer<T>, Error>,
    ) -> Result<(Call, T), Error> {
        let call = self.conn.begin()?;
        // Nothing that admins do is quick; it waits while what was answered before is not taken.
        self.conn.gate.writable().await;
        let answer = ask(&*self.admin)?;
        let answer = self.conn.settle(answer.await)?;
        Ok((call, answer))
    }
}

impl admin::Server for AdminImpl {
    async fn snapshot(
        self: Rc<Self>,
        params: admin::SnapshotParams,
        mut results: admin::SnapshotResults,
    ) -> Result<(), Error> {
        let (_call, bytes) = self
            .answer(|admin| {
                let path = params.get()?.get_path()?.to_string()?;
                Ok(admin.snapshot(PathBuf::from(path)))
            })
            .await?;
        results.get().set_bytes(bytes);
        Ok(())
    }

    async fn stats(
        self: Rc<Self>,
        _: admin::StatsParams,
        mut results: admin::StatsResults,
    ) -> Result<(), Error> {
        let (_call, stats) = self.answer(|admin| Ok(admin.stats())).await?;
        let mut to = results.get().init_stats(stats.len() as u32);
        for (index, figure) in stats.iter().enumerate() {
            fill::figure(figure, to.reborrow().get(index as u32));
        }
        Ok(())
    }

    async fn revoke(
        self: Rc<Self>,
        params: admin::RevokeParams,
        mut results: admin::RevokeResults,
    ) -> Result<(), Error> {
        let (_call, ended) = self
            .answer(|admin| {
                let params = params.get()?;
                let session = fill::optional(params.get_session_id()?)?;
                Ok(admin.revoke(params.get_user()?.to_string()?, session))
            })
            .await?;
        results.get().set_ended(ended);
        Ok(())
    }

    async fn users(
        self: Rc<Self>,
        params: admin::UsersParams,
        mut results: admin::UsersResults,
    ) -> Result<(), Error> {
        let (_call, page) = self
            .answer(|admin| {
                let params = params.get()?;
                let cursor = fill::optional(params.get_cursor()?)?;
                Ok(admin.users(cursor, fill::optional_number(params.get_limit())))
            })
            .await?;
        let mut to = results.get();
        to.set_next(page.next.as_deref().unwrap_or_default());
        let mut to = to.init_users(page.users.len() as u32);
        for (index, account) in page.users.iter().enumerate() {
            fill::account(account, to.reborrow().get(index as u32));
        }
        Ok(())
    }

    async fn sessions(
        self: Rc<Self>,
        params: admin::SessionsParams,
        mut results: admin::SessionsResults,
    ) -> Result<(), Error> {
        let (_call, sessions) = self
            .answer(|admin| Ok(admin.sessions(params.get()?.get_user()?.to_string()?)))
            .await?;
        let mut to = results.get().init_sessions(sessions.len() as u32);
        for (index, session) in sessions.iter().enumerate() {
            fill::session_view(session, to.reborrow().get(index as u32));
        }
        Ok(())
    }

    async fn rooms(
        self: Rc<Self>,
        params: admin::RoomsParams,
        mut results: admin::RoomsResults,
    ) -> Result<(), Error> {
        let (_call, page) = self
            .answer(|admin| {
                let params = params.get()?;
                let cursor = fill::optional(params.get_cursor()?)?;
                Ok(admin.rooms(cursor, fill::optional_number(params.get_limit())))
            })
            .await?;
        let mut to = results.get();
        to.set_next(page.next.as_deref().unwrap_or_default());
        let mut to = to.init_rooms(page.rooms.len() as u32);
        for (index, room) in page.rooms.iter().enumerate() {
            fill::room_view(room, to.reborrow().get(index as u32));
        }
        Ok(())
    }

    async fn promote(
        self: Rc<Self>,
        params: admin::PromoteParams,
        mut results: admin::PromoteResults,
    ) -> Result<(), Error> {
        let (_call, account) = self
            .answer(|admin| Ok(admin.promote(params.get()?.get_username()?.to_string()?)))
            .await?;
        fill::account(&account, results.get().init_user());
        Ok(())
    }

    async fn set_disabled(
        self: Rc<Self>,
        params: admin::SetDisabledParams,
        _: admin::SetDisabledResults,
    ) -> Result<(), Error> {
        let answer = self.answer(|admin| {
            let params = params.get()?;
            let username = params.get_username()?.to_string()?;
            Ok(admin.set_disabled(username, params.get_disabled()))
        });
        answer.await.map(drop)
    }

    async fn recovery_url(
        self: Rc<Self>,
        params: admin::RecoveryUrlParams,
        mut results: admin::RecoveryUrlResults,
    ) -> Result<(), Error> {
        let (_call, url) = self
            .answer(|admin| {
                let params = params.get()?;
                let username = params.get_username()?.to_string()?;
                Ok(admin.recovery_url(username, params.get_reset_second_factor()))
            })
            .await?;
        results.get().set_url(&url[..]);
        Ok(())
    }

    async fn setup_url(
        self: Rc<Self>,
        _: admin::SetupUrlParams,
        mut results: admin::SetupUrlResults,
    ) -> Result<(), Error> {
        let (_call, url) = self.answer(|admin| Ok(admin.setup_url())).await?;
        results.get().set_url(&url[..]);
        Ok(())
    }

    async fn audit(
        self: Rc<Self>,
        params: admin::AuditParams,
        mut results: admin::AuditResults,
    ) -> Result<(), Error> {
        let (_call, page) = self
            .answer(|admin| {
                let params = params.get()?;
                let query = AuditQuery {
                    since: Some(params.get_since())
                        .filter(|since| *since != 0)
                        .map(Timestamp),
                    actor: fill::optional(params.get_actor()?)?,
                    action: fill::optional(params.get_action()?)?,
                    cursor: fill::optional(params.get_cursor()?)?,
                };
                Ok(admin.audit(query))
            })
            .await?;
        let mut to = results.get();
        to.set_next(page.next.as_deref().unwrap_or_default());
        fill::texts(&page.entries, |count| to.init_entries(count));
        Ok(())
    }

    async fn reload(
        self: Rc<Self>,
        _: admin::ReloadParams,
        mut results: admin::ReloadResults,
    ) -> Result<(), Error> {
        let (_call, reloaded) = self.answer(|admin| Ok(admin.reload())).await?;
        let mut to = results.get();
        let mut changes = to.reborrow().init_changes(reloaded.changes.len() as u32);
        for (index, (key, applied)) in reloaded.changes.iter().enumerate() {
            let mut change = changes.reborrow().get(index as u32);
            change.set_key(key);
            change.set_applied(*applied);
        }
        fill::texts(&reloaded.faults, |count| to.init_faults(count));
        Ok(())
    }

    async fn erase_messages(
        self: Rc<Self>,
        params: admin::EraseMessagesParams,
        mut results: admin::EraseMessagesResults,
    ) -> Result<(), Error> {
        let (_call, erasure) = self
            .answer(|admin| {
                let params = params.get()?;
                let room = match params.get_room()?.is_empty() {
                    true => None,
                    false => Some(fill::room_of(params.get_room()?)?),
                };
                Ok(admin.erase_messages(params.get_user()?.to_string()?, room))
            })
            .await?;
        fill::erasure(&erasure, results.get().init_erasure());
        Ok(())
    }

    async fn erasures(
        self: Rc<Self>,
        _: admin::ErasuresParams,
        mut results: admin::ErasuresResults,
    ) -> Result<(), Error> {
        let (_call, erasures) = self.answer(|admin| Ok(admin.erasures())).await?;
        let mut to = results.get().init_erasures(erasures.len() as u32);
        for (index, erasure) in erasures.iter().enumerate() {
            fill::erasure(erasure, to.reborrow().get(index as u32));
        }
        Ok(())
    }

    async fn trace(
        self: Rc<Self>,
        params: admin::TraceParams,
        mut results: admin::TraceResults,
    ) -> Result<(), Error> {
        let (_call, trace) = self
            .answer(|admin| {
                let params = params.get()?;
                Ok(admin.trace(TraceQuery {
                    room: fill::room_of(params.get_room()?)?,
                    seq: Seq(params.get_seq()),
                    user: fill::optional(params.get_user()?)?,
                }))
            })
            .await?;
        results.get().set_trace(&trace[..]);
        Ok(())
    }

    async fn tail(
        self: Rc<Self>,
        params: admin::TailParams,
        mut results: admin::TailResults,
    ) -> Result<(), Error> {
        let handed = self.conn.hand_out()?;
        let (_call, tail) = self
            .answer(|admin| {
                let params = params.get()?;
                let room = fill::room_of(params.get_room()?)?;
                Ok(admin.tail(room, fill::start_of(params.get_start()?)?))
            })
            .await?;
        let sink = params.get()?.get_sink()?;
        let mut to = results.get();
        to.set_head(tail.head.0);
        to.set_first(tail.first.0);
        let subscription = SubscriptionImpl::begin(&self.conn, tail.feed, sink, handed);
        to.set_subscription(capnp_rpc::new_client(subscription));
        Ok(())
    }

    async fn export(
        self: Rc<Self>,
        params: admin::ExportParams,
        mut results: admin::ExportResults,
    ) -> Result<(), Error> {
        let handed = self.conn.hand_out()?;
        let (_call, export) = self
            .answer(|admin| {
                let params = params.get()?;
                if params.get_all() {
                    return Ok(admin.export(None));
                }
                let rooms = params.get_rooms()?.iter();
                let rooms = rooms.map(|room| fill::room_of(room?));
                Ok(admin.export(Some(rooms.collect::<Result<_, _>>()?)))
            })
            .await?;
        let export = ExportImpl::client(&self.conn, export, handed);
        results.get().set_export(export);
        Ok(())
    }

    async fn import(
        self: Rc<Self>,
        params: admin::ImportParams,
        mut results: admin::ImportResults,
    ) -> Result<(), Error> {
        let handed = self.conn.hand_out()?;
        let (_call, import) = self
            .answer(|admin| Ok(admin.import(options_of(params.get()?.get_options()?)?)))
            .await?;
        let import = ImportImpl::client(&self.conn, import, handed);
        results.get().set_import(import);
        Ok(())
    }
}

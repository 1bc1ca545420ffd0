//! Rooms on their way out and in, for the command line. What the gateway handed out lives on the client's thread and with
//! one connection: when that breaks, the export or import is over.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use stack_proto::gateway_capnp::{admin, export, import};
use stack_types::{Problem, RoomId};
use tokio::sync::{mpsc, oneshot};

use super::admin::problem;
use super::link::{Entered, Failure, Handle};
use super::read;
use crate::error::ClientError;
use crate::service::{Export, Exported, Import, ImportOptions, ImportReport, ImportedRoom};

/// Something that the gateway has handed out, and the way to it: one call after the other.
struct Held<Q, A> {
    /// Keeps the client's thread.
    _handle: Arc<Handle>,
    asked: mpsc::Sender<(Q, oneshot::Sender<Result<A, ClientError>>)>,
}

impl<Q: Send + 'static, A: Send + 'static> Held<Q, A> {
    /// Asks for it with `begin`, and keeps it until this is dropped or the connection breaks.
    async fn begin<C: 'static>(
        handle: &Arc<Handle>,
        begin: impl FnOnce(&Entered) -> LocalBoxFuture<'static, Result<C, Failure>> + Send + 'static,
        call: impl Fn(&C, Q) -> LocalBoxFuture<'static, Result<A, Failure>> + Send + 'static,
    ) -> Result<Self, ClientError> {
        let (asked, mut questions) = mpsc::channel::<(Q, oneshot::Sender<_>)>(1);
        let (tell, told) = oneshot::channel();
        handle
            .on_thread(move |link| {
                let of_task = link.clone();
                link.spawn(async move {
                    let entered = of_task.entered(None).await;
                    let (entered, generation) = match entered {
                        Ok(entered) => entered,
                        Err(error) => return drop(tell.send(Err(error))),
                    };
                    let begun = tokio::select! {
                        biased;
                        begun = begin(&entered) => begun,
                        () = of_task.gone(generation) => Err(Failure::Lost),
                    };
                    drop(entered);
                    let held = match begun {
                        Ok(held) => held,
                        Err(failure) => return drop(tell.send(Err(failure.into()))),
                    };
                    if tell.send(Ok(())).is_err() {
                        return;
                    }
                    while let Some((question, reply)) = questions.recv().await {
                        let answer = tokio::select! {
                            biased;
                            answer = call(&held, question) => answer,
                            () = of_task.gone(generation) => Err(Failure::Lost),
                        };
                        // Who asked may have gone.
                        let _ = reply.send(answer.map_err(ClientError::from));
                    }
                });
                async { Ok(()) }.boxed_local()
            })
            .await?;
        told.await.map_err(|_| ClientError::Closed)??;
        Ok(Self {
            _handle: handle.clone(),
            asked,
        })
    }

    async fn ask(&self, question: Q) -> Result<A, Problem> {
        let (reply, answer) = oneshot::channel();
        let sent = self.asked.send((question, reply)).await;
        let answer = match sent {
            Ok(()) => answer.await.unwrap_or(Err(ClientError::Broken)),
            Err(_) => Err(ClientError::Broken),
        };
        answer.map_err(problem)
    }
}

struct HeldExport(Held<(), Exported>);

pub(super) async fn export(
    handle: &Arc<Handle>,
    rooms: Option<Vec<RoomId>>,
) -> Result<Box<dyn Export>, ClientError> {
    let begin = move |entered: &Entered| match entered.admin() {
        Ok(admin) => ask_for_export(&admin, rooms).boxed_local(),
        Err(failure) => std::future::ready(Err(failure)).boxed_local(),
    };
    let held = Held::begin(handle, begin, |export: &export::Client, ()| {
        let request = export.next_request();
        async move {
            let response = request.send().promise.await?;
            let piece = response.get()?;
            Ok(Exported {
                lines: piece.get_lines()?.to_vec(),
                done: piece.get_done(),
                total: piece.get_total(),
            })
        }
        .boxed_local()
    });
    Ok(Box::new(HeldExport(held.await?)))
}

fn ask_for_export(
    admin: &admin::Client,
    rooms: Option<Vec<RoomId>>,
) -> impl Future<Output = Result<export::Client, Failure>> + 'static {
    let mut request = admin.export_request();
    let mut params = request.get();
    params.set_all(rooms.is_none());
    let rooms = rooms.unwrap_or_default();
    let mut to = params.init_rooms(rooms.len() as u32);
    for (index, room) in rooms.iter().enumerate() {
        to.set(index as u32, room.as_str());
    }
    async move { Ok(request.send().promise.await?.get()?.get_export()?) }
}

impl Export for HeldExport {
    fn next(&mut self) -> BoxFuture<'_, Result<Exported, Problem>> {
        self.0.ask(()).boxed()
    }
}

/// Lines, or `None` behind the last.
struct HeldImport(Held<Option<Vec<u8>>, ImportReport>);

pub(super) async fn import(
    handle: &Arc<Handle>,
    options: ImportOptions,
) -> Result<Box<dyn Import>, ClientError> {
    let begin = move |entered: &Entered| match entered.admin() {
        Ok(admin) => ask_for_import(&admin, &options).boxed_local(),
        Err(failure) => std::future::ready(Err(failure)).boxed_local(),
    };
    let held = Held::begin(
        handle,
        begin,
        |import: &import::Client, lines| match lines {
            Some(lines) => take_lines(import, lines).boxed_local(),
            None => finish(import).boxed_local(),
        },
    );
    Ok(Box::new(HeldImport(held.await?)))
}

fn ask_for_import(
    admin: &admin::Client,
    options: &ImportOptions,
) -> impl Future<Output = Result<import::Client, Failure>> + 'static {
    let mut request = admin.import_request();
    let mut params = request.get().init_options();
    let ImportOptions {
        as_id,
        new_ids,
        owner,
        with_roles,
        match_names,
    } = options;
    params.set_as_id(as_id.as_deref().unwrap_or_default());
    params.set_new_ids(*new_ids);
    params.set_owner(owner.as_deref().unwrap_or_default());
    params.set_with_roles(*with_roles);
    params.set_match_names(*match_names);
    async move { Ok(request.send().promise.await?.get()?.get_import()?) }
}

fn take_lines(
    import: &import::Client,
    lines: Vec<u8>,
) -> impl Future<Output = Result<ImportReport, Failure>> + 'static {
    let mut request = import.lines_request();
    request.get().set_lines(&lines);
    async move {
        request.send().promise.await?;
        Ok(ImportReport::default())
    }
}

fn finish(
    import: &import::Client,
) -> impl Future<Output = Result<ImportReport, Failure>> + 'static {
    let request = import.finish_request();
    async move {
        let response = request.send().promise.await?;
        let report = response.get()?.get_report()?;
        let mut rooms = Vec::new();
        for room in report.get_rooms()? {
            rooms.push(ImportedRoom {
                from: room.get_from()?.to_string()?,
                id: read::parsed(room.get_id()?)?,
                events: room.get_events(),
                has_owner: room.get_has_owner(),
            });
        }
        Ok(ImportReport {
            rooms,
            events: report.get_events(),
            matched: report.get_matched(),
            placeholders: report.get_placeholders(),
        })
    }
}

impl Import for HeldImport {
    fn lines(&mut self, lines: Vec<u8>) -> BoxFuture<'_, Result<(), Problem>> {
        async move { self.0.ask(Some(lines)).await.map(drop) }.boxed()
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<ImportReport, Problem>> {
        self.0.ask(None).boxed()
    }
}

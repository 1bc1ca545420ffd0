//! Rooms on their way out and in: the interfaces `Export` and `Import`.

use std::rc::Rc;

use capnp::Error;
use stack_proto::gateway_capnp::{export, import, import_options, import_report};
use tokio::sync::Mutex;

use super::fill;
use crate::server::{Conn, Handed};
use crate::service::{Export, Import, ImportOptions, ImportReport};

/// An export that a peer holds.
pub(super) struct ExportImpl {
    conn: Rc<Conn>,
    export: Mutex<Box<dyn Export>>,
    _handed: Handed,
}

impl ExportImpl {
    pub(super) fn client(
        conn: &Rc<Conn>,
        export: Box<dyn Export>,
        handed: Handed,
    ) -> export::Client {
        capnp_rpc::new_client(Self {
            conn: conn.clone(),
            export: Mutex::new(export),
            _handed: handed,
        })
    }
}

impl export::Server for ExportImpl {
    async fn next(
        self: Rc<Self>,
        _: export::NextParams,
        mut results: export::NextResults,
    ) -> Result<(), Error> {
        let _call = self.conn.begin()?;
        let mut export = self.export.lock().await;
        // Lines are read when they can be passed on.
        self.conn.gate.writable().await;
        let piece = self.conn.settle(export.next().await)?;
        self.conn.gate.owe(piece.lines.len());
        let mut to = results.get();
        to.set_lines(&piece.lines);
        to.set_done(piece.done);
        to.set_total(piece.total);
        Ok(())
    }
}

/// An import that a peer holds.
pub(super) struct ImportImpl {
    conn: Rc<Conn>,
    import: Mutex<Box<dyn Import>>,
    _handed: Handed,
}

impl ImportImpl {
    pub(super) fn client(
        conn: &Rc<Conn>,
        import: Box<dyn Import>,
        handed: Handed,
    ) -> import::Client {
        capnp_rpc::new_client(Self {
            conn: conn.clone(),
            import: Mutex::new(import),
            _handed: handed,
        })
    }
}

impl import::Server for ImportImpl {
    async fn lines(
        self: Rc<Self>,
        params: import::LinesParams,
        _: import::LinesResults,
    ) -> Result<(), Error> {
        let _call = self.conn.begin()?;
        let mut import = self.import.lock().await;
        let lines = params.get()?.get_lines()?.to_vec();
        self.conn.settle(import.lines(lines).await)
    }

    async fn finish(
        self: Rc<Self>,
        _: import::FinishParams,
        mut results: import::FinishResults,
    ) -> Result<(), Error> {
        let _call = self.conn.begin()?;
        let mut import = self.import.lock().await;
        let report = self.conn.settle(import.finish().await)?;
        report_to(&report, results.get().init_report());
        Ok(())
    }
}

pub(super) fn options_of(from: import_options::Reader<'_>) -> Result<ImportOptions, Error> {
    Ok(ImportOptions {
        as_id: fill::optional(from.get_as_id()?)?,
        new_ids: from.get_new_ids(),
        owner: fill::optional(from.get_owner()?)?,
        with_roles: from.get_with_roles(),
        match_names: from.get_match_names(),
    })
}

fn report_to(report: &ImportReport, mut to: import_report::Builder<'_>) {
    let ImportReport {
        rooms,
        events,
        matched,
        placeholders,
    } = report;
    to.set_events(*events);
    to.set_matched(*matched);
    to.set_placeholders(*placeholders);
    let mut to = to.init_rooms(rooms.len() as u32);
    for (index, room) in rooms.iter().enumerate() {
        let mut to = to.reborrow().get(index as u32);
        to.set_from(&room.from[..]);
        to.set_id(room.id.as_str());
        to.set_events(room.events);
        to.set_has_owner(room.has_owner);
    }
}

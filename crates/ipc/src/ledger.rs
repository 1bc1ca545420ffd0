//! What a peer has the library remember: a call until it is answered, and an answer until the peer is done with it. Its
//! tables have no bound, so what is in them is counted here, and a connection that leaves too much there is ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use capnp::Error;
use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::{call, message};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Connection, FlowController, IncomingMessage, OutgoingMessage, VatNetwork};
use futures_util::TryFutureExt as _;
use stack_types::{ErrorCode, Problem};

use crate::refusal::exception;
use crate::wire::Gate;

/// What a call, or an answer, costs beside its bytes: its place in the tables, and what it gave.
const EACH_BYTES: usize = 4 * 1024;
/// What a program may leave: four thousand answers that it is not done with.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// What an edge may, which calls for everybody who is connected to it.
const MOST_BYTES_OF_EDGE: usize = 512 * 1024 * 1024;

/// The account of one connection.
pub(crate) struct Ledger {
    gate: Rc<Gate>,
    most: Cell<usize>,
    total: Cell<usize>,
    /// By the number that the peer has given to the call.
    entries: RefCell<HashMap<u32, usize>>,
}

impl Ledger {
    pub(crate) fn new(gate: Rc<Gate>) -> Rc<Self> {
        Rc::new(Self {
            gate,
            most: Cell::new(MOST_BYTES),
            total: Cell::new(0),
            entries: RefCell::default(),
        })
    }

    /// The connection is an edge's.
    pub(crate) fn is_of_edge(&self) {
        self.most.set(MOST_BYTES_OF_EDGE);
    }

    fn set(&self, question: u32, bytes: usize) {
        let before = self.entries.borrow_mut().insert(question, bytes);
        self.total
            .set(self.total.get() - before.unwrap_or(0) + bytes);
    }

    fn remove(&self, question: u32) {
        let before = self.entries.borrow_mut().remove(&question);
        self.total.set(self.total.get() - before.unwrap_or(0));
    }

    /// A message has come.
    fn came(&self, message: &dyn IncomingMessage) -> Result<(), Error> {
        let bytes = EACH_BYTES + self.gate.take_read();
        let question = match message.get_body()?.get_as::<message::Reader<'_>>()?.which() {
            Ok(message::Bootstrap(bootstrap)) => bootstrap?.get_question_id(),
            Ok(message::Call(call)) => {
                let call = call?;
                // What is not sent would be kept, however long it is.
                if !matches!(
                    call.get_send_results_to().which(),
                    Ok(call::send_results_to::Caller(()))
                ) {
                    let detail = "results are sent to who calls";
                    return Err(exception(&Problem::new(ErrorCode::BadRequest, detail)));
                }
                call.get_question_id()
            }
            Ok(message::Finish(finish)) => {
                self.remove(finish?.get_question_id());
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.set(question, bytes);
        if self.total.get() > self.most.get() {
            let detail = "too many calls and answers are not finished";
            return Err(exception(&Problem::new(ErrorCode::LimitExceeded, detail)));
        }
        Ok(())
    }

    /// A message goes out.
    fn goes(&self, message: &dyn OutgoingMessage) -> Result<(), Error> {
        let body = message.get_body_as_reader()?;
        if let Ok(message::Return(answer)) = body.get_as::<message::Reader<'_>>()?.which() {
            let answer = answer?;
            let question = answer.get_answer_id();
            if answer.get_no_finish_needed() {
                self.remove(question);
            } else if self.entries.borrow().contains_key(&question) {
                self.set(question, EACH_BYTES + message.size_in_words() * 8);
            }
        }
        Ok(())
    }
}

/// A network, or its connection, whose account is kept.
pub(crate) struct Kept<T> {
    inner: T,
    ledger: Rc<Ledger>,
}

impl<T> Kept<T> {
    pub(crate) fn new(inner: T, ledger: Rc<Ledger>) -> Self {
        Self { inner, ledger }
    }
}

impl<N: VatNetwork<Side>> VatNetwork<Side> for Kept<N> {
    fn connect(&mut self, host_id: Side) -> Option<Box<dyn Connection<Side>>> {
        self.inner.connect(host_id)
    }

    fn accept(&mut self) -> Promise<Box<dyn Connection<Side>>, Error> {
        let ledger = self.ledger.clone();
        let kept = move |connection| -> Box<dyn Connection<Side>> {
            Box::new(Kept::new(connection, ledger))
        };
        Promise::from_future(self.inner.accept().map_ok(kept))
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), Error> {
        self.inner.drive_until_shutdown()
    }
}

impl Connection<Side> for Kept<Box<dyn Connection<Side>>> {
    fn get_peer_vat_id(&self) -> Side {
        self.inner.get_peer_vat_id()
    }

    fn new_outgoing_message(&mut self, first_segment_word_size: u32) -> Box<dyn OutgoingMessage> {
        let message = self.inner.new_outgoing_message(first_segment_word_size);
        Box::new(Kept::new(message, self.ledger.clone()))
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn IncomingMessage>>, Error> {
        let ledger = self.ledger.clone();
        let message = self.inner.receive_incoming_message();
        Promise::from_future(message.and_then(async move |message| {
            if let Some(message) = &message {
                ledger.came(&**message)?;
            }
            Ok(message)
        }))
    }

    fn new_stream(&mut self) -> (Box<dyn FlowController>, Promise<(), Error>) {
        self.inner.new_stream()
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), Error> {
        self.inner.shutdown(result)
    }
}

impl OutgoingMessage for Kept<Box<dyn OutgoingMessage>> {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.inner.get_body()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.inner.get_body_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), Error>, Rc<Builder<HeapAllocator>>) {
        // The library has just written it.
        if let Err(error) = self.ledger.goes(&*self.inner) {
            tracing::error!(%error, "a message of ours cannot be read: {error}");
        }
        self.inner.send()
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.inner.take()
    }

    fn size_in_words(&self) -> usize {
        self.inner.size_in_words()
    }
}

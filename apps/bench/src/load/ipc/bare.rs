//! A bare loop over the RPC library, as its documentation has it: events from memory to a streaming sink, and calls that
//! are answered at once.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures_util::StreamExt as _;
use futures_util::io::{BufReader, BufWriter};
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use stack_proto::capnp::{event_from, event_to};
use stack_proto::gateway_capnp::{gateway, session, sink, subscription};
use stack_types::{Event, EventBody, Seq, Timestamp, UserId};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::dialect::BODY_BYTES;
use crate::latency::Latencies;

/// The other process.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerOptions {
    /// Where to listen.
    #[arg(long)]
    socket: PathBuf,
    /// Events in a message.
    #[arg(long)]
    batch: u32,
}

fn rpc(
    stream: UnixStream,
    side: Side,
    bootstrap: Option<capnp::capability::Client>,
) -> RpcSystem<Side> {
    let (reading, writing) = stream.into_split();
    let network = twoparty::VatNetwork::new(
        BufReader::new(reading.compat()),
        BufWriter::new(writing.compat_write()),
        side,
        capnp::message::ReaderOptions::new(),
    );
    RpcSystem::new(Box::new(network), bootstrap)
}

/// Serves one connection after the other.
///
/// # Errors
/// It cannot listen.
pub(crate) fn serve(options: &ServerOptions) -> Result<()> {
    let runtime = super::runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = UnixListener::bind(&options.socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let bare: gateway::Client = capnp_rpc::new_client(Bare(options.batch));
            // What a loop like this says of errors does not matter.
            let _ = rpc(stream, Side::Server, Some(bare.client)).await;
        }
    })
}

struct Bare(u32);

impl gateway::Server for Bare {
    async fn login(
        self: Rc<Self>,
        _: gateway::LoginParams,
        mut results: gateway::LoginResults,
    ) -> Result<(), capnp::Error> {
        results
            .get()
            .set_session(capnp_rpc::new_client(BareSession(self.0)));
        Ok(())
    }
}

struct BareSession(u32);

impl session::Server for BareSession {
    async fn send(
        self: Rc<Self>,
        params: session::SendParams,
        mut results: session::SendResults,
    ) -> Result<(), capnp::Error> {
        let body = params.get()?.get_message()?.get_body()?.to_string()?;
        let mut place = results.get().init_place();
        place.set_room("bench");
        place.set_seq(body.len() as u64);
        Ok(())
    }

    async fn subscribe(
        self: Rc<Self>,
        params: session::SubscribeParams,
        mut results: session::SubscribeResults,
    ) -> Result<(), capnp::Error> {
        let sink = params.get()?.get_sink()?;
        let count = self.0;
        let pass_on = async move {
            let event = Event {
                room: "bench-ipc".parse().map_err(|_| broken())?,
                seq: Seq(1_000_000),
                ts: Timestamp(1_700_000_000_000),
                sender: UserId::generate(Timestamp(1_700_000_000_000)),
                body: EventBody::Message {
                    body: ".".repeat(BODY_BYTES),
                    data: None,
                    key: Some("0123456789abcdef0123456789abcdef".to_owned()),
                    reply_to: None,
                },
            };
            loop {
                let mut request = sink.events_request();
                let mut events = request.get().init_events(count);
                for index in 0..count {
                    event_to(&event, events.reborrow().get(index));
                }
                request.send().await?;
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_local(async move {
            let _: Result<(), capnp::Error> = pass_on.await;
        });
        results
            .get()
            .set_subscription(capnp_rpc::new_client(Held { _tasks: tasks }));
        Ok(())
    }
}

fn broken() -> capnp::Error {
    capnp::Error::failed("no room".to_owned())
}

struct Held {
    /// Ends with it.
    _tasks: tokio::task::JoinSet<()>,
}

impl subscription::Server for Held {}

/// Takes events as a client of Stack does: each into a value of its own.
struct Count(Rc<Cell<u64>>);

impl sink::Server for Count {
    async fn events(self: Rc<Self>, params: sink::EventsParams) -> Result<(), capnp::Error> {
        let events = params.get()?.get_events()?;
        let mut taken: Vec<Event> = Vec::with_capacity(events.len() as usize);
        for event in events.iter() {
            taken.push(event_from(event).map_err(|_| broken())?);
        }
        self.0.set(self.0.get() + taken.len() as u64);
        Ok(())
    }
}

/// Reads a gateway's room from its beginning to this event, again and again, by the client of the loop: events, and
/// seconds.
pub(super) fn read_gateway(
    socket: &Path,
    token: &str,
    room: &str,
    head: Seq,
    measure: Duration,
) -> Result<(u64, f64)> {
    let runtime = super::runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let stream = UnixStream::connect(socket).await?;
        let mut rpc = rpc(stream, Side::Client, None);
        let gateway: gateway::Client = rpc.bootstrap(Side::Server);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_local(rpc);
        let mut request = gateway.login_request();
        request.get().set_token(token);
        let session = request.send().pipeline.get_session();
        let (mut read, began) = (0, Instant::now());
        while began.elapsed() < measure {
            let count = Rc::new(Cell::new(0));
            let mut request = session.subscribe_request();
            let mut params = request.get();
            params.set_room(room);
            params.reborrow().init_start().set_after(0);
            params.set_sink(capnp_rpc::new_client(Count(count.clone())));
            let _held = request.send().promise.await?;
            while count.get() < head.0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            read += count.get();
        }
        Ok((read, began.elapsed().as_secs_f64()))
    })
}

/// Measures the loop.
pub(super) fn measure(socket: &Path, measure: Duration, in_flight: usize) -> Result<Value> {
    let runtime = super::runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let stream = UnixStream::connect(socket).await?;
        let mut rpc = rpc(stream, Side::Client, None);
        let gateway: gateway::Client = rpc.bootstrap(Side::Server);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_local(rpc);
        let session = gateway.login_request().send().pipeline.get_session();

        let mut alone = Latencies::new()?;
        let until = Instant::now() + measure;
        while Instant::now() < until {
            let began = Instant::now();
            call(&session).await?;
            alone.record(began.elapsed().as_nanos() as u64);
        }
        let (mut calls, began) = (0_u64, Instant::now());
        let mut under_way = FuturesUnordered::new();
        while began.elapsed() < measure {
            while under_way.len() < in_flight {
                under_way.push(call(&session));
            }
            under_way.next().await.context("no calls")??;
            calls += 1;
        }
        while let Some(done) = under_way.next().await {
            done?;
        }
        let calls_per_s = calls as f64 / began.elapsed().as_secs_f64();

        let count = Rc::new(Cell::new(0));
        let mut request = session.subscribe_request();
        let taker: sink::Client = capnp_rpc::new_client(Count(count.clone()));
        request.get().set_sink(taker);
        let _held = request.send().promise.await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (before, began) = (count.get(), Instant::now());
        tokio::time::sleep(measure).await;
        let events = count.get() - before;
        let events_per_s = events as f64 / began.elapsed().as_secs_f64();
        Ok(json!({
            "bytes": BODY_BYTES,
            "calls_per_s": calls_per_s,
            "in_flight": in_flight,
            "call_alone": alone.summary(),
            "events_per_s": events_per_s,
        }))
    })
}

async fn call(session: &session::Client) -> Result<(), capnp::Error> {
    let mut request = session.send_request();
    let mut params = request.get();
    params.set_room("bench-ipc");
    params.init_message().set_body(&".".repeat(BODY_BYTES)[..]);
    request.send().promise.await?.get()?.get_place()?.get_seq();
    Ok(())
}

//! The two ends over a real socket, with a service that goes wrong where it is told to.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use stack_ipc::service::{
    Account, Admin, Answer, Cursor, Fed, Feed, LoggedIn, Page, Peer, Place, Room, RoomPresence,
    Say, Service, Session, Start, Subscribed, Version,
};
use stack_ipc::{Client, ClientConfig, ClientError, Delivery, IpcLimits, Server, ServerConfig};
use stack_proto::JsonCodec;
use stack_types::{
    ErrorCode, Event, EventBody, EventCodec as _, FramesBuilder, Problem, RoomId, RoomRole, Seq,
    Timestamp, UserId,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);
const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// What goes wrong, and how often it still does.
#[derive(Clone, Default)]
struct Faults {
    feeds: Arc<AtomicUsize>,
    /// Sessions and feeds that are there.
    held: Arc<AtomicUsize>,
}

/// Counts what is there.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(faults: &Faults) -> Self {
        faults.held.fetch_add(1, Ordering::SeqCst);
        Self(faults.held.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Faulty(Faults);

struct FaultySession(Faults, #[expect(dead_code, reason = "counts")] Held);

struct Counting {
    faults: Faults,
    after: u64,
    _held: Held,
}

impl Service for Faulty {
    fn login(&self, token: String, _: Peer) -> Answer<LoggedIn> {
        let logged_in = match &token[..] {
            "good" => Ok(LoggedIn {
                session: Arc::new(FaultySession(self.0.clone(), Held::new(&self.0))),
                user_id: UserId::generate(NOW),
                scopes: vec!["read".to_owned()],
            }),
            _ => Err(Problem::new(ErrorCode::Unauthenticated, "a wrong token")),
        };
        ready(logged_in).boxed()
    }

    fn operator(&self, _: Peer) -> Result<Arc<dyn Admin>, Problem> {
        Err(Problem::forbidden("nobody"))
    }

    fn version(&self) -> Version {
        Version {
            version: "1".to_owned(),
            commit: String::new(),
            protocols: vec![],
        }
    }
}

fn nothing<T: Send + 'static>() -> Answer<T> {
    ready(Err(Problem::not_found("nothing"))).boxed()
}

impl Session for FaultySession {
    fn say(&self, room: RoomId, say: Say) -> Answer<Place> {
        assert!(!matches!(say, Say::Edit { .. }), "a fault of this test");
        let place = Place {
            room,
            seq: Seq(1),
            ts: NOW,
        };
        ready(Ok(place)).boxed()
    }

    fn history(&self, _: RoomId, _: Cursor, _: Option<u32>) -> Answer<Page> {
        // Never answered: it is under way for as long as its connection lasts.
        std::future::pending().boxed()
    }

    fn subscribe(&self, _: RoomId, start: Start) -> Answer<Subscribed> {
        let after = match start {
            Start::Live => 0,
            Start::After(seq) => seq.0,
        };
        ready(Ok(Subscribed {
            head: Seq::ZERO,
            first: Seq::FIRST,
            role: RoomRole::Member,
            read_seq: Seq::ZERO,
            feed: Box::new(Counting {
                faults: self.0.clone(),
                after,
                _held: Held::new(&self.0),
            }),
        }))
        .boxed()
    }

    fn presence(&self, _: RoomId) -> Answer<RoomPresence> {
        nothing()
    }

    fn rooms(&self) -> Answer<Vec<Room>> {
        ready(Ok(vec![])).boxed()
    }

    fn join(&self, _: RoomId) -> Answer<RoomRole> {
        nothing()
    }

    fn leave(&self, _: RoomId) -> Answer<()> {
        nothing()
    }

    fn read(&self, _: RoomId, _: Seq) -> Answer<()> {
        nothing()
    }

    fn user(&self, _: UserId) -> Answer<Account> {
        nothing()
    }

    fn admin(&self) -> Result<Arc<dyn Admin>, Problem> {
        Err(Problem::forbidden("nobody"))
    }
}

impl Feed for Counting {
    fn next(&mut self) -> BoxFuture<'_, Option<Fed>> {
        async move {
            // Each feed gives some events and then goes wrong.
            let given = self.after % 1000;
            if given >= 700 && self.faults.feeds.load(Ordering::SeqCst) > 0 {
                self.faults.feeds.fetch_sub(1, Ordering::SeqCst);
                panic!("a fault of this test");
            }
            let mut frames = FramesBuilder::with_capacity(0);
            for _ in 0..100 {
                self.after += 1;
                let mut json = Vec::new();
                JsonCodec.encode(&event(self.after), &mut json);
                frames.push(&json);
            }
            Some(Fed::Events(frames.finish()))
        }
        .boxed()
    }
}

fn event(seq: u64) -> Event {
    Event {
        room: room(),
        seq: Seq(seq),
        ts: NOW,
        sender: UserId::generate(NOW),
        body: EventBody::Message {
            body: format!("number {seq}"),
            data: None,
            key: None,
            reply_to: None,
        },
    }
}

fn room() -> RoomId {
    "general".parse().unwrap()
}

struct Running {
    server: Server,
    faults: Faults,
    stop: CancellationToken,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(limits: IpcLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let (stop, faults) = (CancellationToken::new(), Faults::default());
        let config = ServerConfig {
            path: path.clone(),
            limits,
            origin: None,
            draining: stop.clone(),
            stopping: CancellationToken::new(),
        };
        let server = Server::start(config, Arc::new(Faulty(faults.clone()))).unwrap();
        Self {
            server,
            faults,
            stop,
            path,
            _folder: folder,
        }
    }

    async fn client(&self) -> Client {
        let config = ClientConfig::new(&self.path, "good");
        timeout(PATIENCE, Client::connect(config))
            .await
            .unwrap()
            .unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.server.ended()).await.unwrap();
    }

    /// Waits until nothing is held any more.
    async fn forgotten(&self) {
        let none = async {
            while self.faults.held.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, none).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_panics_ends_its_connection_alone() {
    let running = Running::start(IpcLimits::default());
    let (one, other) = (running.client().await, running.client().await);
    let broken = one.edit(&room(), Seq(1), "a fault").await.unwrap_err();
    assert!(matches!(broken, ClientError::Broken), "{broken}");
    assert!(other.rooms().await.unwrap().is_empty());
    // It has connected again by itself.
    assert!(one.rooms().await.unwrap().is_empty());
    drop((one, other));
    running.forgotten().await;
    running.stop().await;
}

#[tokio::test]
async fn a_subscription_goes_on_where_a_panic_has_ended_it() {
    let running = Running::start(IpcLimits::default());
    running.faults.feeds.store(3, Ordering::SeqCst);
    let client = running.client().await;
    let after = Start::After(Seq::ZERO);
    let mut subscription = client.subscribe(&room(), after).await.unwrap();
    let mut last = 0;
    while last < 10_000 {
        match timeout(PATIENCE, subscription.next()).await.unwrap() {
            Some(Delivery::Events(events)) => {
                for taken in events {
                    last += 1;
                    assert_eq!(taken, event(last).with_sender(&taken));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(running.faults.feeds.load(Ordering::SeqCst), 0);
    drop((client, subscription));
    running.forgotten().await;
    running.stop().await;
}

trait WithSender {
    fn with_sender(self, of: &Event) -> Event;
}

impl WithSender for Event {
    /// Senders are made up anew.
    fn with_sender(self, of: &Event) -> Event {
        Event {
            sender: of.sender,
            ..self
        }
    }
}

#[tokio::test]
async fn who_does_not_take_events_is_given_no_more() {
    let running = Running::start(IpcLimits::default());
    let client = running.client().await;
    let mut stalled = client.subscribe(&room(), Start::Live).await.unwrap();
    let mut reading = client.subscribe(&room(), Start::Live).await.unwrap();
    // The feed has no end: one that is not held up would fill the memory.
    for _ in 0..200 {
        timeout(PATIENCE, reading.next()).await.unwrap().unwrap();
    }
    let Some(Delivery::Events(events)) = timeout(PATIENCE, stalled.next()).await.unwrap() else {
        panic!("no events");
    };
    assert_eq!(events[0].seq, Seq(1));
    drop((client, stalled, reading));
    running.forgotten().await;
    running.stop().await;
}

#[tokio::test]
async fn what_a_client_holds_goes_with_it_and_wrong_tokens_are_final() {
    let running = Running::start(IpcLimits::default());
    let mut config = ClientConfig::new(&running.path, "good");
    config.call_within = Duration::from_millis(300);
    let client = Client::connect(config).await.unwrap();
    let room = room();
    let endless = client.history(&room, Cursor::Newest, None);
    assert!(endless.await.is_err());
    let refused = Client::connect(ClientConfig::new(&running.path, "bad")).await;
    let code = refused.unwrap_err().code();
    assert_eq!(code, Some(ErrorCode::Unauthenticated));
    drop(client);
    running.forgotten().await;
    running.stop().await;
}

/// Calls, and what else is asked for, by their numbers.
mod asking {
    use capnp::message::Builder;
    use capnp::serialize::write_message_to_words;
    use capnp::traits::HasTypeId as _;
    use capnp_rpc::rpc_capnp::message;
    use stack_proto::gateway_capnp::gateway;

    pub(super) fn bootstrap(question: u32) -> Vec<u8> {
        let mut builder = Builder::new_default();
        let mut bootstrap = builder.init_root::<message::Builder<'_>>().init_bootstrap();
        bootstrap.set_question_id(question);
        write_message_to_words(&builder)
    }

    /// A login whose session is never let go of.
    pub(super) fn login(question: u32) -> Vec<u8> {
        let mut builder = Builder::new_default();
        let mut call = builder.init_root::<message::Builder<'_>>().init_call();
        call.set_question_id(question);
        call.set_interface_id(gateway::Client::TYPE_ID);
        call.set_method_id(0);
        let params = call.reborrow().init_params().init_content();
        params
            .init_as::<gateway::login_params::Builder<'_>>()
            .set_token("good");
        call.init_target().init_promised_answer().set_question_id(0);
        write_message_to_words(&builder)
    }

    /// Of the version, which stays at the server.
    pub(super) fn version_to_itself(question: u32) -> Vec<u8> {
        let mut builder = Builder::new_default();
        let mut call = builder.init_root::<message::Builder<'_>>().init_call();
        call.set_question_id(question);
        call.set_interface_id(gateway::Client::TYPE_ID);
        call.set_method_id(2);
        call.reborrow().get_send_results_to().set_yourself(());
        call.init_target().init_promised_answer().set_question_id(0);
        write_message_to_words(&builder)
    }
}

/// Says all of this and gives what is answered until the connection ends.
async fn until_the_end(running: &Running, asked: Vec<u8>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let stream = tokio::net::UnixStream::connect(&running.path)
        .await
        .unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let mut answered = Vec::new();
    // Where it is ended not everything is taken.
    let (_, read) = tokio::join!(
        writing.write_all(&asked),
        timeout(Duration::from_secs(5), reading.read_to_end(&mut answered)),
    );
    let _ = read.expect("the connection goes on");
    String::from_utf8_lossy(&answered).into_owned()
}

#[tokio::test]
async fn who_is_never_done_with_answers_is_ended() {
    let running = Running::start(IpcLimits::default());
    let other = running.client().await;
    let asked = (0..20_000).flat_map(asking::bootstrap).collect();
    let answered = until_the_end(&running, asked).await;
    assert!(answered.contains("limit_exceeded"), "{}", answered.len());
    assert!(other.rooms().await.unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn answers_are_not_kept_for_who_does_not_want_them_sent() {
    let running = Running::start(IpcLimits::default());
    let asked = [asking::bootstrap(0), asking::version_to_itself(1)].concat();
    let answered = until_the_end(&running, asked).await;
    assert!(answered.contains("bad_request"), "{answered}");
    running.stop().await;
}

#[tokio::test]
async fn what_a_connection_holds_is_bounded_and_goes_with_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let running = Running::start(IpcLimits::default());
    let logins = (1..3000).flat_map(asking::login);
    let asked: Vec<u8> = asking::bootstrap(0).into_iter().chain(logins).collect();
    let stream = tokio::net::UnixStream::connect(&running.path)
        .await
        .unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let refused = async {
        let mut answered = Vec::new();
        while !String::from_utf8_lossy(&answered).contains("holds at most") {
            answered.clear();
            answered.resize(1 << 20, 0);
            let length = reading.read(&mut answered).await.unwrap();
            assert!(length > 0, "ended");
            answered.truncate(length);
        }
    };
    // Where answers are not read any more, no more is taken.
    let writes = async {
        writing.write_all(&asked).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        refused = timeout(PATIENCE, refused) => refused.expect("nothing is refused"),
        () = writes => {}
    }
    assert!(running.faults.held.load(Ordering::SeqCst) <= 2048);
    drop((reading, writing));
    running.forgotten().await;
    running.stop().await;
}

//! The client's thread: one connection after the other, and the calls that are made over them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::ErrorKind;
use capnp::message::ReaderOptions;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::io::BufReader;
use stack_proto::gateway_capnp::{admin, gateway, session};
use stack_types::{ErrorCode, Problem};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Who, is_final, read};
use crate::error::ClientError;
use crate::listener;
use crate::service::Version;
use crate::wire::{Gate, GatedReader, Out, Writer, drive};

/// The pause in front of the second attempt to connect. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A gateway that listens has so long to answer the login.
const LOGIN_WITHIN: Duration = Duration::from_secs(20);
/// What was said last has so long to go out.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What is read from the kernel at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest message that is taken: a page of history is at most 900 KiB of JSON.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How the client shows who it is.
pub(super) enum Entrance {
    /// A bot's token.
    Token(String),
    /// By the user that it runs as.
    Operator,
}

/// Whether a call that broke is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calling {
    /// Done twice it is done once.
    Again,
    /// It may have been done.
    Once,
}

/// Why an attempt at a call came to nothing.
pub(super) enum Failure {
    Refused(Problem),
    /// The connection broke.
    Lost,
    Malformed(String),
}

impl From<capnp::Error> for Failure {
    fn from(error: capnp::Error) -> Self {
        match crate::refusal::problem_of(&error) {
            Some(problem) => Self::Refused(problem),
            None if error.kind == ErrorKind::Disconnected => Self::Lost,
            None => Self::Malformed(error.to_string()),
        }
    }
}

impl From<capnp::NotInSchema> for Failure {
    fn from(error: capnp::NotInSchema) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<stack_proto::capnp::Unreadable> for Failure {
    fn from(error: stack_proto::capnp::Unreadable) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(problem) => Self::Refused(problem),
            Failure::Lost => Self::Broken,
            Failure::Malformed(detail) => Self::Malformed(detail),
        }
    }
}

/// What a connection gives once it is entered.
pub(super) struct Entered {
    pub(super) gateway: gateway::Client,
    pub(super) session: Option<session::Client>,
    admin: Option<admin::Client>,
    who: Option<Who>,
    /// Ends the connection.
    lost: CancellationToken,
}

impl Entered {
    /// The interface for admins: the operator's, or the bot's.
    pub(super) fn admin(&self) -> Result<admin::Client, Failure> {
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        let session = self.session.as_ref();
        let session =
            session.ok_or_else(|| Failure::Malformed("there is no session".to_owned()))?;
        // Not waited for: calls go along with the question.
        Ok(session.admin_request().send().pipeline.get_admin())
    }
}

type Job = Box<dyn FnOnce(&Rc<Link>) + Send>;

/// The way to the client's thread, which ends when this is dropped.
pub(super) struct Handle {
    jobs: mpsc::UnboundedSender<Job>,
    call_within: Duration,
}

impl Handle {
    pub(super) fn start(
        path: PathBuf,
        entrance: Entrance,
        call_within: Duration,
    ) -> Result<Arc<Self>, ClientError> {
        let (jobs, work) = mpsc::unbounded_channel();
        let failed = |source| ClientError::Thread(Arc::new(source));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        std::thread::Builder::new()
            .name("ipc-client".into())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, run(path, entrance, work));
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Arc::new(Self { jobs, call_within }))
    }

    /// Waits until the connection is entered for the first time.
    pub(super) async fn entered(
        &self,
        within: Option<Duration>,
    ) -> Result<Option<Who>, ClientError> {
        let deadline = within.map(|within| Instant::now() + within);
        self.on_thread(move |link| {
            async move {
                let (entered, _) = link.entered(deadline).await?;
                Ok(entered.who.clone())
            }
            .boxed_local()
        })
        .await
    }

    /// Makes a call, once there is a connection.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        calling: Calling,
        ask: impl Fn(&Entered) -> LocalBoxFuture<'static, Result<T, Failure>> + Send + 'static,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.call_within;
        self.on_thread(move |link| {
            async move { link.call(calling, deadline, ask).await }.boxed_local()
        })
        .await
    }

    pub(super) async fn version(&self) -> Result<Version, ClientError> {
        self.call(Calling::Again, |entered| {
            let request = entered.gateway.version_request();
            async move { read::version(request.send().promise.await?.get()?) }.boxed_local()
        })
        .await
    }

    /// Does something on the client's thread.
    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(Rc<Link>) -> LocalBoxFuture<'static, Result<T, ClientError>> + Send + 'static,
    ) -> Result<T, ClientError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |link| {
            let work = work(link.clone());
            link.tasks.spawn_local(async move {
                // Who asked may have gone.
                let _ = reply.send(work.await);
            });
        });
        self.jobs.send(job).map_err(|_| ClientError::Closed)?;
        answer.await.map_err(|_| ClientError::Closed)?
    }
}

/// What the thread's tasks share.
pub(super) struct Link {
    path: PathBuf,
    entrance: Entrance,
    state: RefCell<State>,
    news: Notify,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    entered: Option<Rc<Entered>>,
    /// Counts connections.
    generation: u64,
    /// Why there will be none any more.
    over: Option<ClientError>,
    /// Why the last attempt failed.
    last: Option<String>,
}

async fn run(path: PathBuf, entrance: Entrance, mut work: mpsc::UnboundedReceiver<Job>) {
    let link = Rc::new(Link {
        path,
        entrance,
        state: RefCell::default(),
        news: Notify::new(),
        tasks: TaskTracker::new(),
    });
    link.tasks.spawn_local({
        let link = link.clone();
        async move { link.keep_connected().await }
    });
    while let Some(job) = work.recv().await {
        job(&link);
    }
    // The tasks end with their LocalSet.
}

impl Link {
    async fn keep_connected(self: Rc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect_once().await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(failure) => {
                    let (last, over) = match failure {
                        Failure::Refused(problem) if is_final(problem.code) => {
                            (None, Some(ClientError::Refused(problem)))
                        }
                        Failure::Refused(problem) => (Some(problem.to_string()), None),
                        Failure::Lost => (None, None),
                        Failure::Malformed(detail) => (Some(detail), None),
                    };
                    let mut state = self.state.borrow_mut();
                    if last.is_some() {
                        state.last = last;
                    }
                    state.over = over;
                }
            }
            if matches!(self.entrance, Entrance::Operator) {
                // Whoever sits in front of it wants to know.
                let mut state = self.state.borrow_mut();
                let last = state.last.clone().unwrap_or_else(|| "it went away".into());
                state.over.get_or_insert(ClientError::Unreachable(last));
            }
            if self.state.borrow().over.is_some() {
                self.news.notify_waiters();
                return;
            }
            sleep(pause.mul_f64(jitter())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects, enters, and runs the connection until it ends. `Ok` when it was entered.
    async fn connect_once(&self) -> Result<(), Failure> {
        let stream = listener::connect(&self.path)
            .await
            .map_err(|error| Failure::Malformed(error.to_string()))?;
        let (reading, writing) = tokio::io::split(stream);
        let gate = Gate::new(usize::MAX);
        let out = Out::new(writing.compat_write(), gate.clone());
        let reader = BufReader::with_capacity(READ_BYTES, reading.compat());
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(MESSAGE_BYTES / 8));
        let network = twoparty::VatNetwork::new(
            GatedReader::new(reader, gate),
            Writer(out.clone()),
            Side::Client,
            options,
        );
        let mut rpc = RpcSystem::new(Box::new(network), None);
        let disconnector = rpc.get_disconnector();
        let gateway: gateway::Client = rpc.bootstrap(Side::Server);
        let lost = CancellationToken::new();
        let entered = {
            let driven = drive(&mut rpc, &out);
            tokio::select! {
                biased;
                entered = timeout(LOGIN_WITHIN, self.enter(gateway, lost.clone())) => match entered {
                    Ok(entered) => entered?,
                    Err(_) => return Err(Failure::Malformed("the gateway does not answer".to_owned())),
                },
                ended = driven => {
                    let why = ended.err().map_or_else(|| "it hung up".to_owned(), |error| error.to_string());
                    return Err(Failure::Malformed(why));
                }
            }
        };
        {
            let mut state = self.state.borrow_mut();
            state.generation += 1;
            state.entered = Some(Rc::new(entered));
        }
        self.news.notify_waiters();
        let ended = tokio::select! {
            ended = drive(&mut rpc, &out) => Some(ended),
            () = lost.cancelled() => None,
        };
        let is_running = ended.is_none();
        {
            let mut state = self.state.borrow_mut();
            state.entered = None;
            let why = ended.and_then(Result::err).map(|error| error.to_string());
            state.last = Some(why.unwrap_or_else(|| "it hung up".to_owned()));
        }
        self.news.notify_waiters();
        // What waits for the connection lets go of it only when it is ended, not when it is dropped.
        if is_running {
            let end = async { tokio::join!(drive(&mut rpc, &out), disconnector) };
            let _ = timeout(LAST_WORDS, end).await;
        }
        Ok(())
    }

    async fn enter(
        &self,
        gateway: gateway::Client,
        lost: CancellationToken,
    ) -> Result<Entered, Failure> {
        match &self.entrance {
            Entrance::Token(token) => {
                let mut request = gateway.login_request();
                request.get().set_token(&token[..]);
                let response = request.send().promise.await?;
                let answer = response.get()?;
                let who = Who {
                    user_id: read::parsed(answer.get_user_id()?)?,
                    scopes: read::texts(answer.get_scopes()?)?,
                };
                Ok(Entered {
                    session: Some(answer.get_session()?),
                    gateway,
                    admin: None,
                    who: Some(who),
                    lost,
                })
            }
            Entrance::Operator => {
                let response = gateway.operator_request().send().promise.await?;
                Ok(Entered {
                    admin: Some(response.get()?.get_admin()?),
                    gateway,
                    session: None,
                    who: None,
                    lost,
                })
            }
        }
    }

    /// The connection, and which one it is, as soon as there is one.
    pub(super) async fn entered(
        &self,
        deadline: Option<Instant>,
    ) -> Result<(Rc<Entered>, u64), ClientError> {
        loop {
            let news = self.news.notified();
            {
                let state = self.state.borrow();
                if let Some(over) = &state.over {
                    return Err(over.clone());
                }
                if let Some(entered) = &state.entered {
                    return Ok((entered.clone(), state.generation));
                }
            }
            match deadline {
                None => news.await,
                Some(deadline) => {
                    if timeout_at(deadline, news).await.is_err() {
                        let last = self.state.borrow().last.clone();
                        let last = last.unwrap_or_else(|| "it does not answer".to_owned());
                        return Err(ClientError::Unreachable(last));
                    }
                }
            }
        }
    }

    /// Waits until this connection is no more.
    pub(super) async fn gone(&self, generation: u64) {
        loop {
            let news = self.news.notified();
            {
                let state = self.state.borrow();
                if state.generation != generation || state.entered.is_none() {
                    return;
                }
            }
            news.await;
        }
    }

    /// Makes a call, again and again if it may be.
    pub(super) async fn call<T>(
        &self,
        calling: Calling,
        deadline: Instant,
        ask: impl Fn(&Entered) -> LocalBoxFuture<'static, Result<T, Failure>>,
    ) -> Result<T, ClientError> {
        loop {
            let (entered, generation) = self.entered(Some(deadline)).await?;
            let answer = tokio::select! {
                biased;
                answer = timeout_at(deadline, ask(&entered)) => match answer {
                    Ok(answer) => answer,
                    Err(_) => return Err(ClientError::Broken),
                },
                () = self.gone(generation) => Err(Failure::Lost),
            };
            let failure = match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure {
                Failure::Lost => {
                    entered.lost.cancel();
                    if calling == Calling::Once {
                        return Err(ClientError::Broken);
                    }
                    self.gone(generation).await;
                }
                Failure::Refused(problem)
                    if problem.code == ErrorCode::Unavailable && calling == Calling::Again =>
                {
                    // The gateway goes down, or its disk has no room just now.
                    let pause = problem.retry_after.unwrap_or(LONGEST_PAUSE);
                    let pause = pause.mul_f64(jitter());
                    if Instant::now() + pause >= deadline {
                        return Err(ClientError::Refused(problem));
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.gone(generation) => {}
                    }
                }
                failure => return Err(failure.into()),
            }
        }
    }

    /// The connection is no good any more.
    pub(super) fn give_up(&self, entered: &Entered) {
        entered.lost.cancel();
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(work);
    }
}

/// Between a half and one, so that those who lost their gateway together do not come back together.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 2];
    // Without random bytes all of them wait as long.
    let _ = getrandom::fill(&mut bytes);
    0.5 + f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX) / 2.0
}

/// A key for a message: nobody else has it.
pub(super) fn new_key() -> Result<String, ClientError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| ClientError::Thread(Arc::new(std::io::Error::other(error))))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

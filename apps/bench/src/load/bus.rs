//! A transport of the bus from one process to another, and a bare loop over sockets of the same library beside it.
//!
//! Both carry the same frames, in batches, with the same number of batches under way; the reader says over a socket of
//! its own that it has the last frame of one. Latency is that of one frame and the word that it has come.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use stack_bus::{Bus as _, BusConfig, BusUrl, Message, Prefix, WireBus};
use stack_types::FramesBuilder;

use crate::dialect::BODY_BYTES;
use crate::latency::Latencies;
use crate::usage::Meter;

/// Batches under way: less than any socket keeps, so that nothing is lost.
const UNDER_WAY: u64 = 16;

const TOPIC: &str = "room.bench";

/// Longer than anything takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits at most; it is never that much.
const QUEUE: usize = 65_536;

/// What a bare socket of ZeroMQ keeps. It hears late of what was taken, since it only looks now and then, so that it
/// keeps more than is under way.
const BARE_HIGH_WATER: i32 = 65_536;

/// What a bare socket of nng keeps at most.
const MOST_OF_NNG: i32 = 8192;

/// How to measure a transport.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `nng+tcp`, `nng+ipc`, `zmq+tcp` or `zmq+ipc`.
    #[arg(long)]
    wire: String,
    /// Bare sockets of its library instead.
    #[arg(long)]
    bare: bool,
    /// For the socket's file.
    #[arg(long)]
    folder: PathBuf,
    /// Where the reader runs.
    #[arg(long)]
    reader_core: usize,
    /// Frames in a batch.
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// Time that is not measured.
    #[arg(long, default_value_t = 1000)]
    warm_ms: u64,
    /// Time of each measurement.
    #[arg(long, default_value_t = 3000)]
    measure_ms: u64,
}

/// The other process.
#[derive(Debug, clap::Args)]
pub(crate) struct ReaderOptions {
    /// What to listen to.
    #[arg(long)]
    url: BusUrl,
    /// By a bare socket.
    #[arg(long)]
    bare: bool,
    /// Where to say what has come.
    #[arg(long)]
    words: PathBuf,
}

/// What can be published on.
enum Publisher {
    Stack(WireBus),
    Nng(nng::Socket),
    Zmq(zmq::Socket),
}

/// Measures.
///
/// # Errors
/// A socket fails, or something is lost.
pub(crate) fn run(options: &Options) -> Result<Value> {
    std::fs::create_dir_all(&options.folder)?;
    let folder = options.folder.canonicalize()?;
    let (publisher, url) = Publisher::bind(options, &folder)?;
    let mut reader = Reader::start(options, &url, &folder)?;
    let payload = payload();
    let (one, batch) = (Batch::new(&payload, 1), Batch::new(&payload, options.batch));
    reader.gather(&publisher, &one)?;

    let flow = |measure_ms: u64, reader: &mut Reader| -> Result<u64> {
        let (mut sent, mut come) = (0, 0);
        let until = Instant::now() + Duration::from_millis(measure_ms);
        while Instant::now() < until {
            while sent - come < UNDER_WAY {
                publisher.say(&batch)?;
                sent += 1;
            }
            come += reader.words()?;
        }
        while come < sent {
            come += reader.words()?;
        }
        Ok(sent * options.batch)
    };
    flow(options.warm_ms, &mut reader)?;
    let meter = Meter::beside(reader.process.id())?;
    let began = Instant::now();
    let frames = flow(options.measure_ms, &mut reader)?;
    let seconds = began.elapsed().as_secs_f64();
    let shares = meter.stop_alone()?;

    let mut latencies = Latencies::new()?;
    let until = Instant::now() + Duration::from_millis(options.measure_ms);
    while Instant::now() < until {
        let begun = Instant::now();
        publisher.say(&one)?;
        reader.words()?;
        latencies.record(begun.elapsed().as_nanos() as u64);
    }
    let lost = match &publisher {
        Publisher::Stack(bus) => bus.losses().unsent,
        Publisher::Nng(_) | Publisher::Zmq(_) => 0,
    };
    if lost > 0 {
        bail!("{lost} messages never went out");
    }
    Ok(json!({
        "messages_per_s": frames as f64 / seconds,
        "bytes": payload.len(),
        "batch": options.batch,
        "latency": latencies.summary(),
        // The publisher has the core of servers.
        "shares": {
            "server": shares.generator,
            "generator": shares.server,
            "others": shares.others,
        },
    }))
}

/// As long as an event is.
fn payload() -> Vec<u8> {
    let body = ".".repeat(BODY_BYTES);
    let event = json!({"type": "message", "payload": {
        "room": "bench", "seq": 1_000_000, "ts": 1_700_000_000_000u64,
        "sender": "1ChFg2xq4eu8bNPwGRfixw", "body": body,
    }});
    event.to_string().into_bytes()
}

/// The same frames for a bus, and ready for a bare socket. The last says that it is.
struct Batch {
    message: Message,
    bare: Vec<Vec<u8>>,
}

const LAST: u8 = b'!';

impl Batch {
    fn new(payload: &[u8], frames: u64) -> Self {
        let last = [payload, &[LAST]].concat();
        let mut builder = FramesBuilder::default();
        let mut bare = Vec::new();
        for left in (0..frames).rev() {
            let payload = if left == 0 { &last } else { payload };
            builder.push(payload);
            bare.push([TOPIC.as_bytes(), b"\0", payload].concat());
        }
        let topic = TOPIC.parse().expect("it is a topic");
        Self {
            message: Message::new(topic, builder.finish()),
            bare,
        }
    }
}

impl Publisher {
    /// Binds, and tells where.
    fn bind(options: &Options, folder: &Path) -> Result<(Self, BusUrl)> {
        let address = match options.wire.split_once('+') {
            Some((_, "ipc")) => format!("{}/bus-{}.sock", folder.display(), std::process::id()),
            _ => "127.0.0.1:0".into(),
        };
        let url: BusUrl = format!("{}://{address}", options.wire).parse()?;
        if !options.bare {
            let bus = WireBus::open(&BusConfig {
                url: url.clone(),
                ..BusConfig::default()
            })?;
            let bound = bus.bound().context("it is bound")?.clone();
            return Ok((Self::Stack(bus), bound));
        }
        let text = url.to_string();
        let endpoint = text.get(4..).context("a library and an endpoint")?;
        match url {
            BusUrl::Nng(_) => {
                use nng::options::{Options as _, SendBufferSize, transport::tcp::BoundPort};
                let socket = nng::Socket::new(nng::Protocol::Pub0)?;
                socket.set_opt::<SendBufferSize>(MOST_OF_NNG)?;
                let listener = nng::ListenerBuilder::new(&socket, endpoint)?
                    .start()
                    .map_err(|(_, error)| error)?;
                let bound = match endpoint.strip_suffix(":0") {
                    Some(host) => format!("nng+{host}:{}", listener.get_opt::<BoundPort>()?),
                    None => text.clone(),
                };
                Ok((Self::Nng(socket), bound.parse()?))
            }
            _ => {
                let socket = zmq::Context::new().socket(zmq::PUB)?;
                socket.set_sndhwm(BARE_HIGH_WATER)?;
                socket.set_linger(0)?;
                socket.bind(endpoint)?;
                let bound = socket.get_last_endpoint()?;
                let bound = bound.map_err(|_| anyhow::anyhow!("an endpoint is text"))?;
                Ok((Self::Zmq(socket), format!("zmq+{bound}").parse()?))
            }
        }
    }

    fn say(&self, batch: &Batch) -> Result<()> {
        match self {
            Self::Stack(bus) => bus.publish(batch.message.clone())?,
            Self::Nng(socket) => {
                for frame in &batch.bare {
                    socket.send(frame.as_slice()).map_err(|(_, error)| error)?;
                }
            }
            Self::Zmq(socket) => {
                for frame in &batch.bare {
                    socket.send(frame.as_slice(), 0)?;
                }
            }
        }
        Ok(())
    }
}

/// The other process, and what it says: a byte for each batch.
struct Reader {
    process: Child,
    words: UnixStream,
}

impl Reader {
    fn start(options: &Options, url: &BusUrl, folder: &Path) -> Result<Self> {
        let path = folder.join(format!("words-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path)?;
        let mut command = Command::new("taskset");
        command
            .args(["-c", &options.reader_core.to_string()])
            .arg(std::env::current_exe()?)
            .args(["bus-reader", "--url", &url.to_string(), "--words"])
            .arg(&path);
        if options.bare {
            command.arg("--bare");
        }
        let process = command.spawn().context("taskset cannot be run")?;
        let (words, _) = listener.accept()?;
        std::fs::remove_file(path)?;
        Ok(Self { process, words })
    }

    /// Publishes until something is heard: from then on the reader is connected, and nothing is lost.
    fn gather(&mut self, publisher: &Publisher, one: &Batch) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.heard(Duration::from_millis(10))? == 0 {
            publisher.say(one)?;
            if Instant::now() > until {
                bail!("the reader does not come");
            }
        }
        // What else is under way.
        while self.heard(Duration::from_millis(200))? > 0 {}
        Ok(())
    }

    /// Waits for words, and takes all there are.
    fn words(&mut self) -> Result<u64> {
        match self.heard(PATIENCE)? {
            0 => bail!("the reader says nothing: something was lost"),
            words => Ok(words),
        }
    }

    fn heard(&mut self, within: Duration) -> Result<u64> {
        let mut words = [0; 4096];
        self.words.set_read_timeout(Some(within))?;
        match self.words.read(&mut words) {
            Ok(0) => bail!("the reader has ended"),
            Ok(count) => Ok(count as u64),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads, and says what has come, until nobody wants to know any more.
///
/// # Errors
/// A socket fails.
pub(crate) fn read(options: &ReaderOptions) -> Result<()> {
    let words = UnixStream::connect(&options.words)?;
    let said = if options.bare {
        read_bare(&options.url, words)
    } else {
        read_bus(&options.url, words)
    };
    match said {
        // Whoever asked has ended.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some() => Ok(()),
        said => said,
    }
}

fn read_bus(url: &BusUrl, mut words: UnixStream) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let bus = WireBus::open(&BusConfig {
            subscribe: vec![url.clone()],
            queue: QUEUE,
            ..BusConfig::default()
        })?;
        let mut frames = bus.subscribe(Prefix::rooms()).await?;
        let mut said = Vec::new();
        while let Some(message) = frames.recv().await {
            let mut next = Some(message);
            while let Some(message) = next {
                let last = |frame: &Bytes| frame.last() == Some(&LAST);
                said.extend(message.frames.iter().filter(last).map(|_| 1));
                next = frames.try_recv();
            }
            words.write_all(&said)?;
            said.clear();
            let losses = bus.losses();
            if losses.dropped + losses.lost > 0 {
                bail!("{losses:?}");
            }
        }
        Ok(())
    })
}

fn read_bare(url: &BusUrl, mut words: UnixStream) -> Result<()> {
    const PREFIX: &[u8] = b"room.";
    let text = url.to_string();
    let endpoint = text.get(4..).context("a library and an endpoint")?;
    let mut say = |frame: &[u8]| match frame.last() {
        Some(&LAST) => words.write_all(&[1]),
        _ => Ok(()),
    };
    if let BusUrl::Nng(_) = url {
        use nng::options::{Options as _, RecvBufferSize, protocol::pubsub::Subscribe};
        let socket = nng::Socket::new(nng::Protocol::Sub0)?;
        socket.set_opt::<RecvBufferSize>(MOST_OF_NNG)?;
        socket.set_opt::<Subscribe>(PREFIX.to_vec())?;
        socket.dial(endpoint)?;
        loop {
            say(socket.recv()?.as_slice())?;
        }
    }
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_rcvhwm(BARE_HIGH_WATER)?;
    socket.set_subscribe(PREFIX)?;
    socket.connect(endpoint)?;
    let mut message = zmq::Message::new();
    loop {
        socket.recv(&mut message, 0)?;
        say(&message)?;
    }
}

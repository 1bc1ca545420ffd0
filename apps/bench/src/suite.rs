//! The suite: every scenario against everyone it applies to, in turn, round after round, so that a machine that
//! drifts hits all alike. Server and generator have a core each. Nothing else of the suite runs meanwhile.

mod conditions;
mod machine;
mod plan;
mod plot;
mod results;
mod servers;
mod soak;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::conditions::Conditions;
use self::machine::Machine;
use self::plan::{Case, Subject};
use self::results::{Results, Run};
use self::servers::Running;
use crate::usage;

/// What to run, with what, and where results go.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A smoke run: small, short, one round. Its numbers say nothing.
    #[arg(long)]
    quick: bool,
    /// Rounds. Every number is the median over them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only scenarios whose name starts with one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Minutes to spend in all on waiting for a quiet machine and on runs again that others disturbed.
    #[arg(long, default_value_t = 15)]
    patience_minutes: u64,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    report: ReportOptions,
}

/// How long to soak, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakOptions {
    /// Minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seconds in a window.
    #[arg(long, default_value_t = 30)]
    window_s: u64,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    report: ReportOptions,
}

/// What is run, and where.
#[derive(Debug, clap::Args)]
struct Place {
    /// The core of servers and floors.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the generator.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// The gateway's binary.
    #[arg(long)]
    gateway: PathBuf,
    /// The folder of the Node peers, installed.
    #[arg(long)]
    peers: PathBuf,
}

impl Place {
    fn machine(&self, out: &Path) -> Result<Machine> {
        fs::create_dir_all(out)?;
        Ok(Machine {
            server_core: self.server_core,
            load_core: self.load_core,
            gateway: self
                .gateway
                .canonicalize()
                .context("there is no gateway to measure")?,
            peers: self.peers.clone(),
            out: out.canonicalize()?,
            bench: std::env::current_exe()?,
        })
    }
}

/// Where results and report go.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportOptions {
    /// For results and the servers' data, on the disk that is to be measured.
    #[arg(long)]
    out: PathBuf,
    /// The documents. Without them the report is printed alone.
    #[arg(long)]
    docs: Option<PathBuf>,
}

impl ReportOptions {
    fn results(&self) -> PathBuf {
        self.out.join("results.json")
    }

    /// A soak is a run of its own, at another time than the rest.
    fn soak_results(&self) -> PathBuf {
        self.out.join("soak.json")
    }
}

/// Runs everything and writes the report.
///
/// # Errors
/// A server or a generator cannot be started. A scenario that fails is in the report as a failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = options.place.machine(&options.report.out)?;
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let cases = plan::cases(options.quick);
    let wanted = |case: &&Case| {
        options.only.is_empty()
            || options
                .only
                .iter()
                .any(|name| case.scenario.starts_with(name))
    };
    let cases: Vec<&Case> = cases.iter().filter(wanted).collect();
    if cases.is_empty() {
        bail!("no scenario has such a name");
    }
    let mut results = Results {
        conditions: Conditions::of(&machine, rounds, options.quick),
        runs: Vec::new(),
    };
    let mut patience = Patience {
        left: Duration::from_secs(60 * options.patience_minutes),
    };
    for round in 0..rounds {
        for case in &cases {
            let outcome = if case.timed && !options.quick {
                patience.measure(|| measure(&machine, case, false))
            } else {
                measure(&machine, case, options.quick)
            };
            let (result, failure) = match outcome {
                Ok(result) => (result, None),
                Err(error) => (Value::Null, Some(format!("{error:#}"))),
            };
            let run = Run {
                scenario: case.scenario.to_owned(),
                subject: case.subject,
                round,
                result,
                failure,
            };
            println!("{}", run.line());
            results.runs.push(run);
            fs::write(
                options.report.results(),
                serde_json::to_string_pretty(&results)?,
            )?;
        }
    }
    servers::remove_data(&machine)?;
    report(&options.report)
}

/// Soaks the gateway and writes the report.
///
/// # Errors
/// The gateway does not start, or does not keep what it promises.
pub(crate) fn soak(options: &SoakOptions) -> Result<()> {
    let machine = options.place.machine(&options.report.out)?;
    let case = plan::soak(options.minutes, options.window_s);
    let soaked = Results {
        conditions: Conditions::of(&machine, 1, false),
        runs: vec![Run {
            scenario: case.scenario.to_owned(),
            subject: case.subject,
            round: 0,
            result: measure(&machine, &case, false)?,
            failure: None,
        }],
    };
    let text = serde_json::to_string_pretty(&soaked)?;
    fs::write(options.report.soak_results(), text)?;
    servers::remove_data(&machine)?;
    report_soak(&options.report)
}

/// Writes the report from the results of earlier runs.
///
/// # Errors
/// There are none, or the documents cannot be written.
pub(crate) fn report(options: &ReportOptions) -> Result<()> {
    let results = read(&options.results())?.context("there are no results yet")?;
    let profiles = options
        .docs
        .as_ref()
        .map(|docs| docs.join("bench-profiles"));
    let tables = table::render(&results, profiles.as_deref())?;
    println!("\n{tables}");
    if let Some(docs) = &options.docs {
        replace(&docs.join("BENCHMARKS.md"), "measured", &tables)?;
        plot::write_all(&results, &docs.join("images"))?;
    }
    report_soak(options)
}

/// The soak's part of the report, if there was one.
fn report_soak(options: &ReportOptions) -> Result<()> {
    let Some(soaked) = read(&options.soak_results())? else {
        return Ok(());
    };
    let text = soak::render(&soaked)?;
    println!("\n{text}");
    if let Some(docs) = &options.docs {
        replace(&docs.join("BENCHMARKS.md"), "soaked", &text)?;
        plot::write_soak(&soaked, &docs.join("images"))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Results>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path)?;
    let results = serde_json::from_str(&text);
    results.with_context(|| format!("{} holds no results", path.display()))
}

/// What may be spent in all on waiting for a quiet machine and on trying again.
struct Patience {
    left: Duration,
}

impl Patience {
    /// Of a core, by others, before a run and during one.
    const QUIET: f64 = 0.1;
    const TRIES: usize = 4;

    /// Measures when the machine has nothing else to do, and again when something came in between; while the
    /// patience lasts. The least disturbed try counts.
    fn measure(&mut self, measure: impl Fn() -> Result<Value>) -> Result<Value> {
        let mut best: Option<(f64, Value)> = None;
        for attempt in 1..=Self::TRIES {
            let waiting = Instant::now();
            while waiting.elapsed() < self.left && usage::machine_load()? > Self::QUIET {}
            self.spend(waiting);
            let measuring = Instant::now();
            let result = measure()?;
            if attempt > 1 {
                self.spend(measuring);
            }
            let others = result
                .pointer("/shares/others")
                .and_then(Value::as_f64)
                .unwrap_or(0.0);
            if best.as_ref().is_none_or(|(least, _)| others < *least) {
                best = Some((others, result));
            }
            if others <= Self::QUIET || self.left.is_zero() {
                break;
            }
        }
        best.map(|(_, result)| result).context("it was not tried")
    }

    fn spend(&mut self, since: Instant) {
        self.left = self.left.saturating_sub(since.elapsed());
    }
}

/// One scenario against one subject.
fn measure(machine: &Machine, case: &Case, quick: bool) -> Result<Value> {
    match case.subject {
        Subject::Append | Subject::AppendEach | Subject::RedbRows => machine.floor(case),
        Subject::Bus | Subject::BareSockets => machine.bus(case),
        Subject::BareRpc => machine.bare_rpc(case),
        _ => {
            let server = Running::start(machine, case, quick)?;
            let result = machine.load(&server, &case.arguments);
            // A server that has ended says more than the generator that lost it.
            match (server.stop(), result) {
                (Err(ended), Err(error)) => Err(ended.context(error)),
                (_, result) => result,
            }
        }
    }
}

/// Puts text between its marks in a document.
fn replace(document: &Path, mark: &str, text: &str) -> Result<()> {
    let (begin, end) = (
        format!("<!-- {mark}: begin -->\n"),
        format!("<!-- {mark}: end -->"),
    );
    let old = fs::read_to_string(document).context("there is no document for the tables")?;
    let parts = old.split_once(&begin).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(&end)?;
        Some((head, tail))
    });
    let (head, tail) =
        parts.with_context(|| format!("the document has no marks for what was {mark}"))?;
    fs::write(document, format!("{head}{begin}\n{text}\n{end}{tail}"))?;
    Ok(())
}

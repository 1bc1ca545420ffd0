//! The suite: every scenario against everyone it applies to, in turn, round after round, so that a machine that
//! drifts hits all alike. Server and generator have a core each. Nothing else of the suite runs meanwhile.

mod conditions;
mod machine;
mod plan;
mod plot;
mod results;
mod servers;
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
    /// Minutes of the soak; none without.
    #[arg(long)]
    soak_minutes: Option<f64>,
    /// Minutes to spend in all on waiting for a quiet machine and on runs again that others disturbed.
    #[arg(long, default_value_t = 15)]
    patience_minutes: u64,
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
    #[command(flatten)]
    report: ReportOptions,
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
}

/// Runs everything and writes the report.
///
/// # Errors
/// A server or a generator cannot be started. A scenario that fails is in the report as a failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.report.out)?;
    let machine = Machine {
        server_core: options.server_core,
        load_core: options.load_core,
        gateway: options
            .gateway
            .canonicalize()
            .context("there is no gateway to measure")?,
        peers: options.peers.clone(),
        out: options.report.out.canonicalize()?,
        bench: std::env::current_exe()?,
    };
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let cases = plan::cases(options.quick, options.soak_minutes);
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
            if case.once && round > 0 {
                continue;
            }
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

/// Writes the report from the results of an earlier run.
///
/// # Errors
/// There are none, or the documents cannot be written.
pub(crate) fn report(options: &ReportOptions) -> Result<()> {
    let text = fs::read_to_string(options.results()).context("there are no results yet")?;
    let results: Results = serde_json::from_str(&text)?;
    let tables = table::render(&results);
    println!("\n{tables}");
    if let Some(docs) = &options.docs {
        replace(&docs.join("BENCHMARKS.md"), &tables)?;
        plot::write_all(&results, &docs.join("images"))?;
    }
    Ok(())
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

/// Puts the tables between their marks in a document.
fn replace(document: &Path, tables: &str) -> Result<()> {
    const BEGIN: &str = "<!-- measured: begin -->\n";
    const END: &str = "<!-- measured: end -->";
    let text = fs::read_to_string(document).context("there is no document for the tables")?;
    let (head, rest) = text
        .split_once(BEGIN)
        .context("the document has no mark for its tables")?;
    let (_, tail) = rest
        .split_once(END)
        .context("the document has no mark for the end of its tables")?;
    fs::write(document, format!("{head}{BEGIN}\n{tables}\n{END}{tail}"))?;
    Ok(())
}

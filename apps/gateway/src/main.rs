//! The command line of the gateway: configuration, then telemetry, then the gateway until a signal takes it down.

use std::io::{self, BufWriter, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use stack_gateway::cli::{Cli, Command, ConfigCommand, KeysCommand, manual};
use stack_gateway::command::{self, CommandError, Manner, Task};
use stack_gateway::config::{self, Config, Inputs};
use stack_gateway::signals::{Asked, Signals};
use stack_gateway::systemd::Notify;
use stack_gateway::telemetry::Process;
use stack_gateway::{Gateway, Inherited, RunningEdge, RunningGateway, offline, telemetry};
use tokio::task::JoinSet;

/// The configuration is at fault; everything else that fails is 1.
const FAULTY_CONFIGURATION: u8 = 2;

/// How long the end waits for threads that nobody waits for any more: a file on a disk that does not answer, the look at a
/// copy that is no longer wanted.
const LAST_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let manner = Manner {
        as_json: cli.json,
        only_gateway: cli.settings.names_socket(),
    };
    let origin = match &cli.command {
        Some(Command::Edge { origin }) => origin.clone(),
        _ => None,
    };
    let leaves_certificates = !cli.reads_certificates();
    let inputs = cli
        .settings
        .into_inputs_with(&[("edge.origin", "--origin", origin)]);
    let inputs = Inputs {
        leaves_certificates,
        ..inputs
    };
    if let Some(Command::Config(command)) = cli.command {
        return run_config(command, &inputs);
    }
    if let Some(Command::Completions { .. } | Command::Man) = cli.command {
        return run_manual(cli.command.as_ref());
    }
    // Before the configuration, which names the file that is yet to be made.
    #[cfg(feature = "with-zmq")]
    if let Some(Command::BusKeys { file }) = &cli.command {
        return match stack_gateway::bus_keys::make(file) {
            Ok(public) => {
                let _ = writeln!(io::stdout(), "{public}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&format!(
                    "stack-gateway: {error:#}",
                    error = anyhow::Error::from(error)
                ));
                ExitCode::FAILURE
            }
        };
    }
    let read = match &cli.command {
        Some(Command::Reload) => Config::to_reach(&inputs),
        _ => Config::load(&inputs),
    };
    let config = match read {
        Ok(config) => config,
        Err(faults) => {
            complain(&faults.to_string());
            return ExitCode::from(FAULTY_CONFIGURATION);
        }
    };
    let process = match &cli.command {
        None | Some(Command::Serve) => Process::Gateway,
        Some(Command::Edge { .. }) => Process::Edge,
        Some(_) => Process::Command,
    };
    let log = match telemetry::init(&config, process) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!(
                "stack-gateway: {error:#}",
                error = anyhow::Error::from(error)
            ));
            return ExitCode::FAILURE;
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let done = match cli.command {
        None | Some(Command::Serve) => run(serve(config)),
        Some(Command::Edge { .. }) => run(serve_edge(config)),
        Some(Command::Keys(command)) => keys(&config, command),
        Some(command) => match Task::of(command) {
            Some(task) => run(look_after(&config, task, manner)),
            None => Ok(()),
        },
    };
    // Whoever reads the files looks for the reason there.
    if let Err(error) = &done
        && log.in_files()
    {
        let error = command::shown(&format!("{error:#}"));
        tracing::error!(error = %error, "the end: {error}");
    }
    drop(log);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed the output has seen enough.
        Err(error) if is_closed_output(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!(
                "stack-gateway: {}",
                command::shown(&format!("{error:#}"))
            ));
            match error.downcast_ref::<CommandError>() {
                Some(CommandError::Faulty(_)) => ExitCode::from(FAULTY_CONFIGURATION),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Tells what is wrong, if anybody listens.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match error.downcast_ref::<CommandError>() {
        Some(error) => error.is_closed_output(),
        None => error.downcast_ref::<io::Error>().is_some_and(closed),
    }
}

fn run_config(command: ConfigCommand, inputs: &Inputs) -> ExitCode {
    let told = match command {
        ConfigCommand::Default => config::default_file(),
        ConfigCommand::Reference => config::reference(),
        ConfigCommand::Print => config::effective(inputs),
        ConfigCommand::Check => String::new(),
    };
    let loaded = match command {
        ConfigCommand::Check => Config::check(inputs),
        _ => Config::load(inputs).map(drop),
    };
    let told = match (command, &loaded) {
        (ConfigCommand::Check, Ok(())) => "the configuration is valid\n".to_owned(),
        _ => told,
    };
    // Whoever closed the output has seen enough.
    let _ = io::stdout().write_all(told.as_bytes());
    match loaded {
        _ if matches!(command, ConfigCommand::Default | ConfigCommand::Reference) => {
            ExitCode::SUCCESS
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            complain(&faults.to_string());
            ExitCode::from(FAULTY_CONFIGURATION)
        }
    }
}

/// What packages are made with; no configuration is looked at.
fn run_manual(command: Option<&Command>) -> ExitCode {
    let mut told = Vec::new();
    let made = match command {
        Some(Command::Completions { shell }) => {
            manual::write_completions(*shell, &mut told);
            Ok(())
        }
        _ => manual::write_man_page(&mut told),
    };
    match made.and_then(|()| io::stdout().write_all(&told)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("stack-gateway: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn look_after(config: &Config, task: Task, manner: Manner) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    Ok(command::run(config, task, manner, &mut out).await?)
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_GRACE);
    done
}

fn keys(config: &Config, command: KeysCommand) -> anyhow::Result<()> {
    let keys = match command {
        KeysCommand::Rotate => offline::rotate_keys(config)?,
        KeysCommand::List => offline::signing_keys(config)?,
    };
    let mut out = io::stdout().lock();
    for key in keys {
        let stands = match key.retires_at {
            None => "signs".to_owned(),
            Some(retires_at) => format!("is taken until {}", retires_at.0),
        };
        writeln!(
            out,
            "{}\t{:?}\tmade {}\t{stands}",
            key.kid, key.alg, key.created_at.0
        )?;
    }
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before the start, so that no signal meets the default action, which is to die at once.
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let notify = Arc::new(Notify::of_process().context("cannot reach the service manager")?);
    let gateway = Gateway::start_on(config, Inherited::take_all()?).await?;
    announce(gateway.listening(), gateway.url(), gateway.setup_url())?;
    notify.ready();
    let mut beating = JoinSet::new();
    beating.spawn(notify.clone().watchdog(gateway.works()));
    let served = until_the_end(gateway, &mut signals, &notify).await;
    drop(beating);
    served
}

async fn serve_edge(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let notify = Arc::new(Notify::of_process().context("cannot reach the service manager")?);
    let edge = RunningEdge::start_on(config, Inherited::take_all()?).await?;
    announce(edge.listening(), edge.url(), None)?;
    notify.ready();
    let mut beating = JoinSet::new();
    beating.spawn(notify.clone().watchdog(edge.works()));
    let serving = async {
        let signal = loop {
            match signals.next().await {
                Asked::End(signal) => break signal,
                Asked::Reload => {
                    let reload = async || edge.reload().await.is_ok();
                    if let Some(signal) = read_again(reload, &mut signals, &notify).await {
                        break signal;
                    }
                }
            }
        };
        notify.stopping();
        tracing::info!("{signal}: shutting down");
        tokio::select! {
            () = edge.shutdown() => Ok(()),
            signal = signals.end() => anyhow::bail!("a second signal, {signal}: leaving at once"),
        }
    };
    let served = serving.await;
    drop(beating);
    served
}

async fn until_the_end(
    gateway: RunningGateway,
    signals: &mut Signals,
    notify: &Notify,
) -> anyhow::Result<()> {
    let signal = loop {
        match signals.next().await {
            Asked::End(signal) => break signal,
            Asked::Reload => {
                let reload = async || gateway.reload().await.is_ok();
                if let Some(signal) = read_again(reload, signals, notify).await {
                    break signal;
                }
            }
        }
    };
    notify.stopping();
    tracing::info!("{signal}: shutting down");
    tokio::select! {
        () = gateway.shutdown() => Ok(()),
        signal = signals.end() => anyhow::bail!("a second signal, {signal}: leaving at once"),
    }
}

/// Has the configuration read again, and once more if that is asked for meanwhile. It is in files, which may be on a disk
/// that does not answer: a signal that asks for the end meanwhile is given back at once.
async fn read_again(
    reload: impl AsyncFn() -> bool,
    signals: &mut Signals,
    notify: &Notify,
) -> Option<&'static str> {
    loop {
        notify.reloading();
        let mut reloading = pin!(reload());
        let mut once_more = false;
        let is_sound = loop {
            tokio::select! {
                is_sound = &mut reloading => break is_sound,
                asked = signals.next() => match asked {
                    Asked::End(signal) => return Some(signal),
                    Asked::Reload => once_more = true,
                },
            }
        };
        notify.reloaded(is_sound);
        if !once_more {
            return None;
        }
    }
}

/// One line that scripts wait for: what is really listened on, and where a person opens it. Until there is an
/// administrator another one says where they are made.
fn announce(listening: &[String], url: &str, setup_url: Option<&str>) -> io::Result<()> {
    let listening = listening.join(", ");
    let mut told = format!("Stack is listening on {listening} (open {url})\n");
    if let Some(setup) = setup_url {
        told.push_str(&format!("Set up: {setup}\n"));
    }
    // At once: a script may stop reading behind the first line, and must not end the gateway by that.
    let mut out = io::stdout().lock();
    out.write_all(told.as_bytes())?;
    out.flush()
}

//! The command line of the gateway: configuration, then telemetry, then the gateway until a signal takes it down.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use stack_gateway::cli::{AuditCommand, Cli, Command, ConfigCommand, KeysCommand, UsersCommand};
use stack_gateway::config::{self, Config, Inputs};
use stack_gateway::signals::{Asked, Signals};
use stack_gateway::systemd::Notify;
use stack_gateway::{Gateway, Inherited, RunningGateway, offline, telemetry};

/// The configuration is at fault; everything else that fails is 1.
const FAULTY_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let inputs = cli.settings.into_inputs();
    if let Some(Command::Config(command)) = cli.command {
        return run_config(command, &inputs);
    }
    let config = match Config::load(&inputs) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(FAULTY_CONFIGURATION);
        }
    };
    let log = match telemetry::init(&config) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("stack-gateway: the log cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = match cli.command {
        Some(Command::Users(command)) => run(users(&config, command)),
        Some(Command::SetupUrl) => run(setup_url(&config)),
        Some(Command::Audit(command)) => run(audit(&config, command)),
        Some(Command::Keys(command)) => keys(&config, command),
        _ => run(serve(config)),
    };
    drop(log);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stack-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_config(command: ConfigCommand, inputs: &Inputs) -> ExitCode {
    match command {
        ConfigCommand::Default => print!("{}", config::default_file()),
        ConfigCommand::Reference => print!("{}", config::reference()),
        ConfigCommand::Print => print!("{}", config::effective(inputs)),
        ConfigCommand::Check => {}
    }
    match Config::load(inputs) {
        _ if matches!(command, ConfigCommand::Default | ConfigCommand::Reference) => {
            ExitCode::SUCCESS
        }
        Ok(_) => {
            if matches!(command, ConfigCommand::Check) {
                println!("the configuration is valid");
            }
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(FAULTY_CONFIGURATION)
        }
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

async fn users(config: &Config, command: UsersCommand) -> anyhow::Result<()> {
    match command {
        UsersCommand::Promote { name } => {
            let user = offline::promote(config, &name).await?;
            println!("{} is an administrator now", user.username);
        }
        UsersCommand::Recover {
            name,
            reset_second_factor,
        } => {
            let url = offline::recovery_url(config, &name, reset_second_factor).await?;
            println!("{url}");
        }
        UsersCommand::Disable { name } => {
            offline::set_disabled(config, &name, true).await?;
            println!("{name} is disabled now");
        }
        UsersCommand::Enable { name } => {
            offline::set_disabled(config, &name, false).await?;
            println!("{name} is enabled now");
        }
    }
    Ok(())
}

async fn setup_url(config: &Config) -> anyhow::Result<()> {
    println!("{}", offline::setup_url(config).await?);
    Ok(())
}

async fn audit(config: &Config, command: AuditCommand) -> anyhow::Result<()> {
    let jsonl = command.jsonl;
    let mut out = io::stdout().lock();
    offline::audit(config, command, |entry| {
        if jsonl {
            return writeln!(out, "{}", serde_json::to_string(entry)?);
        }
        let who = entry
            .actor
            .map_or("-".to_owned(), |actor| actor.to_string());
        let target = entry.target.as_deref().unwrap_or("-");
        let (at, action, outcome) = (entry.at, &entry.action, &entry.outcome);
        writeln!(
            out,
            "{}\t{action}\t{outcome:?}\t{who}\t{target}\t{}",
            at.0, entry.ip
        )
    })
    .await?;
    Ok(())
}

fn keys(config: &Config, command: KeysCommand) -> anyhow::Result<()> {
    let keys = match command {
        KeysCommand::Rotate => offline::rotate_keys(config)?,
        KeysCommand::List => offline::signing_keys(config)?,
    };
    for key in keys {
        let stands = match key.retires_at {
            None => "signs".to_owned(),
            Some(retires_at) => format!("is taken until {}", retires_at.0),
        };
        println!(
            "{}\t{:?}\tmade {}\t{stands}",
            key.kid, key.alg, key.created_at.0
        );
    }
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before the start, so that no signal meets the default action, which is to die at once.
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let notify = Notify::of_process().context("cannot reach the service manager")?;
    let gateway = Gateway::start_on(config, Inherited::take_all()?).await?;
    announce(&gateway)?;
    notify.ready();
    tokio::select! {
        () = notify.watchdog() => Ok(()),
        served = until_the_end(gateway, &mut signals, &notify) => served,
    }
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
                notify.reloading();
                gateway.reload();
                notify.ready();
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

/// One line that scripts wait for: what is really listened on, and where a person opens it. Until there is an
/// administrator another one says where they are made.
fn announce(gateway: &RunningGateway) -> io::Result<()> {
    let (listening, url) = (gateway.listening().join(", "), gateway.url());
    let mut told = format!("Stack is listening on {listening} (open {url})\n");
    if let Some(setup) = gateway.setup_url() {
        told.push_str(&format!("Set up: {setup}\n"));
    }
    // At once: a script may stop reading behind the first line, and must not end the gateway by that.
    let mut out = io::stdout().lock();
    out.write_all(told.as_bytes())?;
    out.flush()
}

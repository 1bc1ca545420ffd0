//! The command line of the gateway: configuration, then telemetry, then the gateway until a signal takes it down.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use stack_gateway::cli::{Cli, Command, ConfigCommand, UsersCommand};
use stack_gateway::config::{self, Config, Inputs};
use stack_gateway::signals::Signals;
use stack_gateway::{Gateway, RunningGateway, offline, telemetry};

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
    telemetry::init(&config);
    let done = match cli.command {
        Some(Command::Users(UsersCommand::Promote { name })) => run(promote(&config, &name)),
        _ => run(serve(config)),
    };
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
        ConfigCommand::Print => print!("{}", config::effective(inputs)),
        ConfigCommand::Check => {}
    }
    match Config::load(inputs) {
        _ if matches!(command, ConfigCommand::Default) => ExitCode::SUCCESS,
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

async fn promote(config: &Config, name: &str) -> anyhow::Result<()> {
    let user = offline::promote(config, name).await?;
    println!("{} is an administrator now", user.username);
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before the start, so that no signal meets the default action, which is to die at once.
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let gateway = Gateway::start(config).await?;
    announce(&gateway)?;
    let signal = signals.next().await;
    tracing::info!("{signal}: shutting down");
    tokio::select! {
        () = gateway.shutdown() => Ok(()),
        signal = signals.next() => anyhow::bail!("a second signal, {signal}: leaving at once"),
    }
}

/// One line that scripts wait for: the address that is really bound, and where a person opens it.
fn announce(gateway: &RunningGateway) -> io::Result<()> {
    let scheme = if gateway.is_tls() { "https" } else { "http" };
    let (addr, url) = (gateway.addr(), gateway.url());
    let mut out = io::stdout().lock();
    writeln!(out, "Stack is listening on {scheme}://{addr} (open {url})")?;
    out.flush()
}

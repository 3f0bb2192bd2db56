//! The command line of the broker.

mod audit;
mod check;
pub mod dev;
mod keys;
mod migrate;
mod operator_token;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A short-lived credential broker: a proof of identity in, a narrowly scoped credential out, its record kept and its
/// end made sure of.
#[derive(Debug, Parser)]
#[command(name = "hallpass-broker", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run with everything embedded on loopback, tell a first exchange, and stay up to play with.
    Dev(dev::Arguments),
    /// Run the broker.
    Serve {
        /// Server file.
        #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
        config: PathBuf,
    },
    /// Check a server file and its bundle, and run the bundle's tests. Names file, line and reason.
    Check(check::Arguments),
    /// Bring the store's schema up to date, and verify the database.
    Migrate {
        /// Server file.
        #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
        config: PathBuf,
    },
    /// Export the audit log, or examine an export of it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Open a grant of the built-in role `hallpass/operator`, 15 minutes at most, and print its token. Needs the store
    /// and the key file; works beside a running broker.
    OperatorToken(operator_token::Arguments),
    /// List, rotate, import and distrust signing keys. Needs the store and the key file; works beside a running broker,
    /// and takes effect there at once.
    #[command(subcommand)]
    Keys(keys::Arguments),
}

/// Runs the command line.
///
/// Exit status: 0 when all went well, 1 when something failed, 2 when the arguments were wrong.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Audit(command) => return audit::run(&command),
        Command::Check(arguments) => return check::run(&arguments),
        Command::Dev(arguments) => on_runtime(dev::run(arguments)),
        Command::Serve { config } => on_runtime(serve::run(config)),
        Command::Migrate { config } => on_runtime(migrate::run(&config)),
        Command::OperatorToken(arguments) => on_runtime(operator_token::run(arguments)),
        Command::Keys(arguments) => on_runtime(keys::run(arguments)),
    };
    exit_code(outcome)
}

/// Says what went wrong.
fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hallpass-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

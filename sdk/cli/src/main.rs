//! `hallpass`: the command line of the Hallpass credential broker, built on its SDK only.
//!
//! Invariants: credentials go to standard output, to the child's environment or to private files, and nowhere else;
//! whatever the broker or another caller wrote is made printable before it reaches a terminal; the exit status says what
//! kind of failure it was.

#![forbid(unsafe_code)]

mod args;
mod configuration;
mod connect;
mod delivery;
mod exchange;
mod exec;
mod exit;
mod grants;
mod output;
mod quarantine;
mod revoke;
mod selection;
mod whoami;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, Command};
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.global.output);
    match run(arguments, &output) {
        Ok(code) => code,
        Err(error) => {
            output.complain(&error);
            exit::code_of(&error).into()
        }
    }
}

fn run(arguments: Arguments, output: &Output) -> anyhow::Result<ExitCode> {
    if let Command::Completions { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "hallpass", &mut script);
        output.write(&script)?;
        return Ok(ExitCode::SUCCESS);
    }
    // One thread is enough to wait, and leaves the cores to the command that `exec` runs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(dispatch(arguments, output));
    // A blocked read of a proof file must not keep a finished command from exiting.
    runtime.shutdown_background();
    code
}

async fn dispatch(arguments: Arguments, output: &Output) -> anyhow::Result<ExitCode> {
    let global = &arguments.global;
    match arguments.command {
        Command::Exchange(wanted) => exchange::run(global, wanted, output).await?,
        Command::Exec(wanted) => return exec::run(global, wanted, output).await,
        Command::Grants(wanted) => grants::run(global, wanted, output).await?,
        Command::Revoke(wanted) => revoke::run(global, *wanted, output).await?,
        Command::Quarantine(wanted) => quarantine::run(global, wanted, output).await?,
        Command::Configuration(wanted) => configuration::run(global, wanted, output).await?,
        Command::Whoami => whoami::run(global, output).await?,
        Command::Completions { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

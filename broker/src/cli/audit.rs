//! `hallpass-broker audit`: the log for others, and its examination without the broker.

mod accept;
mod compare;
mod export;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the audit log as JSON lines (OCSF events), up to the newest checkpoint. Works beside a running broker.
    Export(export::Arguments),
    /// Take the log as it is where the configured checkpoint file is of a later one, or not there: after an older database
    /// was put back on purpose, or when the file is new to the configuration, which ends nothing. Otherwise it ends what is
    /// live in it, and refuses what may have been used since. Recorded; while no broker runs.
    Accept(accept::Arguments),
    /// Hold the grants of the database against what its own log tells of each: a row that somebody else than the broker
    /// changed is another than the log says. Works beside a running broker; reads all of the log. Whether the log itself is
    /// what was signed is told by `export` and `verify`. Exit status: 0 when they agree, 1 when not, 2 when that cannot be told.
    Compare(compare::Arguments),
    /// Examine an exported log against a checkpoint, offline. Exit status: 0 when it is what was signed, 1 when it is not,
    /// 2 when that cannot be told: what is to be read cannot be, or a checkpoint is signed by a key that was not given.
    Verify(verify::Arguments),
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Accept(arguments) => super::exit_code(super::on_runtime(accept::run(arguments))),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    }
}

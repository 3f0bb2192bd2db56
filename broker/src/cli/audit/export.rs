//! `hallpass-broker audit export`.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hallpass_core::audit::event;

use crate::cli::serve;
use crate::compose;

/// What to write, and where.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Server file.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: PathBuf,
    /// Where the entries go; standard output, if not given.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the checkpoint goes that covers just these entries: the newest that the store keeps.
    #[arg(long, value_name = "FILE", conflicts_with = "until")]
    checkpoint: Option<PathBuf>,
    /// Write the first so many entries: as many as a checkpoint covers that you have.
    #[arg(long, value_name = "NUMBER")]
    until: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match export(arguments) {
        Ok(entries) => {
            eprintln!("{entries} entries");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hallpass-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn export(arguments: &Arguments) -> anyhow::Result<u64> {
    let config = serve::load(&arguments.config)?;
    let log = compose::audit_log(&config.store.path)?;
    let until = match arguments.until {
        Some(until) => until,
        None => {
            let newest = log.newest_checkpoint()?;
            let newest = newest.context("the store keeps no checkpoint yet: start the broker once, or give --until")?;
            if let Some(file) = &arguments.checkpoint {
                std::fs::write(file, &newest.note).with_context(|| file.display().to_string())?;
            }
            newest.head.size
        }
    };
    let mut output: Box<dyn Write> = match &arguments.output {
        Some(file) => Box::new(File::create(file).with_context(|| file.display().to_string())?),
        None => Box::new(stdout().lock()),
    };
    let mut output = BufWriter::new(&mut output);
    let mut next = 0_u64;
    while next < until {
        let leaves = log.leaves(next)?;
        anyhow::ensure!(!leaves.is_empty(), "the log has {next} entries, and not {until}");
        for leaf in leaves.iter().take_while(|leaf| leaf.sequence() < until) {
            anyhow::ensure!(leaf.sequence() == next, "entry {next} is not in the store");
            writeln!(output, "{}", event::line_of(leaf).with_context(|| format!("entry {next}"))?)?;
            next = next.saturating_add(1);
        }
    }
    output.flush()?;
    Ok(next)
}

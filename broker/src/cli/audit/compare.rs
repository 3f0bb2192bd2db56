//! `hallpass-broker audit compare`.

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hallpass_core::audit::AuditEntry;
use hallpass_core::audit::told::Told;

use crate::cli::serve;
use crate::compose;

/// Differences that are printed; all are counted.
const SHOWN: u64 = 1_000;

/// Which database.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Server file.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match compare(arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hallpass-broker: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn compare(arguments: &Arguments) -> anyhow::Result<u64> {
    let config = serve::load(&arguments.config)?;
    let log = compose::audit_log(&config.store.path)?.at_one_moment()?;
    let (mut told, mut entries) = (Told::default(), 0_u64);
    loop {
        let leaves = log.leaves(entries)?;
        if leaves.is_empty() {
            break;
        }
        for leaf in &leaves {
            anyhow::ensure!(leaf.sequence() == entries, "entry {entries} is not in the store");
            let entry: AuditEntry = serde_json::from_str(leaf.entry()).with_context(|| format!("entry {entries}"))?;
            told.hear(&entry);
            entries = entries.saturating_add(1);
        }
    }
    let (mut live, mut found) = (0_u64, 0_u64);
    let mut output = stdout().lock();
    let mut say = |line: String| {
        found = found.saturating_add(1);
        if found <= SHOWN { writeln!(output, "{line}") } else { Ok(()) }
    };
    let mut from = 0;
    loop {
        let rows = log.live_grants(from)?;
        let Some((last, _)) = rows.last() else { break };
        from = *last;
        for (_, row) in &rows {
            live = live.saturating_add(1);
            if let Some(difference) = told.compare(row) {
                say(format!("grant {} {difference}", row.id))?;
            }
        }
    }
    for (id, difference) in told.left() {
        say(format!("grant {id} {difference}"))?;
    }
    eprintln!("{entries} entries, {live} live grants, {found} differences");
    Ok(found)
}

//! `hallpass-broker audit verify`: needs no broker, no store and no network.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hallpass_core::audit::examine::Examination;
use hallpass_core::audit::note::VerifierKey;
use hallpass_core::audit::{Checkpoint, SignedCheckpoint};

/// Longest line that is read. An entry about thousands of grants fits; one that never ends must not fill our memory.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;
/// Longest checkpoint that is read.
const MAX_CHECKPOINT_BYTES: u64 = 256 * 1024;

/// What to examine, and by what.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The exported log, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    export: PathBuf,
    /// The checkpoint that covers it.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// A checkpoint that was kept from before; may be repeated. Each narrows down where a log was changed.
    #[arg(long, value_name = "FILE")]
    earlier: Vec<PathBuf>,
    /// The key that verifies checkpoints: `hallpass_audit_verifier_key` of the broker's
    /// `/.well-known/oauth-authorization-server`, noted while the broker was trusted.
    #[arg(long, value_name = "KEY")]
    key: String,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match verify(arguments) {
        Ok(Verdict { problems, told }) if problems.is_empty() => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Ok(Verdict { problems, told }) => {
            problems.iter().for_each(|problem| println!("{problem}"));
            println!("{told}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("hallpass-broker: {error:#}");
            ExitCode::from(2)
        }
    }
}

struct Verdict {
    problems: Vec<String>,
    told: String,
}

fn verify(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let key: VerifierKey = arguments.key.parse().context("--key")?;
    let mut problems = Vec::new();
    let newest = signed(&arguments.checkpoint, &key, &mut problems)?;
    let mut earlier = Vec::new();
    for file in &arguments.earlier {
        earlier.extend(signed(file, &key, &mut problems)?);
    }
    let Some(newest) = newest else {
        let told = "NOT VERIFIED: without a checkpoint that can be believed, nothing more can be told".to_owned();
        return Ok(Verdict { problems, told });
    };
    let size = newest.head.size;
    let mut examination = Examination::new(newest, earlier);
    read_lines(&arguments.export, &mut examination).with_context(|| arguments.export.display().to_string())?;
    let examined = examination.end();
    problems.extend(examined.findings.iter().map(ToString::to_string));
    if examined.untold > 0 {
        problems.push(format!("and {} more", examined.untold));
    }
    let told = if problems.is_empty() {
        let before = arguments.earlier.len();
        format!("verified: {size} entries are what was signed; {before} earlier checkpoints agree")
    } else {
        "NOT VERIFIED: the log is not what was signed".to_owned()
    };
    Ok(Verdict { problems, told })
}

/// The checkpoint in a file; one that cannot be believed is a problem, one that cannot be read an error.
fn signed(file: &Path, key: &VerifierKey, problems: &mut Vec<String>) -> anyhow::Result<Option<Checkpoint>> {
    let mut note = String::new();
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    opened.take(MAX_CHECKPOINT_BYTES).read_to_string(&mut note).with_context(|| file.display().to_string())?;
    match SignedCheckpoint::open(&note, key) {
        Ok(signed) if signed.checkpoint.origin == key.name() => return Ok(Some(signed.checkpoint)),
        Ok(signed) => {
            problems.push(format!("{}: it is of another log, {}", file.display(), signed.checkpoint.origin));
        }
        Err(error) => problems.push(format!("{}: the checkpoint cannot be believed: {error}", file.display())),
    }
    Ok(None)
}

fn read_lines(file: &Path, examination: &mut Examination) -> anyhow::Result<()> {
    let mut reader: Box<dyn BufRead> =
        if file == Path::new("-") { Box::new(stdin().lock()) } else { Box::new(BufReader::new(File::open(file)?)) };
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES.saturating_add(1);
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let ended = line.pop_if(|byte| *byte == b'\n').is_some();
        if !ended && u64::try_from(read).unwrap_or(u64::MAX) >= limit {
            // What follows would be read as lines of its own: nothing more can be told.
            anyhow::bail!("a line is longer than {MAX_LINE_BYTES} bytes");
        }
        match std::str::from_utf8(&line) {
            Ok(text) => examination.line(text),
            Err(_) => examination.unreadable("it is not UTF-8".to_owned()),
        }
    }
}

//! `hallpass-broker audit verify`: needs no broker, no store and no network.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hallpass_core::audit::examine::Examination;
use hallpass_core::audit::note::{NoteRejected, VerifierKey, unverified_signers};
use hallpass_core::audit::{Checkpoint, CheckpointRejected, SignedCheckpoint};

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
    /// A key that verifies checkpoints: `hallpass_audit_verifier_key` of the broker's
    /// `/.well-known/oauth-authorization-server`, noted while the broker was trusted. May be repeated: after the audit key
    /// was rotated or distrusted, checkpoints from before need the key of their time.
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<VerifierKey>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match verify(arguments) {
        Ok(verdict) => {
            let Verdict { signed, problems, untold, told } = &verdict;
            signed.iter().chain(problems).chain(untold).for_each(|line| println!("{line}"));
            println!("{told}");
            verdict.exit_code()
        }
        Err(error) => {
            eprintln!("hallpass-broker: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Verdict {
    /// Which key signed which checkpoint.
    signed: Vec<String>,
    /// What is not as it was signed.
    problems: Vec<String>,
    /// What says nothing, for or against the log.
    untold: Vec<String>,
    told: String,
}

impl Verdict {
    /// What was found to be wrong outweighs what cannot be told.
    fn exit_code(&self) -> ExitCode {
        match (self.problems.is_empty(), self.untold.is_empty()) {
            (false, _) => ExitCode::FAILURE,
            (true, false) => ExitCode::from(2),
            (true, true) => ExitCode::SUCCESS,
        }
    }
}

fn verify(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let keys = &arguments.keys;
    let mut verdict = Verdict::default();
    let newest = signed(&arguments.checkpoint, keys, &mut verdict)?;
    let mut earlier = Vec::new();
    for file in &arguments.earlier {
        earlier.extend(signed(file, keys, &mut verdict)?);
    }
    let Some(newest) = newest else {
        let believed = "without a checkpoint that can be believed, nothing more can be told";
        let found = if verdict.problems.is_empty() { "cannot be told" } else { "NOT VERIFIED" };
        verdict.told = format!("{found}: {believed}");
        return Ok(verdict);
    };
    let (size, before) = (newest.head.size, earlier.len());
    let mut examination = Examination::new(newest, earlier);
    read_lines(&arguments.export, &mut examination).with_context(|| arguments.export.display().to_string())?;
    let examined = examination.end();
    verdict.problems.extend(examined.findings.iter().map(ToString::to_string));
    if examined.untold > 0 {
        verdict.problems.push(format!("and {} more", examined.untold));
    }
    let agree = format!("{size} entries are what was signed; {before} earlier checkpoints agree");
    verdict.told = match (verdict.problems.is_empty(), verdict.untold.len()) {
        (false, _) => "NOT VERIFIED: the log is not what was signed".to_owned(),
        (true, 0) => format!("verified: {agree}"),
        (true, untold) => format!("cannot be told whole: {agree}, and {untold} could not be held against the log"),
    };
    Ok(verdict)
}

/// The checkpoint in a file; one that cannot be believed is a problem, one by an unknown key says nothing, and one that
/// cannot be read is an error.
fn signed(file: &Path, keys: &[VerifierKey], verdict: &mut Verdict) -> anyhow::Result<Option<Checkpoint>> {
    let name = file.display();
    let mut note = String::new();
    let opened = File::open(file).with_context(|| name.to_string())?;
    opened.take(MAX_CHECKPOINT_BYTES).read_to_string(&mut note).with_context(|| name.to_string())?;
    for key in keys {
        match SignedCheckpoint::open(&note, key) {
            Ok(signed) if signed.checkpoint.origin == key.name() => {
                verdict.signed.push(format!("{name}: {} entries, signed by {key}", signed.checkpoint.head.size));
                return Ok(Some(signed.checkpoint));
            }
            Ok(signed) => {
                verdict.problems.push(format!("{name}: it is of another log, {}", signed.checkpoint.origin));
                return Ok(None);
            }
            Err(CheckpointRejected::Note(NoteRejected::NotSigned { .. })) => {}
            Err(CheckpointRejected::Note(error @ NoteRejected::Malformed(_))) => {
                let told = "empty, cut off, or no checkpoint";
                verdict.untold.push(format!("{name}: cannot be told: {error}; the file is {told}"));
                return Ok(None);
            }
            Err(error) => {
                verdict.problems.push(format!("{name}: the checkpoint cannot be believed: {error}"));
                return Ok(None);
            }
        }
    }
    let by = unverified_signers(&note).join(", ");
    verdict.untold.push(format!(
        "{name}: cannot be told: it is signed by another key than those given ({by}); give that key too, with --key"
    ));
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

//! The verifier of audit logs: never panics on an export or a checkpoint, and finds every edit of a log that was signed.
//!
//! Input: a byte that chooses. Even: text, read as lines of an export, a checkpoint, a key and a leaf. Odd: edits of a
//! log that is as it was signed; each is a position (two bytes), what to do there, and a byte.
#![no_main]

use std::sync::LazyLock;

use hallpass_core::audit::examine::{Examination, Examined};
use hallpass_core::audit::note::VerifierKey;
use hallpass_core::audit::tree::{Frontier, TreeHead};
use hallpass_core::audit::{Checkpoint, Leaf, event};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const LOG: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

struct Signed {
    export: String,
    head: TreeHead,
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let mut frontier = Frontier::default();
    let mut export = String::new();
    for sequence in 0..5_u64 {
        let entry = json!({
            "action": "grant.open", "actor": {"kind": "workload", "issuer": "ci", "subject": "repo:acme/payments"},
            "object": {"kind": "grant", "id": format!("gr-{sequence}")}, "outcome": "success",
            "time": 1_764_000_000_000_u64 + sequence,
        });
        let leaf = Leaf::new(LOG.parse().expect("an id"), sequence, &entry.to_string());
        export.push_str(&event::line_of(&leaf).expect("an event"));
        export.push('\n');
        frontier.push(leaf.hash());
    }
    Signed { export, head: frontier.head() }
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    if choice % 2 == 0 { text(data) } else { edits(data) }
});

fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _checkpoint = Checkpoint::parse(text);
    let _key = text.parse::<VerifierKey>();
    let _leaf = Leaf::parse(text.to_owned());
    let found = !examine(text).findings.is_empty();
    assert!(found || is_as_signed(text), "verified a log that was not signed");
}

fn edits(data: &[u8]) {
    let mut export = SIGNED.export.clone().into_bytes();
    assert!(examine(&SIGNED.export).findings.is_empty(), "the log as it was signed is not verified");
    for edit in data.chunks_exact(4) {
        if export.is_empty() {
            break;
        }
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % export.len();
        match edit[2] % 4 {
            0 => export[at] = edit[3],
            1 => export.insert(at, edit[3]),
            2 => drop(export.remove(at)),
            _ => export.truncate(at),
        }
    }
    let Ok(export) = String::from_utf8(export) else { return };
    let found = !examine(&export).findings.is_empty();
    assert!(found || is_as_signed(&export), "an edit was not found");
}

fn examine(export: &str) -> Examined {
    let checkpoint = Checkpoint { origin: format!("example.org/{LOG}"), head: SIGNED.head };
    let mut examination = Examination::new(checkpoint, Vec::new());
    for line in lines(export) {
        examination.line(line);
    }
    examination.end()
}

/// Space between the members of a line is nobody's word: the same values are the same log.
fn is_as_signed(export: &str) -> bool {
    let values = |text| lines(text).map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
    values(export) == values(&SIGNED.export)
}

fn lines(export: &str) -> impl Iterator<Item = &str> {
    export.strip_suffix('\n').unwrap_or(export).split('\n')
}

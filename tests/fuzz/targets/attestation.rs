//! Envelopes and the statements in them: never panics, and what is kept of a statement is bounded.
#![no_main]

use hallpass_broker::identity::attestation::{Envelope, read};
use hallpass_core::attestation::{MAX_TOLD, Said};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(envelope) = Envelope::read(text)
    {
        statement(envelope.payload());
    }
    statement(data);
});

fn statement(payload: &[u8]) {
    let Ok(read) = read(payload) else { return };
    let kept = match read.said {
        Said::SlsaProvenance { subjects, .. } => subjects.len(),
        Said::Review(told) | Said::Plan(told) => told.approvers.len(),
    };
    assert!(kept <= MAX_TOLD, "kept {kept} of one statement");
}

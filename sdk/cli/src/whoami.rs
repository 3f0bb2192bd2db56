//! `hallpass whoami`: what the broker sees of the proof.

use hallpass_sdk::wire::{Provenance, WhoAmI};
use serde_json::{Map, Value};

use crate::args::Global;
use crate::connect;
use crate::output::{Output, fields, printable};

pub(crate) async fn run(global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = connect::client(global)?;
    let seen = client.whoami().await?;
    output.show(&seen, human)
}

fn human(seen: &WhoAmI) -> String {
    let proof = &seen.proof;
    fields(&[
        ("identity", Some(printable(&format!("{}:{}", seen.issuer, seen.subject)))),
        ("kind", Some(printable(&seen.kind))),
        ("groups", list(&seen.groups)),
        ("attributes", attributes(&seen.attributes)),
        ("provenance", provenance(&seen.provenance)),
        ("proof", Some(printable(&proof.id))),
        ("signed by", proof.key_id.as_deref().map(printable)),
        ("expires", Some(proof.expires_at.to_string())),
        ("audiences", list(&proof.audiences)),
    ])
}

pub(crate) fn list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| printable(&items.join(", ")))
}

pub(crate) fn attributes(attributes: &Map<String, Value>) -> Option<String> {
    let said: Vec<String> = attributes
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    list(&said)
}

/// Provenance in the names of the wire, those that are known.
pub(crate) fn provenance(provenance: &Provenance) -> Option<String> {
    match serde_json::to_value(provenance) {
        Ok(Value::Object(known)) => attributes(&known),
        _ => None,
    }
}

//! Audit entries as the world sees them.

use hallpass_core::audit::tree::TreeHash;
use hallpass_core::audit::{Actor, AuditObject, RecordedEntry};
use hallpass_core::id::LogId;
use hallpass_core::service::inspect::{Extended, Included};
use hallpass_core::service::receipt::GrantReceipt;
use hallpass_sdk::wire;
use serde_json::Value;

use super::{at, word};

/// An entry with its place in its log.
pub(in crate::http) fn entry(recorded: &RecordedEntry) -> wire::AuditEntry {
    let entry = &recorded.entry;
    wire::AuditEntry {
        log_id: recorded.log.to_string(),
        sequence: recorded.sequence,
        time: at(entry.time),
        actor: actor(&entry.actor),
        on_behalf_of: entry.on_behalf_of.as_ref().map(actor),
        action: word(&entry.action),
        object: object(&entry.object),
        outcome: word(&entry.outcome),
        reason: entry.reason.clone(),
        decision: entry.decision.map(|id| id.to_string()),
        request_id: entry.request_id.map(|id| id.to_string()),
        correlation_id: entry.correlation_id.clone(),
        detail: entry.detail.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect(),
    }
}

/// That an entry is in the log.
pub(in crate::http) fn inclusion(included: &Included) -> wire::InclusionProof {
    let Included { leaf, proof, checkpoint } = included;
    wire::InclusionProof {
        log_id: leaf.log().to_string(),
        entry: proof.sequence,
        size: proof.size,
        leaf: leaf.text().to_owned(),
        leaf_hash: leaf.hash().to_string(),
        hashes: hashes(&proof.hashes),
        root: checkpoint.checkpoint.head.root.to_string(),
        checkpoint: checkpoint.note.clone(),
    }
}

/// That the log begins with what it was.
pub(in crate::http) fn consistency(log: LogId, extended: &Extended) -> wire::ConsistencyProof {
    let Extended { proof, from_root, checkpoint } = extended;
    wire::ConsistencyProof {
        log_id: log.to_string(),
        from: proof.from,
        size: proof.size,
        hashes: hashes(&proof.hashes),
        from_root: from_root.to_string(),
        root: checkpoint.checkpoint.head.root.to_string(),
        checkpoint: checkpoint.note.clone(),
    }
}

/// That a grant's opening is in the log.
pub(in crate::http) fn receipt(receipt: &GrantReceipt) -> wire::Receipt {
    wire::Receipt {
        log_id: receipt.leaf.log().to_string(),
        entry: receipt.leaf.sequence(),
        leaf: receipt.leaf.text().to_owned(),
        proof: receipt.receipt.to_string(),
    }
}

fn hashes(hashes: &[TreeHash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

/// `issuer:subject` for who was verified.
pub(super) fn actor(actor: &Actor) -> String {
    match actor {
        Actor::Identity { issuer, subject } => format!("{issuer}:{subject}"),
        Actor::Broker => "hallpass:broker".to_owned(),
        Actor::Unverified { source: Some(source) } => format!("unverified@{source}"),
        Actor::Unverified { source: None } => "unverified".to_owned(),
        Actor::LocalAdministrator => "hallpass:local-administrator".to_owned(),
    }
}

/// `kind:name`.
fn object(object: &AuditObject) -> String {
    match object {
        AuditObject::Grant { id } => format!("grant:{id}"),
        AuditObject::Grants { ids } => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            format!("grants:{}", ids.join(","))
        }
        AuditObject::Role { name } => format!("role:{name}"),
        AuditObject::Configuration { revision } => format!("configuration:{revision}"),
        AuditObject::Key { id } => format!("key:{id}"),
        AuditObject::Revocation { id } => format!("revocation:{id}"),
        AuditObject::Quarantine { id } => format!("quarantine:{id}"),
        AuditObject::Broker => "broker".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::audit::{AuditAction, AuditEntry};
    use hallpass_core::id::{GrantId, LogId};
    use hallpass_core::testing::sample::{self, NOW};

    use super::*;

    #[test]
    fn an_entry_says_who_did_what_to_what() {
        let object = AuditObject::Grant { id: sample::id::<GrantId>(7) };
        let said = AuditEntry::success(NOW, Actor::Broker, AuditAction::GrantExpire, object).with("why", "time");
        let recorded = RecordedEntry { log: sample::id::<LogId>(1), sequence: 3, entry: said };
        insta::assert_json_snapshot!("audit_entry", entry(&recorded));
    }
}

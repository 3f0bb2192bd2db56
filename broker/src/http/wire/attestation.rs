//! What others signed about a change or a build, as it is told.

use hallpass_core::attestation::{MAX_OFFERED, Person, Reviewed, Said, Statement};
use hallpass_sdk::wire;

use super::at;
use crate::http::failure::Unreadable;

/// What was offered with a request, bounded in number; each one's size is its reader's to bound.
pub(in crate::http) fn attestations(offered: Vec<String>) -> Result<Vec<String>, Unreadable> {
    if offered.len() > MAX_OFFERED {
        let detail = format!("`attestations` has at most {MAX_OFFERED} entries");
        return Err(Unreadable::content("attestations", detail));
    }
    Ok(offered)
}

pub(super) fn attestation(statement: &Statement) -> wire::Attestation {
    let told = wire::Attestation {
        digest: statement.digest.clone(),
        attestor: statement.attestor.to_string(),
        at: statement.at.map(at),
        ..wire::Attestation::default()
    };
    match &statement.said {
        Said::SlsaProvenance { builder, repository, commit, subjects } => wire::Attestation {
            kind: "slsa-provenance".to_owned(),
            builder: Some(builder.clone()),
            repository: repository.clone(),
            commit: commit.clone(),
            subjects: subjects.iter().cloned().collect(),
            ..told
        },
        Said::Review(reviewed) => of_change("review", reviewed, told),
        Said::Plan(reviewed) => of_change("plan", reviewed, told),
    }
}

fn of_change(kind: &str, reviewed: &Reviewed, told: wire::Attestation) -> wire::Attestation {
    let name = |person: &Person| person.as_str().to_owned();
    wire::Attestation {
        kind: kind.to_owned(),
        commit: reviewed.commit.clone(),
        author: reviewed.author.as_ref().map(name),
        approvers: reviewed.approvers.iter().map(name).collect(),
        plan_digest: reviewed.plan_digest.clone(),
        ..told
    }
}

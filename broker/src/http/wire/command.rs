//! Commands over sets of grants: what is asked for, bounded; and how they stand.

use std::collections::BTreeMap;

use hallpass_core::audit::Actor;
use hallpass_core::grant::StateName;
use hallpass_core::id::{QuarantineId, RevocationId};
use hallpass_core::port::{Count, GrantFilter};
use hallpass_core::quarantine::{Quarantine, Roles};
use hallpass_core::request::Idempotency;
use hallpass_core::revocation::{Progress, Revocation};
use hallpass_core::selector::{Criteria, Selector};
use hallpass_core::service::inspect::Standing;
use hallpass_core::service::quarantine::Quarantining;
use hallpass_core::service::revoke_set::{Preview, RevokeSet, Revoking, ending_already, would_end};
use hallpass_core::time::Timestamp;
use hallpass_sdk::wire;

use super::audit::actor;
use super::{Origins, at, grant};
use crate::http::failure::Unreadable;

/// Longest text to select by: a subject or a purpose; everything else is shorter.
const MAX_SELECTED_CHARS: usize = 1_000;

/// `POST /v1/revocations`, and whether it is a dry run.
pub(in crate::http) fn revoke_set(
    asked: wire::RevocationRequest,
    idempotency: Option<Idempotency>,
) -> Result<(RevokeSet, bool), Unreadable> {
    let quarantine = asked.quarantine.map(|wanted| {
        let selector = wanted.selector.map(|wanted| selector("quarantine.selector", wanted)).transpose()?;
        Ok::<_, Unreadable>(Quarantining { selector, reason: wanted.reason, until: instant(wanted.until) })
    });
    let order = RevokeSet {
        selector: selector("selector", asked.selector)?,
        reason: Some(asked.reason),
        quarantine: quarantine.transpose()?,
        idempotency,
    };
    Ok((order, asked.dry_run))
}

/// `POST /v1/quarantines`.
pub(in crate::http) fn quarantining(asked: wire::QuarantineRequest) -> Result<Quarantining, Unreadable> {
    Ok(Quarantining {
        selector: Some(selector("selector", asked.selector)?),
        reason: Some(asked.reason),
        until: instant(asked.until),
    })
}

/// A selector; `name` is where it stands in the request.
fn selector(name: &str, asked: wire::Selector) -> Result<Selector, Unreadable> {
    let malformed = |member: &str, detail: &str| {
        let at = if member.is_empty() { name.to_owned() } else { format!("{name}.{member}") };
        Unreadable::content(&at, format!("`{at}` {detail}"))
    };
    let all = asked.all;
    let states = match asked.state {
        None => Vec::new(),
        Some(wire::GrantState::Pending) => vec![StateName::Pending],
        Some(wire::GrantState::Active) => vec![StateName::Active],
        Some(_) => return Err(malformed("state", "is `pending` or `active`: nothing else can be ended")),
    };
    let text = |member: &str, text: Option<String>| match text {
        Some(text) if text.is_empty() || text.chars().count() > MAX_SELECTED_CHARS => {
            Err(malformed(member, &format!("has 1 to {MAX_SELECTED_CHARS} characters")))
        }
        text => Ok(text),
    };
    let grants = GrantFilter {
        states,
        owner: text("owner", asked.owner)?,
        role: text("role", asked.role)?,
        issuer: text("issuer", asked.issuer)?,
        subject: text("subject", asked.subject)?,
        repository: text("repository", asked.repository)?,
        repository_id: text("repository_id", asked.repository_id)?,
        commit: text("commit", asked.commit)?,
        run: text("run", asked.run)?,
        environment: text("environment", asked.environment)?,
        backend: text("backend", asked.backend)?,
        policy: text("policy", asked.policy)?,
        purpose: text("purpose", asked.purpose)?,
        ticket: text("ticket", asked.ticket)?,
        since: asked.since.map(instant),
        until: asked.until.map(instant),
    };
    let parent = asked.parent.map(|id| id.parse().map_err(|_| malformed("parent", "is not the id of a grant")));
    let criteria = Criteria {
        grants,
        key_id: text("key_id", asked.key_id)?,
        proof_id: text("proof_id", asked.proof_id)?,
        parent: parent.transpose()?,
        actor: text("actor", asked.actor)?,
        attestation_digest: text("attestation_digest", asked.attestation_digest)?,
    };
    match (all, Selector::of(criteria)) {
        (true, Err(_)) => Ok(Selector::all()),
        (false, Ok(selector)) => Ok(selector),
        (true, Ok(_)) => Err(malformed("all", "goes with no other criterion: it means every grant there is")),
        (false, Err(empty)) => Err(malformed("", &format!("says nothing: {empty}"))),
    }
}

fn shown(selector: &Selector) -> wire::Selector {
    let Some(Criteria { grants, key_id, proof_id, parent, actor, attestation_digest }) = selector.criteria() else {
        return wire::Selector::everything();
    };
    let filter = grants.clone();
    wire::Selector {
        all: false,
        state: filter.states.first().map(|state| super::grant::state(*state)),
        owner: filter.owner,
        role: filter.role,
        issuer: filter.issuer,
        subject: filter.subject,
        repository: filter.repository,
        repository_id: filter.repository_id,
        commit: filter.commit,
        run: filter.run,
        environment: filter.environment,
        backend: filter.backend,
        policy: filter.policy,
        purpose: filter.purpose,
        ticket: filter.ticket,
        since: filter.since.map(at),
        until: filter.until.map(at),
        key_id: key_id.clone(),
        proof_id: proof_id.clone(),
        parent: parent.map(|id| id.to_string()),
        actor: actor.clone(),
        attestation_digest: attestation_digest.clone(),
    }
}

/// A revocation that was just begun.
pub(in crate::http) fn begun(begun: &Revoking) -> wire::SetRevocation {
    revocation(&begun.revocation, &begun.progress, None)
}

/// A revocation as it stands.
pub(in crate::http) fn standing(standing: Standing) -> wire::SetRevocation {
    revocation(&standing.revocation, &standing.progress, standing.receipt)
}

fn revocation(revocation: &Revocation, progress: &Progress, receipt: Option<String>) -> wire::SetRevocation {
    let tally = &progress.tally;
    let by_state = [
        ("revoking", tally.revoking),
        ("fenced", tally.fenced),
        ("revoked", tally.revoked),
        ("expired", tally.expired),
        ("failed", tally.failed),
        ("abandoned", tally.abandoned),
    ];
    let completed_at = revocation.completed.as_ref().map(|completed| at(completed.at));
    let mut links = BTreeMap::from([link("self", revocation_path(revocation.id))]);
    links.extend(revocation.quarantine.map(|id| link("quarantine", quarantine_path(id))));
    wire::SetRevocation {
        id: revocation.id.to_string(),
        state: if completed_at.is_some() { wire::RevocationState::Completed } else { wire::RevocationState::Running },
        selector: shown(&revocation.selector),
        reason: revocation.reason.clone(),
        by: actor(&revocation.author),
        created_at: at(revocation.created_at),
        completed_at,
        matched: progress.matched(),
        ended: tally.ended(),
        remaining: progress.remaining(),
        failing: tally.failing,
        by_state: by_state
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(state, n)| (state.to_owned(), n))
            .collect(),
        quarantine: revocation.quarantine.map(|id| id.to_string()),
        receipt,
        links,
    }
}

/// What would end.
pub(in crate::http) fn preview(preview: &Preview, origins: Origins<'_>) -> wire::RevocationPreview {
    wire::RevocationPreview {
        matched: would_end(&preview.counts),
        ending_already: ending_already(&preview.counts),
        counts: preview.counts.iter().map(count).collect(),
        grants: preview.grants.iter().map(|found| grant(found, origins)).collect(),
    }
}

fn count(count: &Count) -> wire::SelectedCount {
    let likeness = &count.likeness;
    wire::SelectedCount {
        role: likeness.role.to_string(),
        owner: likeness.owner.to_string(),
        environment: likeness.environment.as_ref().map(ToString::to_string),
        class: super::grant::class(likeness.class),
        state: super::grant::state(count.state),
        would_end: count.would_end,
        grants: count.grants,
    }
}

/// A quarantine, as it is at `now`.
pub(in crate::http) fn quarantine(quarantine: &Quarantine, now: Timestamp) -> wire::Quarantine {
    let lifted = quarantine.lifted.as_ref();
    wire::Quarantine {
        id: quarantine.id.to_string(),
        selector: shown(&quarantine.selector),
        roles: match &quarantine.roles {
            Roles::All => None,
            Roles::Some(roles) => Some(roles.iter().map(ToString::to_string).collect()),
        },
        reason: quarantine.reason.clone(),
        by: actor(&quarantine.author),
        created_at: at(quarantine.created_at),
        until: at(quarantine.until),
        in_force: lifted.is_none() && now < quarantine.until,
        lifted_at: lifted.map(|lifted| at(lifted.at)),
        lifted_by: lifted.filter(|lifted| lifted.by != Actor::Broker).map(|lifted| actor(&lifted.by)),
        links: BTreeMap::from([link("self", quarantine_path(quarantine.id))]),
    }
}

/// Where a revocation is read. Without a host, as are the links of commands: operators may have a listener of their own,
/// and what leads to the public URL would lead to where none of this is.
pub(in crate::http) fn revocation_path(id: RevocationId) -> String {
    format!("/v1/revocations/{id}")
}

/// Where a quarantine is read.
pub(in crate::http) fn quarantine_path(id: QuarantineId) -> String {
    format!("/v1/quarantines/{id}")
}

fn link(relation: &str, path: String) -> (String, String) {
    (relation.to_owned(), path)
}

fn instant(at: wire::Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_unix_millis())
}

//! `hallpass grants`: look at grants, renew or end them.

use std::fmt::Write as _;

use hallpass_sdk::Client;
use hallpass_sdk::wire::{
    Duration, Grant, GrantQuery, GrantState, Page, RenewRequest, RevocationClass, RevokeRequest, Timestamp,
};

use crate::args::{Filter, Global, Grants, GrantsAction};
use crate::connect;
use crate::output::{Output, Tone, fields, printable};
use crate::whoami::{attributes, list as listed, provenance};

pub(crate) async fn run(global: &Global, grants: Grants, output: &Output) -> anyhow::Result<()> {
    let client = connect::client(global)?;
    let grant = match grants.action {
        GrantsAction::List(filter) => return list(&client, *filter, output).await,
        GrantsAction::Show { id } => client.grant(&id).await?,
        GrantsAction::Renew { id, ttl } => client.renew(&id, &RenewRequest { ttl }).await?,
        GrantsAction::Revoke { id, reason } => client.revoke(&id, &RevokeRequest { reason }).await?,
    };
    output.show(&grant, |grant| one(grant, client.now(), output))
}

async fn list(client: &Client, filter: Filter, output: &Output) -> anyhow::Result<()> {
    let all = filter.all;
    let mut query = query(filter);
    let mut page = client.grants(&query).await?;
    while all && page.next_cursor.is_some() {
        query.cursor = page.next_cursor.take();
        let next = client.grants(&query).await?;
        if next.next_cursor == query.cursor {
            anyhow::bail!("the broker gave the same page twice");
        }
        page.items.extend(next.items);
        page.next_cursor = next.next_cursor;
    }
    output.show(&page, |page| table(page, client.now(), output))
}

fn query(filter: Filter) -> GrantQuery {
    GrantQuery {
        state: filter.state,
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
        since: filter.since,
        until: filter.until,
        cursor: filter.cursor,
        limit: Some(filter.limit),
    }
}

fn table(page: &Page<Grant>, now: Timestamp, output: &Output) -> String {
    if page.items.is_empty() {
        return "no grants match\n".to_owned();
    }
    let mut text = rows(&page.items, now, output);
    if let Some(cursor) = &page.next_cursor {
        let _ = writeln!(text, "{}", output.paint(Tone::Faint, &format!("more with --cursor {}", printable(cursor))));
    }
    text
}

/// Grants, one a line.
pub(crate) fn rows(grants: &[Grant], now: Timestamp, output: &Output) -> String {
    let rows: Vec<_> = grants
        .iter()
        .map(|grant| {
            let identity = format!("{}:{}", grant.identity.issuer, grant.identity.subject);
            let cells = [&grant.id, grant.state.as_str(), &grant.role, &grant.owner, &identity].map(printable);
            let [id, state, role, owner, identity] = cells;
            (tone(grant.state), [id, state, role, owner, identity, until(grant, now)])
        })
        .collect();
    output.table(["ID", "STATE", "ROLE", "OWNER", "IDENTITY", "WORKS UNTIL"], 1, &rows)
}

/// Everything that a grant can answer, in the order in which it is asked.
fn one(grant: &Grant, now: Timestamp, output: &Output) -> String {
    let decision = &grant.decision;
    let owner = match listed(&grant.owner_contacts) {
        Some(contacts) => format!("{} ({contacts})", printable(&grant.owner)),
        None => printable(&grant.owner),
    };
    let obligations = decision.obligations.clone().into_iter().collect();
    let approvers: Vec<String> = grant
        .approvals
        .iter()
        .map(|approval| format!("{}:{} at {}", approval.approver.issuer, approval.approver.subject, approval.time))
        .collect();
    fields(&[
        ("grant", Some(printable(&grant.id))),
        ("state", Some(output.paint(tone(grant.state), grant.state.as_str()))),
        ("what", Some(printable(&format!("{} at {}", grant.role, grant.backend)))),
        ("environment", grant.environment.as_deref().map(printable)),
        ("scope", listed(&grant.terms.scope)),
        ("who", Some(printable(&format!("{}:{}", grant.identity.issuer, grant.identity.subject)))),
        ("attributes", attributes(&grant.identity.attributes)),
        ("why", Some(printable(&grant.purpose))),
        ("ticket", grant.ticket.as_deref().map(printable)),
        ("whose", Some(owner)),
        ("from change", provenance(&grant.provenance)),
        ("by rule", listed(&decision.determining_policies)),
        ("of revision", Some(printable(&decision.policy_revision)).filter(|revision| !revision.is_empty())),
        ("obligations", attributes(&obligations)),
        ("agreed", listed(&approvers)),
        ("life", life(grant)),
        ("created", Some(grant.created_at.to_string())),
        ("last seen", grant.last_seen_at.map(|at| at.to_string())),
        ("ends", Some(grant.end_at.to_string())),
        ("works until", Some(until(grant, now))),
        ("at the latest", grant.max_expires_at.map(|at| at.to_string())),
        ("stopped by", Some(stopping(grant.revocation.class).to_owned())),
        ("fenced", grant.revocation.fenced_at.map(|at| at.to_string())),
        ("confirmed", grant.revocation.confirmed_at.map(|at| at.to_string())),
        ("attempts", Some(grant.revocation.attempts.to_string()).filter(|_| grant.revocation.attempts > 0)),
        ("next attempt", grant.revocation.retry_at.map(|at| at.to_string())),
        ("last error", grant.revocation.last_error.as_deref().map(printable)),
        ("exposure", grant.revocation.exposure_seconds.map(|seconds| Duration::from_secs(seconds).to_string())),
        ("ended", grant.ended_at.map(|at| at.to_string())),
        ("because", grant.cause.as_deref().map(printable)),
        ("parent", grant.parent.as_deref().map(printable)),
    ])
}

fn life(grant: &Grant) -> Option<String> {
    let ttl = grant.terms.ttl?;
    Some(match &grant.terms.bound {
        Some(bound) => format!("{ttl}, bounded by {}", printable(bound)),
        None => ttl.to_string(),
    })
}

fn until(grant: &Grant, now: Timestamp) -> String {
    match grant.expires_at.seconds_since(now) {
        left if left > 0 && !grant.state.is_over() => {
            format!("{} (in {})", grant.expires_at, Duration::from_secs(left))
        }
        _ => grant.expires_at.to_string(),
    }
}

fn tone(state: GrantState) -> Tone {
    match state {
        GrantState::Active => Tone::Good,
        GrantState::Pending | GrantState::Revoking => Tone::Waiting,
        GrantState::Failed | GrantState::Abandoned => Tone::Bad,
        GrantState::Revoked | GrantState::Expired | GrantState::Unknown => Tone::Faint,
    }
}

fn stopping(class: RevocationClass) -> &'static str {
    match class {
        RevocationClass::Hard => "the backend, at once (hard)",
        RevocationClass::Fenced => "a rule that verifiers consult, until it expires (fenced)",
        RevocationClass::ExpiryOnly => "nothing but time (expiry_only)",
        RevocationClass::Unknown => "a class that this version does not know",
    }
}

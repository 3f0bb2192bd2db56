//! What callers ask for, bounded, before the domain hears of it.

use hallpass_core::id::GrantId;
use hallpass_core::request::{GrantRequest, Idempotency};
use hallpass_core::time::Ttl;
use hallpass_sdk::wire;

use super::attestation::attestations;
use crate::http::failure::Unreadable;

/// Longest ticket: a reference, not a text.
const MAX_TICKET_CHARS: usize = 200;
/// Longest description of an agent's task.
const MAX_TASK_CHARS: usize = 400;
/// Longest certificate request: RSA-4096 with many names takes a quarter of it.
const MAX_CSR_BYTES: usize = 16 * 1024;
/// Most entries of a scope.
const MAX_SCOPES: usize = 64;
/// Longest entry of a scope.
const MAX_SCOPE_CHARS: usize = 200;

/// `POST /v1/grants`. What this version does not act on is refused as such: ignoring a bound would widen the grant.
pub(in crate::http) fn grant_request(
    asked: wire::CreateGrant,
    idempotency: Option<Idempotency>,
) -> Result<GrantRequest, Unreadable> {
    let ends_when = asked.ends_when.unwrap_or_default();
    let unsupported = [
        ("exception", asked.exception.is_some()),
        ("ends_when.run", ends_when.run),
        ("ends_when.ticket", ends_when.ticket),
        ("ends_when.environment", ends_when.environment),
    ];
    if let Some((field, _)) = unsupported.into_iter().find(|(_, given)| *given) {
        return Err(Unreadable::unknown_field(field, format!("this version does not act on `{field}`")));
    }
    if asked.csr.as_ref().is_some_and(|csr| csr.len() > MAX_CSR_BYTES) {
        return Err(Unreadable::content("csr", format!("`csr` is longer than {MAX_CSR_BYTES} bytes")));
    }
    Ok(GrantRequest {
        role: asked.role,
        purpose: asked.purpose,
        ttl: asked.ttl.map(life),
        ticket: ticket(asked.ticket)?,
        task: task(asked.task)?,
        scope: scope(asked.scope)?,
        csr: asked.csr,
        heartbeat: ends_when.heartbeat.map(life),
        replaces: replaces(asked.replaces.as_deref())?,
        attestations: attestations(asked.attestations)?,
        idempotency,
        single_token: false,
    })
}

/// The grant whose place the new one shall take.
pub(in crate::http) fn replaces(written: Option<&str>) -> Result<Option<GrantId>, Unreadable> {
    let wrong = |_| Unreadable::content("replaces", "`replaces` is not the id of a grant");
    written.map(|id| id.parse().map_err(wrong)).transpose()
}

/// A length of time.
pub(in crate::http) fn life(duration: wire::Duration) -> Ttl {
    Ttl::from_secs(duration.as_secs())
}

/// What an agent was asked to do.
pub(in crate::http) fn task(text: Option<String>) -> Result<Option<String>, Unreadable> {
    bounded_line("task", text, MAX_TASK_CHARS)
}

/// A ticket or change reference.
pub(in crate::http) fn ticket(text: Option<String>) -> Result<Option<String>, Unreadable> {
    bounded_line("ticket", text, MAX_TICKET_CHARS)
}

/// One line of bounded length. Blank counts as none.
fn bounded_line(name: &str, text: Option<String>, max_chars: usize) -> Result<Option<String>, Unreadable> {
    match text {
        Some(text) if text.chars().count() > max_chars || text.chars().any(char::is_control) => {
            Err(Unreadable::content(name, format!("`{name}` is one line of at most {max_chars} characters")))
        }
        text => Ok(text.filter(|text| !text.trim().is_empty())),
    }
}

/// A scope: few and short entries of the characters that RFC 6749 §3.3 allows.
pub(in crate::http) fn scope(entries: Vec<String>) -> Result<Vec<String>, Unreadable> {
    let fits = |entry: &String| {
        (1..=MAX_SCOPE_CHARS).contains(&entry.len())
            && entry.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    if entries.len() > MAX_SCOPES || !entries.iter().all(fits) {
        let detail = format!(
            "`scope` has at most {MAX_SCOPES} entries of at most {MAX_SCOPE_CHARS} visible ASCII characters each"
        );
        return Err(Unreadable::content("scope", detail));
    }
    Ok(entries)
}

//! Names in a selector that nothing knows. They are misspelt most likely, and then nothing would end, on a day when that
//! must not look like success.

use super::Ports;
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError};
use crate::port::GrantFilter;
use crate::revocation::Reach;
use crate::selector::{Criteria, Selector};

/// What to say of a name in `selector` that neither the configuration nor a grant knows, as far as `reach` goes: that
/// somebody else's role is there is nothing to learn here.
///
/// # Errors
/// [`ServiceError`] when the store cannot be asked.
pub(super) async fn unknown_name(
    ports: &Ports,
    revision: &Revision,
    selector: &Selector,
    reach: &Reach,
) -> Result<Option<Refusal>, ServiceError> {
    let Some(Criteria { grants: GrantFilter { role, owner, issuer, backend, .. }, .. }) = selector.criteria() else {
        return Ok(None);
    };
    if role.as_deref().is_some_and(|role| !reach.likenesses().any(|known| known.role.as_str() == role)) {
        let right = "of no role that you may end grants of, of now or of before: write it as `GET /v1/roles` has it";
        return Ok(Some(misnamed("role", right)));
    }
    if owner.as_deref().is_some_and(|owner| !reach.likenesses().any(|known| known.owner.as_str() == owner)) {
        let right =
            "of no owner whose roles' grants you may end, of now or of before: write it as `GET /v1/owners` has it";
        return Ok(Some(misnamed("owner", right)));
    }
    if let Some(name) = issuer {
        let filter = GrantFilter { issuer: Some(name.clone()), ..GrantFilter::default() };
        let configured = revision.verifiers.iter().any(|verifier| verifier.issuer().as_str() == name);
        if !configured && !holds_one(ports, filter, reach).await? {
            let right = "of no issuer that is configured or that a live grant has: write its name, not its URL";
            return Ok(Some(misnamed("issuer", right)));
        }
    }
    if let Some(name) = backend {
        let filter = GrantFilter { backend: Some(name.clone()), ..GrantFilter::default() };
        let configured = revision.backends.keys().any(|backend| backend.as_str() == name);
        if !configured && !holds_one(ports, filter, reach).await? {
            return Ok(Some(misnamed("backend", "of no backend that is configured or that a live grant has")));
        }
    }
    Ok(None)
}

async fn holds_one(ports: &Ports, grants: GrantFilter, reach: &Reach) -> Result<bool, ServiceError> {
    let Ok(selector) = Selector::of(Criteria { grants, ..Criteria::default() }) else { return Ok(true) };
    Ok(!ports.store.first_selected(&selector, reach, 1).await?.is_empty())
}

fn misnamed(member: &str, right: &str) -> Refusal {
    let parameter = format!("selector.{member}");
    let detail = format!("`{parameter}` is the name {right}");
    Refusal::request(Reason::MalformedRequest, &parameter, detail)
}

//! What would be decided, as the world sees it.

use hallpass_core::catalog::Revision;
use hallpass_core::policy::{Obligations, Outcome};
use hallpass_core::service::open::Foreseen;
use hallpass_sdk::wire;

use super::at;
use super::grant::{class, obligations, terms};

/// What opening would answer by `revision`. A denial reads the same for a role that does not exist and for one that the
/// caller may not even read.
pub(in crate::http) fn foreseen(revision: &Revision, foreseen: &Foreseen, may_read: bool) -> wire::DecisionAnswer {
    let decided = &foreseen.decisions;
    let permitted = decided.iter().all(|decision| decision.verdict.outcome == Outcome::Allow);
    let shown = decided.iter().filter(|_| permitted || may_read);
    let mut determining: Vec<_> =
        shown.flat_map(|decision| &decision.verdict.determining).map(ToString::to_string).collect();
    determining.sort();
    determining.dedup();
    let agreed = decided.iter().filter(|_| permitted);
    let demanded = agreed.fold(Obligations::default(), |all, decision| all.and(&decision.verdict.obligations));
    let (granted, refusal) = (foreseen.terms.as_ref().ok(), foreseen.terms.as_ref().err());
    wire::DecisionAnswer {
        outcome: if granted.is_some() { wire::Outcome::Allow } else { wire::Outcome::Deny },
        policy_revision: revision.id.to_string(),
        determining_policies: determining,
        obligations: obligations(&demanded),
        terms: granted.map(terms),
        class: granted.map(|terms| class(terms.class)),
        end_at: granted.map(|terms| at(terms.end_at)),
        expires_at: granted.map(|terms| at(terms.expires_at)),
        max_expires_at: granted.map(|terms| at(terms.max_expires_at)),
        reason: refusal.map(|refusal| refusal.reason.as_str().to_owned()),
        detail: refusal.map(|refusal| refusal.detail.clone()),
    }
}

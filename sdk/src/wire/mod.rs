//! The types that Hallpass's HTTP interfaces carry, exactly as JSON spells them.
//!
//! Both sides use them, so every type serialises and deserialises. Requests ([`CreateGrant`], [`RenewRequest`],
//! [`RevokeRequest`], [`AbandonRequest`], [`DecisionRequest`], [`PutConfiguration`], [`GrantQuery`], [`AuditQuery`],
//! [`RevocationRequest`], [`QuarantineRequest`]) refuse fields that they do not know: a misspelt bound must never be
//! ignored. Responses accept unknown fields, and unknown words in their closed sets become
//! `Unknown`, so that an older client keeps working with a newer broker.

mod attestation;
mod audit;
mod catalog;
mod command;
mod configuration;
mod credential;
mod decision;
mod grant;
mod identity;
mod page;
mod problem;
mod request;
#[cfg(feature = "openapi")]
mod schema;
mod secret;
mod time;
mod token;

pub use attestation::Attestation;
pub use audit::{AuditEntry, AuditQuery, ConsistencyProof, InclusionProof, Receipt};
pub use catalog::{Member, Owner, PurposeRule, Role, RoleState, TtlRule};
pub use command::{
    Quarantine, QuarantineRequest, RevocationPreview, RevocationQuarantine, RevocationRequest, RevocationState,
    SelectedCount, Selector, SetRevocation,
};
pub use configuration::{
    Configuration, Difference, FileChanges, FileDifference, Publication, PutConfiguration, Revision, RevisionDetail,
    Touched,
};
pub use credential::Credential;
pub use decision::{DecisionAnswer, DecisionRequest, Outcome};
pub use grant::{
    AccessRequest, AccessRequestResponse, Approval, CreateGrantResponse, DecisionSummary, Grant, GrantState,
    Revocation, RevocationClass, Terms,
};
pub use identity::{Acting, Binding, Identity, ProofSummary, Provenance, WhoAmI};
pub use page::{GrantQuery, Page};
pub use problem::{Finding, PROBLEM_JSON, Problem};
pub use request::{AbandonRequest, CreateGrant, EndsWhen, ExceptionRequest, RenewRequest, RevokeRequest};
pub use secret::{Secret, SecretMap, expose, expose_optional};
pub use time::{Duration, InvalidDuration, InvalidTimestamp, Timestamp};
pub use token::{Introspection, TokenError, TokenResponse, grant_type, token_type};

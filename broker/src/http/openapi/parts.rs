//! What the interface speaks that is no wire type: forms, queries that are read by hand, and documents of other
//! people's standards. Nothing makes these; they are here to be described.

#![expect(dead_code, reason = "these types describe what other code reads and writes")]

use hallpass_sdk::wire::{ConsistencyProof, InclusionProof, Secret};
use utoipa::{IntoParams, ToSchema};

/// `POST /oauth2/token` (RFC 8693 §2.1). Parameters that are not named here are ignored (RFC 6749 §3.2).
#[derive(ToSchema)]
pub(in crate::http) struct ExchangeForm {
    /// The one grant type.
    #[schema(pattern = "^urn:ietf:params:oauth:grant-type:token-exchange$")]
    grant_type: String,
    /// The proof: a token, or, for an X.509-SVID, a JSON array of certificates in base64 (as `x5c`, RFC 7515 section 4.1.6) of
    /// which the first is the client certificate of the connection. One that is bound to a key (`cnf`) is accepted with that
    /// key alone, also where somebody acts for whoever it is of: shown by a DPoP proof, or as the connection's certificate.
    subject_token: Secret,
    /// What kind of token it is.
    subject_token_type: TokenType,
    /// The role that is wanted.
    audience: String,
    /// What the answer's token shall be called.
    #[schema(nullable = false)]
    requested_token_type: Option<RequestedTokenType>,
    /// Why, in words that an owner will understand later. Required unless the role has a default.
    #[schema(nullable = false)]
    purpose: Option<String>,
    /// How long: `15m`, or whole seconds.
    #[schema(nullable = false, pattern = "^[0-9]+$|^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$")]
    ttl: Option<String>,
    /// Ticket or change reference.
    #[schema(nullable = false, max_length = 200)]
    ticket: Option<String>,
    /// Narrows what the credential may do; entries are separated by spaces.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// The proof of whoever acts for the one that `subject_token` is of, in the same forms. Keys that are shown with the request
    /// are the actor's, and what is minted is bound to them.
    #[schema(nullable = false)]
    actor_token: Option<Secret>,
    /// What kind of token that is; with `actor_token` alone, and always with it.
    #[schema(nullable = false)]
    actor_token_type: Option<TokenType>,
    /// What an agent was asked to do.
    #[schema(nullable = false, max_length = 400)]
    task: Option<String>,
    /// A JSON array of signed statements about the change or the build behind the request, each an envelope as text.
    #[schema(nullable = false)]
    attestations: Option<String>,
    /// Says which client this is, and proves nothing.
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// Whether the answer carries a receipt from the audit log.
    #[schema(nullable = false)]
    receipt: Option<bool>,
}

/// Token type identifiers (RFC 8693 §3).
#[derive(ToSchema)]
pub(in crate::http) enum TokenType {
    /// A JWT of any meaning.
    #[schema(rename = "urn:ietf:params:oauth:token-type:jwt")]
    Jwt,
    /// An OpenID Connect id token.
    #[schema(rename = "urn:ietf:params:oauth:token-type:id_token")]
    IdToken,
    /// An OAuth access token.
    #[schema(rename = "urn:ietf:params:oauth:token-type:access_token")]
    AccessToken,
    /// An X.509-SVID: the client certificate of the connection.
    #[schema(rename = "urn:ietf:params:oauth:token-type:mtls")]
    Mtls,
}

/// What the answer's token can be called.
#[derive(ToSchema)]
pub(in crate::http) enum RequestedTokenType {
    /// A JWT of any meaning.
    #[schema(rename = "urn:ietf:params:oauth:token-type:jwt")]
    Jwt,
    /// An OAuth access token.
    #[schema(rename = "urn:ietf:params:oauth:token-type:access_token")]
    AccessToken,
}

/// A question about a token (RFC 7662 §2.1, RFC 7009 §2.1).
#[derive(ToSchema)]
pub(in crate::http) struct TokenForm {
    /// The token.
    token: Secret,
    /// Ignored: the broker knows its own tokens.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
}

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PageQuery {
    /// Where to go on, from `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most entries on a page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Whether anything is done.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DryRunQuery {
    /// Only say what would be.
    dry_run: Option<bool>,
}

/// From which revision.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DifferenceQuery {
    /// The revision from which the difference leads here.
    #[param(pattern = "^[0-9a-f]{64}$")]
    diff: Option<String>,
}

/// Which entries of the audit log.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AuditQuery {
    /// Those of one request, by its `X-Request-Id`.
    #[param(format = "uuid", value_type = String)]
    request_id: Option<String>,
    /// Those about one grant.
    #[param(format = "uuid", value_type = String)]
    grant: Option<String>,
    /// Where to go on, from `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most entries on a page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Which proof of the audit log: give `entry` or `from`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ProofQuery {
    /// Place of the entry that is to be shown in the log, from 0.
    entry: Option<u64>,
    /// How many entries the log had that is to be shown as a beginning.
    from: Option<u64>,
    /// How many entries the log has that the proof is for; all that there are, if not given.
    size: Option<u64>,
}

/// A proof of the audit log.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum AuditProof {
    /// To `entry`.
    Inclusion(InclusionProof),
    /// To `from`.
    Consistency(ConsistencyProof),
}

/// Metadata of an authorization server (RFC 8414 §2, OpenID Connect Discovery §3).
#[derive(ToSchema)]
pub(in crate::http) struct ServerMetadata {
    /// Its `iss`.
    issuer: String,
    /// Where proofs are exchanged.
    token_endpoint: String,
    /// Where its keys are.
    jwks_uri: String,
    /// Where tokens are asked about.
    introspection_endpoint: String,
    /// Where tokens are ended.
    revocation_endpoint: String,
    /// The grant types that it has.
    grant_types_supported: Vec<String>,
    /// What strict relying parties ask for.
    response_types_supported: Vec<String>,
    /// What verifies checkpoints of the audit log and receipts (C2SP signed-note).
    hallpass_audit_verifier_key: String,
}

/// A JWK set (RFC 7517 §5).
#[derive(ToSchema)]
pub(in crate::http) struct JwkSet {
    /// Public keys.
    #[schema(value_type = Vec<Object>)]
    keys: Vec<()>,
}

/// How `/oauth2` says no: RFC 6749 §5.2 and, beside it, what a problem would say.
#[derive(ToSchema)]
pub(in crate::http) struct OAuthProblem {
    /// The standard's word.
    error: String,
    /// For people.
    error_description: String,
    /// Stable code.
    reason: String,
    /// Which step refused.
    #[schema(nullable = false)]
    step: Option<String>,
    /// Which claim or parameter of the caller's own was wrong.
    #[schema(nullable = false)]
    parameter: Option<String>,
}

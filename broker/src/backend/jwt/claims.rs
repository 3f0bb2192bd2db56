//! What a token says.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::credential::IssueOrder;
use hallpass_core::delegation::ActorChain;
use hallpass_core::id::GrantId;
use hallpass_core::port::IssueError;
use hallpass_core::time::Timestamp;
use ring::digest;
use serde::Serialize;
use serde_json::{Map, Value};

use super::parameters::Parameters;
use super::status_list::Listed;

/// Longest `sub`: clouds refuse longer ones when they trust an issuer.
const MAX_SUBJECT_LEN: usize = 127;

/// Begins the part of a `sub` that stands for a subject too long to be written out.
const DIGEST_PREFIX: &str = "sha256:";

/// The claims of an access token (RFC 9068 §2.2), with those that lead back to the grant.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: Audience<'a>,
    exp: i64,
    iat: i64,
    jti: GrantId,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    grant_id: GrantId,
    role: &'a str,
    owner: &'a str,
    purpose: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    /// The plan that it is for, where the request came with one: who carries it out compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_digest: Option<&'a str>,
    /// Who acts for `sub`, and for whom that one does (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Act>>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<BTreeMap<&'static str, String>>,
    #[serde(flatten)]
    of_role: Option<&'a Map<String, Value>>,
}

/// One audience is a string and several are a list (RFC 7519 §4.1.3): many verifiers only know the string.
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

/// Where a verifier can ask whether the token was fenced (draft-ietf-oauth-status-list §6.1).
#[derive(Serialize)]
struct Status {
    status_list: Listed,
}

/// One who acts.
#[derive(Serialize)]
struct Act {
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Self>>,
}

impl Act {
    fn of(actors: &ActorChain) -> Option<Box<Self>> {
        let outwards = actors.iter().rev();
        outwards.fold(None, |act, one| Some(Box::new(Self { sub: subject(one.issuer.as_str(), &one.subject), act })))
    }
}

impl<'a> Claims<'a> {
    /// The claims of `order`'s token.
    pub(super) fn new(
        order: &'a IssueOrder,
        parameters: &Parameters<'a>,
        public_url: &'a str,
        expires_at: Timestamp,
    ) -> Result<Self, IssueError> {
        let sub = subject(&order.issuer, &order.subject);
        let provenance = &order.provenance;
        Ok(Self {
            iss: public_url,
            client_id: sub.clone(),
            sub,
            aud: match parameters.audience.as_slice() {
                [audience] => Audience::One(audience),
                several => Audience::Many(several.to_vec()),
            },
            exp: expires_at.as_secs(),
            // Rounded down, and without `nbf`: a verifier whose clock is a little behind must not refuse it as early.
            iat: order.issued_at.as_secs(),
            jti: order.grant,
            scope: parameters.grant_scope(&order.scope)?,
            grant_id: order.grant,
            role: order.role.name.as_str(),
            owner: order.owner.name.as_str(),
            purpose: &order.purpose,
            repository: provenance.repository.as_deref(),
            repository_id: provenance.repository_id.as_deref(),
            commit: provenance.commit.as_deref(),
            run: provenance.run.as_deref(),
            plan_digest: order.plan_digest.as_deref(),
            act: Act::of(&order.actors),
            status: Status { status_list: Listed::at(order.status_index, public_url) },
            cnf: order.binding_key.map(|key| BTreeMap::from([key.confirmation()])),
            of_role: parameters.claims,
        })
    }
}

/// `<issuer>:<subject>`, or `<issuer>:sha256:<digest of the subject>` where that would be too long.
///
/// Two subjects never share a `sub`: a subject that itself begins like a digest is digested too, or an issuer's user
/// could choose one that reads like somebody else's.
pub(super) fn subject(issuer: &str, subject: &str) -> String {
    if issuer.len() + 1 + subject.len() <= MAX_SUBJECT_LEN && !subject.starts_with(DIGEST_PREFIX) {
        return format!("{issuer}:{subject}");
    }
    let digest = digest::digest(&digest::SHA256, subject.as_bytes());
    format!("{issuer}:{DIGEST_PREFIX}{}", URL_SAFE_NO_PAD.encode(digest))
}

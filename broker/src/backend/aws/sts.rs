//! Sessions: asked of STS with the broker's own token, or with credentials that the machine gives it.

use std::sync::Arc;

use hallpass_core::time::{Timestamp, Ttl};
use serde_json::{Map, Value, json};

use super::answers::{Assumed, Caller};
use super::chain::Chain;
use super::query::{CallFailed, Parameters, Service};
use super::signing::Keys;
use super::tags::Tag;
use crate::backend::own_identity::OwnIdentity;

/// Where AWS reads session tags in a token.
const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";
/// Where AWS reads the source identity in a token.
const SOURCE_IDENTITY_CLAIM: &str = "https://aws.amazon.com/source_identity";

/// How the broker shows who it is.
#[derive(Clone)]
pub(super) enum Auth {
    /// By a token of its own, which AWS verifies as an OIDC provider's.
    WebIdentity { identity: OwnIdentity, audience: String },
    /// By credentials of the default chain.
    AssumeRole(Arc<Chain>),
}

/// A session to ask for.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) role_arn: &'a str,
    pub(super) session_name: &'a str,
    pub(super) duration: Ttl,
    pub(super) policy: Option<&'a str>,
    pub(super) policy_arns: &'a [String],
    pub(super) tags: &'a [Tag],
    pub(super) source_identity: Option<&'a str>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) keys: Keys,
    pub(super) expires_at: Timestamp,
    /// By AWS's clock: what the policy variable `aws:TokenIssueTime` holds.
    pub(super) issued_at: Timestamp,
}

/// STS, and how the broker shows it who it is.
#[derive(Clone)]
pub(super) struct Sts {
    pub(super) service: Service,
    pub(super) auth: Auth,
}

impl Sts {
    /// Asks for a session.
    pub(super) async fn assume(&self, ask: Ask<'_>) -> Result<Session, CallFailed> {
        match &self.auth {
            Auth::WebIdentity { identity, audience } => {
                let claims = claims(ask);
                let token = identity.token(audience, Some(&claims));
                let token = token.map_err(|error| CallFailed::Unsent(error.to_string()))?;
                let mut parameters = common(ask);
                let duration = ask.duration.as_secs().to_string();
                parameters.push(("DurationSeconds".to_owned(), &duration));
                parameters.push(("WebIdentityToken".to_owned(), token.expose()));
                let answer = self.service.call("AssumeRoleWithWebIdentity", &parameters, None).await?;
                session(answer, ask.duration)
            }
            Auth::AssumeRole(chain) => {
                let keys = chain.keys().await.map_err(|error| CallFailed::Unsent(error.to_string()))?;
                let mut parameters = common(ask);
                let duration = ask.duration.as_secs().to_string();
                parameters.push(("DurationSeconds".to_owned(), &duration));
                for (n, tag) in (1_u32..).zip(ask.tags) {
                    parameters.push((format!("Tags.member.{n}.Key"), &tag.key));
                    parameters.push((format!("Tags.member.{n}.Value"), &tag.value));
                }
                parameters.extend(ask.source_identity.map(|identity| ("SourceIdentity".to_owned(), identity)));
                let answer = self.service.call("AssumeRole", &parameters, Some(&keys)).await?;
                session(answer, ask.duration)
            }
        }
    }

    /// How a role's trust policy names whoever asks: by the OIDC provider, or by the caller's own name. None where STS
    /// does not say.
    pub(super) async fn principal(&self, account: &str) -> Option<String> {
        match &self.auth {
            Auth::WebIdentity { identity, .. } => {
                let host = identity.issuer().split_once("://").map_or(identity.issuer(), |(_, host)| host);
                Some(format!("arn:aws:iam::{account}:oidc-provider/{host}"))
            }
            Auth::AssumeRole(chain) => {
                let keys = chain.keys().await.ok()?;
                let caller: Caller = self.service.call("GetCallerIdentity", &Vec::new(), Some(&keys)).await.ok()?;
                Some(role_of_session(&caller.result.arn).unwrap_or(caller.result.arn))
            }
        }
    }
}

/// `arn:aws:sts::1:assumed-role/name/session` → `arn:aws:iam::1:role/name`.
fn role_of_session(arn: &str) -> Option<String> {
    let (head, resource) = arn.split_once(":assumed-role/")?;
    let (name, _) = resource.split_once('/')?;
    Some(format!("{}:role/{name}", head.replacen(":sts:", ":iam:", 1)))
}

fn common<'a>(ask: Ask<'a>) -> Parameters<'a> {
    let mut parameters: Parameters<'a> =
        vec![("RoleArn".to_owned(), ask.role_arn), ("RoleSessionName".to_owned(), ask.session_name)];
    parameters.extend(ask.policy.map(|policy| ("Policy".to_owned(), policy)));
    for (n, arn) in (1_u32..).zip(ask.policy_arns) {
        parameters.push((format!("PolicyArns.member.{n}.arn"), arn));
    }
    parameters
}

/// What the token says beside who the broker is.
fn claims(ask: Ask<'_>) -> Map<String, Value> {
    let mut claims = Map::new();
    if !ask.tags.is_empty() {
        let tags: Map<String, Value> = ask.tags.iter().map(|tag| (tag.key.clone(), json!([tag.value]))).collect();
        claims.insert(TAGS_CLAIM.to_owned(), json!({"principal_tags": tags, "transitive_tag_keys": []}));
    }
    if let Some(identity) = ask.source_identity {
        claims.insert(SOURCE_IDENTITY_CLAIM.to_owned(), json!(identity));
    }
    claims
}

fn session(answer: Assumed, asked: Ttl) -> Result<Session, CallFailed> {
    let Assumed { result } = answer;
    let unreadable = |what: &str| CallFailed::NoAnswer(format!("the session's {what} does not read"));
    let expires_at = Timestamp::parse_rfc3339(&result.credentials.expiration).map_err(|_| unreadable("expiration"))?;
    Ok(Session {
        keys: Keys {
            access_key_id: result.credentials.access_key_id,
            secret_access_key: result.credentials.secret_access_key,
            session_token: Some(result.credentials.session_token),
        },
        expires_at,
        issued_at: expires_at.minus(asked),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_traced_to_its_role() {
        let arn = "arn:aws:sts::123456789012:assumed-role/broker/i-0abc";
        assert_eq!(role_of_session(arn).as_deref(), Some("arn:aws:iam::123456789012:role/broker"));
        assert_eq!(role_of_session("arn:aws:iam::123456789012:user/broker"), None);
    }

    #[test]
    fn the_token_carries_tags_and_source_identity_only_where_they_are_wanted() {
        let tags = [Tag { key: "hallpass:owner".to_owned(), value: "payments".to_owned() }];
        let ask = Ask {
            role_arn: "arn:aws:iam::123456789012:role/deploy",
            session_name: "x",
            duration: Ttl::from_secs(900),
            policy: None,
            policy_arns: &[],
            tags: &tags,
            source_identity: Some("ada"),
        };
        assert_eq!(
            Value::Object(claims(ask)),
            json!({
                "https://aws.amazon.com/tags": {
                    "principal_tags": {"hallpass:owner": ["payments"]},
                    "transitive_tag_keys": [],
                },
                "https://aws.amazon.com/source_identity": "ada",
            })
        );
        assert!(claims(Ask { tags: &[], source_identity: None, ..ask }).is_empty());
    }
}

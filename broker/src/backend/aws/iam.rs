//! IAM, as a role of its own that the broker assumes for it: sessions are fenced there, and doors are looked for.

use std::sync::Arc;

use hallpass_core::time::{Timestamp, Ttl};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::answers::{
    AccessKey, Done, GotRole, GotRolePolicy, ListedAccessKeys, ListedAttachedPolicies, ListedEntities,
    ListedRolePolicies,
};
use super::query::{CallFailed, Parameters, Service};
use super::signing::Keys;
use super::sts::{Ask, Sts};

/// How long a session with IAM is asked for: the shortest, since it can lift fences.
const LIFE: Ttl = Ttl::from_mins(15);
/// How long before its end the next is asked for.
const AHEAD: Ttl = Ttl::from_mins(5);
/// Most pages of a list.
const MAX_PAGES: usize = 10;

/// IAM.
pub(super) struct Iam {
    service: Service,
    sts: Sts,
    role_arn: String,
    session_name: String,
    session: Mutex<Option<(Arc<Keys>, Timestamp)>>,
}

/// A role.
pub(super) struct RoleFacts {
    /// `AROA…`.
    pub(super) id: String,
    /// Its trust policy.
    pub(super) trust: Value,
}

/// Who has a managed policy.
#[derive(Debug, Default)]
pub(super) struct Entities {
    pub(super) users: Vec<String>,
    pub(super) roles: Vec<String>,
}

impl Iam {
    /// IAM as `role_arn`, which `sts` assumes.
    pub(super) fn new(service: Service, sts: Sts, role_arn: &str, session_name: String) -> Self {
        Self { service, sts, role_arn: role_arn.to_owned(), session_name, session: Mutex::default() }
    }

    /// Has a session at hand that is good for a while.
    pub(super) async fn keys(&self) -> Result<Arc<Keys>, CallFailed> {
        let mut session = self.session.lock().await;
        let now = self.service.clock.now();
        if let Some((keys, _)) = session.as_ref().filter(|(_, expires_at)| now < expires_at.minus(AHEAD)) {
            return Ok(Arc::clone(keys));
        }
        let ask = Ask {
            role_arn: &self.role_arn,
            session_name: &self.session_name,
            duration: LIFE,
            policy: None,
            policy_arns: &[],
            tags: &[],
            source_identity: None,
        };
        match self.sts.assume(ask).await {
            Ok(assumed) => {
                let keys = Arc::new(assumed.keys);
                *session = Some((Arc::clone(&keys), assumed.expires_at));
                Ok(keys)
            }
            // Asked for ahead of its end: the old one is good still.
            Err(failed) => match session.as_ref().filter(|(_, expires_at)| now < *expires_at) {
                Some((keys, _)) => Ok(Arc::clone(keys)),
                None => Err(failed),
            },
        }
    }

    /// A role. None where there is no such role.
    pub(super) async fn role(&self, name: &str) -> Result<Option<RoleFacts>, CallFailed> {
        let got: Option<GotRole> = self.find("GetRole", &[("RoleName", name)]).await?;
        got.map(|got| {
            let role = got.result.role;
            if !is_role_id(&role.role_id) {
                return Err(CallFailed::NoAnswer("a role's id does not read".to_owned()));
            }
            let trust = json(&role.assume_role_policy_document)?;
            Ok(RoleFacts { id: role.role_id, trust })
        })
        .transpose()
    }

    /// An inline policy of a role. None where there is none of that name.
    pub(super) async fn inline_policy(&self, role: &str, policy: &str) -> Result<Option<Value>, CallFailed> {
        let parameters = [("RoleName", role), ("PolicyName", policy)];
        let got: Option<GotRolePolicy> = self.find("GetRolePolicy", &parameters).await?;
        got.map(|got| json(&got.result.policy_document)).transpose()
    }

    /// The names of a role's inline policies.
    pub(super) async fn inline_policies(&self, role: &str) -> Result<Vec<String>, CallFailed> {
        let mut names = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page: ListedRolePolicies = self.page("ListRolePolicies", ("RoleName", role), marker.as_deref()).await?;
            names.extend(page.result.policy_names.members);
            marker = page.result.marker.filter(|_| page.result.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        Ok(names)
    }

    /// Puts an inline policy.
    pub(super) async fn put_inline_policy(&self, role: &str, policy: &str, document: &Value) -> Result<(), CallFailed> {
        let document = document.to_string();
        let parameters = [("RoleName", role), ("PolicyName", policy), ("PolicyDocument", document.as_str())];
        self.call::<Done>("PutRolePolicy", &parameters).await.map(|_| ())
    }

    /// Deletes an inline policy; that there is none is fine.
    pub(super) async fn delete_inline_policy(&self, role: &str, policy: &str) -> Result<(), CallFailed> {
        let parameters = [("RoleName", role), ("PolicyName", policy)];
        self.find::<Done>("DeleteRolePolicy", &parameters).await.map(|_| ())
    }

    /// The managed policies of a role, by their ARNs.
    pub(super) async fn attached_policies(&self, role: &str) -> Result<Vec<String>, CallFailed> {
        let mut arns = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page: ListedAttachedPolicies =
                self.page("ListAttachedRolePolicies", ("RoleName", role), marker.as_deref()).await?;
            arns.extend(page.result.attached_policies.members.into_iter().map(|attached| attached.policy_arn));
            marker = page.result.marker.filter(|_| page.result.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        Ok(arns)
    }

    /// Who has a managed policy.
    pub(super) async fn entities_of(&self, policy_arn: &str) -> Result<Entities, CallFailed> {
        let mut entities = Entities::default();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page: ListedEntities =
                self.page("ListEntitiesForPolicy", ("PolicyArn", policy_arn), marker.as_deref()).await?;
            entities.users.extend(page.result.policy_users.members.into_iter().map(|user| user.user_name));
            entities.roles.extend(page.result.policy_roles.members.into_iter().map(|role| role.role_name));
            marker = page.result.marker.filter(|_| page.result.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        Ok(entities)
    }

    /// The ids of a user's keys that work. There are two at most. No such user has none.
    pub(super) async fn active_keys(&self, user: &str) -> Result<Vec<String>, CallFailed> {
        let listed: Option<ListedAccessKeys> = self.find("ListAccessKeys", &[("UserName", user)]).await?;
        let keys = listed.map(|listed| listed.result.access_key_metadata.members).unwrap_or_default();
        let is_active = |key: &AccessKey| key.status == "Active";
        Ok(keys.into_iter().filter(is_active).map(|key| key.access_key_id).collect())
    }

    async fn page<A: DeserializeOwned>(
        &self,
        action: &str,
        about: (&str, &str),
        marker: Option<&str>,
    ) -> Result<A, CallFailed> {
        let mut parameters = vec![about];
        parameters.extend(marker.map(|marker| ("Marker", marker)));
        self.call(action, &parameters).await
    }

    /// None where IAM knows no such thing.
    async fn find<A: DeserializeOwned>(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Option<A>, CallFailed> {
        match self.call(action, parameters).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.is("NoSuchEntity") => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    async fn call<A: DeserializeOwned>(&self, action: &str, parameters: &[(&str, &str)]) -> Result<A, CallFailed> {
        let keys = self.keys().await?;
        let parameters: Parameters<'_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        self.service.call(action, &parameters, Some(&keys)).await
    }
}

/// Policies come as JSON, percent-encoded (RFC 3986).
fn json(encoded: &str) -> Result<Value, CallFailed> {
    let decoded = percent_decode_str(encoded).decode_utf8_lossy();
    serde_json::from_str(&decoded).map_err(|_| CallFailed::NoAnswer("a policy of IAM does not read".to_owned()))
}

/// Written into policies: nothing else may get in.
fn is_role_id(id: &str) -> bool {
    (4..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

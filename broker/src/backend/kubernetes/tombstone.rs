//! The Secret that a grant's token is bound to. It holds nothing; when it is gone, so is the token.

use std::collections::BTreeMap;

use hallpass_core::credential::{Handle, IssueOrder};
use hallpass_core::id::GrantId;
use hallpass_core::port::{IssueError, RevokeError, Undone};
use hallpass_core::secret::SecretBytes;
use reqwest::Method;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, Declined, Question};
use super::wire::{
    DeleteOptions, METADATA, METADATA_LIST, Metadata, NewMetadata, NewSecret, Object, Page, Preconditions,
};
use super::{declined, refused};
use crate::backend::rest::{Body, Unanswered};

/// Whose tombstones these are: a digest of the broker's `public_url`, since a label holds no URL.
const INSTANCE: &str = "hallpass/instance";
const GRANT: &str = "hallpass/grant";
/// How many objects a page has, where they are small. An object's annotations, which come with its metadata, may be 256 KiB.
const PAGE: usize = 500;
/// By how much smaller pages are asked for where one was more than is read.
const SHRINKING: usize = 8;
/// Most pages of one namespace: beyond, something is wrong there, and no inventory is better than half of one.
const MAX_PAGES: usize = 1000;

/// What it takes to end a token: the handle of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trace {
    namespace: String,
    name: String,
    /// Known once the Secret was made. Another one of the same name is not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

impl Trace {
    pub(super) fn planned(namespace: &str, grant: GrantId) -> Self {
        Self { namespace: namespace.to_owned(), name: format!("hallpass-{grant}"), uid: None }
    }

    pub(super) fn of(handle: &Handle) -> Result<Self, &'static str> {
        serde_json::from_slice(handle.0.expose()).map_err(|_| "the handle is none of this backend's")
    }

    pub(super) fn handle(&self) -> Handle {
        // A few texts can always be written.
        Handle(SecretBytes::new(serde_json::to_vec(self).unwrap_or_default()))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }
}

/// What the tombstones of one broker have as [`INSTANCE`].
pub(super) fn mark(instance: &str) -> String {
    let digest = digest(&SHA256, instance.as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the Secret of a grant.
pub(super) async fn make(
    cluster: &Cluster,
    (instance, mark): (&str, &str),
    order: &IssueOrder,
    planned: &Trace,
) -> Result<Trace, IssueError> {
    let grant = order.grant.to_string();
    let secret = NewSecret {
        api_version: "v1",
        kind: "Secret",
        metadata: NewMetadata {
            name: &planned.name,
            labels: BTreeMap::from([("app.kubernetes.io/managed-by", "hallpass"), (INSTANCE, mark)]),
            annotations: BTreeMap::from([
                ("hallpass/broker", instance),
                (GRANT, grant.as_str()),
                ("hallpass/owner", order.owner.name.as_str()),
                ("hallpass/role", order.role.name.as_str()),
            ]),
        },
        immutable: true,
        secret_type: "hallpass/tombstone",
    };
    let question = Question {
        method: Method::POST,
        path: &[&planned.namespace, "secrets"],
        query: &[],
        accept: METADATA,
        body: Body::json(&secret)?,
    };
    let answered = cluster.ask(question).await?;
    if answered.status != 201 {
        return Err(declined("a Secret in the role's namespace", &answered));
    }
    let made: Option<Object> = answered.read();
    let Some(made) = made.filter(|made| made.metadata.name == planned.name && !made.metadata.uid.is_empty()) else {
        let internal = "the API server answered something else than the Secret that was made".to_owned();
        return Err(IssueError::OutcomeUnknown { internal });
    };
    Ok(Trace { uid: Some(made.metadata.uid), ..planned.clone() })
}

/// Deletes the Secret, and believes it when it is not there.
pub(super) async fn end(cluster: &Cluster, mark: &str, trace: &Trace) -> Result<Undone, RevokeError> {
    let uid = match &trace.uid {
        Some(uid) => uid.clone(),
        None => match find(cluster, trace).await? {
            Some(found) if is_ours(&found, mark) => found.uid,
            // Where somebody else's Secret has the name, ours is not there.
            Some(_) | None => return Ok(Undone::Gone),
        },
    };
    let options =
        DeleteOptions { api_version: "v1", kind: "DeleteOptions", preconditions: Preconditions { uid: &uid } };
    let question = Question {
        method: Method::DELETE,
        path: &[&trace.namespace, "secrets", &trace.name],
        query: &[],
        accept: METADATA,
        body: Body::json(&options).map_err(failed)?,
    };
    let answered = cluster.ask(question).await.map_err(failed)?;
    match answered.status {
        404 => return Ok(Undone::Gone),
        // Taken; or it has another UID, or is being changed: what is there now tells.
        200 | 202 | 409 => {}
        _ => return Err(failed(Declined::of(&answered))),
    }
    match find(cluster, trace).await? {
        Some(found) if found.uid == uid => {
            let internal = format!("the Secret {}/{} is still there after it was deleted", trace.namespace, trace.name);
            Err(RevokeError { internal })
        }
        Some(_) | None => Ok(Undone::Gone),
    }
}

async fn find(cluster: &Cluster, trace: &Trace) -> Result<Option<Metadata>, RevokeError> {
    let question = Question {
        method: Method::GET,
        path: &[&trace.namespace, "secrets", &trace.name],
        query: &[],
        accept: METADATA,
        body: Body::None,
    };
    let answered = cluster.ask(question).await.map_err(failed)?;
    match answered.status {
        404 => Ok(None),
        200 => match answered.read::<Object>() {
            Some(object) => Ok(Some(object.metadata)),
            None => Err(failed("it answered something else than a Secret's metadata")),
        },
        _ => Err(failed(Declined::of(&answered))),
    }
}

/// The tombstones of a namespace: those of this broker with their grants, and those of others.
pub(super) async fn all(
    cluster: &Cluster,
    mark: &str,
    namespace: &str,
) -> Result<Vec<(Trace, Option<GrantId>)>, RevokeError> {
    let found = list(cluster, namespace, ("labelSelector", INSTANCE)).await?;
    let traced = found.into_iter().map(|metadata| {
        let grant = metadata.annotations.get(GRANT).filter(|_| is_ours(&metadata, mark));
        let grant = grant.and_then(|grant| grant.parse().ok());
        (Trace { namespace: namespace.to_owned(), name: metadata.name, uid: Some(metadata.uid) }, grant)
    });
    Ok(traced.collect())
}

/// Tokens of the old kind, which nothing ends: Secrets that a controller keeps filled. Each is told with its account.
pub(super) async fn static_tokens(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, RevokeError> {
    let of_a_service_account = ("fieldSelector", "type=kubernetes.io/service-account-token");
    let found = list(cluster, namespace, of_a_service_account).await?;
    let named = found.into_iter().map(|metadata| {
        let account = metadata.annotations.get("kubernetes.io/service-account.name");
        let account = account.map(String::as_str).unwrap_or_default();
        format!("{namespace}/secrets/{} of service account {account}", metadata.name)
    });
    Ok(named.collect())
}

async fn list(cluster: &Cluster, namespace: &str, by: (&str, &str)) -> Result<Vec<Metadata>, RevokeError> {
    let mut found = Vec::new();
    let (mut next, mut size) = (String::new(), PAGE);
    for _ in 0..MAX_PAGES {
        let limit = size.to_string();
        let mut query = vec![by, ("limit", limit.as_str())];
        if !next.is_empty() {
            query.push(("continue", &next));
        }
        let question = Question {
            method: Method::GET,
            path: &[namespace, "secrets"],
            query: &query,
            accept: METADATA_LIST,
            body: Body::None,
        };
        let answered = match cluster.ask(question).await {
            Err(Unanswered::TooLarge) if size > 1 => {
                size = (size / SHRINKING).max(1);
                continue;
            }
            answered => answered.map_err(failed)?,
        };
        if answered.status != 200 {
            // Also 410: what is left of the list has expired meanwhile. The next inventory begins anew.
            return Err(failed(Declined::of(&answered)));
        }
        let page: Option<Page> = answered.read();
        let page = page.ok_or_else(|| failed("it answered something else than a list"))?;
        found.extend(page.items.into_iter().map(|object| object.metadata));
        if page.metadata.next.is_empty() {
            return Ok(found);
        }
        (next, size) = (page.metadata.next, size.saturating_mul(2).min(PAGE));
    }
    Err(failed(format!("{namespace} has more Secrets than {MAX_PAGES} pages")))
}

fn is_ours(metadata: &Metadata, mark: &str) -> bool {
    metadata.labels.get(INSTANCE).is_some_and(|label| label == mark)
}

fn failed(why: impl std::fmt::Display) -> RevokeError {
    RevokeError { internal: why.to_string() }
}

/// The trace that was prepared, which names the Secret that is there.
pub(super) fn prepared(handle: &Handle) -> Result<(Trace, String), IssueError> {
    let trace = Trace::of(handle).map_err(|why| IssueError::Unavailable { internal: why.to_owned() })?;
    match trace.uid().map(str::to_owned) {
        Some(uid) => Ok((trace, uid)),
        None => Err(refused("nothing was prepared that its token could be bound to")),
    }
}

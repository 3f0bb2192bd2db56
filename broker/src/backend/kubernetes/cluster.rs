//! Calls to the API server, as the broker.

use hallpass_core::port::scrubbed;
use reqwest::Method;

use super::wire::Status;
use crate::backend::own_identity::OwnIdentity;
use crate::backend::rest::{Answered, Api, Ask, Body, Unanswered};
use crate::config::backend::kubernetes::KubernetesLogin;
use crate::outbound::token_file;

/// A cluster's API server.
pub(super) struct Cluster {
    api: Api,
    login: KubernetesLogin,
    identity: OwnIdentity,
}

/// What is asked of it.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// Below `/api/v1/namespaces`.
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) accept: &'a str,
    pub(super) body: Body,
}

/// What it says when it does not do what it was asked to.
pub(super) struct Declined {
    pub(super) status: u16,
    /// In its own word (`Forbidden`, `NotFound`, …), where it says one.
    pub(super) reason: String,
    /// In its own words: they name accounts and groups, and are for the operator.
    pub(super) message: String,
}

impl Cluster {
    pub(super) const fn new(api: Api, login: KubernetesLogin, identity: OwnIdentity) -> Self {
        Self { api, login, identity }
    }

    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answered, Unanswered> {
        let token = match &self.login {
            KubernetesLogin::Certificate(_) => None,
            KubernetesLogin::TokenFile(file) => Some(token_file::read(file).await.map_err(Unanswered::Unsent)?),
            KubernetesLogin::Jwt { audience, .. } => {
                let token = self.identity.token(audience, None);
                Some(token.map_err(|error| Unanswered::Unsent(error.to_string()))?)
            }
        };
        let bearer = token.map(|token| zeroize::Zeroizing::new(format!("Bearer {}", token.expose())));
        let mut headers = vec![("accept", question.accept)];
        headers.extend(bearer.as_ref().map(|bearer| ("authorization", bearer.as_str())));
        let mut path = vec!["api", "v1", "namespaces"];
        path.extend(question.path);
        let Question { method, query, body, .. } = question;
        self.api.ask(Ask { method, path: &path, query, headers: &headers, body }).await
    }
}

impl Declined {
    pub(super) fn of(answered: &Answered) -> Self {
        let status: Option<Status> = answered.read();
        let (reason, message) = status.map(|status| (status.reason, status.message)).unwrap_or_default();
        Self { status: answered.status, reason: scrubbed(&reason), message: scrubbed(&message) }
    }
}

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

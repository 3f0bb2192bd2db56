//! GitHub Actions: the runner's endpoint for id tokens.

use serde::Deserialize;
use url::Url;

use super::{Proof, ProofContext, ProofError, ProofFuture, ProofSource};
use crate::client::builder::is_this_machine;
use crate::wire::Secret;

pub(super) const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
pub(super) const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
const NAME: &str = "github-actions";

/// The id-token endpoint of a GitHub Actions job with `id-token: write`. Every proof is fresh.
pub struct GitHubActions {
    request_url: Url,
    request_token: Secret,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(with = "crate::wire::expose")]
    value: Secret,
}

impl GitHubActions {
    /// From the values of `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    ///
    /// # Errors
    /// [`ProofError::Refused`] for a URL that is none, or would carry the token in the clear.
    pub fn new(request_url: &str, request_token: Secret) -> Result<Self, ProofError> {
        let refused = |reason: &str| ProofError::Refused { name: NAME, reason: format!("{REQUEST_URL} {reason}") };
        let request_url = Url::parse(request_url).map_err(|_| refused("is not a URL"))?;
        if request_url.scheme() != "https" && !(request_url.scheme() == "http" && is_this_machine(&request_url)) {
            return Err(refused("is not https"));
        }
        Proof::new(request_token.expose())?;
        Ok(Self { request_url, request_token })
    }

    async fn request(&self, context: &ProofContext<'_>) -> Result<Proof, ProofError> {
        let mut url = self.request_url.clone();
        url.query_pairs_mut().append_pair("audience", context.audience);
        let request = context.transport.request(reqwest::Method::GET, url).bearer_auth(self.request_token.expose());
        let reply =
            context.transport.send(request).await.map_err(|source| ProofError::Unreachable { name: NAME, source })?;
        let status = reply.status;
        let answer: Answer = reply.into().map_err(|_| ProofError::Refused {
            name: NAME,
            reason: format!("it answered {status}, without a token"),
        })?;
        Proof::new(answer.value.expose())
    }
}

impl ProofSource for GitHubActions {
    fn name(&self) -> &str {
        NAME
    }

    fn refreshable(&self) -> bool {
        true
    }

    fn variables(&self) -> Vec<String> {
        vec![REQUEST_URL.to_owned(), REQUEST_TOKEN.to_owned()]
    }

    fn fetch<'a>(&'a self, context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(self.request(context))
    }
}

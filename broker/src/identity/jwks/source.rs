//! Where keys come from: an issuer's discovery document and key set over https, or a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hallpass_core::spiffe::TrustDomain;
use hallpass_core::time::Ttl;
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::{KeySet, KeySetError, MAX_DOCUMENT_BYTES};
use crate::identity::jose::json::{Document, Json};
use crate::outbound::workload_api;
use crate::outbound::{AllowHttp, Answer, Get, Outbound, OutboundError};

/// Time for one document. Requests may wait for it; more would let a slow issuer hold them.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Fetched {
    /// A key set, and for how long its issuer says it may be kept.
    Keys(KeySet, Option<Ttl>),
    /// The set that is already held.
    Unchanged(Option<Ttl>),
}

/// Why a fetch brought no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// The issuer did not answer, or not as it must.
    #[error("{0}")]
    Unavailable(String),
    /// The issuer answered with a document that publishes no keys.
    #[error("{0}")]
    Unusable(KeySetError),
    /// The trust bundle is older than the one that is held.
    #[error(
        "the trust bundle is older than the one held, whose spiffe_sequence is {before}: its own is {}. Where its publisher \
         began to count anew, restart the broker, which believes the first that it reads",
        now.map_or("missing".to_owned(), |now| now.to_string())
    )]
    Outdated {
        /// Its sequence.
        now: Option<u64>,
        /// That of the one that is held.
        before: u64,
    },
}

/// A place to fetch keys from, with what is remembered between fetches.
#[derive(Debug)]
pub(super) enum Source {
    Remote(Box<Remote>),
    File(File),
    WorkloadApi(WorkloadApi),
}

/// How a document of keys is written.
pub(super) type Format = fn(&[u8]) -> Result<KeySet, KeySetError>;

impl Source {
    /// Fetches the keys. `discover` says that the discovery document is due again.
    pub(super) async fn fetch(&mut self, discover: bool) -> Result<Fetched, FetchError> {
        match self {
            Self::Remote(remote) => remote.fetch(discover).await,
            Self::File(file) => file.fetch().await,
            Self::WorkloadApi(api) => api.fetch().await,
        }
    }

    /// Forgets what was read last, which was not taken: it will not be told as unchanged.
    pub(super) fn forget(&mut self) {
        match self {
            Self::Remote(remote) => remote.held = None,
            Self::File(file) => file.held = None,
            Self::WorkloadApi(_) => {}
        }
    }
}

/// Keys over https.
#[derive(Debug)]
pub(super) struct Remote {
    client: Arc<Outbound>,
    allow_http: AllowHttp,
    place: Place,
    format: Format,
    /// `ETag` of the last set that could be read, with the URL that gave it: an `ETag` means nothing to another URL.
    held: Option<(Url, String)>,
}

#[derive(Debug)]
enum Place {
    Fixed(Url),
    Discovered { issuer: String, document: Url, origins: Vec<String>, found: Option<Url> },
}

impl Remote {
    pub(super) fn fixed(client: Arc<Outbound>, allow_http: AllowHttp, url: Url, format: Format) -> Self {
        Self { client, allow_http, place: Place::Fixed(url), format, held: None }
    }

    /// `origins` are further origins, besides the issuer's own, that may serve its keys.
    pub(super) fn discovered(
        client: Arc<Outbound>,
        allow_http: AllowHttp,
        issuer: &str,
        document: Url,
        origins: Vec<String>,
    ) -> Self {
        let place = Place::Discovered { issuer: issuer.to_owned(), document, origins, found: None };
        Self { client, allow_http, place, format: KeySet::parse, held: None }
    }

    async fn fetch(&mut self, discover: bool) -> Result<Fetched, FetchError> {
        let url = self.locate(discover).await?;
        let fetched = self.fetch_keys(&url).await;
        if let (Err(_), Place::Discovered { found, .. }) = (&fetched, &mut self.place) {
            *found = None; // The set may have moved.
        }
        fetched
    }

    async fn locate(&mut self, discover: bool) -> Result<Url, FetchError> {
        match &mut self.place {
            Place::Fixed(url) => Ok(url.clone()),
            Place::Discovered { found: Some(url), .. } if !discover => Ok(url.clone()),
            Place::Discovered { issuer, document, origins, found } => {
                let get = Get {
                    url: document,
                    accept: "application/json",
                    if_none_match: None,
                    max_bytes: MAX_DOCUMENT_BYTES,
                    deadline: FETCH_DEADLINE,
                    allow_http: self.allow_http,
                };
                let Answer::Body { bytes, .. } = self.client.get(get).await.map_err(discovery_failed)? else {
                    return Err(discovery_failed(OutboundError::UnaskedNotModified));
                };
                let url = keys_url(&bytes, issuer, document, origins).map_err(discovery_failed)?;
                *found = Some(url.clone());
                Ok(url)
            }
        }
    }

    async fn fetch_keys(&mut self, url: &Url) -> Result<Fetched, FetchError> {
        let etag = self.held.as_ref().filter(|(held, _)| held == url).map(|(_, etag)| etag.as_str());
        let get = Get {
            url,
            accept: "application/jwk-set+json, application/json",
            if_none_match: etag,
            max_bytes: MAX_DOCUMENT_BYTES,
            deadline: FETCH_DEADLINE,
            allow_http: self.allow_http,
        };
        let failed = |error: OutboundError| FetchError::Unavailable(format!("the key set: {error}"));
        match self.client.get(get).await.map_err(failed)? {
            Answer::NotModified { max_age } => Ok(Fetched::Unchanged(max_age)),
            Answer::Body { bytes, etag, max_age } => {
                let keys = parse(&bytes, self.format)?;
                self.held = etag.map(|etag| (url.clone(), etag));
                Ok(Fetched::Keys(keys, max_age))
            }
        }
    }
}

/// Keys in a file. It is small and local, so it is read whole each time: a modification time can miss a change.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    format: Format,
    held: Option<Vec<u8>>,
}

impl File {
    pub(super) const fn new(path: PathBuf, format: Format) -> Self {
        Self { path, format, held: None }
    }

    async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        let document = self.read().await.map_err(|error| {
            FetchError::Unavailable(format!("the key set file {} cannot be read: {error}", self.path.display()))
        })?;
        if self.held.as_ref() == Some(&document) {
            return Ok(Fetched::Unchanged(None));
        }
        let keys = parse(&document, self.format)?;
        self.held = Some(document);
        Ok(Fetched::Keys(keys, None))
    }

    async fn read(&self) -> std::io::Result<Vec<u8>> {
        let file = tokio::fs::File::open(&self.path).await?;
        let mut document = Vec::new();
        // One byte more than allowed, so that too long a file is seen to be.
        let limit = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut document).await?;
        Ok(document)
    }
}

/// What a trust domain's agent gives to the broker as to one of its workloads (SPIFFE Workload API §5.2, §6.2).
#[derive(Debug)]
pub(super) struct WorkloadApi {
    api: workload_api::Client,
    trust_domain: TrustDomain,
}

impl WorkloadApi {
    pub(super) const fn new(api: workload_api::Client, trust_domain: TrustDomain) -> Self {
        Self { api, trust_domain }
    }

    async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        Self::held(self.api.bundles(&self.trust_domain).await)
    }

    /// What is to be held after this answer. Each is complete (SPIFFE Workload API §4.4): a bundle that is not in it was
    /// taken away, and trusts nobody from then on.
    fn held(answer: Result<workload_api::Bundles, workload_api::ApiError>) -> Result<Fetched, FetchError> {
        let keys = match answer {
            Ok(bundles) => KeySet::of_workload_api(&bundles.x509, &bundles.jwt).map_err(FetchError::Unusable)?,
            Err(workload_api::ApiError::NoBundle) => KeySet::default(),
            Err(error) => return Err(FetchError::Unavailable(format!("the Workload API: {error}"))),
        };
        Ok(Fetched::Keys(keys, None))
    }
}

/// A set that is too large is an issuer that cannot be read, one that is malformed publishes nothing.
fn parse(document: &[u8], format: Format) -> Result<KeySet, FetchError> {
    format(document).map_err(|error| match error {
        KeySetError::TooLarge | KeySetError::TooManyKeys => FetchError::Unavailable(error.to_string()),
        KeySetError::Json(_) | KeySetError::NoKeys | KeySetError::Certificates => FetchError::Unusable(error),
    })
}

fn discovery_failed(error: impl std::fmt::Display) -> FetchError {
    FetchError::Unavailable(format!("the discovery document: {error}"))
}

/// Where an issuer's discovery document is (OpenID Connect Discovery §4.1).
///
/// # Errors
/// When the issuer is no absolute URL.
pub fn discovery_url(issuer: &str) -> Result<Url, url::ParseError> {
    Url::parse(&format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer)))
}

/// Reads `jwks_uri` from a discovery document. The document must be this issuer's, byte for byte (OpenID Connect
/// Discovery §4.3), and keys must come from its own origin or from one that the operator named: otherwise a document
/// that somebody could change would move trust to another host.
fn keys_url(document: &[u8], issuer: &str, own: &Url, origins: &[String]) -> Result<Url, String> {
    let members = Document::parse(document).map_err(|error| format!("it cannot be read: {error}"))?.members;
    if members.get("issuer").and_then(Json::as_text) != Some(issuer) {
        return Err("its `issuer` is not the configured one, byte for byte".to_owned());
    }
    let named = members.get("jwks_uri").and_then(Json::as_text).ok_or("it has no `jwks_uri`")?;
    let url = Url::parse(named).map_err(|_| "its `jwks_uri` is not an absolute URL")?;
    let origin = url.origin();
    let is_named = |named: &String| Url::parse(named).is_ok_and(|named| named.origin() == origin);
    if origin != own.origin() && !origins.iter().any(is_named) {
        return Err("its `jwks_uri` is at another origin; name that origin in `jwks_origins` to accept it".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_the_agent_took_away_trusts_nobody_and_one_that_it_cannot_give_stays() {
        let taken_away = WorkloadApi::held(Err(workload_api::ApiError::NoBundle)).unwrap();
        assert!(
            matches!(taken_away, Fetched::Keys(keys, None) if keys.keys().len() == 0 && keys.authorities().is_empty())
        );
        let silent = WorkloadApi::held(Err(workload_api::ApiError::Malformed("it ends early")));
        assert!(matches!(silent, Err(FetchError::Unavailable(_))));
    }
}

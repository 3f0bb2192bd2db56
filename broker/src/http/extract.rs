//! What handlers are given of a request: who asks, from where, and what.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Path, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, IF_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::{Bytes, BytesMut};
use hallpass_core::binding::Possession;
use hallpass_core::error::{Reason, Refusal, ServiceError};
use hallpass_core::id::RevisionId;
use hallpass_core::identity::{ClientCertificate, Proof, TokenType};
use hallpass_core::port::{NotShown, Presented, ProvedRequest};
use hallpass_core::request::Origin;
use hallpass_core::secret::Secret;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::failure::{Failure, Fault, Unreadable};
use super::form::Parameters;
use super::json;
use super::limits::HttpLimits;
use super::router::ApiState;

/// Carries a proof of possession (RFC 9449 §4.1).
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The connection that a request came over; the listener attaches it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Address of the peer: of a proxy, where one stands in front.
    pub peer: SocketAddr,
    /// Name that the TLS client asked for (RFC 6066 §3).
    pub server_name: Option<Arc<str>>,
    /// What the TLS client showed, whoever signed it: it has the key.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// The certificate of whoever asks; from the edge, which knows whether it is of the connection's peer or of somebody for
/// whom a proxy speaks. Whether anybody trustworthy signed it is not known.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// The certificate.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Why there is none although a header names one.
    pub(super) ignored: Option<Refusal>,
}

/// Id and source of the request, from the edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context(pub(super) Origin);

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // The edge attaches it to every request; a router without the edge is a mistake of ours.
        parts.extensions.get::<Self>().copied().ok_or(Failure::Crashed)
    }
}

/// What the rest of the path names. What is not text names nothing.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(ServiceError::NotFound.into()),
        }
    }
}

/// The proof in `Authorization`: a token as `Bearer` (RFC 6750 §2.1), or as `DPoP` (RFC 9449 §7.1); or else the certificate
/// of whoever asks. With it the key that was shown. A header that says anything else is no reason to take the certificate
/// instead: who sends it means to be known by it.
#[derive(Debug)]
pub(super) struct Bearer(pub(super) Proof);

impl FromRequestParts<Arc<ApiState>> for Bearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Failure> {
        if let Some(proof) = presented(parts, state)? {
            return Ok(Self(proof));
        }
        let shown = parts.extensions.get::<Shown>().cloned().unwrap_or_default();
        if let Some(certificate) = shown.certificate.filter(|_| !parts.headers.contains_key(AUTHORIZATION)) {
            let possession = UnverifiedPossession::read(parts)?.verify(state, None)?;
            return Ok(Self(Proof::of_certificate(certificate).with_possession(possession)));
        }
        let missing = || {
            let detail = "send a proof as `Authorization: Bearer`, or show an X.509-SVID";
            Refusal::proof(Reason::ProofMissing, detail).about("Authorization")
        };
        Err(Unreadable::new(Fault::Content, shown.ignored.unwrap_or_else(missing)).into())
    }
}

/// The proof in `Authorization`, where there is one. A certificate alone is none here: it may be shown for other reasons.
#[derive(Debug)]
pub(super) struct MaybeBearer(pub(super) Option<Proof>);

impl FromRequestParts<Arc<ApiState>> for MaybeBearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Failure> {
        Ok(Self(presented(parts, state)?))
    }
}

fn presented(parts: &Parts, state: &ApiState) -> Result<Option<Proof>, Failure> {
    let Some((token, token_type)) = authorization(&parts.headers)? else { return Ok(None) };
    let shown = UnverifiedPossession::read(parts)?;
    let possession = shown.verify(state, Some(Presented::AsAuthorization(&token)))?;
    let certificate = parts.extensions.get::<Shown>().and_then(|shown| shown.certificate.clone());
    let proof = Proof::of_token(Secret::new(token), token_type).with_possession(possession);
    Ok(Some(Proof { certificate, ..proof }))
}

fn authorization(headers: &HeaderMap) -> Result<Option<(String, TokenType)>, Unreadable> {
    let Some(value) = single(headers, &AUTHORIZATION)? else { return Ok(None) };
    let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else { return Ok(None) };
    let token = token.trim_matches(' ');
    let token_type = match scheme {
        scheme if scheme.eq_ignore_ascii_case("bearer") => TokenType::Bearer,
        scheme if scheme.eq_ignore_ascii_case("dpop") => TokenType::Dpop,
        _ => return Ok(None),
    };
    Ok((!token.is_empty()).then(|| (token.to_owned(), token_type)))
}

/// Where a listener is reached, as it is configured; the edge attaches it.
#[derive(Clone, Debug)]
pub(super) struct Here(pub(super) Arc<str>);

/// The proof of possession in `DPoP` (RFC 9449 §4.1), where there is one, and what it must be for.
#[derive(Debug)]
pub(super) struct UnverifiedPossession {
    proof: Option<String>,
    method: Method,
    here: Here,
    path: String,
}

impl FromRequestParts<Arc<ApiState>> for UnverifiedPossession {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiState>) -> Result<Self, Failure> {
        Self::read(parts)
    }
}

impl UnverifiedPossession {
    fn read(parts: &Parts) -> Result<Self, Failure> {
        let mut values = parts.headers.get_all(DPOP).iter();
        let proof = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => Some(value.to_str().map_err(|_| invalid_possession("it is not ASCII"))?.to_owned()),
            (Some(_), Some(_)) => return Err(invalid_possession("there is more than one `DPoP` header").into()),
        };
        let here = parts.extensions.get::<Here>().cloned().ok_or(Failure::Crashed)?;
        Ok(Self { proof, method: parts.method.clone(), here, path: parts.uri.path().to_owned() })
    }

    /// The key that is shown for this request, which comes with `token`; none where none is.
    pub(super) fn verify(
        &self,
        state: &ApiState,
        token: Option<Presented<'_>>,
    ) -> Result<Option<Arc<Possession>>, Failure> {
        let Some(proof) = &self.proof else { return Ok(None) };
        let request = ProvedRequest { method: self.method.as_str(), origin: &self.here.0, path: &self.path, token };
        match state.possession.verify(proof, &request, state.ports.now()) {
            Ok(possession) => Ok(Some(Arc::new(possession))),
            Err(NotShown::Refused(refusal)) => Err(Unreadable { fault: Fault::Content, refusal, actor: None }.into()),
            Err(NotShown::NonceWanted) => Err(Failure::NonceWanted),
        }
    }
}

fn invalid_possession(why: &str) -> Unreadable {
    let refusal = Refusal::proof(Reason::PopInvalid, format!("the DPoP proof does not hold: {why}")).about("DPoP");
    Unreadable::new(Fault::Content, refusal)
}

/// The value of a header that must not be repeated: two readers could each believe another one.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Unreadable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Unreadable::syntax(name.as_str(), format!("the header `{name}` is repeated"))),
        (value, None) => Ok(value),
    }
}

/// The certificate of whoever asks, for a proof that is not in a header.
#[derive(Debug)]
pub(super) struct Certificate(pub(super) Option<Arc<ClientCertificate>>);

impl<S: Sync> FromRequestParts<S> for Certificate {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(parts.extensions.get::<Shown>().and_then(|shown| shown.certificate.clone())))
    }
}

/// `Idempotency-Key`: 1–255 visible characters.
#[derive(Debug)]
pub(super) struct IdempotencyKey(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        const NAME: HeaderName = HeaderName::from_static("idempotency-key");
        let Some(value) = single(&parts.headers, &NAME)? else { return Ok(Self(None)) };
        let key = value.as_bytes();
        if (1..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic) {
            return Ok(Self(Some(String::from_utf8_lossy(key).into_owned())));
        }
        Err(Unreadable::content("Idempotency-Key", "`Idempotency-Key` has 1 to 255 visible ASCII characters").into())
    }
}

/// `If-Match` (RFC 9110 §13.1.1) on what is tagged by its revision: the revisions that it names. `*` would match
/// anything, which is what the header is there to prevent.
pub(super) struct IfMatch(pub(super) Result<Option<Vec<RevisionId>>, Unreadable>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        const MAX_TAGS: usize = 8;
        let read = single(&parts.headers, &IF_MATCH).and_then(|value| {
            let Some(value) = value else { return Ok(None) };
            let refuse = || Unreadable::content("If-Match", "`If-Match` names the revision that is to be replaced");
            let tags: Vec<_> = value.to_str().map_err(|_| refuse())?.split(',').map(str::trim).collect();
            if tags.len() > MAX_TAGS || tags.contains(&"*") {
                return Err(refuse());
            }
            let bare = |tag: &&str| !tag.is_empty() && !tag.starts_with('"') && !tag.starts_with("W/");
            if let Some(bare) = tags.iter().find(|tag| bare(tag)).and_then(|bare| RevisionId::new(*bare).ok()) {
                let detail = format!("`If-Match` has its revision in double quotes: `If-Match: \"{bare}\"`");
                return Err(Unreadable::content("If-Match", detail));
            }
            // A weak tag matches nothing here, nor does one that is no revision.
            let strong = |tag: &&str| RevisionId::new(tag.strip_prefix('"')?.strip_suffix('"')?).ok();
            Ok(Some(tags.iter().filter_map(strong).collect()))
        });
        Ok(Self(read))
    }
}

/// A body that is read when it is known who sends it.
pub(super) struct Unread {
    headers: HeaderMap,
    body: Body,
}

impl FromRequest<Arc<ApiState>> for Unread {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<ApiState>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        Ok(Self { headers: parts.headers, body })
    }
}

impl Unread {
    /// The body as strict JSON, as large as a bundle may be.
    pub(super) async fn json<T: DeserializeOwned>(self, limits: &HttpLimits) -> Result<T, Unreadable> {
        let Self { headers, mut body } = self;
        if let Err(unreadable) = refuse_other_types(&headers, "application/json") {
            discard(&mut body, limits).await;
            return Err(unreadable);
        }
        let most = limits.max_bundle_body_bytes;
        let raw = read(&headers, body, most, limits).await.map_err(|fault| fault.told(|| too_large(most)))?;
        json::parse(&raw, limits.max_json_depth)
    }

    /// Takes the body off the wire, so that whoever sends it hears why it is not wanted.
    pub(super) async fn discard(mut self, limits: &HttpLimits) {
        if !self.headers.contains_key(EXPECT) {
            discard(&mut self.body, limits).await;
        }
    }
}

/// A strict JSON body, or why it is none: the handler says so only to somebody who has proved who it is.
pub(super) struct Json<T>(pub(super) Result<Read<T>, Unreadable>);

/// A body with the bytes that it was read from.
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) raw: Bytes,
}

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        if let Err(unreadable) = refuse_other_types(&parts.headers, "application/json") {
            return Ok(Self(Err(unreadable)));
        }
        let limits = &state.limits;
        let most = limits.max_body_bytes;
        let read = read(&parts.headers, body, most, limits).await.map_err(|fault| fault.told(|| too_large(most)));
        Ok(Self(read.and_then(|raw| Ok(Read { value: json::parse(&raw, limits.max_json_depth)?, raw }))))
    }
}

/// No body at all counts as none.
impl<T: DeserializeOwned> OptionalFromRequest<Arc<ApiState>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Option<Self>, Failure> {
        if request.headers().contains_key(CONTENT_TYPE) || !hyper::body::Body::is_end_stream(request.body()) {
            return <Self as FromRequest<_>>::from_request(request, state).await.map(Some);
        }
        Ok(None)
    }
}

fn too_large(limit: usize) -> Unreadable {
    let detail = format!("the body is larger than {limit} bytes");
    Unreadable::new(Fault::TooLarge, Refusal::request(Reason::MalformedRequest, "body", detail))
}

/// A form body (RFC 6749 §3.2).
pub(super) struct Form(pub(super) Parameters);

impl FromRequest<Arc<ApiState>> for Form {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        refuse_other_types(&parts.headers, "application/x-www-form-urlencoded")?;
        let limits = &state.limits;
        let most = limits.max_body_bytes;
        let raw = read(&parts.headers, body, most, limits).await.map_err(|fault| {
            fault.told(|| {
                // Nothing but a token makes a form of the contract that large.
                let detail = format!("the body is larger than {most} bytes");
                let refusal = Refusal::new(hallpass_core::error::Step::Request, Reason::TokenTooLarge, detail);
                Unreadable::new(Fault::TooLarge, refusal)
            })
        })?;
        Ok(Self(Parameters::parse(&raw, limits.max_parameters)?))
    }
}

/// Whether the body is of the `expected` type, in UTF-8 and not encoded.
fn refuse_other_types(headers: &HeaderMap, expected: &str) -> Result<(), Unreadable> {
    let refuse = || Unreadable::media_type(expected);
    let value = single(headers, &CONTENT_TYPE)?.ok_or_else(refuse)?;
    let mut parts = value.to_str().map_err(|_| refuse())?.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let charset_is_utf8 = parts.all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|value| value.as_bytes() != b"identity");
    if essence.eq_ignore_ascii_case(expected) && charset_is_utf8 && !encoded { Ok(()) } else { Err(refuse()) }
}

enum Unsound {
    TooLarge,
    Broken,
    Slow,
}

impl Unsound {
    /// The same, for whoever sent it.
    fn told(self, too_large: impl FnOnce() -> Unreadable) -> Unreadable {
        match self {
            Self::TooLarge => too_large(),
            Self::Broken => Unreadable::syntax("body", "the body ends early"),
            Self::Slow => {
                let refusal = Refusal::request(Reason::MalformedRequest, "body", "the body comes in too slowly");
                Unreadable::new(Fault::Slow, refusal)
            }
        }
    }
}

/// How much of a body that is too large is still taken off the wire. To close a connection on unread bytes resets it,
/// and the caller may then never see why; more than this is nobody's honest mistake.
const MAX_DISCARDED_BYTES: u64 = 32 * 1024 * 1024;

/// Reads a body of at most `most` bytes, in the time that its size gives it. Of a larger one nothing is kept.
async fn read(headers: &HeaderMap, mut body: Body, most: usize, limits: &HttpLimits) -> Result<Bytes, Unsound> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let longest = u64::try_from(most).unwrap_or(u64::MAX);
    if announced.is_some_and(|length| length > longest) {
        // Who waits for `100 Continue` has not sent the body, and need not.
        if !headers.contains_key(EXPECT) {
            discard(&mut body, limits).await;
        }
        return Err(Unsound::TooLarge);
    }
    if hyper::body::Body::is_end_stream(&body) {
        return Ok(Bytes::new());
    }
    let time = limits.body_time(announced.unwrap_or(longest));
    let taken = tokio::time::timeout(time, take(&mut body, most)).await.unwrap_or(Err(Unsound::Slow));
    if matches!(taken, Err(Unsound::TooLarge)) {
        discard(&mut body, limits).await;
    }
    taken
}

async fn take(body: &mut Body, most: usize) -> Result<Bytes, Unsound> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unsound::Broken)?.into_data() else { continue };
        if held.len().saturating_add(data.len()) > most {
            return Err(Unsound::TooLarge);
        }
        if held.is_empty() && hyper::body::Body::is_end_stream(&*body) {
            return Ok(data);
        }
        held.extend_from_slice(&data);
    }
    Ok(held.freeze())
}

/// Takes a body off the wire, for as long as an ordinary one may take.
async fn discard(body: &mut Body, limits: &HttpLimits) {
    let time = limits.body_time(u64::try_from(limits.max_body_bytes).unwrap_or(u64::MAX));
    let discarding = async {
        let mut discarded = 0_u64;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            discarded = discarded.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            if discarded > MAX_DISCARDED_BYTES {
                return;
            }
        }
    };
    // What is left of it, nobody waits for.
    let _over = tokio::time::timeout(time, discarding).await;
}

//! Trust bundles (SPIFFE Trust Domain and Bundle §4): key sets that say of each key what it signs.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::time::{Timestamp, Ttl};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::key::{Unfit, VerificationKey};
use super::{KeySet, KeySetError, MAX_DOCUMENT_BYTES, MAX_KEYS, RefusedKey};
use crate::identity::jose::json::{Document, Json, Object};

/// Longest refresh hint that is read: a week, beyond which it says nothing any more.
const MAX_HINT: Ttl = Ttl::from_hours(24 * 7);

/// The `use` of a key that signs X.509-SVIDs (X509-SVID §6.1).
const X509: &str = "x509-svid";

/// The `use` of a key that signs JWT-SVIDs (JWT-SVID §6.1).
const JWT: &str = "jwt-svid";

/// An authority that may sign X.509-SVIDs of its trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    anchor: TrustAnchor<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Authority {
    /// Reads a certificate of an authority.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_der(der: &[u8]) -> Result<Self, &'static str> {
        let der = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| "it is no certificate")?.to_owned();
        let (rest, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|_| "it is no certificate")?;
        let is_ca = certificate.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca);
        let signs = certificate.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        if !rest.is_empty() || !is_ca || !signs {
            return Err("it is no certificate of an authority");
        }
        let validity = certificate.validity();
        Ok(Self {
            anchor,
            not_before: Timestamp::from_secs(validity.not_before.timestamp()),
            not_after: Timestamp::from_secs(validity.not_after.timestamp()),
        })
    }

    /// When it ends: the last second at which it signs.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// As whoever builds a chain takes it, where it is valid at `now`.
    #[must_use]
    pub fn anchor_at(&self, now: UnixTime) -> Option<&TrustAnchor<'static>> {
        let now = Timestamp::from_secs(i64::try_from(now.as_secs()).ok()?);
        (self.not_before <= now && now <= self.not_after).then_some(&self.anchor)
    }
}

impl KeySet {
    /// Reads a trust bundle. What a key is for stands in its `use` (§4.2.2): a key that says nothing, or something else,
    /// signs nothing. An empty bundle trusts nobody.
    ///
    /// # Errors
    /// [`KeySetError`] when the document is not usable at all.
    pub fn parse_bundle(document: &[u8]) -> Result<Self, KeySetError> {
        Self::parse_by_use(document, None)
    }

    /// The same, where a key that does not say what it is for is for `unsaid`.
    fn parse_by_use(document: &[u8], unsaid: Option<&str>) -> Result<Self, KeySetError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let members = Document::parse(document)?.members;
        let entries = match members.get("keys") {
            Some(Json::List(entries)) if entries.len() > MAX_KEYS => return Err(KeySetError::TooManyKeys),
            Some(Json::List(entries)) => entries,
            _ => return Err(KeySetError::NoKeys),
        };
        let mut set = Self::default();
        for entry in entries {
            let Json::Object(jwk) = entry else { return Err(KeySetError::NoKeys) };
            let said = jwk.get("use").map_or(unsaid, Json::as_text);
            match said {
                Some(X509) => set.add_authority(jwk),
                Some(JWT) => set.add_jwt_authority(jwk),
                _ => {}
            }
        }
        set.sequence = whole(&members, "spiffe_sequence");
        set.refresh_hint = whole(&members, "spiffe_refresh_hint").map(|secs| Ttl::from_secs(secs).min(MAX_HINT));
        Ok(set)
    }

    /// A set of what the Workload API gives: authorities' certificates in DER, one behind the other, and a key set for
    /// JWT-SVIDs. That one is "a standard JWK Set" without keys of other uses (Workload API §6.2.2), and SPIRE writes no
    /// `use` into it: what does not say what it is for is for them.
    ///
    /// # Errors
    /// [`KeySetError`] when the key set is not usable at all, or the certificates are not whole ones.
    pub fn of_workload_api(certificates: &[u8], jwt_bundle: &[u8]) -> Result<Self, KeySetError> {
        let mut set = if jwt_bundle.is_empty() { Self::default() } else { Self::parse_by_use(jwt_bundle, Some(JWT))? };
        // Certificates in a set of keys for tokens would be of somebody who was not asked for certificates.
        set.authorities.clear();
        let mut rest = certificates;
        for _ in 0..=MAX_KEYS {
            if rest.is_empty() {
                return Ok(set);
            }
            let (behind, _) = x509_parser::parse_x509_certificate(rest).map_err(|_| KeySetError::Certificates)?;
            let (der, _) = rest.split_at(rest.len().saturating_sub(behind.len()));
            set.authority_of(der);
            rest = behind;
        }
        Err(KeySetError::TooManyKeys)
    }

    /// `x5c` has one certificate (§4.2.2), and the key is that one's.
    fn add_authority(&mut self, jwk: &Object) {
        let der = match jwk.get("x5c") {
            Some(Json::List(list)) => match list.as_slice() {
                [Json::Text(text)] => STANDARD.decode(text).ok(),
                _ => None,
            },
            _ => None,
        };
        match der {
            Some(der) => self.authority_of(&der),
            None => self.refuse_authority("its `x5c` is not one certificate"),
        }
    }

    /// Without its `kid`, if it has one: no token is signed with it, and none is told that its key is weak.
    fn refuse_authority(&mut self, why: &'static str) {
        self.refused.push(RefusedKey::new(&Object::new(), why, false));
    }

    fn authority_of(&mut self, der: &[u8]) {
        match Authority::from_der(der) {
            Ok(authority) if self.authorities.iter().any(|known| **known == authority) => {}
            Ok(authority) => self.authorities.push(Arc::new(authority)),
            Err(why) => self.refuse_authority(why),
        }
    }

    /// A key that signs JWT-SVIDs has a `kid` (§4.2.2), since they name it.
    fn add_jwt_authority(&mut self, jwk: &Object) {
        // Its use is known; what is left is judged as any other key.
        let mut bare = jwk.clone();
        bare.remove("use");
        match VerificationKey::from_jwk(&bare) {
            Ok(key) if key.key_id().is_none() => {
                self.refused.push(RefusedKey::new(jwk, "it has no `kid`", false));
            }
            Ok(key) if self.keys.iter().any(|known| **known == key) => {}
            Ok(key) => self.keys.push(Arc::new(key)),
            Err(Unfit::NotOurs) => {}
            Err(Unfit::Refused(why)) => self.refused.push(RefusedKey::new(jwk, why, false)),
            Err(Unfit::Private) => {
                let why = "its private half is published: whoever reads the bundle can sign with it";
                self.refused.push(RefusedKey::new(jwk, why, true));
            }
        }
    }
}

fn whole(members: &Object, name: &str) -> Option<u64> {
    match members.get(name) {
        Some(Json::Unsigned(number)) => Some(*number),
        _ => None,
    }
}

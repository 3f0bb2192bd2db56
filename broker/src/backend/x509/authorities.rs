//! The authority over time: the key that signs, those that did, and those that will.
//!
//! Verifiers trust all of them at once, so that certificates of the old key hold while the new one takes over. Each signs
//! a revocation list of its own, because verifiers take a list from nobody but the certificate's issuer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hallpass_core::port::{AuthorityKey, AuthorityKeys};
use hallpass_core::time::{Clock, Timestamp};

use super::authority::{Authority, AuthorityError};
use super::certificates::Certificates;

/// What must happen once the key in the file is distrusted.
const AWAITS_CERTIFICATE: &str = "the authority's key was distrusted, and an offline root has yet to certify the one that \
                                  took its place: put what it signs into ca_certificate_file";

/// The authorities of a broker, by its keys as they are at the time.
pub struct Authorities {
    keys: Arc<dyn AuthorityKeys>,
    /// Certificates that an offline root signed, PEM; without them each key is its own root.
    certificates: Option<String>,
    public_url: String,
    clock: Arc<dyn Clock>,
    built: ArcSwap<Built>,
    building: Mutex<()>,
}

/// What was made of the keys of one generation, in the order in which they begin to sign.
struct Built {
    generation: u64,
    authorities: Vec<(Timestamp, Arc<Authority>)>,
    /// The certificates in the file are of a key that is distrusted.
    awaits_certificate: bool,
}

impl Built {
    const fn of(generation: u64, authorities: Vec<(Timestamp, Arc<Authority>)>) -> Self {
        Self { generation, authorities, awaits_certificate: false }
    }
}

impl Authorities {
    /// The authorities of `keys`. With `file`, the one whose certificate, and those above it, the file has; none for now,
    /// where that is of a key that is distrusted.
    ///
    /// # Errors
    /// [`AuthorityError`] when a certificate is unusable or no key has the one in the file.
    pub fn new(
        keys: Arc<dyn AuthorityKeys>,
        file: Option<&Path>,
        public_url: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let certificates = file.map(Authority::read_certificates).transpose()?;
        let authorities = Self {
            built: ArcSwap::from_pointee(Built::of(0, Vec::new())),
            building: Mutex::default(),
            public_url: public_url.to_owned(),
            keys,
            certificates,
            clock,
        };
        let built = authorities.build(&Built::of(0, Vec::new()))?;
        authorities.built.store(Arc::new(built));
        Ok(authorities)
    }

    /// The one that signs now.
    #[must_use]
    pub fn signing(&self) -> Option<Arc<Authority>> {
        let (built, now) = (self.current(), self.clock.now());
        let begun = built.authorities.iter().rfind(|(activates_at, _)| *activates_at <= now);
        begun.map(|(_, authority)| Arc::clone(authority))
    }

    /// The one of this key, as long as it is to be trusted.
    #[must_use]
    pub fn of_key(&self, key_id: &str) -> Option<Arc<Authority>> {
        let built = self.current();
        let found = built.authorities.iter().find(|(_, authority)| authority.key_id() == key_id);
        found.map(|(_, authority)| Arc::clone(authority))
    }

    /// Every authority's certificates, PEM, the one that signs first: what `/pki/ca.pem` answers.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.each(Authority::ca_pem)
    }

    /// Every root that verifiers trust, PEM.
    #[must_use]
    pub fn trust_bundle(&self) -> String {
        self.each(Authority::trust_bundle)
    }

    /// Whether the certificates come from a file: then a new key needs a new file first.
    #[must_use]
    pub fn are_under_an_offline_root(&self) -> bool {
        self.certificates.is_some()
    }

    /// Why nothing is certified, where the key that an offline root had certified is distrusted.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        self.current().awaits_certificate.then_some(AWAITS_CERTIFICATE)
    }

    /// Whether `key` is one of the authorities' own.
    pub(super) fn have_key(&self, key: &[u8]) -> bool {
        self.current().authorities.iter().any(|(_, authority)| authority.has_key(key))
    }

    fn each(&self, of: impl Fn(&Authority) -> String) -> String {
        let first = self.signing();
        let built = self.current();
        let others = built.authorities.iter().map(|(_, authority)| authority);
        let others = others.filter(|other| first.as_ref().is_none_or(|first| !Arc::ptr_eq(first, other)));
        first.iter().chain(others).map(|authority| of(authority)).collect()
    }

    /// What the keys as they are now make. Should they make nothing, nothing is signed until they do.
    fn current(&self) -> Arc<Built> {
        let built = self.built.load_full();
        if built.generation == self.keys.generation() {
            return built;
        }
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let built = self.built.load_full();
        if built.generation == self.keys.generation() {
            return built;
        }
        let fresh = self.build(&built).unwrap_or_else(|error| {
            tracing::error!(%error, "the authority's keys have changed and cannot be used; nothing is certified");
            Built::of(self.keys.generation(), Vec::new())
        });
        let fresh = Arc::new(fresh);
        self.built.store(Arc::clone(&fresh));
        fresh
    }

    fn build(&self, before: &Built) -> Result<Built, AuthorityError> {
        // Asked first: should the keys change meanwhile, what is made is of an old generation, and made again.
        let generation = self.keys.generation();
        let keys = self.keys.authority_keys();
        let authorities = match &self.certificates {
            Some(certificates) => match self.certified(certificates, &keys) {
                Err(AuthorityError::OtherKey) if self.are_of_a_distrusted_key(certificates) => {
                    tracing::warn!("{AWAITS_CERTIFICATE}; nothing is certified until then");
                    return Ok(Built { awaits_certificate: true, ..Built::of(generation, Vec::new()) });
                }
                certified => vec![(Timestamp::MIN, certified?)],
            },
            None => keys.iter().map(|key| self.own_root(key, before)).collect::<Result<_, _>>()?,
        };
        Ok(Built::of(generation, authorities))
    }

    fn own_root(&self, key: &AuthorityKey, before: &Built) -> Result<(Timestamp, Arc<Authority>), AuthorityError> {
        let known = before.authorities.iter().find(|(_, known)| known.key_id() == key.signer.key_id());
        let authority = match known {
            Some((_, known)) => Arc::clone(known),
            None => {
                let signer = Arc::clone(&key.signer);
                Arc::new(Authority::new(signer, &key.certificate, &self.public_url, self.clock.now())?)
            }
        };
        Ok((key.activates_at, authority))
    }

    fn are_of_a_distrusted_key(&self, certificates: &str) -> bool {
        let Some(key) = Certificates::first_key(certificates) else { return false };
        let distrusted = self.keys.distrusted_certificates();
        distrusted.iter().any(|certificate| Certificates::first_key(certificate).as_ref() == Some(&key))
    }

    /// The authority whose key the certificates are of.
    fn certified(&self, certificates: &str, keys: &[AuthorityKey]) -> Result<Arc<Authority>, AuthorityError> {
        let mut of_keys = keys.iter().map(|key| {
            Authority::new(Arc::clone(&key.signer), certificates, &self.public_url, self.clock.now()).map(Arc::new)
        });
        let found = of_keys.find(|found| !matches!(found, Err(AuthorityError::OtherKey)));
        found.unwrap_or(Err(AuthorityError::OtherKey))
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Authorities {
    /// One that stays.
    pub(super) fn only(authority: Arc<Authority>) -> Arc<Self> {
        struct NoKeys;
        impl AuthorityKeys for NoKeys {
            fn generation(&self) -> u64 {
                0
            }

            fn authority_keys(&self) -> Vec<AuthorityKey> {
                Vec::new()
            }
        }
        Arc::new(Self {
            keys: Arc::new(NoKeys),
            certificates: None,
            public_url: String::new(),
            clock: Arc::new(hallpass_core::testing::MockClock::starting_at(hallpass_core::testing::sample::NOW)),
            built: ArcSwap::from_pointee(Built::of(0, vec![(Timestamp::MIN, authority)])),
            building: Mutex::default(),
        })
    }
}

//! The authority over time: the key that signs, those that did, and those that will.
//!
//! Verifiers trust all of them at once, so that certificates of the old key hold while the new one takes over. Each signs
//! a revocation list of its own, because verifiers take a list from nobody but the certificate's issuer.
//!
//! Each is its own root, or was certified by an offline root: by the file that configuration names, or by what was taken
//! in with `keys certify`. Once one was, no later key signs by its own word: it would be a root that nobody chose.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hallpass_core::port::{AuthorityKey, AuthorityKeys};
use hallpass_core::time::{Clock, Timestamp};

use super::authority::{Authority, AuthorityError};
use super::certificates::Certificates;

/// What must happen once a key that an offline root certified is distrusted, or its certificate is over.
const AWAITS_CERTIFICATE: &str = "the authority's key was distrusted, or its certificate is not valid now, and an offline \
                                  root has yet to certify another: have it sign what `keys csr` prints, and take that in \
                                  with `keys certify`, or put it into ca_certificate_file";

/// Where a certificate in PEM ends (RFC 7468 §2).
const PEM_END: &str = "-----END CERTIFICATE-----\n";

/// The authorities of a broker, by its keys as they are at the time.
pub struct Authorities {
    keys: Arc<dyn AuthorityKeys>,
    /// What the configured file has, PEM: certificates that an offline root signed.
    certificates: Option<String>,
    public_url: String,
    clock: Arc<dyn Clock>,
    built: ArcSwap<Built>,
    building: Mutex<()>,
}

/// What was made of the keys of one generation, in the order in which they begin to sign.
#[derive(Default)]
struct Built {
    generation: u64,
    seats: Vec<Seat>,
}

/// The place of one key.
struct Seat {
    signs_from: Timestamp,
    /// What it was made of.
    certificates: String,
    /// None while no root stands for the key: nobody signs then, and no key before it comes back.
    authority: Option<Arc<Authority>>,
}

impl Built {
    fn authorities(&self) -> impl Iterator<Item = &Arc<Authority>> {
        self.seats.iter().filter_map(|seat| seat.authority.as_ref())
    }

    /// The place whose turn it is.
    fn on_duty(&self, now: Timestamp) -> Option<&Seat> {
        self.seats.iter().rfind(|seat| seat.signs_from <= now)
    }
}

impl Authorities {
    /// The authorities of `keys`. With `file`, one of them is that whose certificate, and those above it, the file has;
    /// none for now, where that is of a key that is distrusted.
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
            built: ArcSwap::default(),
            building: Mutex::default(),
            public_url: public_url.to_owned(),
            keys,
            certificates,
            clock,
        };
        let built = authorities.build(&Built::default())?;
        authorities.built.store(Arc::new(built));
        Ok(authorities)
    }

    /// The one that signs now.
    #[must_use]
    pub fn signing(&self) -> Option<Arc<Authority>> {
        self.current().on_duty(self.clock.now())?.authority.clone()
    }

    /// The one of this key, as long as it is to be trusted.
    #[must_use]
    pub fn of_key(&self, key_id: &str) -> Option<Arc<Authority>> {
        self.current().authorities().find(|authority| authority.key_id() == key_id).cloned()
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

    /// Whether an offline root stands for the one that signs: then a new key is certified there before it does.
    #[must_use]
    pub fn are_under_an_offline_root(&self) -> bool {
        self.certificates.is_some() || self.keys_are_certified_since(&self.keys.authority_keys()).is_some()
    }

    /// Why nothing is certified, where no root stands for the key whose turn it is.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        let built = self.current();
        let waits = built.on_duty(self.clock.now()).is_some_and(|seat| seat.authority.is_none());
        waits.then_some(AWAITS_CERTIFICATE)
    }

    /// Whether `key` is one of the authorities' own.
    pub(super) fn have_key(&self, key: &[u8]) -> bool {
        self.current().authorities().any(|authority| authority.has_key(key))
    }

    fn each(&self, of: impl Fn(&Authority) -> String) -> String {
        let first = self.signing();
        let built = self.current();
        let others = built.authorities().filter(|other| first.as_ref().is_none_or(|first| !Arc::ptr_eq(first, other)));
        let all: Vec<_> = first.iter().chain(others).map(|authority| of(authority)).collect();
        // Several keys may have one root above them.
        let mut seen = HashSet::new();
        all.iter().flat_map(|pem| pem.split_inclusive(PEM_END)).filter(|one| seen.insert(*one)).collect()
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
            Built { generation: self.keys.generation(), seats: Vec::new() }
        });
        let fresh = Arc::new(fresh);
        self.built.store(Arc::clone(&fresh));
        fresh
    }

    fn build(&self, before: &Built) -> Result<Built, AuthorityError> {
        // Asked first: should the keys change meanwhile, what is made is of an old generation, and made again.
        let generation = self.keys.generation();
        let keys = self.keys.authority_keys();
        let certified_since = self.keys_are_certified_since(&keys);
        let mut seats: Vec<_> = self.in_the_file(&keys, certified_since.is_some())?.into_iter().collect();
        for key in &keys {
            let authority = if Certificates::are_under_another(&key.certificates) {
                self.while_valid(key, before)?
            } else if self.certificates.is_some() {
                // The file says which keys count of those that no root stands for.
                continue;
            } else if certified_since.is_some_and(|since| since < key.activates_at) {
                None
            } else {
                Some(self.of(key, before)?)
            };
            let (signs_from, certificates) = (key.activates_at, key.certificates.clone());
            seats.push(Seat { signs_from, certificates, authority });
        }
        let built = Built { generation, seats };
        if built.on_duty(self.clock.now()).is_some_and(|seat| seat.authority.is_none()) {
            tracing::warn!("{AWAITS_CERTIFICATE}; nothing is certified until then");
        }
        Ok(built)
    }

    /// The place of the key whose certificates the configured file has. It counts for as long as no key takes its place
    /// that was certified since.
    fn in_the_file(&self, keys: &[AuthorityKey], others: bool) -> Result<Option<Seat>, AuthorityError> {
        let Some(certificates) = &self.certificates else { return Ok(None) };
        let seat = |authority| Seat { signs_from: Timestamp::MIN, certificates: certificates.clone(), authority };
        match self.certified(certificates, keys) {
            Err(AuthorityError::OtherKey) if self.are_of_a_distrusted_key(certificates) => Ok(Some(seat(None))),
            Err(AuthorityError::OtherKey) if others => {
                tracing::warn!("ca_certificate_file has the certificate of a key that is gone: take the setting away");
                Ok(None)
            }
            certified => Ok(Some(seat(Some(certified?)))),
        }
    }

    /// Since when a key has signed, or will, that an offline root certified; a distrusted one too.
    fn keys_are_certified_since(&self, keys: &[AuthorityKey]) -> Option<Timestamp> {
        let certified = keys.iter().filter(|key| Certificates::are_under_another(&key.certificates));
        let distrusted = self.keys.distrusted_authorities();
        let distrusted = distrusted.iter().filter(|key| Certificates::are_under_another(&key.certificates));
        certified.map(|key| key.activates_at).chain(distrusted.filter_map(|key| key.signed_from)).min()
    }

    /// The authority of a key that an offline root certified; none while that is not valid.
    fn while_valid(&self, key: &AuthorityKey, before: &Built) -> Result<Option<Arc<Authority>>, AuthorityError> {
        match self.of(key, before) {
            Err(error @ AuthorityError::NotValidNow { .. }) => {
                tracing::warn!(key = key.signer.key_id(), %error, "a key of the authority cannot be used");
                Ok(None)
            }
            authority => authority.map(Some),
        }
    }

    fn of(&self, key: &AuthorityKey, before: &Built) -> Result<Arc<Authority>, AuthorityError> {
        let known = before.seats.iter().filter(|known| known.certificates == key.certificates);
        let mut known = known.filter_map(|known| known.authority.as_ref());
        match known.find(|known| known.key_id() == key.signer.key_id()) {
            Some(known) => Ok(Arc::clone(known)),
            None => {
                let signer = Arc::clone(&key.signer);
                Ok(Arc::new(Authority::new(signer, &key.certificates, &self.public_url, self.clock.now())?))
            }
        }
    }

    fn are_of_a_distrusted_key(&self, certificates: &str) -> bool {
        let Some(key) = Certificates::first_key(certificates) else { return false };
        let distrusted = self.keys.distrusted_authorities();
        distrusted.iter().any(|other| Certificates::first_key(&other.certificates).as_ref() == Some(&key))
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
            built: ArcSwap::from_pointee(Built {
                generation: 0,
                seats: vec![Seat {
                    signs_from: Timestamp::MIN,
                    certificates: String::new(),
                    authority: Some(authority),
                }],
            }),
            building: Mutex::default(),
        })
    }
}

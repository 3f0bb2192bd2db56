//! One key of the authority takes another's place.

use std::sync::Mutex;

use hallpass_core::port::{AuthorityKey, AuthorityKeys, DistrustedAuthority};
use hallpass_core::testing::MockClock;
use hallpass_core::time::Clock;

use super::*;

/// Keys that a test changes.
#[derive(Default)]
pub(super) struct Keys(Mutex<(u64, Vec<AuthorityKey>)>, Mutex<Vec<DistrustedAuthority>>);

impl Keys {
    /// Another has come in its place.
    pub(super) fn distrust(&self, key: &Arc<dyn Signer>, next: Arc<dyn Signer>) {
        let certificates = root_certificate(key, NOW).unwrap();
        self.1.lock().unwrap().push(DistrustedAuthority { certificates, signed_from: Some(Timestamp::MIN) });
        self.set([(next, NOW)]);
    }

    fn set(&self, keys: impl IntoIterator<Item = (Arc<dyn Signer>, Timestamp)>) {
        let mut held = self.0.lock().unwrap();
        held.0 += 1;
        held.1 = keys
            .into_iter()
            .map(|(signer, activates_at)| AuthorityKey {
                certificates: root_certificate(&signer, NOW).unwrap(),
                signer,
                activates_at,
            })
            .collect();
    }
}

impl AuthorityKeys for Keys {
    fn generation(&self) -> u64 {
        self.0.lock().unwrap().0
    }

    fn authority_keys(&self) -> Vec<AuthorityKey> {
        self.0.lock().unwrap().1.clone()
    }

    fn distrusted_authorities(&self) -> Vec<DistrustedAuthority> {
        self.1.lock().unwrap().clone()
    }
}

/// Keys that have signed for ever.
pub(super) fn keys(signers: impl IntoIterator<Item = Arc<dyn Signer>>) -> Arc<Keys> {
    let keys = Keys::default();
    keys.set(signers.into_iter().map(|signer| (signer, Timestamp::MIN)));
    Arc::new(keys)
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(MockClock::starting_at(NOW))
}

#[tokio::test]
async fn while_one_key_takes_anothers_place_verifiers_that_have_the_bundle_notice_nothing() {
    let (openssl, clock) = (OpenSsl::new(), Arc::new(MockClock::starting_at(NOW)));
    let (old, new) = (ca_signer(), ca_signer());
    let keys = keys([Arc::clone(&old)]);
    let authorities = Authorities::new(Arc::clone(&keys) as _, None, URL, Arc::clone(&clock) as _).unwrap();
    let authorities = Arc::new(authorities);
    let backend = X509Backend::new(BackendName::new("pki").unwrap(), "example.org", Arc::clone(&authorities)).unwrap();
    assert_eq!(authorities.ca_pem().matches("BEGIN CERTIFICATE").count(), 1);

    // Announced: in the bundle, and not signing.
    let takes_over = NOW.plus(Ttl::from_mins(2));
    keys.set([(Arc::clone(&old), Timestamp::MIN), (Arc::clone(&new), takes_over)]);
    assert_eq!(authorities.signing().unwrap().key_id(), old.key_id());
    assert_eq!(authorities.ca_pem().matches("BEGIN CERTIFICATE").count(), 2);
    let by_old = mint(&backend, &by_repository(1)).await.unwrap();
    openssl.write("bundle.pem", &by_old.trust_bundle);

    clock.advance(Ttl::from_mins(2));
    assert_eq!(authorities.signing().unwrap().key_id(), new.key_id());
    let (first, second) = (by_repository(2), by_repository(3));
    let by_new = mint(&backend, &second).await.unwrap();
    assert_eq!(mint(&backend, &first).await.unwrap().trust_bundle, by_new.trust_bundle);
    openssl.write("old.pem", &by_old.chain);
    openssl.write("new.pem", &by_new.chain);
    let at = NOW.as_secs();
    for leaf in ["old", "new"] {
        openssl.must(&format!("verify -x509_strict -CAfile bundle.pem -attime {at} {leaf}.pem"));
    }

    // Each signs a list of its own; both lists have every certificate that is refused.
    let fenced = [(second.grant, NOW), (sample::id(1), NOW)];
    for (name, signer) in [("old", &old), ("new", &new)] {
        let list = authorities.of_key(signer.key_id()).unwrap().crl(&fenced, NOW).unwrap();
        openssl.write(&format!("{name}.crl.der"), list);
        openssl.must(&format!("crl -inform DER -in {name}.crl.der -out {name}.crl -CAfile bundle.pem"));
        let verify = format!("verify -CAfile bundle.pem -attime {at} -crl_check -CRLfile {name}.crl {name}.pem");
        openssl.must_not(&verify, "certificate revoked");
        let url = format!("URI:{URL}/pki/crl/{}.der", signer.key_id());
        let text = openssl.must(&format!("x509 -in {name}.pem -noout -text"));
        assert!(text.contains(&url), "{text}");
    }

    // Distrusted: gone from the bundle, and it certifies and lists nothing more.
    keys.set([(Arc::clone(&old), Timestamp::MIN)]);
    assert_eq!(authorities.signing().unwrap().key_id(), old.key_id());
    assert!(authorities.of_key(new.key_id()).is_none());
    openssl.write("bundle.pem", authorities.trust_bundle());
    openssl.must_not(&format!("verify -CAfile bundle.pem -attime {at} new.pem"), "unable to get local issuer");
    openssl.must(&format!("verify -CAfile bundle.pem -attime {at} old.pem"));
}

#[tokio::test]
async fn where_the_keys_make_no_authority_nothing_is_certified() {
    let keys = keys([ca_signer()]);
    let authorities = Arc::new(Authorities::new(Arc::clone(&keys) as _, None, URL, clock()).unwrap());
    let backend = X509Backend::new(BackendName::new("pki").unwrap(), "example.org", Arc::clone(&authorities)).unwrap();
    mint(&backend, &by_repository(1)).await.unwrap();
    let made = authorities.signing().unwrap();
    keys.0.lock().unwrap().0 += 1;
    assert!(Arc::ptr_eq(&authorities.signing().unwrap(), &made), "what is made already is not made again");
    {
        let mut held = keys.0.lock().unwrap();
        held.0 += 1;
        held.1[0].signer = ca_signer();
    }
    assert!(authorities.signing().is_none());
    assert!(matches!(mint(&backend, &by_repository(2)).await, Err(IssueError::Unavailable { .. })));
}

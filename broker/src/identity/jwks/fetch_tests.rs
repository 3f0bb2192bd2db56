use std::sync::Arc;

use hallpass_core::error::Reason;
use hallpass_core::testing::MockClock;
use hallpass_core::time::Ttl;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::config::issuer::{Issuer, KeySource};
use crate::identity::oidc::OidcVerifier;
use crate::identity::testing::{Behaviour, TestKey, TestServer, clock, key_set, settings, verifier, verify};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/jwks";

/// An issuer on loopback that publishes a discovery document and these keys, and a verifier of its proofs.
struct Scene {
    server: TestServer,
    clock: Arc<MockClock>,
    verifier: OidcVerifier,
}

impl Scene {
    async fn new(keys: &[&TestKey]) -> Self {
        Self::with(keys, |_| ()).await
    }

    async fn with(keys: &[&TestKey], change: impl FnOnce(&mut Issuer)) -> Self {
        let server = TestServer::start().await;
        let document = json!({"issuer": server.origin, "jwks_uri": format!("{}{KEYS}", server.origin)});
        server.set(DISCOVERY, Behaviour::json(document.to_string()));
        server.set(KEYS, Behaviour::json(key_set(keys)));
        let mut settings = settings(KeySource::Discovery { jwks_origins: Vec::new(), dangerous_allow_http: false });
        settings.url = server.origin.clone();
        change(&mut settings);
        let clock = clock();
        let verifier = verifier(settings, &clock);
        Self { server, clock, verifier }
    }

    /// What becomes of a good proof signed with a key, by its reason code.
    async fn prove(&self, key: &TestKey) -> &'static str {
        let proof = key.proof(json!({}), json!({"iss": self.server.origin}));
        verify(&self.verifier, &proof).await.map_or_else(|refusal| refusal.reason.as_str(), |_| "accept")
    }

    fn publish(&self, keys: &[&TestKey]) {
        self.server.set(KEYS, Behaviour::json(key_set(keys)));
    }

    fn fetched(&self) -> usize {
        self.server.asked(KEYS)
    }
}

#[tokio::test]
async fn keys_are_discovered_once_and_verify() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    assert!(!scene.verifier.keys().is_usable());
    for _ in 0..3 {
        assert_eq!(scene.prove(&key).await, "accept");
    }
    assert!(scene.verifier.keys().is_usable());
    assert_eq!((scene.server.asked(DISCOVERY), scene.fetched()), (1, 1));
}

#[tokio::test]
async fn a_rotated_key_is_found_and_a_removed_one_refused_within_max_age() {
    let (old, new) = (TestKey::new("old"), TestKey::new("new"));
    let scene = Scene::new(&[&old]).await;
    assert_eq!(scene.prove(&old).await, "accept");
    scene.publish(&[&new]);
    scene.clock.advance(Ttl::from_secs(11));
    assert_eq!(scene.prove(&new).await, "accept", "an unknown key id asks the issuer again");
    assert_eq!(scene.prove(&old).await, Reason::UnknownKid.as_str());

    scene.publish(&[&old]);
    scene.clock.advance(Ttl::from_mins(10));
    assert_eq!(scene.prove(&new).await, Reason::UnknownKid.as_str(), "removed a whole max_age ago");
}

#[tokio::test]
async fn many_requests_share_one_fetch() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[]).await;
    let gate = Arc::new(Semaphore::new(0));
    scene.server.set(KEYS, Behaviour::Gated(Arc::clone(&gate), key_set(&[&key])));
    let release = async {
        while scene.fetched() == 0 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
    };
    let proofs = async { tokio::join!(scene.prove(&key), scene.prove(&key), scene.prove(&key), scene.prove(&key)) };
    let (outcomes, ()) = tokio::join!(proofs, release);
    assert_eq!(outcomes, ("accept", "accept", "accept", "accept"));
    assert_eq!(scene.fetched(), 1);
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_end_the_fetch_for_others() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[]).await;
    let gate = Arc::new(Semaphore::new(0));
    scene.server.set(KEYS, Behaviour::Gated(Arc::clone(&gate), key_set(&[&key])));
    tokio::select! {
        biased;
        _ = scene.prove(&key) => panic!("nothing is published yet"),
        () = async { while scene.fetched() == 0 { tokio::task::yield_now().await } } => {}
    }
    gate.add_permits(1);
    assert_eq!(scene.prove(&key).await, "accept", "joins the fetch that the first caller began");
    assert_eq!(scene.fetched(), 1);
}

#[tokio::test]
async fn unchanged_keys_are_kept_and_their_removal_is_seen() {
    let (key, other) = (TestKey::new("one"), TestKey::new("two"));
    let scene = Scene::new(&[]).await;
    scene.server.set(KEYS, Behaviour::Tagged("\"v1\"", key_set(&[&key])));
    for _ in 0..3 {
        assert_eq!(scene.prove(&key).await, "accept");
        scene.clock.advance(Ttl::from_mins(11));
    }
    assert_eq!(scene.fetched(), 3);
    scene.server.set(KEYS, Behaviour::Tagged("\"v2\"", key_set(&[&other])));
    assert_eq!(scene.prove(&key).await, Reason::UnknownKid.as_str());
}

#[tokio::test]
async fn keys_serve_through_an_outage_until_the_grace_is_over() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    assert_eq!(scene.prove(&key).await, "accept");
    scene.server.set(KEYS, Behaviour::status(503));
    scene.clock.advance(Ttl::from_mins(69));
    assert_eq!(scene.prove(&key).await, "accept", "10 minutes of max_age, 60 of grace");
    scene.clock.advance(Ttl::from_mins(1));
    assert_eq!(scene.prove(&key).await, Reason::JwksUnavailable.as_str());
    assert!(!scene.verifier.keys().is_usable());

    scene.publish(&[&key]);
    scene.clock.advance(Ttl::from_secs(10));
    assert_eq!(scene.prove(&key).await, "accept", "the issuer is back");
}

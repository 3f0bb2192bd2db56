use std::sync::Arc;

use hallpass_core::error::Reason;
use hallpass_core::testing::MockClock;
use hallpass_core::time::Ttl;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::config::issuer::{Issuer, KeySource};
use crate::identity::oidc::OidcVerifier;
use crate::identity::testing::{
    Behaviour, TestKey, TestServer, clock, eventually, key_set, settings, verifier, verify,
};

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
        eventually(|| scene.fetched() == 1).await;
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
        () = eventually(|| scene.fetched() == 1) => {}
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

#[tokio::test]
async fn a_flood_of_made_up_key_ids_asks_the_issuer_once_per_interval() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    assert_eq!(scene.prove(&key).await, "accept");
    for interval in 1..4 {
        scene.clock.advance(Ttl::from_secs(10));
        for n in 0..50 {
            let made_up = TestKey::new(&format!("made-up-{interval}-{n}"));
            assert_eq!(scene.prove(&made_up).await, Reason::UnknownKid.as_str());
        }
        assert_eq!(scene.prove(&key).await, "accept");
        assert_eq!(scene.fetched(), 1 + interval);
    }
    assert_eq!(scene.server.asked(DISCOVERY), 1, "a made-up key id does not repeat discovery");
}

#[tokio::test]
async fn a_failing_issuer_is_not_asked_more_often_either() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    scene.server.set(KEYS, Behaviour::status(500));
    for _ in 0..20 {
        assert_eq!(scene.prove(&key).await, Reason::JwksUnavailable.as_str());
    }
    assert_eq!(scene.fetched(), 1);
    scene.publish(&[&key]);
    scene.clock.advance(Ttl::from_secs(10));
    assert_eq!(scene.prove(&key).await, "accept");
}

#[tokio::test]
async fn an_issuer_that_hangs_does_not_make_requests_with_known_keys_hang() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    assert_eq!(scene.prove(&key).await, "accept");
    scene.server.set(KEYS, Behaviour::Gated(Arc::new(Semaphore::new(0)), String::new()));
    scene.clock.advance(Ttl::from_mins(8));
    for _ in 0..5 {
        assert_eq!(scene.prove(&key).await, "accept", "refreshed ahead, in the background");
    }
    eventually(|| scene.fetched() == 2).await;
    assert_eq!(scene.prove(&key).await, "accept");
    assert_eq!(scene.fetched(), 2);
}

#[tokio::test]
async fn in_an_outage_requests_do_not_wait_for_each_new_attempt() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    assert_eq!(scene.prove(&key).await, "accept");
    scene.server.set(KEYS, Behaviour::status(503));
    scene.clock.advance(Ttl::from_mins(11));
    assert_eq!(scene.prove(&key).await, "accept", "the first waits and learns of the outage");
    scene.server.set(KEYS, Behaviour::Gated(Arc::new(Semaphore::new(0)), String::new()));
    scene.clock.advance(Ttl::from_secs(10));
    let served = tokio::time::timeout(std::time::Duration::from_secs(2), scene.prove(&key)).await;
    assert_eq!(served, Ok("accept"), "the next is served while the issuer is asked again");
}

#[tokio::test]
async fn what_the_issuer_says_about_keeping_is_kept_within_bounds() {
    for (header, lifetime) in [
        ("max-age=60", 60),
        ("max-age=0", 10),
        ("no-store", 10),
        ("max-age=-1", 10),
        ("public, max-age=31536000", 600),
        ("max-age=99999999999999999999", 600),
        ("private", 600),
    ] {
        for (age, outcome) in [(lifetime - 1, "accept"), (lifetime, Reason::UnknownKid.as_str())] {
            let key = TestKey::new("one");
            let scene = Scene::new(&[]).await;
            let headers = vec![("cache-control", header.to_owned())];
            let document = Behaviour::Answer(axum::http::StatusCode::OK, headers, key_set(&[&key]).into_bytes());
            scene.server.set(KEYS, document);
            assert_eq!(scene.prove(&key).await, "accept");
            scene.publish(&[]);
            scene.clock.advance(Ttl::from_secs(age));
            assert_eq!(scene.prove(&key).await, outcome, "{header}: withdrawn, {age} seconds old");
        }
    }
}

#[tokio::test]
async fn a_malformed_set_does_not_replace_the_last_good_one_but_an_empty_one_does() {
    let (key, unknown) = (TestKey::new("one"), TestKey::new("unknown"));
    let scene = Scene::new(&[&key]).await;
    assert_eq!(scene.prove(&key).await, "accept");
    for malformed in [r#"{"keys":[],"keys":[]}"#, "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        scene.server.set(KEYS, Behaviour::json(malformed));
        scene.clock.advance(Ttl::from_secs(10));
        assert_eq!(scene.prove(&unknown).await, Reason::UnknownKid.as_str(), "{malformed}");
        assert_eq!(scene.prove(&key).await, "accept", "{malformed}");
    }
    scene.publish(&[]);
    scene.clock.advance(Ttl::from_secs(10));
    assert_eq!(scene.prove(&unknown).await, Reason::UnknownKid.as_str());
    assert_eq!(scene.prove(&key).await, Reason::UnknownKid.as_str(), "the issuer withdrew all keys");
}

#[tokio::test]
async fn an_issuer_that_never_published_a_usable_set_has_no_keys() {
    let key = TestKey::new("one");
    for (document, reason) in [
        (r#"{"keys":[],"keys":[]}"#.to_owned(), Reason::UnknownKid),
        ("[]".to_owned(), Reason::UnknownKid),
        (format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 101].join(",")), Reason::JwksUnavailable),
        (" ".repeat(1 << 20), Reason::JwksUnavailable),
    ] {
        let scene = Scene::new(&[]).await;
        scene.server.set(KEYS, Behaviour::json(document));
        assert_eq!(scene.prove(&key).await, reason.as_str());
    }
}

#[tokio::test]
async fn keys_are_not_fetched_from_where_they_must_not_come() {
    let key = TestKey::new("one");
    let elsewhere = TestServer::start().await;
    elsewhere.set(KEYS, Behaviour::json(key_set(&[&key])));

    // A discovery document that names another origin, unless that origin is configured.
    let scene = Scene::new(&[]).await;
    let document = json!({"issuer": scene.server.origin, "jwks_uri": format!("{}{KEYS}", elsewhere.origin)});
    scene.server.set(DISCOVERY, Behaviour::json(document.to_string()));
    assert_eq!(scene.prove(&key).await, Reason::JwksUnavailable.as_str());
    assert_eq!(elsewhere.asked(KEYS), 0);

    let named = elsewhere.origin.clone();
    let scene = Scene::with(&[], move |settings| {
        settings.keys = KeySource::Discovery { jwks_origins: vec![named], dangerous_allow_http: false };
    })
    .await;
    let document = json!({"issuer": scene.server.origin, "jwks_uri": format!("{}{KEYS}", elsewhere.origin)});
    scene.server.set(DISCOVERY, Behaviour::json(document.to_string()));
    assert_eq!(scene.prove(&key).await, "accept");

    // A redirect.
    let asked = elsewhere.asked(KEYS);
    for path in [DISCOVERY, KEYS] {
        let scene = Scene::new(&[]).await;
        let location = vec![("location", format!("{}{KEYS}", elsewhere.origin))];
        scene.server.set(path, Behaviour::Answer(axum::http::StatusCode::FOUND, location, Vec::new()));
        assert_eq!(scene.prove(&key).await, Reason::JwksUnavailable.as_str(), "{path}");
    }
    assert_eq!(elsewhere.asked(KEYS), asked);
}

#[tokio::test]
async fn a_discovery_document_that_is_not_the_issuers_is_refused() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    let (origin, keys) = (&scene.server.origin, format!("{}{KEYS}", scene.server.origin));
    let with_user = keys.replace("http://", "http://user@");
    for document in [
        json!({"issuer": format!("{origin}/"), "jwks_uri": keys}).to_string(),
        json!({"issuer": origin.to_uppercase(), "jwks_uri": keys}).to_string(),
        json!({"jwks_uri": keys}).to_string(),
        json!({"issuer": origin}).to_string(),
        json!({"issuer": origin, "jwks_uri": KEYS}).to_string(),
        json!({"issuer": origin, "jwks_uri": 1}).to_string(),
        json!({"issuer": origin, "jwks_uri": with_user}).to_string(),
        json!({"issuer": origin, "jwks_uri": "file:///etc/passwd"}).to_string(),
        json!({"issuer": origin, "jwks_uri": "http://169.254.169.254/jwks"}).to_string(),
        format!(r#"{{"issuer":"{origin}","issuer":"{origin}","jwks_uri":"{keys}"}}"#),
        format!(r#"{{"issuer":"{origin}","jwks_uri":"{keys}","jwks_uri":"{keys}"}}"#),
        format!(r#"{{"issuer":"{origin}","jwks_uri":"{keys}","x":{}{}}}"#, "[".repeat(100), "]".repeat(100)),
        format!(r#"{{"issuer":"{origin}","jwks_uri":"{keys}"}}{}"#, " ".repeat(5 << 20)),
        "<html>".to_owned(),
    ] {
        scene.server.set(DISCOVERY, Behaviour::json(document.clone()));
        scene.clock.advance(Ttl::from_secs(10));
        assert_eq!(scene.prove(&key).await, Reason::JwksUnavailable.as_str(), "{document:.200}");
    }
    assert_eq!(scene.fetched(), 0);
}

#[tokio::test]
async fn not_modified_says_nothing_about_keys_that_were_never_read() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[]).await;
    scene.server.set(KEYS, Behaviour::status(304));
    assert_eq!(scene.prove(&key).await, Reason::JwksUnavailable.as_str());

    // An `ETag` of a set that could not be read does not vouch for it either.
    scene.server.set(KEYS, Behaviour::Tagged("\"bad\"", "<html>".to_owned()));
    scene.clock.advance(Ttl::from_secs(10));
    assert_eq!(scene.prove(&key).await, Reason::UnknownKid.as_str());
    scene.server.set(KEYS, Behaviour::Tagged("\"bad\"", key_set(&[&key])));
    scene.clock.advance(Ttl::from_secs(10));
    assert_eq!(scene.prove(&key).await, "accept");

    // Nor does one of another URL.
    let moved = json!({"issuer": scene.server.origin, "jwks_uri": format!("{}/moved", scene.server.origin)});
    scene.server.set(DISCOVERY, Behaviour::json(moved.to_string()));
    scene.server.set("/moved", Behaviour::Tagged("\"bad\"", key_set(&[])));
    scene.clock.advance(Ttl::from_mins(11));
    assert_eq!(scene.prove(&key).await, Reason::UnknownKid.as_str());
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_does_not_keep_keys_alive() {
    let key = TestKey::new("one");
    let scene = Scene::new(&[&key]).await;
    assert_eq!(scene.prove(&key).await, "accept");
    scene.publish(&[]);
    scene.clock.advance(Ttl::from_mins(10));
    scene.clock.step_wall_back(Ttl::from_hours(2));
    assert_eq!(scene.prove(&key).await, Reason::UnknownKid.as_str());
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_when_it_changes() {
    let (old, new) = (TestKey::new("old"), TestKey::new("new"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, key_set(&[&old])).unwrap();
    let clock = clock();
    let mut settings = settings(KeySource::File(file.path().to_owned()));
    settings.refresh.grace = Ttl::from_secs(30);
    let verifier = verifier(settings, &clock);
    let prove = async |key: &TestKey| {
        let outcome = verify(&verifier, &key.proof(json!({}), json!({}))).await;
        outcome.map_or_else(|refusal| refusal.reason.as_str(), |_| "accept")
    };
    assert_eq!(prove(&old).await, "accept");
    std::fs::write(&file, key_set(&[&new])).unwrap();
    assert_eq!(prove(&old).await, "accept", "looked at once a second at most");
    clock.advance(Ttl::from_secs(1));
    assert_eq!((prove(&old).await, prove(&new).await), (Reason::UnknownKid.as_str(), "accept"));

    std::fs::write(&file, "half a fi").unwrap();
    clock.advance(Ttl::from_secs(1));
    assert_eq!(prove(&new).await, "accept", "a file that is being written does not replace the last good one");
    clock.advance(Ttl::from_secs(31));
    assert_eq!(prove(&new).await, Reason::JwksUnavailable.as_str(), "but not for ever");
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let new = |keys, url: &str| {
        let mut settings = settings(keys);
        settings.url = url.to_owned();
        let client = Arc::new(crate::outbound::Outbound::new(None).unwrap());
        OidcVerifier::new(settings, clock(), client, crate::outbound::AllowHttp::Never).map(|_| ())
    };
    let discovery = |dangerous_allow_http| KeySource::Discovery { jwks_origins: Vec::new(), dangerous_allow_http };
    let at = |url: &str| KeySource::JwksUri { url: url.to_owned(), dangerous_allow_http: false };
    assert_eq!(new(discovery(false), "https://idp.test"), Ok(()));
    assert_eq!(new(discovery(true), "http://idp.test"), Ok(()), "spelled out to be dangerous");
    assert_eq!(
        new(at("https://idp.test/jwks"), "not-a-url"),
        Ok(()),
        "an issuer need not be a URL to have keys at one"
    );
    assert!(new(discovery(false), "http://idp.test").is_err());
    assert!(new(discovery(false), "http://127.0.0.1:1").is_err());
    assert!(new(discovery(false), "not-a-url").is_err());
    assert!(new(at("/jwks"), "https://idp.test").is_err());
    assert!(new(at("https://user:password@idp.test/jwks"), "https://idp.test").is_err());
    assert!(new(KeySource::Inline("{}".to_owned()), "https://idp.test").is_err());
    assert!(new(KeySource::Inline(key_set(&[])), "https://idp.test").is_err());
}

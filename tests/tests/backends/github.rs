//! GitHub, by what its documentation records: nobody calls it from here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::backend::github::{AppKey, GitHubBackend};
use hallpass_broker::config::backend::github::{GitHub, KeySource};
use hallpass_broker::keys::LocalSigner;
use hallpass_core::credential::{CredentialMaterial, IssueOrder};
use hallpass_core::port::{CredentialBackend, IssueError, Signer, Undone};
use hallpass_core::testing::{MockClock, backend_suite, sample};
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_tests::contract::{Contract, Texts, Turn};
use hallpass_tests::unix_now;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::clouds::{self, kind_of};

/// The tokens that GitHub takes.
#[derive(Default)]
pub(crate) struct Installation {
    made: usize,
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) loses_token: bool,
    keeps_revoked: bool,
    /// When it is, if not the instant at which sample time stands.
    now: Option<fn() -> i64>,
}

impl Installation {
    /// One whose clock goes.
    pub(crate) fn in_real_time() -> Self {
        Self { now: Some(unix_now), ..Self::default() }
    }

    pub(crate) fn answer(&mut self, exchange: &str, texts: &mut Texts) -> Turn {
        let response = match exchange {
            "access-token" | "access-token-by-id" => {
                self.made += 1;
                let now = self.now.map_or(sample::NOW, |now| Timestamp::from_secs(now()));
                let token = format!("ghs_16C7e42F292c6912E7710c838347Ae178B4a{:04}", self.made);
                self.tokens.insert(token.clone());
                texts.insert("token".to_owned(), token);
                texts.insert("expires_at".to_owned(), now.plus(Ttl::from_hours(1)).to_rfc3339());
                if std::mem::take(&mut self.loses_token) {
                    return Turn::Lost;
                }
                exchange
            }
            "token-revoke" if self.tokens.contains(&texts["token"]) => {
                if !self.keeps_revoked {
                    self.tokens.remove(&texts["token"]);
                }
                exchange
            }
            "repositories" if self.tokens.contains(&texts["token"]) => exchange,
            "token-revoke" => "token-revoke-401",
            "repositories" => "repositories-401",
            other => panic!("nobody answers {other}"),
        };
        Turn::Response(response.to_owned())
    }
}

struct Lab {
    contract: Contract,
    installation: Arc<Mutex<Installation>>,
    clock: Arc<MockClock>,
    key: Arc<LocalSigner>,
    backend: GitHubBackend,
}

pub(crate) fn parameters() -> Value {
    json!({"repositories": ["Hello-World"], "permissions": {"issues": "write", "contents": "read"}})
}

/// A key as GitHub gives it: PKCS #1 in PEM.
pub(crate) fn key() -> Vec<u8> {
    let mut command = std::process::Command::new("openssl");
    let output = command.args(["genrsa", "-traditional", "2048"]).output().expect("openssl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
    output.stdout
}

impl Lab {
    async fn open() -> Self {
        let installation = Arc::new(Mutex::new(Installation::default()));
        let serving = Arc::clone(&installation);
        let contract =
            Contract::start("github", move |exchange, texts| serving.lock().unwrap().answer(exchange, texts)).await;
        let clock = clouds::clock();
        let settings = GitHub {
            api_url: contract.origin.parse().unwrap(),
            app_id: "Iv23liABCDEF".to_owned(),
            installation_id: 42,
            private_key: KeySource::File("not read here".into()),
            ca_file: Some(contract.authorities()),
            timeout: Ttl::from_secs(5),
        };
        let key = Arc::new(LocalSigner::rsa_from_pem(&key()).unwrap());
        let signer = Arc::clone(&key);
        let source: AppKey = Arc::new(move || Ok(Arc::clone(&signer) as Arc<dyn Signer>));
        let outbound = clouds::outbound(&contract);
        let backend = GitHubBackend::new(clouds::name("github"), &settings, source, outbound, Arc::clone(&clock) as _);
        Self { contract, installation, clock, key, backend }
    }

    fn order(&self, n: u64) -> IssueOrder {
        clouds::order(n, parameters(), Ttl::from_secs(3612))
    }

    fn installation(&self) -> std::sync::MutexGuard<'_, Installation> {
        self.installation.lock().unwrap()
    }
}

#[tokio::test]
async fn it_keeps_what_every_backend_keeps() {
    let lab = Lab::open().await;
    let order: backend_suite::Order<'_> =
        Box::new(|n, issued_at, expires_at| clouds::lasting(n, parameters(), issued_at, expires_at));
    backend_suite::all(&backend_suite::Minter { backend: &lab.backend, order, now: sample::NOW }).await;
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_app_and_is_revoked_with_itself() {
    let lab = Lab::open().await;
    let order = lab.order(1);
    let (issued, handle) = clouds::mint(&lab.backend, &order).await.unwrap();
    let CredentialMaterial::GitHub { token } = &issued.material else { panic!("of kind github") };
    assert_eq!(issued.expires_at, sample::NOW.plus(Ttl::from_hours(1)), "it lives for an hour whatever was asked for");
    assert!(lab.installation().tokens.contains(token.expose()));

    let asked = lab.contract.asked();
    let jwt = &asked[0].1["jwt"];
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, lab.key.public_key());
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let now = sample::NOW.as_secs();
    assert_eq!(claims, json!({"iss": "Iv23liABCDEF", "iat": now - 60, "exp": now + 540}));

    assert!(!format!("{handle:?}{issued:?}{:?}", lab.backend).contains("ghs_"));
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert!(lab.installation().tokens.is_empty());
    assert_eq!(lab.contract.times("repositories"), 1, "that it is not taken any more is tried");
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone), "and again");
}

#[tokio::test]
async fn repositories_can_be_named_by_their_ids() {
    let lab = Lab::open().await;
    let parameters = json!({"repository_ids": [1_296_269], "permissions": {"contents": "read"}});
    clouds::mint(&lab.backend, &clouds::order(1, parameters, Ttl::from_secs(3612))).await.unwrap();
    assert_eq!(lab.contract.times("access-token-by-id"), 1);
}

#[tokio::test]
async fn the_app_signs_once_for_some_minutes_and_again_when_it_was_not_taken() {
    let lab = Lab::open().await;
    for n in 1..4 {
        clouds::mint(&lab.backend, &lab.order(n)).await.unwrap();
    }
    lab.clock.advance(Ttl::from_mins(8));
    clouds::mint(&lab.backend, &clouds::lasting(4, parameters(), sample::NOW, sample::NOW.plus(Ttl::from_hours(2))))
        .await
        .unwrap();
    let jwts =
        |lab: &Lab| lab.contract.asked().iter().map(|(_, texts)| texts["jwt"].clone()).collect::<BTreeSet<_>>().len();
    assert_eq!(jwts(&lab), 2);
    lab.contract.next("access-token", "access-token-401");
    clouds::mint(&lab.backend, &clouds::lasting(5, parameters(), sample::NOW, sample::NOW.plus(Ttl::from_hours(2))))
        .await
        .unwrap_err();
    lab.clock.advance(Ttl::from_secs(1));
    clouds::mint(&lab.backend, &clouds::lasting(6, parameters(), sample::NOW, sample::NOW.plus(Ttl::from_hours(2))))
        .await
        .unwrap();
    assert_eq!(jwts(&lab), 3);
}

#[tokio::test]
async fn every_documented_error_means_what_it_says() {
    let lab = Lab::open().await;
    let mut tried = 0;
    for error in lab.contract.errors_of("access-token") {
        lab.contract.next("access-token", &error);
        let failed = clouds::mint(&lab.backend, &lab.order(100 + tried)).await.unwrap_err();
        let says = match error.as_str() {
            name if name.contains("-401") => "does not know the App",
            name if name.contains("-limit") || name.contains("-429") => "limits how often",
            "access-token-403" => "suspended",
            "access-token-404" => "no such installation",
            name if name.contains("-422") => "is not the installation's",
            _ => {
                assert_eq!(kind_of(&failed), "unknown", "{error}: {failed}");
                tried += 1;
                continue;
            }
        };
        assert!(matches!(&failed, IssueError::Refused { detail, .. } if detail.contains(says)), "{error}: {failed}");
        clouds::told_apart(&failed, &lab.contract.recorded(&error));
        tried += 1;
    }
    assert_eq!(tried, 14, "as many as are recorded");
    assert!(lab.installation().tokens.is_empty());
    lab.contract.next("access-token", "access-token-429");
    let limited = clouds::mint(&lab.backend, &lab.order(1)).await.unwrap_err();
    assert!(limited.to_string().contains("1m") || limited.to_string().contains("60s"), "for how long: {limited}");
}

#[tokio::test]
async fn a_token_whose_answer_was_lost_is_one_that_only_time_ends() {
    let lab = Lab::open().await;
    lab.installation().loses_token = true;
    let order = lab.order(1);
    let failed = clouds::mint(&lab.backend, &order).await.unwrap_err();
    assert_eq!(kind_of(&failed), "unknown", "{failed}");
    assert_eq!(lab.installation().tokens.len(), 1, "it exists");
    let planned = lab.backend.plan(&order).unwrap();
    assert_eq!(lab.backend.revoke(&planned).await, Ok(Undone::OnlyTime), "and nobody can say which it is");
}

#[tokio::test]
async fn undoing_fails_until_github_takes_the_token_no_more() {
    let lab = Lab::open().await;
    let (_, handle) = clouds::mint(&lab.backend, &lab.order(1)).await.unwrap();
    for (exchange, error) in [
        ("token-revoke", "token-revoke-403"),
        ("token-revoke", "token-revoke-500"),
        ("repositories", "repositories-500"),
    ] {
        lab.installation().keeps_revoked = true;
        lab.contract.next(exchange, error);
        let failed = lab.backend.revoke(&handle).await.unwrap_err();
        assert!(failed.internal.starts_with(error.rsplit('-').next().unwrap()), "{failed}");
    }
    let failed = lab.backend.revoke(&handle).await.unwrap_err();
    assert!(failed.internal.contains("still takes"), "{failed}");
    lab.installation().keeps_revoked = false;
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
}

#[tokio::test]
async fn a_token_for_more_than_was_asked_for_is_ended_and_not_handed_out() {
    let lab = Lab::open().await;
    let wrong =
        ["access-token-for-all", "access-token-to-write", "access-token-to-maintain", "access-token-unreadable"];
    for (n, wrong) in (1..).zip(wrong) {
        lab.installation().tokens.insert("ghs_canary".to_owned());
        lab.contract.next("access-token", wrong);
        let failed = clouds::mint(&lab.backend, &lab.order(n)).await.unwrap_err();
        assert!(failed.to_string().contains("it was revoked"), "{wrong}: {failed}");
        assert!(!format!("{failed:?}").contains("canary"));
        assert!(lab.installation().tokens.is_empty(), "{wrong}");
    }
}

#[tokio::test]
async fn a_token_that_is_over_ends_by_its_time_where_github_cannot_be_asked() {
    let lab = Lab::open().await;
    let (_, handle) = clouds::mint(&lab.backend, &lab.order(1)).await.unwrap();
    for (after, expected) in [(59, None), (2, Some(Undone::OnlyTime))] {
        lab.clock.advance(Ttl::from_mins(after));
        lab.contract.lose("token-revoke");
        let ended = lab.backend.revoke(&handle).await;
        assert_eq!(ended.ok(), expected, "after {after} more minutes");
    }
    lab.installation().tokens.clear();
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone), "where it can, it confirms");
}

#[tokio::test]
async fn less_than_an_hour_is_refused_before_anything_is_asked() {
    let lab = Lab::open().await;
    let failed = clouds::mint(&lab.backend, &clouds::order(1, parameters(), Ttl::from_secs(3599))).await.unwrap_err();
    assert!(matches!(&failed, IssueError::Refused { detail, .. } if detail.contains("hour")), "{failed}");
    assert!(lab.contract.asked().is_empty());
}

#[tokio::test]
async fn a_role_never_leaves_out_repositories_or_permissions() {
    let lab = Lab::open().await;
    let wrong = |parameters: Value| lab.backend.validate(&clouds::role(parameters)).unwrap_err();
    let permissions = json!({"contents": "read"});
    for (parameters, key) in [
        (json!({"permissions": permissions}), "repositories"),
        (json!({"permissions": permissions, "repositories": []}), "repositories"),
        (json!({"permissions": permissions, "repository_ids": []}), "repository_ids"),
        (json!({"permissions": permissions, "repository_ids": [0]}), "repository_ids"),
        (json!({"permissions": permissions, "repository_ids": [1, 1]}), "repository_ids"),
        (json!({"permissions": permissions, "repositories": ["octocat/Hello-World"]}), "repositories"),
        (json!({"permissions": permissions, "repositories": ["a"], "repository_ids": [1]}), "repository_ids"),
        (json!({"repositories": ["a"]}), "permissions"),
        (json!({"repositories": ["a"], "permissions": {}}), "permissions"),
        (json!({"repositories": ["a"], "permissions": {"contents": "all"}}), "permissions"),
        (json!({"repositories": ["a"], "permissions": {"Contents": "read"}}), "permissions"),
    ] {
        let refused = wrong(parameters.clone());
        assert_eq!(refused.key, key, "{parameters}: {refused}");
    }
    lab.backend.validate(&clouds::role(parameters())).unwrap();
}

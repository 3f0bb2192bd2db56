//! Sessions of AWS roles, minted by a running broker at ministack and used there.

mod chain;
mod conformance;
mod doors;
mod fences;
mod lab;
mod sessions;

use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, OPERATOR, Setup};
use hallpass_tests::ministack::{Keys, Ministack, REGION};
use hallpass_tests::{Answer, Broker, Issuer, SigningKey, eventually};
use serde_json::{Value, json};

const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";
/// The broker's role.
const ROLE: &str = "aws/deploy";
/// The bucket that sessions reach.
const BUCKET: &str = "artifacts";
const SOON: Duration = Duration::from_secs(30);

/// A cloud, and a broker that its roles trust.
struct Cloud {
    aws: Ministack,
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

/// One of the policies that operators are given, for the broker at `host`.
fn policy(text: &str, host: &str) -> Value {
    serde_json::from_str(&text.replace("hallpass.example", host)).expect("JSON")
}

/// How a cloud is laid out.
struct Plan {
    backend: Value,
    role: Value,
    environment: Vec<(&'static str, String)>,
}

impl Plan {
    /// A backend that fences at once, and a role that narrows nothing.
    fn usual() -> Self {
        let fence = "arn:aws:iam::123456789012:role/hallpass-fence";
        Self {
            backend: json!({
                "name": "aws", "kind": "aws", "region": REGION,
                "fence": {"role_arn": fence, "propagation": "0s"},
            }),
            role: json!({"role_arn": "arn:aws:iam::123456789012:role/deploy"}),
            environment: Vec::new(),
        }
    }
}

impl Cloud {
    async fn open() -> Option<Self> {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut Plan)) -> Option<Self> {
        let aws = Ministack::start().await?;
        let mut plan = Plan::usual();
        plan.backend["sts_endpoint"] = json!(aws.url());
        plan.backend["iam_endpoint"] = json!(aws.url());
        change(&mut plan);
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let mut setup = Setup::trusting(&[("ci", &issuer)]).backend(plan.backend).role(ROLE, "aws", "aws", plan.role);
        for (_, role) in setup.roles.iter_mut().filter(|(name, _)| name == ROLE) {
            role["ttl"] = json!({"default": "20m", "max": "1h"});
        }
        let environment: Vec<(&str, &str)> =
            plan.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut broker = Broker::prepare(&setup, &environment);
        let host = broker.url().replace("http://", "");
        let trust = policy(include_str!("../../../deploy/aws/trust-policy.json"), &host);
        let fence = policy(include_str!("../../../deploy/aws/fence-policy.json"), &host);
        aws.bucket(BUCKET).await;
        aws.role("deploy", &trust).await;
        aws.role_with("hallpass-fence", &trust, &fence).await;
        broker.restart().await;
        Some(Self { aws, issuer, key, broker })
    }

    fn proof_of(&self, subject: &str) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, subject))
    }

    /// Asks for a session.
    async fn ask(&self, body: Value) -> Answer {
        let mut asked = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"});
        asked.as_object_mut().expect("a table").extend(body.as_object().expect("a table").clone());
        self.broker.call("POST", "/v1/grants", Some(&self.proof_of(WORKLOAD)), Some(&asked)).await
    }

    /// A session and the id of its grant.
    async fn session(&self) -> (Keys, String) {
        let answer = self.ask(json!({})).await;
        answer.assert_status(201);
        let id = answer.body["grant"]["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned();
        (Keys::of(&answer.body["credential"]), id)
    }

    async fn revoke(&self, id: &str) {
        let path = format!("/v1/grants/{id}/revoke");
        let answer = self.broker.call("POST", &path, Some(&self.proof_of(OPERATOR)), Some(&json!({}))).await;
        assert!(answer.status < 300, "{}", answer.text);
    }

    /// The grant as it is.
    async fn grant(&self, id: &str) -> Value {
        let path = format!("/v1/grants/{id}");
        self.broker.call("GET", &path, Some(&self.proof_of(OPERATOR)), None).await.body
    }

    /// The grant once it is said to be fenced.
    async fn fenced(&self, id: &str) -> Value {
        eventually("the session is fenced", SOON, async || {
            Some(self.grant(id).await).filter(|grant| grant["revocation"]["fenced_at"].is_string())
        })
        .await
    }
}

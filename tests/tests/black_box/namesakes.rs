//! Issuers that have one `iss`, such as clusters that all call themselves the same: their keys tell them apart.

use std::time::{Duration, Instant};

use hallpass_tests::config::{AUDIENCE, Setup, trust};
use hallpass_tests::{Answer, Behaviour, Broker, Document, Issuer, SigningKey};
use serde_json::{Value, json};

use crate::WORKLOAD;

const NAME: &str = "https://kubernetes.default.svc.cluster.local";

/// Two clusters of one name, and a broker that trusts both.
struct Namesakes {
    a: (Issuer, SigningKey),
    b: (Issuer, SigningKey),
    broker: Broker,
}

impl Namesakes {
    async fn open(before: impl FnOnce(&Issuer, &Issuer)) -> Self {
        let (key_a, key_b) = (SigningKey::es256("key-a"), SigningKey::es256("key-b"));
        let (a, b) = (Issuer::start(&[&key_a]).await, Issuer::start(&[&key_b]).await);
        before(&a, &b);
        let entry = |name: &str, issuer: &Issuer| {
            let mut entry = trust(name, issuer, &["ES256"]);
            entry["url"] = json!(NAME);
            entry["jwks_uri"] = json!(format!("{}/jwks", issuer.url()));
            entry
        };
        let broker = Broker::start(&Setup::with_issuers(vec![entry("a", &a), entry("b", &b)])).await;
        Self { a: (a, key_a), b: (b, key_b), broker }
    }

    fn proof(&self, of: &(Issuer, SigningKey)) -> String {
        let mut claims = of.0.claims(AUDIENCE, WORKLOAD);
        claims["iss"] = json!(NAME);
        of.1.sign(&claims)
    }

    async fn whoami(&self, proof: &str) -> Answer {
        let asked = self.broker.client().get(self.broker.at("/v1/whoami")).bearer_auth(proof).send();
        Answer::read(asked.await.expect("an answer")).await
    }

    fn reasons(&self, answer: &Answer) -> Vec<String> {
        self.broker.store().reasons_of(answer.request_id())
    }
}

fn issuer_of(answer: &Answer) -> &Value {
    answer.assert_status(200);
    &answer.body["issuer"]
}

#[tokio::test]
async fn each_is_known_by_its_own_key_and_unknown_keys_ask_neither_often() {
    let house = Namesakes::open(|_, _| ()).await;
    assert_eq!(issuer_of(&house.whoami(&house.proof(&house.a)).await), "a");
    assert_eq!(issuer_of(&house.whoami(&house.proof(&house.b)).await), "b");
    let stranger = SigningKey::es256("key-c");
    for _ in 0..20 {
        let mut claims = house.a.0.claims(AUDIENCE, WORKLOAD);
        claims["iss"] = json!(NAME);
        let refused = house.whoami(&stranger.sign(&claims)).await;
        assert_eq!((refused.status, house.reasons(&refused)), (401, vec!["unknown_kid".to_owned()]));
    }
    for (issuer, _) in [&house.a, &house.b] {
        assert!(issuer.key_requests() <= 2, "asked {} times", issuer.key_requests());
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
async fn one_that_cannot_be_reached_refuses_nothing_of_the_other_and_lets_nobody_in() {
    let house = Namesakes::open(|a, _| a.behave(Document::Keys, Behaviour::Hang)).await;
    assert_eq!(issuer_of(&house.whoami(&house.proof(&house.b)).await), "b");
    let asked = Instant::now();
    assert_eq!(issuer_of(&house.whoami(&house.proof(&house.b)).await), "b");
    assert!(asked.elapsed() < Duration::from_secs(3), "it waited for the other: {:?}", asked.elapsed());
    let refused = house.whoami(&house.proof(&house.a)).await;
    assert_eq!((refused.status, house.reasons(&refused)), (503, vec!["jwks_unavailable".to_owned()]));
}

#[tokio::test]
async fn what_keys_of_both_verify_is_nobodys() {
    let house = Namesakes::open(|_, _| ()).await;
    let shared = SigningKey::es256("shared");
    house.a.0.rotate(&[&shared]);
    house.b.0.rotate(&[&shared]);
    let mut claims = house.a.0.claims(AUDIENCE, WORKLOAD);
    claims["iss"] = json!(NAME);
    let refused = house.whoami(&shared.sign(&claims)).await;
    assert_eq!((refused.status, house.reasons(&refused)), (401, vec!["ambiguous_issuer".to_owned()]));
}

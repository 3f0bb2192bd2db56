//! What clients asked for and received, written down by them: the truth that the ledger is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::{CERTIFICATE_ROLE, ROLE};
use hallpass_tests::size;
use hallpass_tests::{Exchange, Journal, Row, eventually, unix_millis};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::caller::{Caller, NoReply, Proof, Reply};
use crate::house::House;
use crate::ledger::{self, hex, millis, text};

/// How many clients work at once.
pub(crate) const CLIENTS: usize = 8;
/// How long they go on when nothing stops the broker, as something should.
fn longest_load() -> Duration {
    Duration::from_secs(size(60, 600) as u64)
}
/// The life of credentials that are to end while an experiment runs.
const SHORT_LIFE: &str = "2s";
/// How many credentials are shown to the broker again after each restart: the latest.
const SHOWN: usize = 24;

/// Everything that clients saw.
#[derive(Clone, Default)]
pub(crate) struct Witness {
    /// Whether it asks again where the broker says that it cannot for now.
    patient: bool,
    asked: Journal<Errand>,
    received: Journal<Received>,
    ended: Journal<Ended>,
}

/// One request for a credential.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) proof: Proof,
    pub(crate) key: String,
    pub(crate) wanted: Wanted,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Token,
    ShortToken,
    Certificate,
}

/// A credential that reached its caller.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) errand: Errand,
    pub(crate) grant: String,
    token: Option<String>,
}

/// A grant that its holder asked to end.
#[derive(Clone, Debug)]
struct Ended {
    grant: String,
    /// Whether the broker said that it is so. Without its answer both outcomes are right.
    answered: bool,
}

impl Errand {
    pub(crate) fn new(caller: &Caller, wanted: Wanted) -> Self {
        let proof = caller.proof();
        Self { key: format!("key-of-{}", proof.id), proof, wanted }
    }

    pub(crate) async fn run(&self, caller: &Caller, key: Option<&str>) -> Result<Reply, NoReply> {
        let exchange = || Exchange::of(&self.proof.token);
        match self.wanted {
            Wanted::Token => caller.exchange(&exchange(), key).await,
            Wanted::ShortToken => caller.exchange(&exchange().with("ttl", SHORT_LIFE), key).await,
            Wanted::Certificate => {
                let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
                caller.open(&self.proof, &body, key).await
            }
        }
    }

    fn role(&self) -> &'static str {
        if self.wanted == Wanted::Certificate { CERTIFICATE_ROLE } else { ROLE }
    }
}

impl Witness {
    /// One for a broker that gets so little that it may say 503: then nothing was given, and it is asked again.
    pub(crate) fn patient() -> Self {
        Self { patient: true, ..Self::default() }
    }

    /// Has clients open grants, and end every third, until nobody answers any more.
    pub(crate) async fn watch_until_silence(&self, caller: &Caller) {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(self.clone().client(caller.clone(), number));
        }
        let all = async {
            while let Some(ended) = clients.join_next().await {
                ended.expect("no client meets what it did not expect");
            }
        };
        let silent = tokio::time::timeout(longest_load(), all).await;
        assert!(silent.is_ok(), "the broker still answers after {:?}: it should have died or stopped", longest_load());
    }

    async fn client(self, caller: Caller, number: usize) {
        for round in number.. {
            let wanted = match round % 5 {
                0 => Wanted::ShortToken,
                1 => Wanted::Certificate,
                _ => Wanted::Token,
            };
            let Some(received) = self.ask(&caller, wanted).await else { return };
            if round % 3 == 0 && !self.end(&caller, &received).await {
                return;
            }
        }
    }

    /// Asks for a credential; `None` where no answer came.
    pub(crate) async fn ask(&self, caller: &Caller, wanted: Wanted) -> Option<Received> {
        loop {
            let errand = Errand::new(caller, wanted);
            self.asked.record(errand.clone());
            let reply = errand.run(caller, Some(&errand.key)).await.ok()?;
            if self.is_put_off_by(&reply) {
                continue;
            }
            assert!(matches!(reply.status, 200 | 201), "refused: {} {}", reply.status, reply.text);
            return Some(self.receive(errand, &reply));
        }
    }

    /// Writes down a credential that came.
    pub(crate) fn receive(&self, errand: Errand, reply: &Reply) -> Received {
        let received = Received { errand, grant: reply.grant().to_owned(), token: reply.token().map(str::to_owned) };
        self.received.record(received.clone());
        received
    }

    /// Asks that a grant ends; `false` where no answer came.
    pub(crate) async fn end(&self, caller: &Caller, received: &Received) -> bool {
        let mut reply = caller.revoke(&received.errand.proof, &received.grant).await;
        while reply.as_ref().is_ok_and(|reply| self.is_put_off_by(reply)) {
            reply = caller.revoke(&received.errand.proof, &received.grant).await;
        }
        if let Ok(reply) = &reply {
            assert!(matches!(reply.status, 200 | 202), "not revoked: {} {}", reply.status, reply.text);
        }
        self.ended.record(Ended { grant: received.grant.clone(), answered: reply.is_ok() });
        reply.is_ok()
    }

    fn is_put_off_by(&self, reply: &Reply) -> bool {
        self.patient && reply.status == 503
    }

    /// Requests without an answer, oldest first.
    pub(crate) fn unanswered(&self) -> Vec<Errand> {
        let answered: BTreeSet<_> = self.received.entries().into_iter().map(|one| one.errand.proof.id).collect();
        self.asked.entries().into_iter().filter(|errand| !answered.contains(&errand.proof.id)).collect()
    }

    /// Credentials that came, oldest first.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.entries()
    }

    /// Writes down a request that somebody makes outside the loops of this type.
    pub(crate) fn asks(&self, errand: &Errand) {
        self.asked.record(errand.clone());
    }

    /// Asserts that a broker which runs again has lost nothing, invented nothing and forgotten nothing.
    pub(crate) async fn assert_kept(&self, house: &House) {
        let store = house.store();
        ledger::assert_sound(&store);
        let grants = ledger::grants(&store);
        let stuck = grants.values().filter(|grant| text(grant, "state") == "pending").count();
        assert_eq!(stuck, 0, "what is minted by the broker itself is never half open");

        let asked: BTreeSet<_> = self.asked.entries().into_iter().map(|errand| errand.proof.id).collect();
        for (id, grant) in &grants {
            assert!(asked.contains(text(grant, "proof_id")), "grant {id} was asked for by nobody");
        }
        let ended = self.ended_by_grant();
        for received in self.received.entries() {
            let id = hex(&received.grant);
            let grant = grants.get(&id).unwrap_or_else(|| panic!("a caller has a credential without a record: {id}"));
            received.assert_recorded(grant, ended.get(&id).copied());
        }
        self.assert_shown_right(house, &grants).await;
    }

    /// Awaits that the short credentials are over, each by its own time or because somebody asked.
    pub(crate) async fn assert_short_ones_end(&self, house: &House) {
        let short: Vec<_> = self.received.entries();
        let short: Vec<_> = short.iter().filter(|one| one.errand.wanted == Wanted::ShortToken).collect();
        assert!(!short.is_empty(), "no short credential came");
        eventually("short credentials have expired", Duration::from_secs(30), async || {
            let grants = ledger::grants(&house.store());
            short.iter().all(|one| text(&grants[&hex(&one.grant)], "state") == "expired").then_some(())
        })
        .await;
        ledger::assert_sound(&house.store());
    }

    fn ended_by_grant(&self) -> BTreeMap<String, bool> {
        let mut by_grant = BTreeMap::new();
        for ended in self.ended.entries() {
            *by_grant.entry(hex(&ended.grant)).or_default() |= ended.answered;
        }
        by_grant
    }

    /// The latest tokens are what the ledger says of them, to whoever asks the broker and to whoever has its keys alone.
    async fn assert_shown_right(&self, house: &House, grants: &BTreeMap<String, Row>) {
        let caller = &house.caller;
        let keys = caller.get("/.well-known/jwks.json").await.expect("the keys");
        let holder = caller.proof();
        let long = |one: &Received| one.errand.wanted == Wanted::Token;
        for received in self.received.entries().iter().rev().filter(|one| long(one)).take(SHOWN) {
            let (Some(token), grant) = (&received.token, &grants[&hex(&received.grant)]) else { continue };
            let reply = caller.introspect(&holder, token).await.expect("an answer");
            reply.assert_status(200);
            let live = text(grant, "state") == "active" && unix_millis() < millis(grant, "end_at");
            assert_eq!(reply.body["active"], live, "{} {}", reply.text, text(grant, "state"));
            let claims = verified(token, &keys.body);
            let expires = claims["exp"].as_i64().expect("exp") * 1000;
            assert!(expires <= millis(grant, "expires_at"), "a token outlives its record: {claims}");
        }
    }
}

impl Received {
    /// What the broker says of the token.
    pub(crate) async fn introspected(&self, caller: &Caller) -> Reply {
        let token = self.token.as_ref().expect("a token");
        caller.introspect(&caller.proof(), token).await.expect("an answer")
    }

    /// Asserts that the token verifies for whoever has the broker's keys alone; gives its claims.
    pub(crate) async fn assert_verifies(&self, caller: &Caller) -> Value {
        let keys = caller.get("/.well-known/jwks.json").await.expect("the keys");
        verified(self.token.as_ref().expect("a token"), &keys.body)
    }

    /// `ended`: whether somebody asked that it ends, and then whether the broker answered.
    fn assert_recorded(&self, grant: &Row, ended: Option<bool>) {
        let (state, cause) = (text(grant, "state"), text(grant, "cause"));
        let id = &self.grant;
        assert_eq!(text(grant, "proof_id"), self.errand.proof.id, "grant {id} is of another proof");
        assert_eq!(text(grant, "role"), self.errand.role(), "grant {id} is of another role");
        assert!(!grant["activated_at"].is_null(), "grant {id} was {state}, and its credential was given out");
        let timely = cause == "expired" && unix_millis() >= millis(grant, "end_at");
        match (ended, state) {
            (_, "revoking" | "expired") if timely => {}
            (Some(_), "revoking" | "expired") => {
                assert!(matches!(cause, "requested" | "superseded"), "grant {id} ended by {cause:?}");
            }
            (None, "revoking" | "expired") => assert_eq!(cause, "superseded", "grant {id} ends though nobody asked"),
            (Some(false) | None, "active") => {}
            _ => panic!("grant {id} is {state} ({cause:?}); asked to end and answered: {ended:?}"),
        }
        if state == "revoking" {
            assert!(!grant["fenced_at"].is_null(), "grant {id} ends and verifiers still accept it");
        }
    }
}

/// The header of a token.
pub(crate) fn header(token: &str) -> Value {
    let part = token.split('.').next().expect("a header");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// The claims of a token that verifies under these keys (RFC 7515 §5.2, RFC 7518 §3.4).
pub(crate) fn verified(token: &str, keys: &Value) -> Value {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let (signed, signature) = token.rsplit_once('.').expect("a compact JWS");
    let (_, claims) = signed.split_once('.').expect("a compact JWS");
    let header = header(token);
    let key = keys["keys"].as_array().expect("a key set").iter().find(|key| key["kid"] == header["kid"]);
    let key = key.unwrap_or_else(|| panic!("the key of a live token is not published: {header} {keys}"));
    let mut point = vec![4];
    point.extend(["x", "y"].map(|name| decode(key[name].as_str().expect("a coordinate"))).concat());
    let verifies =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &decode(signature));
    assert!(verifies.is_ok(), "a token does not verify under the published key: {header}");
    serde_json::from_slice(&decode(claims)).expect("JSON")
}

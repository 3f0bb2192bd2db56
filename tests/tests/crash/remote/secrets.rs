//! Secrets live once: whatever was given to anybody, and whatever the broker itself came in with, stands nowhere, at the
//! level that tells most, and where answers are broken while a live token is in them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hallpass_tests::Issuer;
use hallpass_tests::config::OPERATOR;
use hallpass_tests::estate::{BRIEF_LEASE, Estate, LEASE, PASSWORD, SESSION, TOKEN, USER};
use hallpass_tests::ministack::elements;
use hallpass_tests::relay::{Passed, Relay};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Ground;
use crate::house::House;
use crate::process::Start;

/// What every request says, and the record keeps: the search must find it, or it finds nothing.
const CANARY: &str = "canary-that-is-no-secret-4f2c";
/// A needle that is shorter is in any text by chance.
const SHORTEST: usize = 12;
/// A life that ends in the test.
const SHORT_LIFE: &str = "6s";
/// How long it may take until what was recorded is under a signed checkpoint.
const CHECKPOINTED: Duration = Duration::from_secs(120);

// CASE BE-001, BE-004
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_real_credential_and_nothing_that_the_broker_comes_in_with_stands_anywhere() {
    let Some(estate) = Estate::watched().await else { return };
    // A collector that answers 404 to everything: what it was sent is what counts.
    let nobody = Issuer::start(&[]).await;
    let collector = Relay::before(nobody.url()).await;
    let traces = json!({"endpoint": format!("{}/v1/traces", collector.url()), "sample_percent": 100});
    let sections = json!({"telemetry": {"traces": traces, "log_format": "json"}});
    let folder = TempDir::with_prefix("hallpass-secrets-").expect("a temporary folder");
    let mut house = House::build_with(folder, |setup| estate.known_to(setup).server(sections)).await;
    house.start_as(Start { environment: &[("RUST_LOG", "trace")], ..Start::default() }).await;
    let ground = Ground::of(house, estate).await;

    let mut bodies = Vec::new();
    whole_life(&ground, &mut bodies).await;
    for (what, bend) in broken() {
        for relay in [&ground.estate.at_bao, &ground.estate.at_aws] {
            relay.as_ref().expect("a relay").bend(bend);
        }
        for role in [TOKEN, LEASE, BRIEF_LEASE, SESSION] {
            bodies.push((format!("{role} with {what}"), ask(&ground, role, None).await.1));
        }
    }
    for relay in [&ground.estate.at_bao, &ground.estate.at_aws] {
        relay.as_ref().expect("a relay").straighten();
    }
    ground.assert_settled().await;

    let mut places = remains(ground.house.folder());
    places.extend(bodies.into_iter().map(|(name, text)| (name, text.into_bytes())));
    for page in ["/metrics", "/readyz"] {
        places.push((page.to_owned(), ground.house.page(page).await.into_bytes()));
    }
    let operator = ground.house.caller.proof_of(OPERATOR);
    for path in ["/v1/grants?limit=500", "/v1/audit?limit=500", "/v1/backends"] {
        let read = ground.house.caller.read(path, &operator).await.expect("an answer");
        places.push((path.to_owned(), read.text.into_bytes()));
    }
    places.push(("audit export".to_owned(), export(&ground).await));
    let sent: Vec<String> = collector.passed().into_iter().map(|passed| passed.asked).collect();
    assert!(!sent.is_empty(), "no trace was sent");
    places.push(("traces".to_owned(), sent.concat().into_bytes()));

    let secrets = secrets(&ground);
    for kind in ["the broker's session at OpenBao", "a token", "a password", "keys of AWS", "the broker's own token"] {
        assert!(secrets.values().any(|one| *one == kind), "no {kind} is known: nothing would be found");
    }
    let found = Needles::of(secrets.keys()).found_in(&places);
    let found: Vec<_> = found.iter().map(|(place, secret)| format!("{} in {place}", secrets[secret])).collect();
    assert!(found.is_empty(), "{found:#?}");

    // The control: what is no secret is found wherever it belongs, and a secret that is put somewhere is, in any writing.
    let canary = CANARY.to_owned();
    let seen = Needles::of([&canary]).found_in(&places);
    for place in ["hallpass.db", "/v1/grants", "audit export"] {
        assert!(seen.iter().any(|(name, _)| name.contains(place)), "{place} is not searched: {seen:?}");
    }
    let log = places.iter().find(|(name, _)| name.ends_with("broker.log")).expect("a log");
    let request = String::from_utf8_lossy(&log.1).matches("TRACE").count();
    assert!(request > 100, "the log does not tell everything: {request} lines at the level trace");
    let secret = secrets.keys().next().expect("a secret");
    for written in [secret.clone(), STANDARD.encode(secret), format!("x{}", percent(secret))] {
        let planted = vec![("a planted place".to_owned(), format!("before {written} after").into_bytes())];
        assert_eq!(Needles::of([secret]).found_in(&planted).len(), 1, "a planted secret is not found");
    }
}

/// The exported log, once a checkpoint is over what every request says.
async fn export(ground: &Ground) -> Vec<u8> {
    let mut looks = tokio::time::interval(CHECKPOINTED / 60);
    let exported = async {
        loop {
            looks.tick().await;
            let exported = ground.house.process.beside(&["audit", "export"]);
            let said = String::from_utf8_lossy(&exported.stderr);
            assert!(exported.status.success(), "{said}");
            if String::from_utf8_lossy(&exported.stdout).contains(CANARY) {
                return [exported.stdout, exported.stderr].concat();
            }
        }
    };
    tokio::time::timeout(CHECKPOINTED, exported).await.expect("the log is signed in time")
}

/// Every kind of credential is given, refused, used, renewed where it can be, ended by hand, and falls due.
async fn whole_life(ground: &Ground, bodies: &mut Vec<(String, String)>) {
    let caller = &ground.house.caller;
    for role in [TOKEN, LEASE, BRIEF_LEASE, USER, SESSION] {
        for life in [None, Some(SHORT_LIFE)] {
            if life.is_some() && role == SESSION {
                bodies.push((format!("{role} for too short"), ask(ground, role, life).await.1));
                continue;
            }
            let received = ground.holders.ask(caller, role, life).await.expect("an answer").expect("a credential");
            assert!(ground.estate.works(&received.held).await, "{role} does not work");
            let path = format!("/v1/grants/{}/renew", received.grant);
            let renewed = caller.command(&path, &caller.proof(), &json!({"ttl": "12m"}), &received.grant).await;
            bodies.push((format!("renewal of {role}"), renewed.expect("an answer").text));
            if life.is_none() {
                assert!(ground.holders.end(caller, &received).await);
            }
        }
    }
    for role in ["real/none", "app/closed"] {
        bodies.push((role.to_owned(), ask(ground, role, None).await.1));
    }
    for (role, _) in bodies.iter() {
        assert!(!role.is_empty());
    }
    let due = async || ground.unsettled().is_empty().then_some(());
    hallpass_tests::eventually("what was due is over", Duration::from_secs(60), due).await;
}

async fn ask(ground: &Ground, role: &str, life: Option<&str>) -> (u16, String) {
    let mut body = json!({"role": role, "purpose": CANARY});
    if let Some(life) = life {
        body["ttl"] = json!(life);
    }
    let caller = &ground.house.caller;
    let reply = caller.open(&caller.proof(), &body, None).await.expect("an answer");
    // One that was given out in spite of all is no error's body.
    if reply.status == 201 { (201, String::new()) } else { (reply.status, reply.text) }
}

type Bend = fn(&Passed) -> Option<String>;

/// What can be wrong with an answer that has a secret in it.
fn broken() -> [(&'static str, Bend); 4] {
    let cut: Bend = |passed| {
        let is_made = made(passed)?;
        Some(is_made[..is_made.len() - is_made.len() / 8].to_owned())
    };
    let number: Bend = |passed| {
        let text = made(passed)?;
        let changed = text.replacen("\"lease_duration\":", "\"lease_duration\":\"soon\",\"was\":", 1);
        Some(changed.replacen("<Expiration>", "<Expiration>soon, ", 1))
    };
    let nested: Bend = |passed| {
        let mut value: Value = serde_json::from_str(made(passed)?).ok()?;
        for name in ["client_token", "password"] {
            for place in ["auth", "data"] {
                if let Some(secret) = value[place].get(name).cloned() {
                    value[place][name] = json!({"text": secret});
                }
            }
        }
        Some(value.to_string())
    };
    let twice: Bend = |passed| {
        let text = made(passed)?;
        Some(format!("{text}{text}"))
    };
    [("a cut answer", cut), ("a word for a number", number), ("a table for a text", nested), ("two answers", twice)]
}

/// An answer that has a secret in it.
fn made(passed: &Passed) -> Option<&str> {
    let has = |name: &str| passed.answered.contains(name);
    (has("client_token") || has("\"password\"") || has("SecretAccessKey")).then_some(passed.answered.as_str())
}

/// Everything that must stand nowhere, with what it is: as the relays saw it made and used.
fn secrets(ground: &Ground) -> BTreeMap<String, &'static str> {
    let mut all = vec![(PASSWORD.to_owned(), "the broker's password")];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for passed in ground.estate.at_bao.as_ref().expect("a relay").passed() {
        let answered: Value = serde_json::from_str(&passed.answered).unwrap_or_default();
        let asked: Value = serde_json::from_str(&passed.asked).unwrap_or_default();
        let is_login = passed.path.ends_with("/login");
        let token = if is_login { "the broker's session at OpenBao" } else { "a token" };
        all.extend(text(&answered["auth"]["client_token"]).map(|secret| (secret, token)));
        all.extend(text(&answered["data"]["password"]).map(|secret| (secret, "a password")));
        all.extend(text(&asked["jwt"]).map(|secret| (signature(&secret), "the broker's own token")));
        all.extend(passed.token.map(|secret| (secret, "a token that was used")));
    }
    for passed in ground.estate.at_aws.as_ref().expect("a relay").passed() {
        for name in ["SecretAccessKey", "SessionToken"] {
            all.extend(elements(&passed.answered, name).into_iter().map(|secret| (secret, "keys of AWS")));
        }
        let token = passed.asked.split('&').find_map(|pair| pair.strip_prefix("WebIdentityToken="));
        all.extend(token.map(|token| (signature(token), "the broker's own token")));
    }
    for received in ground.holders.received() {
        all.extend(received.held.secrets().into_iter().map(|secret| (secret.to_owned(), "what a holder has")));
    }
    let mut named = BTreeMap::new();
    for (secret, what) in all.into_iter().filter(|(secret, _)| secret.len() >= SHORTEST) {
        named.entry(secret).or_insert(what);
    }
    named
}

/// Of a token signed by the broker, what nobody else can make.
fn signature(token: &str) -> String {
    token.rsplit('.').next().unwrap_or_default().to_owned()
}

/// Every file below a folder.
fn remains(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            all.extend(remains(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            all.push((path.display().to_string(), bytes));
        }
    }
    all
}

/// Many secrets, each in the writings that it might stand in, looked for at once.
struct Needles {
    /// By their beginnings.
    by_beginning: HashMap<[u8; SHORTEST], Vec<(Vec<u8>, String)>>,
}

impl Needles {
    fn of<'a>(secrets: impl IntoIterator<Item = &'a String>) -> Self {
        let mut by_beginning: HashMap<_, Vec<_>> = HashMap::new();
        for secret in secrets {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let writings =
                [secret.clone(), STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret), hex, percent(secret)];
            // Padding depends on what comes after it.
            for writing in writings.map(|writing| writing.trim_end_matches('=').to_owned()) {
                let beginning = writing.as_bytes()[..SHORTEST].try_into().expect("long enough");
                by_beginning.entry(beginning).or_default().push((writing.into_bytes(), secret.clone()));
            }
        }
        Self { by_beginning }
    }

    /// Where which stands.
    fn found_in(&self, places: &[(String, Vec<u8>)]) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for (name, bytes) in places {
            for (at, window) in bytes.windows(SHORTEST).enumerate() {
                let Some(candidates) = self.by_beginning.get(window) else { continue };
                for (_, secret) in candidates.iter().filter(|(writing, _)| bytes[at..].starts_with(writing)) {
                    found.insert((name.clone(), secret.clone()));
                }
            }
        }
        found
    }
}

fn percent(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

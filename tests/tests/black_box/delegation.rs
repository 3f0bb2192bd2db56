//! Somebody acts for another (RFC 8693 §1.1): both are asked, both are seen, nothing grows on the way, and what was handed on
//! ends with what it was handed on from.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_sdk::wire::Timestamp;
use hallpass_tests::config::{AUDIENCE, BROKER_ITSELF, CLOSED_ROLE, OPERATOR, ROLE, Setup, trust};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, Prover, SigningKey, eventually, unix_now};
use serde_json::{Value, json};

use crate::WORKLOAD;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// A role whose credential stands for its holder at the broker itself.
const SESSION: &str = "hub/session";
/// A role with a scope, for whoever comes by a session.
const API: &str = "app/api";
const AGENT: &str = "agent-7";

const POLICIES: &str = r#"
@id("agents-act-for-jobs")
permit (principal is Agent, action == Action::"delegate", resource is Role)
when { context has on_behalf_of && context.on_behalf_of.issuer == "ci" && context has task };

@id("agents-keep-and-end-their-own")
permit (principal is Agent, action in [Action::"read", Action::"revoke", Action::"renew"], resource is Grant)
when { context.holder };

@id("team-stops")
permit (principal in Group::"platform", action == Action::"suspend", resource);

@id("never-three-in-a-row-here")
forbid (principal, action == Action::"mint", resource == Role::"app/tls")
when { context has actor_depth && context.actor_depth > 0 };
"#;

/// Jobs and agents, each with an issuer of its own, and a broker that is known by a name.
struct House {
    jobs: (Issuer, SigningKey),
    agents: (Issuer, SigningKey),
    broker: Broker,
}

impl House {
    async fn open() -> Self {
        Self::open_with(|setup| setup).await
    }

    async fn open_with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let issuer = async |kid: &str| {
            let key = SigningKey::es256(kid);
            (Issuer::start(&[&key]).await, key)
        };
        let (jobs, agents) = (issuer("jobs").await, issuer("agents").await);
        let mut of_agents = trust("agents", &agents.0, &["ES256"]);
        of_agents["principal"] = json!("agent");
        of_agents["provenance"] = json!({"repository": "repository", "run": "run_id"});
        let session = json!({"audience": BROKER_ITSELF, "scope": ["read", "write"], "dangerous_broker_audience": true});
        let api = json!({"audience": "https://api.test", "scope": ["read", "write", "admin"]});
        let setup = Setup::with_issuers(vec![trust("ci", &jobs.0, &["ES256"]), of_agents])
            .role(SESSION, "jwt", "jwt", session)
            .role(API, "jwt", "jwt", api)
            .policy("delegation.cedar", POLICIES);
        let broker = Broker::start(&change(setup)).await;
        Self { jobs, agents, broker }
    }

    fn job(&self) -> String {
        self.job_with(json!({}))
    }

    fn job_with(&self, more: Value) -> String {
        let mut claims = self.jobs.0.claims(AUDIENCE, WORKLOAD);
        claims.as_object_mut().expect("claims").extend(more.as_object().expect("claims").clone());
        self.jobs.1.sign(&claims)
    }

    fn agent(&self, subject: &str) -> String {
        self.agent_with(subject, json!({}))
    }

    fn agent_with(&self, subject: &str, more: Value) -> String {
        let mut claims = self.agents.0.claims(AUDIENCE, subject);
        claims.as_object_mut().expect("claims").extend(more.as_object().expect("claims").clone());
        self.agents.1.sign(&claims)
    }

    fn operator(&self) -> String {
        self.jobs.1.sign(&self.jobs.0.claims(AUDIENCE, OPERATOR))
    }

    /// What would become of the same, at `/v1/decisions`.
    async fn foreseen(&self, subject: &str, actor: Option<&str>, more: Value) -> Answer {
        let mut asked = json!({"role": ROLE, "purpose": "deploy build 4f2c", "task": "fix the build that broke"});
        asked.as_object_mut().expect("members").extend(more.as_object().expect("members").clone());
        if let Some(actor) = actor {
            asked["actor_token"] = json!(actor);
        }
        self.broker.call("POST", "/v1/decisions", Some(subject), Some(&asked)).await
    }

    /// What `actor` gets for whoever `subject` is of.
    async fn acting(&self, subject: &str, actor: &str, role: &str) -> Answer {
        self.broker.exchange(&acting(subject, actor, role)).await
    }

    /// A session of the job's, of which others can be handed parts.
    async fn session(&self, scope: &str) -> Answer {
        let answer = self.broker.exchange(&Exchange::of(&self.job()).role(SESSION).with("scope", scope)).await;
        answer.assert_status(200);
        answer
    }

    async fn grant(&self, id: &str) -> Value {
        let operator = self.jobs.1.sign(&self.jobs.0.claims(AUDIENCE, OPERATOR));
        let answer = self.broker.call("GET", &format!("/v1/grants/{id}"), Some(&operator), None).await;
        answer.assert_status(200);
        answer.body
    }

    async fn is_active(&self, token: &str) -> Value {
        let form = format!("token={token}");
        let content = Some("application/x-www-form-urlencoded");
        let answer = self.broker.post_raw("/oauth2/introspect", Some(&self.job()), content, form).await;
        answer.assert_status(200);
        answer.body
    }

    fn reasons(&self, answer: &Answer) -> Vec<String> {
        self.broker.store().reasons_of(answer.request_id())
    }
}

fn in_an_hour() -> String {
    Timestamp::from_unix_millis((unix_now() + 3_600) * 1_000).expect("an instant").to_string()
}

/// Claims of a token that is bound to the key of whoever has this.
fn bound_to(prover: &Prover) -> Value {
    json!({"cnf": {"jkt": prover.thumbprint()}})
}

fn acting(subject: &str, actor: &str, role: &str) -> Exchange {
    let exchange = Exchange::of(subject).role(role).with("actor_token", actor).with("actor_token_type", JWT);
    exchange.with("task", "fix the build that broke")
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

#[tokio::test]
async fn an_agent_gets_what_it_may_act_with_and_both_are_seen() {
    let house = House::open().await;
    let answer = house.acting(&house.job(), &house.agent(AGENT), ROLE).await;
    answer.assert_status(200);
    let said = claims(answer.text_of("access_token"));
    assert_eq!(said["sub"], format!("ci:{WORKLOAD}"), "for whom");
    assert_eq!(said["act"], json!({"sub": "agents:agent-7"}), "by whom");

    let grant = house.grant(answer.grant_id()).await;
    assert_eq!(grant["identity"]["subject"], WORKLOAD);
    assert_eq!(grant["actors"], json!([{"issuer": "agents", "kind": "agent", "subject": AGENT}]));
    assert_eq!(grant["task"], "fix the build that broke");
    let rules: Vec<_> = grant["decision"]["determining_policies"].as_array().expect("policies").clone();
    assert_eq!(rules, ["agents-act-for-jobs", "workloads-mint"], "both were asked");
    let operator = house.jobs.1.sign(&house.jobs.0.claims(AUDIENCE, OPERATOR));
    let log = format!("/v1/audit?grant={}", answer.grant_id());
    let log = house.broker.call("GET", &log, Some(&operator), None).await;
    let entries = log.body["items"].as_array().expect("entries");
    assert_eq!(entries.len(), 2, "{}", log.text);
    for entry in entries {
        let (by, of) = (json!(format!("agents:{AGENT}")), json!(format!("ci:{WORKLOAD}")));
        assert_eq!((&entry["actor"], &entry["on_behalf_of"]), (&by, &of));
    }

    // Either of the two ends it; whoever else is of the same issuers does not, nor is it found by them.
    let path = format!("/v1/grants/{}", answer.grant_id());
    for stranger in [house.agent("agent-8"), house.job_with(json!({"sub": "repo:acme/other"}))] {
        house.broker.call("DELETE", &path, Some(&stranger), None).await.assert_status(404);
    }
    let renewed = house.broker.call("POST", &format!("{path}/renew"), Some(&house.agent(AGENT)), None).await;
    assert_eq!(renewed.status, 409, "asked for again, with both proofs: {}", renewed.text);
    house.broker.call("DELETE", &path, Some(&house.agent(AGENT)), None).await.assert_status(202);
    let other = house.acting(&house.job(), &house.agent(AGENT), ROLE).await;
    let path = format!("/v1/grants/{}", other.grant_id());
    house.broker.call("DELETE", &path, Some(&house.job()), None).await.assert_status(202);
}

// CASE TX-015
#[tokio::test]
async fn without_either_of_the_two_allowed_nobody_acts() {
    let house = House::open().await;
    let refused = async |exchange: Exchange, error: &str, reason: &str| {
        let answer = house.broker.exchange(&exchange).await;
        answer.assert_refused(400, error);
        assert_eq!(house.reasons(&answer), [reason], "{}", answer.text);
    };
    // The subject may not have the role; the actor may not act for this one; without a task it may not at all.
    refused(acting(&house.job(), &house.agent(AGENT), CLOSED_ROLE), "invalid_target", "policy_denied").await;
    refused(acting(&house.job(), &house.agent(AGENT), "app/tls"), "invalid_target", "policy_denied").await;
    refused(acting(&house.agent("other"), &house.agent(AGENT), ROLE), "invalid_target", "policy_denied").await;
    refused(acting(&house.job(), &house.job_with(json!({"sub": "repo:x"})), ROLE), "invalid_target", "policy_denied")
        .await;
    let silent = acting(&house.job(), &house.agent(AGENT), ROLE).without("task");
    refused(silent, "invalid_target", "policy_denied").await;
    // An agent is nobody without its subject.
    refused(Exchange::of(&house.agent(AGENT)), "invalid_target", "policy_denied").await;
    // A proof of either that does not hold.
    let forged = SigningKey::es256("agents").sign(&house.agents.0.claims(AUDIENCE, AGENT));
    refused(acting(&house.job(), &forged, ROLE), "invalid_request", "bad_signature").await;
    let forged = SigningKey::es256("jobs").sign(&house.jobs.0.claims(AUDIENCE, WORKLOAD));
    refused(acting(&forged, &house.agent(AGENT), ROLE), "invalid_request", "bad_signature").await;
    refused(acting(&house.job(), &house.job(), ROLE), "invalid_request", "not_allowed_actor").await;
    let session = house.session("read").await;
    let own = session.text_of("access_token");
    refused(acting(&house.job(), own, ROLE), "invalid_request", "unknown_issuer").await;
    refused(Exchange::of(own), "invalid_request", "unknown_issuer").await;
    assert_eq!(house.broker.store().grant_count(), 1, "the session alone");
}

#[tokio::test]
async fn each_of_the_two_proofs_serves_once() {
    let house = House::open().await;
    let (job, agent) = (house.job(), house.agent(AGENT));
    house.acting(&job, &agent, ROLE).await.assert_status(200);
    for (subject, actor) in [(job, house.agent(AGENT)), (house.job(), agent)] {
        let answer = house.acting(&subject, &actor, ROLE).await;
        answer.assert_refused(400, "invalid_request");
        assert_eq!(house.reasons(&answer), ["replayed"]);
    }
    assert_eq!(house.broker.store().grant_count(), 1);
}

#[tokio::test]
async fn a_subject_that_names_who_may_act_is_acted_for_by_that_one_alone() {
    let house = House::open().await;
    let named = |who: Value| house.job_with(json!({"may_act": who}));
    let url = house.agents.0.url();
    house.acting(&named(json!({"iss": url, "sub": AGENT})), &house.agent(AGENT), ROLE).await.assert_status(200);
    for (who, reason) in [
        (json!({"iss": url, "sub": "agent-8"}), "not_allowed_actor"),
        (json!({"sub": AGENT}), "not_allowed_actor"),
        (json!({"iss": "https://elsewhere.test", "sub": AGENT}), "not_allowed_actor"),
        (json!({"iss": url}), "malformed_claims"),
        (json!({"iss": url, "sub": AGENT, "email": "a@b.test"}), "malformed_claims"),
        (json!("agent-7"), "malformed_claims"),
    ] {
        let answer = house.acting(&named(who.clone()), &house.agent(AGENT), ROLE).await;
        answer.assert_refused(400, "invalid_request");
        assert_eq!(house.reasons(&answer), [reason], "{who}");
    }
    let session = acting(&named(json!({"iss": url, "sub": AGENT})), &house.agent(AGENT), SESSION);
    let session = house.broker.exchange(&session).await;
    session.assert_status(200);
    let second = house.acting(session.text_of("access_token"), &house.agent("agent-8"), ROLE).await;
    assert_eq!(house.reasons(&second), ["not_allowed_actor"], "it hands nothing on");
    let alone = house.broker.exchange(&Exchange::of(&named(json!({"iss": url, "sub": AGENT})))).await;
    assert_eq!(house.reasons(&alone), ["not_allowed_actor"], "whoever has it may be that one, acting as the other");
}

// CASE TX-013
#[tokio::test]
async fn what_is_handed_on_is_no_more_than_what_it_is_handed_on_from() {
    let house = House::open().await;
    let exchange = Exchange::of(&house.job()).role(SESSION).with("scope", "read").with("ttl", "120");
    let session = house.broker.exchange(&exchange).await;
    session.assert_status(200);
    let token = session.text_of("access_token");

    let narrow = acting(token, &house.agent(AGENT), API).with("scope", "read").with("ttl", "600");
    let answer = house.broker.exchange(&narrow).await;
    answer.assert_status(200);
    assert!(answer.body["expires_in"].as_u64().expect("a life") <= 120, "{}", answer.text);
    let grant = house.grant(answer.grant_id()).await;
    assert_eq!(grant["parent"], session.grant_id());
    assert!(grant["terms"]["bounds"]["parent"].is_string(), "{}", grant["terms"]);
    assert_eq!(grant["identity"]["subject"], WORKLOAD, "whoever is behind the session");
    assert_eq!(grant["provenance"], house.grant(session.grant_id()).await["provenance"]);
    let said = claims(answer.text_of("access_token"));
    assert_eq!((&said["scope"], &said["act"]["sub"]), (&json!("read"), &json!("agents:agent-7")));

    // ROLE knows no scope, and so gives all that it has.
    for (role, scope) in [(API, "read write"), (API, "write"), (API, "admin"), (API, ""), (ROLE, "")] {
        let wide = acting(token, &house.agent(AGENT), role).with("scope", scope);
        let answer = house.broker.exchange(&wide).await;
        assert_eq!((answer.status, answer.error()), (400, "invalid_scope"), "{scope:?}: {}", answer.text);
        assert_eq!(house.reasons(&answer), ["scope_not_granted"], "{scope:?}");
    }
}

// CASE TX-014
#[tokio::test]
async fn a_chain_is_as_long_as_it_may_be_and_ends_with_each_of_its_links() {
    let house = House::open().await;
    let session = house.session("read").await;
    let mut links = vec![session];
    for agent in ["agent-1", "agent-2", "agent-3"] {
        let token = links.last().expect("a link").text_of("access_token").to_owned();
        let link = house.broker.exchange(&acting(&token, &house.agent(agent), SESSION).with("scope", "read")).await;
        link.assert_status(200);
        links.push(link);
    }
    let token = links[3].text_of("access_token").to_owned();
    let said = claims(&token);
    let nested = json!({"sub": "agents:agent-3", "act": {"sub": "agents:agent-2", "act": {"sub": "agents:agent-1"}}});
    assert_eq!((&said["sub"], &said["act"]), (&json!(format!("ci:{WORKLOAD}")), &nested));
    let introspected = house.is_active(&token).await;
    assert_eq!((&introspected["active"], &introspected["act"]), (&json!(true), &nested));
    let too_long = house.broker.exchange(&acting(&token, &house.agent("agent-4"), SESSION).with("scope", "read")).await;
    too_long.assert_refused(400, "invalid_request");
    assert_eq!(house.reasons(&too_long), ["not_allowed_actor"]);

    // From the middle: what is below ends in the same commit, what is above lives.
    let ids: Vec<_> = links.iter().map(|link| link.grant_id().to_owned()).collect();
    let path = format!("/v1/grants/{}", ids[1]);
    house.broker.call("DELETE", &path, Some(&house.agent("agent-1")), None).await.assert_status(202);
    let mut states = Vec::new();
    for id in &ids {
        let grant = house.grant(id).await;
        states.push((grant["state"].clone(), grant["cause"].clone()));
    }
    let ended = |cause: &str| (json!("revoking"), json!(cause));
    let expected = [(json!("active"), Value::Null), ended("requested"), ended("parent_ended"), ended("parent_ended")];
    assert_eq!(states, expected);
    let late = house.broker.exchange(&acting(links[2].text_of("access_token"), &house.agent(AGENT), SESSION)).await;
    assert_eq!(house.reasons(&late), ["grant_ended"]);
}

#[tokio::test]
async fn an_agent_is_found_and_stopped_by_its_name() {
    let house = House::open().await;
    let by_agent = house.acting(&house.job(), &house.agent(AGENT), ROLE).await;
    let by_other = house.acting(&house.job(), &house.agent("agent-8"), ROLE).await;
    let operator = || house.jobs.1.sign(&house.jobs.0.claims(AUDIENCE, OPERATOR));
    let body = json!({"selector": {"actor": "agents:agent-7"}, "reason": "the agent was led astray"});
    let begun = house.broker.call("POST", "/v1/revocations", Some(&operator()), Some(&body)).await;
    assert!(matches!(begun.status, 200..=202), "{}", begun.text);
    eventually("its grant ends", Duration::from_secs(30), async || {
        (house.grant(by_agent.grant_id()).await["state"] == "revoking").then_some(())
    })
    .await;
    assert_eq!(house.grant(by_other.grant_id()).await["state"], "active");
}

#[tokio::test]
async fn with_a_chain_of_none_nobody_acts_for_anybody() {
    let house = House::open_with(|setup| setup.server(json!({"limits": {"max_actors": 0}}))).await;
    house.broker.exchange(&Exchange::of(&house.job())).await.assert_status(200);
    let answer = house.acting(&house.job(), &house.agent(AGENT), ROLE).await;
    answer.assert_refused(400, "invalid_request");
    assert_eq!(house.reasons(&answer), ["not_allowed_actor"]);
}

#[tokio::test]
async fn a_subject_token_that_is_bound_is_acted_with_by_whoever_shows_its_key_and_by_nobody_else() {
    let house = House::open().await;
    let (job, agent, other) = (Prover::new(), Prover::new(), Prover::new());
    let of_job = || house.job_with(bound_to(&job));
    let url = house.agents.0.url();

    // The actor has not the subject's key, and not even `may_act` stands in for it.
    let named = house.job_with(json!({"cnf": {"jkt": job.thumbprint()}, "may_act": {"iss": url, "sub": AGENT}}));
    for subject in [of_job(), named] {
        let by_none = house.acting(&subject, &house.agent(AGENT), ROLE).await;
        by_none.assert_refused(400, "invalid_request");
        assert_eq!(house.reasons(&by_none), ["pop_required"]);
        for why in ["whoever is acted for", "show that key by a DPoP proof", "bound to no key", "may_act"] {
            assert!(by_none.text.contains(why), "it says what to do: {}", by_none.text);
        }
    }
    let of_agent = || house.agent_with(AGENT, bound_to(&agent));
    let by_agent = agent.exchange(&house.broker, acting(&of_job(), &of_agent(), ROLE)).await;
    assert_eq!(house.reasons(&by_agent), ["pop_mismatch"], "{}", by_agent.text);
    let by_other = other.exchange(&house.broker, acting(&of_job(), &house.agent(AGENT), ROLE)).await;
    assert_eq!(house.reasons(&by_other), ["pop_mismatch"], "{}", by_other.text);
    // Nor is the key of the subject that of an actor who is bound to its own.
    let by_job = job.exchange(&house.broker, acting(&of_job(), &of_agent(), ROLE)).await;
    assert_eq!(house.reasons(&by_job), ["pop_mismatch"], "{}", by_job.text);
    assert_eq!(house.broker.store().grant_count(), 0);

    // Whoever shows it: the agent works where the job does, or the job made the proof for this one request of the agent's.
    let subject = of_job();
    let proof = job.proof(&house.broker, "POST", "/oauth2/token", Some(&subject), &json!({})).await;
    let answer = house.broker.exchange(&acting(&subject, &house.agent(AGENT), ROLE).header("dpop", &proof)).await;
    answer.assert_status(200);
    let said = claims(answer.text_of("access_token"));
    assert_eq!((&said["cnf"]["jkt"], &said["act"]["sub"]), (&json!(job.thumbprint()), &json!("agents:agent-7")));
    assert_eq!(answer.text_of("token_type"), "DPoP");
    let again = house.broker.exchange(&acting(&of_job(), &house.agent(AGENT), ROLE).header("dpop", &proof)).await;
    assert_eq!(again.status, 400, "a proof of possession is for one request: {}", again.text);

    // Both bound to one key; and an actor that is bound alone, whose key then binds nobody but the actor.
    let shared = house.agent_with(AGENT, bound_to(&job));
    job.exchange(&house.broker, acting(&of_job(), &shared, ROLE)).await.assert_status(200);
    let alone = agent.exchange(&house.broker, acting(&house.job(), &of_agent(), ROLE)).await;
    alone.assert_status(200);
    assert_eq!(claims(alone.text_of("access_token"))["cnf"]["jkt"], agent.thumbprint());
    let path = format!("/v1/grants/{}", alone.grant_id());
    house.broker.call("DELETE", &path, Some(&house.agent(AGENT)), None).await.assert_refused(404, "not_found");
    house.broker.call("DELETE", &path, Some(&house.job()), None).await.assert_status(202);
}

/// The broker's own tokens are bound the same way, and are no exception.
#[tokio::test]
async fn a_session_that_is_bound_is_handed_on_by_whoever_shows_its_key() {
    let house = House::open().await;
    let (job, other) = (Prover::new(), Prover::new());
    let session = Exchange::of(&house.job()).role(SESSION).with("scope", "read");
    let session = job.exchange(&house.broker, session).await;
    session.assert_status(200);
    let token = session.text_of("access_token");
    let wanted = || acting(token, &house.agent(AGENT), API).with("scope", "read");
    assert_eq!(house.reasons(&house.broker.exchange(&wanted()).await), ["pop_required"]);
    assert_eq!(house.reasons(&other.exchange(&house.broker, wanted()).await), ["pop_mismatch"]);
    let answer = job.exchange(&house.broker, wanted()).await;
    answer.assert_status(200);
    assert_eq!(house.grant(answer.grant_id()).await["parent"], session.grant_id());
}

#[tokio::test]
async fn an_actor_leaves_room_for_others_below_what_was_handed_on() {
    let house = House::open_with(|setup| setup.server(json!({"limits": {"max_derived_per_actor": 2}}))).await;
    let session = house.session("read").await;
    let token = session.text_of("access_token");
    let by = async |agent: &str| {
        let exchange = acting(token, &house.agent(agent), SESSION).with("scope", "read");
        house.broker.exchange(&exchange).await
    };
    let first = by(AGENT).await;
    by(AGENT).await.assert_status(200);
    let over = by(AGENT).await;
    over.assert_refused(429, "temporarily_unavailable");
    assert!(over.text.contains("max_derived_per_actor"), "{}", over.text);
    assert!(over.headers.contains_key("retry-after"));
    assert_eq!(house.reasons(&over), ["quota_exceeded"]);
    by("agent-8").await.assert_status(200);
    let through = acting(first.text_of("access_token"), &house.agent("agent-9"), SESSION).with("scope", "read");
    house.broker.exchange(&through).await.assert_refused(429, "temporarily_unavailable");
    let path = format!("/v1/grants/{}", first.grant_id());
    house.broker.call("DELETE", &path, Some(&house.agent(AGENT)), None).await.assert_status(202);
    by(AGENT).await.assert_status(200);
}

#[tokio::test]
async fn what_a_run_holds_as_an_actor_ends_with_all_that_it_holds() {
    let house = House::open().await;
    let agent = |run: &str| house.agent_with(AGENT, json!({"repository": "acme/agents", "run_id": run}));
    let session = house.session("read").await;
    let by_run = house.acting(&house.job(), &agent("7"), ROLE).await;
    let by_other = house.acting(&house.job(), &agent("8"), ROLE).await;
    let handed_on = acting(session.text_of("access_token"), &agent("7"), SESSION).with("scope", "read");
    let handed_on = house.broker.exchange(&handed_on).await;
    let below = acting(handed_on.text_of("access_token"), &house.agent("agent-8"), SESSION).with("scope", "read");
    let below = house.broker.exchange(&below).await;

    // The one below acts through that run, too.
    let list = async |filter: &str| {
        let path = format!("/v1/grants?{filter}");
        let listed = house.broker.call("GET", &path, Some(&house.operator()), None).await;
        listed.assert_status(200);
        let items = listed.body["items"].as_array().expect("items").clone();
        items.iter().map(|grant| grant["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let held = [below.grant_id(), handed_on.grant_id(), by_run.grant_id()];
    assert_eq!(list("repository=acme/agents&run=7").await, held);
    assert_eq!(list("repository=acme/agents&run=9").await, [""; 0]);
    let stop = json!({"selector": {"run": "7", "issuer": "agents"}, "reason": "the run was taken over", "until": in_an_hour()});
    house.broker.call("POST", "/v1/quarantines", Some(&house.operator()), Some(&stop)).await.assert_status(201);
    let late = house.acting(&house.job(), &agent("7"), ROLE).await;
    assert_eq!(house.reasons(&late), ["quarantined"], "{}", late.text);
    let foreseen = house.foreseen(&house.job(), Some(&agent("7")), json!({})).await;
    assert_eq!((foreseen.text_of("outcome"), foreseen.text_of("reason")), ("deny", "quarantined"), "{}", foreseen.text);
    house.acting(&house.job(), &agent("8"), ROLE).await.assert_status(200);

    let body = json!({"selector": {"repository": "acme/agents", "run": "7"}, "reason": "the run was taken over"});
    let begun = house.broker.call("POST", "/v1/revocations", Some(&house.operator()), Some(&body)).await;
    assert!(matches!(begun.status, 200..=202), "{}", begun.text);
    for ended in [&by_run, &handed_on, &below] {
        assert_eq!(house.is_active(ended.text_of("access_token")).await["active"], false, "from the commit on");
        let grant = eventually("its grant ends", Duration::from_secs(30), async || {
            let grant = house.grant(ended.grant_id()).await;
            (grant["state"] == "revoking").then_some(grant)
        })
        .await;
        assert_eq!(grant["cause"], "revocation", "the record says who asked for it, below another too: {grant}");
    }
    for lives in [&by_other, &session] {
        assert_eq!(house.grant(lives.grant_id()).await["state"], "active");
    }
}

#[tokio::test]
async fn what_an_actor_would_get_is_foreseen_and_nothing_is_used_up() {
    let house = House::open().await;
    let (job, agent) = (house.job(), house.agent(AGENT));
    for _ in 0..2 {
        let foreseen = house.foreseen(&job, Some(&agent), json!({})).await;
        assert_eq!((foreseen.status, foreseen.text_of("outcome")), (200, "allow"), "{}", foreseen.text);
        let rules = &foreseen.body["determining_policies"];
        assert_eq!(*rules, json!(["agents-act-for-jobs", "workloads-mint"]), "both are asked");
    }
    let opened = house.acting(&job, &agent, ROLE).await;
    opened.assert_status(200);
    assert_eq!(house.broker.store().grant_count(), 1);
    for (subject, actor) in [(&job, &house.agent(AGENT)), (&house.job(), &agent)] {
        let foreseen = house.foreseen(subject, Some(actor), json!({})).await;
        assert_eq!(
            (foreseen.text_of("outcome"), foreseen.text_of("reason")),
            ("deny", "replayed"),
            "{}",
            foreseen.text
        );
    }

    // Each refusal is that of the exchange, and no refusal on the record.
    let url = house.agents.0.url();
    let only = |sub: &str| house.job_with(json!({"may_act": {"iss": url, "sub": sub}}));
    for (subject, actor, more, reason) in [
        (house.job(), house.agent(AGENT), json!({"role": CLOSED_ROLE}), "role_not_available"),
        (house.job(), house.agent(AGENT), json!({"role": "app/tls"}), "role_not_available"),
        (house.job(), house.agent(AGENT), json!({"task": null}), "role_not_available"),
        (house.job(), house.job(), json!({}), "not_allowed_actor"),
        (only("agent-8"), house.agent(AGENT), json!({}), "not_allowed_actor"),
    ] {
        let foreseen = house.foreseen(&subject, Some(&actor), more.clone()).await;
        assert_eq!((foreseen.status, foreseen.text_of("outcome")), (200, "deny"), "{more}: {}", foreseen.text);
        assert_eq!(foreseen.text_of("reason"), reason, "{more}: {}", foreseen.text);
        assert!(house.reasons(&foreseen).is_empty(), "a question is no refusal");
    }
    let named = house.foreseen(&only(AGENT), Some(&house.agent(AGENT)), json!({})).await;
    assert_eq!(named.text_of("outcome"), "allow", "{}", named.text);
    // Alone the agent would not get it, and a proof that is none is refused as ever.
    let alone = house.foreseen(&house.agent(AGENT), None, json!({})).await;
    assert_eq!(alone.text_of("reason"), "role_not_available", "{}", alone.text);
    let forged = SigningKey::es256("agents").sign(&house.agents.0.claims(AUDIENCE, AGENT));
    let foreseen = house.foreseen(&house.job(), Some(&forged), json!({})).await;
    foreseen.assert_refused(401, "bad_signature");

    // What is handed on from a session.
    let session = house.session("read").await;
    let token = session.text_of("access_token");
    let narrow = |scope: &str| json!({"role": API, "scope": [scope]});
    let foreseen = house.foreseen(token, Some(&house.agent(AGENT)), narrow("read")).await;
    assert_eq!(foreseen.text_of("outcome"), "allow", "{}", foreseen.text);
    let foreseen = house.foreseen(token, Some(&house.agent(AGENT)), narrow("write")).await;
    assert_eq!(foreseen.text_of("reason"), "scope_not_granted", "{}", foreseen.text);
    assert_eq!(house.broker.store().grant_count(), 2, "the one that was opened, and the session");
}

/// A proof that others could have sent is no better for having been exchanged for a session.
#[tokio::test]
async fn what_the_proof_behind_a_session_was_meant_for_is_asked_again() {
    const ALONE: &str = r#"
@id("for-this-broker-alone")
forbid (principal, action == Action::"mint", resource == Role::"app/api")
when { principal.multi_audience };
"#;
    let house = House::open_with(|setup| setup.policy("alone.cedar", ALONE)).await;
    let session = async |audiences: Value| {
        let proof = house.job_with(json!({"aud": audiences}));
        let session = house.broker.exchange(&Exchange::of(&proof).role(SESSION).with("scope", "read")).await;
        session.assert_status(200);
        session.text_of("access_token").to_owned()
    };
    let wanted = async |token: &str, role: &str| {
        house.broker.exchange(&acting(token, &house.agent(AGENT), role).with("scope", "read")).await
    };
    let (alone, shared) = (session(json!([AUDIENCE])).await, session(json!([AUDIENCE, "https://other.test"])).await);
    wanted(&alone, API).await.assert_status(200);
    let refused = wanted(&shared, API).await;
    refused.assert_refused(400, "invalid_target");
    assert_eq!(house.reasons(&refused), ["policy_denied"]);
    // Nor by one more session in between.
    let between = wanted(&shared, SESSION).await;
    between.assert_status(200);
    let deeper = acting(between.text_of("access_token"), &house.agent("agent-8"), API).with("scope", "read");
    house.broker.exchange(&deeper).await.assert_refused(400, "invalid_target");
}

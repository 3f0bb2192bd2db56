//! `/v1/revocations` and `/v1/quarantines`.

use hallpass_core::policy::{Action, Obligations};
use hallpass_core::quarantine::Quarantine;
use hallpass_core::testing::{Nature, Ruling, World};
use hallpass_core::time::Ttl;
use serde_json::{Value, json};

use crate::house::{Answer, House, request, wanted};

const COMMIT: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";

fn by_commit(commit: &str) -> Value {
    json!({"selector": {"commit": commit}, "reason": "the commit is compromised"})
}

async fn post(house: &House, path: &str, body: Value) -> Answer {
    house.call("POST", path, &house.proof(), Some(body)).await
}

fn deny(house: &House, action: Action) {
    house.world.policy.rule(action, None, Ruling::Deny);
}

fn until(house: &House, ttl: Ttl) -> String {
    house.world.ports.now().plus(ttl).to_rfc3339()
}

async fn is_active(house: &House, grant: &str) -> bool {
    let answer = house.form("/oauth2/introspect", Some(&house.proof()), format!("token=own.{grant}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["active"] == true
}

#[tokio::test]
async fn a_set_ends_at_once_and_its_grants_follow() {
    let house = House::open();
    let (_, id) = house.grant().await;
    assert!(is_active(&house, &id).await);
    let other = post(&house, "/v1/revocations", by_commit("another")).await;
    assert_eq!(other.status, 202, "{}", other.text);
    assert!(is_active(&house, &id).await, "of another commit");

    let begun = post(&house, "/v1/revocations", by_commit(COMMIT)).await;
    assert_eq!((begun.status, begun.said("state")), (202, "running"), "{}", begun.text);
    let path = format!("/v1/revocations/{}", begun.said("id"));
    assert_eq!((begun.header("location"), &begun.body["links"]["self"]), (path.as_str(), &json!(path)));
    assert!(!is_active(&house, &id).await, "at once, whatever its row says");
    assert_eq!(house.state(&id).await, "active");
    let renewed = house.call("POST", &format!("/v1/grants/{id}/renew"), &house.proof(), None).await;
    assert_eq!((renewed.status, renewed.said("code")), (409, "being_revoked"), "{}", renewed.text);
    assert_eq!(renewed.header("retry-after"), "1");
    let opened = house.call("POST", "/v1/grants", &house.proof(), Some(wanted())).await;
    assert_eq!((opened.status, opened.said("code")), (409, "being_revoked"), "{}", opened.text);
    assert_eq!(house.reasons(&opened).await, ["being_revoked"]);

    assert_eq!(house.world.follow().await.ended, 1);
    assert_eq!(house.state(&id).await, "revoking");
    let read = house.get(&path).await;
    assert_eq!(read.said("state"), "completed", "{}", read.text);
    let expected = json!({"matched": 1, "ended": 1, "remaining": 0, "failing": 0, "by_state": {"fenced": 1}});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&read.body[name], value, "{name}");
    }
    let (kind, claims) = read.said("receipt").split_once(' ').unwrap();
    assert_eq!(kind, "hallpass-revocation+jwt");
    let claims: Value = serde_json::from_str(claims).unwrap();
    let signed = &claims["revocation"];
    assert_eq!(signed["selector"], json!({"commit": COMMIT}));
    assert_eq!(signed["by"], json!({"issuer": "ci", "subject": World::SUBJECT}));
    assert_eq!((&signed["matched"], &signed["by_state"]["fenced"]), (&json!(1), &json!(1)));
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{id}\n").as_bytes());
    let hexadecimal: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signed["grants_sha256"], hexadecimal, "as `sort ids | sha256sum` has it");
    // What comes later is not its concern.
    house.grant().await;
    let listed = house.get("/v1/revocations").await;
    assert_eq!(listed.body["items"][0]["id"], begun.body["id"]);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_dry_run_counts_and_lists_and_changes_nothing() {
    let house = House::with(Nature::hard(), |_| ());
    let (_, id) = house.grant().await;
    let (_, ending) = house.grant().await;
    house.call("DELETE", &format!("/v1/grants/{ending}"), &house.proof(), None).await;
    let before = house.world.all_grants().await;
    let mut body = by_commit(COMMIT);
    body["dry_run"] = json!(true);
    body["quarantine"] = json!({"until": until(&house, Ttl::from_hours(1))});
    let preview = post(&house, "/v1/revocations", body).await;
    assert_eq!(preview.status, 200, "{}", preview.text);
    assert_eq!((&preview.body["matched"], &preview.body["ending_already"]), (&json!(1), &json!(1)));
    assert_eq!(preview.body["grants"][0]["id"], id);
    let count = &preview.body["counts"][0];
    assert_eq!((&count["role"], &count["owner"]), (&json!(World::ROLE), &json!("payments")));
    assert_eq!(house.world.all_grants().await, before);
    assert_eq!(house.get("/v1/revocations").await.body["items"], json!([]));
    assert_eq!(house.get("/v1/quarantines").await.body["items"], json!([]));
    assert_eq!(house.world.follow().await.ended, 0);
    assert!(house.world.ports.store.in_force().revocations.is_empty());
    house.grant().await;
}

#[tokio::test]
async fn a_selector_that_says_nothing_or_nonsense_is_refused_by_name() {
    let house = House::open();
    let (_, id) = house.grant().await;
    for (selector, parameter) in [
        (json!({}), "selector"),
        (json!({"all": false}), "selector"),
        (json!({"all": true, "owner": "payments"}), "selector.all"),
        (json!({"state": "revoked"}), "selector.state"),
        (json!({"commit": ""}), "selector.commit"),
        (json!({"commit": "a".repeat(1_001)}), "selector.commit"),
        (json!({"parent": "x"}), "selector.parent"),
        (json!({"committ": "x"}), "selector.committ"),
        (json!({"role": "payments/prod/deplyo"}), "selector.role"),
        (json!({"owner": "paymnets"}), "selector.owner"),
        (json!({"issuer": "nowhere"}), "selector.issuer"),
        (json!({"backend": "tokns"}), "selector.backend"),
        (json!("everything"), "selector"),
        (json!(null), "selector"),
    ] {
        let answer = post(&house, "/v1/revocations", json!({"selector": selector, "reason": "leaked"})).await;
        assert_eq!(answer.status, 422, "{selector}: {}", answer.text);
        assert_eq!(answer.said("parameter"), parameter, "{}", answer.text);
    }
    for reason in [json!(" "), json!("two\nlines"), json!("a".repeat(401))] {
        let answer = post(&house, "/v1/revocations", json!({"selector": {"all": true}, "reason": reason})).await;
        assert_eq!((answer.status, answer.said("parameter")), (422, "reason"), "{}", answer.text);
    }
    let mut both = by_commit(COMMIT);
    both["quarantine"] = json!({"until": until(&house, Ttl::ZERO)});
    let answer = post(&house, "/v1/revocations", both).await;
    assert_eq!((answer.status, answer.said("parameter")), (422, "quarantine.until"), "{}", answer.text);
    assert!(answer.said("detail").starts_with("`quarantine.until` is a time"), "{}", answer.text);
    // What is there is known, whether grants of it are alive or not.
    for known in [json!({"role": World::ROLE}), json!({"owner": "payments"}), json!({"issuer": "ci", "commit": "x"})] {
        let asked = json!({"selector": known, "reason": "leaked", "dry_run": true});
        let answer = post(&house, "/v1/revocations", asked).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert!(is_active(&house, &id).await);
    for everything in [json!("*"), json!({"all": true})] {
        let answer = post(&house, "/v1/revocations", json!({"selector": everything, "reason": "leaked"})).await;
        assert_eq!((answer.status, &answer.body["selector"]), (202, &json!({"all": true})), "{}", answer.text);
    }
    assert!(!is_active(&house, &id).await);
}

#[tokio::test]
async fn the_same_request_under_one_key_is_one_revocation() {
    let house = House::open();
    let send = async |key: &str, body: Value| {
        let mut request = request("POST", "/v1/revocations", Some(&house.proof()), Some(body));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        house.send(request).await
    };
    let first = send("k", by_commit(COMMIT)).await;
    assert_eq!(first.status, 202, "{}", first.text);
    house.world.follow().await;
    let again = send("k", by_commit(COMMIT)).await;
    assert_eq!((again.status, again.said("id"), again.said("state")), (202, first.said("id"), "completed"));
    let another = send("k", by_commit("another")).await;
    assert_eq!((another.status, another.said("code")), (422, "idempotency_conflict"), "{}", another.text);
    let fresh = send("l", by_commit(COMMIT)).await;
    assert_ne!(fresh.said("id"), first.said("id"));
}

#[tokio::test]
async fn who_may_end_nothing_of_others_ends_no_set_and_sees_none() {
    let house = House::open();
    let (_, id) = house.grant().await;
    let theirs = post(&house, "/v1/revocations", by_commit("another")).await;
    let path = format!("/v1/revocations/{}", theirs.said("id"));
    let stranger = house.world.proof("repo:evil/x").token().unwrap().expose().to_owned();
    deny(&house, Action::Revoke);
    deny(&house, Action::Read);
    for dry_run in [false, true] {
        let mut body = json!({"selector": "*", "reason": "mine now"});
        body["dry_run"] = json!(dry_run);
        let answer = house.call("POST", "/v1/revocations", &stranger, Some(body)).await;
        assert_eq!((answer.status, answer.said("code")), (403, "policy_denied"), "{}", answer.text);
        assert_eq!(house.reasons(&answer).await, ["policy_denied"]);
    }
    let read = house.call("GET", &path, &stranger, None).await;
    assert_eq!(read.status, 404, "{}", read.text);
    let listed = house.call("GET", "/v1/revocations", &stranger, None).await;
    assert_eq!(listed.body["items"], json!([]));
    assert!(is_active(&house, &id).await);
    // Its author sees it all the same, by whatever policy says now.
    assert_eq!(house.get(&path).await.status, 200);
    // A policy that cannot be evaluated allows nothing.
    house.world.policy.rule(Action::Revoke, None, Ruling::Error);
    let answer = post(&house, "/v1/revocations", by_commit(COMMIT)).await;
    assert_eq!((answer.status, answer.said("code")), (403, "policy_denied"), "{}", answer.text);
    assert_eq!(house.reasons(&answer).await, ["policy_error"]);
}

#[tokio::test]
async fn only_grants_of_roles_that_its_author_may_end_are_ended() {
    let house = House::open();
    let (_, id) = house.grant().await;
    deny(&house, Action::Revoke);
    let another = Ruling::Allow(Obligations::default());
    house.world.policy.rule(Action::Revoke, Some("search/prod/read"), another);
    house.world.governance.edit(|revision| {
        let mut role = hallpass_core::testing::sample::role("search/prod/read");
        role.digest = "e".repeat(64);
        revision.catalog.roles.insert(role.name.clone(), std::sync::Arc::new(role));
    });
    let begun = post(&house, "/v1/revocations", json!({"selector": "*", "reason": "all of mine"})).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    assert!(is_active(&house, &id).await, "not theirs to end");
    house.world.follow().await;
    assert_eq!(house.state(&id).await, "active");
}

#[tokio::test]
async fn a_quarantine_stops_on_the_next_request_until_it_is_lifted() {
    let house = House::open();
    let (_, live) = house.grant().await;
    let selector = json!({"repository_id": "222"});
    let body = json!({"selector": selector, "reason": "taken over", "until": until(&house, Ttl::from_hours(2))});
    let added = post(&house, "/v1/quarantines", body).await;
    assert_eq!(added.status, 201, "{}", added.text);
    let path = format!("/v1/quarantines/{}", added.said("id"));
    assert_eq!((added.header("location"), &added.body["links"]["self"]), (path.as_str(), &json!(path)));
    assert_eq!((&added.body["roles"], &added.body["in_force"]), (&Value::Null, &json!(true)));

    let refused = house.call("POST", "/v1/grants", &house.proof(), Some(wanted())).await;
    assert_eq!((refused.status, refused.said("code")), (403, "quarantined"), "{}", refused.text);
    assert_eq!(refused.header("retry-after"), "7200");
    assert!(!refused.text.contains("taken over"), "the reason is not the caller's to know");
    assert_eq!(house.reasons(&refused).await, ["quarantined"]);
    let exchanged = house.exchange("").await;
    assert_eq!((exchanged.status, exchanged.said("reason")), (400, "quarantined"), "{}", exchanged.text);
    assert!(is_active(&house, &live).await, "it ends nothing");
    house.world.governance.edit(|_| ());
    let other = house.world.proof_with(World::SUBJECT, |proof| proof.provenance.repository_id = Some("333".to_owned()));
    let opened = house.call("POST", "/v1/grants", other.token().unwrap().expose(), Some(wanted())).await;
    assert_eq!(opened.status, 201, "of another repository: {}", opened.text);

    let lifted = house.call("DELETE", &path, &house.proof(), None).await;
    assert_eq!((lifted.status, &lifted.body["in_force"]), (200, &json!(false)), "{}", lifted.text);
    let again = house.call("DELETE", &path, &house.proof(), None).await;
    assert_eq!((again.status, again.said("lifted_at")), (200, lifted.said("lifted_at")));
    house.grant().await;
    assert_eq!(house.get("/v1/quarantines").await.body["items"][0]["lifted_by"], "ci:repo:acme/app");
}

#[tokio::test]
async fn a_quarantine_is_bounded_and_says_what_it_stops() {
    let house = House::open();
    let at = |ttl| until(&house, ttl);
    let tomorrow = at(Ttl::from_hours(24));
    for (body, parameter) in [
        (json!({"selector": "*", "reason": "x", "until": at(Ttl::ZERO)}), "until"),
        (json!({"selector": "*", "reason": "x", "until": at(Ttl::from_hours(721))}), "until"),
        (json!({"selector": "*", "reason": " ", "until": tomorrow}), "reason"),
        (json!({"selector": {}, "reason": "x", "until": tomorrow}), "selector"),
        (json!({"selector": {"state": "active"}, "reason": "x", "until": tomorrow}), "selector"),
        (json!({"selector": {"since": tomorrow}, "reason": "x", "until": tomorrow}), "selector"),
        (json!({"selector": "*", "reason": "x"}), "until"),
    ] {
        let answer = post(&house, "/v1/quarantines", body.clone()).await;
        assert_eq!((answer.status, answer.said("parameter")), (422, parameter), "{body}: {}", answer.text);
    }
    house.grant().await;
    let longest =
        post(&house, "/v1/quarantines", json!({"selector": "*", "reason": "x", "until": at(Ttl::from_hours(720))}));
    assert_eq!(longest.await.status, 201);
}

#[tokio::test]
async fn a_quarantine_is_for_those_who_may_suspend() {
    let house = House::open();
    deny(&house, Action::Suspend);
    let body = |house: &House| json!({"selector": "*", "reason": "x", "until": until(house, Ttl::from_hours(1))});
    let refused = post(&house, "/v1/quarantines", body(&house)).await;
    assert_eq!((refused.status, refused.said("code")), (403, "policy_denied"), "{}", refused.text);
    let mut both = by_commit(COMMIT);
    both["quarantine"] = json!({"until": until(&house, Ttl::from_hours(1))});
    let refused = post(&house, "/v1/revocations", both).await;
    assert_eq!(refused.status, 403, "both or neither: {}", refused.text);
    house.grant().await;
    // Who may suspend one role stops that one.
    house.world.policy.rule(Action::Suspend, Some(World::ROLE), Ruling::Allow(Obligations::default()));
    let added = post(&house, "/v1/quarantines", body(&house)).await;
    assert_eq!((added.status, &added.body["roles"]), (201, &json!([World::ROLE])), "{}", added.text);
    // Somebody else may neither see nor lift it.
    deny(&house, Action::Read);
    house.world.policy.rule(Action::Suspend, Some(World::ROLE), Ruling::Deny);
    let stranger = house.world.proof("repo:evil/x").token().unwrap().expose().to_owned();
    let path = format!("/v1/quarantines/{}", added.said("id"));
    for method in ["GET", "DELETE"] {
        let answer = house.call(method, &path, &stranger, None).await;
        assert_eq!(answer.status, 404, "{method}: {}", answer.text);
    }
    let own = house.call("DELETE", &path, &house.proof(), None).await;
    assert_eq!(own.status, 403, "who added it needs the right to lift it: {}", own.text);
}

#[tokio::test]
async fn a_revocation_brings_its_quarantine_along() {
    let house = House::open();
    let (_, id) = house.grant().await;
    let mut both = by_commit(COMMIT);
    both["selector"]["state"] = json!("active");
    both["quarantine"] = json!({"until": until(&house, Ttl::from_hours(1))});
    let begun = post(&house, "/v1/revocations", both).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    house.world.follow().await;
    assert_eq!(house.state(&id).await, "revoking");
    let refused = house.call("POST", "/v1/grants", &house.proof(), Some(wanted())).await;
    assert_eq!((refused.status, refused.said("code")), (403, "quarantined"), "{}", refused.text);
    let quarantine = house.get(&format!("/v1/quarantines/{}", begun.said("quarantine"))).await;
    assert_eq!(quarantine.body["selector"], json!({"commit": COMMIT}), "what is not there yet has no state");
    assert_eq!(quarantine.said("reason"), "the commit is compromised");
}

#[tokio::test]
async fn a_revocation_whose_quarantine_has_no_place_says_what_is_in_the_way() {
    let house = House::open();
    let (_, id) = house.grant().await;
    let hour = until(&house, Ttl::from_hours(1));
    for _ in 0..Quarantine::MAX_IN_FORCE_OF_ONE {
        let body = json!({"selector": {"commit": COMMIT}, "reason": "x", "until": hour});
        assert_eq!(post(&house, "/v1/quarantines", body).await.status, 201);
    }
    let mut both = by_commit(COMMIT);
    both["quarantine"] = json!({"until": hour});
    let refused = post(&house, "/v1/revocations", both).await;
    assert_eq!((refused.status, refused.said("code")), (409, "state_conflict"), "{}", refused.text);
    for part in ["32 of one author", "nothing is revoked", "leave `quarantine` out"] {
        assert!(refused.said("detail").contains(part), "{part}: {}", refused.text);
    }
    assert!(is_active(&house, &id).await, "both or neither");
    assert_eq!(post(&house, "/v1/revocations", by_commit(COMMIT)).await.status, 202, "as it says");
    assert!(!is_active(&house, &id).await);
}

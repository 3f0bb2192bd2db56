//! Reading: lists, oneself, decisions, the inventory, the audit log, discovery.

use std::sync::Arc;

use hallpass_core::credential::RevocationClass;
use hallpass_core::id::RoleName;
use hallpass_core::policy::{Action, Obligations};
use hallpass_core::port::PageRequest;
use hallpass_core::role::RoleState;
use hallpass_core::testing::sample::NOW;
use hallpass_core::testing::store_suite::{self, long_text};
use hallpass_core::testing::{Ruling, World, sample};
use hallpass_core::time::Ttl;
use serde_json::{Value, json};

use crate::house::{House, URL, wanted};

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let house = House::open();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(house.grant().await.1);
        house.world.clock.advance(Ttl::from_secs(1));
    }
    let first = house.get("/v1/grants?limit=2&state=active&role=payments%2Fprod%2Fdeploy").await;
    assert_eq!(first.body["items"].as_array().unwrap().len(), 2, "{}", first.text);
    let cursor = first.said("next_cursor");
    let rest = house.get(&format!("/v1/grants?limit=2&state=active&role=payments/prod/deploy&cursor={cursor}")).await;
    assert_eq!(rest.body["items"][0]["id"], json!(ids[0]), "{}", rest.text);
    assert_eq!(rest.body["next_cursor"], Value::Null);
    assert_eq!(house.get("/v1/grants?subject=nobody").await.body["items"], json!([]));
    for query in ["limit=0", "limit=501", "cursor=tampered", "state=x", "onwer=a", "owner=a&owner=b"] {
        let answer = house.get(&format!("/v1/grants?{query}")).await;
        assert!(matches!(answer.status, 400 | 422), "{query}: {}", answer.text);
        assert_eq!(answer.said("parameter"), query.split('=').next().unwrap(), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_list_does_not_tell_of_what_may_not_be_read() {
    const HIDDEN: &str = World::ROLE;
    const SHOWN: &str = "payments/stage/deploy";
    let house = House::open();
    house.world.governance.edit(|revision| {
        let role = sample::role(SHOWN);
        revision.catalog.roles.insert(role.name.clone(), Arc::new(role));
    });
    let mut shown = Vec::new();
    for at in 0..60 {
        let role = if [3, 40, 41].contains(&at) { SHOWN } else { HIDDEN };
        let asked = json!({"role": role, "purpose": "deploy 4f2c"});
        let opened = house.call("POST", "/v1/grants", &house.proof(), Some(asked)).await;
        shown.extend((role == SHOWN).then(|| opened.body["grant"]["id"].clone()));
    }
    shown.reverse();
    house.world.policy.rule(Action::Read, Some(HIDDEN), Ruling::Deny);
    for limit in [1, 2, 3, 4, 100] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = house.get(&format!("/v1/grants?limit={limit}{cursor}")).await;
            seen.extend(page.body["items"].as_array().unwrap().iter().map(|grant| grant["id"].clone()));
            pages += 1;
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((seen, pages), (shown.clone(), shown.len().div_ceil(limit)), "pages of {limit}");
    }
    for filter in ["role=payments/prod/deploy", "purpose=deploy+4f2c&role=payments/prod/deploy"] {
        let hidden = house.get(&format!("/v1/grants?limit=1&{filter}")).await;
        assert_eq!(hidden.body, json!({"items": [], "next_cursor": null}), "as if there were none");
    }
}

#[tokio::test]
async fn a_page_is_as_large_as_it_may_be_and_the_next_one_begins_there() {
    let house = House::open();
    let store = &house.world.ports.store;
    let mut opened = Vec::new();
    for n in 1..=7 {
        let mut long = store_suite::opening(store, n, NOW);
        // What is hidden in between takes no room.
        let (purpose, role) =
            if n % 2 == 0 { (long_text(), "payments/stage/deploy") } else { (long_text(), World::ROLE) };
        (long.grant.record.purpose, long.grant.record.role) = (purpose, RoleName::new(role).unwrap());
        opened.push(json!(store_suite::open(store, long).await.record.id.to_string()));
    }
    house.world.policy.rule(Action::Read, Some("payments/stage/deploy"), Ruling::Deny);
    let (mut seen, mut sizes, mut cursor) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = house.get(&format!("/v1/grants?limit=500{cursor}")).await;
        assert!(page.text.len() < PageRequest::MAX_BYTES + 100, "a page of {} bytes", page.text.len());
        let items = page.body["items"].as_array().unwrap();
        sizes.push(items.len());
        seen.extend(items.iter().map(|grant| grant["id"].clone()));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let readable: Vec<Value> = [6, 4, 2, 0].map(|at: usize| opened[at].clone()).into();
    assert_eq!((seen, sizes), (readable, vec![2, 2]));
}

#[tokio::test]
async fn whoami_shows_the_proof_without_its_content() {
    let house = House::open();
    let proof = house.proof();
    let me = house.call("GET", "/v1/whoami", &proof, None).await;
    assert_eq!((me.said("issuer"), me.said("kind"), me.said("subject")), ("ci", "workload", World::SUBJECT));
    assert_eq!(me.body["provenance"]["repository_id"], "222");
    assert_eq!(me.body["proof"]["key_id"], "key-1");
    assert!(!me.text.contains(&proof));
    let nameless = house.world.proof_with(World::SUBJECT, |proof| {
        proof.proof_id = None;
        proof.rules.single_use = false;
    });
    let me = house.call("GET", "/v1/whoami", nameless.token().unwrap().expose(), None).await;
    assert_eq!(me.body["proof"]["id"].as_str().unwrap().len(), 64, "a digest stands in for the id: {}", me.text);
}

#[tokio::test]
async fn a_decision_is_previewed_without_a_grant() {
    let house = House::open();
    let ten = Obligations { max_ttl: Some(Ttl::from_mins(10)), ..Obligations::default() };
    house.world.policy.rule(Action::Mint, Some(World::ROLE), Ruling::Allow(ten));
    let asked = json!({"role": World::ROLE, "purpose": "deploy 4f2c"});
    let answer = house.call("POST", "/v1/decisions", &house.proof(), Some(asked)).await;
    assert_eq!((answer.status, answer.said("outcome")), (200, "allow"), "{}", answer.text);
    assert_eq!(answer.body["determining_policies"], json!(["scripted-permit"]));
    assert_eq!(answer.body["obligations"], json!({"max_ttl": "10m"}));
    assert!(house.world.all_grants().await.is_empty());
    let other = json!({"role": World::ROLE, "action": "publish"});
    let other = house.call("POST", "/v1/decisions", &house.proof(), Some(other)).await;
    assert_eq!((other.status, other.said("parameter")), (422, "action"));
}

#[tokio::test]
async fn a_preview_tells_the_terms_that_opening_then_gives() {
    let house = House::open();
    let fifteen = Obligations { max_ttl: Some(Ttl::from_mins(15)), ..Obligations::default() };
    house.world.policy.rule(Action::Mint, Some(World::ROLE), Ruling::Allow(fifteen));
    let asked = |ttl: &str| json!({"role": World::ROLE, "purpose": "deploy 4f2c", "ttl": ttl});
    for (ttl, bound, life) in [("5m", "request", "5m"), ("1h", "policy", "15m")] {
        let foreseen = house.call("POST", "/v1/decisions", &house.proof(), Some(asked(ttl))).await;
        let opened = house.call("POST", "/v1/grants", &house.proof(), Some(asked(ttl))).await;
        let (foreseen, grant) = (&foreseen.body, &opened.body["grant"]);
        assert_eq!((&foreseen["outcome"], &foreseen["terms"]["ttl"]), (&json!("allow"), &json!(life)), "{foreseen}");
        assert_eq!(foreseen["terms"]["bound"], bound);
        assert_eq!(foreseen["terms"], grant["terms"]);
        assert_eq!(foreseen["class"], grant["revocation"]["class"]);
        for at in ["end_at", "expires_at", "max_expires_at"] {
            assert!(foreseen[at].is_string(), "{at}: {foreseen}");
            assert_eq!(foreseen[at], grant[at]);
        }
    }
}

#[tokio::test]
async fn a_preview_refuses_what_opening_would_refuse_and_for_the_same_reason() {
    type Change = fn(&House);
    let edit_owner = |house: &House| {
        house.world.governance.edit(|revision| {
            let owner = revision.catalog.owners.values_mut().next().unwrap();
            Arc::make_mut(owner).active = false;
        });
    };
    let cases: [(&str, Change, Value); 8] = [
        ("role_not_available", |_| (), json!({"role": "no/such/role", "purpose": "deploy 4f2c"})),
        ("role_not_available", |house| house.world.edit_role(|role| role.state = RoleState::Suspended), wanted()),
        ("role_not_available", edit_owner, wanted()),
        ("role_not_available", |house| house.world.policy.rule(Action::Mint, None, Ruling::Deny), wanted()),
        ("role_not_available", |house| house.world.policy.rule(Action::Mint, None, Ruling::Error), wanted()),
        ("missing_purpose", |_| (), json!({"role": World::ROLE, "purpose": "test"})),
        ("no_time_left", |_| (), json!({"role": World::ROLE, "purpose": "deploy 4f2c", "ttl": 0})),
        (
            "revocation_floor",
            |house| house.world.edit_role(|role| role.revocation_floor = Some(RevocationClass::Hard)),
            wanted(),
        ),
    ];
    for (reason, change, asked) in cases {
        let house = House::open();
        let before = house.call("POST", "/v1/decisions", &house.proof(), Some(wanted())).await;
        assert_eq!(before.said("outcome"), "allow", "{}", before.text);
        change(&house);
        let foreseen = house.call("POST", "/v1/decisions", &house.proof(), Some(asked.clone())).await;
        assert_eq!((foreseen.status, foreseen.said("outcome")), (200, "deny"), "{}", foreseen.text);
        assert_eq!(foreseen.body["terms"], Value::Null);
        assert!(house.reasons(&foreseen).await.is_empty(), "a question is no refusal");
        let refused = house.call("POST", "/v1/grants", &house.proof(), Some(asked)).await;
        assert_eq!((refused.said("code"), foreseen.said("reason")), (reason, reason), "{}", refused.text);
        assert_eq!(refused.said("detail"), foreseen.said("detail"));
        assert!(house.world.all_grants().await.is_empty());
    }
}

#[tokio::test]
async fn a_preview_consumes_no_proof() {
    let house = House::open();
    let proof = house.proof();
    for (path, status) in [("/v1/decisions", 200), ("/v1/decisions", 200), ("/v1/grants", 201), ("/v1/grants", 401)] {
        let answer = house.call("POST", path, &proof, Some(wanted())).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_preview_foresees_that_a_proof_was_used() {
    let house = House::open();
    let (used, fresh) = (house.proof(), house.proof());
    assert_eq!(house.call("POST", "/v1/grants", &used, Some(wanted())).await.status, 201);
    let foreseen = house.call("POST", "/v1/decisions", &used, Some(wanted())).await;
    assert_eq!((foreseen.status, foreseen.said("outcome")), (200, "deny"), "{}", foreseen.text);
    let refused = house.call("POST", "/v1/grants", &used, Some(wanted())).await;
    assert_eq!((refused.said("code"), foreseen.said("reason")), ("replayed", "replayed"));
    assert_eq!(refused.said("detail"), foreseen.said("detail"));
    let foreseen = house.call("POST", "/v1/decisions", &fresh, Some(wanted())).await;
    assert_eq!(foreseen.said("outcome"), "allow", "{}", foreseen.text);
}

#[tokio::test]
async fn a_preview_foresees_what_becomes_of_a_replacement_and_replaces_nothing() {
    let house = House::open();
    let id = house.grant().await.1;
    let asked = |id: &str| {
        let mut asked = wanted();
        asked["replaces"] = json!(id);
        Some(asked)
    };
    let foreseen = house.call("POST", "/v1/decisions", &house.proof(), asked(&id)).await;
    assert_eq!(foreseen.said("outcome"), "allow", "{}", foreseen.text);
    assert_eq!(house.get(&format!("/v1/grants/{id}")).await.said("state"), "active");

    let nobodys = sample::id::<hallpass_core::id::GrantId>(77).to_string();
    house.world.policy.rule(Action::Revoke, None, Ruling::Deny);
    for (id, reason) in [(nobodys.as_str(), "malformed_request"), (id.as_str(), "policy_denied")] {
        let foreseen = house.call("POST", "/v1/decisions", &house.proof(), asked(id)).await;
        assert_eq!((foreseen.status, foreseen.said("outcome")), (200, "deny"), "{}", foreseen.text);
        let refused = house.call("POST", "/v1/grants", &house.proof(), asked(id)).await;
        assert_eq!((refused.said("code"), foreseen.said("reason")), (reason, reason));
        assert_eq!(refused.said("detail"), foreseen.said("detail"));
    }
    let unreadable = house.call("POST", "/v1/decisions", &house.proof(), asked("x")).await;
    assert_eq!((unreadable.status, unreadable.said("parameter")), (422, "replaces"));
}

#[tokio::test]
async fn links_lead_to_where_it_can_be_read() {
    for admin in [URL, "https://ops.example", ""] {
        let house =
            House::with(hallpass_core::testing::Nature::local(), |state| admin.clone_into(&mut state.admin_url));
        let id = house.grant().await.1;
        let links = house.get(&format!("/v1/grants/{id}")).await.body["links"].clone();
        assert_eq!(links["self"], format!("{URL}/v1/grants/{id}"));
        assert_eq!(links["audit"], format!("{admin}/v1/audit?grant={id}"));
    }
}

#[tokio::test]
async fn a_denial_tells_why_only_to_who_may_read_the_role() {
    let house = House::open();
    let ask = async |role: &str| {
        let asked = json!({"role": role, "purpose": "deploy 4f2c"});
        house.call("POST", "/v1/decisions", &house.proof(), Some(asked)).await
    };
    house.world.policy.rule(Action::Mint, Some(World::ROLE), Ruling::Deny);
    let readable = ask(World::ROLE).await;
    assert_eq!(readable.body["determining_policies"], json!(["scripted-forbid"]));
    house.world.policy.rule(Action::Read, None, Ruling::Deny);
    let unknown = ask("no/such/role").await;
    assert_eq!(unknown.said("outcome"), "deny");
    assert_eq!(ask(World::ROLE).await.text, unknown.text);
    house.world.policy.rule(Action::Mint, Some(World::ROLE), Ruling::Error);
    assert_eq!(ask(World::ROLE).await.text, unknown.text);
}

#[tokio::test]
async fn roles_and_owners_are_there_for_who_may_read_them() {
    let house = House::open();
    let roles = house.get("/v1/roles").await;
    assert_eq!(roles.body["items"][0]["name"], World::ROLE, "{}", roles.text);
    for path in ["/v1/roles/payments/prod/deploy", "/v1/roles/payments%2Fprod%2Fdeploy"] {
        let role = house.get(path).await;
        assert_eq!((role.status, role.said("owner")), (200, "payments"), "{path}");
        assert_eq!((role.said("revocation_class"), &role.body["ttl"]["max"]), ("fenced", &json!("1h")));
    }
    let owner = house.get("/v1/owners/payments").await;
    assert_eq!(owner.body["members"][0]["subject"], "user:ada");
    assert_eq!(house.get("/v1/owners").await.body["items"][0], owner.body);
    house.world.policy.rule(Action::Read, None, Ruling::Deny);
    assert_eq!(house.get("/v1/roles").await.body["items"], json!([]));
    for path in ["/v1/roles/payments/prod/deploy", "/v1/roles/no/such", "/v1/owners/payments", "/v1/owners/x"] {
        assert_eq!(house.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_audit_log_is_read_by_request_and_by_grant() {
    let house = House::open();
    let proof = house.proof();
    let opened = house.call("POST", "/v1/grants", &proof, Some(crate::house::wanted())).await;
    let id = opened.body["grant"]["id"].as_str().unwrap();
    let actions = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    };
    let by_request = house.get(&format!("/v1/audit?request_id={}", opened.header("x-request-id"))).await;
    assert_eq!(actions(&by_request.body), ["grant.open", "grant.activate"], "{}", by_request.text);
    house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await;
    let by_grant = house.get(&format!("/v1/audit?grant={id}&limit=500")).await;
    assert!(actions(&by_grant.body).contains(&"grant.revoke".to_owned()), "{}", by_grant.text);
    assert_eq!(by_grant.body["items"][0]["object"], format!("grant:{id}"));
    assert_eq!(by_grant.body["items"][0]["actor"], format!("ci:{}", World::SUBJECT));
    assert_eq!(house.get("/v1/audit?grant=x").await.status, 422);
    house.world.policy.rule(Action::Read, None, Ruling::Deny);
    assert_eq!(house.get("/v1/audit").await.status, 403);
}

#[tokio::test]
async fn others_find_what_they_need_to_trust_the_broker() {
    let house = House::open();
    let server = house.get("/.well-known/oauth-authorization-server").await;
    assert_eq!((server.said("issuer"), server.said("token_endpoint")), (URL, format!("{URL}/oauth2/token").as_str()));
    let issuer = house.get("/.well-known/openid-configuration").await;
    for (member, value) in [
        ("issuer", json!(URL)),
        ("jwks_uri", json!(format!("{URL}/.well-known/jwks.json"))),
        ("response_types_supported", json!(["id_token"])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(["ES256"])),
    ] {
        assert_eq!(issuer.body[member], value, "{member}");
    }
    assert!(issuer.body["claims_supported"].is_array());
    let keys = house.get("/.well-known/jwks.json").await;
    assert_eq!((keys.text.as_str(), keys.header("cache-control")), (r#"{"keys":[]}"#, "public, max-age=60"));
}

#[tokio::test]
async fn the_certificate_authority_is_public_where_there_is_one() {
    let house = House::open();
    let authority = house.get("/pki/ca.pem").await;
    assert_eq!((authority.status, authority.header("content-type")), (200, "application/pem-certificate-chain"));
    let list = house.get("/pki/crl.der").await;
    assert_eq!((list.status, list.header("content-type")), (200, "application/pkix-crl"));
    let without = House::with(hallpass_core::testing::Nature::local(), |state| state.pki = None);
    assert_eq!(without.get("/pki/crl.der").await.status, 404);
    for other in ["another-key.der", "the-key", "the-key.pem", ".der"] {
        assert_eq!(house.get(&format!("/pki/crl/{other}")).await.status, 404, "{other}");
    }
}

#[tokio::test]
async fn a_list_that_a_caller_has_already_is_not_sent_again() {
    let house = House::open();
    for (path, content_type, etag, cache) in [
        ("/status-lists/7", "application/statuslist+jwt", "\"seven\"", "public, max-age=2"),
        ("/pki/crl.der", "application/pkix-crl", "\"crl\"", "public, max-age=4"),
        ("/pki/crl/the-key.der", "application/pkix-crl", "\"crl\"", "public, max-age=4"),
    ] {
        let list = house.get(path).await;
        assert_eq!((list.status, list.header("content-type"), list.header("etag")), (200, content_type, etag));
        assert_eq!(list.header("cache-control"), cache);
        assert!(!list.text.is_empty());
        for (asked, status) in [
            (etag.to_owned(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"other\", {etag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (etag.trim_matches('"').to_owned(), 200),
        ] {
            let mut request = crate::house::request("GET", path, None, None);
            request.headers_mut().insert("if-none-match", asked.parse().unwrap());
            let again = house.send(request).await;
            assert_eq!(again.status, status, "{path}: {asked}");
            assert_eq!(again.text.is_empty(), status == 304);
            assert_eq!((again.header("etag"), again.header("cache-control")), (etag, cache));
        }
    }
}

#[tokio::test]
async fn a_status_list_has_one_url() {
    let house = House::open();
    let list = house.get("/status-lists/7").await;
    assert_eq!((list.status, list.header("access-control-allow-origin")), (200, "*"));
    for other in ["8", "07", "+7", "7.0", "-7", "seven", "%37%37", "18446744073709551615", "18446744073709551616", "7/"]
    {
        let answer = house.get(&format!("/status-lists/{other}")).await;
        assert_eq!((answer.status, answer.said("code")), (404, "not_found"), "{other}: {}", answer.text);
    }
}

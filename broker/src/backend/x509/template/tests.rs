use std::sync::Arc;

use hallpass_core::owner::OwnerSnapshot;
use hallpass_core::testing::sample;
use hallpass_core::testing::sample::NOW;
use proptest::prelude::*;

use super::*;

const DOMAIN: &str = "example.org";

fn order(subject: &str) -> IssueOrder {
    IssueOrder {
        grant: sample::id(7),
        role: Arc::new(sample::role("payments/prod/deploy")),
        owner: OwnerSnapshot::from(&sample::owner()),
        issuer: "ci".to_owned(),
        subject: subject.to_owned(),
        actors: hallpass_core::delegation::ActorChain::default(),
        attributes: [
            ("team".to_owned(), AttributeValue::Text("core".to_owned())),
            ("shard".to_owned(), AttributeValue::Long(-3)),
            ("canary".to_owned(), AttributeValue::Bool(true)),
            ("groups".to_owned(), AttributeValue::List(vec!["a".to_owned()])),
            ("kubernetes.io/namespace".to_owned(), AttributeValue::Text("pay".to_owned())),
        ]
        .into(),
        provenance: sample::provenance(),
        plan_digest: None,
        purpose: "a good reason".to_owned(),
        scope: Vec::new(),
        csr: None,
        status_index: 1,
        issued_at: NOW,
        expires_at: NOW,
        binding_key: None,
    }
}

fn spiffe(template: &str, subject: &str) -> Result<String, String> {
    let role = sample::role("payments/prod/deploy");
    SpiffeTemplate::parse(template, DOMAIN, &role)?.render(&order(subject))
}

fn dns(template: &str, subject: &str) -> Result<String, String> {
    let role = sample::role("deploy");
    DnsTemplate::parse(template, &role)?.render(&order(subject))
}

#[test]
fn templates_name_workloads_by_what_their_proof_says() {
    for (template, id) in [
        ("spiffe://{trust_domain}/ci/{provenance.repository_id}", "spiffe://example.org/ci/222"),
        ("spiffe://example.org/ci/{provenance.run}", "spiffe://example.org/ci/4242"),
        ("/ci/repo-{provenance.repository_id}.main", "spiffe://example.org/ci/repo-222.main"),
        ("/{issuer}/{subject}/{owner}", "spiffe://example.org/ci/job_1/payments"),
        ("/role/{role}/{attributes.team}", "spiffe://example.org/role/payments/prod/deploy/core"),
        ("/s/{attributes.shard}/{attributes.canary}", "spiffe://example.org/s/-3/true"),
        ("/ns/{attributes.kubernetes.io/namespace}", "spiffe://example.org/ns/pay"),
        ("/p/{provenance.ref_protected}", "spiffe://example.org/p/true"),
    ] {
        assert_eq!(spiffe(template, "job_1").as_deref(), Ok(id), "{template}");
    }
    for (template, name) in [
        ("{attributes.team}.internal.example", "core.internal.example"),
        ("run-{provenance.run}.{subject}.example", "run-4242.job-1.example"),
        ("{role}.{owner}.example", "deploy.payments.example"),
        ("fixed.example", "fixed.example"),
        ("{attributes.kubernetes.io/namespace}.svc", "pay.svc"),
    ] {
        assert_eq!(dns(template, "job-1").as_deref(), Ok(name), "{template}");
    }
}

#[test]
fn a_template_that_could_name_anything_is_refused_at_load() {
    let role = sample::role("payments/prod/deploy");
    for bad in [
        "",
        "/",
        "ci/x",
        "https://example.org/ci",
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://other.org/ci",
        "spiffe://{issuer}/ci",
        "spiffe://{trust_domain}.evil/ci",
        "/a//b",
        "/a/",
        "/../b",
        "/./b",
        "/a..b",
        "/a b",
        "/a?b",
        "/a#b",
        "/a%2fb",
        "/é",
        "/{unknown}",
        "/{}",
        "/{attributes.}",
        "/{attributes}",
        "/{provenance}",
        "/{provenance.}",
        "/{provenance.nonsense}",
        "/{provenance.attestation_digests}",
        "/{trust_domain}",
        "/{issuer",
        "/issuer}",
        "/{{issuer}}",
        "/{issuer}{subject}",
        "/{issuer}-{subject}",
        "/x-{role}",
    ] {
        assert!(SpiffeTemplate::parse(bad, DOMAIN, &role).is_err(), "{bad:?}");
    }
    for bad in [
        "",
        ".",
        "example.",
        ".example",
        "a..example",
        "*.example",
        "A.example",
        "a_b.example",
        "-a.example",
        "a-.example",
        "xn--80ak6aa92e.example",
        "{subject}",
        "web.{subject}",
        "{issuer}{subject}.example",
        "{role}.example",
        "10.0.0.1",
        "{nonsense}.example",
        "a b.example",
        "münchen.example",
    ] {
        assert!(DnsTemplate::parse(bad, &role).is_err(), "{bad:?}");
    }
}

#[test]
fn a_value_outside_the_alphabet_is_refused_by_the_name_of_its_claim() {
    let refused = spiffe("/ci/{subject}", "repo:acme/app:ref:refs/heads/main").unwrap_err();
    assert!(refused.starts_with(r#"`subject` is "repo:acme/app:ref:refs/heads/main": "#), "{refused}");
    for bad in
        ["", ".", "..", "a/b", "a\\b", "a b", "a%2Fb", "a\0b", "é", "a..b", "a\nb", "*", "{issuer}", "a?b", "a#b"]
    {
        assert!(spiffe("/ci/{subject}", bad).is_err(), "{bad:?}");
    }
    for bad in ["", "a.b", "A", "a_b", "-a", "a-", "xn--a", "é", "a b", "*", "a/b", &"a".repeat(64)] {
        assert!(dns("{subject}.example", bad).is_err(), "{bad:?}");
    }
    assert!(spiffe("/ci/x{subject}", ".").is_ok(), "a dot within a segment is a letter like others");
    assert!(spiffe("/ci/.{subject}", ".").is_err(), "but not where it makes a relative path");
    assert!(dns("x{subject}.example", "n--a").is_err(), "nor does a literal help to spell xn--");
}

#[test]
fn an_absent_claim_is_refused_and_not_left_out() {
    for template in ["/a/{attributes.absent}", "/a/{provenance.job}", "/a/{attributes.groups}"] {
        let refused = spiffe(template, "x").unwrap_err();
        assert!(refused.contains("your proof has none"), "{refused}");
    }
}

#[test]
fn names_have_a_length() {
    assert!(spiffe("/a/{subject}", &"x".repeat(2048 - "spiffe://example.org/a/".len())).is_ok());
    assert!(spiffe("/a/{subject}", &"x".repeat(2049 - "spiffe://example.org/a/".len())).is_err());
    let label = "a".repeat(60);
    assert!(dns(&format!("{{subject}}.{label}.{label}.{label}.example"), &"x".repeat(60)).is_ok());
    assert!(dns(&format!("{{subject}}.{label}.{label}.{label}.{label}"), &"x".repeat(60)).is_err());
}

/// Anything at all, and things that look like the syntax they would break.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z0-9./_{}%:@*-]{0,40}", "(\\.|/|\\.\\.|spiffe://|[a-z]){0,8}",]
}

proptest! {
    #[test]
    fn no_claim_value_adds_a_segment_or_changes_a_literal(a in hostile(), b in hostile()) {
        let mut order = order(&a);
        order.attributes.insert("b".to_owned(), AttributeValue::Text(b));
        let role = sample::role("deploy");
        let template = SpiffeTemplate::parse("/ci/{subject}/x-{attributes.b}/end", DOMAIN, &role).unwrap();
        if let Ok(id) = template.render(&order) {
            let segments: Vec<_> = id.strip_prefix("spiffe://example.org/").unwrap().split('/').collect();
            prop_assert_eq!(segments.len(), 4, "{}", &id);
            prop_assert_eq!((segments[0], segments[3]), ("ci", "end"));
            prop_assert_eq!(segments[1], order.subject.as_str());
            prop_assert!(segments[2].starts_with("x-"));
            prop_assert!(segments.iter().all(|s| !s.is_empty() && *s != "." && *s != ".."));
            prop_assert!(id.bytes().all(|b| b.is_ascii_graphic()));
        }
    }

    #[test]
    fn no_claim_value_adds_a_label_or_leaves_the_domain(a in hostile()) {
        let order = order(&a);
        let role = sample::role("deploy");
        let template = DnsTemplate::parse("x.{subject}.internal.example", &role).unwrap();
        if let Ok(name) = template.render(&order) {
            prop_assert_eq!(name.split('.').collect::<Vec<_>>(), ["x", a.as_str(), "internal", "example"]);
        }
    }

    #[test]
    fn two_identities_never_share_a_name(a in "[a-c.-]{1,4}", b in "[a-c.-]{1,4}", c in "[a-c.-]{1,4}", d in "[a-c.-]{1,4}") {
        let render = |subject: &str, team: &str| {
            let mut order = order(subject);
            order.attributes.insert("team".to_owned(), AttributeValue::Text(team.to_owned()));
            let role = sample::role("deploy");
            SpiffeTemplate::parse("/x-{subject}-y/{attributes.team}", DOMAIN, &role).unwrap().render(&order)
        };
        if let (Ok(one), Ok(other)) = (render(&a, &b), render(&c, &d)) {
            prop_assert_eq!(one == other, (a, b) == (c, d));
        }
    }

    #[test]
    fn parsing_a_template_never_panics(template in hostile()) {
        let role = sample::role("payments/prod/deploy");
        let _ = SpiffeTemplate::parse(&template, DOMAIN, &role);
        let _ = DnsTemplate::parse(&template, &role);
    }
}

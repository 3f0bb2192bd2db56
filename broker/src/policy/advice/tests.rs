//! Known bad policies have their finding, good ones have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::PolicySet;
use hallpass_core::catalog::Environment;
use hallpass_core::id::{IssuerName, OwnerName};
use hallpass_core::testing::sample;

use super::*;
use crate::config::PolicySource;
use crate::config::issuer::KeySource;
use crate::identity::testing::settings;
use crate::policy::cedar::CedarEngine;

const BAD: &str = include_str!("corpus/bad.cedar");
const GOOD: &str = include_str!("corpus/good.cedar");
const BASE: &str = include_str!("corpus/base.cedar");

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, class) in [("prod", EnvironmentClass::Production), ("preview", EnvironmentClass::Preview)] {
        let name = name.parse::<hallpass_core::id::EnvironmentName>().unwrap();
        catalog.environments.insert(name.clone(), Environment { name, class, ends_at: None });
    }
    for (name, environment) in
        [("payments/prod/deploy", "prod"), ("payments/prod/migrate", "prod"), ("payments/preview/deploy", "preview")]
    {
        let mut role = sample::role(name);
        role.environment = Some(environment.parse().unwrap());
        catalog.roles.insert(role.name.clone(), Arc::new(role));
    }
    catalog.owners.insert(OwnerName::new("payments").unwrap(), Arc::new(sample::owner()));
    catalog
}

fn issuers() -> Vec<Issuer> {
    let issuer = |name: &str, kind: IssuerKind, url: &str| {
        let mut issuer = settings(KeySource::Inline(String::new()));
        issuer.name = IssuerName::new(name).unwrap();
        issuer.kind = kind;
        issuer.url = kind.standard().url.filter(|_| url.is_empty()).unwrap_or(url).to_owned();
        if !kind.maps_claims() {
            issuer.provenance = BTreeMap::new();
        }
        issuer
    };
    let mut people = issuer("people", IssuerKind::Oidc, "https://sso.example");
    people.principal = PrincipalKind::Operator;
    let mut gmail = issuer("gmail", IssuerKind::Oidc, "https://accounts.google.com");
    gmail.principal = PrincipalKind::Operator;
    let mut agents = issuer("agents", IssuerKind::Oidc, "https://agents.example");
    agents.principal = PrincipalKind::Agent;
    let mut robots = issuer("robots", IssuerKind::GithubActions, "");
    robots.principal = PrincipalKind::Agent;
    vec![
        issuer("github", IssuerKind::GithubActions, ""),
        issuer("acme", IssuerKind::GithubActions, "https://token.actions.githubusercontent.com/acme"),
        issuer("gitlab", IssuerKind::Gitlab, ""),
        issuer("gitlab-own", IssuerKind::Gitlab, "https://gitlab.example"),
        issuer("cluster", IssuerKind::Kubernetes, "https://kubernetes.default.svc"),
        issuer("buildkite", IssuerKind::Buildkite, ""),
        issuer("circleci", IssuerKind::Circleci, "https://oidc.circleci.com/org/5b9b"),
        issuer("terraform", IssuerKind::TerraformCloud, ""),
        issuer("google", IssuerKind::Google, ""),
        issuer("ci", IssuerKind::Oidc, "https://ci.example"),
        people,
        gmail,
        agents,
        robots,
    ]
}

/// The policies of a corpus, one by one, as written.
fn policies(text: &str) -> Vec<(String, Option<String>, String)> {
    let set: PolicySet = text.parse().unwrap();
    let mut policies: Vec<_> = set
        .policies()
        .map(|policy| {
            let annotation = |key| policy.annotation(key).map(str::to_owned);
            (annotation("id").unwrap(), annotation("reason"), policy.to_cedar().unwrap())
        })
        .collect();
    policies.sort();
    policies
}

fn advice(texts: &[&str]) -> Vec<Finding> {
    let source = |text: &&str| PolicySource { file: "policies/a.cedar".into(), text: (*text).to_owned() };
    let sources: Vec<_> = texts.iter().map(source).collect();
    let engine = CedarEngine::load(&sources, &catalog(), sample::revision('a'));
    let engine = engine.unwrap_or_else(|findings| panic!("{findings:?} in {texts:?}"));
    engine.advice(&catalog(), &issuers())
}

#[test]
fn every_known_bad_policy_has_its_finding() {
    let bad = policies(BAD);
    assert!(bad.len() >= 60, "{} policies", bad.len());
    let mut missed = Vec::new();
    for (id, expected, text) in &bad {
        let code = expected.as_deref().unwrap();
        let alone = ["pull-requests", "audience"].contains(&code);
        let findings = if alone { advice(&[text]) } else { advice(&[text, BASE]) };
        let wanted = format!("policy {id:?}: [{code}] ");
        if !findings.iter().any(|finding| finding.reason.starts_with(&wanted)) {
            missed.push(format!("{id}: no [{code}] in {findings:#?}\n{text}"));
        }
    }
    println!("{} known bad policies, {} found", bad.len(), bad.len() - missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
    let found: std::collections::BTreeSet<_> = bad.iter().filter_map(|(_, code, _)| code.as_deref()).collect();
    assert_eq!(found, CODES.iter().copied().collect(), "each kind of finding has a policy");
}

#[test]
fn no_good_policy_has_any() {
    let good = policies(GOOD);
    assert!(good.len() >= 60, "{} policies", good.len());
    let told: Vec<_> = good
        .iter()
        .filter_map(|(_, _, text)| {
            let findings = advice(&[text, BASE]);
            (!findings.is_empty()).then(|| format!("{findings:#?}\n{text}"))
        })
        .collect();
    println!("{} good policies, {} passed", good.len(), good.len() - told.len());
    assert!(told.is_empty(), "{}", told.join("\n\n"));
}

#[test]
fn what_is_told_says_why_and_what_to_write() {
    for (id, code, text) in policies(BAD) {
        for finding in advice(&[&text]) {
            let reason = finding.reason;
            assert!(reason.len() > 80, "{id}: {reason}");
            assert!(reason.contains("; ") || reason.contains(": "), "{id}: {reason}");
        }
        drop(code);
    }
}

#[test]
fn a_team_can_mean_it_and_says_so() {
    let text = |accepts: &str| {
        format!(
            "@id(\"a\") {accepts} permit (principal in Issuer::\"github\", action == Action::\"mint\", resource == \
             Role::\"payments/preview/deploy\") when {{ principal.subject == \"repo:acme/app:pull_request\" }};"
        )
    };
    assert_eq!(advice(&[&text(""), BASE]).len(), 1);
    assert_eq!(advice(&[&text("@accepts(\"subject\")"), BASE]), []);
    assert_eq!(advice(&[&text("@accepts(\"names, subject\")"), BASE]), []);
    assert_eq!(advice(&[&text("@accepts(\"names\")"), BASE]).len(), 1);
    for wrong in ["@accepts(\"everything\")", "@accepts", "@accepts(\"\")"] {
        let source = PolicySource { file: "policies/a.cedar".into(), text: text(wrong) };
        let refused = CedarEngine::load(&[source], &catalog(), sample::revision('a')).map(|_| ()).unwrap_err();
        assert!(refused[0].reason.contains("unprotected-ref"), "{wrong}: {refused:?}");
    }
}

#[test]
fn an_audience_that_others_ask_for_is_told() {
    let mut issuers = issuers();
    issuers[0].rules.audiences = vec!["sts.amazonaws.com".to_owned(), "https://github.com/acme".to_owned()];
    let findings = advise(&[], &catalog(), &issuers);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings.iter().all(|finding| finding.reason.contains("[audience]")));
}

/// A forbid that mentions what is feared stops it only where it certainly holds for it.
#[test]
fn a_forbid_counts_for_what_it_certainly_stops() {
    let permit = |condition: &str| {
        format!(
            "@id(\"a\") permit (principal in Issuer::\"github\", action in [Action::\"mint\", Action::\"preview\"], resource in \
             Namespace::\"payments/prod\") when {{ context.provenance has repository_id && \
             context.provenance.repository_id == \"222\" && {condition} }};"
        )
    };
    let branch = "context.provenance has ref_protected && context.provenance.ref_protected";
    let push = "context.provenance has event && context.provenance.event == \"push\"";
    let told = |permit: &str, forbids: &[&str], code: &str| {
        let forbid = |(n, rest): (usize, &&str)| {
            format!("@id(\"f{n}\") forbid (principal, action in [Action::\"mint\", Action::\"delegate\"], {rest};")
        };
        let texts: Vec<_> = forbids.iter().enumerate().map(forbid).chain([permit.to_owned()]).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        advice(&texts).iter().any(|finding| finding.reason.starts_with(&format!("policy \"a\": [{code}]")))
    };
    let event = "context.provenance has event && context.provenance.event";
    let both = "[\"pull_request_target\", \"workflow_run\"].contains(context.provenance.event)";
    let has = "context.provenance has event";
    let class = "resource has environment_class && resource.environment_class ==";
    let preview = format!("resource is Role) when {{ {class} \"preview\" && {has} && {both} }}");
    let but_requests = format!("resource is Role) unless {{ {event} == \"pull_request\" }}");
    let comments = format!("resource is Role) when {{ {event} == \"issue_comment\" }}");
    let one = format!("resource is Role) when {{ {event} == \"pull_request_target\" }}");
    let other = format!("resource is Role) when {{ {event} == \"workflow_run\" }}");
    let by_day = format!("resource is Role) when {{ {has} && {both} && context.hour < 18 }}");
    let of_gitlab = format!("resource is Role) when {{ principal in Issuer::\"gitlab\" && {has} && {both} }}");
    let let_through = format!("resource is Role) when {{ {has} && !{both} }}");
    let elsewhere = format!("resource in Namespace::\"payments/preview\") when {{ {has} && {both} }}");
    let whole = format!("resource is Role) when {{ {class} \"production\" && {has} && {both} }}");
    let in_prod = format!(
        "resource in Namespace::\"payments\") when {{ resource has environment && resource.environment == \"prod\" && {has} \
         && {both} }}"
    );
    let but_push = format!("resource is Role) unless {{ {has} && [\"push\", \"schedule\"].contains({event}) }}")
        .replace("contains(context.provenance has event && ", "contains(");
    let of_github =
        format!("resource is Role) when {{ principal has github && (context.hour < 18 || {has}) && {has} && {both} }}");
    let repository = "context.provenance has repository_id && context.provenance.repository_id";
    let of_one = format!("resource is Role) when {{ {repository} == \"222\" && {has} && {both} }}");
    let of_another = format!("resource is Role) when {{ {repository} == \"333\" && {has} && {both} }}");
    let from_main = permit(branch);
    for forbids in [
        vec![],
        vec![preview.as_str()],
        vec![&comments],
        vec![&one],
        vec![&by_day],
        vec![&of_gitlab],
        vec![&let_through],
        vec![&elsewhere],
        vec![&of_another],
    ] {
        assert!(told(&from_main, &forbids, "pull-requests"), "{forbids:?}");
    }
    for forbids in
        [vec![whole.as_str()], vec![&one, &other], vec![&in_prod], vec![&but_push], vec![&of_github], vec![&of_one]]
    {
        assert!(!told(&from_main, &forbids, "pull-requests"), "{forbids:?}");
    }
    // Only pull requests are let through: of a permit that names no branch, those of any branch.
    let anywhere = permit("context.hour < 18");
    assert!(told(&anywhere, &[&but_requests], "pull-requests"));
    assert!(!told(&from_main, &[&but_requests], "pull-requests"), "a pull request's ref is never protected");

    let shared = permit(&format!("{push} && {branch}"));
    for condition in [
        "!principal.multi_audience",
        "principal.multi_audience && context.hour < 18",
        "principal has github && context.hour < 18",
    ] {
        assert!(told(&shared, &[&format!("resource is Role) when {{ {condition} }}")], "audience"), "{condition}");
    }
    for condition in ["principal.multi_audience", "context.hour < 18 || principal.multi_audience"] {
        assert!(!told(&shared, &[&format!("resource is Role) when {{ {condition} }}")], "audience"), "{condition}");
    }

    let any_branch = permit(push);
    let unprotected = "context.provenance has ref_protected && !context.provenance.ref_protected";
    assert!(told(&any_branch, &[], "unprotected-ref"));
    assert!(told(&any_branch, &[&format!("resource is Role) when {{ {branch} }}")], "unprotected-ref"));
    for forbid in [format!("when {{ {class} \"production\" && {unprotected} }}"), format!("unless {{ {branch} }}")] {
        assert!(!told(&any_branch, &[&format!("resource is Role) {forbid}")], "unprotected-ref"), "{forbid}");
    }
}

#[test]
fn agents_of_ones_own_are_nobody_elses() {
    let text = "@id(\"a\") permit (principal is Agent, action == Action::\"delegate\", resource in Namespace::\"payments\") when \
                { context has task && context has on_behalf_of && context.on_behalf_of.issuer == \"github\" };";
    let sources = [PolicySource { file: "policies/a.cedar".into(), text: text.to_owned() }];
    let engine = CedarEngine::load(&sources, &catalog(), sample::revision('a')).unwrap();
    let own: Vec<_> = issuers().into_iter().filter(|issuer| issuer.name.as_str() != "robots").collect();
    assert_eq!(engine.advice(&catalog(), &own), []);
    assert!(engine.advice(&catalog(), &issuers()).iter().any(|finding| finding.reason.contains("[tenant]")));
}

//! A stored decision can be evaluated again and gives the same outcome.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hallpass_broker::config::PolicySource;
use hallpass_broker::policy::cedar::CedarEngine;
use hallpass_core::catalog::{Catalog, Environment, EnvironmentClass};
use hallpass_core::error::ServiceError;
use hallpass_core::grant::StateName;
use hallpass_core::id::{EnvironmentName, GrantId};
use hallpass_core::identity::AttributeValue;
use hallpass_core::port::{Governance, PolicyEngine};
use hallpass_core::request::{GrantRequest, Origin};
use hallpass_core::role::Role;
use hallpass_core::selector::Selector;
use hallpass_core::service::revoke_set::{RevokeSet, preview, would_end};
use hallpass_core::service::{open, renew, revoke};
use hallpass_core::testing::{Nature, World, sample};
use hallpass_core::time::Ttl;

use crate::lab::{Lab, in_no_time};

/// Policies that read every part of the inputs that varies here.
const POLICIES: &str = r#"
    @id("deploy") @max_ttl("20m") permit(principal in Issuer::"ci", action == Action::"mint", resource in Namespace::"payments")
      when { context.provenance has ref && context.provenance.ref == "refs/heads/main" };
    @id("tagged") permit(principal, action == Action::"mint", resource == Role::"payments/prod/deploy")
      when { principal.hasTag("team") && principal.getTag("team") == "payments" && context.hour < 12 };
    @id("ticketed") @max_ttl("5m") permit(principal, action == Action::"mint", resource)
      when { context has ticket && context.ticket like "CHG-*" };
    @id("holder") permit(principal, action in [Action::"renew", Action::"revoke"], resource) when { context.holder };
    @id("not-too-long") forbid(principal, action == Action::"mint", resource) when { context has ttl && context.ttl > 1800 };
    @id("not-from-there") forbid(principal, action, resource)
      when { context has source_ip && context.source_ip.isInRange(ip("198.51.100.0/24")) };
"#;

fn engine(lab: &Lab) -> CedarEngine {
    engine_of(lab, POLICIES)
}

fn engine_of(lab: &Lab, text: &str) -> CedarEngine {
    let sources = [PolicySource { file: "policies/all.cedar".into(), text: text.to_owned() }];
    CedarEngine::load(&sources, &lab.governance.current().catalog, sample::revision('c')).expect("valid policies")
}

#[test]
fn a_thousand_stored_decisions_evaluated_again_give_the_same_outcome() {
    in_no_time(async {
        let lab = Lab::new(Nature { extends: true, ..Nature::hard() });
        let policy: Arc<dyn PolicyEngine> = Arc::new(engine(&lab));
        lab.governance.edit(|revision| revision.policy = policy);
        for n in 0_u64..1_000 {
            let pick = |of: u64, salt: u64| n.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503) / 7 % of;
            let proof = |salt| {
                lab.proof_with(World::SUBJECT, |proof| {
                    let main = pick(3, salt) > 0;
                    proof.provenance.git_ref = Some(if main { "refs/heads/main" } else { "refs/heads/é" }.to_owned());
                    let team = if pick(2, 2) == 0 { "payments" } else { "others\n\"'" };
                    proof.attributes.insert("team".to_owned(), AttributeValue::Text(team.to_owned()));
                })
            };
            let request = GrantRequest {
                ttl: [None, Some(60), Some(1_801)][usize::try_from(pick(3, 3)).unwrap()].map(Ttl::from_secs),
                ticket: (pick(2, 4) == 0).then(|| format!("CHG-{n}")),
                task: (pick(2, 5) == 0).then(|| "a task — with \u{1f511}".to_owned()),
                ..lab.request()
            };
            let source: IpAddr = if pick(5, 6) == 0 { [198, 51, 100, 7] } else { [192, 0, 2, 7] }.into();
            let origin = Origin { source: (pick(4, 7) > 0).then_some(source), ..lab.origin() };
            if let Ok(opened) = open::open(&lab.ports, &proof(1), &request, &origin).await {
                let id = opened.grant.record.id;
                lab.clock.advance(Ttl::from_secs(30));
                let _ = renew::renew(&lab.ports, &proof(1), id, None, &origin).await;
                let _ = revoke::revoke(&lab.ports, &proof(1), id, None, &origin).await;
            }
            lab.clock.advance(Ttl::from_secs(pick(600, 8)));
        }
        lab.restart().await;
        let again = engine(&lab);
        let decisions = lab.ports.store.decisions(5_000).await.unwrap();
        assert!(decisions.len() >= 1_000, "{} decisions", decisions.len());
        let mut verdicts = BTreeSet::new();
        for decision in decisions {
            assert_eq!(decision.revision, *again.revision());
            let verdict = again.decide(&decision.query).expect("what could be decided can be decided again");
            assert_eq!(verdict, decision.verdict, "{:?}", decision.query);
            verdicts.insert(verdict.determining);
        }
        assert!(verdicts.len() > 6, "decided in many ways: {verdicts:?}");
    });
}

/// Whoever changes the bundle must not come by rights over grants that are there already.
#[test]
fn who_may_end_a_grant_is_decided_by_its_role_as_it_was_when_it_was_opened() {
    let facts: [(&str, &str, &str); 3] =
        [("tier", "high", "low"), ("stage", "apply", "read"), ("environment_class", "production", "development")];
    for (fact, strong, weak) in facts {
        in_no_time(async {
            let lab = Lab::new(Nature::hard());
            let policies = format!(
                "@id(\"all\") permit(principal in Issuer::\"ci\", action in [Action::\"mint\", Action::\"read\"], resource);
                 @id(\"weak\") permit(principal, action == Action::\"revoke\", resource is Grant)
                   unless {{ resource has {fact} && resource.{fact} == \"{strong}\" }};"
            );
            let policy: Arc<dyn PolicyEngine> = Arc::new(engine_of(&lab, &policies));
            lab.governance.edit(|revision| revision.policy = policy);
            let change = |value: &'static str| {
                lab.edit_role(|role| set(role, fact, value));
                lab.governance.edit(|revision| class_of_the_environment(&mut revision.catalog, value));
            };
            let open_one = async || lab.open(&lab.request()).await.unwrap().grant.record.id;
            change(weak);
            let open_to_all = open_one().await;
            change(strong);
            let protected = open_one().await;

            let may_end_protected = async || {
                let refused = revoke_by_another(&lab, protected).await;
                assert!(matches!(refused, Err(ServiceError::Refused(_)) | Ok(StateName::Revoking)), "{refused:?}");
                (refused.is_ok(), selected_by_another(&lab).await)
            };
            assert_eq!(may_end_protected().await, (false, 1), "{fact}: the one that is open to all, and no other");
            change(weak);
            assert_eq!(may_end_protected().await, (false, 1), "{fact}: changed");
            lab.governance.edit(|revision| revision.catalog.environments.clear());
            assert_eq!(may_end_protected().await, (false, 1), "{fact}: the environment is gone");
            lab.governance.edit(|revision| revision.catalog.roles.clear());
            assert_eq!(may_end_protected().await, (false, 1), "{fact}: the role is gone");
            lab.restart().await;
            assert_eq!(may_end_protected().await, (false, 1), "{fact}: read again");
            assert_eq!(revoke_by_another(&lab, open_to_all).await.unwrap(), StateName::Revoking, "{fact}: the control");
        });
    }
}

fn set(role: &mut Role, fact: &str, value: &str) {
    role.environment = Some(EnvironmentName::new("somewhere").unwrap());
    let value = Some(value.to_owned());
    match fact {
        "tier" => role.tier = value,
        "stage" => role.stage = value,
        _ => {}
    }
}

fn class_of_the_environment(catalog: &mut Catalog, value: &str) {
    let class = if value == "production" { EnvironmentClass::Production } else { EnvironmentClass::Development };
    let name = EnvironmentName::new("somewhere").unwrap();
    catalog.environments.insert(name.clone(), Environment { name, class, ends_at: None });
}

async fn revoke_by_another(lab: &Lab, id: GrantId) -> Result<StateName, ServiceError> {
    let ended = revoke::revoke(&lab.ports, &lab.proof("user:another"), id, None, &lab.origin()).await;
    ended.map(|grant| grant.state_name())
}

/// How many grants another caller could end, as a set.
async fn selected_by_another(lab: &Lab) -> u64 {
    let asked =
        RevokeSet { selector: Selector::all(), reason: Some("to see".to_owned()), quarantine: None, idempotency: None };
    match preview(&lab.ports, &lab.proof("user:another"), &asked, &lab.origin()).await {
        Ok(preview) => would_end(&preview.counts),
        Err(refused) => panic!("{refused:?}"),
    }
}

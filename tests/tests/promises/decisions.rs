//! A stored decision can be evaluated again and gives the same outcome.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hallpass_broker::config::PolicySource;
use hallpass_broker::policy::cedar::CedarEngine;
use hallpass_core::identity::AttributeValue;
use hallpass_core::port::{Governance, PolicyEngine};
use hallpass_core::request::{GrantRequest, Origin};
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
    let sources = [PolicySource { file: "policies/all.cedar".into(), text: POLICIES.to_owned() }];
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

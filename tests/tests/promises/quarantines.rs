//! A quarantine is lifted by who may stop what it stops, and by nobody else.

use hallpass_core::audit::AuditAction;
use hallpass_core::error::ServiceError;
use hallpass_core::id::RoleName;
use hallpass_core::policy::{Action, Obligations};
use hallpass_core::quarantine::{Quarantine, Roles};
use hallpass_core::selector::{Criteria, Selector};
use hallpass_core::service::quarantine::{Quarantining, add, lift};
use hallpass_core::testing::{Nature, Ruling, World, sample};
use hallpass_core::time::Ttl;

use crate::lab::{Lab, in_no_time};

const OTHER: &str = "payments/prod/read";

/// A lab with two roles, and a quarantine of both by somebody who may not halt everything.
async fn quarantined(lab: &Lab) -> Quarantine {
    lab.governance.edit(|revision| {
        let role = sample::role(OTHER);
        revision.catalog.roles.insert(role.name.clone(), role.into());
    });
    lab.policy.rule(Action::Suspend, None, Ruling::Deny);
    for role in [World::ROLE, OTHER] {
        lab.policy.rule(Action::Suspend, Some(role), Ruling::Allow(Obligations::default()));
    }
    let mut criteria = Criteria::default();
    criteria.grants.repository_id = Some("222".to_owned());
    let asked = Quarantining {
        selector: Some(Selector::of(criteria).unwrap()),
        reason: Some("the repository is compromised".to_owned()),
        until: lab.ports.now().plus(Ttl::from_hours(1)),
    };
    let added = add(&lab.ports, &lab.proof("user:ada"), &asked, &lab.origin()).await.unwrap();
    let both = [World::ROLE, OTHER].map(|role| RoleName::new(role).unwrap());
    assert_eq!(added.roles, Roles::Some(both.into()));
    added
}

async fn is_lifted_by_another(lab: &Lab, quarantine: &Quarantine) -> bool {
    let answer = lift(&lab.ports, &lab.proof("user:another"), quarantine.id, &lab.origin()).await;
    let stands = lab.ports.store.quarantine(quarantine.id).await.unwrap().unwrap().lifted.is_none();
    match answer {
        Ok(lifted) => assert!(lifted.lifted.is_some() && !stands),
        Err(error) => assert!(matches!(error, ServiceError::Refused(_)) && stands, "{error:?}"),
    }
    !stands
}

#[test]
fn roles_that_are_gone_from_the_bundle_take_no_quarantine_with_them() {
    for gone in [vec![OTHER], vec![World::ROLE, OTHER]] {
        for may_halt_all in [false, true] {
            in_no_time(async {
                let lab = Lab::new(Nature::hard());
                let quarantine = quarantined(&lab).await;
                lab.governance.edit(|revision| {
                    revision.catalog.roles.retain(|name, _| !gone.contains(&name.as_str()));
                });
                if may_halt_all {
                    lab.policy.rule(Action::Suspend, None, Ruling::Allow(Obligations::default()));
                }
                assert_eq!(is_lifted_by_another(&lab, &quarantine).await, may_halt_all, "{gone:?}");
            });
        }
    }
}

#[test]
fn who_may_stop_each_of_its_roles_lifts_a_quarantine_of_them_and_nobody_else_does() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let quarantine = quarantined(&lab).await;
        lab.policy.rule(Action::Suspend, Some(OTHER), Ruling::Deny);
        assert!(!is_lifted_by_another(&lab, &quarantine).await);
        lab.policy.rule(Action::Suspend, Some(OTHER), Ruling::Allow(Obligations::default()));
        assert!(is_lifted_by_another(&lab, &quarantine).await);
    });
}

/// Whoever may read the broker sees every quarantine; anybody sees its own.
#[test]
fn what_somebody_may_not_see_it_may_not_lift() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let quarantine = quarantined(&lab).await;
        lab.policy.rule(Action::Read, None, Ruling::Deny);
        let lift_as = async |who: &str| lift(&lab.ports, &lab.proof(who), quarantine.id, &lab.origin()).await;
        // It might have added the same itself.
        assert_eq!(lift_as("user:another").await.unwrap_err(), ServiceError::NotFound);
        let stands = lab.ports.store.quarantine(quarantine.id).await.unwrap().unwrap();
        assert_eq!(stands, quarantine);
        let last = lab.log().await.pop().unwrap().entry;
        assert_eq!((last.action, last.reason.as_deref()), (AuditAction::QuarantineLift, Some("policy_denied")));
        assert!(lift_as("user:ada").await.unwrap().lifted.is_some(), "its author sees it");
    });
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let quarantine = quarantined(&lab).await;
        assert!(is_lifted_by_another(&lab, &quarantine).await, "the control: who may see it lifts it");
    });
}

//! What must hold after every operation, whatever went wrong before: the grants, the audit log and the backend's journal
//! held against each other and against what they were a moment ago.

use std::collections::BTreeMap;

use hallpass_core::audit::AuditAction;
use hallpass_core::credential::{Effect, RevocationClass};
use hallpass_core::grant::{Grant, GrantState, StateName};
use hallpass_core::id::GrantId;
use hallpass_core::service::open::Opened;
use hallpass_core::testing::World;
use hallpass_core::time::{Clock, Ttl};

use crate::lab::{Lab, secret, told_of};

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    grants: BTreeMap<GrantId, Grant>,
    signs_of_life: BTreeMap<GrantId, u64>,
    received: Vec<(GrantId, String)>,
}

impl Seen {
    /// A caller got a credential: its grant must be active, durably, at this instant.
    pub(crate) async fn receive(&mut self, lab: &Lab, opened: &Opened) {
        let (now, id, secret) = (lab.clock.now(), opened.grant.record.id, secret(opened));
        let stored = lab.grant(id).await;
        assert!(stored.is_live(now), "a caller got a credential of {stored:?}");
        let journal = lab.backend.journal();
        let credential = journal.iter().find(|one| one.secret == secret).expect("the backend made it");
        assert_eq!(credential.grant, id);
        assert!(credential.works_at(now), "a caller got a dead credential: {credential:?}");
        assert!(self.received.iter().all(|(_, before)| *before != secret), "a credential was returned twice");
        self.received.push((id, secret));
    }

    /// A holder gave a sign of life, which changes the grant and is not told.
    pub(crate) fn beat(&mut self, id: GrantId) {
        *self.signs_of_life.entry(id).or_default() += 1;
    }

    /// Holds everything against everything.
    pub(crate) async fn check(&mut self, lab: &Lab) {
        let grants = lab.all_grants().await;
        for grant in &grants {
            within_its_bounds(grant);
            if let Some(before) = self.grants.get(&grant.record.id) {
                only_goes_forward(before, grant);
            }
        }
        self.agrees_with_the_journal(lab, &grants);
        self.is_told(lab, &grants).await;
        self.grants = grants.into_iter().map(|grant| (grant.record.id, grant)).collect();
    }

    fn agrees_with_the_journal(&self, lab: &Lab, grants: &[Grant]) {
        let (now, local) = (lab.clock.now(), lab.backend.nature().effect == Effect::Local);
        for credential in lab.backend.journal() {
            if local && self.received.iter().all(|(_, secret)| *secret != credential.secret) {
                // Minted here, and it never left: it does not exist.
                continue;
            }
            let mut of_it = grants.iter().filter(|grant| grant.record.id == credential.grant);
            let grant = of_it.next().unwrap_or_else(|| panic!("no record of {credential:?}"));
            assert!(of_it.next().is_none(), "one credential, one grant");
            assert!(credential.created_at >= grant.record.created_at, "made before its record");
            assert!(credential.expires_at <= grant.expires_at, "{credential:?} outlives {grant:?}");
            match &grant.state {
                GrantState::Revoked { .. } => {
                    assert_eq!(grant.record.class(), RevocationClass::Hard, "only a hard credential is revoked");
                    assert!(credential.ended_at.is_some(), "said to be revoked: {credential:?}");
                }
                GrantState::Expired { .. } => assert!(!credential.works_at(now), "said to be expired: {credential:?}"),
                GrantState::Failed { .. } => panic!("said to have had no effect: {credential:?}"),
                GrantState::Revoking { fenced_at: Some(_), .. } if !local => {
                    assert!(credential.created_at > now || credential.fenced_at.is_some(), "said to be fenced");
                }
                _ => {}
            }
        }
        for grant in grants.iter().filter(|grant| matches!(grant.state, GrantState::Active { .. })) {
            assert!(
                local || lab.backend.journal().iter().any(|one| one.grant == grant.record.id),
                "active, and nothing was made: {grant:?}"
            );
        }
    }

    /// One entry for each change, and for the opening, in the transaction of each: neither more nor less.
    async fn is_told(&self, lab: &Lab, grants: &[Grant]) {
        let log = lab.log().await;
        for (place, entry) in (0_u64..).zip(&log) {
            assert_eq!(entry.sequence, place, "the log has no gaps");
        }
        for grant in grants {
            let id = grant.record.id;
            let told = told_of(&log, id);
            let beats = self.signs_of_life.get(&id).copied().unwrap_or(0);
            let wanted = usize::try_from(1 + grant.version - beats).unwrap();
            assert_eq!(told.len(), wanted, "{grant:?} was told as {told:#?}");
            let count = |action| told.iter().filter(|one| one.entry.action == action).count();
            let is = |state| usize::from(grant.state_name() == state);
            assert_eq!(count(AuditAction::GrantOpen), 1);
            assert_eq!(count(AuditAction::GrantConfirm), is(StateName::Revoked));
            assert_eq!(count(AuditAction::GrantExpire), is(StateName::Expired));
            assert_eq!(count(AuditAction::GrantFail), is(StateName::Failed));
            assert_eq!(count(AuditAction::GrantAbandon), is(StateName::Abandoned));
            assert!(count(AuditAction::GrantActivate) <= 1 && count(AuditAction::GrantRevoke) <= 1);
        }
    }
}

fn within_its_bounds(grant: &Grant) {
    let (record, terms) = (&grant.record, &grant.record.terms);
    let from_creation = |ttl: Ttl| record.created_at.plus(ttl);
    assert!(grant.end_at <= grant.expires_at, "{grant:?}");
    assert!(terms.bounds.iter().all(|bound| terms.ttl <= bound.ttl), "{terms:?}");
    assert!(terms.end_at <= from_creation(terms.ttl));
    let longest = terms.max_expires_at.max(terms.end_at);
    assert!(grant.end_at <= longest && longest <= from_creation(Ttl::from_hours(1)), "past the role's maximum");
    if let Some(obligation) = record.decision.obligations.max_ttl {
        assert!(grant.end_at <= from_creation(obligation), "past the policy's {obligation}");
    }
    if record.class() != RevocationClass::Hard {
        assert!(grant.expires_at <= longest, "nothing kills it early: its own life is bounded");
    }
}

/// What a grant can become, in any number of steps.
fn can_become(from: StateName, to: StateName) -> bool {
    use StateName::{Abandoned, Active, Expired, Failed, Pending, Revoked, Revoking};
    match from {
        Pending => true,
        Active => matches!(to, Active | Revoking | Revoked | Expired | Abandoned),
        Revoking => matches!(to, Revoking | Revoked | Expired | Abandoned),
        Revoked | Expired | Failed | Abandoned => from == to,
    }
}

fn only_goes_forward(before: &Grant, after: &Grant) {
    assert!(can_become(before.state_name(), after.state_name()), "from {before:?} to {after:?}");
    assert_eq!(before.record, after.record, "what was fixed at opening has changed");
    assert!(after.version >= before.version);
    assert!(before.version != after.version || before == after, "changed without a version of its own");
    assert!(!before.state_name().is_final() || before == after, "what is over has changed");
    let (fenced_before, fenced_after) = (fenced_at(before), fenced_at(after));
    assert!(fenced_before.is_none() || fenced_before == fenced_after, "a fence was lifted or moved");
    assert!(after.end_at >= before.end_at || before.state_name() == StateName::Pending, "renewing never shortens");
}

fn fenced_at(grant: &Grant) -> Option<hallpass_core::time::Timestamp> {
    match grant.state {
        GrantState::Revoking { fenced_at, .. }
        | GrantState::Expired { fenced_at, .. }
        | GrantState::Abandoned { fenced_at, .. } => fenced_at,
        _ => None,
    }
}

/// Everything is over in the end, and nothing works any longer.
pub(crate) async fn all_is_over(lab: &Lab) {
    lab.store.heal();
    for call in [hallpass_core::testing::Call::Issue, hallpass_core::testing::Call::Revoke] {
        lab.backend.always(call, None);
    }
    lab.confirm_clock();
    lab.clock.advance(Ttl::from_mins(2));
    lab.settle().await;
    let world: &World = lab;
    for grant in world.all_grants().await {
        assert!(grant.state_name().is_final(), "{grant:?}");
        let hard = grant.record.class() == RevocationClass::Hard;
        assert!(!hard || grant.state_name() != StateName::Expired, "a hard credential is not left to time");
    }
    if lab.backend.nature().class == RevocationClass::Hard {
        let abandoned: Vec<GrantId> = world
            .all_grants()
            .await
            .iter()
            .filter(|grant| grant.state_name() == StateName::Abandoned)
            .map(|grant| grant.record.id)
            .collect();
        for credential in lab.backend.journal() {
            assert!(credential.ended_at.is_some() || abandoned.contains(&credential.grant), "{credential:?}");
        }
    }
}

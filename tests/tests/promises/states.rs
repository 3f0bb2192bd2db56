//! The diagram of a grant's life, transition by transition: which there are, and what each may change.

use hallpass_core::credential::RevocationClass;
use hallpass_core::grant::{Cause, Ending, Grant, GrantState, HolderKey, IllegalTransition, NextStep, StateName};
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::time::{Timestamp, Ttl};
use proptest::prelude::*;

use crate::lab::cases;

type Transition = fn(Grant, Timestamp) -> Result<Grant, IllegalTransition>;

fn ending(at: Timestamp) -> Ending {
    Ending::by_broker(Cause::REQUESTED, at)
}

const TRANSITIONS: [(&str, Transition); 12] = [
    ("activate", |grant, at| {
        let expires_at = grant.expires_at;
        grant.activate(at, expires_at, None)
    }),
    ("fail", |grant, at| grant.fail(ending(at))),
    ("begin ending", |grant, at| grant.begin_ending(ending(at), false)),
    ("begin ending, fenced", |grant, at| grant.begin_ending(ending(at), true)),
    ("retry", |grant, at| grant.retry(at.plus(Ttl::from_secs(1)), "no answer".to_owned())),
    ("confirm", Grant::confirm),
    ("fence", Grant::fence),
    ("expire", Grant::expire),
    ("abandon", |grant, at| grant.abandon(at, "ci:user:ada".to_owned(), "the cluster is gone".to_owned())),
    ("expect until", Grant::expect_until),
    ("extend", |grant, at| grant.extend(at, at)),
    ("seen", Grant::seen),
];

/// The arrows of the diagram, those that stay in a state included.
fn is_drawn(class: RevocationClass, from: StateName, to: StateName) -> bool {
    use RevocationClass::{ExpiryOnly, Fenced, Hard};
    use StateName::{Abandoned, Active, Expired, Failed, Pending, Revoked, Revoking};
    match (from, to) {
        (Pending, Active | Failed | Revoking) | (Active, Active | Revoking) | (Revoking, Revoking | Abandoned) => true,
        (Revoking, Revoked) => class == Hard,
        (Active | Revoking, Expired) => matches!(class, Fenced | ExpiryOnly),
        _ => false,
    }
}

/// Whoever has a signing key of the broker can write any token: the record tells whether it had that one.
#[test]
fn a_token_is_a_grant_s_only_as_its_record_has_it() {
    let mut grant = sample::active(1, RevocationClass::Fenced, NOW);
    grant.record.signed_by = Some("the key".to_owned());
    let (end, second) = (grant.expires_at, Ttl::from_secs(1));
    assert!(grant.can_have_token(Some("the key"), end));
    assert!(!grant.can_have_token(Some("an imported key"), end), "another key of the broker");
    assert!(!grant.can_have_token(None, end));
    assert!(!grant.can_have_token(Some("the key"), end.plus(second)), "it outlives the grant");
    // Records from before the key was kept name none.
    grant.record.signed_by = None;
    assert!(grant.can_have_token(Some("any key"), end) && !grant.can_have_token(Some("any key"), end.plus(second)));
}

/// Who shares its subject, as every run of a workflow does, does not hold it: `replaces` asks this too.
#[test]
fn a_grant_is_held_by_its_own_run_and_no_other() {
    let grant = sample::active(1, RevocationClass::Fenced, NOW);
    let own = HolderKey::of_record(&grant.record);
    assert!(own.holds(&grant.record));
    let other = HolderKey { run: Some("another run".to_owned()), ..own };
    assert!(!other.holds(&grant.record));
}

proptest! {
    #![proptest_config(cases(2_048))]

    #[test]
    fn a_grant_follows_the_diagram_whatever_is_tried(
        class in prop::sample::select(vec![RevocationClass::Hard, RevocationClass::Fenced, RevocationClass::ExpiryOnly]),
        tries in prop::collection::vec((0..TRANSITIONS.len(), 0_i64..900_000), 1..25),
    ) {
        let (mut grant, mut now) = (sample::pending(1, class, NOW), NOW);
        for (which, millis) in tries {
            now = Timestamp::from_millis(now.as_millis() + millis);
            let (name, transition) = TRANSITIONS[which];
            let Ok(after) = transition(grant.clone(), now) else { continue };
            prop_assert!(is_drawn(class, grant.state_name(), after.state_name()), "{name}: {grant:?} to {after:?}");
            prop_assert_eq!(after.version, grant.version + 1);
            prop_assert_eq!(&after.record, &grant.record);
            prop_assert!(after.end_at <= after.expires_at, "{name}: {after:?}");
            prop_assert!(after.end_at <= after.record.terms.max_expires_at, "{name}: past what renewing can reach");
            if grant.state_name() == StateName::Active {
                prop_assert!(after.end_at >= grant.end_at, "{name}: shortened");
            }
            if !matches!(name, "expect until" | "extend") {
                prop_assert!(after.expires_at <= grant.expires_at, "{name}: only renewing makes it later");
            }
            if after.state_name() == StateName::Expired {
                prop_assert!(now >= grant.expires_at, "{name}: said before it is so");
            }
            prop_assert_eq!(after.due_at().is_none(), after.state_name().is_final(), "unfinished work stays due");
            grant = after;
        }
    }

    #[test]
    fn what_is_due_is_stepped_and_what_is_stepped_moves_on(
        class in prop::sample::select(vec![RevocationClass::Hard, RevocationClass::Fenced, RevocationClass::ExpiryOnly]),
        heartbeat in prop::option::of(1_u64..700),
        fenced in any::<bool>(),
        ends_after in 0_i64..700_000,
        late in 0_i64..700_000,
    ) {
        let mut pending = sample::pending(1, class, NOW);
        pending.record.terms.heartbeat = heartbeat.map(Ttl::from_secs);
        let expires_at = pending.expires_at;
        let active = pending.clone().activate(NOW, expires_at, None).unwrap();
        let at = Timestamp::from_millis(NOW.as_millis() + ends_after);
        // Also one whose end is asked for when its time is already over.
        for grant in [pending, active.clone(), active.begin_ending(ending(at), fenced).unwrap()] {
            let due = grant.due_at().expect("unfinished work is due");
            prop_assert!(matches!(grant.next_step(Timestamp::from_millis(due.as_millis() - 1)), NextStep::Wait(_)));
            let now = Timestamp::from_millis(due.as_millis() + late);
            let step = grant.next_step(now);
            prop_assert!(!matches!(step, NextStep::Wait(_)), "due at {due} and nothing to do: {grant:?}");
            if let GrantState::Revoking { .. } = grant.state {
                let wanted = match class {
                    RevocationClass::Hard => NextStep::Undo,
                    _ if now >= grant.expires_at.plus(Ttl::from_secs(2)) => NextStep::Expire,
                    _ => NextStep::Undo,
                };
                prop_assert_eq!(step, wanted);
            }
        }
    }
}

//! Promise 6: the life of a credential is the minimum of all its bounds, against an oracle that was written apart.

use hallpass_core::credential::RevocationClass;
use hallpass_core::error::Reason;
use hallpass_core::policy::{Terms, TermsInput};
use hallpass_core::time::{Timestamp, Ttl};
use proptest::prelude::*;

use crate::lab::cases;

const CLASSES: [RevocationClass; 3] = [RevocationClass::Hard, RevocationClass::Fenced, RevocationClass::ExpiryOnly];

/// What the terms must be, computed in whole numbers that cannot overflow: `(ttl, end_at, expires_at, max_expires_at)`.
fn oracle(input: &TermsInput) -> Result<(i128, i128, i128, i128), Reason> {
    let now = i128::from(input.now.as_millis());
    let ttl = |ttl: Ttl| i128::from(ttl.as_secs());
    let left = |at: Timestamp| ((i128::from(at.as_millis()) - now) / 1000).max(0);
    let mut lasting = vec![ttl(input.role_max)];
    lasting.extend([input.policy_max, input.backend_max].into_iter().flatten().map(ttl));
    let ends = [
        input.approval_ends_at,
        input.exception_ends_at,
        input.continuous_ends_at,
        input.environment_ends_at,
        input.parent_ends_at,
    ];
    lasting.extend(ends.into_iter().flatten().map(left));
    let longest = lasting.into_iter().min().unwrap();
    let asked = ttl(input.requested.unwrap_or(input.role_default));
    let life = longest.min(asked).min(input.proof_ends_at.map_or(i128::MAX, left));
    if life == 0 {
        return Err(Reason::NoTimeLeft);
    }
    let hard = input.class == RevocationClass::Hard;
    if !hard && life < ttl(input.backend_min) {
        return Err(Reason::BackendMinTtl);
    }
    let end_at = now + life * 1000;
    let worst = now + (ttl(input.call_deadline) + life.max(ttl(input.backend_min)) + ttl(input.skew)) * 1000;
    Ok((life, end_at, if hard { worst } else { end_at }, now + longest * 1000))
}

fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..4, 58_u64..62, 899_u64..902, 1_u64..100_000]
}

fn extreme_seconds() -> impl Strategy<Value = u64> {
    let edge = i64::MAX.unsigned_abs() / 1000;
    prop_oneof![
        seconds(),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(i64::MAX.unsigned_abs()),
        (edge - 2)..(edge + 3),
        any::<u64>()
    ]
}

/// Instants around `now`: at the millisecond, at the second, before it and far after it.
fn near(now: i64) -> impl Strategy<Value = i64> {
    prop_oneof![-1_002_i64..1_003, 57_998_i64..62_003, -100_000_i64..100_000_000].prop_map(move |by| now + by)
}

fn extreme_instant() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), -3_i64..3, (i64::MAX - 5_000)..i64::MAX, any::<i64>()]
}

fn input<S, I>(now: i64, seconds: impl Fn() -> S, instants: impl Fn() -> I) -> impl Strategy<Value = TermsInput>
where
    S: Strategy<Value = u64>,
    I: Strategy<Value = i64>,
{
    let ttls = (
        prop::option::of(seconds()),
        seconds(),
        seconds(),
        prop::option::of(seconds()),
        prop::option::of(seconds()),
        seconds(),
        0_u64..60,
        0_u64..10,
    );
    let ends = prop::collection::vec(prop::option::weighted(0.3, instants()), 6);
    (prop::sample::select(CLASSES.as_slice()), ttls, ends).prop_map(move |(class, ttls, ends)| {
        let (requested, role_default, role_max, policy_max, backend_max, backend_min, call_deadline, skew) = ttls;
        let end = |at: usize| ends[at].map(Timestamp::from_millis);
        TermsInput {
            now: Timestamp::from_millis(now),
            class,
            requested: requested.map(Ttl::from_secs),
            role_default: Ttl::from_secs(role_default),
            role_max: Ttl::from_secs(role_max),
            policy_max: policy_max.map(Ttl::from_secs),
            proof_ends_at: end(0),
            approval_ends_at: end(1),
            exception_ends_at: end(2),
            continuous_ends_at: end(3),
            environment_ends_at: end(4),
            parent_ends_at: end(5),
            spare_ends_at: None,
            backend_max: backend_max.map(Ttl::from_secs),
            backend_min: Ttl::from_secs(backend_min),
            call_deadline: Ttl::from_secs(call_deadline),
            skew: Ttl::from_secs(skew),
        }
    })
}

const NOW: i64 = 1_767_225_600_123;

proptest! {
    #![proptest_config(cases(4_096))]

    // CASE MNT-103
    #[test]
    fn promise_6_ttl_is_the_minimum_of_all_its_bounds(input in input(NOW, seconds, || near(NOW))) {
        match (Terms::compute(&input), oracle(&input)) {
            (Ok(terms), Ok((life, end_at, expires_at, max_expires_at))) => {
                prop_assert_eq!(i128::from(terms.ttl.as_secs()), life);
                prop_assert_eq!(i128::from(terms.end_at.as_millis()), end_at);
                prop_assert_eq!(i128::from(terms.expires_at.as_millis()), expires_at);
                prop_assert_eq!(i128::from(terms.max_expires_at.as_millis()), max_expires_at);
                let winner = terms.bounds.iter().find(|bound| bound.kind == terms.bounded_by);
                prop_assert_eq!(winner.map(|bound| bound.ttl), Some(terms.ttl), "the bound that won is the one that is named");
            }
            (Err(refusal), Err(reason)) => prop_assert_eq!(refusal.reason, reason),
            (found, wanted) => prop_assert!(false, "found {found:?}, wanted {wanted:?}"),
        }
    }

    #[test]
    fn promise_6_arithmetic_saturates_and_nothing_overflows_to_never(
        input in extreme_instant().prop_flat_map(|now| input(now, extreme_seconds, extreme_instant)),
    ) {
        let Ok(terms) = Terms::compute(&input) else {
            // Saturating can only refuse what the exact numbers leave no room for.
            prop_assert!(oracle(&input).is_err() || input.class != RevocationClass::Hard);
            return Ok(());
        };
        let (life, end_at, expires_at, _) = oracle(&input).expect("what is allowed has time left");
        prop_assert!(i128::from(terms.ttl.as_secs()) <= life);
        prop_assert!(i128::from(terms.end_at.as_millis()) <= end_at);
        prop_assert!(i128::from(terms.expires_at.as_millis()) <= expires_at);
        prop_assert!(terms.end_at >= input.now && terms.end_at <= terms.expires_at);
        prop_assert!(terms.bounds.iter().all(|bound| terms.ttl <= bound.ttl));
    }
}

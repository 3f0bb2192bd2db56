//! Lists of operations, made up at random and run under one clock, with everything failing now and then. After each, the
//! invariants hold; in the end, everything is over.

use hallpass_core::grant::{Grant, StateName};
use hallpass_core::policy::{Action, Obligations};
use hallpass_core::request::Idempotency;
use hallpass_core::service::{abandon, heartbeat, open, renew, revoke};
use hallpass_core::testing::{Call, Fault, Nature, Ruling, StoreFault, World, Write};
use hallpass_core::time::{Clock as _, Ttl};
use proptest::prelude::*;

use crate::invariants::{Seen, all_is_over};
use crate::lab::{Lab, cases, in_no_time};
use crate::sets::{self, Set, Sets};

#[derive(Clone, Debug)]
enum Op {
    Open {
        ttl: Option<u64>,
        key: Option<u8>,
        heartbeat: Option<u64>,
        bounded: bool,
        fault: Option<Fault>,
        ticket: Option<u8>,
    },
    Renew {
        which: usize,
        ttl: Option<u64>,
        fault: Option<Fault>,
    },
    Revoke {
        which: usize,
    },
    Heartbeat {
        which: usize,
    },
    Abandon {
        which: usize,
    },
    Backend {
        call: Call,
        fault: Fault,
    },
    BackendAway {
        call: Call,
        fault: Option<Fault>,
    },
    Store {
        write: Write,
        passing: usize,
        fault: StoreFault,
    },
    Policy {
        action: Action,
        ruling: Ruling,
    },
    RevokeSet {
        set: Set,
        quarantine: Option<u64>,
    },
    RevokeSetBefore {
        write: Write,
        set: Set,
    },
    Follow,
    Quarantine {
        set: Set,
        secs: u64,
    },
    Lift {
        which: usize,
    },
    EpochMoves,
    Advance {
        millis: i64,
    },
    ClockSteps {
        secs: u64,
    },
    ClockConfirmed,
    Step {
        fault: Option<Fault>,
    },
    Sweep,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0_usize..6;
    let ttl = || prop::option::of(prop_oneof![Just(0), 1_u64..20, 590_u64..610, 3_590_u64..3_610, Just(u64::MAX)]);
    let fault = || {
        let silent = (0_u64..=10, prop::option::of(0_u64..=10)).prop_map(|(waits, done_after)| Fault::Silent {
            waits: Ttl::from_secs(waits),
            done_after: done_after.map(Ttl::from_secs),
        });
        prop_oneof![
            Just(Fault::Refused),
            Just(Fault::Unavailable),
            Just(Fault::AnswerLost),
            Just(Fault::RequestLost),
            (0_u64..=10).prop_map(|secs| Fault::Slow(Ttl::from_secs(secs))),
            silent,
        ]
    };
    let sometimes = || prop::option::weighted(0.4, fault());
    let call = || prop::sample::select(vec![Call::Plan, Call::Issue, Call::Extend, Call::Revoke]);
    let write = prop::sample::select(vec![
        Write::Open,
        Write::Apply,
        Write::Record,
        Write::Reserve,
        Write::Expire,
        Write::BeginRevocation,
        Write::FollowRevocation,
        Write::CompleteRevocation,
        Write::AddQuarantine,
    ]);
    let store_fault = prop::sample::select(vec![StoreFault::Lost, StoreFault::AnswerLost]);
    let allow = |max_ttl: Option<u64>| {
        Ruling::Allow(Obligations { max_ttl: max_ttl.map(Ttl::from_secs), ..Obligations::default() })
    };
    let ruling = prop_oneof![
        2 => prop::option::of(300_u64..2_000).prop_map(allow),
        1 => Just(Ruling::Deny),
        1 => Just(Ruling::Error),
    ];
    let action = prop::sample::select(vec![Action::Mint, Action::Renew]);
    prop_oneof![
        8 => (ttl(), prop::option::weighted(0.3, 0_u8..2), prop::option::weighted(0.2, 5_u64..60), any::<bool>(), sometimes(), prop::option::of(0_u8..3))
            .prop_map(|(ttl, key, heartbeat, bounded, fault, ticket)| Op::Open { ttl, key, heartbeat, bounded, fault, ticket }),
        4 => (which.clone(), ttl(), sometimes()).prop_map(|(which, ttl, fault)| Op::Renew { which, ttl, fault }),
        3 => which.clone().prop_map(|which| Op::Revoke { which }),
        2 => which.clone().prop_map(|which| Op::Heartbeat { which }),
        1 => which.prop_map(|which| Op::Abandon { which }),
        2 => (call(), fault()).prop_map(|(call, fault)| Op::Backend { call, fault }),
        1 => (call(), prop::option::of(fault())).prop_map(|(call, fault)| Op::BackendAway { call, fault }),
        2 => (write, 0_usize..3, store_fault).prop_map(|(write, passing, fault)| Op::Store { write, passing, fault }),
        1 => (action, ruling).prop_map(|(action, ruling)| Op::Policy { action, ruling }),
        2 => (Set::any(), prop::option::weighted(0.2, 1_u64..1_200)).prop_map(|(set, quarantine)| Op::RevokeSet { set, quarantine }),
        2 => (prop::sample::select(vec![Write::Open, Write::Apply]), Set::any())
            .prop_map(|(write, set)| Op::RevokeSetBefore { write, set }),
        3 => Just(Op::Follow),
        2 => (Set::lasting(), 1_u64..1_200).prop_map(|(set, secs)| Op::Quarantine { set, secs }),
        2 => (0_usize..3).prop_map(|which| Op::Lift { which }),
        1 => Just(Op::EpochMoves),
        6 => prop_oneof![0_i64..30_000, Just(599_999), Just(602_000), 0_i64..4_000_000].prop_map(|millis| Op::Advance { millis }),
        1 => (1_u64..10_000).prop_map(|secs| Op::ClockSteps { secs }),
        1 => Just(Op::ClockConfirmed),
        8 => sometimes().prop_map(|fault| Op::Step { fault }),
        3 => Just(Op::Sweep),
        1 => Just(Op::Restart),
    ]
}

fn nature() -> impl Strategy<Value = Nature> {
    let kind = prop::sample::select(vec![Nature::hard(), Nature::fenced(), Nature::expiry_only(), Nature::local()]);
    let min_life = prop::sample::select(vec![1_u64, 60, 600, 900]);
    (kind, min_life, any::<bool>()).prop_map(|(kind, min_life, extends)| Nature {
        min_life: Ttl::from_secs(min_life),
        extends: extends && kind.effect == hallpass_core::credential::Effect::Remote,
        ..kind
    })
}

/// A lab under way.
struct Run {
    lab: Lab,
    seen: Seen,
    sets: Sets,
    proofs: Vec<hallpass_core::identity::Proof>,
    opened: Vec<hallpass_core::id::GrantId>,
}

impl Run {
    async fn take(&mut self, op: Op) {
        let (lab, origin) = (&self.lab, self.lab.origin());
        let ports = &lab.ports;
        let proof = lab.proof(World::SUBJECT);
        let chosen = |which: usize| self.opened.iter().rev().nth(which).copied();
        match op {
            Op::Open { ttl, key, heartbeat, bounded, fault, ticket } => {
                lab.backend.next(Call::Issue, fault.map(Some));
                let mut request = lab.request();
                request.ttl = ttl.map(Ttl::from_secs);
                request.heartbeat = heartbeat.map(Ttl::from_secs);
                request.ticket = ticket.map(sets::ticket);
                request.idempotency = key.map(|key| Idempotency { key: key.to_string(), request_digest: [key; 32] });
                // With a key, the same proof comes again until it has expired.
                let again = key.and_then(|key| self.proofs.get(usize::from(key)));
                let fresh = lab.proof_with(World::SUBJECT, |proof| proof.rules.bounds_ttl = bounded);
                let answer = open::open(ports, again.unwrap_or(&fresh), &request, &origin).await;
                self.sets.opened(lab, &request, &answer);
                if let Ok(opened) = answer {
                    self.seen.receive(lab, &opened).await;
                    self.opened.push(opened.grant.record.id);
                }
            }
            Op::Renew { which, ttl, fault } => {
                let Some(id) = chosen(which) else { return };
                lab.backend.next(Call::Extend, fault.map(Some));
                let answer = renew::renew(ports, &proof, id, ttl.map(Ttl::from_secs), &origin).await;
                self.sets.renewed(lab, id, &answer);
            }
            Op::Revoke { which } => {
                let Some(id) = chosen(which) else { return };
                let _ = revoke::revoke(ports, &proof, id, None, &origin).await;
            }
            Op::Heartbeat { which } => {
                let Some(id) = chosen(which) else { return };
                // A sign of life has no entry, so whether one was written must be certain.
                lab.store.heal();
                if heartbeat::heartbeat(ports, &proof, id, &origin).await.is_ok() {
                    self.seen.beat(id);
                }
            }
            Op::Abandon { which } => {
                let Some(id) = chosen(which) else { return };
                let _ = abandon::abandon(ports, &proof, id, Some("no longer ours".to_owned()), &origin).await;
            }
            Op::Backend { call, fault } => lab.backend.next(call, [Some(fault)]),
            Op::BackendAway { call, fault } => lab.backend.always(call, fault),
            Op::Store { write, passing, fault } => lab.store.fail(write, passing, fault),
            Op::Policy { action, ruling } => lab.policy.rule(action, None, ruling),
            Op::RevokeSet { set, quarantine } => {
                self.sets.revoke(lab, set, quarantine.map(Ttl::from_secs)).await;
            }
            Op::RevokeSetBefore { write, set } => self.sets.revoke_before(lab, write, set),
            Op::Follow => self.sets.follow(lab).await,
            Op::Quarantine { set, secs } => self.sets.quarantine(lab, set, Ttl::from_secs(secs)).await,
            Op::Lift { which } => self.sets.lift(lab, which).await,
            Op::EpochMoves => lab.store.move_epoch_now(),
            Op::Advance { millis } => lab.clock.advance_millis(millis),
            Op::ClockSteps { secs } => lab.clock.step_wall(Ttl::from_secs(secs)),
            Op::ClockConfirmed => lab.confirm_clock(),
            Op::Step { fault } => {
                lab.backend.next(Call::Revoke, fault.map(Some));
                drop(lab.step().await);
            }
            Op::Sweep => drop(lab.sweep().await),
            Op::Restart => {
                let now = lab.clock.now();
                let waits = |grant: &Grant| {
                    grant.state_name() == StateName::Active && grant.last_seen_at.is_some() && grant.end_at > now
                };
                let waiting: Vec<Grant> = lab.all_grants().await.into_iter().filter(waits).collect();
                assert_eq!(lab.restart().await, waiting.len());
                // That their silence counts anew changes them, and is not told either.
                waiting.iter().for_each(|grant| self.seen.beat(grant.record.id));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn whatever_happens_the_promises_hold(nature in nature(), ops in prop::collection::vec(op(), 1..60)) {
        in_no_time(async {
            let lab = Lab::new(nature);
            let proofs = (0..2).map(|_| lab.proof(World::SUBJECT)).collect();
            let mut run = Run { lab, seen: Seen::default(), sets: Sets::default(), proofs, opened: Vec::new() };
            for op in ops {
                run.take(op).await;
                run.seen.check(&run.lab).await;
                run.sets.check(&run.lab).await;
            }
            all_is_over(&run.lab).await;
            run.seen.check(&run.lab).await;
            run.sets.all_are_over(&run.lab).await;
        });
    }
}

//! Revocations of sets hold from their commit on, end exactly what they select, and say so.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{apply, audit_about, audit_of, entry_about, long_text, open, opening, opening_of, pages_of, read};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::EnvironmentClass;
use crate::credential::RevocationClass;
use crate::delegation::{Acting, ActorChain};
use crate::grant::{Cause, Ending, Grant, GrantState, HolderKey, StateName};
use crate::id::{BackendName, EnvironmentName, GrantId, IssuerName, OwnerName, PolicyId, RevocationId, RoleName};
use crate::in_force::{Bar, InForce};
use crate::port::{
    Applied, AuditFilter, Beginning, Begun, Change, Fenced, GrantFilter, IdempotencyClaim, OpenOutcome, PageRequest,
    Share, Store,
};
use crate::revocation::{Likeness, Progress, Reach, Revocation, Right, Tally};
use crate::selector::{Criteria, Selector};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

const BOTH: Right = Right { own: true, others: true };

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

/// An operator who holds nothing.
#[must_use]
pub fn operator() -> Actor {
    Actor::Identity { issuer: IssuerName::new("people").unwrap(), subject: "ada".to_owned() }
}

fn operators_key() -> HolderKey {
    HolderKey {
        issuer: IssuerName::new("people").unwrap(),
        subject: "ada".to_owned(),
        run: None,
        run_attempt: None,
        binding_key: None,
    }
}

/// Everything that this store has seen, and grants like those of the sample.
async fn everything(store: &Arc<dyn Store>) -> Reach {
    let mut likenesses = store.likenesses().await.unwrap();
    for class in [RevocationClass::Fenced, RevocationClass::Hard, RevocationClass::ExpiryOnly] {
        likenesses.push(Likeness::of(&sample::active(1, class, NOW).record));
    }
    Reach::new(operators_key(), likenesses.into_iter().map(|likeness| (likeness, BOTH)), None)
}

fn by_commit(commit: &str) -> Selector {
    let grants = GrantFilter { commit: Some(commit.to_owned()), ..GrantFilter::default() };
    Selector::of(Criteria { grants, ..Criteria::default() }).unwrap()
}

/// The beginning of revocation `n` at `now`.
pub async fn beginning(store: &Arc<dyn Store>, n: u64, selector: Selector, now: Timestamp) -> Beginning {
    let id: RevocationId = sample::id(n);
    let entry = AuditEntry::success(now, operator(), AuditAction::RevocationBegin, AuditObject::Revocation { id });
    Beginning {
        revocation: Revocation {
            id,
            selector,
            reach: everything(store).await,
            author: operator(),
            reason: "the commit is compromised".to_owned(),
            quarantine: None,
            created_at: now,
            completed: None,
        },
        quarantine: None,
        decisions: vec![sample::decision(n)],
        entries: vec![entry],
        idempotency: None,
        epoch: store.epoch(),
    }
}

/// Begins what must begin.
pub async fn begin(store: &Arc<dyn Store>, n: u64, selector: Selector, now: Timestamp) -> RevocationId {
    let beginning = beginning(store, n, selector, now).await;
    let id = beginning.revocation.id;
    assert_eq!(store.begin_revocation(beginning).await.unwrap(), Begun::Begun);
    id
}

/// Follows until no row is left; answers how many followed.
pub async fn follow(store: &Arc<dyn Store>, id: RevocationId, now: Timestamp) -> usize {
    let kinds = ["jwt".to_owned()];
    let mut ended = 0;
    loop {
        let followed = store.follow_revocation(id, &kinds, now).await.unwrap();
        ended += followed.ended;
        if !followed.more {
            return ended;
        }
    }
}

async fn complete(store: &Arc<dyn Store>, id: RevocationId, now: Timestamp) {
    let entry =
        AuditEntry::success(now, Actor::Broker, AuditAction::RevocationComplete, AuditObject::Revocation { id });
    store.complete_revocation(id, [7; 32], now, entry).await.unwrap();
}

/// Grants that differ in everything that can be selected by, in every state.
async fn a_motley_of_grants(store: &Arc<dyn Store>) -> Vec<Grant> {
    let text = |text: &str| Some(text.to_owned());
    let mut grants = Vec::new();
    for n in 1..=48_u64 {
        let class = [RevocationClass::Fenced, RevocationClass::Hard, RevocationClass::ExpiryOnly][(n % 3) as usize];
        let mut grant = sample::pending(n, class, later(n / 6));
        let record = &mut grant.record;
        let pick = |names: [&'static str; 2], bit: u64| names[(n >> bit & 1) as usize];
        record.owner.name = OwnerName::new(pick(["payments", "search"], 0)).unwrap();
        record.role = RoleName::new(pick(["payments/prod/deploy", "search/prod/read"], 1)).unwrap();
        record.holder.issuer = IssuerName::new(pick(["ci", "cluster"], 2)).unwrap();
        record.holder.subject = pick(["repo:acme/app", "repo:acme/search"], 3).to_owned();
        record.holder.proof_key_id = text(pick(["key-1", "key-2"], 4));
        record.signed_by = (n % 3 > 0).then(|| pick(["own-1", "own-2"], 1).to_owned());
        record.provenance.repository = text(pick(["acme/app", "acme/search"], 1));
        record.provenance.repository_id = (n % 5 > 0).then(|| pick(["222", "333"], 0).to_owned());
        record.provenance.commit = (n % 7 > 0).then(|| pick(["aaaa", "bbbb"], 2).to_owned());
        record.provenance.run = text(&(n / 4).to_string());
        record.provenance.attestation_digests = if n % 4 == 0 { vec!["sha256:1".to_owned()] } else { Vec::new() };
        record.environment = (n % 2 == 0).then(|| EnvironmentName::new(pick(["production", "preview"], 3)).unwrap());
        record.environment_class = (n % 2 == 0).then_some(EnvironmentClass::Production);
        record.stage = (n % 3 == 0).then(|| "apply".to_owned());
        record.tier = (n % 4 > 0).then(|| pick(["low", "high"], 1).to_owned());
        record.backend = BackendName::new(pick(["tokens", "certificates"], 4)).unwrap();
        record.purpose = pick(["deploy", "reindex"], 2).to_owned();
        record.ticket = (n % 3 == 0).then(|| "CHG-9".to_owned());
        record.decision.determining = [("even", 2), ("third", 3)]
            .into_iter()
            .filter(|(_, every)| n % every == 0)
            .map(|(name, _)| PolicyId::new(name).unwrap())
            .collect();
        let acting = |subject: &str, shift: u64| {
            let mut acting = Acting::of(&sample::identity(subject, &format!("jti-of-{subject}")));
            acting.issuer = IssuerName::new(pick(["cluster", "ci"], shift)).unwrap();
            acting.provenance.repository = text(pick(["acme/search", "acme/agents"], 1 + shift));
            acting.provenance.repository_id = (n % 4 > 0).then(|| pick(["333", "444"], shift).to_owned());
            acting.provenance.commit = (n % 9 > 0).then(|| pick(["bbbb", "aaaa"], 3 - shift).to_owned());
            acting.provenance.run = (n % 5 > 0).then(|| (n / 6 + shift).to_string());
            acting
        };
        record.actors = match n % 6 {
            0 => ActorChain::default().extended(acting("agent-1", 0)),
            3 => ActorChain::default().extended(acting("agent-1", 0)).extended(acting("agent-2", 1)),
            _ => ActorChain::default(),
        };
        record.parent = (n > 40).then(|| sample::id(n % 2 + 1));
        let grant = open(store, opening_of(store, grant, n)).await;
        let grant = match n % 5 {
            0 => grant,
            step => {
                let expires_at = grant.expires_at;
                let active = grant.activate(later(10), expires_at, None).unwrap();
                let active = apply(store, active, AuditAction::GrantActivate, later(10)).await;
                if step == 4 {
                    let ending = active.begin_ending(Ending::by_broker(Cause::REQUESTED, later(11)), false).unwrap();
                    apply(store, ending, AuditAction::GrantRevoke, later(11)).await
                } else {
                    active
                }
            }
        };
        grants.push(grant);
    }
    grants
}

/// Each criterion alone, some together, and everything.
fn selectors() -> Vec<Selector> {
    let text = |text: &str| Some(text.to_owned());
    type Set = fn(&mut Criteria);
    let alone: [Set; 26] = [
        |criteria| criteria.grants.owner = Some("search".to_owned()),
        |criteria| criteria.grants.role = Some("search/prod/read".to_owned()),
        |criteria| criteria.grants.issuer = Some("cluster".to_owned()),
        |criteria| criteria.grants.subject = Some("repo:acme/search".to_owned()),
        |criteria| criteria.grants.repository = Some("acme/app".to_owned()),
        |criteria| criteria.grants.repository_id = Some("333".to_owned()),
        |criteria| criteria.grants.commit = Some("aaaa".to_owned()),
        |criteria| criteria.grants.run = Some("7".to_owned()),
        |criteria| criteria.grants.environment = Some("production".to_owned()),
        |criteria| criteria.grants.backend = Some("certificates".to_owned()),
        |criteria| criteria.grants.policy = Some("third".to_owned()),
        |criteria| criteria.grants.purpose = Some("reindex".to_owned()),
        |criteria| criteria.grants.ticket = Some("CHG-9".to_owned()),
        |criteria| criteria.grants.since = Some(later(4)),
        |criteria| criteria.grants.until = Some(later(4)),
        |criteria| criteria.grants.states = vec![StateName::Pending],
        |criteria| criteria.grants.states = vec![StateName::Active, StateName::Expired],
        |criteria| criteria.key_id = Some("key-2".to_owned()),
        |criteria| criteria.key_id = Some("own-1".to_owned()),
        |criteria| criteria.proof_id = Some("jti-17".to_owned()),
        |criteria| criteria.proof_id = Some("jti-of-agent-2".to_owned()),
        |criteria| criteria.actor = Some("ci:agent-2".to_owned()),
        |criteria| criteria.parent = Some(sample::id(1)),
        |criteria| criteria.attestation_digest = Some("sha256:1".to_owned()),
        |criteria| criteria.grants.commit = Some("none".to_owned()),
        |criteria| criteria.grants.repository = Some("acme/agents".to_owned()),
    ];
    let mut selectors = vec![Selector::all()];
    for (at, set) in alone.iter().enumerate() {
        let mut one = Criteria::default();
        set(&mut one);
        selectors.push(Selector::of(one.clone()).unwrap());
        for other in alone.iter().skip(at + 1) {
            let mut both = one.clone();
            other(&mut both);
            selectors.push(Selector::of(both).unwrap());
        }
    }
    let grants = GrantFilter {
        owner: text("payments"),
        policy: text("even"),
        states: vec![StateName::Active],
        until: Some(later(6)),
        ..GrantFilter::default()
    };
    let many = Criteria { grants, attestation_digest: text("sha256:1"), key_id: text("key-1"), ..Criteria::default() };
    selectors.push(Selector::of(many).unwrap());
    selectors
}

/// The query of a store is [`Selector::matches`], for every criterion and pair of them.
pub async fn a_selection_is_what_the_selector_matches(store: &Arc<dyn Store>) {
    let grants = a_motley_of_grants(store).await;
    let reach = everything(store).await;
    let (mut found_some, mut found_all) = (0, 0);
    for selector in selectors() {
        let live = |grant: &&Grant| matches!(grant.state, GrantState::Pending { .. } | GrantState::Active { .. });
        let matched = grants.iter().filter(live).filter(|grant| selector.matches(grant));
        let expected: BTreeSet<GrantId> = matched.map(|grant| grant.record.id).collect();
        let found = store.first_selected(&selector, &reach, 500).await.unwrap();
        assert_eq!(found.len(), expected.len(), "each once: {selector:?}");
        let found: BTreeSet<GrantId> = found.iter().map(|grant| grant.record.id).collect();
        assert_eq!(found, expected, "{selector:?}");
        let counts = store.count_selected(&selector, &reach).await.unwrap();
        let would_end: u64 = counts.iter().filter(|count| count.would_end).map(|count| count.grants).sum();
        assert_eq!(would_end, expected.len() as u64, "{selector:?}");
        found_some += usize::from(!expected.is_empty());
        found_all += usize::from(expected.len() == grants.iter().filter(live).count());
    }
    assert!(found_some > 150 && found_all == 1, "the selectors tell grants apart: {found_some}, {found_all}");
}

/// Who may end some learns nothing of the others, and ends nothing of them.
pub async fn nothing_is_ended_that_its_author_may_not_end(store: &Arc<dyn Store>) {
    let grants = a_motley_of_grants(store).await;
    let search =
        |grant: &Grant| grant.record.owner.name.as_str() == "search" && grant.record.tier.as_deref() != Some("high");
    let author = HolderKey::of_record(&grants[2].record);
    let right = |likeness: Likeness| {
        let others = likeness.owner.as_str() == "search" && likeness.tier.as_deref() != Some("high");
        (likeness, Right { own: true, others })
    };
    let spared = grants.iter().find(|grant| search(grant) && grant.state_name() == StateName::Active).unwrap();
    let likenesses = store.likenesses().await.unwrap();
    let reach = Reach::new(author.clone(), likenesses.into_iter().map(right), Some(spared.record.id));
    let mut beginning = beginning(store, 1, Selector::all(), later(20)).await;
    beginning.revocation.reach = reach.clone();
    let id = beginning.revocation.id;
    let expected: BTreeSet<GrantId> = grants
        .iter()
        .filter(|grant| matches!(grant.state, GrantState::Pending { .. } | GrantState::Active { .. }))
        .filter(|grant| search(grant) || author.holds(&grant.record))
        .map(|grant| grant.record.id)
        .filter(|id| *id != spared.record.id)
        .collect();
    assert!(expected.len() > 5 && expected.len() < 30);
    let counts = store.count_selected(&Selector::all(), &reach).await.unwrap();
    assert_eq!(
        counts.iter().filter(|count| count.would_end).map(|count| count.grants).sum::<u64>(),
        expected.len() as u64
    );
    assert_eq!(store.begin_revocation(beginning).await.unwrap(), Begun::Begun);
    let in_force = store.in_force();
    for grant in &grants {
        assert_eq!(in_force.ends(grant).is_some(), expected.contains(&grant.record.id), "{grant:?}");
    }
    assert_eq!(follow(store, id, later(20)).await, expected.len());
    for grant in grants {
        let after = read(store, grant.record.id).await;
        if expected.contains(&grant.record.id) {
            assert_eq!(after.state_name(), StateName::Revoking);
        } else if grant.record.parent.is_none_or(|parent| !expected.contains(&parent)) {
            assert_eq!(after, grant);
        }
    }
}

/// From the commit on: nothing that it ends is opened, activated, renewed or kept alive, and it is listed as fenced,
/// although no row has followed. What it does not end is left alone.
pub async fn a_revocation_holds_from_its_commit_on(store: &Arc<dyn Store>) {
    let of = |n: u64, class, commit: &str| {
        let mut grant = sample::pending(n, class, NOW);
        grant.record.provenance.commit = Some(commit.to_owned());
        grant
    };
    let active = |grant: Grant| {
        let expires_at = grant.expires_at;
        grant.activate(NOW, expires_at, None).unwrap()
    };
    for (n, commit) in [(1, "bad"), (11, "good")] {
        open(store, opening_of(store, active(of(n, RevocationClass::Fenced, commit)), n)).await;
        open(store, opening_of(store, of(n + 1, RevocationClass::Hard, commit), n + 1)).await;
    }
    let epoch = store.epoch();
    let decided_before = opening_of(store, of(30, RevocationClass::Fenced, "bad"), 30);
    let id = begin(store, 1, by_commit("bad"), later(1)).await;
    assert!(store.epoch() > epoch, "what was decided before is decided again");
    assert!(matches!(store.open(decided_before).await, Ok(OpenOutcome::Moved)));

    let barred = Bar::Revoked(id);
    for (n, commit, stopped) in [(1, "bad", true), (11, "good", false)] {
        let fenced = read(store, sample::id(n)).await;
        assert_eq!(store.in_force().is_live(&fenced, later(6)), !stopped);
        assert_eq!(fenced.state_name(), StateName::Active, "no row has followed");
        let late = store.open(opening_of(store, active(of(n + 20, RevocationClass::Fenced, commit)), n + 20)).await;
        match late.unwrap() {
            OpenOutcome::Barred(bar) => assert_eq!((bar, stopped), (barred, true)),
            OpenOutcome::Opened(_) => assert!(!stopped, "opened in spite of the revocation"),
            other => panic!("{other:?}"),
        }
        let entries = [AuditAction::GrantActivate, AuditAction::GrantRenew, AuditAction::GrantRenew];
        let pending = read(store, sample::id(n + 1)).await;
        let changes =
            [active(pending), fenced.clone().extend(later(700), later(700)).unwrap(), fenced.seen(later(6)).unwrap()];
        for (change, action) in changes.into_iter().zip(entries) {
            let change = Change::of(change.clone(), entry_about(change.record.id, action, later(6)));
            let applied = store.apply(change).await.unwrap();
            // The third is from the version before the second.
            let expected =
                if action == AuditAction::GrantRenew { [Applied::Done, Applied::Conflict] } else { [Applied::Done; 2] };
            assert!(
                if stopped { applied == Applied::Barred(barred) } else { expected.contains(&applied) },
                "{applied:?}"
            );
        }
    }
    let listed = store.fenced("jwt", later(6)).await.unwrap();
    assert_eq!(listed, [Fenced { id: sample::id(1), fenced_at: later(1) }]);
    let index = |grant: Grant| grant.record.status_index;
    let bad = [index(read(store, sample::id(1)).await), index(read(store, sample::id(2)).await)];
    assert_eq!(store.ended_early(0..1_000).await.unwrap(), Some(bad.to_vec()), "the status list, too");
    assert_eq!(store.ended_early(bad[1]..bad[1] + 1).await.unwrap(), Some(vec![bad[1]]));
    // Ending one of them by hand goes on.
    let one =
        read(store, sample::id(2)).await.begin_ending(Ending::by_broker(Cause::REQUESTED, later(7)), false).unwrap();
    apply(store, one, AuditAction::GrantRevoke, later(7)).await;
}

/// Selected by the key of the broker's own that signed the credential, it holds like any other: before a row has
/// followed, and for what is opened meanwhile.
pub async fn a_revocation_by_the_key_that_signed_holds_from_its_commit_on(store: &Arc<dyn Store>) {
    let signed = |n: u64, key: &str| {
        let mut opening = opening(store, n, NOW);
        opening.grant.record.signed_by = Some(key.to_owned());
        opening
    };
    let keys = [(1, "own-1", true), (2, "own-2", false)];
    for (n, key, _) in keys {
        open(store, signed(n, key)).await;
    }
    let criteria = Criteria { key_id: Some("own-1".to_owned()), ..Criteria::default() };
    let id = begin(store, 1, Selector::of(criteria).unwrap(), later(1)).await;
    for (n, key, ends) in keys {
        let grant = read(store, sample::id(n)).await;
        assert_eq!(store.in_force().ends(&grant), ends.then_some(id), "{key}");
        assert_eq!(store.in_force().is_live(&grant, later(2)), !ends, "{key}");
        match store.open(signed(n + 10, key)).await.unwrap() {
            OpenOutcome::Barred(bar) => assert_eq!((bar, ends), (Bar::Revoked(id), true)),
            OpenOutcome::Opened(_) => assert!(!ends, "opened with {key} in spite of the revocation"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(follow(store, id, later(2)).await, 1);
    for (n, key, ends) in keys {
        let expected = if ends { StateName::Revoking } else { StateName::Active };
        assert_eq!(read(store, sample::id(n)).await.state_name(), expected, "{key}");
    }
}

/// A row that has followed is what `Grant::begin_ending` makes of it.
pub async fn what_follows_is_ended_as_the_domain_says(store: &Arc<dyn Store>) {
    let mut before = Vec::new();
    let mut n = 0;
    for class in [RevocationClass::Fenced, RevocationClass::Hard, RevocationClass::ExpiryOnly] {
        for kind in ["jwt", "vault"] {
            for (activate, heartbeat) in [(false, false), (true, false), (true, true)] {
                n += 1;
                let mut grant = sample::pending(n, class, NOW);
                grant.record.backend_kind = kind.to_owned();
                grant.record.terms.heartbeat = heartbeat.then(|| Ttl::from_secs(60));
                grant.last_seen_at = heartbeat.then_some(NOW);
                let mut grant = open(store, opening_of(store, grant, n)).await;
                if activate {
                    let expires_at = grant.expires_at;
                    grant =
                        apply(store, grant.activate(NOW, expires_at, None).unwrap(), AuditAction::GrantActivate, NOW)
                            .await;
                }
                before.push(grant);
            }
        }
    }
    // One that was over already when it was reached: nobody had swept it.
    let over = before[0].expires_at.plus(Ttl::from_secs(60));
    for (which, now) in [(1, later(30)), (2, over)] {
        if which == 2 {
            // The rest of it, with a clock that is further.
            for n in 50..53 {
                before.push(
                    open(store, opening_of(store, sample::active(n, RevocationClass::Fenced, later(30)), n)).await,
                );
            }
        }
        let id = begin(store, which, Selector::all(), now).await;
        let live = before.iter().filter(|grant| grant.state_name() != StateName::Revoking).count();
        assert_eq!(follow(store, id, now).await, live);
        for grant in &mut before {
            if grant.state_name() == StateName::Revoking {
                continue;
            }
            let ending = Ending {
                cause: Cause::REVOCATION,
                actor: Some("people:ada".to_owned()),
                reason: Some("the commit is compromised".to_owned()),
                at: now,
            };
            let fenced = grant.record.backend_kind == "jwt";
            let expected = grant.clone().begin_ending(ending, fenced).unwrap();
            assert_eq!(read(store, grant.record.id).await, expected);
            *grant = expected;
        }
        complete(store, id, now).await;
    }
    // What is due is what must be done, and nothing else.
    let reserved = store.reserve_due(later(30), Ttl::from_mins(1), sample::id(9), &Share::All, 100).await.unwrap();
    let due: BTreeSet<GrantId> = reserved.iter().map(|reserved| reserved.grant.record.id).collect();
    let expected: BTreeSet<GrantId> = before
        .iter()
        .filter(|grant| grant.step_due_at().is_some_and(|at| at <= later(30)))
        .map(|grant| grant.record.id)
        .collect();
    assert_eq!(due, expected);
    assert!(!expected.is_empty());
    let latest = before.iter().filter_map(Grant::ends_by_itself_at).max().unwrap();
    let ending_by_themselves = before.iter().filter(|grant| grant.ends_by_itself_at().is_some()).count();
    assert_eq!(store.expire_due(latest, 500).await.unwrap(), ending_by_themselves);
}

/// One entry for each chunk lists its grants; beginning and completion have their own.
pub async fn each_chunk_is_told_with_its_grants(store: &Arc<dyn Store>) {
    for n in 1..=20 {
        open(store, opening(store, n, NOW)).await;
    }
    let epoch = store.epoch();
    let id = begin(store, 1, Selector::all(), later(5)).await;
    assert_eq!(follow(store, id, later(6)).await, 20);
    complete(store, id, later(7)).await;
    assert_eq!(store.epoch(), epoch + 2);
    let mut listed = Vec::new();
    let mut about = Vec::new();
    for entry in audit_of(store, &AuditFilter::default()).await.into_iter().map(|recorded| recorded.entry) {
        match entry.object {
            AuditObject::Grants { ids } => {
                assert_eq!((entry.action, entry.reason.as_deref()), (AuditAction::GrantRevoke, Some("revocation")));
                assert_eq!((entry.actor, &entry.detail["revocation"]), (operator(), &id.to_string()));
                listed.extend(ids);
            }
            AuditObject::Revocation { .. } => about.push(entry.action),
            _ => {}
        }
    }
    assert_eq!(about, [AuditAction::RevocationBegin, AuditAction::RevocationComplete]);
    listed.sort_unstable();
    assert_eq!(listed, store.revoked_grants(id).await.unwrap(), "each grant once");
    assert_eq!(listed.len(), 20);
    let actions: Vec<_> = audit_about(store, sample::id(3)).await.into_iter().map(|one| one.entry.action).collect();
    assert_eq!(actions, [AuditAction::GrantOpen, AuditAction::GrantRevoke]);
    assert_eq!(store.decision(sample::id(1)).await.unwrap(), Some(sample::decision(1)));
}

/// A complete revocation has ended what there was; what comes later is not its concern.
pub async fn a_complete_revocation_holds_no_longer(store: &Arc<dyn Store>) {
    let ending = open(store, opening(store, 1, NOW)).await;
    open(store, opening_of(store, sample::active(2, RevocationClass::Hard, NOW), 2)).await;
    let id = begin(store, 1, Selector::all(), later(1)).await;
    assert_eq!(store.revocation_progress(id).await.unwrap(), Progress::default());
    store.measure_revocation(id).await.unwrap();
    let progress = store.revocation_progress(id).await.unwrap();
    assert_eq!((progress.matched(), progress.remaining(), progress.selected), (2, 2, Some(2)));
    follow(store, id, later(2)).await;
    let tally = Tally { fenced: 1, revoking: 1, ..Tally::default() };
    assert_eq!(store.revocation_progress(id).await.unwrap(), Progress { selected: Some(2), tally });
    let running = store.revocation(id).await.unwrap().unwrap();
    assert_eq!((running.completed.clone(), store.in_force().revocations.len()), (None, 1));
    complete(store, id, later(3)).await;
    complete(store, id, later(4)).await;
    let done = store.revocation(id).await.unwrap().unwrap();
    assert_eq!(done.completed.map(|completed| (completed.at, completed.grants_digest)), Some((later(3), [7; 32])));
    assert_eq!(done.selector, running.selector);
    assert!(store.in_force().revocations.is_empty());
    open(store, opening(store, 3, later(4))).await;
    assert_eq!(follow(store, id, later(5)).await, 0);
    // A hard one that fails is failing until its backend confirms.
    let hard = read(store, sample::id(2)).await;
    let retried =
        apply(store, hard.retry(later(9), "away".to_owned()).unwrap(), AuditAction::GrantRetry, later(5)).await;
    let failing = store.revocation_progress(id).await.unwrap();
    assert_eq!((failing.tally.failing, failing.remaining()), (1, 1));
    apply(store, retried.confirm(later(9)).unwrap(), AuditAction::GrantConfirm, later(9)).await;
    store.expire_due(ending.expires_at.plus(Ttl::from_secs(10)), 10).await.unwrap();
    let progress = store.revocation_progress(id).await.unwrap();
    assert_eq!(progress.tally, Tally { revoked: 1, expired: 1, ..Tally::default() });
    assert_eq!((progress.matched(), progress.remaining()), (2, 0));
}

/// A repeated request begins nothing again; another under its key is refused.
pub async fn a_revocation_is_begun_once_under_its_key(store: &Arc<dyn Store>) {
    let claim =
        |digest: u8| Some(IdempotencyClaim { scope: [1; 32], request_digest: [digest; 32], keep_until: later(3_600) });
    let mut first = beginning(store, 1, Selector::all(), NOW).await;
    first.idempotency = claim(1);
    assert_eq!(store.begin_revocation(first).await.unwrap(), Begun::Begun);
    for (digest, expected) in [(1, Begun::Already(sample::id(1))), (2, Begun::RequestMismatch)] {
        let mut again = beginning(store, 2, Selector::all(), later(1)).await;
        again.idempotency = claim(digest);
        // Also when the epoch has moved since.
        again.epoch = 0;
        assert_eq!(store.begin_revocation(again).await.unwrap(), expected);
    }
    assert_eq!(store.in_force().revocations.len(), 1);
    let mut moved = beginning(store, 3, Selector::all(), later(1)).await;
    moved.epoch -= 1;
    assert_eq!(store.begin_revocation(moved).await.unwrap(), Begun::Moved);
}

/// Each that runs is asked for every grant: they are bounded, and no author can take all places.
pub async fn revocations_that_run_are_bounded(store: &Arc<dyn Store>) {
    let author = |n: u64| Actor::Identity { issuer: IssuerName::new("people").unwrap(), subject: n.to_string() };
    let mut begun = 0;
    for n in 1..=100_u64 {
        let mut beginning = beginning(store, n, by_commit("none"), NOW).await;
        beginning.revocation.author = author(n / 10);
        match store.begin_revocation(beginning).await.unwrap() {
            Begun::Begun => begun += 1,
            other => assert_eq!(other, Begun::TooMany),
        }
    }
    assert_eq!(begun, InForce::MAX_REVOCATIONS - InForce::RESERVED_REVOCATIONS);
    let of_one = store.in_force().revocations.iter().filter(|running| running.author == author(1)).count();
    assert_eq!(of_one, InForce::MAX_REVOCATIONS_OF_ONE);
    complete(store, sample::id(1), NOW).await;
    let mut one_more = beginning(store, 101, by_commit("none"), NOW).await;
    one_more.revocation.author = author(11);
    assert_eq!(store.begin_revocation(one_more).await.unwrap(), Begun::Begun);
}

/// However many sets others are ending.
pub async fn what_a_distrusted_key_signed_has_a_place_of_its_own(store: &Arc<dyn Store>) {
    let of = async |n: u64, author: Actor| {
        let mut beginning = beginning(store, n, by_commit("none"), NOW).await;
        beginning.revocation.author = author;
        store.begin_revocation(beginning).await.unwrap()
    };
    let author = |n: u64| Actor::Identity { issuer: IssuerName::new("people").unwrap(), subject: n.to_string() };
    let mut n = 0;
    while of(n, author(n)).await == Begun::Begun {
        n += 1;
    }
    for _ in 0..InForce::MAX_REVOCATIONS_OF_ONE {
        n += 1;
        assert_eq!(of(n, Actor::LocalAdministrator).await, Begun::Begun);
    }
    assert_eq!(of(n + 1, Actor::LocalAdministrator).await, Begun::TooMany, "also these are bounded");
    assert_eq!(store.in_force().revocations.len(), InForce::MAX_REVOCATIONS);
    // What was kept for it is nobody else's.
    complete(store, sample::id(n), NOW).await;
    assert_eq!(of(n + 1, author(n + 1)).await, Begun::TooMany);
    complete(store, sample::id(1), NOW).await;
    assert_eq!(of(n + 1, author(n + 1)).await, Begun::Begun);
}

/// Newest first, of everybody or of one.
pub async fn revocations_are_listed_by_author(store: &Arc<dyn Store>) {
    let other = Actor::Identity { issuer: IssuerName::new("people").unwrap(), subject: "bob".to_owned() };
    for n in 1..=5 {
        let mut beginning = beginning(store, n, by_commit(&n.to_string()), later(n)).await;
        if n == 3 {
            beginning.revocation.author = other.clone();
        }
        assert_eq!(store.begin_revocation(beginning).await.unwrap(), Begun::Begun);
    }
    let walk = async |author: Option<Actor>| {
        let (mut ids, mut page) = (Vec::new(), PageRequest { cursor: None, limit: 2 });
        loop {
            let found = store.revocations(author.as_ref(), &page).await.unwrap();
            ids.extend(found.items.into_iter().map(|revocation| revocation.id));
            match found.next {
                Some(next) => page.cursor = Some(next),
                None => return ids,
            }
        }
    };
    let ids = |numbers: &[u64]| numbers.iter().map(|n| sample::id::<RevocationId>(*n)).collect::<Vec<_>>();
    assert_eq!(walk(None).await, ids(&[5, 4, 3, 2, 1]));
    assert_eq!(walk(Some(operator())).await, ids(&[5, 4, 2, 1]));
    assert_eq!(walk(Some(other)).await, ids(&[3]));
    let read = store.revocation(sample::id(3)).await.unwrap().unwrap();
    assert_eq!(read, *store.in_force().revocations[2], "what is read back is what holds");
    assert_eq!(store.revocation(sample::id(9)).await.unwrap(), None);
}

/// They have the long lists of what their authors may end.
pub async fn a_page_of_revocations_has_no_more_bytes_than_it_may(store: &Arc<dyn Store>) {
    for n in 1..=5 {
        let mut beginning = beginning(store, n, by_commit("none"), later(n)).await;
        beginning.revocation.reason = long_text();
        assert_eq!(store.begin_revocation(beginning).await.unwrap(), Begun::Begun);
    }
    let (sizes, revocations) = pages_of(async |page| store.revocations(None, &page).await).await;
    let ids: Vec<RevocationId> = revocations.iter().map(|revocation| revocation.id).collect();
    assert_eq!((sizes, ids), (vec![2, 2, 1], [5, 4, 3, 2, 1].map(sample::id).to_vec()));
}

//! What is derived from a grant lives no longer than that.

use std::sync::Arc;

use super::revocations::{begin, follow};
use super::{apply, audit_about, audit_len, entry_about, open, opening, opening_of, proof, read};
use crate::audit::{Actor, AuditAction};
use crate::credential::RevocationClass;
use crate::delegation::{Acting, ActorChain};
use crate::grant::{Cause, Ending, Grant, GrantState, StateName};
use crate::port::{
    Acted, Applied, Change, GrantFilter, OpenOutcome, Opening, PageRequest, Quota, Quotas, Replaced, Store,
};
use crate::selector::{Criteria, Selector};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later() -> Timestamp {
    NOW.plus(Ttl::from_secs(5))
}

/// The opening of grant `n`, which `agent` acts with, derived from `parent`.
fn derived(store: &Arc<dyn Store>, n: u64, parent: &Grant) -> Opening {
    derived_at(store, n, parent, NOW)
}

fn derived_at(store: &Arc<dyn Store>, n: u64, parent: &Grant, at: Timestamp) -> Opening {
    let mut opening = opening(store, n, at);
    opening.grant.record.parent = Some(parent.record.id);
    opening.grant.record.actors = sample::actors(&["agent"]);
    opening
}

/// One, one derived from it that is pending, one that is active, and one derived from that.
async fn a_family(store: &Arc<dyn Store>, n: u64) -> [Grant; 4] {
    let root = open(store, opening(store, n, NOW)).await;
    let mut pending = opening_of(store, sample::pending(n + 1, RevocationClass::Hard, NOW), n + 1);
    pending.grant.record.parent = Some(root.record.id);
    let pending = open(store, pending).await;
    let child = open(store, derived(store, n + 2, &root)).await;
    let grandchild = open(store, derived(store, n + 3, &child)).await;
    [root, pending, child, grandchild]
}

fn ending_of(grant: &Grant) -> &Ending {
    let GrantState::Revoking { ending, .. } = &grant.state else { panic!("{:?}", grant.state) };
    ending
}

async fn assert_ended_with(store: &Arc<dyn Store>, family: &[Grant; 4]) {
    let [root, pending, child, grandchild] = family;
    for (derived, parent) in [(pending, root), (child, root), (grandchild, child)] {
        let ended = read(store, derived.record.id).await;
        assert_eq!(ended.state_name(), StateName::Revoking);
        let ending = ending_of(&ended);
        assert_eq!((&ending.cause, ending.at), (&Cause::PARENT_ENDED, later()));
        assert_eq!(ended.step_due_at(), Some(later()), "it is undone at once");
        let entries = audit_about(store, derived.record.id).await;
        let entry = &entries.last().unwrap().entry;
        assert_eq!((entry.action, &entry.actor), (AuditAction::GrantRevoke, &Actor::Broker));
        assert_eq!(entry.reason.as_deref(), Some("parent_ended"));
        assert_eq!(entry.detail.get("parent"), Some(&parent.record.id.to_string()));
    }
}

/// At any depth, whether its credential is there or on its way, in the commit that ends the other; and nobody else's.
pub async fn what_is_derived_ends_with_what_it_is_derived_from(store: &Arc<dyn Store>) {
    let (family, other) = (a_family(store, 1).await, a_family(store, 11).await);
    let asked = Ending::by_broker(Cause::REQUESTED, later());
    let ending = family[0].clone().begin_ending(asked.clone(), true).unwrap();
    apply(store, ending, AuditAction::GrantRevoke, later()).await;
    assert_ended_with(store, &family).await;
    for (at, grant) in other.iter().enumerate() {
        assert_eq!(read(store, grant.record.id).await.version, grant.version, "{at} of the other family");
    }
    // From the middle, what is above lives on.
    let [root, pending, child, grandchild] = &other;
    let ending = child.clone().begin_ending(asked, true).unwrap();
    apply(store, ending, AuditAction::GrantRevoke, later()).await;
    assert_eq!(read(store, grandchild.record.id).await.state_name(), StateName::Revoking);
    assert_eq!(read(store, root.record.id).await, *root);
    assert_eq!(read(store, pending.record.id).await, *pending);
}

/// Whichever way the other ends.
pub async fn what_is_derived_ends_when_a_set_does_or_another_takes_the_place(store: &Arc<dyn Store>) {
    let family = a_family(store, 1).await;
    let mut selected = opening(store, 11, NOW);
    selected.grant.record.provenance.commit = Some("aaaa".to_owned());
    let selected = open(store, selected).await;
    let child = open(store, derived(store, 12, &selected)).await;
    let grants = GrantFilter { commit: Some("aaaa".to_owned()), ..GrantFilter::default() };
    let selector = Selector::of(Criteria { grants, ..Criteria::default() }).unwrap();
    let id = begin(store, 1, selector, later()).await;
    assert_eq!(follow(store, id, later()).await, 1, "exactly what was selected");
    let ended = read(store, child.record.id).await;
    assert_eq!(ending_of(&ended).cause, Cause::PARENT_ENDED);

    let mut successor = opening(store, 20, later());
    successor.replaced = Some(Replaced { id: family[0].record.id, fenced_by_record: true });
    open(store, successor).await;
    assert_ended_with(store, &family).await;
}

/// Neither from what is ending, nor from what a revocation ends whose rows have yet to follow.
pub async fn nothing_is_derived_from_what_has_ended(store: &Arc<dyn Store>) {
    let parent = open(store, opening(store, 1, NOW)).await;
    open(store, derived(store, 2, &parent)).await;
    let asked = Ending::by_broker(Cause::REQUESTED, later());
    apply(store, parent.clone().begin_ending(asked, true).unwrap(), AuditAction::GrantRevoke, later()).await;
    let written = audit_len(store).await;
    let late = store.open(derived_at(store, 3, &parent, later())).await.unwrap();
    assert!(matches!(late, OpenOutcome::Moved), "decided again, and then refused: {late:?}");
    assert_eq!(audit_len(store).await, written);

    let mut selected = opening(store, 4, later());
    selected.grant.record.provenance.commit = Some("aaaa".to_owned());
    let selected = open(store, selected).await;
    let grants = GrantFilter { commit: Some("aaaa".to_owned()), ..GrantFilter::default() };
    let child = open(store, derived_at(store, 6, &selected, later())).await;
    let mut pending = opening_of(store, sample::pending(7, RevocationClass::Hard, later()), 7);
    pending.grant.record.parent = Some(child.record.id);
    let pending = open(store, pending).await;
    let id = begin(store, 1, Selector::of(Criteria { grants, ..Criteria::default() }).unwrap(), later()).await;
    for (n, parent) in [(5, &selected), (8, &child)] {
        let late = store.open(derived_at(store, n, parent, later())).await.unwrap();
        assert!(matches!(late, OpenOutcome::Moved), "{late:?}");
    }
    let activated = pending.clone().activate(later(), pending.expires_at, None).unwrap();
    let mut activation = Change::of(activated, entry_about(pending.record.id, AuditAction::GrantActivate, later()));
    activation.epoch = Some(store.epoch());
    assert_eq!(store.apply(activation).await.unwrap(), Applied::Conflict, "its credential is not given out");
    let indexes = child.record.status_index..child.record.status_index + 1;
    let listed = store.ended_early(indexes.clone()).await.unwrap();
    assert_eq!(listed, Some(vec![indexes.start]), "nor is what is out left off the list");
    assert_eq!(follow(store, id, later()).await, 1);
    assert_eq!(ending_of(&read(store, child.record.id).await).cause, Cause::PARENT_ENDED);
}

/// What ends in one commit is bounded, at any depth together.
pub async fn no_more_is_derived_than_can_end_at_once(store: &Arc<dyn Store>) {
    const MOST: u64 = 256;
    let root = open(store, opening(store, 1, NOW)).await;
    let child = open(store, derived(store, 2, &root)).await;
    for n in 3..MOST + 2 {
        open(store, derived(store, n, if n % 2 == 0 { &root } else { &child })).await;
    }
    for parent in [&root, &child] {
        let over = store.open(derived(store, 900, parent)).await.unwrap();
        assert!(matches!(over, OpenOutcome::OverQuota(Quota::Derived)), "{over:?}");
    }
    let asked = Ending::by_broker(Cause::REQUESTED, later());
    apply(store, child.clone().begin_ending(asked, true).unwrap(), AuditAction::GrantRevoke, later()).await;
    open(store, derived_at(store, 901, &root, later())).await;
}

/// Whoever acts leaves room for others below the same root: what it holds counts, and so does what it is acted through.
pub async fn one_actor_has_its_share_of_what_is_derived(store: &Arc<dyn Store>) {
    const SHARE: u32 = 4;
    let below = |n: u64, parent: &Grant, chain: &[&str]| {
        let mut opening = derived(store, n, parent);
        opening.grant.record.actors = sample::actors(chain);
        opening.quotas = Quotas { actor: Some(SHARE), ..Quotas::NONE };
        opening
    };
    let (root, other_root) = (open(store, opening(store, 1, NOW)).await, open(store, opening(store, 2, NOW)).await);
    let first = open(store, below(10, &root, &["agent"])).await;
    for n in 11..13 {
        open(store, below(n, &root, &["agent"])).await;
    }
    let through = open(store, below(13, &first, &["helper", "agent"])).await;
    for (n, parent, chain) in [
        (20, &root, &["agent"] as &[&str]),
        (21, &first, &["agent-2", "agent"]),
        (22, &through, &["a", "helper", "agent"]),
    ] {
        let written = audit_len(store).await;
        let over = store.open(below(n, parent, chain)).await.unwrap();
        assert!(matches!(over, OpenOutcome::OverQuota(Quota::Actor)), "{chain:?}: {over:?}");
        assert_eq!(audit_len(store).await, written);
    }
    open(store, below(30, &root, &["helper"])).await;
    open(store, below(31, &other_root, &["agent"])).await;
    open(store, Opening { quotas: Quotas::NONE, ..below(32, &root, &["agent"]) }).await;
    for ended in [&first, &read(store, sample::id(11)).await] {
        let asked = Ending::by_broker(Cause::REQUESTED, later());
        apply(store, ended.clone().begin_ending(asked, true).unwrap(), AuditAction::GrantRevoke, later()).await;
    }
    let mut again = below(33, &root, &["agent"]);
    (again.grant.record.created_at, again.now) = (later(), later());
    assert!(matches!(store.open(again).await.unwrap(), OpenOutcome::Opened(_)), "what ends makes room");
}

/// A grant works while everything that it is derived from does, also ahead of the rows.
pub async fn what_is_derived_is_alive_while_all_above_it_is(store: &Arc<dyn Store>) {
    let [root, pending, child, grandchild] = a_family(store, 1).await;
    let alive = async |grant: &Grant, at: Timestamp| store.live_grant(grant.record.id, at).await.unwrap();
    for grant in [&root, &child, &grandchild] {
        assert_eq!(alive(grant, NOW).await.as_ref(), Some(grant));
        assert_eq!(alive(grant, grant.expires_at).await, None);
    }
    assert_eq!(alive(&pending, NOW).await, None);
    assert_eq!(store.live_grant(sample::id(999), NOW).await.unwrap(), None);
    let mut short = opening(store, 20, NOW);
    short.grant.end_at = later();
    let short = open(store, short).await;
    let outlives = open(store, derived(store, 21, &short)).await;
    assert!(alive(&outlives, NOW).await.is_some() && alive(&outlives, later()).await.is_none());

    let criteria = Criteria { actor: Some("ci:agent".to_owned()), ..Criteria::default() };
    begin(store, 1, Selector::of(criteria).unwrap(), later()).await;
    assert!(alive(&root, later()).await.is_some(), "nobody acts with it");
    assert!(alive(&child, later()).await.is_none() && alive(&grandchild, later()).await.is_none());
}

/// The record says who asked for it and why, in whatever order the rows follow.
pub async fn what_a_revocation_selects_ends_by_that_also_below_what_it_ends(store: &Arc<dyn Store>) {
    let of = |mut opening: Opening, commit: &str| {
        opening.grant.record.provenance.commit = Some(commit.to_owned());
        opening
    };
    let root = open(store, of(opening(store, 1, NOW), "aaaa")).await;
    let child = open(store, of(derived(store, 2, &root), "aaaa")).await;
    let other = open(store, of(derived(store, 3, &root), "bbbb")).await;
    let below_other = open(store, of(derived(store, 4, &other), "aaaa")).await;
    let grants = GrantFilter { commit: Some("aaaa".to_owned()), ..GrantFilter::default() };
    let id = begin(store, 1, Selector::of(Criteria { grants, ..Criteria::default() }).unwrap(), later()).await;
    // The root ends before its row follows: by whoever asked for that.
    let asked = Ending::by_broker(Cause::REQUESTED, later());
    apply(store, root.clone().begin_ending(asked, true).unwrap(), AuditAction::GrantRevoke, later()).await;
    for (grant, parent) in [(&child, &root), (&below_other, &other)] {
        let ended = read(store, grant.record.id).await;
        let ending = ending_of(&ended);
        assert_eq!((&ending.cause, ending.reason.as_deref()), (&Cause::REVOCATION, Some("the commit is compromised")));
        assert_eq!(ending.actor.as_deref(), Some("people:ada"));
        assert_eq!(ended.step_due_at(), Some(later()), "it is undone at once");
        let entries = audit_about(store, grant.record.id).await;
        let entry = &entries.last().unwrap().entry;
        assert_eq!((&entry.actor, entry.reason.as_deref()), (&super::revocations::operator(), Some("revocation")));
        let said = |name: &str| entry.detail.get(name).cloned();
        assert_eq!(said("revocation"), Some(id.to_string()));
        assert_eq!(said("reason").as_deref(), Some("the commit is compromised"));
        assert_eq!(said("parent"), Some(parent.record.id.to_string()));
    }
    assert_eq!(ending_of(&read(store, other.record.id).await).cause, Cause::PARENT_ENDED, "which it does not select");
    assert_eq!(follow(store, id, later()).await, 0, "none is left");
    let mut expected = vec![child.record.id, below_other.record.id];
    expected.sort_unstable();
    assert_eq!(store.revoked_grants(id).await.unwrap(), expected, "they are its own");
    assert_eq!(store.revocation_progress(id).await.unwrap().tally.reached(), 2);
}

/// A run that is to end ends with what it acts with, and a run of whoever it acts for with what is done for that one.
pub async fn whoever_acts_is_found_by_what_it_is_and_runs(store: &Arc<dyn Store>) {
    let agent = |run: &str, repository: &str| {
        let mut acting = Acting::of(&sample::identity("repo:acme/agents", "jti-of-agent"));
        acting.provenance.run = Some(run.to_owned());
        acting.provenance.repository = Some(repository.to_owned());
        ActorChain::default().extended(acting)
    };
    let with = |n: u64, run: &str, actors: ActorChain| {
        let mut opening = opening(store, n, NOW);
        opening.grant.record.holder.subject = "user:ada".to_owned();
        opening.grant.record.provenance.run = Some(run.to_owned());
        opening.grant.record.actors = actors;
        opening
    };
    let own = open(store, with(1, "7", ActorChain::default())).await;
    let acted = open(store, with(2, "8", agent("7", "acme/agents"))).await;
    let both = open(store, with(3, "7", agent("7", "acme/agents"))).await;
    let neither = open(store, with(4, "8", agent("9", "acme/agents"))).await;
    let mixed = open(store, with(5, "7", agent("9", "acme/agents"))).await;
    let derived = open(store, derived(store, 6, &acted)).await;
    let run = |run: &str| GrantFilter { run: Some(run.to_owned()), ..GrantFilter::default() };
    let ids = |grants: &[&Grant]| grants.iter().map(|grant| grant.record.id).collect::<Vec<_>>();

    let found = async |filter: &GrantFilter, limit: usize| {
        let (mut page, mut ids) = (PageRequest { cursor: None, limit }, Vec::new());
        loop {
            let found = store.grants(filter, &page).await.unwrap();
            ids.extend(found.items.iter().map(|grant| grant.record.id));
            page.cursor = found.next;
            if page.cursor.is_none() {
                return ids;
            }
        }
    };
    for limit in [1, 2, 500] {
        assert_eq!(found(&run("7"), limit).await, ids(&[&mixed, &both, &acted, &own]), "newest first, {limit} a page");
    }
    // One and the same party is of that repository and in that run.
    let one = GrantFilter { repository: Some("acme/agents".to_owned()), ..run("7") };
    assert_eq!(found(&one, 1).await, ids(&[&both, &acted]));
    let named = GrantFilter { subject: Some("repo:acme/agents".to_owned()), ..run("9") };
    assert_eq!(found(&named, 500).await, ids(&[&mixed, &neither]));

    let selector = Selector::of(Criteria { grants: one, ..Criteria::default() }).unwrap();
    super::quarantines::stop(store, 7, selector.clone()).await;
    for (n, actors, stopped) in [(20, agent("7", "acme/agents"), true), (21, agent("7", "acme/other"), false)] {
        let late = store.open(with(n, "7", actors)).await.unwrap();
        assert_eq!(matches!(late, OpenOutcome::Barred(_)), stopped, "{late:?}");
    }
    let id = begin(store, 1, selector, later()).await;
    let in_force = store.in_force();
    for (grant, ends) in [(&own, false), (&acted, true), (&both, true), (&neither, false), (&mixed, false)] {
        assert_eq!(in_force.is_live(grant, later()), !ends, "ahead of the rows");
        let indexes = grant.record.status_index..grant.record.status_index + 1;
        assert_eq!(store.ended_early(indexes).await.unwrap().unwrap().len(), usize::from(ends));
    }
    assert!(store.live_grant(derived.record.id, later()).await.unwrap().is_none());
    assert_eq!(follow(store, id, later()).await, 2, "exactly these");
    assert_eq!(ending_of(&read(store, acted.record.id).await).cause, Cause::REVOCATION);
    assert_eq!(ending_of(&read(store, derived.record.id).await).cause, Cause::PARENT_ENDED);
    assert_eq!(read(store, own.record.id).await.state_name(), StateName::Active);
}

/// Neither is consumed by an opening that the other is refused in.
pub async fn an_opening_for_another_consumes_both_proofs_or_none(store: &Arc<dyn Store>) {
    let with = |n: u64, subject: &str, acting: &str| {
        let mut opening = opening(store, n, NOW);
        opening.grant.record.actors = sample::actors(&["agent"]);
        opening.proof_use = Some(proof(subject, NOW));
        let decision = sample::decision(n + 500);
        opening.acting = Some(Acted { decision, proof_use: Some(proof(acting, NOW)) });
        opening
    };
    let first = with(1, "subject-1", "acting-1");
    let decision = first.acting.as_ref().unwrap().decision.clone();
    open(store, first).await;
    assert_eq!(store.decision(decision.id).await.unwrap(), Some(decision), "what let it act is recorded, too");
    let used = store.open(with(2, "subject-2", "acting-1")).await.unwrap();
    assert!(matches!(used, OpenOutcome::Replayed), "{used:?}");
    let used = store.open(with(3, "subject-1", "acting-2")).await.unwrap();
    assert!(matches!(used, OpenOutcome::Replayed), "{used:?}");
    open(store, with(4, "subject-2", "acting-2")).await;
    let same = store.open(with(5, "subject-3", "subject-3")).await.unwrap();
    assert!(matches!(same, OpenOutcome::Replayed), "one proof does not serve as both: {same:?}");
}

/// Whoever is stopped by name does not go on by acting for somebody else.
pub async fn a_quarantine_stops_whoever_acts_in_anothers_name(store: &Arc<dyn Store>) {
    let grants = GrantFilter { subject: Some("agent".to_owned()), ..GrantFilter::default() };
    let selector = Selector::of(Criteria { grants, ..Criteria::default() }).unwrap();
    let parent = open(store, opening(store, 1, NOW)).await;
    open(store, derived(store, 2, &parent)).await;
    super::quarantines::stop(store, 7, selector).await;
    open(store, opening(store, 3, NOW)).await;
    let stopped = store.open(derived(store, 4, &parent)).await.unwrap();
    assert!(matches!(stopped, OpenOutcome::Barred(_)), "{stopped:?}");
}

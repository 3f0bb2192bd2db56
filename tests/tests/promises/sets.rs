//! Commands over sets of grants, held against what an oracle that was written apart says that they are about: from its
//! answer on a revocation lets nothing of its set come to life, live longer or be told active, it ends that set and
//! nothing else, and a quarantine refuses what it stops and only that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hallpass_core::credential::Effect;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::grant::{Grant, StateName};
use hallpass_core::id::{GrantId, QuarantineId, RevocationId};
use hallpass_core::port::PageRequest;
use hallpass_core::quarantine::Quarantine;
use hallpass_core::request::GrantRequest;
use hallpass_core::revocation::Revocation;
use hallpass_core::selector::{Criteria, Selector};
use hallpass_core::service::inspect;
use hallpass_core::service::quarantine::{self, Quarantining};
use hallpass_core::service::revoke_set::{self, RevokeSet};
use hallpass_core::testing::Write;
use hallpass_core::time::{Clock as _, Timestamp, Ttl};
use proptest::prelude::*;

use crate::lab::Lab;

/// Who gives the commands: somebody who holds nothing.
const OPERATOR: &str = "user:ada";

/// Which grants a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Every one: as a quarantine, a halt.
    All,
    /// Those for one ticket.
    Ticket(u8),
    /// Those that are in this state when it is asked for.
    Being(StateName),
    /// Those that were opened before it is asked for.
    UntilNow,
}

impl Set {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let state = prop::sample::select(vec![StateName::Pending, StateName::Active]);
        prop_oneof![
            1 => Just(Self::All),
            4 => (0_u8..3).prop_map(Self::Ticket),
            1 => state.prop_map(Self::Being),
            1 => Just(Self::UntilNow),
        ]
    }

    /// One that can be about grants to come.
    pub(crate) fn lasting() -> impl Strategy<Value = Self> {
        prop_oneof![1 => Just(Self::All), 4 => (0_u8..3).prop_map(Self::Ticket)]
    }

    fn selector(self, now: Timestamp) -> Selector {
        let mut criteria = Criteria::default();
        match self {
            Self::All => return Selector::all(),
            Self::Ticket(number) => criteria.grants.ticket = Some(ticket(number)),
            Self::Being(state) => criteria.grants.states = vec![state],
            Self::UntilNow => criteria.grants.until = Some(now),
        }
        Selector::of(criteria).unwrap()
    }

    /// Whether a grant for this ticket, created at this instant, is among the set that was asked for at `asked_at`.
    fn is_about(self, of_ticket: Option<&str>, created_at: Timestamp, asked_at: Timestamp) -> bool {
        match self {
            Self::All | Self::Being(_) => true,
            Self::Ticket(number) => of_ticket == Some(&ticket(number)),
            Self::UntilNow => created_at < asked_at,
        }
    }

    fn wants(self, state: StateName) -> bool {
        match self {
            Self::Being(wanted) => state == wanted,
            _ => matches!(state, StateName::Pending | StateName::Active),
        }
    }
}

pub(crate) fn ticket(number: u8) -> String {
    format!("CHG-{number}")
}

/// A command as it was asked for. Its number in the reason finds it again in the store, also where no answer came.
#[derive(Clone, Copy, Debug)]
struct Asked {
    set: Set,
    at: Timestamp,
}

impl Asked {
    fn is_about(&self, grant: &Grant) -> bool {
        self.set.is_about(grant.record.ticket.as_deref(), grant.record.created_at, self.at)
    }
}

/// Commands so far, and the grants as they were after the operation before.
#[derive(Default)]
pub(crate) struct Sets {
    asked: Vec<Asked>,
    revocations: BTreeMap<RevocationId, Revocation>,
    quarantines: BTreeMap<QuarantineId, Quarantine>,
    grants: BTreeMap<GrantId, Grant>,
    /// What each revocation must end, and has not ended yet: what was there when it began.
    condemned: BTreeMap<RevocationId, BTreeSet<GrantId>>,
    /// Revocations that began within the operation at hand, before what it wrote.
    meanwhile: Arc<Mutex<Vec<Asked>>>,
    /// When the operation before was over.
    now: Option<Timestamp>,
}

impl Sets {
    /// Asks that a set ends, with a quarantine for so long where one is wanted.
    pub(crate) async fn revoke(&mut self, lab: &Lab, set: Set, quarantine: Option<Ttl>) {
        let now = lab.clock.now();
        let reason = self.ask(set, now);
        let until = quarantine.map(|length| now.plus(length));
        let quarantine = until.map(|until| Quarantining { selector: None, reason: None, until });
        let order = RevokeSet { selector: set.selector(now), reason: Some(reason), quarantine, idempotency: None };
        let answer = revoke_set::revoke_set(&lab.ports, &lab.proof(OPERATOR), &order, &lab.origin()).await;
        if let Ok(begun) = answer {
            let in_force = lab.ports.store.in_force();
            assert!(in_force.revocations.iter().any(|running| running.id == begun.revocation.id), "it does not hold");
        }
    }

    /// Has a set end in the middle of whatever writes next: after all was decided, right before it is written.
    pub(crate) fn revoke_before(&mut self, lab: &Lab, write: Write, set: Set) {
        let now = lab.clock.now();
        let reason = self.ask(set, now);
        let asked = reason.clone();
        let order = RevokeSet { selector: set.selector(now), reason: Some(asked), quarantine: None, idempotency: None };
        let (ports, proof, origin) = (lab.ports.clone(), lab.proof(OPERATOR), lab.origin());
        let begun = Arc::clone(&self.meanwhile);
        lab.store.meanwhile(write, move || {
            // The write waits here, so another thread does it.
            let holds = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                drop(runtime.block_on(revoke_set::revoke_set(&ports, &proof, &order, &origin)));
                ports.store.in_force().revocations.iter().any(|running| running.reason == reason)
            });
            if holds.join().unwrap() {
                begun.lock().unwrap().push(Asked { set, at: now });
            }
        });
    }

    /// Asks that nothing of a set is opened or renewed for so long.
    pub(crate) async fn quarantine(&mut self, lab: &Lab, set: Set, length: Ttl) {
        let now = lab.clock.now();
        let reason = Some(self.ask(set, now));
        let order = Quarantining { selector: Some(set.selector(now)), reason, until: now.plus(length) };
        let answer = quarantine::add(&lab.ports, &lab.proof(OPERATOR), &order, &lab.origin()).await;
        if let Ok(added) = answer {
            let in_force = lab.ports.store.in_force();
            assert!(in_force.quarantines.iter().any(|standing| standing.id == added.id), "it does not hold");
        }
    }

    /// Lifts the latest but `which` quarantines.
    pub(crate) async fn lift(&self, lab: &Lab, which: usize) {
        let Some(id) = self.quarantines.keys().rev().nth(which) else { return };
        if quarantine::lift(&lab.ports, &lab.proof(OPERATOR), *id, &lab.origin()).await.is_ok() {
            let in_force = lab.ports.store.in_force();
            assert!(in_force.quarantines.iter().all(|standing| standing.id != *id), "it is not lifted");
        }
    }

    fn ask(&mut self, set: Set, at: Timestamp) -> String {
        self.asked.push(Asked { set, at });
        format!("order {}", self.asked.len() - 1)
    }

    fn asked_as(&self, reason: &str) -> Asked {
        self.asked[reason.strip_prefix("order ").expect("an order of ours").parse::<usize>().unwrap()]
    }

    fn running(&self) -> impl Iterator<Item = (RevocationId, Asked)> {
        let running = self.revocations.values().filter(|revocation| revocation.completed.is_none());
        running.map(|revocation| (revocation.id, self.asked_as(&revocation.reason)))
    }

    fn standing(&self, now: Option<Timestamp>) -> impl Iterator<Item = Asked> {
        let standing = self
            .quarantines
            .values()
            .filter(move |standing| standing.lifted.is_none() && now.is_some_and(|now| now < standing.until));
        standing.map(|standing| self.asked_as(&standing.reason))
    }

    /// Holds the answer to opening against the commands that were in force.
    pub(crate) fn opened<T>(&self, lab: &Lab, request: &GrantRequest, answer: &Result<T, ServiceError>) {
        let now = lab.clock.now();
        let about = |asked: &Asked| asked.set.is_about(request.ticket.as_deref(), now, asked.at);
        let ends = |asked: &Asked| about(asked) && !(is_local(lab) && asked.set == Set::Being(StateName::Pending));
        self.hold(now, answer, ends, about, request);
    }

    /// Holds the answer to renewing against the commands that were in force.
    pub(crate) fn renewed(&self, lab: &Lab, id: GrantId, answer: &Result<Grant, ServiceError>) {
        let grant = &self.grants[&id];
        let about = |asked: &Asked| asked.is_about(grant);
        self.hold(lab.clock.now(), answer, |asked| about(asked) && asked.set.wants(grant.state_name()), about, grant);
    }

    fn hold<T>(
        &self,
        now: Timestamp,
        answer: &Result<T, ServiceError>,
        ends: impl Fn(&Asked) -> bool,
        about: impl Fn(&Asked) -> bool,
        what: impl std::fmt::Debug,
    ) {
        let meanwhile = self.meanwhile.lock().unwrap().clone();
        let ended = self.running().map(|(_, asked)| asked).chain(meanwhile).any(|asked| ends(&asked));
        // A quarantine may have ended while a backend took its time.
        let stopped = self.standing(self.now).any(|asked| about(&asked));
        let still_stopped = self.standing(Some(now)).any(|asked| about(&asked));
        match answer {
            Ok(_) => assert!(!ended && !still_stopped, "allowed, and a command stops it: {what:?}"),
            Err(error) if error.reason() == Reason::BeingRevoked => {
                assert!(ended, "refused, and nothing ends {what:?}")
            }
            Err(error) if error.reason() == Reason::Quarantined => {
                assert!(stopped, "refused, and nothing stops {what:?}")
            }
            Err(_) => {}
        }
    }

    /// The rows of running revocations follow, and nothing else changes.
    pub(crate) async fn follow(&self, lab: &Lab) {
        lab.follow().await;
        for grant in lab.all_grants().await {
            let Some(before) = self.grants.get(&grant.record.id).filter(|before| **before != grant) else { continue };
            let ended = self.running().any(|(_, asked)| asked.is_about(before) && asked.set.wants(before.state_name()));
            assert!(ended, "no revocation is about {before:?}, and it became {grant:?}");
        }
    }

    /// Holds everything against everything, after each operation.
    pub(crate) async fn check(&mut self, lab: &Lab) {
        let grants: BTreeMap<_, _> = lab.all_grants().await.into_iter().map(|grant| (grant.record.id, grant)).collect();
        let (revocations, quarantines) = self.stored(lab).await;
        self.only_go_forward(&revocations, &quarantines);
        let was_running: Vec<_> = self.running().collect();
        for (id, asked) in was_running {
            let unchanged = revocations[&id].completed.is_none();
            for grant in grants.values().filter(|grant| unchanged && asked.is_about(grant)) {
                stays_ended(lab, self.grants.get(&grant.record.id), grant, asked.set);
            }
            if !unchanged {
                self.has_ended_its_set(lab, id, asked, &grants).await;
            }
        }
        let begun: Vec<_> = revocations.keys().filter(|id| !self.revocations.contains_key(*id)).copied().collect();
        (self.revocations, self.quarantines, self.grants) = (revocations, quarantines, grants);
        for id in begun {
            let asked = self.asked_as(&self.revocations[&id].reason);
            let of_it = |grant: &&Grant| asked.is_about(grant) && asked.set.wants(grant.state_name());
            let ids = self.grants.values().filter(of_it).map(|grant| grant.record.id).collect();
            self.condemned.insert(id, ids);
        }
        self.meanwhile.lock().unwrap().clear();
        self.now = Some(lab.clock.now());
        self.are_told_right(lab).await;
    }

    async fn stored(&self, lab: &Lab) -> (BTreeMap<RevocationId, Revocation>, BTreeMap<QuarantineId, Quarantine>) {
        let page = PageRequest { cursor: None, limit: PageRequest::MAX_LIMIT };
        let revocations = lab.ports.store.revocations(None, &page).await.unwrap().items;
        let quarantines = lab.ports.store.quarantines(None, &page).await.unwrap().items;
        (
            revocations.into_iter().map(|revocation| (revocation.id, revocation)).collect(),
            quarantines.into_iter().map(|quarantine| (quarantine.id, quarantine)).collect(),
        )
    }

    fn only_go_forward(
        &self,
        revocations: &BTreeMap<RevocationId, Revocation>,
        quarantines: &BTreeMap<QuarantineId, Quarantine>,
    ) {
        for (id, before) in &self.revocations {
            let after = &revocations[id];
            let as_before = Revocation { completed: before.completed.clone(), ..after.clone() };
            assert_eq!(&as_before, before, "what was asked for has changed");
            assert!(before.completed.is_none() || before == after, "what was complete has changed");
        }
        for (id, before) in &self.quarantines {
            let after = &quarantines[id];
            assert_eq!(&Quarantine { lifted: before.lifted.clone(), ..after.clone() }, before);
            assert!(before.lifted.is_none() || before == after, "what was lifted has changed");
        }
    }

    /// It is complete: all that was there and is of its set has ended, and what it ended is of its set.
    async fn has_ended_its_set(&self, lab: &Lab, id: RevocationId, asked: Asked, grants: &BTreeMap<GrantId, Grant>) {
        for grant in self.condemned[&id].iter().map(|id| &grants[id]) {
            let lives = matches!(grant.state_name(), StateName::Pending | StateName::Active);
            assert!(!lives, "complete, and there is {grant:?}");
        }
        for ended in lab.ports.store.revoked_grants(id).await.unwrap() {
            let grant = &grants[&ended];
            assert!(asked.is_about(grant), "ended by another's revocation: {grant:?}");
            assert!(
                !matches!(grant.state_name(), StateName::Pending | StateName::Active),
                "said to be ended: {grant:?}"
            );
        }
    }

    /// A verifier that asks is told what is so: also before the rows have followed, and also of what no set is about.
    async fn are_told_right(&self, lab: &Lab) {
        let caller = inspect::caller(&lab.ports, &lab.proof(OPERATOR), &lab.origin()).await.unwrap();
        let now = lab.clock.now();
        for (id, grant) in &self.grants {
            let ends = self.running().any(|(_, asked)| asked.is_about(grant) && asked.set.wants(grant.state_name()));
            let told = caller.introspect(&lab.ports, *id).await.unwrap().is_some();
            assert_eq!(told, grant.is_live(now) && !ends, "being ended: {ends}; {grant:?}");
        }
    }

    /// In the end every revocation is complete and every quarantine over.
    pub(crate) async fn all_are_over(&mut self, lab: &Lab) {
        // One may have begun when nothing was left to end.
        lab.follow().await;
        self.check(lab).await;
        assert_eq!(self.running().count(), 0, "a revocation is never complete");
        lab.clock.advance(Ttl::from_hours(1));
        lab.confirm_clock();
        lab.sweep().await.unwrap();
        self.check(lab).await;
        assert!(self.quarantines.values().all(|quarantine| quarantine.lifted.is_some()), "one has no end");
    }
}

/// While a revocation runs, what it is about neither comes to life nor lives longer.
fn stays_ended(lab: &Lab, before: Option<&Grant>, after: &Grant, set: Set) {
    let active = after.state_name() == StateName::Active;
    let Some(before) = before else {
        let was_never_wanted = set == Set::Being(StateName::Pending) && is_local(lab);
        let opened = !was_never_wanted && (active || set.wants(after.state_name()));
        assert!(!opened, "opened, and it is being revoked: {after:?}");
        return;
    };
    if active && (set.wants(before.state_name()) || set.wants(StateName::Active)) {
        assert_eq!(before.state_name(), StateName::Active, "activated, and it is being revoked: {after:?}");
    }
    if active && set.wants(StateName::Active) {
        let (was, is) = ((before.end_at, before.expires_at), (after.end_at, after.expires_at));
        assert_eq!(was, is, "renewed, and it is being revoked: {after:?}");
    }
}

/// What is minted by the broker itself is never pending.
fn is_local(lab: &Lab) -> bool {
    lab.backend.nature().effect == Effect::Local
}

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::MockClock;
use crate::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use crate::id::{GrantId, SpareId};
use crate::port::{
    Belongs, CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, ItemKind,
    Prepared, RevokeError, SpareRule, Undone,
};
use crate::role::Role;
use crate::secret::{Secret, SecretBytes};
use crate::time::{Clock, Timestamp, Ttl};

/// A backend that fails as it is told to, and keeps a journal of what really exists there: the ground truth that the
/// broker's own records are held against.
#[derive(Debug)]
pub struct FaultingBackend {
    clock: Arc<MockClock>,
    nature: Mutex<Nature>,
    faults: Mutex<Faults>,
    journal: Mutex<Vec<Credential>>,
    parents: Mutex<Vec<Parent>>,
    held: Semaphore,
}

/// What credentials are made under. Its end is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Whose it is.
    pub belongs: Belongs,
    /// What undoes it and all that is under it.
    pub undo: String,
    /// When the backend ends it by itself.
    pub expires_at: Timestamp,
    /// Whether it was undone.
    pub is_over: bool,
}

/// What kind of backend it is.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    /// Its kind, as in configuration.
    pub kind: &'static str,
    /// How its credentials can be stopped.
    pub class: RevocationClass,
    /// Whether minting leaves something behind.
    pub effect: Effect,
    /// The shortest life it can give.
    pub min_life: Ttl,
    /// The longest life it can give.
    pub max_life: Option<Ttl>,
    /// Whether it can extend a credential.
    pub extends: bool,
    /// Whether only its answer says how to undo a credential: the planned handle finds nothing, and a hard backend says so.
    pub answers_handle: bool,
    /// Whether a credential is made under something that must be there before.
    pub prepares: bool,
    /// Whether what is made late under that, when it was undone, is found by nobody.
    pub loses_what_is_late: bool,
    /// How many of that it wants to be kept.
    pub spares: Option<SpareRule>,
    /// How long a fence takes until every verifier has heard of it.
    pub fences_within: Ttl,
}

impl Nature {
    /// A remote backend that kills at once, extends, and has no least life to speak of.
    #[must_use]
    pub fn hard() -> Self {
        Self {
            kind: "faulting",
            class: RevocationClass::Hard,
            effect: Effect::Remote,
            min_life: Ttl::from_secs(1),
            max_life: None,
            extends: true,
            answers_handle: false,
            prepares: false,
            loses_what_is_late: false,
            spares: None,
            fences_within: Ttl::ZERO,
        }
    }

    /// A remote backend whose verifiers consult a rule.
    #[must_use]
    pub fn fenced() -> Self {
        Self { class: RevocationClass::Fenced, extends: false, ..Self::hard() }
    }

    /// A remote backend whose credentials nothing ends but time.
    #[must_use]
    pub fn expiry_only() -> Self {
        Self { class: RevocationClass::ExpiryOnly, extends: false, ..Self::hard() }
    }

    /// A backend that mints by a signature.
    #[must_use]
    pub fn local() -> Self {
        Self { effect: Effect::Local, ..Self::fenced() }
    }
}

/// A call to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `plan`.
    Plan,
    /// `prepare`.
    Prepare,
    /// `make_spare`.
    MakeSpare,
    /// `issue`.
    Issue,
    /// `extend`.
    Extend,
    /// `revoke`.
    Revoke,
}

/// How one call goes wrong. Nothing said: it goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused before any effect.
    Refused,
    /// Not reached.
    Unavailable,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Not done, and the answer is lost.
    RequestLost,
    /// Not done, and answered with these words; of `revoke` only.
    Says(&'static str),
    /// Done after this long by the mock clock, and answered.
    Slow(Ttl),
    /// Never answered: the caller's deadline must end it. This long passes by the mock clock until then; what was asked
    /// for happens after `done_after`, whether or not somebody still waits.
    Silent {
        /// Time that passes until the caller gives up.
        waits: Ttl,
        /// When the effect happens, if it does.
        done_after: Option<Ttl>,
    },
    /// Done and answered when the test says so: see [`FaultingBackend::release`].
    Held,
    /// Answered with a life that is longer than was asked for by this much.
    Overlong(Ttl),
}

#[derive(Debug, Default)]
struct Faults {
    next: HashMap<Call, VecDeque<Option<Fault>>>,
    always: HashMap<Call, Fault>,
    calls: HashMap<Call, usize>,
}

/// One credential as it is at the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Grant that it was made for.
    pub grant: GrantId,
    /// The secret, to compare with what a caller got and to search for where it must not be.
    pub secret: String,
    /// What undoes it.
    pub undo: String,
    /// When it begins to work.
    pub created_at: Timestamp,
    /// When the backend ends it by itself.
    pub expires_at: Timestamp,
    /// When it was killed.
    pub ended_at: Option<Timestamp>,
    /// Since when verifiers refuse it.
    pub fenced_at: Option<Timestamp>,
}

impl Credential {
    /// Whether it works at `now`.
    #[must_use]
    pub fn works_at(&self, now: Timestamp) -> bool {
        let over = |at: Option<Timestamp>| at.is_some_and(|at| now >= at);
        self.exists_at(now) && now < self.expires_at && !over(self.ended_at) && !over(self.fenced_at)
    }

    fn exists_at(&self, now: Timestamp) -> bool {
        now >= self.created_at
    }
}

impl FaultingBackend {
    /// A backend of this nature.
    #[must_use]
    pub fn new(clock: Arc<MockClock>, nature: Nature) -> Self {
        Self {
            clock,
            nature: Mutex::new(nature),
            faults: Mutex::default(),
            journal: Mutex::default(),
            parents: Mutex::default(),
            held: Semaphore::new(0),
        }
    }

    /// Its nature.
    #[must_use]
    pub fn nature(&self) -> Nature {
        *lock(&self.nature)
    }

    /// The next calls go like this; `None` goes well.
    pub fn next(&self, call: Call, outcomes: impl IntoIterator<Item = Option<Fault>>) {
        lock(&self.faults).next.entry(call).or_default().extend(outcomes);
    }

    /// Every call for which nothing else was said goes like this, until told otherwise.
    pub fn always(&self, call: Call, outcome: Option<Fault>) {
        let mut faults = lock(&self.faults);
        match outcome {
            Some(fault) => faults.always.insert(call, fault),
            None => faults.always.remove(&call),
        };
    }

    /// How often it was called.
    #[must_use]
    pub fn calls(&self, call: Call) -> usize {
        lock(&self.faults).calls.get(&call).copied().unwrap_or(0)
    }

    /// Lets one held call go on.
    pub fn release(&self) {
        self.held.add_permits(1);
    }

    /// Everything that was ever made.
    #[must_use]
    pub fn journal(&self) -> Vec<Credential> {
        lock(&self.journal).clone()
    }

    /// Every parent that is alive now.
    #[must_use]
    pub fn parents(&self) -> Vec<Parent> {
        let now = self.clock.now();
        lock(&self.parents).iter().filter(|parent| !parent.is_over && now < parent.expires_at).cloned().collect()
    }

    /// Changes its nature.
    pub fn change(&self, change: impl FnOnce(&mut Nature)) {
        change(&mut lock(&self.nature));
    }

    /// Something that is there though no call of the broker's made it.
    pub fn plant(&self, belongs: Belongs, name: &str, expires_at: Timestamp) {
        self.make_parent(belongs, name, expires_at);
    }

    /// Makes what credentials are made under.
    fn make_parent(&self, belongs: Belongs, name: &str, expires_at: Timestamp) -> Prepared {
        let undo = format!("parent:{name}");
        lock(&self.parents).push(Parent { belongs, undo: undo.clone(), expires_at, is_over: false });
        Prepared { handle: Handle(SecretBytes::new(undo.into_bytes())), expires_at }
    }

    /// What works now.
    #[must_use]
    pub fn working(&self) -> Vec<Credential> {
        let now = self.clock.now();
        self.journal().into_iter().filter(|credential| credential.works_at(now)).collect()
    }

    fn fault(&self, call: Call) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        *faults.calls.entry(call).or_default() += 1;
        match faults.next.get_mut(&call).and_then(VecDeque::pop_front) {
            Some(outcome) => outcome,
            None => faults.always.get(&call).copied(),
        }
    }

    /// Waits as the fault says. Answers when the effect happens, if it does.
    async fn arrives(&self, fault: Option<Fault>) -> Option<Timestamp> {
        match fault {
            Some(Fault::Refused | Fault::Unavailable | Fault::RequestLost | Fault::Says(_)) => None,
            Some(Fault::Slow(ttl)) => {
                self.clock.advance(ttl);
                Some(self.clock.now())
            }
            Some(Fault::Silent { waits, done_after }) => {
                let at = done_after.map(|after| self.clock.now().plus(after));
                self.clock.advance(waits);
                at
            }
            Some(Fault::Held) => {
                self.held.acquire().await.unwrap().forget();
                Some(self.clock.now())
            }
            None | Some(Fault::AnswerLost | Fault::Overlong(_)) => Some(self.clock.now()),
        }
    }

    fn mint(&self, order: &IssueOrder, under: &str, at: Timestamp, too_long_by: Ttl) -> Result<Credential, IssueError> {
        let nature = self.nature();
        if nature.prepares && self.parents().iter().all(|parent| parent.undo != under) {
            return Err(IssueError::refused("what it is to be made under is gone"));
        }
        let left = order.expires_at.since(at);
        if nature.class != RevocationClass::Hard && left < nature.min_life {
            return Err(IssueError::refused("too little time is left"));
        }
        let mut journal = lock(&self.journal);
        let undo = match nature {
            Nature { answers_handle: true, .. } => format!("answered:{}", order.grant),
            Nature { prepares: true, .. } => under.to_owned(),
            _ => planned(order.grant),
        };
        let credential = Credential {
            grant: order.grant,
            secret: format!("credential-{}-{}", journal.len(), order.grant),
            undo,
            created_at: at,
            expires_at: at.plus(left.max(nature.min_life)).plus(too_long_by),
            ended_at: None,
            fenced_at: None,
        };
        journal.push(credential.clone());
        Ok(credential)
    }

    /// Undoes what exists at `at`. What is made later is not found.
    fn undo(&self, handle: &str, at: Timestamp) -> Undone {
        let Nature { class, fences_within, .. } = self.nature();
        let mut fenced_at = at;
        let was_over = lock(&self.parents).iter().any(|parent| parent.undo == handle && parent.is_over);
        if was_over && self.nature().loses_what_is_late {
            return Undone::Gone;
        }
        for parent in lock(&self.parents).iter_mut() {
            let by_its_grant = matches!(parent.belongs, Belongs::ToGrant(id) if planned(id) == handle);
            parent.is_over |= parent.undo == handle || by_its_grant;
        }
        for credential in lock(&self.journal).iter_mut().filter(|one| one.undo == handle && one.exists_at(at)) {
            let (end, at) = match class {
                RevocationClass::Hard => (&mut credential.ended_at, at),
                RevocationClass::Fenced => (&mut credential.fenced_at, at.plus(fences_within)),
                RevocationClass::ExpiryOnly => continue,
            };
            let at = end.map_or(at, |before| before.min(at));
            *end = Some(at);
            fenced_at = fenced_at.max(at);
        }
        match class {
            RevocationClass::Hard if self.nature().answers_handle && handle.starts_with("undo:") => Undone::OnlyTime,
            RevocationClass::Hard => Undone::Gone,
            RevocationClass::Fenced if fenced_at > at => Undone::Fencing { until: fenced_at },
            RevocationClass::Fenced => Undone::Fenced,
            RevocationClass::ExpiryOnly => Undone::OnlyTime,
        }
    }

    fn prolong(&self, handle: &str, at: Timestamp, until: Timestamp) -> Result<Timestamp, ExtendError> {
        let mut journal = lock(&self.journal);
        let found = journal.iter_mut().find(|one| one.undo == handle && one.works_at(at));
        let credential = found.ok_or_else(|| ExtendError::Refused("no such credential".to_owned()))?;
        credential.expires_at = credential.expires_at.max(until);
        Ok(credential.expires_at)
    }
}

fn planned(grant: GrantId) -> String {
    format!("undo:{grant}")
}

fn handle_text(handle: &Handle) -> String {
    String::from_utf8_lossy(handle.0.expose()).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl CredentialBackend for FaultingBackend {
    fn kind(&self) -> &'static str {
        self.nature().kind
    }

    fn effect(&self) -> Effect {
        self.nature().effect
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        self.nature().class
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        self.nature().min_life
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        self.nature().max_life
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        true
    }

    fn validate(&self, _role: &Role) -> Result<(), InvalidParameters> {
        Ok(())
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        match self.fault(Call::Plan) {
            Some(Fault::Refused) => Err(IssueError::refused("not like this")),
            Some(_) => Err(IssueError::Unavailable { internal: "no plan can be made".to_owned() }),
            None => Ok(Handle(SecretBytes::new(planned(order.grant).into_bytes()))),
        }
    }

    async fn prepare(&self, order: &IssueOrder, _planned: &Handle) -> Result<Option<Handle>, IssueError> {
        if !self.nature().prepares {
            return Ok(None);
        }
        let fault = self.fault(Call::Prepare);
        let arrives = self.arrives(fault).await;
        let make = |_| self.make_parent(Belongs::ToGrant(order.grant), &order.grant.to_string(), order.expires_at);
        match (fault, arrives.map(make)) {
            (Some(Fault::Refused), _) => {
                Err(IssueError::refused("the backend says no").because("account 4711 may not"))
            }
            (Some(Fault::Unavailable), _) => Err(IssueError::Unavailable { internal: "not reached".to_owned() }),
            (Some(Fault::Silent { .. }), _) => std::future::pending().await,
            (Some(Fault::AnswerLost), _) | (_, None) => {
                Err(IssueError::OutcomeUnknown { internal: "the connection broke".to_owned() })
            }
            (_, Some(made)) => Ok(Some(made.handle)),
        }
    }

    fn undoes_what_is_late(&self, handle: &Handle) -> bool {
        !self.nature().loses_what_is_late || !handle_text(handle).starts_with("parent:")
    }

    fn spares(&self, _role: &Role) -> Option<SpareRule> {
        self.nature().spares
    }

    async fn make_spare(&self, _role: &Role, id: SpareId, expires_at: Timestamp) -> Result<Prepared, IssueError> {
        match self.fault(Call::MakeSpare) {
            None => Ok(self.make_parent(Belongs::ToSpare(id), &id.to_string(), expires_at)),
            Some(Fault::AnswerLost) => {
                self.make_parent(Belongs::ToSpare(id), &id.to_string(), expires_at);
                Err(IssueError::OutcomeUnknown { internal: "the connection broke".to_owned() })
            }
            Some(_) => Err(IssueError::Unavailable { internal: "not reached".to_owned() }),
        }
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let fault = self.fault(Call::Issue);
        let arrives = self.arrives(fault).await;
        let too_long_by = if let Some(Fault::Overlong(ttl)) = fault { ttl } else { Ttl::ZERO };
        let made = arrives.map(|at| self.mint(order, &handle_text(handle), at, too_long_by)).transpose()?;
        match (fault, made) {
            (Some(Fault::Refused), _) => {
                Err(IssueError::refused("the backend says no").because("account 4711 may not"))
            }
            (Some(Fault::Unavailable), _) => Err(IssueError::Unavailable { internal: "not reached".to_owned() }),
            (Some(Fault::Silent { .. }), _) => std::future::pending().await,
            (Some(Fault::AnswerLost | Fault::RequestLost), _) | (_, None) => {
                Err(IssueError::OutcomeUnknown { internal: "the connection broke".to_owned() })
            }
            (_, Some(made)) => Ok(IssuedCredential {
                handle: self.nature().answers_handle.then(|| Handle(SecretBytes::new(made.undo.clone().into_bytes()))),
                expires_at: made.expires_at,
                signed_by: None,
                material: CredentialMaterial::Database {
                    username: order.subject.clone(),
                    password: Secret::new(made.secret),
                    host: "db.test".to_owned(),
                    port: 5432,
                    database: "app".to_owned(),
                },
            }),
        }
    }

    async fn extend(&self, handle: &Handle, until: Timestamp) -> Result<Timestamp, ExtendError> {
        let fault = self.fault(Call::Extend);
        if !self.nature().extends {
            return Err(ExtendError::Unsupported);
        }
        let until = if let Some(Fault::Overlong(ttl)) = fault { until.plus(ttl) } else { until };
        let arrives = self.arrives(fault).await;
        let extended = arrives.map(|at| self.prolong(&handle_text(handle), at, until)).transpose()?;
        match (fault, extended) {
            (Some(Fault::Refused), _) => Err(ExtendError::Refused("the backend says no".to_owned())),
            (Some(Fault::Silent { .. }), _) => std::future::pending().await,
            (Some(Fault::AnswerLost), _) | (_, None) => {
                Err(ExtendError::Unavailable("the connection broke".to_owned()))
            }
            (_, Some(until)) => Ok(until),
        }
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let fault = self.fault(Call::Revoke);
        let arrives = self.arrives(fault).await;
        let undone = arrives.map(|at| self.undo(&handle_text(handle), at));
        match (fault, undone) {
            (Some(Fault::Says(words)), _) => Err(RevokeError { internal: words.to_owned() }),
            (Some(Fault::Silent { .. }), _) => std::future::pending().await,
            (Some(Fault::AnswerLost), _) | (_, None) => {
                Err(RevokeError { internal: "the connection broke".to_owned() })
            }
            (_, Some(undone)) => Ok(undone),
        }
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let item = |credential: Credential| InventoryItem {
            belongs: Belongs::ToGrant(credential.grant),
            kind: ItemKind::Credential,
            handle: Some(Handle(SecretBytes::new(credential.undo.clone().into_bytes()))),
            name: credential.undo,
        };
        // What is made under a parent ends with it, and is told by it.
        let credentials = self.working().into_iter().filter(|credential| !credential.undo.starts_with("parent:"));
        let parent = |parent: Parent| InventoryItem {
            belongs: parent.belongs,
            kind: ItemKind::Credential,
            handle: Some(Handle(SecretBytes::new(parent.undo.clone().into_bytes()))),
            name: parent.undo,
        };
        Ok(credentials.map(item).chain(self.parents().into_iter().map(parent)).collect())
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::Full
    }
}

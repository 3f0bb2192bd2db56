use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::sample::{self, NOW};
use super::verifier::received;
use super::{
    FaultingBackend, FaultingStore, FixedGovernance, FixedReader, FixedVerifier, MockClock, Nature, PlainStatements,
    ScriptedPolicy, SeededEntropy, TestSigner,
};
use crate::audit::CheckpointSigner;
use crate::catalog::{Catalog, Revision};
use crate::error::ServiceError;
use crate::grant::Grant;
use crate::id::{BackendName, GrantId, RequestId};
use crate::identity::{Proof, VerifiedProof};
use crate::port::{CredentialBackend, IdentityVerifier, NoAttestors, PolicyEngine, Sealer, Share, Store, StoreError};
use crate::request::{GrantRequest, Origin};
use crate::role::Role;
use crate::service::open::Opened;
use crate::service::{Evidence, Limits, Ports, RefusalBudget, open};
use crate::time::{Clock, ClockWatch, Ttl};
use crate::work::{revocations, step, sweep};

/// A broker without transport whose every part a test owns. It knows the owner `payments`, the issuer `ci` and the
/// role [`World::ROLE`] on the backend `tokens`.
pub struct World {
    /// Its clock.
    pub clock: Arc<MockClock>,
    /// Its randomness.
    pub entropy: Arc<SeededEntropy>,
    /// Its store, which a test can make fail.
    pub store: Arc<FaultingStore>,
    /// Its only backend.
    pub backend: Arc<FaultingBackend>,
    /// Its policy.
    pub policy: Arc<ScriptedPolicy>,
    /// Its only issuer.
    pub verifier: Arc<FixedVerifier>,
    /// Its configuration.
    pub governance: Arc<FixedGovernance>,
    /// All of it, for the use-cases.
    pub ports: Ports,
    watch: Mutex<ClockWatch>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.clock.now()).finish_non_exhaustive()
    }
}

impl World {
    /// The role that exists from the start: ten minutes by default, one hour at most.
    pub const ROLE: &'static str = "payments/prod/deploy";

    /// How its audit log calls itself.
    pub const ORIGIN: &'static str = "hallpass.example/audit";

    /// A world over `store`, whose clock is `clock`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, sealer: Arc<dyn Sealer>, clock: Arc<MockClock>, nature: Nature) -> Self {
        let backend = Arc::new(FaultingBackend::new(Arc::clone(&clock), nature));
        let policy = Arc::new(ScriptedPolicy::new('a'));
        let verifier = Arc::new(FixedVerifier::new("ci"));
        let (role, owner) = (sample::role(Self::ROLE), sample::owner());
        let governance = Arc::new(FixedGovernance::new(Revision {
            id: sample::revision('a'),
            catalog: Catalog {
                roles: BTreeMap::from([(role.name.clone(), Arc::new(role))]),
                owners: BTreeMap::from([(owner.name.clone(), Arc::new(owner))]),
                ..Catalog::default()
            },
            policy: Arc::clone(&policy) as Arc<dyn PolicyEngine>,
            verifiers: vec![Arc::clone(&verifier) as Arc<dyn IdentityVerifier>],
            attestors: Arc::new(NoAttestors),
            backends: BTreeMap::from([(
                BackendName::new("tokens").unwrap(),
                Arc::clone(&backend) as Arc<dyn CredentialBackend>,
            )]),
        }));
        let entropy = Arc::new(SeededEntropy::new(7));
        let store = Arc::new(FaultingStore::new(store));
        let ports = Ports {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&entropy) as Arc<dyn crate::entropy::Entropy>,
            store: Arc::clone(&store) as Arc<dyn Store>,
            governance: Arc::clone(&governance) as Arc<dyn crate::port::Governance>,
            reader: Arc::new(FixedReader),
            sealer,
            refusals: Arc::new(RefusalBudget::new(10, 120)),
            evidence: Arc::new(Evidence {
                checkpoints: CheckpointSigner::new(Self::ORIGIN, Arc::new(TestSigner::new(1))).unwrap(),
                anchor: None,
                exports: Vec::new(),
                turn: Arc::default(),
            }),
            rates: Arc::default(),
            statements: Arc::new(PlainStatements),
            nudge: Arc::new(Notify::new()),
            spares: Arc::default(),
            possessions: Arc::default(),
            revocations: Arc::new(Notify::new()),
            limits: Limits::default(),
        };
        let watch = Mutex::new(ClockWatch::new(clock.as_ref()));
        Self { clock, entropy, store, backend, policy, verifier, governance, ports, watch }
    }

    /// The broker restarts over the same store, opened again by `open` after it was closed. Answers how many grants wait
    /// for a sign of life from then on.
    pub async fn restart(&self, open: impl FnOnce() -> Arc<dyn Store>) -> usize {
        self.store.reopen(open);
        self.confirm_clock();
        self.ports.store.resume(self.clock.now()).await.unwrap()
    }

    /// Edits the role [`World::ROLE`].
    pub fn edit_role(&self, edit: impl FnOnce(&mut Role)) {
        self.governance.edit(|revision| {
            let role = revision.catalog.roles.values_mut().find(|role| role.name.as_str() == Self::ROLE).unwrap();
            edit(Arc::make_mut(role));
        });
    }

    /// A fresh proof of `subject`, issued now and valid for five minutes, with a `jti` of its own.
    #[must_use]
    pub fn proof(&self, subject: &str) -> Proof {
        self.proof_with(subject, |_| ())
    }

    /// A fresh proof of `subject`, edited before it is signed.
    #[must_use]
    pub fn proof_with(&self, subject: &str, edit: impl FnOnce(&mut VerifiedProof)) -> Proof {
        let now = self.clock.now();
        let mut proof = sample::proof(subject, &self.ports.fresh_id::<RequestId>().unwrap().to_string());
        proof.issued_at = Some(now);
        proof.not_before = Some(now);
        proof.expires_at = Some(now.plus(Ttl::from_mins(5)));
        edit(&mut proof);
        received(&self.verifier.sign(proof))
    }

    /// A request for [`World::ROLE`].
    #[must_use]
    pub fn request(&self) -> GrantRequest {
        GrantRequest {
            role: Self::ROLE.to_owned(),
            purpose: Some("deploy 4f2c to prod".to_owned()),
            ttl: None,
            ticket: None,
            task: None,
            scope: Vec::new(),
            csr: None,
            heartbeat: None,
            replaces: None,
            attestations: Vec::new(),
            idempotency: None,
            single_token: false,
        }
    }

    /// Where requests come from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { request_id: sample::id(1), source: Some(std::net::IpAddr::from([192, 0, 2, 1])) }
    }

    /// Opens a grant for `repo:acme/app` with a fresh proof.
    ///
    /// # Errors
    /// As [`open::open`].
    pub async fn open(&self, request: &GrantRequest) -> Result<Opened, ServiceError> {
        open::open(&self.ports, &self.proof(Self::SUBJECT), request, &self.origin()).await
    }

    /// Who opens grants here.
    pub const SUBJECT: &'static str = "repo:acme/app";

    /// The grant as it is stored.
    pub async fn grant(&self, id: GrantId) -> Grant {
        self.ports.store.grant(id).await.unwrap().unwrap()
    }

    /// One tick of the worker that ends grants.
    ///
    /// # Errors
    /// As [`step::tick`].
    pub async fn step(&self) -> Result<step::Ticked, StoreError> {
        step::tick(&self.ports, &self.watch, &Share::All).await
    }

    /// One tick of the worker that has ends begin.
    ///
    /// # Errors
    /// As [`step::tick`].
    pub async fn begin(&self) -> Result<step::Ticked, StoreError> {
        step::tick(&self.ports, &self.watch, &Share::NotEnding).await
    }

    /// One tick of the sweep.
    ///
    /// # Errors
    /// As [`sweep::tick`].
    pub async fn sweep(&self) -> Result<sweep::Swept, StoreError> {
        sweep::tick(&self.ports, &self.watch).await
    }

    /// One tick of the worker that follows revocations.
    pub async fn follow(&self) -> revocations::Ticked {
        revocations::tick(&self.ports).await
    }

    /// An operator says that the wall clock is right.
    pub fn confirm_clock(&self) {
        self.watch.lock().unwrap().confirm(self.clock.as_ref());
    }

    /// Ticks until nothing is due, moving the clock by a minute between the rounds, for a day at most.
    pub async fn settle(&self) {
        for _ in 0..1_440 {
            let followed = self.follow().await;
            let stepped = self.step().await.unwrap();
            let swept = self.sweep().await.unwrap();
            if followed.ended == 0 && stepped.taken == 0 && swept.expired == 0 && !self.anything_unfinished().await {
                return;
            }
            if stepped.stepped == 0 {
                self.clock.advance(Ttl::from_mins(1));
            }
        }
        panic!("after a day something is still unfinished");
    }

    async fn anything_unfinished(&self) -> bool {
        self.all_grants().await.iter().any(|grant| !grant.state_name().is_final())
    }

    /// Every grant there is, up to five hundred.
    pub async fn all_grants(&self) -> Vec<Grant> {
        let page = crate::port::PageRequest { cursor: None, limit: 500 };
        self.ports.store.grants(&crate::port::GrantFilter::default(), &page).await.unwrap().items
    }

    /// The instant at which the world began.
    pub const BEGAN: crate::time::Timestamp = NOW;
}

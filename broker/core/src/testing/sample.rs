//! Sample data that is valid, so that a test says only what it is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attestation::{Attested, Person, Reviewed, Said, Statement, Vouched};
use crate::catalog::Catalog;
use crate::credential::{Handle, IssueOrder, RevocationClass};
use crate::delegation::{Acting, ActorChain};
use crate::grant::{DecisionSummary, Grant, GrantRecord, GrantState, Holder};
use crate::id::{
    AttestorName, BackendName, DecisionId, GrantId, IssuerName, OwnerName, PolicyId, RevisionId, RoleName,
};
use crate::identity::{AcceptanceRules, PrincipalKind, ProofForm, Shown, VerifiedIdentity, VerifiedProof};
use crate::owner::{Member, Owner, OwnerSnapshot};
use crate::policy::{
    Action, Decision, Obligations, Outcome, PolicyQuery, Principal, QueryContext, Resource, RoleFacts, Terms,
    TermsInput, Verdict,
};
use crate::provenance::Provenance;
use crate::role::{PurposeRule, Role, RoleState, TtlRule};
use crate::secret::SecretBytes;
use crate::time::{Timestamp, Ttl};

/// 2026-01-01T00:00:00Z: the instant at which sample time stands.
pub const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

/// The `n`-th id of a kind.
#[must_use]
pub fn id<I: From<uuid::Uuid>>(n: u64) -> I {
    let mut random = [0_u8; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    crate::id::fresh_uuid(NOW, random).into()
}

/// A revision id made of one hexadecimal digit.
#[must_use]
pub fn revision(digit: char) -> RevisionId {
    RevisionId::new(digit.to_string().repeat(64)).unwrap()
}

/// An active role of owner `payments` on backend `tokens`: 10 minutes by default, 1 hour at most.
#[must_use]
pub fn role(name: &str) -> Role {
    Role {
        name: RoleName::new(name).unwrap(),
        digest: "d".repeat(64),
        owner: OwnerName::new("payments").unwrap(),
        description: "deploys the payments service".to_owned(),
        backend: BackendName::new("tokens").unwrap(),
        environment: None,
        ttl: TtlRule { default: Ttl::from_mins(10), max: Ttl::from_hours(1) },
        purpose: PurposeRule::default(),
        review_every: None,
        review_at: None,
        revocation_floor: None,
        max_continuous: None,
        max_live: None,
        state: RoleState::Active,
        stage: None,
        tier: None,
        target: None,
        parameters: serde_json::json!({"audience": "https://api.example"}),
    }
}

/// The owner `payments`, with one contact and one member.
#[must_use]
pub fn owner() -> Owner {
    Owner {
        name: OwnerName::new("payments").unwrap(),
        contacts: vec!["payments@example.com".to_owned()],
        members: vec![Member {
            issuer: IssuerName::new("ci").unwrap(),
            subject: "user:ada".to_owned(),
            accounts: vec!["github:1".to_owned()],
        }],
        active: true,
        successor: None,
        verified_at: None,
    }
}

/// Settings of an issuer whose proofs are for single use and live for 10 minutes at most.
#[must_use]
pub fn rules() -> AcceptanceRules {
    AcceptanceRules {
        audiences: vec!["https://broker.test".to_owned()],
        leeway: Ttl::from_secs(5),
        max_age: None,
        max_lifetime: Ttl::from_hours(1),
        single_use: true,
        bounds_ttl: false,
    }
}

/// A proof that issuer `ci` signed at [`NOW`] for `subject`, valid for five minutes.
#[must_use]
pub fn proof(subject: &str, jti: &str) -> VerifiedProof {
    VerifiedProof {
        form: ProofForm::Token,
        issuer: IssuerName::new("ci").unwrap(),
        issuer_kind: "oidc".into(),
        principal: PrincipalKind::Workload,
        subject: subject.to_owned(),
        audiences: vec!["https://broker.test".to_owned()],
        expires_at: Some(NOW.plus(Ttl::from_mins(5))),
        not_before: Some(NOW),
        issued_at: Some(NOW),
        proof_id: Some(jti.to_owned()),
        key_id: Some("key-1".to_owned()),
        binding_key: None,
        attributes: BTreeMap::new(),
        provenance: provenance(),
        grant: None,
        may_act: None,
        rules: rules(),
    }
}

/// `subject` of issuer `ci`, verified at [`NOW`].
#[must_use]
pub fn identity(subject: &str, jti: &str) -> VerifiedIdentity {
    VerifiedIdentity::accept(proof(subject, jti), Shown::default(), None, NOW).unwrap()
}

/// These act, the first for the second and so on.
#[must_use]
pub fn actors(subjects: &[&str]) -> ActorChain {
    let outwards = subjects.iter().rev().map(|subject| identity(subject, &format!("jti-of-{subject}")));
    outwards.fold(ActorChain::default(), |chain, acting| chain.extended(Acting::of(&acting)))
}

/// What a review and a plan of the same change say together.
#[must_use]
pub fn attested() -> Attested {
    let person = |id: &str| Person::Account(format!("github:{id}"));
    let plan_digest = Some(format!("sha256:{}", "5".repeat(64)));
    let statement = |digit: &str, attestor: &str, said: Said| Statement {
        digest: format!("sha256:{}", digit.repeat(64)),
        attestor: AttestorName::new(attestor).unwrap(),
        at: Some(NOW),
        said,
    };
    let reviewed = Reviewed {
        commit: provenance().commit,
        author: Some(person("1")),
        approvers: vec![person("2")],
        plan_digest: plan_digest.clone(),
    };
    let planned = Reviewed { plan_digest, ..Reviewed::default() };
    let statements = [statement("a", "reviews", Said::Review(reviewed)), statement("b", "plans", Said::Plan(planned))];
    let vouched =
        statements.map(|statement| Vouched { statement, accounts_of: [("github".to_owned(), Vec::new())].into() });
    Attested::weigh(&vouched, &[], &Catalog::default()).unwrap()
}

/// A run of a workflow on `refs/heads/main`.
#[must_use]
pub fn provenance() -> Provenance {
    Provenance {
        repository: Some("acme/app".to_owned()),
        repository_id: Some("222".to_owned()),
        repository_owner_id: Some("111".to_owned()),
        git_ref: Some("refs/heads/main".to_owned()),
        ref_protected: Some(true),
        commit: Some("6dcb09b5b57875f334f61aebed695e2e4193db5e".to_owned()),
        workflow: Some("deploy".to_owned()),
        run: Some("4242".to_owned()),
        run_attempt: Some("1".to_owned()),
        event: Some("push".to_owned()),
        ..Provenance::default()
    }
}

/// Facts of [`role`].
#[must_use]
pub fn role_facts(name: &str) -> RoleFacts {
    RoleFacts {
        name: RoleName::new(name).unwrap(),
        owner: OwnerName::new("payments").unwrap(),
        backend_kind: "jwt".to_owned(),
        environment: None,
        environment_class: None,
        class: RevocationClass::Fenced,
        max_ttl: Ttl::from_hours(1),
        stage: None,
        tier: None,
        target: None,
    }
}

/// A query to mint `role` by `subject`.
#[must_use]
pub fn query(subject: &str, role: &str) -> PolicyQuery {
    PolicyQuery {
        principal: Principal {
            kind: PrincipalKind::Workload,
            issuer: IssuerName::new("ci").unwrap(),
            issuer_kind: "oidc".to_owned(),
            subject: subject.to_owned(),
            groups: Vec::new(),
            attributes: BTreeMap::new(),
            multi_audience: false,
            via_role: None,
        },
        action: Action::Mint,
        resource: Resource::Role(role_facts(role)),
        context: QueryContext {
            time: NOW,
            purpose: Some("deploy 4f2c to prod".to_owned()),
            ticket: None,
            task: None,
            ttl: Some(Ttl::from_mins(10)),
            scope: Vec::new(),
            provenance: provenance(),
            source_ip: None,
            binding: "bearer".to_owned(),
            exception: None,
            approvals: Vec::new(),
            holder: false,
            owner_member: false,
            actor_chain: Vec::new(),
            on_behalf_of: None,
            build: None,
            change: None,
        },
    }
}

/// The order of the `n`-th grant for `role`, issued at [`NOW`], for ten minutes.
#[must_use]
pub fn order(n: u64, role: Role) -> IssueOrder {
    IssueOrder {
        grant: id(n),
        role: Arc::new(role),
        owner: OwnerSnapshot::from(&owner()),
        issuer: "ci".to_owned(),
        subject: "repo:acme/app".to_owned(),
        actors: ActorChain::default(),
        attributes: BTreeMap::new(),
        provenance: provenance(),
        plan_digest: None,
        purpose: "deploy 4f2c to prod".to_owned(),
        scope: Vec::new(),
        csr: None,
        status_index: n,
        issued_at: NOW,
        expires_at: NOW.plus(Ttl::from_mins(10)),
        binding_key: None,
    }
}

/// An allowing decision by policy `deploy-main`.
#[must_use]
pub fn decision(n: u64) -> Decision {
    Decision {
        id: id::<DecisionId>(n),
        decided_at: NOW,
        revision: revision('a'),
        schema_version: 1,
        query: query("repo:acme/app", "payments/prod/deploy"),
        verdict: Verdict {
            outcome: Outcome::Allow,
            determining: vec![PolicyId::new("deploy-main").unwrap()],
            obligations: Obligations::default(),
        },
    }
}

/// Terms of ten minutes from `now`.
#[must_use]
pub fn terms(class: RevocationClass, now: Timestamp) -> Terms {
    Terms::compute(&terms_input(class, now)).unwrap()
}

/// Inputs that give ten minutes from `now`.
#[must_use]
pub fn terms_input(class: RevocationClass, now: Timestamp) -> TermsInput {
    TermsInput {
        now,
        class,
        requested: None,
        role_default: Ttl::from_mins(10),
        role_max: Ttl::from_hours(1),
        policy_max: None,
        proof_ends_at: None,
        approval_ends_at: None,
        exception_ends_at: None,
        continuous_ends_at: None,
        environment_ends_at: None,
        parent_ends_at: None,
        spare_ends_at: None,
        backend_max: None,
        backend_min: Ttl::from_secs(1),
        call_deadline: Ttl::from_secs(10),
        skew: Ttl::from_secs(2),
    }
}

/// The `n`-th pending grant, created at `now`.
#[must_use]
pub fn pending(n: u64, class: RevocationClass, now: Timestamp) -> Grant {
    let terms = terms(class, now);
    let decision = decision(n);
    Grant {
        end_at: terms.end_at,
        expires_at: terms.expires_at,
        record: GrantRecord {
            id: id::<GrantId>(n),
            role: RoleName::new("payments/prod/deploy").unwrap(),
            role_digest: "d".repeat(64),
            backend: BackendName::new("tokens").unwrap(),
            backend_kind: "jwt".to_owned(),
            target: None,
            environment: None,
            environment_class: None,
            stage: None,
            tier: None,
            owner: OwnerSnapshot::from(&owner()),
            purpose: "deploy 4f2c to prod".to_owned(),
            ticket: Some("CHG-1".to_owned()),
            task: None,
            holder: Holder {
                principal: PrincipalKind::Workload,
                issuer: IssuerName::new("ci").unwrap(),
                issuer_kind: "oidc".to_owned(),
                subject: "repo:acme/app".to_owned(),
                attributes: BTreeMap::new(),
                proof_id: Some(format!("jti-{n}")),
                proof_key_id: Some("key-1".to_owned()),
                binding_key: None,
                source: None,
            },
            provenance: provenance(),
            decision: DecisionSummary {
                id: decision.id,
                revision: decision.revision,
                determining: decision.verdict.determining,
                obligations: decision.verdict.obligations,
            },
            terms,
            created_at: now,
            status_index: n,
            lineage: None,
            replaces: None,
            parent: None,
            fence: None,
            attested: Attested::default(),
            actors: ActorChain::default(),
            signed_by: None,
        },
        state: GrantState::Pending { deadline: now.plus(Ttl::from_secs(30)) },
        fingerprint: None,
        last_seen_at: None,
        heartbeats_from: None,
        version: 0,
    }
}

/// The `n`-th active grant, created at `now`.
#[must_use]
pub fn active(n: u64, class: RevocationClass, now: Timestamp) -> Grant {
    let pending = pending(n, class, now);
    let expires_at = pending.expires_at;
    pending.activate(now, expires_at, Some("f".repeat(64))).unwrap()
}

/// A handle that says which grant it belongs to.
#[must_use]
pub fn handle(n: u64) -> Handle {
    Handle(SecretBytes::new(format!("{{\"n\":{n}}}").into_bytes()))
}

//! A bundle: everything that is governed, loaded whole or not at all.

mod files;
mod named;
mod policy_test;
#[cfg(test)]
mod tests;

pub(crate) use files::read_bounded;
pub use policy_test::PolicyTest;
pub(super) use policy_test::STANDARD_TIME;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hallpass_core::catalog::{Catalog, EnvironmentClass};
use hallpass_core::id::{BackendName, RevisionId, RoleName};
use hallpass_core::policy::{Outcome, RoleFacts};
use hallpass_core::port::{Files, NamedFiles, PolicyEngine};
use hallpass_core::role::RoleState;
use ring::digest;

use self::files::Section;
use super::attestor::{self, Attestor};
use super::backend::{self, Backend};
use super::document::{Declared, Document};
use super::issuer::{self, Issuer, SpiffeIssuer};
use super::{Finding, PolicySource, environment, owner, role};
use crate::policy::{self, Compiled};

/// A bundle in which nothing is wrong.
pub struct Bundle {
    /// Digest of its content.
    pub revision: RevisionId,
    /// Its content.
    pub files: Files,
    /// What it names beside itself.
    pub named: NamedFiles,
    /// Whose proofs are accepted.
    pub issuers: Vec<Issuer>,
    /// The same of SPIFFE trust domains.
    pub trust_domains: Vec<SpiffeIssuer>,
    /// Whose statements about changes and builds count.
    pub attestors: Vec<Attestor>,
    /// Where credentials are minted.
    pub backends: Vec<Backend>,
    /// Roles, owners, environments.
    pub catalog: Catalog,
    /// What decides.
    pub policy: Arc<dyn PolicyEngine>,
    /// Its policy tests; all of them pass.
    pub tests: Vec<PolicyTest>,
    /// What is not wrong and yet will refuse requests, such as a role whose owner is no longer active.
    pub warnings: Vec<Finding>,
    /// What is easy to get wrong in its policies, each with why and what to write instead.
    pub advice: Vec<Finding>,
    places: BTreeMap<RoleName, role::Place>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Bundle {
    /// Loads the bundle in `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(folder: &Path) -> Result<Self, Vec<Finding>> {
        Self::of(files::read(folder)?, Some(folder))
    }

    /// Reads the files of the bundle in `folder`, and judges nothing.
    ///
    /// # Errors
    /// Everything that cannot be read or does not belong there.
    pub fn read(folder: &Path) -> Result<Files, Vec<Finding>> {
        files::read(folder)
    }

    /// The bundle of these files, by path relative to it. It has no folder, and so names no other files.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_files(files: Files) -> Result<Self, Vec<Finding>> {
        Self::of(files::take(files)?, None)
    }

    fn of(files: Files, base: Option<&Path>) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let sections = Sections::sort(&files, &mut findings);
        let bundle = sections.check(revision_of(&files), base, &mut findings);
        let named = match (&bundle, base) {
            (Some(bundle), Some(base)) => named::digests(bundle, base, &mut findings),
            _ => NamedFiles::new(),
        };
        findings.sort();
        findings.dedup();
        bundle.filter(|_| findings.is_empty()).map(|bundle| Self { files, named, ..bundle }).ok_or(findings)
    }

    /// The backend of this name.
    #[must_use]
    pub fn backend(&self, name: &BackendName) -> Option<&Backend> {
        self.backends.iter().find(|backend| &backend.name == name)
    }

    /// What policy may know of a role.
    #[must_use]
    pub fn role_facts(&self, name: &RoleName) -> Option<RoleFacts> {
        role_facts(&self.catalog, &self.backends, name)
    }

    /// A backend's complaint about a parameter of a role, at the line on which the parameter stands.
    #[must_use]
    pub fn parameter_finding(&self, name: &RoleName, key: &str, problem: &str) -> Finding {
        match self.places.get(name) {
            Some(place) => place.parameter_finding(key, problem),
            None => {
                let reason = format!("{key}: {problem}");
                Finding { file: format!("roles/{name}.toml").into(), line: None, reason }
            }
        }
    }
}

/// Lower-case hexadecimal SHA-256 over the paths and contents, each with its length, in the order of the paths.
fn revision_of(files: &Files) -> Option<RevisionId> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"hallpass bundle\n");
    for part in files.iter().flat_map(|(path, text)| [path, text]) {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    RevisionId::new(role::hex(context.finish().as_ref())).ok()
}

/// Digest of a part of a bundle, as it was understood: for comparing it with that of another revision in this process.
pub(in crate::config) fn digest_of(part: &impl fmt::Debug) -> String {
    role::hex(digest::digest(&digest::SHA256, format!("{part:?}").as_bytes()).as_ref())
}

/// The files of a bundle by what they say. A section without a file is empty.
#[derive(Default)]
struct Sections<'a> {
    issuers: Option<Document<'a>>,
    attestors: Option<Document<'a>>,
    backends: Option<Document<'a>>,
    owners: Option<Document<'a>>,
    environments: Option<Document<'a>>,
    roles: Vec<(RoleName, Document<'a>)>,
    tests: Vec<Document<'a>>,
    policies: Vec<PolicySource>,
    unreadable: BTreeSet<String>,
}

struct DeclaredNames {
    issuers: Declared,
    backends: Declared,
    owners: Declared,
    environments: Declared,
}

impl<'a> Sections<'a> {
    fn sort(files: &'a Files, findings: &mut Vec<Finding>) -> Self {
        let mut sections = Self::default();
        for (path, text) in files {
            let file = Path::new(path);
            let section = match Section::of(path) {
                Ok(section) => section,
                Err(reason) => {
                    findings.push(Finding { file: file.to_owned(), line: None, reason });
                    continue;
                }
            };
            if section == Section::Policy {
                sections.policies.push(PolicySource { file: file.to_owned(), text: text.clone() });
                continue;
            }
            let document = match Document::parse(file, text) {
                Ok(document) => document,
                Err(found) => {
                    findings.extend(found);
                    sections.unreadable.insert(path.clone());
                    continue;
                }
            };
            match section {
                Section::Issuers => sections.issuers = Some(document),
                Section::Attestors => sections.attestors = Some(document),
                Section::Backends => sections.backends = Some(document),
                Section::Owners => sections.owners = Some(document),
                Section::Environments => sections.environments = Some(document),
                Section::Role(name) => sections.roles.push((name, document)),
                Section::Tests => sections.tests.push(document),
                Section::Policy => {}
            }
        }
        sections
    }

    fn declared(&self) -> DeclaredNames {
        let of = |document: &Option<Document<'_>>, key: &str| {
            let unreadable = document.is_none() && self.unreadable.contains(&format!("{key}s.toml"));
            Declared::of(document.as_ref(), key, unreadable)
        };
        DeclaredNames {
            issuers: of(&self.issuers, "issuer"),
            backends: of(&self.backends, "backend"),
            owners: of(&self.owners, "owner"),
            environments: of(&self.environments, "environment"),
        }
    }

    /// Checks each section, then what they say of each other, then what policy says of them all.
    fn check(self, revision: Option<RevisionId>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Bundle> {
        let Some(revision) = revision else {
            findings.push(Finding { file: ".".into(), line: None, reason: "has no digest".to_owned() });
            return None;
        };
        let declared = self.declared();
        let issuers = self.issuers.as_ref().map(|file| issuer::raw::read(file, base, findings)).unwrap_or_default();
        let trust_domains = self.issuers.map(|file| issuer::spiffe::read(&file, base, findings)).unwrap_or_default();
        findings.extend(same_names(&issuers, &trust_domains));
        let attestors = self.attestors.map(|file| attestor::read(&file, &declared.issuers, base, findings));
        let attestors = attestors.unwrap_or_default();
        let backends = self.backends.map(|file| backend::read(&file, base, findings)).unwrap_or_default();
        let owners = self.owners.map(|file| owner::read(&file, &declared.issuers, findings)).unwrap_or_default();
        let environments = self.environments.map(|file| environment::read(&file, findings)).unwrap_or_default();
        let names = role::Names {
            backends: &backends,
            declared_backends: &declared.backends,
            owners: &declared.owners,
            environments: &declared.environments,
        };
        let mut roles = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, file) in self.roles {
            if let Some((role, place)) = role::read(name.clone(), &file, &names, findings) {
                roles.insert(name.clone(), Arc::new(role));
                places.insert(name, place);
            }
        }
        let catalog = Catalog {
            roles,
            owners,
            environments,
            issuers: (issuers.iter().map(|issuer| (issuer.name.clone(), issuer.facts())))
                .chain(trust_domains.iter().map(|issuer| (issuer.name.clone(), issuer.facts())))
                .collect(),
            backends: backends.iter().map(|backend| (backend.name.clone(), digest_of(&backend.kind))).collect(),
            attestors: attestors.iter().map(|attestor| (attestor.name.clone(), digest_of(attestor))).collect(),
        };
        // Names in policies can be judged only when all of them are known.
        let names = issuers.iter().map(|issuer| &issuer.name).chain(trust_domains.iter().map(|issuer| &issuer.name));
        let names: BTreeSet<_> = names.cloned().collect();
        let trusted = findings.is_empty().then_some(policy::Trusted { names: &names, issuers: &issuers });
        let Compiled { engine: policy, advice } =
            match policy::compile(&self.policies, &catalog, trusted, revision.clone()) {
                Ok(compiled) => compiled,
                Err(found) => {
                    findings.extend(found);
                    return None;
                }
            };
        let scene = policy_test::Scene {
            issuers: &issuers,
            trust_domains: &trust_domains,
            backends: &backends,
            catalog: &catalog,
        };
        let complete = findings.is_empty();
        let tests: Vec<_> =
            self.tests.iter().flat_map(|file| policy_test::read(file, &scene, complete, findings)).collect();
        if findings.is_empty() {
            findings.extend(tests.iter().filter_map(|test| test.run(policy.as_ref()).err()));
        }
        if findings.is_empty() {
            findings.extend(untested(&catalog, &tests, &places));
        }
        let warnings = unresolved(&catalog, &places);
        let files = Files::new();
        let named = NamedFiles::new();
        Some(Bundle {
            revision,
            files,
            named,
            issuers,
            trust_domains,
            attestors,
            backends,
            catalog,
            policy,
            tests,
            warnings,
            advice,
            places,
        })
    }
}

/// Issuers and trust domains are told apart by name, wherever one is named.
fn same_names(issuers: &[Issuer], trust_domains: &[SpiffeIssuer]) -> Vec<Finding> {
    let taken = trust_domains.iter().filter(|domain| issuers.iter().any(|issuer| issuer.name == domain.name));
    let finding = |domain: &SpiffeIssuer| Finding {
        file: "issuers.toml".into(),
        line: None,
        reason: format!("name: the issuer {:?} is there already", domain.name.as_str()),
    };
    taken.map(finding).collect()
}

fn role_facts(catalog: &Catalog, backends: &[Backend], name: &RoleName) -> Option<RoleFacts> {
    let role = catalog.roles.get(name)?;
    let kind = &backends.iter().find(|backend| backend.name == role.backend)?.kind;
    Some(RoleFacts {
        name: role.name.clone(),
        owner: role.owner.clone(),
        backend_kind: kind.as_str().to_owned(),
        environment: role.environment.clone(),
        environment_class: catalog.environment_class(role).map(|class| class.as_str().to_owned()),
        class: kind.class(&role.parameters),
        max_ttl: role.ttl.max,
        stage: role.stage.clone(),
        tier: role.tier.clone(),
        target: role.target.clone(),
    })
}

/// Roles of production that no policy test shows to be open to somebody and closed to somebody: of the two mistakes
/// that a policy can have, only one is noticed in use.
fn untested(catalog: &Catalog, tests: &[PolicyTest], places: &BTreeMap<RoleName, role::Place>) -> Vec<Finding> {
    let production = catalog.roles.values().filter(|role| {
        catalog.environment_class(role) == Some(EnvironmentClass::Production) && role.state != RoleState::Retired
    });
    let lacks = |name: &RoleName, outcome| !tests.iter().any(|test| test.mints(name) && test.expect == outcome);
    production
        .filter_map(|role| {
            let missing = match (lacks(&role.name, Outcome::Allow), lacks(&role.name, Outcome::Deny)) {
                (true, true) => "one that is allowed to mint it and one that is refused",
                (true, false) => "one that is allowed to mint it",
                (false, true) => "one that is refused",
                (false, false) => return None,
            };
            let reason = format!("a role of production needs policy tests in tests/*.toml: {missing}");
            Some(places.get(&role.name)?.finding("environment", reason))
        })
        .collect()
}

/// Active roles whose owner is no longer there. They load, because a bundle that says so is how their grants end; they
/// cannot be minted.
fn unresolved(catalog: &Catalog, places: &BTreeMap<RoleName, role::Place>) -> Vec<Finding> {
    let active = catalog.roles.values().filter(|role| role.state == RoleState::Active);
    active
        .filter_map(|role| {
            let owner = catalog.owners.get(&role.owner)?;
            let reason = format!("{:?} is not active, so the role cannot be minted", role.owner.as_str());
            if owner.resolves() { None } else { Some(places.get(&role.name)?.finding("owner", reason)) }
        })
        .collect()
}

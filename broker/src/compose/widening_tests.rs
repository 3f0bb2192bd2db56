//! What widens its publisher's rights and what does not, on real bundles, policies and backends.
//!
//! The publisher is carol, of the platform team: she may publish, see and end everything, and mint one role of her own.

mod bindings;
mod circumstances;
mod grants;
mod harmless;
mod refused;
mod whose;

use std::sync::Arc;

use hallpass_core::catalog::Revision;
use hallpass_core::id::IssuerName;
use hallpass_core::identity::PrincipalKind;
use hallpass_core::policy::{Action, PolicyQuery, Principal, QueryContext, Resource};
use hallpass_core::port::{Files, NoAttestors};
use hallpass_core::provenance::Provenance;
use hallpass_core::service::configuration::widening::of_own_rights;
use hallpass_core::time::Timestamp;

use super::composer::throw_away_backends;
use crate::config::bundle::Bundle;

const ISSUERS: &str = r#"
[[issuer]]
name = "ci"
kind = "oidc"
url = "https://ci.example"
audiences = ["hallpass"]

[[issuer]]
name = "people"
kind = "oidc"
principal = "operator"
url = "https://sso.example"
audiences = ["hallpass"]
single_use = false
"#;
const BACKENDS: &str = "[[backend]]\nname = \"tokens\"\nkind = \"jwt\"\n\n[[backend]]\nname = \"others\"\nkind = \"jwt\"\n\n\
     [[backend]]\nname = \"vault\"\nkind = \"vault\"\naddresses = [\"https://vault.example:8200\"]\nlogin = { method = \"jwt\" }\n";
const ENVIRONMENTS: &str = "[[environment]]\nname = \"lab\"\nclass = \"development\"\n";
const OWNERS: &str = r#"
[[owner]]
name = "platform"
contacts = ["p@example.com"]
members = [{ issuer = "people", subject = "carol" }]

[[owner]]
name = "payments"
contacts = ["m@example.com"]
members = [{ issuer = "people", subject = "ada" }]

[[owner]]
name = "former"
contacts = ["f@example.com"]
members = [{ issuer = "people", subject = "carol" }]
active = false
"#;
/// Carol may mint it.
const DEBUG: &str = "owner = \"platform\"\ndescription = \"Looks at things\"\nbackend = \"tokens\"\nenvironment = \"lab\"\n\
    tier = \"low\"\nttl = { default = \"10m\", max = \"1h\" }\nmax_continuous = \"8h\"\nmax_live = 4\n[jwt]\naudience = \"https://debug.example\"\n";
/// She may not.
const DEPLOY: &str = "owner = \"payments\"\ndescription = \"Deploys\"\nbackend = \"tokens\"\nenvironment = \"lab\"\ntier = \"high\"\n\
    ttl = { default = \"10m\", max = \"1h\" }\n[jwt]\naudience = \"https://deploy.example\"\n";
const POLICIES: &str = r#"
@id("platform-operates")
permit (principal in Group::"platform", action in [Action::"read", Action::"revoke", Action::"publish"], resource);

@id("platform-debugs")
@max_ttl("15m")
permit (principal in Group::"platform", action == Action::"mint", resource in Namespace::"platform")
when { context has ticket && context.ticket != "none" };

@id("platform-debugs-at-day")
permit (principal in Group::"platform", action == Action::"mint", resource in Namespace::"platform")
when { context.hour > 6 };

@id("payments-deploy")
@max_ttl("15m")
permit (principal in Issuer::"ci", action == Action::"mint", resource == Role::"payments/deploy")
when { context.provenance has ref && context.provenance.ref == "refs/heads/main" };

@id("low-tiers-are-given-up-on")
permit (principal is Operator, action == Action::"abandon", resource is Grant)
when { resource has tier && resource.tier == "low" };

@id("nothing-at-night")
forbid (principal, action == Action::"mint", resource is Role)
when { context.hour < 5 };

@id("no-pull-requests")
forbid (principal is Workload, action == Action::"mint", resource is Role)
when { context.provenance has event && context.provenance.event == "pull_request" };
"#;

fn files() -> Files {
    let files = [
        ("issuers.toml", ISSUERS),
        ("backends.toml", BACKENDS),
        ("environments.toml", ENVIRONMENTS),
        ("owners.toml", OWNERS),
        ("roles/platform/debug.toml", DEBUG),
        ("roles/payments/deploy.toml", DEPLOY),
        ("policies/all.cedar", POLICIES),
    ];
    files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
}

fn revision(files: Files) -> Revision {
    let bundle = Bundle::from_files(files).unwrap();
    let backends = throw_away_backends(&bundle).unwrap().unwrap();
    Revision {
        id: bundle.revision.clone(),
        catalog: bundle.catalog.clone(),
        policy: Arc::clone(&bundle.policy),
        verifiers: Vec::new(),
        attestors: Arc::new(NoAttestors),
        backends,
    }
}

/// The question of publishing, by somebody.
fn question(issuer: &str, kind: PrincipalKind, subject: &str) -> PolicyQuery {
    PolicyQuery {
        principal: Principal {
            kind,
            issuer: IssuerName::new(issuer).unwrap(),
            issuer_kind: "oidc".to_owned(),
            subject: subject.to_owned(),
            groups: Vec::new(),
            attributes: [].into(),
            multi_audience: false,
            via_role: None,
        },
        action: Action::Publish,
        resource: Resource::Bundle,
        context: QueryContext {
            // Noon of a Thursday.
            time: Timestamp::from_secs(1_767_268_800),
            purpose: None,
            ticket: None,
            task: None,
            ttl: None,
            scope: Vec::new(),
            provenance: Provenance::default(),
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

fn carol() -> PolicyQuery {
    question("people", PrincipalKind::Operator, "carol")
}

/// Everything by which the change widens the rights of who asks.
fn widens(questions: &[PolicyQuery], change: impl FnOnce(&mut Files)) -> Vec<String> {
    let before = revision(files());
    let mut changed = files();
    change(&mut changed);
    assert_ne!(changed, files(), "nothing was changed");
    of_own_rights(&before, &revision(changed), questions, &[]).iter().map(ToString::to_string).collect()
}

/// Replaces `from` by `to` in a file.
fn replaced(path: &'static str, from: &'static str, to: &'static str) -> impl FnOnce(&mut Files) {
    move |files| {
        let text = files.get_mut(path).unwrap();
        assert!(text.contains(from), "{path} has no {from:?}");
        *text = text.replacen(from, to, 1);
    }
}

fn added(path: &'static str, text: &'static str) -> impl FnOnce(&mut Files) {
    move |files| {
        let file = files.entry(path.to_owned()).or_default();
        file.push_str(text);
    }
}

type Change = Box<dyn FnOnce(&mut Files)>;

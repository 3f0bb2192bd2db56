//! What widens its publisher's rights and what does not, on real bundles, policies and backends.
//!
//! The publisher is carol, of the platform team: she may publish, see and end everything, and mint one role of her own.

use std::slice::from_ref;
use std::sync::Arc;

use hallpass_core::catalog::Revision;
use hallpass_core::credential::RevocationClass;
use hallpass_core::id::{IssuerName, OwnerName, RoleName};
use hallpass_core::identity::PrincipalKind;
use hallpass_core::policy::{Action, PolicyQuery, Principal, QueryContext, Resource};
use hallpass_core::port::Files;
use hallpass_core::provenance::Provenance;
use hallpass_core::revocation::Likeness;
use hallpass_core::service::configuration::widening::of_own_rights;
use hallpass_core::time::{Clock as _, Timestamp};

use super::composer::throw_away_backends;
use crate::config::bundle::Bundle;
use crate::runtime::clock::SystemClock;

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
const BACKENDS: &str =
    "[[backend]]\nname = \"tokens\"\nkind = \"jwt\"\n\n[[backend]]\nname = \"others\"\nkind = \"jwt\"\n";
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

/// A clock, and what it says.
fn timed() -> (SystemClock, std::time::Duration) {
    let clock = SystemClock::start();
    let started = clock.monotonic();
    (clock, started)
}

type Change = Box<dyn FnOnce(&mut Files)>;

#[test]
fn what_gives_the_publisher_nothing_is_nobodys_to_refuse() {
    let debug = "roles/platform/debug.toml";
    let deploy = "roles/payments/deploy.toml";
    let policies = "policies/all.cedar";
    let changes: Vec<(&str, Change)> = vec![
        ("another team's role lives longer", Box::new(replaced(deploy, "max = \"1h\"", "max = \"8h\""))),
        ("another team's role has other parameters", Box::new(replaced(deploy, "https://deploy", "https://other"))),
        ("another team's role has another backend", Box::new(replaced(deploy, "\"tokens\"", "\"others\""))),
        ("another team gets a role", Box::new(added("roles/payments/read.toml", DEPLOY))),
        (
            "another team's policy says something else",
            Box::new(replaced(policies, "refs/heads/main", "refs/heads/release")),
        ),
        (
            "another team's bound is raised",
            Box::new(replaced(
                policies,
                "@max_ttl(\"15m\")\npermit (principal in Issuer::\"ci\"",
                "@max_ttl(\"45m\")\npermit (principal in Issuer::\"ci\"",
            )),
        ),
        (
            "workloads get a policy",
            Box::new(added(
                policies,
                "@id(\"more\") permit (principal is Workload, action == Action::\"mint\", resource == Role::\"payments/deploy\");",
            )),
        ),
        (
            "another person joins another team",
            Box::new(replaced("owners.toml", "subject = \"ada\"", "subject = \"bob\"")),
        ),
        (
            "a forbid for workloads goes",
            Box::new(|files| {
                let text = files.get_mut(policies).unwrap();
                let at = text.find("@id(\"no-pull-requests\")").unwrap();
                text.truncate(at);
            }),
        ),
        (
            "a forbid comes",
            Box::new(added(
                policies,
                "@id(\"never\") forbid (principal, action == Action::\"mint\", resource is Role) when { context.weekday == 7 };",
            )),
        ),
        ("one's own role may be live less often", Box::new(replaced(debug, "max_live = 4", "max_live = 3"))),
        (
            "another issuer's keys are fetched more often",
            Box::new(replaced(
                "issuers.toml",
                "audiences = [\"hallpass\"]\n\n",
                "audiences = [\"hallpass\"]\nkeys_max_age = \"5m\"\n\n",
            )),
        ),
        ("one's own role lives shorter", Box::new(replaced(debug, "max = \"1h\"", "max = \"30m\""))),
        ("one's own role is described better", Box::new(replaced(debug, "Looks at things", "Looks at the lab"))),
        ("one's own role is suspended", Box::new(replaced(debug, "backend", "state = \"suspended\"\nbackend"))),
        (
            "one's own role goes",
            Box::new(|files: &mut Files| {
                files.remove(debug);
                let text = files.get_mut(policies).unwrap();
                *text = text.replace("Namespace::\"platform\"", "Namespace::\"payments\"").replace(
                    "principal in Group::\"platform\", action == Action::\"mint\"",
                    "principal in Issuer::\"ci\", action == Action::\"mint\"",
                );
            }),
        ),
        (
            "one's own bound is lowered",
            Box::new(replaced(
                policies,
                "@max_ttl(\"15m\")\npermit (principal in Group",
                "@max_ttl(\"5m\")\npermit (principal in Group",
            )),
        ),
        (
            "one's own policy has another name and a remark",
            Box::new(replaced(
                policies,
                "@id(\"platform-operates\")",
                "@id(\"platform-runs-it\")\n@description(\"the same\")",
            )),
        ),
        (
            "policies are written elsewhere and otherwise",
            Box::new(|files: &mut Files| {
                let text = files.remove(policies).unwrap();
                files.insert("policies/moved.cedar".to_owned(), format!("// moved\n{}", text.replace(", ", ",  ")));
            }),
        ),
        ("one leaves one's team", Box::new(replaced("owners.toml", "subject = \"carol\"", "subject = \"dan\""))),
        (
            "a backend that one has no use for changes",
            Box::new(replaced(
                "backends.toml",
                "name = \"others\"\nkind = \"jwt\"",
                "name = \"others\"\nkind = \"jwt\"\nalgorithm = \"EdDSA\"",
            )),
        ),
    ];
    for (name, change) in changes {
        assert_eq!(widens(&[carol()], change), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_could_give_the_publisher_more_is_refused_with_its_place() {
    let (debug, deploy) = ("roles/platform/debug.toml", "roles/payments/deploy.toml");
    let policies = "policies/all.cedar";
    let own = "@max_ttl(\"15m\")\npermit (principal in Group";
    let changes: Vec<(&str, &str, Change)> = vec![
        // Policies.
        (
            "a permit for everybody",
            "policies/all.cedar:30: policy \"new\" permits something new",
            Box::new(added(
                policies,
                "@id(\"new\") permit (principal, action == Action::\"mint\", resource == Role::\"payments/deploy\") when { principal has via_role };",
            )),
        ),
        (
            "a permit for people",
            "policy \"new\" permits something new",
            Box::new(added(
                policies,
                "@id(\"new\") permit (principal is Operator in Issuer::\"people\", action == Action::\"renew\", resource is Grant);",
            )),
        ),
        (
            "a permit for oneself",
            "policy \"new\" permits something new",
            Box::new(added(
                policies,
                "@id(\"new\") permit (principal == Operator::\"people:carol\", action == Action::\"introspect\", resource is Grant);",
            )),
        ),
        (
            "one's own condition goes",
            "policy \"platform-debugs\" permits something new",
            Box::new(replaced(policies, "context.ticket != \"none\"", "true")),
        ),
        (
            "one's own scope widens",
            "policy \"platform-debugs\" permits something new",
            Box::new(replaced(
                policies,
                "resource in Namespace::\"platform\")\nwhen { context has ticket",
                "resource is Role)\nwhen { context has ticket",
            )),
        ),
        (
            "one's own bound is raised",
            "policy \"platform-debugs\" permits something new",
            Box::new(replaced(policies, own, "@max_ttl(\"16m\")\npermit (principal in Group")),
        ),
        (
            "one's own bound goes",
            "policy \"platform-debugs\" permits something new",
            Box::new(replaced(policies, own, "permit (principal in Group")),
        ),
        (
            "the stricter of two permits goes",
            "policy \"platform-debugs\" no longer bounds a life",
            Box::new(|files: &mut Files| {
                let text = files.get_mut(policies).unwrap();
                let (from, to) = (
                    text.find("@id(\"platform-debugs\")").unwrap(),
                    text.find("@id(\"platform-debugs-at-day\")").unwrap(),
                );
                text.replace_range(from..to, "");
            }),
        ),
        (
            "a forbid goes",
            "policies/all.cedar:23: policy \"nothing-at-night\" no longer forbids",
            Box::new(|files: &mut Files| {
                let text = files.get_mut(policies).unwrap();
                let (from, to) =
                    (text.find("@id(\"nothing-at-night\")").unwrap(), text.find("@id(\"no-pull-requests\")").unwrap());
                text.replace_range(from..to, "");
            }),
        ),
        (
            "a forbid is weaker",
            "policy \"nothing-at-night\" no longer forbids",
            Box::new(replaced(policies, "context.hour < 5", "context.hour < 1")),
        ),
        // Conservative: nothing is gained here, and the check does not see that.
        (
            "one's own right is smaller",
            "policy \"platform-operates\" permits something new",
            Box::new(replaced(policies, "Action::\"revoke\", Action::\"publish\"", "Action::\"publish\"")),
        ),
        // Owners.
        (
            "one joins another team",
            "owners.toml: makes you a member of payments",
            Box::new(replaced(
                "owners.toml",
                "{ issuer = \"people\", subject = \"ada\" }",
                "{ issuer = \"people\", subject = \"ada\" }, { issuer = \"people\", subject = \"carol\" }",
            )),
        ),
        (
            "one's team takes over a role",
            "roles/payments/deploy.toml: the role payments/deploy has platform as owner",
            Box::new(replaced(deploy, "\"payments\"", "\"platform\"")),
        ),
        (
            "one's team has a new role",
            "roles/other/new.toml: the role other/new has platform as owner",
            Box::new(|files: &mut Files| {
                files.insert("roles/other/new.toml".to_owned(), DEBUG.to_owned());
            }),
        ),
        (
            "one's former team is back",
            "owners.toml: makes you a member of former",
            Box::new(replaced("owners.toml", "active = false", "active = true")),
        ),
        // Issuers.
        (
            "one's own issuer takes other audiences",
            "issuers.toml: changes people, by which you prove",
            Box::new(replaced(
                "issuers.toml",
                "audiences = [\"hallpass\"]\nsingle_use",
                "audiences = [\"hallpass\", \"x\"]\nsingle_use",
            )),
        ),
        (
            "one's own issuer forgives more",
            "issuers.toml: changes people, by which you prove",
            Box::new(replaced("issuers.toml", "single_use = false", "single_use = false\nleeway = \"60s\"")),
        ),
        (
            "another issuer has other keys",
            "issuers.toml: changes whom the proofs of ci come from",
            Box::new(replaced("issuers.toml", "https://ci.example", "https://ci.carol.example")),
        ),
        (
            "another issuer's proofs say something else of the change",
            "issuers.toml: changes whom the proofs of ci come from",
            Box::new(replaced(
                "issuers.toml",
                "audiences = [\"hallpass\"]\n\n",
                "audiences = [\"hallpass\"]\nprovenance = { ref = \"branch\" }\n\n",
            )),
        ),
        (
            "another issuer's proofs can be used again",
            "issuers.toml: changes whom the proofs of ci come from",
            Box::new(replaced(
                "issuers.toml",
                "audiences = [\"hallpass\"]\n\n",
                "audiences = [\"hallpass\"]\nsingle_use = false\n\n",
            )),
        ),
        (
            "an issuer comes",
            "issuers.toml: trusts puppets",
            Box::new(added(
                "issuers.toml",
                "[[issuer]]\nname = \"puppets\"\nkind = \"oidc\"\nurl = \"https://carol.example\"\naudiences = [\"hallpass\"]\n",
            )),
        ),
        (
            "one's own issuer has another name",
            "issuers.toml: trusts persons",
            Box::new(|files: &mut Files| {
                for path in ["issuers.toml", "owners.toml", policies] {
                    let text = files.get_mut(path).unwrap();
                    *text = text.replace("\"people\"", "\"persons\"");
                }
            }),
        ),
        // Roles that one may mint.
        (
            "one's own role lives longer",
            "the role platform/debug changes its ttl",
            Box::new(replaced(debug, "max = \"1h\"", "max = \"2h\"")),
        ),
        (
            "by default too",
            "the role platform/debug changes its ttl",
            Box::new(replaced(debug, "default = \"10m\"", "default = \"20m\"")),
        ),
        (
            "one's own role never pauses",
            "the role platform/debug changes its max_continuous",
            Box::new(replaced(debug, "max_continuous = \"8h\"\n", "")),
        ),
        (
            "one's own role may be live more often",
            "the role platform/debug changes its max_live",
            Box::new(replaced(debug, "max_live = 4", "max_live = 5")),
        ),
        (
            "one's own role may be live as often as one likes",
            "the role platform/debug changes its max_live",
            Box::new(replaced(debug, "max_live = 4\n", "")),
        ),
        (
            "one's own role has other parameters",
            "the role platform/debug changes its parameters",
            Box::new(replaced(debug, "https://debug", "https://prod")),
        ),
        (
            "one's own role has another backend",
            "the role platform/debug changes its backend",
            Box::new(replaced(debug, "\"tokens\"", "\"others\"")),
        ),
        (
            "one's own role's backend changes",
            "the role platform/debug changes its backend",
            Box::new(replaced("backends.toml", "kind = \"jwt\"\n\n", "kind = \"jwt\"\nalgorithm = \"EdDSA\"\n\n")),
        ),
        (
            "one's own role has another target",
            "the role platform/debug changes its target",
            Box::new(replaced(debug, "tier", "target = \"prod\"\ntier")),
        ),
        (
            "one's own role's environment becomes another",
            "the role platform/debug changes its environment",
            Box::new(replaced("environments.toml", "development", "staging")),
        ),
        (
            "one's own role asks for less of a purpose",
            "the role platform/debug changes its purpose",
            Box::new(replaced(debug, "tier", "purpose = { default = \"look at the lab\" }\ntier")),
        ),
        (
            "a role comes where one may mint",
            "roles/platform/root.toml: the role platform/root is new",
            Box::new(added("roles/platform/root.toml", DEPLOY)),
        ),
        // Answers.
        (
            "another team's role becomes one that one may give up on",
            "you could abandon grants of payments/deploy",
            Box::new(replaced(deploy, "tier = \"high\"", "tier = \"low\"")),
        ),
    ];
    for (name, expected, change) in changes {
        let found = widens(&[carol()], change);
        assert!(found.iter().any(|finding| finding.contains(expected)), "{name}: {found:#?}");
    }
}

#[test]
fn a_suspended_role_that_one_may_mint_comes_back_by_somebody_else() {
    let mut suspended = files();
    replaced("roles/platform/debug.toml", "backend", "state = \"suspended\"\nbackend")(&mut suspended);
    let found = of_own_rights(&revision(suspended), &revision(files()), &[carol()], &[]);
    assert!(found.iter().any(|finding| finding.reason.contains("changes its state")), "{found:?}");
}

#[test]
fn somebody_elses_rights_are_not_ones_own() {
    let ada = question("people", PrincipalKind::Operator, "ada");
    let job = question("ci", PrincipalKind::Workload, "repo:acme/app");
    let lives_longer = || replaced("roles/platform/debug.toml", "max = \"1h\"", "max = \"2h\"");
    assert_eq!(widens(from_ref(&ada), lives_longer()), Vec::<String>::new());
    assert_eq!(widens(from_ref(&job), lives_longer()), Vec::<String>::new());
    let deploys_longer = || replaced("roles/payments/deploy.toml", "max = \"1h\"", "max = \"2h\"");
    assert_eq!(widens(from_ref(&ada), deploys_longer()), Vec::<String>::new());
    assert!(!widens(&[job], deploys_longer()).is_empty());
    assert!(
        !widens(&[ada], replaced("owners.toml", "subject = \"carol\" }]\n\n", "subject = \"ada\" }]\n\n")).is_empty()
    );
}

/// What is left of a role: a kind of grant on record.
fn held(role: &str, owner: &str, tier: &str) -> Likeness {
    Likeness {
        role: RoleName::new(role).unwrap(),
        owner: OwnerName::new(owner).unwrap(),
        environment: None,
        backend_kind: "jwt".to_owned(),
        class: RevocationClass::Fenced,
        target: None,
        environment_class: None,
        stage: None,
        tier: Some(tier.to_owned()),
    }
}

#[test]
fn rights_over_grants_of_roles_that_are_gone_count() {
    let barred = "@id(\"former-members-give-up-on-nothing-of-theirs\") forbid (principal in Group::\"former\", action == Action::\"abandon\", resource is Grant)\n\
        when { resource.owner == \"former\" };\n";
    let mut member = files();
    added("policies/all.cedar", barred)(&mut member);
    replaced("owners.toml", "active = false", "active = true")(&mut member);
    let mut left = member.clone();
    replaced("owners.toml", "subject = \"carol\" }]\nactive", "subject = \"dan\" }]\nactive")(&mut left);
    let widened = |held: &[Likeness]| -> Vec<String> {
        let found = of_own_rights(&revision(member.clone()), &revision(left.clone()), &[carol()], held);
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(widened(&[]), Vec::<String>::new(), "nothing in the bundle tells");
    let (low, high) = (held("legacy/tool", "former", "low"), held("legacy/tool", "former", "high"));
    let other = held("legacy/tool", "payments", "low");
    assert_eq!(widened(&[high, other]), Vec::<String>::new(), "as before: never, and always");
    assert_eq!(
        widened(&[low]),
        ["policies: you could abandon grants of legacy/tool where you could not, or for longer"]
    );
}

#[test]
fn behind_a_token_of_the_brokers_own_stands_whoever_opened_its_grant() {
    let token = question("hallpass", PrincipalKind::Workload, "people:carol");
    let lives_longer = || replaced("roles/platform/debug.toml", "max = \"1h\"", "max = \"2h\"");
    assert_eq!(widens(from_ref(&token), lives_longer()), Vec::<String>::new(), "the control");
    assert!(!widens(&[token, carol()], lives_longer()).is_empty());
}

#[test]
fn a_large_bundle_is_compared_in_seconds() {
    let mut large = files();
    for n in 0..1_000 {
        large.insert(format!("roles/payments/r{n}.toml"), DEPLOY.to_owned());
    }
    let before = revision(large.clone());
    replaced("policies/all.cedar", "refs/heads/main", "refs/heads/release")(&mut large);
    let after = revision(large);
    let (clock, started) = timed();
    let kinds: Vec<_> = (0..1_000).map(|n| held(&format!("payments/gone{n}"), "payments", "high")).collect();
    assert_eq!(of_own_rights(&before, &after, &[carol()], &kinds), []);
    assert!(clock.monotonic().saturating_sub(started) < std::time::Duration::from_secs(20));
}

//! What could give the publisher more.

use super::*;

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
            "a server to which the broker proves who it is",
            "backends.toml: changes where, or how, vault makes credentials",
            Box::new(replaced("backends.toml", "https://vault.example:8200", "https://vault.carol.example:8200")),
        ),
        (
            "another such server",
            "backends.toml: has more make credentials",
            Box::new(added(
                "backends.toml",
                "\n[[backend]]\nname = \"more\"\nkind = \"vault\"\naddresses = [\"https://vault.carol.example:8200\"]\nlogin = { method = \"jwt\" }\n",
            )),
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
fn whoever_may_vouch_for_changes_is_somebody_elses_to_say() {
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErJwaCmYsP/iELF8y79m5MKFRTVQq\nvvUZnNgWFk8yevk4tUjD0L0WhzT7acghUQAbs5u/DUX0aRuxR/OgW4gtIQ==\n-----END PUBLIC KEY-----";
    let attestors = |builder: &str| {
        format!(
            "[[attestor]]\nname = \"builds\"\nkind = \"slsa-provenance\"\nbuilders = [{builder:?}]\nkeys = [{KEY:?}]\n"
        )
    };
    let with = |text: String| {
        let mut changed = files();
        changed.insert("attestors.toml".to_owned(), text);
        revision(changed)
    };
    let (none, one, other) = (revision(files()), with(attestors("a")), with(attestors("b")));
    let widens = |before: &Revision, after: &Revision| {
        let found = of_own_rights(before, after, &[carol()], &[]);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(widens(&one, &one), Vec::<String>::new());
    assert_eq!(widens(&one, &none), Vec::<String>::new(), "nobody vouches for more");
    assert!(widens(&none, &one).iter().any(|found| found.contains("attestors.toml: trusts builds to vouch")));
    assert!(widens(&one, &other).iter().any(|found| found.contains("attestors.toml: changes what builds may vouch")));
}

#[test]
fn whose_certificates_count_is_somebody_elses_to_say_too() {
    let authority = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let root = include_str!("../../identity/fixtures/sigstore/public-good-root.json");
    let other_root = include_str!("../../identity/fixtures/sigstore/github-root.json");
    let (acme, other) = (format!("{:?}", authority("acme")), format!("{:?}", authority("other")));
    let certified = |identity: &str, more: &str| {
        let mut changed = files();
        let text = format!(
            "[[attestor]]\nname = \"reviews\"\nkind = \"review\"\ncertificates = {{ identity = {identity:?}, {more} }}\n"
        );
        changed.insert("attestors.toml".to_owned(), text);
        revision(changed)
    };
    let (one, two) = ("https://ci.test/a", "https://ci.test/b");
    let sigstore = |root: &str, more: &str| format!("trusted_root = {root:?}, oidc_issuer = \"https://i.test\"{more}");
    let own = certified(one, &format!("authorities = [{acme}]"));
    let public = certified(one, &sigstore(root, ""));
    let widens = |before: &Revision, after: &Revision| {
        let found = of_own_rights(before, after, &[carol()], &[]);
        found.iter().any(|found| found.to_string().contains("attestors.toml: changes what reviews may vouch"))
    };
    assert!(!widens(&own, &certified(one, &format!("authorities = [{acme}]"))));
    assert!(!widens(&public, &certified(one, &sigstore(root, ""))));
    assert!(widens(&own, &certified(one, &format!("authorities = [{acme}, {other}]"))));
    assert!(widens(&own, &certified(one, &format!("authorities = [{other}]"))));
    assert!(widens(&own, &certified(two, &format!("authorities = [{acme}]"))));
    assert!(widens(&own, &public));
    assert!(widens(&public, &certified(one, &sigstore(other_root, ""))));
    assert!(widens(&public, &certified(two, &sigstore(root, ""))));
    assert!(widens(&public, &certified(one, &sigstore(root, ", repository_id = \"222\""))));
    assert!(widens(&public, &certified(one, &sigstore(root, "").replace("i.test", "j.test"))));
}

#[test]
fn a_suspended_role_that_one_may_mint_comes_back_by_somebody_else() {
    let mut suspended = files();
    replaced("roles/platform/debug.toml", "backend", "state = \"suspended\"\nbackend")(&mut suspended);
    let found = of_own_rights(&revision(suspended), &revision(files()), &[carol()], &[]);
    assert!(found.iter().any(|finding| finding.reason.contains("changes its state")), "{found:?}");
}

/// By their accounts it is told who made a change, who approved it, and who asks.
#[test]
fn whose_accounts_are_whose_is_somebody_elses_to_say() {
    let owners = |carol: &str, ada: &str| {
        let mut changed = files();
        let text = changed.get_mut("owners.toml").unwrap();
        let member = |subject: &str, accounts: &str| format!("subject = {subject:?}, accounts = [{accounts}]");
        *text = text.replace("subject = \"carol\"", &member("carol", carol));
        *text = text.replace("subject = \"ada\"", &member("ada", ada));
        revision(changed)
    };
    let without_ada = |carol: &str| {
        let mut changed = files();
        let text = changed.get_mut("owners.toml").unwrap();
        *text = text.replace("subject = \"ada\"", "subject = \"dan\"");
        *text = text.replace("subject = \"carol\"", &format!("subject = \"carol\", accounts = [{carol}]"));
        revision(changed)
    };
    let (one, both, other) = ("\"github:1003\"", "\"github:1003\", \"github:1009\"", "\"github:1009\"");
    let found = |before: &Revision, after: &Revision| {
        let found = of_own_rights(before, after, &[carol()], &[]);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let of = |whom: &str| format!("owners.toml: changes which accounts are those of people:{whom}");
    let own = owners(both, "\"github:1001\"");
    for (what, after, whom) in [
        ("one's second account is nobody's", owners(one, "\"github:1001\""), "carol"),
        ("it is somebody else's", owners(one, "\"github:1001\", \"github:1009\""), "carol"),
        ("somebody else gets it, too", owners(both, "\"github:1001\", \"github:1009\""), "ada"),
        ("another's account goes", owners(both, ""), "ada"),
        ("one has more of them", owners(&format!("{both}, \"github:1010\""), "\"github:1001\""), "carol"),
    ] {
        let found = found(&own, &after);
        assert!(found.iter().any(|found| found.contains(&of(whom))), "{what}: {found:?}");
    }
    // Somebody new brings accounts.
    let came = found(&without_ada(one), &owners(one, other));
    assert!(came.iter().any(|found| found.contains(&of("ada"))), "{came:?}");
    // Whoever leaves takes an account along that made two members one person, or makes nobody another.
    let bridge = found(&owners(one, both), &without_ada(one));
    assert!(bridge.iter().any(|found| found.contains(&of("ada"))), "{bridge:?}");
    assert_eq!(found(&owners(one, "\"github:1001\""), &without_ada(one)), Vec::<String>::new());
    assert_eq!(found(&own, &owners("\"github:1009\", \"github:1003\"", "\"github:1001\"")), Vec::<String>::new());
}

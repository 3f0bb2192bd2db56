//! Rights that the publisher would have at another time, from elsewhere, or by a proof that says more: it is noon, and the
//! publishing request comes from nowhere in particular.

use super::*;

/// What holds in `circumstances` alone, of roles of low tier.
fn with(circumstances: &str) -> Files {
    let mut with = files();
    let text = format!(
        "@id(\"low-tiers\") permit (principal is Operator, action in [Action::\"revoke\", Action::\"suspend\"], resource)\n\
         when {{ resource is Role && resource has tier && resource.tier == \"low\" || \
         resource is Grant && resource has tier && resource.tier == \"low\" }}\nwhen {{ {circumstances} }};\n\
         @id(\"no-staging\") forbid (principal, action == Action::\"read\", resource is Grant)\n\
         when {{ resource has stage && resource.stage == \"apply\" }}\nwhen {{ {circumstances} }};\n"
    );
    let policies = with.get_mut("policies/all.cedar").unwrap();
    let operates = "action in [Action::\"read\", Action::\"revoke\", Action::\"publish\"]";
    assert!(policies.contains(operates));
    *policies = policies.replace(operates, "action in [Action::\"read\", Action::\"publish\"]");
    policies.push_str(&text);
    replaced("roles/payments/deploy.toml", "tier", "stage = \"apply\"\ntier")(&mut with);
    with
}

const CIRCUMSTANCES: &[&str] = &[
    "true",
    "context.hour >= 20",
    "context.hour < 5",
    "context.weekday == 7",
    "context has source_ip && context.source_ip.isInRange(ip(\"10.0.0.0/8\"))",
    "context has ticket",
    "context.provenance has ref && context.provenance.ref == \"refs/heads/main\"",
    "context.binding == \"bound\"",
    "principal.hasTag(\"acr\") && principal.getTag(\"acr\") == \"high\"",
    "principal.multi_audience",
    "context.holder",
];

fn changed(circumstances: &str, change: impl FnOnce(&mut Files)) -> Vec<String> {
    let before = with(circumstances);
    let mut after = before.clone();
    change(&mut after);
    assert_ne!(before, after, "nothing was changed");
    let found = of_own_rights(&revision(before), &revision(after), &[carol()], &[]);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_gained_in_any_circumstances_is_seen_in_all() {
    let deploy = "roles/payments/deploy.toml";
    for circumstances in CIRCUMSTANCES {
        let found = changed(circumstances, replaced(deploy, "tier = \"high\"", "tier = \"low\""));
        for gained in ["you could revoke grants of payments/deploy", "you could suspend the role payments/deploy"] {
            assert!(found.iter().any(|finding| finding.contains(gained)), "{circumstances}: {found:#?}");
        }
        let found = changed(circumstances, replaced(deploy, "stage = \"apply\"", "stage = \"plan\""));
        let freed = "you could read grants of payments/deploy";
        assert!(found.iter().any(|finding| finding.contains(freed)), "{circumstances}: {found:#?}");
    }
}

#[test]
fn what_is_gained_in_no_circumstances_is_nobodys_to_refuse() {
    let deploy = "roles/payments/deploy.toml";
    for circumstances in CIRCUMSTANCES {
        for (name, from, to) in [
            ("another tier that is not low", "tier = \"high\"", "tier = \"highest\""),
            ("a stage that is barred", "tier = \"high\"", "target = \"prod\"\ntier = \"high\""),
            ("longer lives", "max = \"1h\"", "max = \"8h\""),
        ] {
            assert_eq!(changed(circumstances, replaced(deploy, from, to)), Vec::<String>::new(), "{name}");
        }
        let unbarred = |files: &mut Files| {
            let text = files.get_mut("policies/all.cedar").unwrap();
            *text = format!("// A remark.\n{text}");
        };
        assert_eq!(changed(circumstances, unbarred), Vec::<String>::new(), "a remark");
    }
    // And what is lost: a role of low tier becomes one of high tier.
    for circumstances in CIRCUMSTANCES {
        let mut before = with(circumstances);
        replaced(deploy, "tier = \"high\"", "tier = \"low\"")(&mut before);
        let found = of_own_rights(&revision(before), &revision(with(circumstances)), &[carol()], &[]);
        assert_eq!(found, [], "{circumstances}");
    }
}

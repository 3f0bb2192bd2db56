//! What gives the publisher nothing.

use super::*;

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

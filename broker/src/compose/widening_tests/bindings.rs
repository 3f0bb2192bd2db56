//! Who need not show a key any more can do more, and so can whoever has its token.

use super::*;

const DEBUGS: &str = "@id(\"platform-debugs-at-day\")\n";

fn found(before: Files, after: Files) -> Vec<String> {
    let found = of_own_rights(&revision(before), &revision(after), &[carol()], &[]);
    found.iter().map(ToString::to_string).collect()
}

fn with(annotation: &str) -> Files {
    let mut files = files();
    let policies = files.get_mut("policies/all.cedar").unwrap();
    *policies = policies.replacen(DEBUGS, &format!("{DEBUGS}{annotation}"), 1);
    files
}

#[test]
fn a_binding_that_goes_or_changes_widens_and_one_that_comes_does_not() {
    let (none, dpop, mtls) = (with(""), with("@binding(\"dpop\")\n"), with("@binding(\"mtls\")\n"));
    for (before, after) in [(&dpop, &none), (&mtls, &none), (&dpop, &mtls), (&mtls, &dpop)] {
        let found = found(before.clone(), after.clone());
        assert!(found.iter().any(|one| one.contains("platform-debugs-at-day")), "{found:?}");
        assert!(found.iter().any(|one| one.contains("you could mint the role platform/debug")), "{found:?}");
    }
    for (before, after) in [(&none, &dpop), (&none, &mtls), (&dpop, &dpop)] {
        assert_eq!(found(before.clone(), after.clone()), Vec::<String>::new());
    }
}

#[test]
fn the_permit_that_asked_for_a_key_can_go_only_with_all_that_it_held_back() {
    let without = |mut files: Files| {
        let policies = files.get_mut("policies/all.cedar").unwrap();
        let (before, after) = policies.split_once(DEBUGS).unwrap();
        let (_, after) = after.split_once("};\n").unwrap();
        *policies = format!("{before}{after}");
        files
    };
    assert_eq!(found(with(""), without(with(""))), Vec::<String>::new());
    let found = found(with("@binding(\"dpop\")\n"), without(with("@binding(\"dpop\")\n")));
    assert!(found.iter().any(|one| one.contains("no longer asks for a binding")), "{found:?}");
}

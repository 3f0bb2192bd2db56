//! Whose rights they are.

use std::slice::from_ref;

use super::*;

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

#[test]
fn behind_a_token_of_the_brokers_own_stands_whoever_opened_its_grant() {
    let token = question("hallpass", PrincipalKind::Workload, "people:carol");
    let lives_longer = || replaced("roles/platform/debug.toml", "max = \"1h\"", "max = \"2h\"");
    assert_eq!(widens(from_ref(&token), lives_longer()), Vec::<String>::new(), "the control");
    assert!(!widens(&[token, carol()], lives_longer()).is_empty());
}

//! The story that a newcomer is told, with the real servers.

use hallpass_tests::component;
use hallpass_tests::process::{program, quiet_command};

/// Runs the story with `what` and gives what was told.
fn told(what: &str) -> String {
    let mut command = quiet_command(&program("hallpass-broker"));
    // Where `tests/run` installs the servers is sought from here.
    command.args(["dev", "--exit", "--port", "0", "--with", what]).current_dir(component::root());
    let output = command.output().expect("the binary starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(err.is_empty(), "nothing is to be warned of: {err}");
    assert!(out.ends_with("Every step held.\n"), "{out}");
    out.into_owned()
}

#[test]
fn a_newcomer_sees_a_real_vault_confirm_the_end_of_a_token() {
    if component::openbao().is_none() {
        return;
    }
    let told = told("vault");
    assert!(
        told.contains("Revoked, confirmed by the server") && told.contains("the token             →  403"),
        "{told}"
    );
}

#[test]
fn a_newcomer_sees_a_real_database_confirm_the_end_of_a_user() {
    if component::postgres().is_none() {
        return;
    }
    let told = told("postgres");
    assert!(told.contains("Revoked, confirmed by the server") && told.contains("not there"), "{told}");
}

//! What only these experiments need of a broker's process: that it can be killed at a named place.

pub(crate) use hallpass_tests::port::lasting_address;
pub(crate) use hallpass_tests::process::{DEADLINE, Process, Start, Started, assert_killed, program, quiet_command};

/// A broker without its fail points would work on for as long as a test waits for its death.
pub(crate) fn assert_has_fail_points() {
    let mut command = quiet_command(&program("hallpass-broker"));
    let output = command.arg("--version").env("HALLPASS_KILL_AT", "nowhere").output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = "the broker is built without its fail points: run tests/run, or tests/chaos/run";
    assert!(said.contains("HALLPASS_KILL_AT"), "{missing}");
}

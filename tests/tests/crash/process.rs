//! What only these experiments need of a broker's process: that it can be killed at a named place, and ports that stay its own
//! while it is dead.

use std::net::{SocketAddr, TcpListener};

pub(crate) use hallpass_tests::process::{DEADLINE, Process, Start, Started, assert_killed, program, quiet_command};

use crate::chance::Chance;

/// A broker without its fail points would work on for as long as a test waits for its death.
pub(crate) fn assert_has_fail_points() {
    let mut command = quiet_command(&program("hallpass-broker"));
    let output = command.arg("--version").env("HALLPASS_KILL_AT", "nowhere").output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = "the broker is built without its fail points: run tests/run, or tests/chaos/run";
    assert!(said.contains("HALLPASS_KILL_AT"), "{missing}");
}

/// An address that is free and stays so while the broker is down: outside the range from which the system takes ports
/// for connections, so that no client of ours is given it meanwhile.
pub(crate) fn lasting_address(chance: &mut Chance) -> SocketAddr {
    for _ in 0..1000 {
        let port = u16::try_from(10_000 + chance.below(22_000)).expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between 10000 and 32000");
}

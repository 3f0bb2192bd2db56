//! A secret in the environment.
//!
//! The kernel shows the environment that a process was started with for as long as the process runs, whatever the process
//! does to it (proc_pid_environ(5)). So whoever reads a secret there closes the process first: to every other process but
//! root's, to debuggers, and to core dumps.

use std::os::unix::ffi::OsStringExt as _;

use zeroize::Zeroizing;

/// The value of the environment variable `name`. From the first that has one on, nobody but root sees the environment or
/// the memory of this process.
#[must_use]
pub fn read(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let value = std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))?;
    close();
    Some(value)
}

/// `prctl(PR_SET_DUMPABLE, 0)`: what `/proc` has of the process is root's (ptrace(2), "Ptrace access mode checking").
#[cfg(target_os = "linux")]
fn close() {
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user can read the key in the environment of this one");
    }
}

#[cfg(not(target_os = "linux"))]
fn close() {
    tracing::warn!("other processes of this user may be able to read the key in the environment of this one");
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn whoever_reads_a_secret_in_the_environment_is_closed_to_others() {
        assert_eq!(read("NO_VARIABLE_HAS_THIS_NAME").as_deref(), None);
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable, "the control: there was nothing to hide");
        assert!(read("PATH").is_some());
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}

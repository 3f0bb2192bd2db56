//! Kills this process at a named place: how tests find out what a crash leaves behind.
//!
//! Compiled with the feature `failpoints` alone, which no release has.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// `HALLPASS_KILL_AT=open::after-commit` kills at the first hit of that fail point, `…=open::after-commit:7` at the
/// seventh. The signal is SIGKILL: no destructor runs, nothing is flushed, nobody is told.
const VARIABLE: &str = "HALLPASS_KILL_AT";

/// Arms the fail point that the environment names, if it names one. What cannot be armed ends the process: a test that
/// waits for a crash must not wait for one that never comes.
pub fn arm_from_environment() {
    let Some(asked) = std::env::var_os(VARIABLE) else { return };
    let armed = match asked.to_str().and_then(KillAt::parse) {
        Some(kill_at) => kill_at.arm(),
        None => Err(format!("{asked:?} is not a fail point's name, nor one with `:` and a number from 1")),
    };
    if let Err(reason) = armed {
        eprintln!("hallpass-broker: {VARIABLE}: {reason}");
        process::exit(2);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct KillAt<'a> {
    fail_point: &'a str,
    hit: usize,
}

impl<'a> KillAt<'a> {
    /// The names of fail points have `::` in them, so a number follows the last `:` or none does.
    fn parse(text: &'a str) -> Option<Self> {
        let (fail_point, hit) = match text.rsplit_once(':') {
            Some((name, number)) if !name.ends_with(':') => (name, number.parse().ok()?),
            _ => (text, 1),
        };
        (fail_point.contains("::") && hit > 0).then_some(Self { fail_point, hit })
    }

    fn arm(&self) -> Result<(), String> {
        let (hits, last) = (AtomicUsize::new(0), self.hit);
        fail::cfg_callback(self.fail_point, move || {
            if hits.fetch_add(1, Ordering::Relaxed).saturating_add(1) == last {
                // Does not return: SIGKILL reaches the thread that sends it before the call is over.
                let _ = kill_process(getpid(), Signal::KILL);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fail_point_is_named_with_or_without_the_hit_that_counts() {
        let at = |fail_point, hit| Some(KillAt { fail_point, hit });
        assert_eq!(KillAt::parse("open::after-commit"), at("open::after-commit", 1));
        assert_eq!(KillAt::parse("open::after-commit:7"), at("open::after-commit", 7));
        for wrong in ["", "open", "open:7", "open::after-commit:0", "open::after-commit:x", "open::after-commit:"] {
            assert_eq!(KillAt::parse(wrong), None, "{wrong:?}");
        }
    }
}

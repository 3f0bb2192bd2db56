//! What goes on behind the requests, and how it went the last time: for whoever asks how the broker is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::http::desk::{Condition, Part};

/// How the work behind the requests goes. A piece of work that was never noted is well.
#[derive(Debug, Default)]
pub struct Vitals(Mutex<BTreeMap<Work, String>>);

/// A piece of work: what it is, and which of several.
type Work = (&'static str, Option<String>);

impl Vitals {
    /// Everything that is noted here, so that it is told of while it is well too.
    pub const PARTS: [&str; 5] = ["audit_checkpoint", "clock", "configuration", "key_care", "workers"];

    /// Notes how a piece of work went: well, or why not. The reason is for operators, and has nothing secret.
    pub fn note(&self, part: &'static str, name: Option<&str>, trouble: Option<String>) {
        let work = (part, name.map(str::to_owned));
        match trouble {
            Some(why) => self.troubles().insert(work, why),
            None => self.troubles().remove(&work),
        };
    }

    /// What is wrong with a piece of work, if anything is.
    #[must_use]
    pub fn trouble(&self, part: &'static str, name: Option<&str>) -> Option<String> {
        self.troubles().get(&(part, name.map(str::to_owned))).cloned()
    }

    /// How each of [`Vitals::PARTS`] is. None of them keeps anybody from a credential.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let part = |part| match self.trouble(part, None) {
            Some(why) => Part::ok(part).in_condition(Condition::Degraded, why),
            None => Part::ok(part),
        };
        Self::PARTS.map(part).into()
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<Work, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_until_it_goes_well() {
        let vitals = Vitals::default();
        let unwell = || vitals.parts().into_iter().filter(|part| part.status != Condition::Ok).collect::<Vec<_>>();
        assert_eq!(unwell(), []);
        vitals.note("configuration", None, Some("it is refused".to_owned()));
        vitals.note("audit_export", Some("stdout"), Some("nobody reads".to_owned()));
        assert_eq!(unwell(), [Part::ok("configuration").in_condition(Condition::Degraded, "it is refused")]);
        assert_eq!(vitals.trouble("audit_export", Some("stdout")).as_deref(), Some("nobody reads"));
        vitals.note("configuration", None, None);
        assert_eq!(unwell(), []);
    }
}

//! What it takes to undo what a grant has at the server: what the handle says, sealed in the store.

use hallpass_core::credential::{Handle, RevocationClass};
use hallpass_core::id::{GrantId, SpareId};
use hallpass_core::port::Belongs;
use hallpass_core::secret::SecretBytes;
use hallpass_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::wire::Text;
use crate::config::backend::vault::Engine;

/// The version of the form that handles have.
const VERSION: u8 = 1;
/// Room for one. Growing would leave a token behind.
const MAX_HANDLE: usize = 4 * 1024;

/// What it takes to undo.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Trace {
    v: u8,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<GrantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spare: Option<SpareId>,
    /// What makes the credential.
    pub(super) engine: Engine,
    /// Where, if it is not a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// Of the token that it is, or that it was made under. None before that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accessor: Option<String>,
    /// The token that a credential is still to be made under, of a spare alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<Text>,
    /// The token role that a spare's token was made by, as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) made_by: Option<String>,
    /// When the token ends, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<i64>,
    /// What was made under it, where the server answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<String>,
    /// The serial number of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serial: Option<String>,
    /// Whether the server answered with what it made.
    #[serde(default)]
    pub(super) is_answered: bool,
}

impl Trace {
    pub(super) fn planned(belongs: Belongs, engine: Engine, path: Option<&str>) -> Self {
        let (grant, spare) = match belongs {
            Belongs::ToGrant(id) => (Some(id), None),
            Belongs::ToSpare(id) => (None, Some(id)),
            Belongs::ToOthers => (None, None),
        };
        Self {
            v: VERSION,
            grant,
            spare,
            engine,
            path: path.map(str::to_owned),
            accessor: None,
            token: None,
            made_by: None,
            ends_at: None,
            lease: None,
            serial: None,
            is_answered: false,
        }
    }

    /// The trace of a handle, if it is one of ours.
    pub(super) fn of(handle: &Handle) -> Result<Self, &'static str> {
        let trace: Self = serde_json::from_slice(handle.0.expose()).map_err(|_| "its handle is none of this kind")?;
        if trace.v == VERSION { Ok(trace) } else { Err("its handle is of a newer version") }
    }

    pub(super) fn handle(&self) -> Handle {
        let mut written = Zeroizing::new(Vec::with_capacity(MAX_HANDLE));
        // Texts and numbers into memory: this does not fail.
        let _ = serde_json::to_writer(&mut *written, self);
        Handle(SecretBytes::new(std::mem::take(&mut *written)))
    }

    pub(super) fn belongs(&self) -> Belongs {
        match (self.grant, self.spare) {
            (Some(id), _) => Belongs::ToGrant(id),
            (None, Some(id)) => Belongs::ToSpare(id),
            (None, None) => Belongs::ToOthers,
        }
    }

    /// Whether something may be being made under its token of which nobody has heard.
    pub(super) fn may_be_minting(&self) -> bool {
        let makes = self.engine.class() != RevocationClass::ExpiryOnly && self.engine != Engine::Token;
        makes && self.accessor.is_some() && !self.is_answered
    }

    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at.map(Timestamp::from_millis)
    }

    pub(super) fn set_ends_at(&mut self, at: Timestamp) {
        self.ends_at = Some(at.as_millis());
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::secret::Secret;
    use hallpass_core::testing::sample;

    use super::*;

    #[test]
    fn a_handle_says_again_what_it_was_made_of_and_does_not_print() {
        let mut trace = Trace::planned(Belongs::ToSpare(sample::id(7)), Engine::RabbitMq, Some("rabbitmq/creds/app"));
        assert_eq!(Trace::of(&trace.handle()).unwrap().belongs(), Belongs::ToSpare(sample::id(7)));
        trace.token = Some(Text::new(Secret::new("s.token".to_owned())));
        (trace.accessor, trace.lease) = (Some("accessor".to_owned()), Some("rabbitmq/creds/app/1".to_owned()));
        trace.set_ends_at(sample::NOW);
        let again = Trace::of(&trace.handle()).unwrap();
        assert_eq!(again.token.as_ref().map(Text::expose), Some("s.token"));
        assert_eq!((&again.accessor, &again.lease), (&trace.accessor, &trace.lease));
        assert_eq!(
            (again.engine, again.ends_at().map(Timestamp::as_secs)),
            (trace.engine, Some(sample::NOW.as_secs()))
        );
        assert!(!format!("{trace:?}").contains("s.token"));
    }

    #[test]
    fn a_handle_of_another_kind_or_of_a_later_version_undoes_nothing() {
        for text in ["", "{}", r#"{"kind":"jwt","jti":"x"}"#, r#"{"v":2,"engine":"token"}"#] {
            let handle = Handle(SecretBytes::new(text.as_bytes().to_vec()));
            assert!(Trace::of(&handle).is_err(), "{text}");
        }
    }
}

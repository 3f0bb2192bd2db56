//! What the exit status says.

use std::fmt;
use std::process::ExitCode;

use hallpass_sdk::client::{Error, ErrorKind};

/// The part of `--help` that documents the exit status.
pub(crate) const HELP: &str = "\
Exit status:
  0    done
  1    failed, for a reason that is none of these
  2    wrong usage or configuration
  3    there is no proof of identity, or the broker did not accept it
  4    policy said no, or wants an approval first
  5    the broker or the backend cannot be reached, or cannot act now
  6    revoke: nothing matches what was selected, unless --allow-none says that this is fine
  exec: the command's own; 128 + N when signal N ended it; 126 when it cannot be run, 127 when it is not found
  revoke: 0 when every grant has followed; 1 when its question is not answered with yes; 2 when nobody can be asked";

/// Exit status of `hallpass` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Other,
    Usage,
    Proof,
    Denied,
    Unavailable,
    NothingMatches,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::Proof => 3,
            Exit::Denied => 4,
            Exit::Unavailable => 5,
            Exit::NothingMatches => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(u8::from(exit))
    }
}

/// Something was said on the command line that cannot be done.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Nothing is like what was selected: it may be misspelt, and must not look like success.
#[derive(Debug)]
pub(crate) struct NothingMatches(pub(crate) String);

impl fmt::Display for NothingMatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NothingMatches {}

/// The exit status for an error.
pub(crate) fn code_of(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<UsageError>().is_some() {
        return Exit::Usage;
    }
    if error.downcast_ref::<NothingMatches>().is_some() {
        return Exit::NothingMatches;
    }
    match error.downcast_ref::<Error>().map(Error::kind) {
        Some(ErrorKind::Configuration) => Exit::Usage,
        Some(ErrorKind::Proof) => Exit::Proof,
        Some(ErrorKind::Denied) => Exit::Denied,
        Some(ErrorKind::Unavailable) => Exit::Unavailable,
        _ => Exit::Other,
    }
}

#[cfg(test)]
mod tests {
    use hallpass_sdk::client::proof::ProofError;
    use hallpass_sdk::client::{ConfigurationError, Refusal};
    use hallpass_sdk::wire::Problem;

    use super::*;

    fn refused(status: u16) -> anyhow::Error {
        let problem = Problem {
            type_uri: "about:blank".to_owned(),
            title: "No".to_owned(),
            status,
            code: "no".to_owned(),
            detail: String::new(),
            request_id: String::new(),
            step: None,
            parameter: None,
            findings: Vec::new(),
        };
        Error::Refused(Box::new(Refusal { problem, retry_after: None })).into()
    }

    #[test]
    fn each_kind_of_failure_has_its_documented_status() {
        for (status, exit) in
            [(401, 3), (403, 4), (404, 1), (409, 1), (422, 1), (429, 5), (500, 1), (502, 5), (503, 5), (504, 5)]
        {
            assert_eq!(u8::from(code_of(&refused(status))), exit, "{status}");
        }
        assert_eq!(code_of(&Error::Proof(ProofError::NotFound).into()), Exit::Proof);
        assert_eq!(code_of(&Error::Configuration(ConfigurationError::Ca).into()), Exit::Usage);
        assert_eq!(code_of(&UsageError(String::new()).into()), Exit::Usage);
        assert_eq!(u8::from(code_of(&NothingMatches(String::new()).into())), 6);
        assert_eq!(code_of(&anyhow::anyhow!("else")), Exit::Other);
        assert_eq!(code_of(&refused(403).context("while opening")), Exit::Denied, "context hides nothing");
    }
}

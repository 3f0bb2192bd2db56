//! Which grants a command over a set means.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use hallpass_sdk::wire::{Selector, Timestamp};
use serde_json::Value;

use crate::exit::UsageError;
use crate::whoami::attributes;

/// All that is given must match. Nothing given is refused: an empty variable in a script must not end everything.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which grants (all that is given must match)")]
pub(crate) struct Selection {
    /// Every grant there is
    #[arg(long)]
    pub(crate) all: bool,
    /// Team that answers for the role
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) owner: Option<String>,
    /// Role
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) role: Option<String>,
    /// Issuer of the proof. This and the next five are of one party: whoever it is for, or one that acts for that one
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) issuer: Option<String>,
    /// Subject of the proof
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) subject: Option<String>,
    /// Repository as owner/name
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) repository: Option<String>,
    /// Immutable id of the repository
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) repository_id: Option<String>,
    /// Commit, in full as the issuer writes it: for git 40 hexadecimal digits in lower case
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) commit: Option<String>,
    /// Id of the run
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) run: Option<String>,
    /// Environment that the credential reaches
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) environment: Option<String>,
    /// Backend that mints
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) backend: Option<String>,
    /// Policy that determined the decision
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) policy: Option<String>,
    /// Key that signed the proof, or the broker's key that signed the credential
    #[arg(long, value_name = "KID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key_id: Option<String>,
    /// Id (jti) of the proof
    #[arg(long, value_name = "JTI", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) proof_id: Option<String>,
    /// Id of the grant that it was delegated from
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) parent: Option<String>,
    /// Who acts with it for another, or is acted through: ISSUER:SUBJECT
    #[arg(long, value_name = "IDENTITY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) actor: Option<String>,
    /// Digest of a build attestation that it was decided on
    #[arg(long, value_name = "DIGEST", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) attestation_digest: Option<String>,
}

impl Selection {
    /// What the broker is asked for; `since` and `until` bound the time of creation.
    ///
    /// # Errors
    /// [`UsageError`] when nothing is selected, or everything and something besides.
    pub(crate) fn selector(self, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Selector, UsageError> {
        let all = self.all;
        let criteria = Selector {
            all: false,
            state: None,
            owner: self.owner,
            role: self.role,
            issuer: self.issuer,
            subject: self.subject,
            repository: self.repository,
            repository_id: self.repository_id,
            commit: self.commit,
            run: self.run,
            environment: self.environment,
            backend: self.backend,
            policy: self.policy,
            purpose: None,
            ticket: None,
            since,
            until,
            key_id: self.key_id,
            proof_id: self.proof_id,
            parent: self.parent,
            actor: self.actor,
            attestation_digest: self.attestation_digest,
        };
        match (all, criteria == Selector::default()) {
            (true, true) => Ok(Selector::everything()),
            (false, false) => Ok(criteria),
            (true, false) => {
                Err(UsageError("--all means every grant there is, and goes with no other criterion".to_owned()))
            }
            (false, true) => {
                let words = "which grants? Give at least one criterion, such as --commit, or --all for every grant";
                Err(UsageError(words.to_owned()))
            }
        }
    }
}

/// What makes it doubtful that the selected commit is one: grants have it as the issuer writes it, which is in full.
pub(crate) fn doubt_of_commit(selector: &Selector) -> Option<String> {
    /// Hexadecimal digits of a commit of git, by SHA-1 and by SHA-256.
    const WHOLE: [usize; 2] = [40, 64];
    let commit = selector.commit.as_deref()?;
    let is_hex = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_whole = WHOLE.contains(&commit.len()) && !commit.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_hex && !is_whole).then(|| {
        let length = commit.len();
        format!(
            "a commit matches exactly as its issuer writes it, for git in full and in lower case: 40 hexadecimal digits (64 \
             with SHA-256), and {commit} has {length}"
        )
    })
}

/// What is selected, in words.
pub(crate) fn described(selector: &Selector) -> String {
    if selector.all {
        return "every grant".to_owned();
    }
    match serde_json::to_value(selector) {
        Ok(Value::Object(criteria)) => attributes(&criteria).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_refused_and_everything_goes_with_nothing_else() {
        let commit = || Selection { commit: Some("4f2c".to_owned()), ..Selection::default() };
        let since = "2026-01-31T09:00:00Z".parse().ok();
        assert!(Selection::default().selector(None, None).is_err());
        assert!(Selection { all: true, ..commit() }.selector(None, None).is_err());
        assert!(Selection { all: true, ..Selection::default() }.selector(since, None).is_err());
        let everything = Selection { all: true, ..Selection::default() }.selector(None, None).unwrap();
        assert_eq!(described(&everything), "every grant");
        let recent = commit().selector(since, None).unwrap();
        assert_eq!(described(&recent), "commit=4f2c, since=2026-01-31T09:00:00Z");
        assert!(Selection::default().selector(since, None).is_ok());
    }

    #[test]
    fn a_commit_that_is_cut_short_or_in_upper_case_is_doubted() {
        let doubt =
            |commit: &str| doubt_of_commit(&Selector { commit: Some(commit.to_owned()), ..Selector::default() });
        let whole = "4f2c8b1d".repeat(5);
        for fine in [&whole, &"4f2c8b1d".repeat(8), "r/1234", "v1.2"] {
            assert_eq!(doubt(fine), None, "{fine}");
        }
        for doubtful in ["4f2c8b1", &whole.to_uppercase(), &whole[1..]] {
            assert!(doubt(doubtful).is_some_and(|words| words.contains("40 hexadecimal digits")), "{doubtful}");
        }
        assert_eq!(doubt_of_commit(&Selector::everything()), None);
    }
}

//! What can be said on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hallpass_sdk::wire::{Duration, GrantState, Timestamp};

use crate::exit;
use crate::selection::Selection;

/// Short-lived credentials for those who prove who they are.
#[derive(Debug, Parser)]
#[command(name = "hallpass", version, after_help = exit::HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The broker, such as `https://hallpass.example`
    #[arg(long, global = true, env = "HALLPASS_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Trust the certificates in this file (PEM) beside the public ones
    #[arg(long, global = true, env = "HALLPASS_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Show the certificate chain in this file (PEM) to the broker, such as an X.509-SVID: the proof where none is named
    #[arg(long, global = true, env = "HALLPASS_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, global = true, env = "HALLPASS_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Where the proof of identity comes from: env:NAME, file:PATH, github, gitlab, kubernetes, spiffe or buildkite. Found by
    /// itself when not said: HALLPASS_PROOF, HALLPASS_PROOF_FILE, then the platform that this runs on
    #[arg(long, global = true, value_name = "SOURCE")]
    pub(crate) proof: Option<String>,
    /// Audience to ask a proof for; the broker's URL when not said
    #[arg(long, global = true, env = "HALLPASS_AUDIENCE", value_name = "AUDIENCE")]
    pub(crate) audience: Option<String>,
    /// Be bound to the key in this file (DPoP): what is opened works for nobody who does not show it, and is renewed and
    /// ended with it alone. A file that is not there is made, for its owner to read; `new` is a key for this one command
    #[arg(long, global = true, env = "HALLPASS_DPOP", value_name = "FILE|new")]
    pub(crate) dpop: Option<String>,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Allow plain http to another machine, where anyone on the way can take proofs and credentials
    #[arg(long, global = true)]
    pub(crate) dangerous_plain_http: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, coloured on a terminal unless `NO_COLOR` is set
    #[default]
    Human,
    /// For programs, as the broker's interface spells it
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Exchange a proof for a credential, and print it
    #[command(after_help = crate::delivery::EXCHANGE_HELP)]
    Exchange(Exchange),
    /// Run a command with a credential that is taken back when the command ends
    #[command(after_help = crate::delivery::EXEC_HELP)]
    Exec(Exec),
    /// Look at grants, renew or end them
    Grants(Grants),
    /// End a set of grants at once, after showing which
    Revoke(Box<Revoke>),
    /// Stop grants from being opened or renewed, look at what is stopped, or lift it
    Quarantine(Quarantine),
    /// Look at what is governed, at its history, or put another bundle into force
    Configuration(Configuration),
    /// Show what the broker sees of the proof
    Whoami,
    /// Print a completion script
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

/// What a credential is wanted for.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Role, such as payments/prod/deploy
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: String,
    /// Why, in words that its owner will understand later; may be left out where the role has a default
    #[arg(long, value_name = "WORDS")]
    pub(crate) purpose: Option<String>,
    /// How long, such as 15m; the role's default when not said
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<Duration>,
    /// Ticket or change reference
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<String>,
    /// Narrow what the credential may do; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// Certificate request (PEM) to have signed, so that the private key stays here; the broker makes a key when not
    /// said
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,
    /// Signed statement about the change or the build behind the request (DSSE envelope or Sigstore bundle); may be
    /// repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) attestation: Vec<PathBuf>,
    /// Act for somebody: where the proof of whoever that is comes from, env:NAME or file:PATH. What is opened is of their
    /// authority, as far as policy lets you act for them; your own proof says who you are
    #[arg(long, value_name = "SOURCE")]
    pub(crate) on_behalf_of: Option<String>,
    /// Task of an agent that this is part of
    #[arg(long, value_name = "WORDS")]
    pub(crate) task: Option<String>,
    /// Put files here instead of into a temporary folder or on standard output. Nothing that exists is overwritten
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Exchange {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Send SIGTERM to the command when the grant ends before it; else only a warning is printed
    #[arg(long)]
    pub(crate) kill_on_end: bool,
    /// The broker ends the grant when it hears nothing for this long; a heartbeat is sent three times as often
    #[arg(long, value_name = "DURATION", default_value = "45s", value_parser = heartbeat)]
    pub(crate) heartbeat: Duration,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Configuration {
    #[command(subcommand)]
    pub(crate) action: ConfigurationAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigurationAction {
    /// Show the bundle in force
    Get {
        /// Write its files into this folder. Nothing that exists is overwritten
        #[arg(long, value_name = "DIR")]
        files: Option<PathBuf>,
    },
    /// Put the bundle in a folder into force
    Put {
        /// The folder
        folder: PathBuf,
        /// The revision that it replaces; the one that `get --files` wrote down beside the files when not said
        #[arg(long, value_name = "REVISION")]
        replaces: Option<String>,
        /// Only say what would be
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what leads from one revision to another
    Diff {
        /// The revision that it starts from
        from: String,
        /// The revision that it leads to
        to: String,
    },
    /// List publications, newest first
    Revisions {
        /// Where to go on
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Publish the content of an earlier revision again
    Rollback {
        /// The revision whose content is wanted
        revision: String,
        /// The revision that is replaced by it
        #[arg(long, value_name = "REVISION", required_unless_present = "dry_run")]
        replaces: Option<String>,
        /// Only say what would be
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Grants {
    #[command(subcommand)]
    pub(crate) action: GrantsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GrantsAction {
    /// List grants, newest first
    List(Box<Filter>),
    /// Show everything that a grant can answer
    Show {
        /// Id of the grant
        id: String,
    },
    /// Move the end of a grant, with a fresh proof
    Renew {
        /// Id of the grant
        id: String,
        /// How long from now; the role's default when not said
        #[arg(long, value_name = "DURATION")]
        ttl: Option<Duration>,
    },
    /// End a grant
    Revoke {
        /// Id of the grant
        id: String,
        /// Why, for the record
        #[arg(long, value_name = "WORDS")]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Why, for the record
    #[arg(long, value_name = "WORDS", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Only show what would end
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask; needed where nobody can be asked: without a terminal, and with --output json
    #[arg(long)]
    pub(crate) yes: bool,
    /// Do not wait until every grant has followed: it holds as soon as it has begun
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// That nothing matches is fine; else it ends with exit status 6, because what is selected may be misspelt
    #[arg(long)]
    pub(crate) allow_none: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Created at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Created before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) action: QuarantineAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// Stop what is selected from being opened or renewed; --all is a halt
    Add(Box<Stop>),
    /// List quarantines, newest first
    List {
        /// Go on from the cursor that the last page ended with
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Let what it stops be opened again
    Lift {
        /// Id of the quarantine
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Why, for the record
    #[arg(long, value_name = "WORDS", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Until when (RFC 3339)
    #[arg(long, value_name = "TIME", required_unless_present = "length", conflicts_with = "length")]
    pub(crate) until: Option<Timestamp>,
    /// For how long from now, such as 12h
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) length: Option<Duration>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// pending, active, revoking, revoked, expired, failed or abandoned
    #[arg(long, value_parser = state)]
    pub(crate) state: Option<GrantState>,
    /// Team that answers for the role
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Role
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// Issuer of the proof
    #[arg(long)]
    pub(crate) issuer: Option<String>,
    /// Subject of the proof
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Repository as owner/name
    #[arg(long)]
    pub(crate) repository: Option<String>,
    /// Immutable id of the repository
    #[arg(long)]
    pub(crate) repository_id: Option<String>,
    /// Commit
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// Id of the run
    #[arg(long)]
    pub(crate) run: Option<String>,
    /// Environment that the credential reaches
    #[arg(long)]
    pub(crate) environment: Option<String>,
    /// Backend that mints
    #[arg(long)]
    pub(crate) backend: Option<String>,
    /// Policy that determined the decision
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Words of the purpose
    #[arg(long)]
    pub(crate) purpose: Option<String>,
    /// Ticket or change reference
    #[arg(long)]
    pub(crate) ticket: Option<String>,
    /// Created at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Created before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Most grants to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) limit: u32,
    /// Go on from the cursor that the last page ended with
    #[arg(long)]
    pub(crate) cursor: Option<String>,
    /// Show all that match, page after page
    #[arg(long, conflicts_with = "cursor")]
    pub(crate) all: bool,
}

fn heartbeat(text: &str) -> Result<Duration, String> {
    let deadline: Duration = text.parse().map_err(|error: hallpass_sdk::wire::InvalidDuration| error.to_string())?;
    if deadline.as_secs() < 3 { Err("no less than 3s".to_owned()) } else { Ok(deadline) }
}

fn state(word: &str) -> Result<GrantState, String> {
    let states = [
        GrantState::Pending,
        GrantState::Active,
        GrantState::Revoking,
        GrantState::Revoked,
        GrantState::Expired,
        GrantState::Failed,
        GrantState::Abandoned,
    ];
    let known = || states.map(GrantState::as_str).join(", ");
    states.into_iter().find(|state| state.as_str() == word).ok_or_else(|| format!("one of {}", known()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn exec_takes_the_command_after_two_dashes_as_it_is() {
        let line = ["hallpass", "exec", "--role", "r", "--purpose", "p", "--", "sh", "-c", "exit 3", "--ttl"];
        let Command::Exec(exec) = Arguments::try_parse_from(line).unwrap().command else { panic!("not exec") };
        assert_eq!(exec.command, ["sh", "-c", "exit 3", "--ttl"]);
        assert_eq!(exec.wanted.ttl, None);
        assert!(Arguments::try_parse_from(["hallpass", "exec", "--role", "r", "--purpose", "p"]).is_err());
    }

    #[test]
    fn a_wrong_word_is_a_usage_error() {
        for wrong in [
            &["grants", "list", "--state", "gone"][..],
            &["exchange", "--role", "r", "--ttl", "soon"],
            &["exchange"],
            &["grants", "list", "--limit", "501"],
            &["whoami", "--output", "xml"],
            &["revoke", "--commit", "4f2c"],
            &["revoke", "--commit", "", "--reason", "leaked"],
            &["quarantine", "add", "--commit", "4f2c", "--reason", "leaked"],
            &["quarantine", "add", "--all", "--reason", "r", "--for", "1h", "--until", "2026-01-31T09:00:00Z"],
            &["quarantine", "lift"],
        ] {
            let error = Arguments::try_parse_from(std::iter::once(&"hallpass").chain(wrong)).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(u8::from(exit::Exit::Usage)), "{wrong:?}");
        }
    }
}

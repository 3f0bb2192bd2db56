//! `hallpass-broker keys`: beside a running broker it asks at the control socket, without one it opens the store itself.

mod rewrap;

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hallpass_core::audit::Actor;
use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::id::KeyId;
use hallpass_core::port::{KeyPurpose, Sealer, SignatureAlgorithm};
use hallpass_core::time::{Clock as _, Timestamp, Ttl};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

pub(super) use self::rewrap::take_over;
use super::serve;
use crate::compose::{self, Broker, Strongroom};
use crate::keys::{Import, KeyKeeper, KeyView, Rotation, SystemEntropy, seal_for_import};
use crate::runtime::clock::SystemClock;
use crate::runtime::control::{self, Answer, Command, KeyCommand, Request};

/// What to do with which keys.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Say which keys there are, and where each is in its life.
    List(Common),
    /// Make new keys. They are published at once and sign after the announced time; the old ones stay published for as
    /// long as what they signed can be in use.
    Rotate(Rotate),
    /// Take in a key that was made elsewhere. It is kept sealed, like the broker's own; the file is not needed again.
    Import(ImportFile),
    /// Print the request (PKCS #10) to have a key of the authority certified by an offline root: the next key, which is made
    /// here and signs nothing before `certify`.
    Csr(Csr),
    /// Take in what an offline root certified of such a key, once it was held against the key. Authority keys are under
    /// offline roots from then on.
    Certify(CertificateFile),
    /// Have nothing that a key signed count any longer, now. Every live grant that it signed ends.
    Distrust(Distrust),
    /// Wrap the key that seals the store's secrets by the key-encryption key that the server file names now: after another
    /// was named, or the Transit key was rotated. The earlier one, named as retired meanwhile, is not needed afterwards.
    Rewrap(rewrap::Arguments),
}

/// What all of them take.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Server file.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which keys to rotate, and when.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    common: Common,
    /// What the keys sign: `token`, `ca` or `audit`.
    #[arg(long, value_parser = purpose)]
    purpose: KeyPurpose,
    /// `ES256` or `EdDSA`; all that the broker makes for the purpose, when none is said.
    #[arg(long, value_parser = algorithm)]
    algorithm: Option<SignatureAlgorithm>,
    /// How long they are published before they sign, such as `1h`; the server file's `keys.announce`, when not said.
    #[arg(long, value_parser = ttl)]
    activate_after: Option<Ttl>,
}

/// Which key to import.
#[derive(Debug, Args)]
pub(super) struct ImportFile {
    #[command(flatten)]
    common: Common,
    /// What it signs: `token`.
    #[arg(long, value_parser = purpose)]
    purpose: KeyPurpose,
    /// `RS256`.
    #[arg(long, value_parser = algorithm)]
    algorithm: SignatureAlgorithm,
    /// Its private key: PKCS #8, PEM, 2048 bits at least.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How long it is published before it signs. The first of its kind signs at once, when not said.
    #[arg(long, value_parser = ttl)]
    activate_after: Option<Ttl>,
}

/// Which key is to be certified.
#[derive(Debug, Args)]
pub(super) struct Csr {
    #[command(flatten)]
    common: Common,
    /// The `kid` of a key of the authority that is there: for a new certificate of it.
    #[arg(long, allow_hyphen_values = true)]
    key_id: Option<String>,
}

/// What was certified.
#[derive(Debug, Args)]
pub(super) struct CertificateFile {
    #[command(flatten)]
    common: Common,
    /// The key's certificate, followed by each that signed the one before, the root last: PEM.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How long the certificate is published before the key signs; the server file's `keys.announce`, when not said.
    #[arg(long, value_parser = ttl)]
    activate_after: Option<Ttl>,
}

/// Which key to distrust.
#[derive(Debug, Args)]
pub(super) struct Distrust {
    #[command(flatten)]
    common: Common,
    /// Its `kid`, as `keys list` and the headers of tokens have it. One in 64 begins with `-`.
    #[arg(allow_hyphen_values = true)]
    key_id: String,
    /// Why; it is recorded.
    #[arg(long)]
    reason: String,
}

fn purpose(word: &str) -> Result<KeyPurpose, String> {
    KeyPurpose::parse(word).ok_or_else(|| "use token, ca or audit".to_owned())
}

fn algorithm(word: &str) -> Result<SignatureAlgorithm, String> {
    SignatureAlgorithm::parse(word).ok_or_else(|| "use ES256, EdDSA or RS256".to_owned())
}

fn ttl(text: &str) -> Result<Ttl, String> {
    Ttl::parse(text).map_err(|error| error.to_string())
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let common = match &arguments {
        Arguments::List(common) => common,
        Arguments::Rotate(rotate) => &rotate.common,
        Arguments::Import(import) => &import.common,
        Arguments::Csr(csr) => &csr.common,
        Arguments::Certify(certify) => &certify.common,
        Arguments::Distrust(distrust) => &distrust.common,
        Arguments::Rewrap(arguments) => return rewrap::run(arguments).await,
    };
    let (config, json) = (serve::load(&common.config)?, common.json);
    let foundation = serve::foundation(&config);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let sealer = compose::sealer(&foundation, &entropy).await?;
    let command = command(&arguments, sealer.as_ref(), entropy.as_ref())?;
    let request = Request::new(Command::Keys(command), SystemClock::start().now(), sealer.as_ref());
    let answer = match control::ask(&foundation.store, &request).await.map_err(unanswered)? {
        Some(answer @ (Answer::Keys(_) | Answer::Request(_))) => answer,
        Some(Answer::Refused(why)) => bail!("the broker refused: {why}"),
        Some(Answer::Unfinished) => bail!("the broker takes its time, and goes on: `keys list` tells what came of it"),
        Some(Answer::Token(_) | Answer::Rewrapped(_)) => bail!("the broker answered something else"),
        None => {
            let Command::Keys(command) = request.command else { bail!("that is no command about keys") };
            // Only a rotation of the authority's key depends on the bundle; the others work whatever state it is in.
            if matches!(&command, KeyCommand::Rotate { purpose: KeyPurpose::Ca, .. }) {
                let broker = Broker::assemble(foundation, serve::beginning(&config.bundle)?).await?;
                let offline_root = broker.is_under_an_offline_root();
                return show(&carry_out(command, &broker.key_keeper(), offline_root).await?, json);
            }
            let room = Strongroom::open(&foundation).await?;
            carry_out(command, &room.keeper, false).await?
        }
    };
    show(&answer, json)
}

/// What a conversation that broke off means: a key may be distrusted although nobody said so.
fn unanswered(error: io::Error) -> anyhow::Error {
    if !control::is_unknown(&error) {
        return error.into();
    }
    anyhow!(error).context("whether the broker did it is unknown: look with `hallpass-broker keys list`")
}

fn command(arguments: &Arguments, sealer: &dyn Sealer, entropy: &dyn Entropy) -> anyhow::Result<KeyCommand> {
    Ok(match arguments {
        Arguments::List(_) => KeyCommand::List,
        Arguments::Rotate(rotate) => KeyCommand::Rotate {
            purpose: rotate.purpose,
            algorithm: rotate.algorithm,
            activate_after: rotate.activate_after.map(Ttl::as_secs),
        },
        Arguments::Import(import) => {
            let private_key = read_pkcs8(&import.file)?;
            let id: KeyId = fresh_id(&SystemClock::start(), entropy)?;
            let sealed = seal_for_import(id, &private_key, sealer)?;
            KeyCommand::Import {
                id,
                purpose: import.purpose,
                algorithm: import.algorithm,
                sealed_private_key: STANDARD.encode(sealed),
                activate_after: import.activate_after.map(Ttl::as_secs),
            }
        }
        Arguments::Csr(csr) => KeyCommand::Request { key_id: csr.key_id.clone() },
        Arguments::Certify(certify) => KeyCommand::Certify {
            certificates: read_certificates(&certify.file)?,
            activate_after: certify.activate_after.map(Ttl::as_secs),
        },
        Arguments::Distrust(distrust) => {
            KeyCommand::Distrust { key_id: distrust.key_id.clone(), reason: distrust.reason.clone() }
        }
        Arguments::Rewrap(_) => bail!("this changes no signing key"),
    })
}

/// The private key in a PEM file.
fn read_pkcs8(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    const MAX_BYTES: u64 = 16 * 1024;
    let unreadable = || format!("{}: cannot be read", path.display());
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_BYTES)?));
    std::fs::File::open(path)
        .with_context(unreadable)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(unreadable)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        let file = path.display();
        anyhow!(
            "{file}: is not a private key in PKCS #8, which begins with BEGIN PRIVATE KEY; \
             `openssl pkcs8 -topk8 -nocrypt -in {file}` makes one of it"
        )
    })?;
    Ok(Zeroizing::new(key.secret_pkcs8_der().to_vec()))
}

/// The certificates in a PEM file.
fn read_certificates(path: &Path) -> anyhow::Result<String> {
    const MAX_BYTES: u64 = 64 * 1024;
    let unreadable = || format!("{}: cannot be read", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(unreadable)?;
    Ok(text)
}

/// Carries a command out, by whoever has the store.
pub(super) async fn carry_out(command: KeyCommand, keeper: &KeyKeeper, offline_root: bool) -> anyhow::Result<Answer> {
    let actor = Actor::LocalAdministrator;
    let changed = match command {
        KeyCommand::List => keeper.list().await,
        KeyCommand::Rotate { purpose: KeyPurpose::Ca, .. } if offline_root => bail!(
            "an offline root certifies the authority's keys: have it sign what `keys csr` prints, and take that in with \
             `keys certify`"
        ),
        KeyCommand::Rotate { purpose, algorithm, activate_after } => {
            let activate_after = activate_after.map(Ttl::from_secs);
            keeper.rotate(Rotation { purpose, algorithm, activate_after }, actor).await
        }
        KeyCommand::Import { id, purpose, algorithm, sealed_private_key, activate_after } => {
            let sealed_private_key = STANDARD.decode(sealed_private_key).context("the sealed key is no base64")?;
            let activate_after = activate_after.map(Ttl::from_secs);
            let import = Import { id, purpose, algorithm, sealed_private_key, activate_after };
            keeper.import(import, actor).await.map(|key| vec![key])
        }
        KeyCommand::Request { key_id } => {
            let request = keeper.request_certificate(key_id.as_deref(), actor).await;
            return request.map(Answer::Request).map_err(|error| anyhow!(error));
        }
        KeyCommand::Certify { certificates, activate_after } => {
            let activate_after = activate_after.map(Ttl::from_secs);
            keeper.certify(&certificates, activate_after, actor).await.map(|key| vec![key])
        }
        KeyCommand::Distrust { key_id, reason } => keeper.distrust(&key_id, &reason, actor).await,
    };
    changed.map(Answer::Keys).map_err(|error| anyhow!(error))
}

fn show(answer: &Answer, json: bool) -> anyhow::Result<()> {
    let text = match answer {
        Answer::Keys(keys) if json => as_json(keys)?,
        Answer::Keys(keys) => as_table(keys),
        Answer::Request(request) if json => format!("{}\n", serde_json::to_string(request)?),
        Answer::Request(request) => request.request.clone(),
        _ => bail!("that is no answer about keys"),
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// As the control socket has them, but with times as the API writes them.
fn as_json(keys: &[KeyView]) -> anyhow::Result<String> {
    let shown = |key: &KeyView| {
        let mut shown = serde_json::to_value(key)?;
        let until = key.published_until.map(Timestamp::to_rfc3339);
        let times = [
            ("created_at", Some(key.created_at.to_rfc3339())),
            ("signs_from", signs_from(key).map(Timestamp::to_rfc3339)),
            ("published_until", until),
        ];
        if let Some(members) = shown.as_object_mut() {
            members.extend(times.map(|(name, at)| (name.to_owned(), at.into())));
        }
        Ok::<_, serde_json::Error>(shown)
    };
    let shown = keys.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{}\n", serde_json::to_string(&shown)?))
}

/// None while that is not known.
fn signs_from(key: &KeyView) -> Option<Timestamp> {
    Some(key.signs_from).filter(|at| *at < Timestamp::MAX)
}

fn as_table(keys: &[KeyView]) -> String {
    let seconds = |at: Timestamp| at.floor_to_second().to_rfc3339();
    let mut text = format!(
        "{:<43}  {:<7}  {:<9}  {:<10}  {:<24}  PUBLISHED UNTIL\n",
        "KEY ID", "PURPOSE", "ALGORITHM", "PHASE", "SIGNS FROM"
    );
    for key in keys {
        let until = key.published_until.map(seconds).unwrap_or_default();
        let from = signs_from(key).map(seconds).unwrap_or_default();
        let _ = writeln!(
            text,
            "{:<43}  {:<7}  {:<9}  {:<10}  {from:<24}  {until}",
            key.key_id, key.purpose, key.algorithm, key.phase
        );
    }
    text
}

//! From the global options to a client.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use hallpass_sdk::Client;
use hallpass_sdk::client::proof::{ProofError, ProofSource, Surroundings, named};
use hallpass_sdk::client::{ClientBuilder, Error, PossessionKey};
use hallpass_sdk::wire::CreateGrant;

use crate::args::{Global, Wanted};
use crate::exit::UsageError;

/// A client for the broker that the options name.
pub(crate) fn client(global: &Global) -> anyhow::Result<Client> {
    Ok(builder(global)?.build()?)
}

/// The same, to open what is wanted.
pub(crate) fn client_for(global: &Global, wanted: &Wanted) -> anyhow::Result<Client> {
    let builder = builder(global)?;
    Ok(match &wanted.on_behalf_of {
        None => builder.build()?,
        Some(name) => builder.acts_for(source("--on-behalf-of", name)?).build()?,
    })
}

fn builder(global: &Global) -> anyhow::Result<ClientBuilder> {
    let url = global.url.as_ref().filter(|url| !url.is_empty()).ok_or_else(|| {
        UsageError("which broker? Name it with --url or HALLPASS_URL, such as https://hallpass.example".to_owned())
    })?;
    let mut builder: ClientBuilder = Client::builder(url);
    if let Some(path) = &global.ca {
        let pem = std::fs::read(path)
            .map_err(|error| UsageError(format!("the CA file {} cannot be read: {error}", path.display())))?;
        builder = builder.ca_pem(pem);
    }
    if let (Some(chain), Some(key)) = (&global.client_cert, &global.client_key) {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| UsageError(format!("{} cannot be read: {error}", path.display())))
        };
        builder = builder.client_certificate_pem(read(chain)?, read(key)?);
    }
    if let Some(audience) = &global.audience {
        builder = builder.audience(audience);
    }
    if let Some(name) = &global.proof {
        builder = builder.shared_proof(source("--proof", name)?);
    }
    if let Some(named) = global.dpop.as_deref().filter(|named| !named.is_empty()) {
        builder = builder.possession(Arc::new(possession(named)?));
    }
    if global.dangerous_plain_http {
        builder = builder.dangerous_plain_http();
    }
    Ok(builder)
}

/// The key that `--dpop` names. One that is not there is made.
fn possession(named: &str) -> anyhow::Result<PossessionKey> {
    if named == "new" {
        return Ok(PossessionKey::generate()?);
    }
    let path = Path::new(named);
    match std::fs::read(path) {
        Ok(pem) => Ok(PossessionKey::from_pem(&pem).map_err(|error| UsageError(format!("--dpop {named}: {error}")))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (key, pem) = PossessionKey::generate_pem()?;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("the key file {} cannot be made", path.display()))?;
            file.write_all(pem.expose().as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(UsageError(format!("the key file {} cannot be read: {error}", path.display())).into()),
    }
}

fn source(option: &str, name: &str) -> anyhow::Result<Arc<dyn ProofSource>> {
    named(name, &Surroundings::of_this_process()).map_err(|error| match error {
        ProofError::UnknownSource(_) => UsageError(format!("{option}: {error}")).into(),
        missing => Error::Proof(missing).into(),
    })
}

/// The request for what is wanted.
pub(crate) fn request(wanted: &Wanted) -> anyhow::Result<CreateGrant> {
    let csr = wanted.csr.as_ref().map(|path| {
        std::fs::read_to_string(path).with_context(|| format!("the request {} cannot be read", path.display()))
    });
    let attestations = wanted.attestation.iter().map(|path| {
        std::fs::read_to_string(path).with_context(|| format!("the attestation {} cannot be read", path.display()))
    });
    Ok(CreateGrant {
        role: wanted.role.clone(),
        purpose: wanted.purpose.clone(),
        ttl: wanted.ttl,
        ticket: wanted.ticket.clone(),
        scope: wanted.scope.clone(),
        task: wanted.task.clone(),
        csr: csr.transpose()?,
        attestations: attestations.collect::<anyhow::Result<_>>()?,
        ..CreateGrant::default()
    })
}

//! The files that a bundle names beside itself. They are not its content, and so its digest does not tell of them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use hallpass_core::port::NamedFiles;
use ring::digest::{Context, SHA256};

use super::{Bundle, role};
use crate::config::Finding;
use crate::config::backend::BackendKind;
use crate::config::issuer::{BundleSource, KeySource};

/// Larger than any that whoever reads it would take.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What `bundle`, which lies in `base`, names, each with its digest.
pub(super) fn digests(bundle: &Bundle, base: &Path, findings: &mut Vec<Finding>) -> NamedFiles {
    let keys = bundle.issuers.iter().filter_map(|issuer| match &issuer.keys {
        KeySource::File(path) => Some(("issuers.toml", path)),
        KeySource::Inline(_) | KeySource::JwksUri { .. } | KeySource::Discovery { .. } => None,
    });
    let bundles = bundle.trust_domains.iter().filter_map(|domain| match &domain.bundle {
        BundleSource::File(path) => Some(("issuers.toml", path)),
        BundleSource::Inline(_) | BundleSource::HttpsWeb { .. } | BundleSource::WorkloadApi(_) => None,
    });
    let attestors = bundle.attestors.iter().flat_map(|attestor| attestor.known_by.files());
    let attestors = attestors.map(|path| ("attestors.toml", path));
    // Of what is secret, such as passwords, no digest is told: whoever guesses could check it.
    let certificates = bundle.backends.iter().flat_map(|backend| match &backend.kind {
        BackendKind::X509 { ca_certificate_file, .. } => vec![ca_certificate_file.as_ref()],
        BackendKind::Azure(settings) => vec![settings.ca_file.as_ref()],
        BackendKind::Gcp(settings) => vec![settings.ca_file.as_ref()],
        BackendKind::GitHub(settings) => vec![settings.ca_file.as_ref()],
        BackendKind::Kubernetes(settings) => vec![settings.ca_file.as_ref(), settings.certificate_file()],
        BackendKind::Postgres(postgres) => vec![postgres.ca_file.as_ref(), postgres.login.certificate_file()],
        BackendKind::Vault(vault) => vec![vault.ca_file.as_ref()],
        BackendKind::Jwt { .. } | BackendKind::Aws(_) => Vec::new(),
    });
    let certificates = certificates.flatten().map(|path| ("backends.toml", path));
    let mut named = NamedFiles::new();
    for (section, path) in keys.chain(bundles).chain(attestors).chain(certificates) {
        let name = path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
        match digest(path) {
            Ok(digest) => drop(named.insert(name, digest)),
            Err(error) => findings.push(Finding {
                file: PathBuf::from(section),
                line: None,
                reason: format!("{} cannot be read: {error}", path.display()),
            }),
        }
    }
    named
}

fn digest(path: &Path) -> io::Result<String> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    let mut context = Context::new(&SHA256);
    context.update(&content);
    Ok(role::hex(context.finish().as_ref()))
}

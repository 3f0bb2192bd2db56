//! How the listener speaks TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::ServerSessionMemoryCache;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How many TLS 1.2 sessions are remembered. TLS 1.3 and clients with tickets cost no memory.
const REMEMBERED_SESSIONS: usize = 4_096;

/// TLS 1.2 and 1.3 on ring, with the certificate chain and key of two PEM files.
///
/// Sessions resume: short-lived jobs open connections all the time, and a full handshake costs a signature. Early data
/// (RFC 8446 §2.3) is off: it can be replayed, and a replayed exchange is another credential.
///
/// # Errors
/// [`TlsFilesError`] names the file.
pub fn server_config(certificate_chain: &Path, private_key: &Path) -> Result<Arc<ServerConfig>, TlsFilesError> {
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |source| TlsFilesError::Unreadable { file, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate_chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(certificate_chain))?;
    if chain.is_empty() {
        return Err(unreadable(certificate_chain)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(unreadable(private_key))?;
    let unusable = |source| TlsFilesError::Unusable {
        certificate_chain: certificate_chain.to_owned(),
        private_key: private_key.to_owned(),
        source,
    };
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(unusable)?;
    config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Certificate or key files that cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file that is not there, or not PEM.
    #[error("{}: not a readable PEM file", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Files that TLS cannot use, such as a key of another certificate.
    #[error("{} and {}: not a certificate chain and its key", certificate_chain.display(), private_key.display())]
    Unusable {
        /// The chain's file.
        certificate_chain: PathBuf,
        /// The key's file.
        private_key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

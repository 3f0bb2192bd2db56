//! How a listener speaks TLS, and how its certificate is changed under it.
//!
//! A certificate is read again while the broker runs, and takes the place of the old one for the handshakes that follow;
//! connections that are there stay. A pair that cannot be served with never takes the place of one that can: files are
//! changed one after the other, and between the two they do not belong together.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hallpass_core::time::{Timestamp, Ttl};
use ring::digest;
use rustls::ServerConfig;
use rustls::crypto::ring as provider;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::client::AnySoundCertificate;
use crate::outbound::workload_api::{self, ApiError};

/// How many TLS 1.2 sessions are remembered. TLS 1.3 and clients with tickets cost no memory.
const REMEMBERED_SESSIONS: usize = 4_096;

/// How long the next certificate that an agent has may be unnoticed.
const ASKED_EVERY: Ttl = Ttl::from_mins(1);

/// Certificate chain and key of a listener, in two PEM files.
pub struct Certificates {
    certificate_chain: PathBuf,
    private_key: PathBuf,
    /// Who gives them, where no files do; then both paths are its socket's.
    agent: Option<workload_api::Client>,
    /// When it was asked last, in seconds since 1970.
    asked_at: AtomicI64,
    served: ArcSwap<Served>,
    /// Why the files that are there now are not served with; so that it is told once.
    refused: Mutex<Option<String>>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not, and none is taken.
    #[default]
    NotAsked,
    /// They are, and need none.
    Asked,
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing new.
    Same,
    /// Another pair, which is served with from now on.
    Replaced,
}

struct Served {
    key: Arc<CertifiedKey>,
    begins_at: Timestamp,
    expires_at: Timestamp,
    /// Of both files.
    digest: digest::Digest,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsFilesError`] names the file.
    pub fn load(certificate_chain: &Path, private_key: &Path) -> Result<Arc<Self>, TlsFilesError> {
        let files = Files::read(certificate_chain, private_key)?;
        Ok(Arc::new(Self {
            certificate_chain: certificate_chain.to_owned(),
            private_key: private_key.to_owned(),
            agent: None,
            asked_at: AtomicI64::default(),
            served: ArcSwap::from_pointee(files.served()?),
            refused: Mutex::default(),
        }))
    }

    /// The broker's own X.509-SVID, of the agent at this Unix socket.
    ///
    /// # Errors
    /// [`TlsFilesError`] names the socket.
    pub async fn of_agent(socket: &Path) -> Result<Arc<Self>, TlsFilesError> {
        let agent = workload_api::Client::new(socket.to_owned());
        let served = given_by(&agent, socket).await?;
        let (certificate_chain, private_key) = (socket.to_owned(), socket.to_owned());
        let (served, refused) = (ArcSwap::from_pointee(served), Mutex::default());
        // It is asked again at the first look, whatever the time is.
        let asked_at = AtomicI64::default();
        Ok(Arc::new(Self { certificate_chain, private_key, agent: Some(agent), asked_at, served, refused }))
    }

    /// Asks the agent, where there is one, every minute, and oftener once half of the life of what is served with is over;
    /// and serves with what it gives if that is new and good at `now`. An agent that gives another one has its reasons, such
    /// as an authority that is trusted no more: it need not last longer.
    ///
    /// # Errors
    /// As [`Certificates::look`].
    pub async fn ask(&self, now: Timestamp) -> Result<Looked, TlsFilesError> {
        let Some(agent) = &self.agent else { return Ok(Looked::Same) };
        let served = self.served.load_full();
        let half = served.begins_at.plus(Ttl::from_secs(served.expires_at.since(served.begins_at).as_secs() / 2));
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        let is_minute_later = now.as_secs().saturating_sub(asked_at).unsigned_abs() >= ASKED_EVERY.as_secs();
        if now < half && !is_minute_later {
            return Ok(Looked::Same);
        }
        self.asked_at.store(now.as_secs(), Ordering::Relaxed);
        let given = given_by(agent, &self.certificate_chain).await;
        self.take(given.and_then(|given| {
            if given.digest.as_ref() == served.digest.as_ref() {
                return Ok(None);
            }
            if given.expires_at <= now {
                return Err(TlsFilesError::Expired { file: self.certificate_chain.clone(), at: given.expires_at });
            }
            // One that begins later is asked for again until it has begun.
            Ok((given.begins_at <= now).then_some(given))
        }))
    }

    /// Looks at the files, and serves with what they have if that is new and good at `now`.
    ///
    /// # Errors
    /// Why they cannot be served with; once, however often it is looked. What was served with before still is.
    pub fn look(&self, now: Timestamp) -> Result<Looked, TlsFilesError> {
        if self.agent.is_some() {
            return Ok(Looked::Same);
        }
        self.take(self.found(now))
    }

    /// Serves with what was found, or says why not, once.
    fn take(&self, found: Result<Option<Served>, TlsFilesError>) -> Result<Looked, TlsFilesError> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(None) => {
                *refused = None;
                Ok(Looked::Same)
            }
            Ok(Some(served)) => {
                *refused = None;
                self.served.store(Arc::new(served));
                Ok(Looked::Replaced)
            }
            Err(error) => {
                let why = told(&error);
                if refused.as_ref() == Some(&why) {
                    return Ok(Looked::Same);
                }
                *refused = Some(why);
                Err(error)
            }
        }
    }

    fn found(&self, now: Timestamp) -> Result<Option<Served>, TlsFilesError> {
        let files = Files::read(&self.certificate_chain, &self.private_key)?;
        if files.digest().as_ref() == self.served.load().digest.as_ref() {
            return Ok(None);
        }
        let served = files.served()?;
        if served.expires_at <= now {
            let (file, at) = (self.certificate_chain.clone(), served.expires_at);
            return Err(TlsFilesError::Expired { file, at });
        }
        Ok(Some(served))
    }

    /// When the certificate that is served with ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.served.load().expires_at
    }

    /// TLS 1.2 and 1.3 on ring, with whatever certificate is current at a handshake.
    ///
    /// Sessions resume: short-lived jobs open connections all the time, and a full handshake costs a signature. Early data
    /// (RFC 8446 §2.3) is off: it can be replayed, and a replayed exchange is another credential.
    ///
    /// # Errors
    /// [`TlsFilesError`].
    pub fn server_config(self: &Arc<Self>, clients: ClientCertificates) -> Result<Arc<ServerConfig>, TlsFilesError> {
        let unusable = |source| TlsFilesError::unusable(&self.certificate_chain, &self.private_key, source);
        let provider = Arc::new(provider::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Asked => builder.with_client_cert_verifier(Arc::new(AnySoundCertificate::new(
                provider.signature_verification_algorithms,
            ))),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = provider::Ticketer::new().map_err(unusable)?;
        config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served.load().key))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("certificate_chain", &self.certificate_chain).finish_non_exhaustive()
    }
}

/// The files as they are at one moment.
struct Files<'a> {
    certificate_chain: &'a Path,
    private_key: &'a Path,
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl<'a> Files<'a> {
    fn read(certificate_chain: &'a Path, private_key: &'a Path) -> Result<Self, TlsFilesError> {
        let read = |file: &Path| fs::read(file).map_err(|error| TlsFilesError::unreadable(file, pem::Error::Io(error)));
        let (chain, key) = (read(certificate_chain)?, Zeroizing::new(read(private_key)?));
        Ok(Self { certificate_chain, private_key, chain, key })
    }

    fn digest(&self) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [self.chain.as_slice(), self.key.as_slice()] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        context.finish()
    }

    fn served(&self) -> Result<Served, TlsFilesError> {
        let unreadable = |source| TlsFilesError::unreadable(self.certificate_chain, source);
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&self.chain).collect::<Result<_, _>>().map_err(unreadable)?;
        let leaf = chain.first().ok_or_else(|| unreadable(pem::Error::NoItemsFound))?;
        let (begins_at, expires_at) = validity(leaf).ok_or_else(|| unreadable(pem::Error::NoItemsFound))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|source| TlsFilesError::unreadable(self.private_key, source))?;
        let key = CertifiedKey::from_der(chain, key, &provider::default_provider())
            .map_err(|source| TlsFilesError::unusable(self.certificate_chain, self.private_key, source))?;
        Ok(Served { key: Arc::new(key), begins_at, expires_at, digest: self.digest() })
    }
}

/// What the agent at `socket` gives the broker.
async fn given_by(agent: &workload_api::Client, socket: &Path) -> Result<Served, TlsFilesError> {
    let failed = |source| TlsFilesError::Agent { socket: socket.to_owned(), source };
    let malformed = || failed(ApiError::Malformed("its X.509-SVID is none"));
    let svid = agent.x509_svid().await.map_err(failed)?;
    let (mut chain, mut rest) = (Vec::new(), svid.chain.as_slice());
    while !rest.is_empty() {
        let (behind, _) = x509_parser::parse_x509_certificate(rest).map_err(|_| malformed())?;
        let (der, _) = rest.split_at(rest.len().saturating_sub(behind.len()));
        chain.push(CertificateDer::from(der.to_vec()));
        rest = behind;
    }
    let (begins_at, expires_at) = chain.first().and_then(validity).ok_or_else(malformed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(svid.key.to_vec()));
    let key = CertifiedKey::from_der(chain, key, &provider::default_provider())
        .map_err(|source| TlsFilesError::unusable(socket, socket, source))?;
    let digest = digest::digest(&digest::SHA256, &svid.chain);
    Ok(Served { key: Arc::new(key), begins_at, expires_at, digest })
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    let secs = |time: x509_parser::time::ASN1Time| Timestamp::from_secs(time.timestamp());
    Some((secs(validity.not_before), secs(validity.not_after)))
}

/// The error with what is behind it, on one line.
fn told(error: &TlsFilesError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
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
    /// An agent that gives none.
    #[error("the agent at {} gives the broker no X.509-SVID", socket.display())]
    Agent {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        source: ApiError,
    },
    /// A certificate that is over.
    #[error("{}: the certificate expired at {at}", file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// When.
        at: Timestamp,
    },
}

impl TlsFilesError {
    fn unreadable(file: &Path, source: pem::Error) -> Self {
        Self::Unreadable { file: file.to_owned(), source }
    }

    fn unusable(certificate_chain: &Path, private_key: &Path, source: rustls::Error) -> Self {
        let (certificate_chain, private_key) = (certificate_chain.to_owned(), private_key.to_owned());
        Self::Unusable { certificate_chain, private_key, source }
    }
}

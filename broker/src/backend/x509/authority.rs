//! The built-in certificate authority: it signs leaf certificates and the list of those that verifiers must refuse.
//!
//! Its private key is behind the `Signer` port and could live anywhere. It is its own root, made at first start, or an
//! intermediate under somebody's offline root. Either way it signs leaves only (path length 0): no certificate of its
//! making can sign another.

use std::path::Path;
use std::sync::Arc;

use hallpass_core::id::GrantId;
use hallpass_core::port::{SignatureAlgorithm, Signer};
use hallpass_core::time::{Timestamp, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, RevocationReason,
    RevokedCertParams, SanType, SerialNumber, SigningKey,
};
use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::certificates::{self, Certificates};
use super::parameters::{Names, Usage};

/// How long a self-signed root is valid: longer than the installation it is distributed to should run unchanged.
const ROOT_LIFE: Ttl = Ttl::from_hours(24 * 3650);

/// How far certificates are dated back, for verifiers whose clocks are a little behind.
const BACKDATE: Ttl = Ttl::from_secs(30);

/// How long a verifier may keep a revocation list. A fenced certificate can work this much longer where verifiers cache;
/// shorter, and a broker that restarts slowly would stop every verifier that insists on a fresh list.
const CRL_LIFE: Ttl = Ttl::from_hours(1);

/// The authority, ready to sign.
pub struct Authority {
    issuer: Issuer<'static, RemoteKey>,
    key_id_method: KeyIdMethod,
    certificates: Certificates,
    crl_url: String,
}

/// A certificate to be signed.
pub(super) struct Leaf<'a> {
    pub(super) grant: GrantId,
    pub(super) names: &'a Names,
    pub(super) usages: &'a [Usage],
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// A signed certificate.
pub(super) struct Signed {
    /// Leaf first, then what is between it and the root, PEM.
    pub(super) chain: String,
    /// When it stops to be valid, exclusive.
    pub(super) expires_at: Timestamp,
}

impl Authority {
    /// An authority that signs with `signer`. `certificates` is PEM: its own certificate first, then each that signed
    /// the one before, up to and including the root.
    ///
    /// # Errors
    /// [`AuthorityError`] when the certificates are not this key's, do not lead to a root, or are not valid at `now`.
    pub fn new(
        signer: Arc<dyn Signer>,
        certificates: &str,
        public_url: &str,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let certificates = Certificates::read(certificates, signer.public_key(), now)?;
        let own = certificates.own().ok_or(AuthorityError::OtherKey)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(own)
            .map_err(|_| AuthorityError::Certificates("a certificate is malformed".to_owned()))?;
        let key_id = parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let key_id_method = key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified);
        // Of this key alone: a verifier takes a list from nobody but the certificate's issuer (RFC 5280 §6.3.3).
        let crl_url = format!("{public_url}/pki/crl/{}.der", signer.key_id());
        let issuer = Issuer::from_ca_cert_der(own, RemoteKey(signer))?;
        let name = parsed.subject().as_raw().to_vec();
        let authority = Self { issuer, key_id_method, certificates, crl_url };
        authority.check_name(&name, now)?;
        Ok(authority)
    }

    /// Reads the file that [`Authority::new`] takes its certificates from.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub(super) fn read_certificates(path: &Path) -> Result<String, AuthorityError> {
        let unreadable = |source: std::io::Error| AuthorityError::File { path: path.to_owned(), source: source.into() };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > certificates::MAX_LEN as u64 {
            return Err(AuthorityError::Certificates("the file is longer than a list of certificates would be".into()));
        }
        std::fs::read_to_string(path).map_err(unreadable)
    }

    /// The authority's certificate and those above it, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.certificates.all()
    }

    /// The root that verifiers trust, PEM.
    #[must_use]
    pub fn trust_bundle(&self) -> String {
        self.certificates.root()
    }

    /// The list of certificates that verifiers must refuse (RFC 5280 §5), DER: those of `fenced` grants, with the
    /// instant of the fence.
    ///
    /// # Errors
    /// [`AuthorityError`] when the key cannot sign.
    pub fn crl(&self, fenced: &[(GrantId, Timestamp)], now: Timestamp) -> Result<Vec<u8>, AuthorityError> {
        let revoked = |(grant, at): &(GrantId, Timestamp)| {
            Ok(RevokedCertParams {
                serial_number: serial(*grant),
                revocation_time: date((*at).min(now))?,
                reason_code: Some(RevocationReason::CessationOfOperation),
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update: date(now)?,
            next_update: date(now.plus(CRL_LIFE))?,
            // RFC 5280 §5.2.3: must grow. The clock does, and needs no counter that replicas would share.
            crl_number: SerialNumber::from(u64::try_from(now.as_millis()).unwrap_or(0)),
            issuing_distribution_point: None,
            revoked_certs: fenced.iter().map(revoked).collect::<Result<_, AuthorityError>>()?,
            key_identifier_method: self.key_id_method.clone(),
        };
        Ok(list.signed_by(&self.issuer)?.der().to_vec())
    }

    /// The id of the authority's key.
    pub(super) fn key_id(&self) -> &str {
        self.issuer.key().0.key_id()
    }

    /// Whether `key` is the authority's own.
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        self.issuer.key().0.public_key() == key
    }

    /// Signs a certificate for `key`, as long-lived as `leaf` and the authority's own certificates allow.
    pub(super) fn sign(&self, key: &impl PublicKeyData, leaf: &Leaf<'_>) -> Result<Signed, AuthorityError> {
        let expires_at = leaf.expires_at.min(self.certificates.not_after).floor_to_second();
        if expires_at <= leaf.issued_at {
            return Err(AuthorityError::NoLifeLeft);
        }
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial(leaf.grant));
        params.distinguished_name = common_name(&leaf.grant.to_string());
        params.subject_alt_names = alternative_names(leaf.names)?;
        params.not_before = date(leaf.issued_at.minus(BACKDATE).max(self.certificates.not_before))?;
        // RFC 5280 §4.1.2.5: the validity includes `notAfter`, so it is the last second before the end.
        params.not_after = date(expires_at.minus(Ttl::from_secs(1)))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages.iter().map(purpose).collect();
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![self.crl_url.clone()] }];
        let chain = params.signed_by(key, &self.issuer)?.pem() + &self.certificates.intermediates();
        Ok(Signed { chain, expires_at })
    }

    /// A trial run: verifiers compare names byte for byte, so the issuer's name must be written exactly as its
    /// certificate has it, in whatever encoding somebody else's tool chose.
    fn check_name(&self, name: &[u8], now: Timestamp) -> Result<(), AuthorityError> {
        let list = self.crl(&[], now)?;
        match CertificateRevocationList::from_der(&list) {
            Ok((_, list)) if list.tbs_cert_list.issuer.as_raw() == name => Ok(()),
            _ => Err(AuthorityError::Certificates(
                "the authority's subject is written in a way that cannot be repeated in what it signs; use one \
                 attribute each of C, O, OU, CN at most"
                    .to_owned(),
            )),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("crl_url", &self.crl_url).finish_non_exhaustive()
    }
}

/// The certificate of an authority that is its own root, PEM. Made once, when its key is.
///
/// It has no name constraints: common verifiers refuse every certificate under a constraint on URI names.
///
/// # Errors
/// [`AuthorityError`] when the key cannot sign.
pub fn root_certificate(signer: &Arc<dyn Signer>, now: Timestamp) -> Result<String, AuthorityError> {
    let mut params = authority_params(&**signer);
    params.not_before = date(now.minus(BACKDATE))?;
    params.not_after = date(now.plus(ROOT_LIFE))?;
    Ok(params.self_signed(&RemoteKey(Arc::clone(signer)))?.pem())
}

/// A request (PKCS #10, PEM) to have this key certified by an offline root: what comes back goes into the backend's
/// `ca_certificate_file`, followed by the certificates above it.
///
/// # Errors
/// [`AuthorityError`] when the key cannot sign.
pub fn certificate_request(signer: &Arc<dyn Signer>) -> Result<String, AuthorityError> {
    let request = authority_params(&**signer).serialize_request(&RemoteKey(Arc::clone(signer)))?;
    Ok(request.pem()?)
}

/// What an offline root certified, as [`Authority::new`] takes it, where an authority that has this key can use it.
///
/// # Errors
/// [`AuthorityError`]: as there, and for a key that certified itself.
pub fn certified_by_another(
    signer: &Arc<dyn Signer>,
    certificates: &str,
    public_url: &str,
    now: Timestamp,
) -> Result<String, AuthorityError> {
    let authority = Authority::new(Arc::clone(signer), certificates, public_url, now)?;
    let all = authority.ca_pem();
    if !Certificates::are_under_another(&all) {
        let itself = "the key has certified itself; list its certificate first, and last the root that signed it";
        return Err(AuthorityError::Certificates(itself.to_owned()));
    }
    Ok(all)
}

fn authority_params(signer: &dyn Signer) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Part of the key's id in the name: two authorities are told apart by people, and by verifiers that look issuers up
    // by name.
    let id = signer.key_id().get(..8).unwrap_or_default();
    params.distinguished_name = common_name(&format!("Hallpass authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn alternative_names(names: &Names) -> Result<Vec<SanType>, AuthorityError> {
    let uris = names.spiffe_id.iter().map(|id| Ok(SanType::URI(id.as_str().try_into()?)));
    let hosts = names.dns_names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
    uris.chain(hosts).collect()
}

fn purpose(usage: &Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }
}

/// The grant's id as it is: whoever sees a certificate can name the grant, and the revocation list needs nothing but
/// the record. 74 of its bits are random (RFC 5280 §4.1.2.2; CA/B Forum asks for 64).
fn serial(grant: GrantId) -> SerialNumber {
    SerialNumber::from_slice(grant.as_uuid().as_bytes())
}

fn date(at: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(at.as_secs()).map_err(|_| AuthorityError::NoSuchDate(at))
}

/// A key behind the `Signer` port, as rcgen wants it.
struct RemoteKey(Arc<dyn Signer>);

impl PublicKeyData for RemoteKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.0.algorithm() {
            SignatureAlgorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            SignatureAlgorithm::EdDsa => &rcgen::PKCS_ED25519,
            SignatureAlgorithm::Rs256 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for RemoteKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        match self.0.algorithm() {
            SignatureAlgorithm::Es256 => ecdsa_der(&signature).ok_or(rcgen::Error::RemoteKeyError),
            SignatureAlgorithm::EdDsa | SignatureAlgorithm::Rs256 => Ok(signature),
        }
    }
}

/// `Ecdsa-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279 §2.2.3) from the two numbers side by side.
fn ecdsa_der(fixed: &[u8]) -> Option<Vec<u8>> {
    const INTEGER: u8 = 0x02;
    const SEQUENCE: u8 = 0x30;
    let (r, s) = fixed.split_at_checked(32).filter(|(_, s)| s.len() == 32)?;
    let mut body = Vec::with_capacity(72);
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(31);
        let significant = number.get(zeros..)?;
        // An INTEGER is signed: a leading one-bit would make it negative.
        let sign = significant.first().filter(|byte| **byte >= 0x80).map(|_| 0);
        body.push(INTEGER);
        body.push(u8::try_from(significant.len() + usize::from(sign.is_some())).ok()?);
        body.extend(sign);
        body.extend_from_slice(significant);
    }
    let mut der = Vec::with_capacity(body.len() + 2);
    der.extend([SEQUENCE, u8::try_from(body.len()).ok()?]);
    der.append(&mut body);
    Some(der)
}

/// The authority cannot be used, or could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The file of its certificates cannot be read.
    #[error("{path}: cannot be read", path = path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: Unreadable,
    },
    /// Its certificates are unusable.
    #[error("the authority's certificates: {0}")]
    Certificates(String),
    /// Its certificate was made for another key.
    #[error("the authority's certificate is not of the authority's key; have the present key's request signed")]
    OtherKey,
    /// Its certificates are not valid yet, or no more.
    #[error("the authority's certificates are valid from {not_before} until {not_after} only")]
    NotValidNow {
        /// From when.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },
    /// A certificate would have no whole second to live.
    #[error("less than a second of life is left, and a certificate counts whole seconds")]
    NoLifeLeft,
    /// A time that a certificate cannot express.
    #[error("{0} cannot be written into a certificate")]
    NoSuchDate(Timestamp),
    /// Encoding or signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Signing(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;
    use crate::keys::LocalSigner;

    #[test]
    fn every_signature_of_the_port_becomes_a_valid_one_of_x509() {
        let pkcs8 = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
        let signer = LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &pkcs8).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer.public_key());
        // Enough that leading zeros and leading one-bits both occur in r and in s.
        for n in 0_u32..1_000 {
            let message = n.to_be_bytes();
            let der = ecdsa_der(&signer.sign(&message).unwrap()).unwrap();
            public.verify(&message, &der).unwrap();
        }
        let mut short = [0_u8; 64];
        (short[31], short[63]) = (1, 0x80);
        assert_eq!(ecdsa_der(&short).unwrap(), [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]);
        assert_eq!(ecdsa_der(&[0; 63]), None);
        assert_eq!(ecdsa_der(&[0; 65]), None);
    }
}

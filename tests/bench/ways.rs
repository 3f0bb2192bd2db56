//! What each way to prove oneself costs, on one kind of broker: TLS, client certificates asked for, nonces wanted.
//!
//! Every row has a broker and a ledger of its own. What clients sign they sign before the clock starts: the figures are the
//! broker's. New connections pay for their handshakes within the time that is measured.
#![expect(clippy::indexing_slicing, reason = "a member that JSON does not have reads as null")]

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hallpass_tests::config::{AUDIENCE, Setup};
use hallpass_tests::{Issuer, Prover, SigningKey, random_bytes, unix_now};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::Resumption;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::broker::{BenchedBroker, Connections, Transport, role, server_name, trusting};
use crate::load;
use crate::proofs::{Proofs, WORKLOADS};
use crate::report;
use crate::wire::{Connection, Shown};

/// One way.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    shows: Shows,
    connections: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Oidc,
    OidcAndKey,
    JwtSvid,
    X509Svid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kept,
    /// A new one each, which resumes a session.
    Resumed,
    /// A new one each, with a whole handshake.
    Whole,
}

const WAYS: &[Way] = &[
    Way { name: "OIDC, kept", shows: Shows::Oidc, connections: Kind::Kept },
    Way { name: "OIDC and DPoP, kept", shows: Shows::OidcAndKey, connections: Kind::Kept },
    Way { name: "JWT-SVID, kept", shows: Shows::JwtSvid, connections: Kind::Kept },
    Way { name: "X.509-SVID, kept", shows: Shows::X509Svid, connections: Kind::Kept },
    Way { name: "OIDC, resumed each", shows: Shows::Oidc, connections: Kind::Resumed },
    Way { name: "X.509-SVID, resumed each", shows: Shows::X509Svid, connections: Kind::Resumed },
    Way { name: "OIDC, new each", shows: Shows::Oidc, connections: Kind::Whole },
    Way { name: "X.509-SVID, new each", shows: Shows::X509Svid, connections: Kind::Whole },
];

/// Measures every way with each number of clients.
pub(crate) async fn measure(program: &Path, seconds: u64, clients: &[usize]) -> anyhow::Result<()> {
    report::heading_with_memory("proof, connections");
    let mut tokens = 0;
    for way in WAYS {
        tokens += way.measure(program, seconds, clients).await?;
    }
    report::kept(tokens);
    report::fact(
        "all of them",
        "TLS 1.3; proofs are signed before the clock starts, those of keys (DPoP) with the nonce of the broker",
    );
    report::fact("OIDC, JWT-SVID", "at /oauth2/token, each proof once, recorded as used");
    report::fact("X.509-SVID", "at /v1/grants, each client by a certificate of its own, which serves many times");
    Ok(())
}

impl Way {
    /// How many tokens were received.
    async fn measure(self, program: &Path, seconds: u64, clients: &[usize]) -> anyhow::Result<u64> {
        let domain = TrustDomain::new()?;
        let mut broker = BenchedBroker::start_with(program, Transport::Tls, |setup| domain.known_to(setup)).await?;
        broker.connections = self.connect(&domain, &broker)?;
        let mut granted = 0;
        for &clients in clients {
            let owners = Owners::of(self, &broker).await?;
            let sign = |count| self.sign(count, &broker, &domain, &owners);
            let (before, load) = load::sized(&broker, clients, seconds, sign).await?;
            let measured = load.run(&broker).await?;
            granted += before + measured.tokens;
            let resumed = measured.resumed;
            match self.connections {
                // The first of each client has nothing to resume.
                Kind::Resumed => {
                    ensure!(resumed > measured.tokens / 2, "of {} sessions {resumed} were resumed", measured.tokens)
                }
                Kind::Kept | Kind::Whole => ensure!(resumed == 0, "{resumed} sessions were resumed"),
            }
            report::line_with_memory(self.name, clients, &measured, &broker.memory()?);
        }
        broker.stop().await?;
        let recorded = broker.grants()?;
        ensure!(recorded == granted, "{granted} tokens were received and {recorded} grants are in the ledger");
        Ok(granted)
    }

    /// What clients connect by: those that show certificates each by one of their own.
    fn connect(self, domain: &TrustDomain, broker: &BenchedBroker) -> anyhow::Result<Connections> {
        let certificate = broker.certificate.as_ref().context("the broker speaks TLS")?;
        let mut tls = Vec::new();
        for number in 0..CERTIFICATES {
            let client = trusting(certificate)?;
            let mut client = if self.shows == Shows::X509Svid {
                let (chain, key) = domain.svid(&id(number))?;
                client.with_client_auth_cert(vec![chain], key)?
            } else {
                client.with_no_client_auth()
            };
            if self.connections != Kind::Resumed {
                client.resumption = Resumption::disabled();
            }
            tls.push(Arc::new(client));
        }
        Ok(Connections { tls, new_each: self.connections != Kind::Kept })
    }

    fn sign(self, count: usize, broker: &BenchedBroker, domain: &TrustDomain, owners: &Owners) -> Vec<Shown> {
        let proofs = Proofs::of(&broker.issuer, &broker.key);
        let shown = |number: usize| match self.shows {
            Shows::Oidc => Shown::Token(proofs.one(number)),
            Shows::OidcAndKey => {
                Shown::TokenAndKey { token: proofs.one(number), key: owners.prove(number, &broker.origin()) }
            }
            Shows::JwtSvid => Shown::Token(domain.jwt_svid(&broker.issuer, &id(number % WORKLOADS))),
            Shows::X509Svid => Shown::Certificate,
        };
        (0..count).map(shown).collect()
    }
}

/// Different certificates: as many as clients that there may be at once.
const CERTIFICATES: usize = 64;

fn id(workload: usize) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/prod/sa/app{workload}")
}

const TRUST_DOMAIN: &str = "td1.test";

/// A trust domain that signs SVIDs of both kinds.
struct TrustDomain {
    authority: rcgen::Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    key: SigningKey,
}

impl TrustDomain {
    fn new() -> anyhow::Result<Self> {
        let (mut params, key) = (params(3600, 86_400), KeyPair::generate()?);
        params.distinguished_name.push(DnType::OrganizationName, TRUST_DOMAIN);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().to_vec();
        let authority = rcgen::Issuer::new(params, key);
        Ok(Self { authority, certificate, key: SigningKey::es256("svid-1") })
    }

    /// Has the broker trust it, ask for certificates, and take each of its tokens once, as it takes those of `ci`.
    fn known_to(&self, mut setup: Setup) -> Setup {
        let mut token_key = self.key.jwk();
        token_key["use"] = json!("jwt-svid");
        let authority =
            json!({"kty": "EC", "crv": "P-256", "use": "x509-svid", "x5c": [STANDARD.encode(&self.certificate)]});
        let bundle = json!({"keys": [authority, token_key], "spiffe_sequence": 1}).to_string();
        setup.issuers.push(json!({
            "name": "prod", "kind": "spiffe", "trust_domain": TRUST_DOMAIN, "audiences": [AUDIENCE],
            "bundle": bundle, "single_use": true,
        }));
        setup.server(json!({"server": {"tls": {"client_certificates": true}}}))
    }

    fn svid(&self, id: &str) -> anyhow::Result<(rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let mut params = params(10, 3600);
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?.der().clone();
        Ok((certificate, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }

    fn jwt_svid(&self, issuer: &Issuer, id: &str) -> String {
        let mut claims = issuer.claims(AUDIENCE, id);
        // A JWT-SVID needs no issuer: it is of the trust domain of its subject.
        if let Some(claims) = claims.as_object_mut() {
            claims.remove("iss");
        }
        self.key.sign(&claims)
    }
}

/// Certificates that have been valid for so many seconds, and are for so many.
fn params(since: i64, remaining: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let now = OffsetDateTime::from_unix_timestamp(unix_now()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - time::Duration::seconds(since);
    params.not_after = now + time::Duration::seconds(remaining);
    params
}

/// Those that have keys of their own, and the nonce that the broker wants of them.
struct Owners {
    keys: Vec<Prover>,
    nonce: String,
}

impl Owners {
    async fn of(way: Way, broker: &BenchedBroker) -> anyhow::Result<Self> {
        let mut owners = Self { keys: Vec::new(), nonce: String::new() };
        if way.shows == Shows::OidcAndKey {
            owners.keys.extend((0..WORKLOADS).map(|_| Prover::new()));
            let tls = broker.connections.tls_of(0).context("the broker speaks TLS")?;
            let stream = tokio::net::TcpStream::connect(broker.listen).await?;
            let stream = tokio_rustls::TlsConnector::from(tls).connect(server_name()?, stream).await?;
            let (token, without) = (Proofs::of(&broker.issuer, &broker.key).one(0), owners.prove(0, &broker.origin()));
            owners.nonce = Connection::new(stream).nonce(&token, &without, &role(0)).await?;
        }
        Ok(owners)
    }

    /// A proof of possession for one exchange.
    fn prove(&self, number: usize, origin: &str) -> String {
        let mut claims = json!({
            "jti": URL_SAFE_NO_PAD.encode(random_bytes::<16>()), "htm": "POST", "htu": format!("{origin}/oauth2/token"),
            "iat": unix_now(),
        });
        if !self.nonce.is_empty() {
            claims["nonce"] = Value::from(self.nonce.as_str());
        }
        self.keys
            .iter()
            .cycle()
            .nth(number % self.keys.len().max(1))
            .map(|key| key.sign(&json!({}), &claims))
            .unwrap_or_default()
    }
}

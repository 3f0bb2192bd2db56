//! `[server]`: where the broker listens and what it is called.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use hallpass_core::time::Ttl;
use ipnet::IpNet;
use serde::Deserialize;

use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration, beside};
use crate::config::url;

/// `[server]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where health, readiness and metrics are answered. They ask for no proof.
    pub ops_listen: SocketAddr,
    /// The broker's own origin, without a trailing slash: the `iss` of its tokens, and every URL it gives out.
    pub public_url: String,
    /// Certificate and key of the API listener; without them it speaks plain http.
    pub tls: Option<Tls>,
    /// The listener for operators; without one they use the API's.
    pub admin: Option<Admin>,
    /// Certificate and key of the operations listener; without them it speaks plain http.
    pub ops_tls: Option<Tls>,
    /// Networks of the proxies that are believed about whose request they pass on.
    pub trusted_proxies: Vec<IpNet>,
    /// The header that they say it in.
    pub proxy_header: ProxyHeader,
    /// The proxies that are believed about whose certificate was shown to them.
    pub certificate_proxies: Option<CertificateProxies>,
    /// Whether each proof of possession must carry a nonce of this process (RFC 9449 §8).
    pub dpop_nonces: bool,
    /// How long requests that are at work may go on after the broker was told to stop.
    pub drain_timeout: Ttl,
}

/// The listener for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its origin, without a trailing slash, for links to what is answered there.
    pub public_url: Option<String>,
    /// Its certificate and key; without them it speaks plain http.
    pub tls: Option<Tls>,
}

/// The header in which proxies say whose request they pass on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Proxies that end TLS and pass on the certificate that was shown to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProxies {
    /// The header that they pass it on in.
    pub header: CertificateHeader,
    /// Who signs the certificates that the proxies themselves show, PEM.
    pub ca_file: PathBuf,
    /// DNS names or URIs, one of which such a certificate has.
    pub names: Vec<String>,
}

/// The header in which proxies pass a certificate on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateHeader {
    /// `X-Forwarded-Client-Cert`, as Envoy writes it.
    XForwardedClientCert,
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    ClientCert,
}

/// Certificate and key of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where they come from.
    pub own: OwnCertificate,
    /// Whether clients are asked for a certificate. They need none.
    pub client_certificates: bool,
}

/// Where a listener's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// Two files.
    Files {
        /// Certificate chain, PEM, leaf first.
        certificate_file: PathBuf,
        /// Its private key, PEM.
        private_key_file: PathBuf,
    },
    /// The X.509-SVID that the agent at this Unix socket gives the broker.
    WorkloadApi(PathBuf),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    listen: SocketAddr,
    ops_listen: SocketAddr,
    public_url: String,
    tls: Option<RawTls>,
    admin: Option<RawAdmin>,
    ops_tls: Option<RawTls>,
    #[serde(default)]
    dangerous_plain_http: bool,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    proxy_header: Option<ProxyHeader>,
    certificate_proxies: Option<RawCertificateProxies>,
    #[serde(default)]
    dpop: RawDpop,
    drain_timeout: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDpop {
    nonces: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdmin {
    listen: SocketAddr,
    public_url: Option<String>,
    tls: Option<RawTls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificateProxies {
    header: CertificateHeader,
    ca_file: PathBuf,
    names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate_file: Option<PathBuf>,
    private_key_file: Option<PathBuf>,
    workload_api: Option<String>,
    #[serde(default)]
    client_certificates: bool,
}

const DRAIN_TIMEOUT: Bounded = Bounded { standard: Ttl::from_secs(20), min: Ttl::ZERO, max: Ttl::from_mins(10) };

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Server> {
    let raw: RawServer = section.read(findings)?;
    if let Err(reason) = url::check_origin(&raw.public_url, raw.dangerous_plain_http) {
        findings.push(section.finding("public_url", reason));
    }
    let plain = |tls: &Option<RawTls>, address: SocketAddr| {
        tls.is_none() && !address.ip().is_loopback() && !raw.dangerous_plain_http
    };
    if plain(&raw.tls, raw.listen) {
        let reason = "other machines would send their proofs, and get credentials, in plain text: give [server.tls], or \
                      say dangerous_plain_http = true where something else ends TLS on this machine";
        findings.push(section.finding("listen", reason));
    }
    if raw.ops_tls.as_ref().is_some_and(|tls| tls.client_certificates) {
        findings.push(section.finding("ops_tls.client_certificates", "nothing there asks who calls: leave it out"));
    }
    let same = |one: SocketAddr, other: SocketAddr| one == other && one.port() != 0;
    if same(raw.listen, raw.ops_listen) {
        findings.push(section.finding("ops_listen", "is the same as listen: metrics must not be where strangers call"));
    }
    if let Some(admin) = &raw.admin {
        if plain(&admin.tls, admin.listen) {
            let reason = "other machines would send operators' proofs in plain text: give [server.admin.tls], or say \
                          dangerous_plain_http = true where something else ends TLS on this machine";
            findings.push(section.finding("admin.listen", reason));
        }
        if let Some(Err(reason)) = admin.public_url.as_ref().map(|url| url::check_origin(url, raw.dangerous_plain_http))
        {
            findings.push(section.finding("admin.public_url", reason));
        }
        if same(admin.listen, raw.listen) || same(admin.listen, raw.ops_listen) {
            findings.push(
                section.finding("admin.listen", "is another listener's: leave [server.admin] out to share the API's"),
            );
        }
    }
    let certificate_proxies = raw.certificate_proxies.map(|proxies| {
        if proxies.names.is_empty() || proxies.names.iter().any(|name| name.is_empty() || name.contains('*')) {
            let reason = "name each proxy as its own certificate does: whoever has a certificate of that authority and \
                          a name here chooses who calls";
            findings.push(section.finding("certificate_proxies.names", reason));
        }
        let asks = |tls: &Option<RawTls>| tls.as_ref().is_some_and(|tls| tls.client_certificates);
        if !asks(&raw.tls) && !raw.admin.as_ref().is_some_and(|admin| asks(&admin.tls)) {
            let reason = "the proxies prove who they are by their own certificate: say client_certificates = true in \
                          [server.tls], so that they are asked for it";
            findings.push(section.finding("certificate_proxies", reason));
        }
        CertificateProxies {
            header: proxies.header,
            ca_file: beside(section.file(), &proxies.ca_file),
            names: proxies.names,
        }
    });
    let mut tls = |key: &str, raw: Option<RawTls>| {
        let tls = raw?;
        let own = own_certificate(section, key, &tls, findings)?;
        Some(Tls { own, client_certificates: tls.client_certificates })
    };
    let (api_tls, ops_tls) = (tls("tls", raw.tls), tls("ops_tls", raw.ops_tls));
    let admin = raw.admin.map(|admin| {
        let tls = tls("admin.tls", admin.tls);
        Admin { listen: admin.listen, public_url: admin.public_url, tls }
    });
    let trusted_proxies = trusted_proxies(section, &raw.trusted_proxies, findings);
    if raw.proxy_header.is_some() && raw.trusted_proxies.is_empty() {
        findings.push(section.finding("proxy_header", "is read of trusted_proxies alone, and there are none"));
    }
    Some(Server {
        certificate_proxies,
        listen: raw.listen,
        ops_listen: raw.ops_listen,
        public_url: raw.public_url,
        tls: api_tls,
        admin,
        ops_tls,
        trusted_proxies,
        proxy_header: raw.proxy_header.unwrap_or_default(),
        // Without them whoever could once use a key can make proofs for later, and nothing tells when.
        dpop_nonces: raw.dpop.nonces.unwrap_or(true),
        drain_timeout: DRAIN_TIMEOUT.check(section, "drain_timeout", raw.drain_timeout, findings),
    })
}

fn own_certificate(
    section: &Document<'_>,
    key: &str,
    tls: &RawTls,
    findings: &mut Vec<Finding>,
) -> Option<OwnCertificate> {
    match (&tls.certificate_file, &tls.private_key_file, &tls.workload_api) {
        (Some(certificate), Some(private_key), None) => Some(OwnCertificate::Files {
            certificate_file: beside(section.file(), certificate),
            private_key_file: beside(section.file(), private_key),
        }),
        (None, None, Some(socket)) => {
            let path = url::unix_socket(socket);
            if path.is_none() {
                let reason = "write the socket of the agent as \"unix:///run/spire/agent.sock\"";
                findings.push(section.finding(&format!("{key}.workload_api"), reason));
            }
            path.map(OwnCertificate::WorkloadApi)
        }
        _ => {
            let reason = "give certificate_file and private_key_file, or workload_api alone";
            findings.push(section.finding(key, reason));
            None
        }
    }
}

/// Networks such as `10.0.0.0/8`, or single addresses.
fn trusted_proxies(section: &Document<'_>, written: &[String], findings: &mut Vec<Finding>) -> Vec<IpNet> {
    const KEY: &str = "trusted_proxies";
    let mut networks = Vec::new();
    for text in written {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match network {
            None => {
                let reason = format!("{text:?} is no network such as \"10.0.0.0/8\", and no address");
                findings.push(section.finding(KEY, reason));
            }
            Some(network) if network.prefix_len() == 0 => {
                let reason = format!("{text:?} is everybody: then anybody chooses the address that it comes from");
                findings.push(section.finding(KEY, reason));
            }
            Some(network) if network.trunc() != network => {
                let reason = format!("{text:?} has bits behind its prefix: write {}", network.trunc());
                findings.push(section.finding(KEY, reason));
            }
            Some(network) => networks.push(network),
        }
    }
    networks
}

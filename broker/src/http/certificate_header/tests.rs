use hallpass_core::time::Ttl;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::*;

const NOW: i64 = 1_800_000_000;

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.contains("://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW - 60).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW + 60).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> Authority {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages.clear();
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

impl Authority {
    fn signs(&self, names: &[&str]) -> rcgen::Certificate {
        params(names).signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap()
    }
}

fn shown_by(certificate: &rcgen::Certificate) -> Arc<ClientCertificate> {
    Arc::new(ClientCertificate::new(vec![certificate.der().to_vec()]).unwrap())
}

fn encoded(pem: &str) -> String {
    percent_encoding::utf8_percent_encode(pem, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn headers(lines: &[(&HeaderName, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append((*name).clone(), value.parse().unwrap());
    }
    headers
}

const PROXY: &str = "envoy.edge.test";

/// Proxies of an authority, what one of them showed, and what it was shown.
fn house(header: CertificateHeader) -> (CertificateProxies, Arc<ClientCertificate>, rcgen::Certificate, Authority) {
    let authority = authority();
    let proxies = CertificateProxies::new(header, authority.pem.as_bytes(), vec![PROXY.to_owned()]).unwrap();
    let (proxy, caller) = (shown_by(&authority.signs(&[PROXY])), authority.signs(&["spiffe://td1.test/a"]));
    (proxies, proxy, caller, authority)
}

#[test]
fn what_an_authenticated_proxy_passes_on_is_the_callers() {
    let now = Timestamp::from_secs(NOW);
    let (proxies, proxy, caller, authority) = house(CertificateHeader::XForwardedClientCert);
    let own = encoded(&caller.pem());
    let chain = encoded(&format!("{}{}", caller.pem(), authority.pem));
    for (value, length) in [
        (format!("Hash=abc;Cert=\"{own}\";Subject=\"CN=x, O=\\\"y\\\"\";URI=spiffe://td1.test/a"), 1),
        (format!("By=spiffe://edge;Hash=abc;Chain=\"{chain}\""), 2),
        (format!("Cert=\"{own}\";Chain=\"{chain}\""), 2),
    ] {
        let shown = proxies.shown(Some(Arc::clone(&proxy)), &headers(&[(&XFCC, value)]), now).unwrap();
        let certificate = shown.certificate.unwrap();
        assert_eq!(certificate.leaf(), &caller.der()[..]);
        assert_eq!(certificate.intermediates().len(), length - 1);
        assert!(shown.ignored.is_none());
    }
    // Its own certificate is nobody's proof.
    let without = proxies.shown(Some(Arc::clone(&proxy)), &HeaderMap::new(), now).unwrap();
    assert!(without.certificate.is_none() && without.ignored.is_none());

    let (proxies, proxy, caller, authority) = house(CertificateHeader::ClientCert);
    let bytes = |der: &[u8]| format!(":{}:", STANDARD.encode(der));
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    let lines = [(&CLIENT_CERT, bytes(caller.der())), (&CLIENT_CERT_CHAIN, bytes(&root))];
    let certificate = proxies.shown(Some(proxy), &headers(&lines), now).unwrap().certificate.unwrap();
    assert_eq!((certificate.leaf(), certificate.intermediates().len()), (&caller.der()[..], 1));
}

#[test]
fn of_anybody_else_the_header_is_nothing() {
    let now = Timestamp::from_secs(NOW);
    let (proxies, proxy, caller, authority) = house(CertificateHeader::XForwardedClientCert);
    let value = format!("Cert=\"{}\"", encoded(&caller.pem()));
    let lines = headers(&[(&XFCC, value)]);
    let expired = now.plus(Ttl::from_secs(61));
    let of_another_authority = shown_by(&self::authority().signs(&[PROXY]));
    for (who, proxies, peer, now, is_known) in [
        ("without a certificate", &proxies, None, now, true),
        ("of another name", &proxies, Some(shown_by(&authority.signs(&["other.edge.test"]))), now, true),
        ("of a longer name", &proxies, Some(shown_by(&authority.signs(&["envoy.edge.test.evil.test"]))), now, true),
        ("nobody configured", &CertificateProxies::default(), Some(Arc::clone(&proxy)), now, true),
        // What is called as a proxy passes on for others, also when it cannot be believed: its own is nobody's proof.
        ("of another authority", &proxies, Some(of_another_authority), now, false),
        ("over", &proxies, Some(Arc::clone(&proxy)), expired, false),
    ] {
        let shown = proxies.shown(peer.clone(), &lines, now).unwrap();
        assert_eq!(shown.certificate, peer.filter(|_| is_known), "{who}");
        let ignored = shown.ignored.expect(who);
        assert_eq!(ignored.reason, Reason::UntrustedProxyHeader, "{who}");
    }
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    let now = Timestamp::from_secs(NOW);
    let (proxies, proxy, caller, authority) = house(CertificateHeader::XForwardedClientCert);
    let own = format!("Cert=\"{}\"", encoded(&caller.pem()));
    let other = format!("Cert=\"{}\"", encoded(&authority.signs(&["x.test"]).pem()));
    let refused =
        |lines: &[(&HeaderName, String)]| proxies.shown(Some(Arc::clone(&proxy)), &headers(lines), now).is_err();
    assert!(!refused(&[(&XFCC, own.clone())]), "the control");
    assert!(refused(&[(&XFCC, own.clone()), (&XFCC, own.clone())]), "twice");
    let foreign_chain = format!("{own};Chain=\"{}\"", encoded(&authority.pem));
    for value in [
        format!("{own},{own}"),
        format!("{own};{other}"),
        format!("{own};{own}"),
        foreign_chain,
        "Hash=abc;URI=spiffe://td1.test/admin".to_owned(),
        "URI=spiffe://td1.test/admin".to_owned(),
        "Cert=\"\"".to_owned(),
        "Cert=abc".to_owned(),
        "Cert".to_owned(),
        format!("{own}\"x"),
        String::new(),
        format!("Chain=\"{}\"", encoded(&format!("{}{}", caller.pem(), authority.pem.repeat(2)))),
        format!("Chain=\"{}\"", encoded(&caller.pem().repeat(5))),
    ] {
        assert!(refused(&[(&XFCC, value.clone())]), "{value}");
    }

    let (proxies, proxy, caller, _) = house(CertificateHeader::ClientCert);
    let own = format!(":{}:", STANDARD.encode(caller.der()));
    let refused =
        |lines: &[(&HeaderName, String)]| proxies.shown(Some(Arc::clone(&proxy)), &headers(lines), now).is_err();
    assert!(!refused(&[(&CLIENT_CERT, own.clone())]), "the control");
    for lines in [
        vec![(&CLIENT_CERT, own.clone()), (&CLIENT_CERT, own.clone())],
        vec![(&CLIENT_CERT, format!("{own}, {own}"))],
        vec![(&CLIENT_CERT, own.trim_matches(':').to_owned())],
        vec![(&CLIENT_CERT, "::".to_owned())],
        vec![(&CLIENT_CERT_CHAIN, own.clone())],
        vec![(&CLIENT_CERT, own.clone()), (&CLIENT_CERT_CHAIN, "x".to_owned())],
    ] {
        assert!(refused(&lines), "{lines:?}");
    }
}

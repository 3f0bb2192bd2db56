//! Certificates that a proxy passes on.

use super::*;

/// A broker that believes the proxy `envoy.edge.test` of this authority.
async fn behind(root: &Authority, edge: &Authority) -> (Domain, TempDir) {
    let folder = TempDir::with_prefix("hallpass-edge-").expect("a temporary folder");
    let file = folder.path().join("edge.pem");
    let body = STANDARD.encode(&edge.der);
    fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")).expect("written");
    let proxies = json!({"header": "x-forwarded-client-cert", "ca_file": file, "names": ["envoy.edge.test"]});
    let house =
        Domain::open_with(&[root], &[], |setup| setup.server(json!({"server": {"certificate_proxies": proxies}})))
            .await;
    (house, folder)
}

fn proxy(edge: &Authority, name: &str) -> Shown {
    edge.svid_with(ID, |params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("ASCII"))])
}

fn header_of(shown: &Shown) -> String {
    let pem: String = shown
        .chain
        .iter()
        .map(|der| format!("-----BEGIN CERTIFICATE-----%0A{}%0A-----END CERTIFICATE-----%0A", STANDARD.encode(der)))
        .collect();
    let encoded = pem.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(' ', "%20");
    format!("Hash=0000;Chain=\"{encoded}\";URI=spiffe://td1.test/ns/prod/sa/deployer")
}

async fn asked(client: &Client, headers: &[&str]) -> Answer {
    let mut request = client.client.get(format!("{}/v1/whoami", client.url));
    for value in headers {
        request = request.header("x-forwarded-client-cert", *value);
    }
    Answer::read(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn a_proxy_that_proves_who_it_is_passes_on_whose_certificate_it_was_shown() {
    let (root, edge) = (Authority::new("td1"), Authority::new("edge"));
    let (house, _folder) = behind(&root, &edge).await;
    let client = house.client(Some(&proxy(&edge, "envoy.edge.test")));
    let shown = header_of(&root.svid(ID));
    let me = asked(&client, &[&shown]).await;
    me.assert_status(200);
    assert!(me.text.contains(ID), "{}", me.text);
    // What it passes on is judged as any certificate, and read in one way or not at all.
    let impostor = header_of(&Authority::new("td1").svid(ID));
    let refused = asked(&client, &[&impostor]).await;
    assert_eq!(house.broker.store().reasons_of(refused.request_id()), ["bad_svid"]);
    for headers in [vec![shown.as_str(), shown.as_str()], vec!["URI=spiffe://td1.test/admin"]] {
        let refused = asked(&client, &headers).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
    // Its own certificate is nobody's proof.
    let own = asked(&client, &[]).await;
    assert_eq!(house.broker.store().reasons_of(own.request_id()), ["proof_missing"]);
}

#[tokio::test]
async fn of_anybody_else_the_header_is_ignored_and_written_down() {
    // CASE MTLS-001
    let (root, edge) = (Authority::new("td1"), Authority::new("edge"));
    let (house, _folder) = behind(&root, &edge).await;
    let shown = header_of(&root.svid("spiffe://td1.test/admin"));
    for client in [house.client(None), house.client(Some(&proxy(&edge, "other.edge.test")))] {
        let answer = asked(&client, &["By=x;URI=spiffe://td1.test/admin"]).await;
        assert_eq!(answer.status, 401, "{}", answer.text);
        let reasons = house.broker.store().reasons_of(answer.request_id());
        assert!(reasons.contains(&"untrusted_proxy_header".to_owned()), "{reasons:?}");
    }
    // Whoever has a proof of its own is known by that, and that the header was there is written down.
    let own = house.client(Some(&root.svid(ID)));
    let me = asked(&own, &[&shown]).await;
    me.assert_status(200);
    assert!(me.text.contains(ID) && !me.text.contains("admin"), "{}", me.text);
    assert!(house.broker.store().reasons_of(me.request_id()).contains(&"untrusted_proxy_header".to_owned()));
}

#[tokio::test]
async fn what_is_passed_on_is_never_asked_by_the_proxy_itself() {
    let (root, edge) = (Authority::new("td1"), Authority::new("edge"));
    // A proxy that is a workload as well, whose authority is not, or no longer, the configured one.
    let (house, _folder) = behind(&root, &edge).await;
    let called = |name: &str| {
        let name = SanType::DnsName(name.try_into().expect("ASCII"));
        house.client(Some(&root.svid_with(ID, |params| params.subject_alt_names.push(name))))
    };
    asked(&called("other.edge.test"), &[]).await.assert_status(200);
    let answer = asked(&called("envoy.edge.test"), &[]).await;
    assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["proof_missing"]);

    // One that is believed about addresses alone.
    let proxies = json!({"server": {"trusted_proxies": ["127.0.0.0/8", "::1/128"]}});
    let house = Domain::open_with(&[&root], &[], |setup| setup.server(proxies)).await;
    let client = house.client(Some(&root.svid(ID)));
    asked(&client, &[]).await.assert_status(200);
    for from in ["203.0.113.9", "127.0.0.1", "127.0.0.1, 127.0.0.1"] {
        let passed_on = client.client.get(format!("{}/v1/whoami", client.url)).header("x-forwarded-for", from);
        let answer = Answer::read(passed_on.send().await.expect("an answer")).await;
        assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["proof_missing"], "{from}");
    }
}

use super::*;

fn proxies(header: ProxyHeader) -> Proxies {
    let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().unwrap()).to_vec();
    Proxies { trusted, header }
}

/// The source of a request from `peer` with these lines of the header `name`.
fn source(proxies: &Proxies, peer: &str, name: &str, lines: &[&str]) -> Result<String, Unreadable> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(HeaderName::try_from(name).unwrap(), line.parse().unwrap());
    }
    proxies.source(peer.parse().unwrap(), &headers).map(|address| address.to_string())
}

#[test]
fn whoever_is_no_proxy_of_ours_is_its_own_source_whatever_it_says() {
    for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
        for (name, line) in [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "?")]
        {
            assert_eq!(source(&proxies(header), "198.51.100.7", name, &[line]).unwrap(), "198.51.100.7");
            assert_eq!(source(&Proxies::default(), "10.0.0.1", name, &[line]).unwrap(), "10.0.0.1");
        }
    }
}

#[test]
fn the_rightmost_address_that_is_no_proxy_of_ours_is_the_source() {
    let xff = |lines: &[&str]| source(&proxies(ProxyHeader::XForwardedFor), "10.0.0.1", "x-forwarded-for", lines);
    for (lines, expected) in [
        (&["192.0.2.1"] as &[&str], "192.0.2.1"),
        (&["192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        // What the caller wrote itself stands further left.
        (&["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        (&["10.1.1.1, 192.0.2.1"], "192.0.2.1"),
        (&["not an address, 192.0.2.1"], "192.0.2.1"),
        (&["203.0.113.9", "192.0.2.1,10.2.2.2"], "192.0.2.1"),
        (&["192.0.2.1:4711"], "192.0.2.1"),
        (&["[2001:db8::7]:4711"], "2001:db8::7"),
        (&["2001:db8::7"], "2001:db8::7"),
        (&["192.0.2.1, 2001:db8:1::5"], "192.0.2.1"),
        (&["::ffff:192.0.2.1"], "192.0.2.1"),
        // Proxies all the way: one of them asks for itself.
        (&["10.1.1.1"], "10.1.1.1"),
        (&[], "10.0.0.1"),
    ] {
        assert_eq!(xff(lines).unwrap(), expected, "{lines:?}");
    }
}

#[test]
fn the_forwarded_header_is_read_as_its_standard_writes_it() {
    let forwarded = |lines: &[&str]| source(&proxies(ProxyHeader::Forwarded), "10.0.0.1", "forwarded", lines);
    for (lines, expected) in [
        (&["for=192.0.2.60;proto=http;by=203.0.113.43"] as &[&str], "192.0.2.60"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17"),
        (&["for=192.0.2.43,for=10.3.3.3;host=\"a,b;c\""], "192.0.2.43"),
        (&["proto=https; for=192.0.2.43"], "192.0.2.43"),
        (&["for=\"192.0.2.43:\\4711\""], "192.0.2.43"),
        (&["for=unknown, for=_hidden, for=192.0.2.43"], "192.0.2.43"),
        // A quote that the caller left open ends with the caller's line.
        (&["for=\"192.0.2.1", "for=198.51.100.17"], "198.51.100.17"),
    ] {
        assert_eq!(forwarded(lines).unwrap(), expected, "{lines:?}");
    }
}

#[test]
fn what_one_of_our_proxies_wrote_and_nobody_can_read_is_refused() {
    for (header, name, line) in [
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "unknown"),
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "192.0.2.1,"),
        (ProxyHeader::XForwardedFor, "x-forwarded-for", ""),
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "192.0.2.256"),
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "192.0.2.1, gateway, 10.1.1.1"),
        (ProxyHeader::Forwarded, "forwarded", "for=unknown"),
        (ProxyHeader::Forwarded, "forwarded", "for=_hidden"),
        (ProxyHeader::Forwarded, "forwarded", "proto=https"),
        (ProxyHeader::Forwarded, "forwarded", "192.0.2.1"),
        (ProxyHeader::Forwarded, "forwarded", "for=192.0.2.1;for=192.0.2.2"),
        (ProxyHeader::Forwarded, "forwarded", "for=\"192.0.2.1, for=192.0.2.2"),
        (ProxyHeader::Forwarded, "forwarded", "for=192.0.2.1 for=192.0.2.2"),
        (ProxyHeader::Forwarded, "forwarded", "for=192.0.2.1;"),
    ] {
        let refused = source(&proxies(header), "10.0.0.1", name, &[line]);
        assert!(refused.is_err(), "{name}: {line}");
    }
    let loops = vec!["10.1.1.1"; MAX_HOPS + 1].join(", ");
    assert!(source(&proxies(ProxyHeader::XForwardedFor), "10.0.0.1", "x-forwarded-for", &[&loops]).is_err());
}

#[test]
fn the_header_that_the_proxies_do_not_write_is_not_read() {
    let mut headers = HeaderMap::new();
    headers.append("x-forwarded-for", "192.0.2.1".parse().unwrap());
    headers.append("forwarded", "for=203.0.113.9".parse().unwrap());
    let of = |header| proxies(header).source("10.0.0.1".parse().unwrap(), &headers).unwrap().to_string();
    assert_eq!(
        (of(ProxyHeader::XForwardedFor), of(ProxyHeader::Forwarded)),
        ("192.0.2.1".into(), "203.0.113.9".into())
    );
}

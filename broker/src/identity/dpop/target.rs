//! `htu` (RFC 9449 §4.2, §4.3): the URL that a proof was made for.

use url::Url;

/// Longest `htu` that is looked at.
const MAX_BYTES: usize = 2_048;

/// Whether `htu` is `path` at `origin`, whatever its query and fragment, and however scheme, host, default port and dot
/// segments are spelled (RFC 3986 §6.2.2, §6.2.3).
pub(super) fn is_same(htu: &str, origin: &str, path: &str) -> bool {
    // What the parser would pass over, other readers might not.
    let is_plain =
        |text: &str| text.len() <= MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !is_plain(htu) || !is_plain(path) || !htu.contains("://") {
        return false;
    }
    let (Ok(claimed), Ok(own)) = (Url::parse(htu), Url::parse(&format!("{origin}{path}"))) else { return false };
    claimed.username().is_empty()
        && claimed.password().is_none()
        && claimed.origin() == own.origin()
        && claimed.origin().is_tuple()
        && unreserved(claimed.path()) == unreserved(own.path())
}

/// A path with everything spelled out that need not be encoded, and the rest in upper case (RFC 3986 §6.2.2.2).
fn unreserved(path: &str) -> String {
    let mut spelled = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        spelled.push_str(before);
        let octet = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (octet, after.get(2..)) {
            (Some(octet), Some(behind)) => {
                match char::from(octet) {
                    plain if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => spelled.push(plain),
                    _ => spelled.push_str(&format!("%{octet:02X}")),
                }
                rest = behind;
            }
            _ => {
                spelled.push('%');
                rest = after;
            }
        }
    }
    spelled.push_str(rest);
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://broker.test";

    #[test]
    fn one_url_has_many_spellings() {
        for htu in [
            "https://broker.test/oauth2/token",
            "HTTPS://BROKER.TEST/oauth2/token",
            "https://broker.test:443/oauth2/token",
            "https://broker.test/oauth2/token?a=b",
            "https://broker.test/oauth2/token#a",
            "https://broker.test/oauth2/%74oken",
            "https://broker.test/x/../oauth2/./token",
        ] {
            assert!(is_same(htu, ORIGIN, "/oauth2/token"), "{htu}");
        }
        assert!(is_same("http://127.0.0.1:8080/a%2fb", "http://127.0.0.1:8080", "/a%2Fb"));
        assert!(is_same("https://broker.test", ORIGIN, "/"));
    }

    #[test]
    fn another_url_is_another() {
        for htu in [
            "",
            "/oauth2/token",
            "//broker.test/oauth2/token",
            "broker.test/oauth2/token",
            "https:broker.test/oauth2/token",
            "http://broker.test/oauth2/token",
            "https://other.test/oauth2/token",
            "https://broker.test:8443/oauth2/token",
            "https://broker.test.evil.example/oauth2/token",
            "https://broker.test@evil.example/oauth2/token",
            "https://user@broker.test/oauth2/token",
            "https://broker.test/oauth2/Token",
            "https://broker.test/oauth2/token/",
            "https://broker.test//oauth2/token",
            "https://broker.test/oauth2%2Ftoken",
            "https://broker.test/oauth2/token ",
            "https://broker.test/oauth2/tok\ten",
            "https://broker.test\\oauth2\\token",
            "urn:broker.test:/oauth2/token",
        ] {
            assert!(!is_same(htu, ORIGIN, "/oauth2/token"), "{htu}");
        }
        assert!(!is_same("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080", "/a%2Fb"));
    }
}

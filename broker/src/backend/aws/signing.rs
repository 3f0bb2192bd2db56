//! Signature Version 4 for what the broker sends: a POST of a form to the root of an endpoint.
//!
//! Written here because the crate for it, `aws-sigv4`, brings nineteen others along, a second implementation of SHA-2
//! among them. Held against signatures that AWS's own library makes.

use hallpass_core::secret::Secret;
use hallpass_core::time::Timestamp;
use ring::{digest, hmac};
use time::OffsetDateTime;
use time::macros::format_description;
use url::Url;
use zeroize::Zeroizing;

/// Media type of every request.
pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What signs: long-lived keys of a user, or those of a session.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret,
    pub(super) session_token: Option<Secret>,
}

/// What a signature is good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The headers that sign `body`, sent to `url` at `now`; beside them go the media type [`FORM`] and the host.
pub(super) fn headers(
    keys: &Keys,
    scope: Scope<'_>,
    url: &Url,
    body: &[u8],
    now: Timestamp,
) -> Option<Vec<(&'static str, Zeroizing<String>)>> {
    let at = OffsetDateTime::from_unix_timestamp(now.as_secs()).ok()?;
    let stamp = at.format(format_description!("[year][month][day]T[hour][minute][second]Z")).ok()?;
    let day = stamp.get(..8)?;
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    let session = keys.session_token.as_ref().map(Secret::expose);

    // Canonical headers, by their names (task 1 of the specification).
    let mut signed = vec![("content-type", FORM), ("host", host.as_str()), ("x-amz-date", stamp.as_str())];
    signed.extend(session.map(|token| ("x-amz-security-token", token)));
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let length = signed.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 128 + names.len();
    let mut canonical = Zeroizing::new(String::with_capacity(length));
    canonical.push_str("POST\n/\n\n");
    for (name, value) in &signed {
        for part in [name, ":", value, "\n"] {
            canonical.push_str(part);
        }
    }
    for part in ["\n", &names, "\n", &hex(digest::digest(&digest::SHA256, body).as_ref())] {
        canonical.push_str(part);
    }

    let Scope { region, service } = scope;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{scope}\n{hash}");
    let first = Zeroizing::new(format!("AWS4{}", keys.secret_access_key.expose()));
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
    for part in [day, region, service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let id = &keys.access_key_id;
    let authorization = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut headers =
        vec![("x-amz-date", Zeroizing::new(stamp.clone())), ("authorization", Zeroizing::new(authorization))];
    headers.extend(session.map(|token| ("x-amz-security-token", Zeroizing::new(token.to_owned()))));
    Some(headers)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"Action=GetRole&RoleName=deploy&Version=2010-05-08";

    fn signature(token: Option<&str>, url: &str, scope: Scope<'_>) -> String {
        let keys = Keys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
        };
        let at = Timestamp::from_secs(1_440_938_160);
        let headers = headers(&keys, scope, &Url::parse(url).unwrap(), BODY, at).unwrap();
        let value = |name| headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str());
        assert_eq!(value("x-amz-date"), Some("20150830T123600Z"));
        assert_eq!(value("x-amz-security-token"), token);
        value("authorization").unwrap().to_owned()
    }

    /// The expected signatures are those of botocore 1.43 (`SigV4Auth`) for the same requests.
    #[test]
    fn signatures_are_those_of_awss_own_library() {
        let iam = Scope { region: "us-east-1", service: "iam" };
        assert_eq!(
            signature(None, "https://iam.amazonaws.com/", iam),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=ef9a6578ca0bb4829d166fd7a7d7c44f5c398d8115266184936ecf4c0064a6f8"
        );
        let sts = Scope { region: "eu-central-1", service: "sts" };
        assert_eq!(
            signature(Some("TOKEN/+="), "http://127.0.0.1:4566/", sts),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-central-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=c8a14b52585ea42bea0ed7d0531f8ca8497579d0799051ff6ae7da5988431a9a"
        );
    }
}

//! A credential on its way out.

use std::fmt::Write as _;

use hallpass_core::credential::{CredentialMaterial, IssuedCredential};
use hallpass_core::secret::Secret;
use hallpass_sdk::wire;

use super::at;

/// The credential as its caller receives it. Consumes it: there is no second time.
pub(in crate::http) fn credential(issued: IssuedCredential) -> wire::Credential {
    let expires_at = at(issued.expires_at);
    match issued.material {
        CredentialMaterial::Jwt { token } => wire::Credential::Jwt { expires_at, token: secret(&token) },
        CredentialMaterial::X509 { certificate_chain, private_key, trust_bundle } => wire::Credential::X509 {
            expires_at,
            certificate_chain,
            private_key: private_key.as_ref().map(secret),
            trust_bundle,
        },
        CredentialMaterial::VaultToken { token } => wire::Credential::VaultToken { expires_at, token: secret(&token) },
        CredentialMaterial::VaultSecret { data } => {
            wire::Credential::VaultSecret { expires_at, data: wire::SecretMap::new(data.expose_members()) }
        }
        CredentialMaterial::Aws { access_key_id, secret_access_key, session_token, region } => wire::Credential::Aws {
            expires_at,
            access_key_id,
            secret_access_key: secret(&secret_access_key),
            session_token: secret(&session_token),
            region,
        },
        CredentialMaterial::Gcp { access_token } => {
            wire::Credential::Gcp { expires_at, access_token: secret(&access_token) }
        }
        CredentialMaterial::Azure { access_token } => {
            wire::Credential::Azure { expires_at, access_token: secret(&access_token) }
        }
        CredentialMaterial::GitHub { token } => wire::Credential::GitHub { expires_at, token: secret(&token) },
        CredentialMaterial::Kubernetes { token, server, ca } => {
            wire::Credential::Kubernetes { expires_at, token: secret(&token), server, ca }
        }
        CredentialMaterial::Ssh { certificate } => wire::Credential::Ssh { expires_at, certificate },
        CredentialMaterial::Database { username, password, host, port, database } => {
            let url = format!(
                "postgresql://{}:{}@{host}:{port}/{}",
                escaped(&username),
                escaped(password.expose()),
                escaped(&database)
            );
            wire::Credential::Database {
                expires_at,
                username,
                password: secret(&password),
                host,
                port,
                database,
                url: wire::Secret::new(url),
            }
        }
    }
}

fn secret(secret: &Secret) -> wire::Secret {
    wire::Secret::new(secret.expose().to_owned())
}

/// Percent-encoded for a part of a URL (RFC 3986 §2.3).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::sample::NOW;
    use serde_json::json;

    use super::*;

    fn sent(material: CredentialMaterial) -> serde_json::Value {
        serde_json::to_value(credential(IssuedCredential { material, expires_at: NOW, handle: None, signed_by: None }))
            .unwrap()
    }

    #[test]
    fn each_kind_has_the_members_of_the_contract() {
        let token = || Secret::new("t".to_owned());
        let expires_at = "2026-01-01T00:00:00Z";
        assert_eq!(
            sent(CredentialMaterial::Jwt { token: token() }),
            json!({"type": "jwt", "expires_at": expires_at, "token": "t"})
        );
        let x509 = |private_key| CredentialMaterial::X509 {
            certificate_chain: "c".to_owned(),
            private_key,
            trust_bundle: "b".to_owned(),
        };
        assert_eq!(
            sent(x509(None)),
            json!({"type": "x509", "expires_at": expires_at, "certificate_chain": "c", "trust_bundle": "b"})
        );
        assert_eq!(sent(x509(Some(token())))["private_key"], "t");
        let database = CredentialMaterial::Database {
            username: "u@x".to_owned(),
            password: Secret::new("p/:ü".to_owned()),
            host: "db.test".to_owned(),
            port: 5432,
            database: "d".to_owned(),
        };
        assert_eq!(sent(database)["url"], "postgresql://u%40x:p%2F%3A%C3%BC@db.test:5432/d");
    }
}

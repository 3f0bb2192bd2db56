//! Backends of somebody else's cloud, and what the class of their roles is compared with.

use super::*;
use crate::config::backend::BackendKind;
use crate::config::backend::kubernetes::KubernetesLogin;

const KUBERNETES: &str = "server = \"https://kubernetes.example:6443\"\nnamespaces = [\"payments\"]\n\
                          login = { method = \"jwt\", audience = \"prod-eu\" }\n";
const GITHUB: &str = "app_id = \"Iv23li\"\ninstallation_id = 42\nprivate_key = { file = \"app.pem\" }\n";
const GCP: &str =
    "provider = \"projects/123456789012/locations/global/workloadIdentityPools/hallpass/providers/broker\"\n";
const AZURE: &str = "tenant = \"contoso.onmicrosoft.com\"\n";

/// The small bundle at a backend of `kind` with these lines, and a role with `more` of them and this table.
fn at(kind: &str, backend: &str, more: &str, table: &str) -> Files {
    let role = small()["roles/app/deploy.toml"].replace("[jwt]\naudience = \"https://app.example\"\n", more);
    let mut files = with("backends.toml", &format!("[[backend]]\nname = \"tokens\"\nkind = \"{kind}\"\n{backend}"));
    files.insert("roles/app/deploy.toml".to_owned(), format!("{role}[{kind}]\n{table}"));
    files
}

fn kind_of(files: Files) -> BackendKind {
    Bundle::from_files(files).unwrap().backends.remove(0).kind
}

#[test]
fn clouds_have_standards_that_need_no_secret() {
    let BackendKind::Kubernetes(cluster) = kind_of(at("kubernetes", KUBERNETES, "", "")) else { panic!("kubernetes") };
    assert!(matches!(&cluster.login, KubernetesLogin::Jwt { audience, .. } if audience == "prod-eu"));
    assert!(cluster.advertise && cluster.ca_file.is_none());

    let BackendKind::Gcp(gcp) = kind_of(at("gcp", GCP, "", "")) else { panic!("gcp") };
    assert_eq!(gcp.sts_url.as_str(), "https://sts.googleapis.com/");
    assert_eq!(gcp.iam_credentials_url.as_str(), "https://iamcredentials.googleapis.com/");
    assert!(gcp.audience.starts_with("https://iam.googleapis.com/projects/123456789012/"), "{}", gcp.audience);
    let elsewhere = format!("{GCP}universe_domain = \"apis-berlin-build0.goog\"\n");
    let BackendKind::Gcp(gcp) = kind_of(at("gcp", &elsewhere, "", "")) else { panic!("gcp") };
    assert_eq!(gcp.sts_url.as_str(), "https://sts.apis-berlin-build0.goog/");

    let BackendKind::Azure(azure) = kind_of(at("azure", AZURE, "", "")) else { panic!("azure") };
    assert_eq!(azure.authority.as_str(), "https://login.microsoftonline.com/");
    assert_eq!((azure.audience.as_str(), azure.token_life), ("api://AzureADTokenExchange", Ttl::from_mins(90)));
    assert_eq!(azure.own_token().unwrap().1.as_str(), "RS256", "Entra takes no other");
}

#[test]
fn what_clouds_get_wrong_is_named_with_its_line() {
    let changed = |kind: &str, lines: &str, from: &str, to: &str| {
        assert!(lines.contains(from), "{lines:?} has no {from:?}");
        at(kind, &lines.replace(from, to), "", "")
    };
    let kubernetes = |from: &str, to: &str| changed("kubernetes", KUBERNETES, from, to);
    let gcp = |from: &str, to: &str| changed("gcp", GCP, from, to);
    let azure = |from: &str, to: &str| changed("azure", AZURE, from, to);
    let floor = "revocation_floor = \"hard\"\n";
    insta::assert_snapshot!(refusals(&[
        ("no server", kubernetes("server = \"https://kubernetes.example:6443\"\n", "")),
        ("plain http elsewhere", kubernetes("https://k", "http://k")),
        ("no namespace", kubernetes("[\"payments\"]", "[]")),
        ("no name of a namespace", kubernetes("\"payments\"", "\"../kube-system\"")),
        ("unknown method", kubernetes("\"jwt\"", "\"password\"")),
        ("what another method takes", kubernetes("audience", "token_file = \"t\", audience")),
        ("unknown algorithm", kubernetes("\"prod-eu\"", "\"prod-eu\", algorithm = \"HS256\"")),
        (
            "file of a bundle without folder",
            kubernetes("\"jwt\", audience = \"prod-eu\"", "\"token_file\", token_file = \"t\"")
        ),
        ("key of a bundle without folder", at("github", GITHUB, "", "")),
        ("secret that is written", changed("github", GITHUB, "file = \"app.pem\"", "value = \"x\"")),
        ("no key", changed("github", GITHUB, "file = \"app.pem\"", "")),
        ("variable of a bundle without folder", changed("github", GITHUB, "file = \"app.pem\"", "env = \"KEY\"")),
        ("no provider", gcp("/providers/broker", "")),
        ("algorithm that Google does not take", gcp("provider =", "algorithm = \"EdDSA\"\nprovider =")),
        ("life that Google does not give", gcp("provider =", "max_life = \"13h\"\nprovider =")),
        ("tenant of everybody", azure("contoso.onmicrosoft.com", "common")),
        ("life that Entra does not give", azure("tenant", "token_life = \"5m\"\ntenant")),
        ("floor above what time ends", at("gcp", GCP, floor, "")),
        ("floor above what time ends", at("azure", AZURE, floor, "")),
    ]));
}

#[test]
fn a_floor_that_a_cloud_reaches_is_taken() {
    kind_of(at("kubernetes", KUBERNETES, "revocation_floor = \"hard\"\n", ""));
    kind_of(at("azure", AZURE, "revocation_floor = \"expiry_only\"\n", ""));
}

//! Backends of kind `vault`, and what the class of their roles is compared with.

use super::*;
use crate::config::backend::BackendKind;
use crate::config::backend::vault::Login;

const BACKEND: &str =
    "[[backend]]\nname = \"tokens\"\nkind = \"vault\"\naddresses = [\"https://vault.example:8200\"]\n";
const LOGIN: &str = "login = { method = \"jwt\" }\n";

/// The small bundle at Vault, with these further lines of the backend, and of the role's table.
fn at_vault(backend: &str, table: &str) -> Files {
    let role = small()["roles/app/deploy.toml"].replace("[jwt]\naudience = \"https://app.example\"\n", "");
    let mut files = with("backends.toml", &format!("{BACKEND}{backend}"));
    files.insert("roles/app/deploy.toml".to_owned(), format!("{role}{table}"));
    files
}

#[test]
fn a_backend_at_vault_has_standards_that_need_no_secret() {
    let bundle = Bundle::from_files(at_vault(LOGIN, "[vault]\npolicies = [\"app\"]\n")).unwrap();
    let BackendKind::Vault(vault) = &bundle.backends[0].kind else { panic!("of kind vault") };
    let Login::Jwt { mount, role, audience, .. } = &vault.login else { panic!("by a token of the broker's own") };
    assert_eq!((mount.as_str(), role.as_str()), ("jwt", "hallpass"));
    assert_eq!(audience, "https://vault.example:8200");
    assert_eq!((vault.token_role.as_str(), vault.spares), ("hallpass", 2));
}

#[test]
fn what_a_backend_at_vault_gets_wrong_is_named_with_its_line() {
    let table = "[vault]\npolicies = [\"app\"]\n";
    let backend = |lines: &str| at_vault(lines, table);
    let login = |login: &str| backend(&format!("login = {{ {login} }}\n"));
    let addresses = |addresses: &str| {
        let mut files = backend(LOGIN);
        let text = files.get_mut("backends.toml").unwrap();
        *text = text.replace("[\"https://vault.example:8200\"]", addresses);
        files
    };
    insta::assert_snapshot!(refusals(&[
        ("no login", backend("")),
        ("unknown key", backend(&format!("{LOGIN}adresses = []\n"))),
        ("no address", addresses("[]")),
        ("address twice", addresses("[\"https://v.example\", \"https://v.example\"]")),
        ("address with a path", addresses("[\"https://v.example/v1\"]")),
        ("plain http elsewhere", addresses("[\"http://v.example\"]")),
        ("no method", login("role = \"hallpass\"")),
        ("unknown method", login("method = \"github\"")),
        ("what another method takes", login("method = \"jwt\", role_id = { env = \"ID\" }")),
        ("mount that leaves its place", login("method = \"jwt\", mount = \"../sys\"")),
        ("role that is a path", login("method = \"jwt\", role = \"a/b\"")),
        ("unknown algorithm", login("method = \"jwt\", algorithm = \"HS256\"")),
        ("file of a bundle without folder", login("method = \"token_file\", token_file = \"token\"")),
        ("file of a bundle without folder", login("method = \"kubernetes\"")),
        (
            "variable of a bundle without folder",
            login("method = \"approle\", role_id = { env = \"ID\" }, secret_id = { env = \"SECRET\" }"),
        ),
        ("secret that is written", login("method = \"approle\", role_id = { value = \"x\" }")),
        ("too many spares", backend(&format!("{LOGIN}spares = 65\n"))),
        ("too long a wait", backend(&format!("{LOGIN}timeout = \"1m\"\n"))),
        ("token role that is a path", backend(&format!("{LOGIN}token_role = \"../root\"\n"))),
        ("namespace with slashes around it", backend(&format!("{LOGIN}namespace = \"/teams/\"\n"))),
    ]));
}

#[test]
fn the_floor_of_a_role_is_compared_with_what_its_path_gives() {
    let role = |floor: &str, path: &str| {
        let floor = format!("revocation_floor = \"{floor}\"\n[vault]\npolicies = [\"app\"]\n{path}");
        Bundle::from_files(at_vault(LOGIN, &floor)).map(drop)
    };
    for (floor, path) in [
        ("hard", ""),
        ("hard", "path = \"database/creds/app\"\n"),
        ("hard", "path = \"db/eu/creds/app\"\nengine = \"database\"\n"),
        ("fenced", "path = \"pki/issue/web\"\n"),
        ("expiry_only", "path = \"secret/data/app\"\n"),
    ] {
        assert_eq!(role(floor, path), Ok(()), "{floor} {path}");
    }
    for (floor, path) in [
        ("hard", "path = \"pki/issue/web\"\n"),
        ("fenced", "path = \"ssh/sign/deploy\"\n"),
        ("fenced", "path = \"kubernetes/creds/deploy\"\n"),
        ("fenced", "path = \"kv/app\"\n"),
        ("fenced", "path = \"db/creds/app\"\nengine = \"other\"\n"),
        // Of what makes it nothing is known, so nothing is promised.
        ("fenced", "path = \"db/creds/app\"\n"),
    ] {
        let found = role(floor, path).unwrap_err();
        assert!(found.iter().any(|finding| finding.reason.starts_with("revocation_floor")), "{floor} {path}");
    }
}

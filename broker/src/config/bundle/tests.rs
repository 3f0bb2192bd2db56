mod clouds;
mod vault;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use hallpass_core::id::{OwnerName, PolicyId};
use hallpass_core::identity::PrincipalKind;
use hallpass_core::time::Ttl;

use super::*;
use crate::config::check::check;
use crate::config::issuer::KeySource;

fn sample_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sample")
}

fn sample() -> Files {
    files::read(&sample_folder().join("bundle")).unwrap()
}

/// A small bundle: one issuer, one backend, one owner, one role, one policy.
fn small() -> Files {
    let files = [
        (
            "issuers.toml",
            "[[issuer]]\nname = \"ci\"\nkind = \"oidc\"\nurl = \"https://ci.example\"\naudiences = [\"hallpass\"]\n",
        ),
        ("backends.toml", "[[backend]]\nname = \"tokens\"\nkind = \"jwt\"\n"),
        (
            "owners.toml",
            "[[owner]]\nname = \"team\"\ncontacts = [\"t@example.com\"]\nmembers = [{ issuer = \"ci\", subject = \"ada\" }]\n",
        ),
        (
            "roles/app/deploy.toml",
            "owner = \"team\"\ndescription = \"Deploys the app\"\nbackend = \"tokens\"\n\
             ttl = { default = \"10m\", max = \"1h\" }\n[jwt]\naudience = \"https://app.example\"\n",
        ),
        (
            "policies/app.cedar",
            "@id(\"app\")\npermit(principal in Issuer::\"ci\", action == Action::\"mint\", resource == Role::\"app/deploy\");\n",
        ),
    ];
    files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
}

/// The small bundle with `from` replaced by `to` in `path`.
fn changed(path: &str, from: &str, to: &str) -> Files {
    let mut files = small();
    let text = files.get_mut(path).unwrap();
    assert!(text.contains(from), "{path} has no {from:?}");
    *text = text.replace(from, to);
    files
}

fn with(path: &str, text: &str) -> Files {
    let mut files = small();
    files.insert(path.to_owned(), text.to_owned());
    files
}

fn refusal(files: &Files) -> String {
    let findings = Bundle::from_files(files.clone()).map(|_| ()).unwrap_err();
    assert!(!findings.is_empty(), "refused without a reason");
    findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
}

fn refusals(cases: &[(&str, Files)]) -> String {
    cases.iter().fold(String::new(), |mut text, (name, files)| {
        writeln!(text, "{name}\n{}", refusal(files)).unwrap();
        text
    })
}

#[test]
fn the_sample_is_clean_and_says_what_it_means() {
    let folder = sample_folder();
    let report = check(Some(&folder.join("hallpass.toml")), &folder.join("bundle"));
    assert!(report.is_clean(), "{report}");
    let (server, bundle) = (report.server.unwrap(), report.bundle.unwrap());
    assert_eq!(server.bundle.folder(), Some(folder.join("bundle").as_path()));
    assert_eq!(bundle.catalog.roles.len(), 3);
    assert_eq!(bundle.tests.len(), 34);
    let role = bundle.catalog.roles.get(&"payments/prod/deploy".parse().unwrap()).unwrap();
    assert_eq!(role.ttl.max, Ttl::from_mins(30));
    assert_eq!(role.parameters["audience"], "https://deploy.payments.example.com");
    let facts = bundle.role_facts(&role.name).unwrap();
    assert_eq!((facts.backend_kind.as_str(), facts.environment_class.as_deref()), ("jwt", Some("production")));
    let people = bundle.issuers.iter().find(|issuer| issuer.name.as_str() == "people").unwrap();
    assert_eq!((people.principal, people.rules.single_use), (PrincipalKind::Operator, false));
    assert!(bundle.catalog.owners[&OwnerName::new("payments").unwrap()].resolves());
}

#[test]
fn the_sample_loads_without_its_folder_as_the_embedded_one_does() {
    let bundle = Bundle::from_files(sample()).unwrap();
    assert_eq!(bundle.revision, Bundle::load(&sample_folder().join("bundle")).unwrap().revision);
}

#[test]
fn a_policy_of_the_sample_that_loses_a_condition_fails_its_tests() {
    let sample = sample();
    let mint = &sample["policies/mint.cedar"];
    for lost in [
        "context.provenance has repository_id && context.provenance.repository_id == \"222\" &&",
        "context.provenance has repository_owner_id && context.provenance.repository_owner_id == \"111\" &&",
        "context.provenance has ref && context.provenance.ref == \"refs/heads/main\" &&",
        "context.provenance has ref_protected && context.provenance.ref_protected &&",
        "context.provenance has repository_id && context.provenance.repository_id == \"333\"",
        "principal.multi_audience",
        "resource has environment_class && resource.environment_class == \"production\" &&",
    ] {
        assert!(mint.contains(lost), "{lost}");
        let left = match lost {
            "principal.multi_audience" => "false",
            lost if lost.ends_with("&&") => "true &&",
            _ => "true",
        };
        let mut files = sample.clone();
        files.insert("policies/mint.cedar".to_owned(), mint.replacen(lost, left, 1));
        assert!(Bundle::from_files(files).is_err(), "nothing notices the loss of {lost}");
    }
}

#[test]
fn what_is_not_written_is_safe() {
    let bundle = Bundle::from_files(small()).unwrap();
    let issuer = &bundle.issuers[0];
    assert!(issuer.rules.single_use && !issuer.rules.bounds_ttl);
    assert_eq!((issuer.rules.leeway, issuer.rules.max_lifetime), (Ttl::from_secs(30), Ttl::from_hours(1)));
    assert_eq!(issuer.keys, KeySource::Discovery { jwks_origins: Vec::new(), dangerous_allow_http: false });
    assert_eq!(issuer.token_types, ["jwt"]);
    let role = &bundle.catalog.roles[&"app/deploy".parse().unwrap()];
    assert_eq!((role.state, role.purpose.default.is_none()), (RoleState::Active, true));
    assert!(bundle.warnings.is_empty());
}

#[test]
fn a_revision_is_its_content_and_a_role_is_what_it_says() {
    let digest = |files: &Files| {
        let bundle = Bundle::from_files(files.clone()).unwrap();
        (bundle.revision.clone(), bundle.catalog.roles[&"app/deploy".parse().unwrap()].digest.clone())
    };
    let (revision, role) = digest(&small());
    assert_eq!(digest(&small()), (revision.clone(), role.clone()));
    let path = "roles/app/deploy.toml";
    let reordered = changed(path, "owner = \"team\"\ndescription", "# who\nowner = 'team'\n\ndescription");
    assert_eq!(digest(&reordered).1, role, "comments, quotes and blanks do not count");
    assert_ne!(digest(&reordered).0, revision, "the bundle's content is another");
    for (from, to) in [("\"10m\"", "\"9m\""), ("https://app.example", "https://other.example"), ("Deploys", "Removes")]
    {
        assert_ne!(digest(&changed(path, from, to)).1, role);
    }
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let mut files = changed("roles/app/deploy.toml", "owner = \"team\"", "owner = \"taem\"");
    files.insert("issuers.toml".to_owned(), files["issuers.toml"].replace("https://", "http://"));
    files.insert("policies/b.cedar".to_owned(), "permit(principal, action, resource);".to_owned());
    files.insert("roles/b.toml".to_owned(), "owner = ".to_owned());
    insta::assert_snapshot!(refusal(&files));
}

#[test]
fn the_trust_domains_that_deploy_shows_load() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/spiffe/issuers.toml");
    let text = fs::read_to_string(&file).unwrap();
    let document = Document::parse(&file, &text).unwrap();
    let mut findings = Vec::new();
    let shown = issuer::spiffe::read(&document, file.parent(), &mut findings);
    assert_eq!((shown.len(), findings), (3, Vec::new()));
    assert!(issuer::raw::read(&document, file.parent(), &mut Vec::new()).is_empty(), "they are no other issuers");
}

#[test]
fn whoever_acts_for_others_can_be_known_by_its_svid() {
    let text = "[[issuer]]\nname = \"prod\"\nkind = \"spiffe\"\nprincipal = \"agent\"\ntrust_domain = \"prod.example\"\n\
                audiences = [\"hallpass\"]\nbundle = '{\"keys\": []}'\n";
    let document = Document::parse(Path::new("issuers.toml"), text).unwrap();
    let mut findings = Vec::new();
    let read = issuer::spiffe::read(&document, None, &mut findings);
    assert_eq!(
        (read.iter().map(|one| one.principal).collect::<Vec<_>>(), findings),
        (vec![PrincipalKind::Agent], Vec::new())
    );
}

#[test]
fn what_a_trust_domain_gets_wrong_is_named_with_its_line() {
    let domain = "[[issuer]]\nname = \"prod\"\nkind = \"spiffe\"\ntrust_domain = \"prod.example\"\naudiences = [\"hallpass\"]\n\
                  bundle = '{\"keys\": []}'\n";
    let beside = |text: &str| {
        let mut files = small();
        files.get_mut("issuers.toml").unwrap().push_str(text);
        files
    };
    let loaded = Bundle::from_files(beside(domain)).unwrap();
    assert_eq!(loaded.trust_domains[0].trust_domain.as_str(), "prod.example");
    assert!(!loaded.trust_domains[0].rules.single_use && loaded.trust_domains[0].x509_svids);
    let changed = |from: &str, to: &str| beside(&domain.replace(from, to));
    let more = |text: &str| beside(&format!("{domain}{text}\n"));
    let elsewhere = |text: &str| beside(&domain.replace("bundle = '{\"keys\": []}'", text));
    insta::assert_snapshot!(refusals(&[
        ("upper case", changed("prod.example", "Prod.example")),
        ("with a scheme", changed("\"prod.example", "\"spiffe://prod.example")),
        ("no audience for tokens", changed("[\"hallpass\"]", "[]")),
        ("no form", more("svids = []")),
        ("unknown form", more("svids = [\"ssh\"]")),
        ("no bundle", elsewhere("")),
        ("two places", more("bundle_endpoint = \"https://spire.prod.example/bundle\"")),
        (
            "https_spiffe",
            elsewhere("bundle_endpoint = \"https://spire.prod.example\"\nbundle_endpoint_profile = \"https_spiffe\"")
        ),
        ("profile without an endpoint", more("bundle_endpoint_profile = \"https_web\"")),
        ("plain http", elsewhere("bundle_endpoint = \"http://spire.prod.example/bundle\"")),
        ("a socket on the network", elsewhere("workload_api = \"tcp://127.0.0.1:8081\"")),
        ("a socket without a folder", elsewhere("workload_api = \"unix:///run/agent.sock\"")),
        ("a file without a folder", elsewhere("bundle_file = \"bundle.json\"")),
        ("an algorithm that SVIDs have not", more("algorithms = [\"EdDSA\"]")),
        ("bundles always too old", more("bundle_max_age = \"5s\"\nbundle_min_interval = \"10s\"")),
        ("an iss", more("url = \"https://oidc.prod.example\"")),
        ("one domain twice", beside(&[domain, &domain.replace("\"prod\"", "\"prod2\"")].concat())),
        ("one name twice", changed("\"prod\"", "\"ci\"")),
    ]));
}

#[test]
fn what_an_issuer_gets_wrong_is_named_with_its_line() {
    let path = "issuers.toml";
    let issuer = |from: &str, to: &str| changed(path, from, to);
    let more = |text: &str| changed(path, "audiences", &format!("{text}\naudiences"));
    insta::assert_snapshot!(refusals(&[
        ("malformed", issuer("name = \"ci\"", "name = ci")),
        ("unknown key", more("urll = 1")),
        ("another key at the top", with(path, "issuer_name = \"ci\"")),
        ("missing url", issuer("url = \"https://ci.example\"\n", "")),
        ("bad name", issuer("\"ci\"", "\"C I\"")),
        ("reserved name", issuer("\"ci\"", "\"hallpass\"")),
        ("settings of another kind", issuer("\"oidc\"", "\"spiffe\"")),
        ("unknown kind", issuer("\"oidc\"", "\"saml\"")),
        ("plain http", issuer("https://ci", "http://ci")),
        ("pattern", issuer("https://ci.example", "https://*.example")),
        ("no URL", issuer("https://ci.example", "ci.example")),
        ("user in the URL", issuer("https://ci", "https://ada:secret@ci")),
        ("no audience", issuer("[\"hallpass\"]", "[]")),
        ("any audience", issuer("[\"hallpass\"]", "[\"*\"]")),
        ("symmetric algorithm", more("algorithms = [\"HS256\"]")),
        ("no algorithm", more("algorithms = []")),
        ("two sources of keys", more("jwks = '{}'\njwks_uri = \"https://ci.example/keys\"")),
        ("origins without discovery", more("jwks_origins = []\njwks_uri = \"https://ci.example/keys\"")),
        ("origin with a path", more("jwks_origins = [\"https://keys.example/\"]")),
        ("private key", more("jwks = '{\"keys\": [{\"kty\": \"EC\", \"d\": \"x\"}]}'")),
        ("no key", more("jwks = '{\"keys\": []}'")),
        ("relative file without a folder", more("jwks_file = \"keys.json\"")),
        ("missing file", more("jwks_file = \"/nowhere/keys.json\"")),
        ("much leeway", more("leeway = \"1h\"")),
        ("long life", more("max_lifetime = \"365d\"")),
        ("not a duration", more("max_age = \"soon\"")),
        ("negative duration", more("max_age = -1")),
        ("no age", more("max_age = 0")),
        ("keys always too old", more("keys_max_age = \"5s\"\nkeys_min_interval = \"10s\"")),
        ("typ with a prefix", more("token_types = [\"application/jwt\"]")),
        ("unknown provenance", more("provenance = { sha = \"sha\" }")),
        ("name twice", with(path, &[small()[path].as_str(), &small()[path].replace("ci.", "ci2.")].concat())),
        ("url twice", with(path, &[small()[path].as_str(), &small()[path].replace("\"ci\"", "\"ci2\"")].concat())),
    ]));
}

#[test]
fn what_a_backend_an_owner_or_an_environment_gets_wrong_is_named_with_its_line() {
    let backend = |from: &str, to: &str| changed("backends.toml", from, to);
    let owner = |from: &str, to: &str| changed("owners.toml", from, to);
    insta::assert_snapshot!(refusals(&[
        ("unknown backend", backend("\"jwt\"", "\"ftp\"")),
        ("backend without kind", backend("kind = \"jwt\"\n", "")),
        ("backend's unknown key", backend("kind", "trust_domain = \"x\"\nkind")),
        ("algorithm that is not ours", backend("kind", "algorithm = \"HS256\"\nkind")),
        ("no trust domain", backend("\"jwt\"", "\"x509\"")),
        ("bad trust domain", backend("\"jwt\"", "\"x509\"\ntrust_domain = \"Example.com\"")),
        ("reserved name of a backend", {
            let mut files = backend("\"tokens\"", "\"hallpass\"");
            let role = files["roles/app/deploy.toml"].replace("\"tokens\"", "\"hallpass\"");
            files.insert("roles/app/deploy.toml".to_owned(), role);
            files
        }),
        ("backend twice", with("backends.toml", &small()["backends.toml"].repeat(2))),
        ("reserved name of an owner", {
            let mut files = owner("\"team\"", "\"hallpass\"");
            let role = files["roles/app/deploy.toml"].replace("\"team\"", "\"hallpass\"");
            files.insert("roles/app/deploy.toml".to_owned(), role);
            files
        }),
        ("member of an unknown issuer", owner("issuer = \"ci\"", "issuer = \"cii\"")),
        ("member without subject", owner(", subject = \"ada\"", "")),
        ("no contact", owner("[\"t@example.com\"]", "[]")),
        ("no member", owner("[{ issuer = \"ci\", subject = \"ada\" }]", "[]")),
        ("control character", owner("t@example.com", "t\\u0007")),
        ("unknown successor", owner("contacts", "successor = \"other\"\ncontacts")),
        ("own successor", owner("contacts", "successor = \"team\"\ncontacts")),
        ("bad time", owner("contacts", "verified_at = \"yesterday\"\ncontacts")),
        ("time without offset", owner("contacts", "verified_at = 2026-01-01T00:00:00\ncontacts")),
        ("owner twice", with("owners.toml", &small()["owners.toml"].repeat(2))),
        ("unknown class", with("environments.toml", "[[environment]]\nname = \"p\"\nclass = \"prod\"\n")),
        (
            "environment twice",
            with("environments.toml", &"[[environment]]\nname = \"p\"\nclass = \"preview\"\n".repeat(2))
        ),
    ]));
}

#[test]
fn what_a_role_gets_wrong_is_named_with_its_line() {
    let path = "roles/app/deploy.toml";
    let role = |from: &str, to: &str| changed(path, from, to);
    let more = |text: &str| role("backend", &format!("{text}\nbackend"));
    let nested = format!("x = {}{}", "[".repeat(200), "]".repeat(200));
    insta::assert_snapshot!(refusals(&[
        ("malformed", role("owner = ", "owner ")),
        ("unknown key", more("tttl = 1")),
        ("unknown table", role("[jwt]", "[ftp]")),
        ("key twice", more("owner = \"team\"")),
        ("missing owner", role("owner = \"team\"\n", "")),
        ("dangling owner", role("\"team\"", "\"taem\"")),
        ("dangling backend", role("\"tokens\"", "\"token\"")),
        ("dangling environment", more("environment = \"production\"")),
        ("bad name of an owner", role("\"team\"", "\"the team\"")),
        ("blank description", role("\"Deploys the app\"", "\" \"")),
        ("no ttl", role("ttl = { default = \"10m\", max = \"1h\" }\n", "")),
        ("half a ttl", role(", max = \"1h\"", "")),
        ("ttl of a day and more", role("\"1h\"", "\"25h\"")),
        ("default above max", role("\"10m\"", "\"2h\"")),
        ("default of nothing", role("\"10m\"", "0")),
        ("fraction", role("\"10m\"", "1.5")),
        ("purpose from nowhere", more("purpose = { required = false }")),
        ("purpose required and given", more("purpose = { required = true, default = \"nightly build of app\" }")),
        ("default that says nothing", more("purpose = { default = \"test\" }")),
        (
            "default against the pattern",
            more("purpose = { default = \"nightly build\", pattern = \"release [0-9]+\" }")
        ),
        ("bad pattern", more("purpose = { pattern = \"(\" }")),
        ("monstrous pattern", more("purpose = { pattern = \"(a{1000}){1000}\" }")),
        ("review never", more("review_every = 0")),
        ("no grants at all", more("max_live = 0")),
        ("continuous below default", more("max_continuous = \"1m\"")),
        ("floor above the backend's class", more("revocation_floor = \"hard\"")),
        ("unknown state", more("state = \"on\"")),
        ("table of another kind", role("[jwt]", "[x509]\ndns_names = [\"a.example\"]\n[jwt]")),
        ("infinite parameter", role("audience", "factor = inf\naudience")),
        ("nesting bomb", more(&nested)),
        ("built-in namespace", with("roles/hallpass/operator.toml", &small()[path])),
        ("deep in the built-in namespace", with("roles/hallpass/app/deploy.toml", &small()[path])),
        ("bad path", {
            let mut files = small();
            files.insert("roles/App/Deploy.toml".to_owned(), String::new());
            files
        }),
        ("not a role", with("roles/app/deploy.tmol", "")),
    ]));
}

#[test]
fn names_in_policies_must_be_those_of_the_bundle() {
    let policy = |from: &str, to: &str| changed("policies/app.cedar", from, to);
    insta::assert_snapshot!(refusals(&[
        ("dangling role", policy("app/deploy", "app/depoly")),
        ("dangling issuer", policy("Issuer::\"ci\"", "Issuer::\"cii\"")),
        ("no @id", policy("@id(\"app\")\n", "")),
        ("folder of policies", with("policies/more/b.cedar", "")),
        ("not a policy", with("policies/b.ceder", "")),
        ("not a section", with("role.toml", "")),
        ("not a test", with("tests/more/b.toml", "")),
    ]));
}

#[test]
fn a_bundle_whose_tests_fail_is_refused() {
    let test = |identity: &str, request: &str, rest: &str| {
        let text = format!(
            "[[test]]\nname = \"t\"\n{rest}\nidentity = {{ issuer = \"ci\", subject = \"s\"{identity} }}\nrequest = {{ {request} }}\n"
        );
        with("tests/app.toml", &text)
    };
    let mint = "role = \"app/deploy\"";
    assert!(Bundle::from_files(test("", mint, "expect = \"allow\"\ndetermining = [\"app\"]")).is_ok());
    insta::assert_snapshot!(refusals(&[
        ("denied", test("", "role = \"app/deploy\", action = \"renew\"", "expect = \"allow\"")),
        ("allowed", test("", mint, "expect = \"deny\"")),
        ("by another", test("", mint, "expect = \"allow\"\ndetermining = [\"other\"]")),
        ("without the bound", test("", mint, "expect = \"allow\"\nmax_ttl = \"5m\"")),
        (
            "outside the schema",
            test("", "role = \"app/deploy\", action = \"mint\", on = \"grant\"", "expect = \"deny\"")
        ),
        ("unknown expectation", test("", mint, "expect = \"maybe\"")),
        ("unknown key", test("", mint, "expect = \"allow\"\nexpects = 1")),
        ("unknown provenance", test(", provenance = { sha = \"1\" }", mint, "expect = \"allow\"")),
        ("unknown role", test("", "role = \"app/depoly\"", "expect = \"deny\"")),
        ("no role", test("", "purpose = \"x\"", "expect = \"deny\"")),
        ("unknown owner", test("", "action = \"read\", on = \"owner\", owner = \"x\"", "expect = \"deny\"")),
        ("unknown issuer", {
            let mut files = test("", mint, "expect = \"allow\"");
            let text = files["tests/app.toml"].replace("\"ci\"", "\"cii\"");
            files.insert("tests/app.toml".to_owned(), text);
            files
        }),
    ]));
}

#[test]
fn a_role_of_production_needs_a_test_that_allows_and_one_that_refuses() {
    let role = |state: &str| {
        let mut files =
            changed("roles/app/deploy.toml", "backend", &format!("environment = \"p\"\nstate = \"{state}\"\nbackend"));
        files.insert(
            "environments.toml".to_owned(),
            "[[environment]]\nname = \"p\"\nclass = \"production\"\n".to_owned(),
        );
        files
    };
    let test = |subject: &str, expect: &str| {
        format!(
            "[[test]]\nname = \"{expect}\"\nexpect = \"{expect}\"\nidentity = {{ issuer = \"{subject}\", subject = \"s\" }}\nrequest = {{ role = \"app/deploy\" }}\n"
        )
    };
    let other =
        "[[issuer]]\nname = \"other\"\nkind = \"oidc\"\nurl = \"https://other.example\"\naudiences = [\"hallpass\"]\n";
    let tested = |tests: &[String]| {
        let mut files = role("active");
        files.get_mut("issuers.toml").unwrap().push_str(other);
        files.insert("tests/app.toml".to_owned(), tests.concat());
        files
    };
    let (allows, refuses) = (test("ci", "allow"), test("other", "deny"));
    assert!(Bundle::from_files(tested(&[allows.clone(), refuses.clone()])).is_ok());
    assert!(Bundle::from_files(role("retired")).is_ok(), "nobody mints a retired role");
    insta::assert_snapshot!(refusals(&[
        ("neither", role("active")),
        ("only one that allows", tested(&[allows])),
        ("only one that refuses", tested(&[refuses])),
    ]));
}

#[test]
fn a_role_whose_owner_left_loads_so_that_its_grants_can_end_and_is_a_finding_of_check() {
    let folder = tempfile::tempdir().unwrap();
    let files = changed("owners.toml", "contacts", "active = false\ncontacts");
    write(folder.path(), &files);
    let bundle = Bundle::load(folder.path()).unwrap();
    assert_eq!(bundle.warnings.len(), 1);
    let report = check(None, folder.path());
    assert!(!report.is_clean());
    let text = report.to_string().replace(folder.path().to_str().unwrap(), "BUNDLE");
    insta::assert_snapshot!(text);
}

#[test]
fn a_check_names_the_line_of_what_serve_would_not_fetch() {
    let line = "url = \"https://ci.example\"";
    let report = |with: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut files = small();
        let issuers = files.get_mut("issuers.toml").unwrap();
        assert!(issuers.contains(line), "{issuers}");
        *issuers = issuers.replace(line, with);
        write(folder.path(), &files);
        check(None, folder.path()).to_string().replace(folder.path().to_str().unwrap(), "BUNDLE")
    };
    assert_eq!(report(line), "");
    assert_eq!(report("url = \"http://127.0.0.1:9/\"\ndangerous_allow_http = true"), "");
    let said = report("url = \"http://127.0.0.1:9/\"");
    assert!(said.starts_with("BUNDLE/issuers.toml:4: url: \"http://127.0.0.1:9/\""), "{said}");
    assert!(said.contains("dangerous_allow_http = true"), "{said}");
    let said = report(&format!("{line}\njwks_uri = \"http://localhost:9/jwks\""));
    assert!(said.starts_with("BUNDLE/issuers.toml:5: jwks_uri: "), "{said}");
    let said = report(&format!("{line}\njwks_origins = [\"http://localhost:9\"]"));
    assert!(said.starts_with("BUNDLE/issuers.toml:5: jwks_origins: "), "{said}");
}

#[test]
fn a_folder_that_is_not_there_is_named_once() {
    let said = check(None, Path::new("nope")).to_string();
    assert!(said.starts_with("nope: "), "{said}");
}

#[test]
fn a_backends_complaint_stands_at_the_parameter() {
    let bundle = Bundle::from_files(small()).unwrap();
    let role = "app/deploy".parse().unwrap();
    let place = |key| bundle.parameter_finding(&role, key, "x").to_string();
    assert_eq!(place("audience"), "roles/app/deploy.toml:6: jwt.audience: x");
    assert_eq!(place("missing"), "roles/app/deploy.toml:5: jwt.missing: x");
}

fn write(folder: &Path, files: &Files) {
    for (path, text) in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn refused_folder(spoil: impl FnOnce(&Path)) -> String {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("bundle");
    write(&folder, &small());
    spoil(&folder);
    let findings = Bundle::load(&folder).map(|_| ()).unwrap_err();
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").replace(folder.to_str().unwrap(), "BUNDLE")
}

#[test]
fn a_bundle_cannot_lead_elsewhere_or_flood() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.toml");
    fs::write(&secret, "password = 1").unwrap();
    let cases = [
        ("link to a file outside", refused_folder(|folder| symlink(&secret, folder.join("roles/x.toml")).unwrap())),
        ("link to a folder outside", refused_folder(|folder| symlink(outside.path(), folder.join("roles/x")).unwrap())),
        ("dangling link", refused_folder(|folder| symlink("nowhere", folder.join("policies/x.cedar")).unwrap())),
        ("link in circles", refused_folder(|folder| symlink("..", folder.join("roles/x")).unwrap())),
        (
            "large file",
            refused_folder(|folder| {
                fs::write(folder.join("policies/x.cedar"), "x".repeat(files::MAX_FILE_BYTES + 1)).unwrap();
            }),
        ),
        (
            "large bundle",
            refused_folder(|folder| {
                for n in 0..=files::MAX_BUNDLE_BYTES / files::MAX_FILE_BYTES {
                    fs::write(folder.join(format!("policies/x{n:02}.cedar")), " ".repeat(files::MAX_FILE_BYTES))
                        .unwrap();
                }
            }),
        ),
        ("not text", refused_folder(|folder| fs::write(folder.join("roles/x.toml"), [b'a', 0xff]).unwrap())),
        ("misspelt folder", refused_folder(|folder| fs::create_dir(folder.join("policy")).unwrap())),
        ("misspelt file", refused_folder(|folder| fs::write(folder.join("owner.toml"), "").unwrap())),
        ("misspelt ending", refused_folder(|folder| fs::write(folder.join("policies/x.cedar.bak"), "").unwrap())),
        ("nothing there", Bundle::load(tempfile::tempdir().unwrap().path()).unwrap_err()[0].reason.clone()),
        ("no folder", Bundle::load(Path::new("/nowhere/at/all")).unwrap_err()[0].to_string()),
    ];
    insta::assert_snapshot!(cases.map(|(name, text)| format!("{name}\n  {}", text.replace('\n', "\n  "))).join("\n"));
}

#[test]
fn too_many_files_are_refused_before_they_are_all_read() {
    let text = refused_folder(|folder| {
        for n in 0..=files::MAX_FILES {
            fs::write(folder.join(format!("tests/{n}.toml")).as_path(), "")
                .or_else(|_| {
                    fs::create_dir_all(folder.join("tests"))?;
                    fs::write(folder.join(format!("tests/{n}.toml")), "")
                })
                .unwrap();
        }
    });
    assert!(text.contains("one file too many"), "{text}");
}

#[test]
fn links_inside_the_bundle_and_files_that_are_none_of_it_are_fine() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("bundle");
    // As Kubernetes mounts a configuration map.
    write(&folder.join("..2026"), &small());
    symlink("..2026", folder.join("..data")).unwrap();
    for name in ["issuers.toml", "backends.toml", "owners.toml", "roles", "policies"] {
        symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }
    fs::write(folder.join("README.md"), "").unwrap();
    fs::write(folder.join("CODEOWNERS"), "").unwrap();
    assert_eq!(Bundle::load(&folder).unwrap().revision, Bundle::from_files(small()).unwrap().revision);
}

#[test]
fn decisions_of_a_loaded_bundle_name_its_revision() {
    let bundle = Bundle::from_files(sample()).unwrap();
    assert_eq!(bundle.policy.revision(), &bundle.revision);
    let verdict = bundle.policy.decide(&bundle.tests[0].query).unwrap();
    assert_eq!(verdict.determining, [PolicyId::new("payments-deploy-from-main").unwrap()]);
}

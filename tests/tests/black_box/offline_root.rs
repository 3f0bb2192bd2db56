//! The authority's keys under a root that the broker never sees: asked for, certified elsewhere, taken in, in turn and at
//! once in an emergency.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hallpass_tests::config::CERTIFICATE_ROLE;
use hallpass_tests::{component, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::House;
use crate::rotation::{keys, refused, run, told};

const DEADLINE: Duration = Duration::from_secs(20);

/// A root on another machine, which is openssl in a folder: `root.pem` and `root.key`.
struct OfflineRoot {
    openssl: PathBuf,
    folder: PathBuf,
}

impl OfflineRoot {
    fn new(house: &House) -> Option<Self> {
        let root = Self { openssl: component::openssl()?, folder: house.broker.folder().to_owned() };
        root.make("root");
        Some(root)
    }

    fn make(&self, name: &str) {
        self.must(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 365 -subj /O=Acme/CN=Acme-{name} \
             -addext basicConstraints=critical,CA:TRUE,pathlen:1 -addext keyUsage=critical,keyCertSign,cRLSign \
             -keyout {name}.key -out {name}.pem"
        ));
    }

    fn try_to(&self, arguments: &str) -> (bool, String) {
        let mut command = Command::new(&self.openssl);
        let output = command.current_dir(&self.folder).args(arguments.split_whitespace()).output().expect("it starts");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    #[track_caller]
    fn must(&self, arguments: &str) -> String {
        let (good, said) = self.try_to(arguments);
        assert!(good, "openssl {arguments}: {said}");
        said
    }

    /// The certificate of a request, for so many days.
    fn sign(&self, request: &str, days: u32) -> String {
        self.sign_by("root", request, &format!("-copy_extensions copyall -days {days}"))
    }

    fn sign_by(&self, root: &str, request: &str, how: &str) -> String {
        self.write("asked.csr", request);
        self.must("req -in asked.csr -verify -noout");
        // Verifiers that are strict want to be told which key signed (RFC 5280 §4.2.1.1).
        self.write("signed.cnf", "authorityKeyIdentifier=keyid\n");
        self.must(&format!(
            "x509 -req -in asked.csr -CA {root}.pem -CAkey {root}.key -extfile signed.cnf {how} -out signed.pem"
        ));
        self.read("signed.pem")
    }

    fn pem(&self) -> String {
        self.read("root.pem")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).expect("it is there")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).expect("it is written");
    }

    /// Whether openssl, which trusts the root and nothing else, takes the certificate in `{name}.pem`.
    fn stands_for(&self, name: &str) -> bool {
        self.try_to(&format!("verify -x509_strict -CAfile root.pem -untrusted {name}.pem {name}.pem")).0
    }
}

/// What is to be signed: a new key's, or that of the key that is named.
fn request(house: &House, arguments: &[&str]) -> (String, String) {
    let output = run(house, &[&["csr", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |member: &str| answer[member].as_str().expect("text").to_owned();
    (text("key_id"), text("request"))
}

/// Has certificates taken in.
fn certify(house: &House, certificates: &str, arguments: &[&str]) -> Value {
    let file = house.broker.folder().join("certified.pem");
    std::fs::write(&file, certificates).expect("it is written");
    let file = file.display().to_string();
    keys(house, &[&["certify", "--file", &file], arguments].concat()).remove(0)
}

#[track_caller]
fn refused_certificates(house: &House, certificates: &str) -> String {
    let file = house.broker.folder().join("refused.pem");
    std::fs::write(&file, certificates).expect("it is written");
    refused(house, &["certify", "--file", &file.display().to_string(), "--activate-after", "0s"])
}

fn phase(house: &House, key: &str) -> String {
    let listed = keys(house, &["list"]);
    let key = listed.iter().find(|one| one["key_id"] == key).expect("it is listed");
    key["phase"].as_str().expect("a phase").to_owned()
}

/// Asks for a certificate, and keeps it as `{name}.pem`. Gives the grant.
async fn certificate(house: &House, name: &str) -> String {
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let answer = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
    answer.assert_status(201);
    let credential = &answer.body["credential"];
    let chain = credential["certificate_chain"].as_str().expect("PEM");
    std::fs::write(house.broker.folder().join(format!("{name}.pem")), chain).expect("it is written");
    let bundle = credential["trust_bundle"].as_str().expect("PEM");
    std::fs::write(house.broker.folder().join(format!("{name}.bundle")), bundle).expect("it is written");
    answer.grant_id().to_owned()
}

async fn list_of(house: &House, key: &str) -> u16 {
    house.broker.call("GET", &format!("/pki/crl/{key}.der"), None, None).await.status
}

/// A grant as its holder reads it, by a fresh proof.
async fn state(house: &House, grant: &str) -> String {
    let answer = house.broker.call("GET", &format!("/v1/grants/{grant}"), Some(&house.proof()), None).await;
    answer.assert_status(200);
    answer.body["state"].as_str().expect("a state").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_authority_are_certified_by_an_offline_root_and_take_over_from_each_other() {
    let mut house = House::open().await;
    let Some(root) = OfflineRoot::new(&house) else { return };
    let own = keys(&house, &["list"]).into_iter().find(|key| key["purpose"] == "ca").expect("an authority");
    certificate(&house, "own").await;
    assert!(!root.stands_for("own"), "the control: it is its own root yet");

    // Asked for: nothing changes for anybody, and asked again it is the same key.
    let (first, csr) = request(&house, &[]);
    assert_eq!(request(&house, &[]).0, first);
    assert_eq!((phase(&house, &first).as_str(), told(&house, "key.request")), ("requested", 1));
    let printed = run(&house, &["csr"]);
    assert!(printed.stdout.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----\n"));
    let text = {
        root.write("asked.csr", &csr);
        root.must("req -in asked.csr -verify -noout -text")
    };
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");
    let authority = house.broker.call("GET", "/pki/ca.pem", None, None).await.text;
    assert_eq!(authority.matches("BEGIN CERTIFICATE").count(), 1, "nobody stands for the new key yet");
    assert_eq!(list_of(&house, &first).await, 404);
    house.broker.stop().await;
    house.broker.restart().await;
    assert_eq!(request(&house, &[]).0, first, "it is kept");

    // What the root did not certify is refused, and says why.
    let signed = root.sign(&csr, 30);
    let chain = format!("{signed}{}", root.pem());
    root.make("namesake");
    let of_other = root.sign_by("namesake", &csr, "-copy_extensions copyall -days 30");
    let leaf = root.sign_by("root", &csr, "-days 30");
    let over = root.sign_by("root", &csr, "-copy_extensions copyall -days -1");
    root.must(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout x.key -out x.csr \
               -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign",
    );
    let foreign = root.sign(&root.read("x.csr"), 30);
    let with_root = |own: &str| format!("{own}{}", root.pem());
    for (bad, says) in [
        (with_root(&foreign), "is of no key of the authority"),
        (signed.clone(), "is not signed by the one after it"),
        (with_root(&of_other), "is not signed by the one after it"),
        (format!("{}{signed}", root.pem()), "is of no key of the authority"),
        (with_root(&leaf), "is not an authority's"),
        (with_root(&over), "valid from"),
        ("nothing".to_owned(), "1 to 5 certificates"),
        (chain.repeat(60), "longer than a list of certificates"),
    ] {
        let said = refused_certificates(&house, &bad);
        assert!(said.contains(says), "{says}: {said}");
    }
    let (own_key, of_own) = request(&house, &["--key-id", own["key_id"].as_str().expect("a key id")]);
    assert_eq!(own["key_id"], json!(own_key), "a key that is there can be asked for");
    assert_ne!(of_own, csr);
    let itself = house.broker.call("GET", "/pki/ca.pem", None, None).await.text;
    let said = refused_certificates(&house, &itself);
    assert!(said.contains("has certified itself"), "{said}");
    assert_eq!((phase(&house, &first).as_str(), told(&house, "key.certify")), ("requested", 0));

    // Taken in, it signs, and who trusts the root and nothing else accepts that. What signed before is trusted meanwhile.
    let taken = certify(&house, &chain, &["--activate-after", "0s"]);
    assert_eq!((taken["key_id"].as_str(), taken["phase"].as_str()), (Some(first.as_str()), Some("active")));
    let by_first = certificate(&house, "first").await;
    assert!(root.stands_for("first") && !root.stands_for("own"));
    assert!(root.try_to("verify -CAfile first.bundle own.pem").0, "the bundle has both roots");
    assert_eq!(told(&house, "key.certify"), 1);

    // From then on no key of the authority signs by its own word.
    let said = refused(&house, &["rotate", "--purpose", "ca"]);
    assert!(said.contains("`keys csr`") && said.contains("`keys certify`"), "{said}");

    // The next in turn, announced: with the broker stopped, as with it running.
    house.broker.stop().await;
    let (second, csr) = request(&house, &[]);
    assert_ne!(second, first);
    let said = refused(&house, &["rotate", "--purpose", "ca"]);
    assert!(said.contains("`keys certify`"), "{said}");
    let taken = certify(&house, &with_root(&root.sign(&csr, 30)), &["--activate-after", "3s"]);
    assert_eq!(taken["phase"], "announced");
    house.broker.restart().await;
    eventually("the second key signs", DEADLINE, async || (phase(&house, &second) == "active").then_some(())).await;
    certificate(&house, "second").await;
    assert!(root.stands_for("first") && root.stands_for("second"));
    assert_eq!((list_of(&house, &first).await, list_of(&house, &second).await), (200, 200));
    let bundle = root.read("second.bundle");
    assert_eq!(
        bundle.matches("BEGIN CERTIFICATE").count(),
        2,
        "the offline root once, and the authority's own: {bundle}"
    );

    // A new certificate of the key that signs.
    let (again, csr) = request(&house, &["--key-id", &second]);
    assert_eq!(again, second);
    let renewed = with_root(&root.sign(&csr, 60));
    let said = refused_certificates(&house, &renewed);
    assert!(said.contains("leave --activate-after away"), "{said}");
    assert_eq!(certify(&house, &renewed, &[])["phase"], "active");
    certificate(&house, "renewed").await;
    let chain = root.read("renewed.pem");
    assert!(root.stands_for("renewed"));
    let lines =
        |text: &str| text.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect::<Vec<_>>();
    let (given, kept) = (lines(&renewed).concat(), lines(&chain).concat());
    assert!(given.contains(&kept[kept.len() - 40..]), "the chain has the new certificate");

    // Distrusted with another at hand, that one serves; what the distrusted one signed is ending, and has no list.
    let (third, csr) = request(&house, &[]);
    certify(&house, &with_root(&root.sign(&csr, 30)), &[]);
    assert_eq!(phase(&house, &third), "announced");
    let by_second = certificate(&house, "doomed").await;
    assert_eq!(
        (state(&house, &by_second).await.as_str(), state(&house, &by_first).await.as_str()),
        ("active", "active")
    );
    keys(&house, &["distrust", &second, "--reason", "its backup was stolen"]);
    eventually("what it certified is ending", DEADLINE, async || {
        (state(&house, &by_second).await == "revoking").then_some(())
    })
    .await;
    assert_eq!(state(&house, &by_first).await, "active", "the control: another key's");
    assert_eq!((list_of(&house, &second).await, list_of(&house, &first).await), (404, 200));
    certificate(&house, "third").await;
    assert!(root.stands_for("third"));
    house.broker.stop().await;
    house.broker.restart().await;
    certificate(&house, "third").await;
    assert!(root.stands_for("third"));

    // With none at hand nothing is certified, least of all by a key that nobody stands for, until the root has spoken.
    keys(&house, &["distrust", &third, "--reason", "the same backup"]);
    for _ in 0..2 {
        let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
        let answer = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        let ready = house.broker.operations("/readyz").await.text;
        assert!(ready.contains("keys csr"), "{ready}");
        house.credential().await;
        house.broker.stop().await;
        house.broker.restart().await;
    }
    let (_, csr) = request(&house, &[]);
    certify(&house, &with_root(&root.sign(&csr, 30)), &["--activate-after", "0s"]);
    certificate(&house, "fourth").await;
    assert!(root.stands_for("fourth"));
    let bundle = house.broker.call("GET", "/pki/ca.pem", None, None).await.text;
    root.write("all.pem", &bundle);
    assert!(!root.try_to("verify -CAfile all.pem -untrusted doomed.pem -partial_chain third.pem").0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distrusted_key_whose_certificate_is_in_a_file_certifies_nothing_and_the_next_serves_after_a_start() {
    let mut house = House::open().await;
    let Some(root) = OfflineRoot::new(&house) else { return };
    let own = keys(&house, &["list"]).into_iter().find(|key| key["purpose"] == "ca").expect("an authority");
    let own = own["key_id"].as_str().expect("a key id").to_owned();
    let (_, csr) = request(&house, &["--key-id", &own]);
    root.write("bundle/ca.pem", &format!("{}{}", root.sign(&csr, 30), root.pem()));
    let file = house.broker.in_bundle("backends.toml");
    let backends = std::fs::read_to_string(&file).expect("the backends");
    let with_file = backends.replace("kind = \"x509\"", "kind = \"x509\"\nca_certificate_file = \"ca.pem\"");
    assert_ne!(backends, with_file);
    std::fs::write(&file, with_file).expect("it is written");
    house.broker.signal(Signal::HUP);
    eventually("the root stands for the authority", DEADLINE, async || {
        certificate(&house, "signed").await;
        root.stands_for("signed").then_some(())
    })
    .await;
    let grant = certificate(&house, "doomed").await;
    assert_eq!((state(&house, &grant).await.as_str(), list_of(&house, &own).await), ("active", 200));

    keys(&house, &["distrust", &own, "--reason", "its backup was stolen"]);
    eventually("what it certified is ending", DEADLINE, async || {
        (state(&house, &grant).await == "revoking").then_some(())
    })
    .await;
    for _ in 0..2 {
        let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
        let answer = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(list_of(&house, &own).await, 404);
        let authority = house.broker.call("GET", "/pki/ca.pem", None, None).await.text;
        assert!(!authority.contains("BEGIN CERTIFICATE"), "{authority}");
        house.credential().await;
        house.broker.stop().await;
        house.broker.restart().await;
    }

    // The next: taken in, beside the file that has the old one's.
    let (_, csr) = request(&house, &[]);
    certify(&house, &format!("{}{}", root.sign(&csr, 30), root.pem()), &["--activate-after", "0s"]);
    for _ in 0..2 {
        certificate(&house, "next").await;
        assert!(root.stands_for("next"));
        house.broker.stop().await;
        house.broker.restart().await;
    }
}

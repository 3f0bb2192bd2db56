use std::fmt::Write as _;

use hallpass_core::time::Ttl;

use super::*;

const SMALL: &str = "[server]\nlisten = \"127.0.0.1:8700\"\nops_listen = \"127.0.0.1:8701\"\n\
    public_url = \"http://127.0.0.1:8700\"\n[bundle]\npath = \"bundle\"\n[store]\npath = \"/var/lib/hallpass.db\"\n\
    [keys]\nkey_encryption_key_file = \"key\"\n";

fn parse(text: &str) -> Result<ServerConfig, Vec<Finding>> {
    ServerConfig::parse(Path::new("/etc/hallpass/hallpass.toml"), text)
}

#[test]
fn a_small_file_is_enough_and_its_paths_start_at_its_folder() {
    let config = parse(SMALL).unwrap();
    assert_eq!(config.bundle, BundleSource::Files { path: "/etc/hallpass/bundle".into() });
    assert_eq!(config.store.path, Path::new("/var/lib/hallpass.db"));
    assert_eq!(config.keys.active, KeySource::File("/etc/hallpass/key".into()));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.limits.body_bytes, 64 * 1024);
    assert_eq!(config.server.drain_timeout, Ttl::from_secs(20));
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
}

#[test]
fn other_machines_are_served_over_tls_or_by_a_dangerous_word() {
    let open = SMALL.replace("listen = \"127.0.0.1:8700\"", "listen = \"0.0.0.0:8700\"");
    assert!(parse(&open).is_err());
    let tls = open.replace("[bundle]", "[server.tls]\ncertificate_file = \"c\"\nprivate_key_file = \"k\"\n[bundle]");
    let tls = parse(&tls).unwrap().server.tls.unwrap();
    assert_eq!(tls.own, files("/etc/hallpass/c", "/etc/hallpass/k"));
    assert!(!tls.client_certificates);
    let agent = "[server.tls]\nworkload_api = \"unix:///run/agent.sock\"\nclient_certificates = true\n[bundle]";
    let agent = parse(&open.replace("[bundle]", agent)).unwrap().server.tls.unwrap();
    assert_eq!(agent.own, OwnCertificate::WorkloadApi("/run/agent.sock".into()));
    assert!(agent.client_certificates);
    for wrong in [
        "workload_api = \"tcp://127.0.0.1:1\"",
        "workload_api = \"unix:agent.sock\"",
        "certificate_file = \"c\"",
        "certificate_file = \"c\"\nprivate_key_file = \"k\"\nworkload_api = \"unix:///run/agent.sock\"",
        "client_certificates = true",
    ] {
        assert!(parse(&open.replace("[bundle]", &format!("[server.tls]\n{wrong}\n[bundle]"))).is_err(), "{wrong}");
    }
    assert!(parse(&open.replace("[bundle]", "dangerous_plain_http = true\n[bundle]")).is_ok());
}

#[test]
fn the_sample_loads_and_so_does_every_setting_that_it_only_shows() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sample/hallpass.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    ServerConfig::parse(&file, &text).unwrap();
    let shown = |line: &str| {
        let setting = line.strip_prefix("# ")?;
        let name = setting.split_once(" = ").map_or(setting, |(name, _)| name);
        let is_setting = setting.starts_with('[') || !name.contains(' ') && setting.contains(" = ");
        is_setting.then(|| setting.to_owned())
    };
    let all: Vec<_> = text.lines().map(|line| shown(line).unwrap_or_else(|| line.to_owned())).collect();
    assert!(all.iter().filter(|line| !text.contains(&format!("\n{line}\n"))).count() > 3, "nothing was shown");
    ServerConfig::parse(&file, &all.join("\n")).unwrap();
}

#[test]
fn nothing_is_limited_by_rate_or_number_unless_it_is_written() {
    let limits = parse(SMALL).unwrap().limits;
    assert_eq!((limits.rates, limits.max_live_grants_per_owner), Default::default());
    assert_eq!(limits.max_derived_per_actor, 64, "a quarter of what can be derived from one grant");
    let written = "[limits]\nmax_live_grants_per_owner = 500\nmax_derived_per_actor = 8\nrate = { per_source = \"300/1m\", per_owner = \"5/1s\" }\n";
    let limits = parse(&format!("{SMALL}{written}")).unwrap().limits;
    let rate = |count, secs| Some(hallpass_core::rate::Rate::new(count, Ttl::from_secs(secs)).unwrap());
    assert_eq!(
        (limits.rates.per_source, limits.rates.per_issuer, limits.rates.per_owner),
        (rate(300, 60), None, rate(5, 1))
    );
    assert_eq!((limits.max_live_grants_per_owner, limits.max_derived_per_actor), (Some(500), 8));
}

#[test]
fn one_source_has_half_of_the_places_unless_it_is_written_or_there_are_few() {
    let share = |written: &str| {
        let limits = parse(&format!("{SMALL}[limits]\n{written}\n")).unwrap().limits;
        (limits.concurrency_per_source, limits.control_concurrency(), limits.control_concurrency_per_source())
    };
    assert_eq!(share(""), (512, 128, 64));
    assert_eq!(share("concurrency = 2"), (2, 8, 8));
    assert_eq!(share("concurrency = 800\nconcurrency_per_source = 100"), (100, 100, 12));
    assert_eq!(share("concurrency_per_source = 1"), (1, 128, 1));
}

#[test]
fn the_key_encryption_key_is_in_a_file_in_the_environment_or_in_transit() {
    const FILE: &str = "key_encryption_key_file = \"key\"";
    let env =
        parse(&SMALL.replace(FILE, "key_encryption_key_env = \"KEK\"\nretired_key_encryption_key_files = [\"key\"]"));
    let env = env.unwrap().keys;
    assert_eq!(env.active, KeySource::Env("KEK".to_owned()));
    assert_eq!(env.retired, [KeySource::File("/etc/hallpass/key".into())]);
    let transit = "retired_key_encryption_key_envs = [\"KEK\"]\n[keys.key_encryption_key_transit]\n\
        address = \"https://vault.example:8200\"\nkey = \"hallpass\"\ntoken_file = \"token\"\nnamespace = \"a/b\"\n\
        [[keys.retired_key_encryption_key_transits]]\naddress = \"http://10.0.0.1:8200\"\nkey = \"old\"\n\
        token_file = \"/t\"\nmount = \"other\"\nca_file = \"ca.pem\"\ndangerous_allow_http = true";
    let keys = parse(&SMALL.replace(FILE, transit)).unwrap().keys;
    let KeySource::Transit(active) = &keys.active else { panic!("{keys:?}") };
    assert_eq!((active.mount.as_str(), active.key.as_str()), ("transit", "hallpass"));
    assert_eq!((active.token_file.as_path(), active.plain_http), (Path::new("/etc/hallpass/token"), false));
    assert_eq!(active.namespace.as_deref(), Some("a/b"));
    let [KeySource::Env(_), KeySource::Transit(retired)] = &keys.retired[..] else { panic!("{keys:?}") };
    assert_eq!((retired.mount.as_str(), retired.plain_http), ("other", true));
    assert_eq!(retired.ca_file.as_deref(), Some(Path::new("/etc/hallpass/ca.pem")));
}

#[test]
fn operators_have_a_listener_of_their_own_where_it_is_written() {
    assert_eq!(parse(SMALL).unwrap().server.admin, None);
    let more = "[server.admin]\nlisten = \"10.0.0.1:8702\"\npublic_url = \"https://ops.example\"\n[server.admin.tls]\ncertificate_file = \"c\"\n\
                private_key_file = \"/k\"\n[server.ops_tls]\ncertificate_file = \"o\"\nprivate_key_file = \"p\"\n";
    let server = parse(&format!("{SMALL}{more}")).unwrap().server;
    let admin = server.admin.unwrap();
    assert_eq!(admin.listen.to_string(), "10.0.0.1:8702");
    assert_eq!(admin.public_url.as_deref(), Some("https://ops.example"));
    let tls = admin.tls.unwrap();
    assert_eq!(tls.own, files("/etc/hallpass/c", "/k"));
    assert_eq!(server.ops_tls.unwrap().own, files("/etc/hallpass/o", "/etc/hallpass/p"));
}

fn files(certificate: &str, private_key: &str) -> OwnCertificate {
    OwnCertificate::Files { certificate_file: certificate.into(), private_key_file: private_key.into() }
}

#[test]
fn proxies_that_end_tls_are_believed_by_a_certificate_of_their_own() {
    let tls = "[server.tls]\ncertificate_file = \"c\"\nprivate_key_file = \"k\"\n";
    let asks = format!("{tls}client_certificates = true\n");
    let proxies =
        "[server.certificate_proxies]\nheader = \"client-cert\"\nca_file = \"edge.pem\"\nnames = [\"edge.example\"]\n";
    let written = |tls: &str, proxies: &str| parse(&format!("{SMALL}{tls}{proxies}")).map(|config| config.server);
    let believed = written(&asks, proxies).unwrap().certificate_proxies.unwrap();
    assert_eq!(believed.ca_file, Path::new("/etc/hallpass/edge.pem"));
    assert!(written(tls, proxies).is_err(), "nobody is asked for a certificate");
    for names in ["[]", "[\"*\"]", "[\"\"]"] {
        assert!(written(&asks, &proxies.replace("[\"edge.example\"]", names)).is_err(), "{names}");
    }
    let ops = "[server.ops_tls]\ncertificate_file = \"c\"\nprivate_key_file = \"k\"\nclient_certificates = true\n";
    assert!(written(ops, "").is_err(), "nothing asks who calls there");
}

#[test]
fn proxies_are_believed_only_when_they_are_named() {
    assert!(parse(SMALL).unwrap().server.trusted_proxies.is_empty());
    let more =
        "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]\nproxy_header = \"forwarded\"\n[bundle]";
    let server = parse(&SMALL.replace("[bundle]", more)).unwrap().server;
    let networks: Vec<_> = server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]);
    assert_eq!(server.proxy_header, ProxyHeader::Forwarded);
}

#[test]
fn what_a_server_file_gets_wrong_is_named_with_its_line() {
    let change = |from: &str, to: &str| {
        assert!(SMALL.contains(from), "{from}");
        SMALL.replace(from, to)
    };
    let url = |url: &str| change("http://127.0.0.1:8700", url);
    let add = |text: &str| format!("{SMALL}{text}\n");
    let cases = [
        ("malformed", change("[store]", "[store")),
        ("unknown section", add("[serve]\nx = 1")),
        ("unknown key", change("[bundle]", "liste = 1\n[bundle]")),
        ("missing section", change("[keys]\nkey_encryption_key_file = \"key\"\n", "")),
        ("missing key", change("ops_listen = \"127.0.0.1:8701\"\n", "")),
        ("a value for a section", format!("limits = 3\n{SMALL}")),
        ("bad address", change("\"127.0.0.1:8700\"\nops", "\"localhost\"\nops")),
        ("one address for both", change("8701", "8700")),
        ("plain http for others", change("listen = \"127.0.0.1:8700\"", "listen = \"0.0.0.0:8700\"")),
        ("trailing slash", url("https://hallpass.example/")),
        ("path", url("https://hallpass.example/x")),
        ("upper case", url("https://Hallpass.example")),
        ("standard port written out", url("https://hallpass.example:443")),
        ("plain http origin", url("http://hallpass.example")),
        ("a path and the API", change("path = \"bundle\"", "source = \"api\"\npath = \"bundle\"")),
        ("a beginning and files", change("path = \"bundle\"", "path = \"bundle\"\nbootstrap = \"bundle\"")),
        ("no path", change("path = \"bundle\"", "source = \"files\"")),
        ("unknown source", change("path = \"bundle\"", "source = \"git\"\npath = \"bundle\"")),
        ("key twice", add("retired_key_encryption_key_files = [\"key\"]")),
        ("no key", change("key_encryption_key_file = \"key\"\n", "announce = \"1h\"\n")),
        ("two keys", add("key_encryption_key_env = \"KEK\"")),
        ("the key itself", change("_file = \"key\"", "_env = \"3q2+7w==\"")),
        (
            "transit over plain http, with a path",
            add("[[keys.retired_key_encryption_key_transits]]\naddress = \"http://vault.example/v1\"\nkey = \"a/b\"\n\
                 token_file = \"t\"\nmount = \"/transit/\""),
        ),
        ("tiny body", add("[limits]\nbody_bytes = 10")),
        ("no concurrency", add("[limits]\nconcurrency = 0")),
        ("more for one than there is", add("[limits]\nconcurrency = 8\nconcurrency_per_source = 9")),
        ("no time for a body", add("[limits]\nbody_timeout = \"0s\"")),
        ("no connection of anybody", add("[limits]\nconnections_per_source = 0")),
        ("no patience", add("[limits]\nrequest_timeout = 0")),
        ("negative", add("[limits]\nbody_bytes = -1")),
        ("a setting that does nothing", add("[audit]\nretention = \"1m\"")),
        ("no time between checkpoints", add("[audit]\ncheckpoint_every = \"0s\"")),
        ("an export of no kind", add("[[audit.export]]\nkind = \"pigeon\"")),
        ("an export without its path", add("[[audit.export]]\nkind = \"file\"")),
        ("an export over plain http", add("[[audit.export]]\nkind = \"https\"\nurl = \"http://collector.example/\"")),
        ("an export that may not lag", add("[[audit.export]]\nkind = \"stdout\"\nmax_lag = 0")),
        ("an export twice", add("[[audit.export]]\nkind = \"stdout\"\n[[audit.export]]\nkind = \"stdout\"")),
        ("an origin with a space", add("[audit]\norigin = \"our log\"")),
        ("no rate", add("[limits]\nrate = { per_source = \"many\", per_issuer = \"1/s\", per_owner = \"-3/1m\" }")),
        ("a rate over a day", add("[limits]\nrate = { per_source = \"100/1d\", per_owner = \"0/1m\" }")),
        ("a rate of nobody", add("[limits]\nrate = { per_role = \"100/1m\" }")),
        ("no grants at all", add("[limits]\nmax_live_grants_per_owner = 0")),
        ("no share for anybody", add("[limits]\nmax_derived_per_actor = 0")),
        ("unknown format", add("[telemetry]\nlog_format = \"xml\"")),
        ("traces to nowhere", add("[telemetry]\ntraces = { endpoint = \"collector:4318\" }")),
        (
            "traces in plain http",
            add("[telemetry.traces]\nendpoint = \"http://collector.example/v1/traces\"\nsample_percent = 101"),
        ),
        ("bad level", add("[telemetry]\nlog_level = \"hallpass=loud\"")),
        ("no network", change("[bundle]", "trusted_proxies = [\"10.0.0.0/33\", \"proxy.example\"]\n[bundle]")),
        ("everybody a proxy", change("[bundle]", "trusted_proxies = [\"0.0.0.0/0\", \"::/0\"]\n[bundle]")),
        ("bits behind the prefix", change("[bundle]", "trusted_proxies = [\"10.1.2.3/8\"]\n[bundle]")),
        ("a header of no proxy", change("[bundle]", "proxy_header = \"forwarded\"\n[bundle]")),
        ("an unknown header", change("[bundle]", "proxy_header = \"x-real-ip\"\n[bundle]")),
        ("operators in plain text", add("[server.admin]\nlisten = \"0.0.0.0:8702\"")),
        ("operators where others are", add("[server.admin]\nlisten = \"127.0.0.1:8701\"")),
        (
            "operators' origin with a path",
            add("[server.admin]\nlisten = \"127.0.0.1:8702\"\npublic_url = \"https://ops.example/x\""),
        ),
        ("half of TLS", add("[server.tls]\ncertificate_file = \"c\"")),
    ];
    let text = cases.iter().fold(String::new(), |mut text, (name, file)| {
        let findings = parse(file).unwrap_err();
        assert!(!findings.is_empty(), "{name}");
        writeln!(text, "{name}").unwrap();
        for finding in findings {
            writeln!(text, "  {finding}").unwrap();
        }
        text
    });
    insta::assert_snapshot!(text);
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    let findings = ServerConfig::load(Path::new("/nowhere/hallpass.toml")).unwrap_err();
    assert!(findings[0].to_string().starts_with("/nowhere/hallpass.toml: cannot be read"));
}

use hallpass_core::testing::sample;
use serde_json::json;

use super::*;

fn read(parameters: Value) -> Result<String, InvalidParameters> {
    let role = Role { parameters, ..sample::role("payments/prod/deploy") };
    Parameters::read(&role).map(|parameters| format!("{:?}", parameters.engine))
}

#[test]
fn each_kind_of_credential_is_taken() {
    for (parameters, engine) in [
        (json!({"policies": ["app"]}), "Token"),
        (
            json!({
                "policies": ["app", "team/app-ro"], "default_policy": true, "num_uses": 1, "token_role": "other",
                "bound_cidrs": ["10.0.0.0/8", "2001:db8::/32"], "metadata": {"team": "x"},
            }),
            "Token",
        ),
        (json!({"policies": ["db"], "path": "database/creds/app"}), "Database"),
        (
            json!({
                "policies": ["db"], "path": "db/eu/creds/app", "engine": "database", "host": "db.example", "port": 5433,
                "database": "app", "spares": 0,
            }),
            "Database",
        ),
        (json!({"policies": ["mq"], "path": "rabbitmq/creds/app"}), "RabbitMq"),
        (json!({"policies": ["p"], "path": "pki/issue/web", "data": {"common_name": "a.example"}}), "Pki"),
        (json!({"policies": ["s"], "path": "ssh/sign/deploy", "data": {"valid_principals": "x"}}), "Ssh"),
        (
            json!({"policies": ["k"], "path": "kubernetes/creds/app", "server": "https://k8s.example", "ca": "x",
                "data": {"kubernetes_namespace": "app", "audiences": ["https://app.example"]}}),
            "Kubernetes",
        ),
        (json!({"policies": ["v"], "path": "secret/data/app"}), "Kv"),
        (json!({"policies": ["v"], "path": "consul/creds/app", "engine": "other", "method": "GET"}), "Other"),
    ] {
        assert_eq!(read(parameters.clone()).as_deref(), Ok(engine), "{parameters}");
    }
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    let of_cluster =
        |audiences: Value| json!({"policies": ["k"], "path": "kubernetes/creds/app", "data": {"audiences": audiences}});
    let with = |key: &str, value: Value| {
        let mut parameters = json!({"policies": ["app"], "path": "database/creds/app"});
        parameters[key] = value;
        parameters
    };
    for (parameters, key) in [
        (json!({}), "policies"),
        (json!({"policies": []}), "policies"),
        (json!({"policies": ["root"]}), "policies"),
        (json!({"policies": ["default"]}), "policies"),
        (json!({"policies": ["App"]}), "policies"),
        (json!({"policies": ["a b"]}), "policies"),
        (json!({"policies": ["app"], "num_uses": 0}), "num_uses"),
        (json!({"policies": ["app"], "num_uses": "1"}), "num_uses"),
        (json!({"policies": ["app"], "bound_cidrs": ["10.0.0.1/33"]}), "bound_cidrs"),
        (json!({"policies": ["app"], "metadata": {"hallpass_grant": "x"}}), "metadata"),
        (json!({"policies": ["app"], "metadata": {"a b": "x"}}), "metadata"),
        (json!({"policies": ["app"], "metadata": {"a": "x\ny"}}), "metadata"),
        (json!({"policies": ["app"], "metadata": {"a": 1}}), "metadata"),
        (json!({"policies": ["app"], "token_role": "../x"}), "token_role"),
        (json!({"policies": ["app"], "spares": 1}), "spares"),
        (json!({"policies": ["app"], "engine": "database"}), "engine"),
        (of_cluster(json!("a,b")), "data.audiences"),
        (of_cluster(json!([])), "data.audiences"),
        (of_cluster(json!(["a", "b c"])), "data.audiences"),
        (of_cluster(json!(["a,b"])), "data.audiences"),
        (of_cluster(json!([1])), "data.audiences"),
        (with("path", json!("")), "engine"),
        (with("path", json!("/database/creds/app")), "engine"),
        (with("path", json!("database/creds/../../sys/seal")), "path"),
        (with("path", json!("database//app")), "path"),
        (with("path", json!("database/creds/app/")), "path"),
        (with("path", json!("database/creds/a%2fb")), "path"),
        (with("path", json!("database/creds/a?b")), "path"),
        (with("path", json!("database/creds/a\u{7}b")), "path"),
        (with("path", json!("database/static-creds/app")), "path"),
        (with("path", json!("database/creds")), "path"),
        (json!({"policies": ["a"], "path": "auth/token/create", "engine": "other"}), "path"),
        (json!({"policies": ["a"], "path": "sys/seal", "engine": "other"}), "path"),
        (json!({"policies": ["a"], "path": "pki/sign-verbatim/web"}), "path"),
        (json!({"policies": ["a"], "path": "pki/issue/web", "data": {"ttl": "1h"}}), "data"),
        (json!({"policies": ["a"], "path": "pki/sign/web", "data": {"csr": "x"}}), "data"),
        (json!({"policies": ["a"], "path": "ssh/sign/x", "data": {"public_key": "x"}}), "data"),
        (json!({"policies": ["a"], "path": "unusual/creds/app"}), "engine"),
        (with("engine", json!("oracle")), "engine"),
        (with("method", json!("DELETE")), "method"),
        (with("data", json!({"ttl": "1h"})), "data"),
        (with("spares", json!(65)), "spares"),
        (with("num_uses", json!(1)), "num_uses"),
        (with("host", json!("db.example")), "database"),
        (with("port", json!(5432)), "host"),
        (with("port", json!(70_000)), "port"),
        (with("server", json!("https://k8s.example")), "server"),
    ] {
        let refused = read(parameters.clone()).expect_err(&parameters.to_string());
        assert_eq!(refused.key, key, "{parameters}: {refused}");
    }
}

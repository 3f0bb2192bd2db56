//! A role and a backend's settings, as the tests of this folder have them.

use hallpass_core::role::Role;
use hallpass_core::testing::sample;
use hallpass_core::time::Ttl;
use serde_json::json;

use crate::config::backend::{AwsAuth, AwsBackend, AwsFence};

/// A backend that fences.
pub(super) fn settings() -> AwsBackend {
    AwsBackend {
        region: "eu-central-1".to_owned(),
        auth: AwsAuth::WebIdentity,
        audience: "sts.amazonaws.com".to_owned(),
        sts_endpoint: "https://sts.eu-central-1.amazonaws.com/".parse().unwrap(),
        iam_endpoint: "https://iam.amazonaws.com/".parse().unwrap(),
        fence: Some(AwsFence {
            role_arn: "arn:aws:iam::123456789012:role/fence".to_owned(),
            propagation: Ttl::from_secs(10),
            fences_all_older: false,
        }),
    }
}

/// A role that says no more than it must.
pub(super) fn role() -> Role {
    let mut role = sample::role("payments/prod/deploy");
    role.parameters = json!({"role_arn": "arn:aws:iam::123456789012:role/deploy"});
    role
}

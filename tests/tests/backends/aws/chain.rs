//! Sessions by the credentials that the machine has: `AssumeRole`, where ministack applies session policies.

use std::collections::HashMap;

use hallpass_broker::config::backend::AwsAuth;
use hallpass_core::port::{CredentialBackend as _, IssueError, Undone};
use hallpass_core::time::Ttl;
use hallpass_tests::ministack::ACCOUNT;
use serde_json::json;

use super::BUCKET;
use super::lab::{Lab, keys};

fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const ROOT: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];

#[tokio::test]
async fn a_session_policy_really_narrows_and_tags_are_taken() {
    let narrow = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
    ]});
    let change = |settings: &mut hallpass_broker::config::backend::AwsBackend, role: &mut serde_json::Value| {
        settings.auth = AwsAuth::AssumeRole;
        role["session_policy"] = narrow.clone();
        role["session_tags"] = json!(true);
        role["source_identity"] = json!(true);
    };
    let Some(lab) = Lab::open_with(change, &environment(&ROOT)).await else { return };
    let (session, order, handle) = lab.session(1).await;
    assert_eq!((lab.aws.read(&session, BUCKET).await, lab.aws.write(&session, BUCKET).await), (200, 403));
    let wide = hallpass_core::credential::IssueOrder {
        role: {
            let mut role = lab.role.clone();
            role.parameters.as_object_mut().unwrap().remove("session_policy");
            std::sync::Arc::new(role)
        },
        ..lab.order(2, Ttl::from_mins(20))
    };
    let (issued, _) = lab.mint(&wide).await.unwrap();
    assert_eq!(lab.aws.write(&keys(issued), BUCKET).await, 200, "it is the session policy that narrows");
    lab.ledger.end(&order, &handle);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced));
    assert_eq!(lab.aws.read(&session, BUCKET).await, 403);
}

/// Tags of the broker's own are a service to whoever reads CloudTrail; those of a role may decide what a session reaches.
#[tokio::test]
async fn a_trust_policy_without_tags_fails_no_deploy_but_where_the_role_wants_tags_of_its_own() {
    let change = |settings: &mut hallpass_broker::config::backend::AwsBackend, role: &mut serde_json::Value| {
        settings.auth = AwsAuth::AssumeRole;
        role["session_tags"] = json!(true);
    };
    let Some(lab) = Lab::open_with(change, &environment(&ROOT)).await else { return };
    let mut with_own = lab.role.clone();
    with_own.parameters["tags"] = json!({"team": "payments"});
    let with_own = |n| hallpass_core::credential::IssueOrder {
        role: std::sync::Arc::new(with_own.clone()),
        ..lab.order(n, Ttl::from_mins(20))
    };
    lab.mint(&with_own(1)).await.expect("the control: tags are permitted");
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole",
    }]});
    lab.aws.iam("UpdateAssumeRolePolicy", &[("RoleName", "deploy"), ("PolicyDocument", &trust.to_string())]).await;
    let (session, ..) = lab.session(2).await;
    assert_eq!(lab.aws.read(&session, BUCKET).await, 200, "it is made without them");
    let error = lab.mint(&with_own(3)).await.unwrap_err();
    let IssueError::Refused { detail, .. } = &error else { panic!("{error}") };
    assert!(detail.contains("sts:TagSession"), "{detail}");
}

#[tokio::test]
async fn keys_that_aws_does_not_know_mint_nothing_and_the_caller_hears_why_without_them() {
    let unknown = environment(&[("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN"), ("AWS_SECRET_ACCESS_KEY", "wrong")]);
    let change = |settings: &mut hallpass_broker::config::backend::AwsBackend, _: &mut serde_json::Value| {
        settings.auth = AwsAuth::AssumeRole;
        settings.fence = None;
    };
    let Some(lab) = Lab::open_with(change, &unknown).await else { return };
    let error = lab.mint(&lab.order(1, Ttl::from_mins(20))).await.unwrap_err();
    let (IssueError::Suspended { detail, .. } | IssueError::Refused { detail, .. }) = &error else { panic!("{error}") };
    assert!(!detail.contains("AKIAUNKNOWN") && !detail.contains("arn:"), "{detail}");
}

#[tokio::test]
async fn the_shared_file_is_read_where_the_environment_has_no_keys() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, "[other]\naws_access_key_id = x\naws_secret_access_key = y\n[default]\n# here\naws_access_key_id = test\naws_secret_access_key = test\n").unwrap();
    let named = environment(&[("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())]);
    let change = |settings: &mut hallpass_broker::config::backend::AwsBackend, _: &mut serde_json::Value| {
        settings.auth = AwsAuth::AssumeRole;
    };
    let Some(lab) = Lab::open_with(change, &named).await else { return };
    let (session, ..) = lab.session(1).await;
    assert_eq!(lab.aws.read(&session, BUCKET).await, 200);
}

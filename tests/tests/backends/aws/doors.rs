//! Other ways to what a role reaches, planted by hand.

use hallpass_core::port::{CredentialBackend as _, InventoryScope, ItemKind};
use hallpass_tests::ministack::{ACCOUNT, allow, elements};
use serde_json::json;

use super::lab::Lab;

#[tokio::test]
async fn other_doors_to_the_same_target_are_told() {
    let Some(lab) = Lab::open().await else { return };
    let names = async || -> Vec<String> {
        let items = lab.backend.inventory().await.unwrap();
        assert!(items.iter().all(|item| item.kind == ItemKind::Door && item.handle.is_none()));
        items.into_iter().map(|item| item.name).collect()
    };
    assert_eq!(lab.backend.inventory_scope(), InventoryScope::Doors);
    let root = format!("arn:aws:iam::{ACCOUNT}:role/deploy trusts arn:aws:iam::{ACCOUNT}:root");
    assert_eq!(names().await, std::slice::from_ref(&root), "the broker's own way is none");

    lab.aws.iam("CreateUser", &[("UserName", "mallory")]).await;
    let made = lab.aws.iam("CreateAccessKey", &[("UserName", "mallory")]).await;
    let key = elements(&made, "AccessKeyId").remove(0);
    let policy = allow("s3:*").to_string();
    lab.aws.iam("CreatePolicy", &[("PolicyName", "reach"), ("PolicyDocument", &policy)]).await;
    let policy = format!("arn:aws:iam::{ACCOUNT}:policy/reach");
    let other = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ]});
    lab.aws.role("elsewhere", &other).await;
    for role in ["deploy", "elsewhere"] {
        lab.aws.iam("AttachRolePolicy", &[("RoleName", role), ("PolicyArn", &policy)]).await;
    }
    lab.aws.iam("AttachUserPolicy", &[("UserName", "mallory"), ("PolicyArn", &policy)]).await;
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/mallory")}, "Action": "sts:AssumeRole"},
    ]});
    lab.aws.iam("UpdateAssumeRolePolicy", &[("RoleName", "deploy"), ("PolicyDocument", &trust.to_string())]).await;

    let found = names().await;
    for wanted in [
        format!("arn:aws:iam::{ACCOUNT}:role/deploy trusts arn:aws:iam::{ACCOUNT}:user/mallory"),
        format!("user mallory has {policy}, as arn:aws:iam::{ACCOUNT}:role/deploy has"),
        format!("role elsewhere has {policy}, as arn:aws:iam::{ACCOUNT}:role/deploy has"),
        format!("user mallory has the static key {key}"),
    ] {
        assert!(found.contains(&wanted), "{wanted}: {found:?}");
    }
    assert!(!found.contains(&root), "what is no longer there is not told");
}

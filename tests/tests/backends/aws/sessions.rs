//! A session is asked for, works, and is refused once it is fenced.

use hallpass_tests::eventually;
use hallpass_tests::ministack::{ACCOUNT, Keys, elements, trusting};
use serde_json::json;

use super::{BUCKET, Cloud, Plan, SOON};

// CASE REV-017
#[tokio::test]
async fn a_fenced_session_is_really_refused_and_its_neighbour_is_not() {
    let Some(cloud) = Cloud::open().await else { return };
    let (session, id) = cloud.session().await;
    let (neighbour, _) = cloud.session().await;
    for keys in [&session, &neighbour] {
        assert_eq!((cloud.aws.read(keys, BUCKET).await, cloud.aws.write(keys, BUCKET).await), (200, 200));
    }
    cloud.revoke(&id).await;
    let grant = cloud.fenced(&id).await;
    assert_eq!(cloud.aws.read(&session, BUCKET).await, 403, "it is said to be fenced");
    assert_eq!(cloud.aws.write(&session, BUCKET).await, 403);
    assert_eq!(cloud.aws.read(&neighbour, BUCKET).await, 200, "its neighbour is none of it");
    assert_eq!(grant["state"], "revoking", "{grant}");
    assert_eq!(grant["revocation"]["class"], "fenced", "{grant}");
}

#[tokio::test]
async fn a_session_is_named_after_its_grant_and_lives_no_longer_than_it() {
    let Some(cloud) = Cloud::open().await else { return };
    let answer = cloud.ask(json!({"ttl": "16m"})).await;
    answer.assert_status(201);
    let id = answer.body["grant"]["id"].as_str().expect("an id").to_owned();
    let keys = Keys::of(&answer.body["credential"]);
    let (status, who) = cloud.aws.sts_as(&keys, "GetCallerIdentity", &[]).await;
    assert_eq!(status, 200, "{who}");
    let arn = elements(&who, "Arn").remove(0);
    assert_eq!(arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/deploy/{id}"), "CloudTrail leads to the grant");
    let grant = cloud.grant(&id).await;
    assert_eq!(grant["expires_at"], answer.body["credential"]["expires_at"], "{grant}");
}

// CASE MNT-105
#[tokio::test]
async fn a_life_that_aws_does_not_give_is_refused_with_the_reason() {
    let Some(cloud) = Cloud::open().await else { return };
    let answer = cloud.ask(json!({"ttl": "5m"})).await;
    assert_eq!(answer.error(), "backend_min_ttl", "{}", answer.text);
    for said in ["910s", "`ttl`", "no session shorter than 900s"] {
        assert!(answer.text.contains(said), "{said}: {}", answer.text);
    }
    assert_eq!(cloud.broker.store().grant_count(), 0);
    cloud.ask(json!({"ttl": "911s"})).await.assert_status(201);
}

#[tokio::test]
async fn no_session_is_made_that_its_fence_could_not_hold_and_expiry_alone_makes_room() {
    let Some(cloud) = Cloud::open().await else { return };
    // What somebody else wrote into the role leaves room for a few.
    let long: Vec<String> = (0..100).map(|n| format!("arn:aws:s3:::bucket-{n:0>70}")).collect();
    let theirs =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:Get*", "Resource": long}]});
    cloud.aws.put_inline("deploy", "theirs", &theirs.to_string()).await;
    let (_, first) = cloud.session().await;
    cloud.revoke(&first).await;
    cloud.fenced(&first).await;
    let mut made = vec![first.clone()];
    let refused = loop {
        let answer = cloud.ask(json!({})).await;
        if answer.status != 201 {
            break answer;
        }
        made.push(answer.body["grant"]["id"].as_str().expect("an id").to_owned());
        assert!(made.len() < 30, "it has room for no more than that");
    };
    assert_eq!((refused.status, refused.error()), (429, "quota_exceeded"), "{}", refused.text);
    assert!(refused.text.contains("fence") && made.len() > 2, "{} after {}", refused.text, made.len());
    assert_eq!(cloud.broker.store().grant_count(), made.len(), "nothing was opened, nothing asked of AWS");
    for id in made.iter().filter(|id| **id != first) {
        cloud.revoke(id).await;
    }
    for id in &made {
        cloud.fenced(id).await;
    }
    assert_eq!(cloud.ask(json!({})).await.error(), "quota_exceeded", "what is over keeps its place until it expires");
}

#[tokio::test]
async fn where_a_role_lets_all_older_ones_be_fenced_there_is_always_room() {
    let plan = |plan: &mut Plan| plan.role["overflow"] = json!("fence_all_older");
    let Some(cloud) = Cloud::open_with(plan).await else { return };
    let long: Vec<String> = (0..100).map(|n| format!("arn:aws:s3:::bucket-{n:0>70}")).collect();
    let theirs =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:Get*", "Resource": long}]});
    cloud.aws.put_inline("deploy", "theirs", &theirs.to_string()).await;
    let (_, first) = cloud.session().await;
    cloud.revoke(&first).await;
    cloud.fenced(&first).await;
    for _ in 0..20 {
        cloud.session().await;
    }
}

// CASE BE-006
#[tokio::test]
async fn a_role_that_does_not_trust_the_broker_gives_nothing_and_says_what_is_missing() {
    let Some(cloud) = Cloud::open().await else { return };
    let nobody = trusting("https://elsewhere.test", "nobody").to_string();
    cloud.aws.iam("UpdateAssumeRolePolicy", &[("RoleName", "deploy"), ("PolicyDocument", &nobody)]).await;
    let answer = cloud.ask(json!({})).await;
    assert_eq!((answer.status, answer.error()), (502, "backend_refused"), "{}", answer.text);
    assert!(answer.text.contains("trust policy") && !answer.text.contains("arn:"), "{}", answer.text);
    let store = cloud.broker.store();
    assert_eq!(store.grants()[0]["state"].to_string().trim_matches('"'), "failed", "nothing was made");
}

#[tokio::test]
async fn while_aws_is_away_nothing_is_said_to_be_fenced_that_still_works() {
    let Some(cloud) = Cloud::open().await else { return };
    let (session, id) = cloud.session().await;
    cloud.aws.hang();
    cloud.revoke(&id).await;
    let tried = eventually("it was tried, and failed", SOON, async || {
        let grant = cloud.grant(&id).await;
        grant["revocation"]["last_error"].is_string().then_some(grant)
    })
    .await;
    assert!(tried["revocation"]["fenced_at"].is_null() && tried["state"] == "revoking", "{tried}");
    cloud.aws.go_on();
    cloud.fenced(&id).await;
    assert_eq!(cloud.aws.read(&session, BUCKET).await, 403);
}

#[tokio::test]
async fn after_a_crash_the_fence_is_rendered_from_the_record() {
    let Some(mut cloud) = Cloud::open().await else { return };
    let (session, id) = cloud.session().await;
    cloud.revoke(&id).await;
    cloud.fenced(&id).await;
    cloud.broker.kill9().await;
    let fence = cloud.aws.inline_policies("deploy").await.remove(0).0;
    cloud.aws.iam("DeleteRolePolicy", &[("RoleName", "deploy"), ("PolicyName", &fence)]).await;
    assert_eq!(cloud.aws.read(&session, BUCKET).await, 200);
    cloud.broker.restart().await;
    eventually("the fence stands again", SOON, async || (cloud.aws.read(&session, BUCKET).await == 403).then_some(()))
        .await;
}

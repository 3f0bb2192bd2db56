//! Fences: what they hold, what is said of them, and what becomes of them when somebody else writes, or there is no room.

use std::collections::HashMap;
use std::time::Duration;

use hallpass_core::port::{CredentialBackend as _, Undone};
use hallpass_core::time::Ttl;
use hallpass_tests::eventually;
use serde_json::{Value, json};

use super::BUCKET;
use super::lab::Lab;

const SOON: Duration = Duration::from_secs(30);
/// More sessions than one policy has room for.
const MANY: u64 = 220;

/// The one policy that fences, by its name.
async fn fence(lab: &Lab) -> Option<(String, Value)> {
    let policies = lab.aws.inline_policies("deploy").await;
    policies.into_iter().find(|(name, _)| name.starts_with("hallpass-fence-"))
}

#[tokio::test]
async fn a_fence_stands_until_the_last_of_its_sessions_is_over_and_no_longer() {
    let Some(lab) = Lab::open().await else { return };
    let (one, one_order, one_handle) = lab.session(1).await;
    let (other, other_order, other_handle) = lab.session(2).await;
    let (neighbour, ..) = lab.session(3).await;
    lab.ledger.end(&one_order, &one_handle);
    assert_eq!(lab.backend.revoke(&one_handle).await, Ok(Undone::Fenced));
    assert_eq!((lab.aws.read(&one, BUCKET).await, lab.aws.read(&other, BUCKET).await), (403, 200));
    lab.ledger.end(&other_order, &other_handle);
    assert_eq!(lab.backend.revoke(&other_handle).await, Ok(Undone::Fenced));
    assert_eq!(lab.aws.inline_policies("deploy").await.len(), 1, "one policy, however many sessions");
    for keys in [&one, &other] {
        assert_eq!(lab.aws.read(keys, BUCKET).await, 403, "the earlier fence stands beside the later");
    }
    assert_eq!(lab.aws.read(&neighbour, BUCKET).await, 200);
    lab.ledger.forget();
    eventually("nothing is fenced any more, and nothing is left of the fence", SOON, async || {
        lab.backend.tend().await.unwrap();
        fence(&lab).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_fence_is_said_to_stand_once_it_has_had_the_time_to_spread() {
    let slow = Ttl::from_secs(2);
    let lab = Lab::open_with(|settings, _| settings.fence.as_mut().unwrap().propagation = slow, &HashMap::new()).await;
    let Some(lab) = lab else { return };
    let (_, order, handle) = lab.session(1).await;
    lab.ledger.end(&order, &handle);
    let began = lab.clock.now();
    let Ok(Undone::Fencing { until }) = lab.backend.revoke(&handle).await else { panic!("not yet") };
    assert!(until >= began.plus(slow) && until <= lab.clock.now().plus(Ttl::from_secs(3)), "{began} {until}");
    assert!(fence(&lab).await.is_some(), "it was written at once");
    assert!(matches!(lab.backend.revoke(&handle).await, Ok(Undone::Fencing { .. })), "and asking does not hasten it");
    eventually("it is said to stand", SOON, async || {
        (lab.backend.revoke(&handle).await == Ok(Undone::Fenced)).then_some(())
    })
    .await;
    assert!(lab.clock.now() >= began.plus(slow), "not before");
}

#[tokio::test]
async fn a_fence_that_is_taken_away_is_set_again_and_another_statement_stays() {
    let Some(lab) = Lab::open().await else { return };
    let (keys, order, handle) = lab.session(1).await;
    lab.ledger.end(&order, &handle);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced));
    let (name, mut document) = fence(&lab).await.expect("a fence");

    lab.aws.iam("DeleteRolePolicy", &[("RoleName", "deploy"), ("PolicyName", &name)]).await;
    assert_eq!(lab.aws.read(&keys, BUCKET).await, 200, "it was really taken away");
    eventually("it is set again", SOON, async || {
        lab.backend.tend().await.unwrap();
        (lab.aws.read(&keys, BUCKET).await == 403).then_some(())
    })
    .await;

    let theirs = json!({"Sid": "NoLogs", "Effect": "Deny", "Action": "logs:*", "Resource": "*"});
    document["Statement"] = json!([theirs]);
    lab.aws.put_inline("deploy", &name, &document.to_string()).await;
    eventually("it is set again, beside what somebody wrote", SOON, async || {
        lab.backend.tend().await.unwrap();
        (lab.aws.read(&keys, BUCKET).await == 403).then_some(())
    })
    .await;
    lab.ledger.forget();
    let left = eventually("only theirs is left", SOON, async || {
        lab.backend.tend().await.unwrap();
        fence(&lab).await.filter(|(_, document)| document["Statement"].as_array().unwrap().len() == 1)
    })
    .await;
    assert_eq!(left.1["Statement"][0], theirs);
}

#[tokio::test]
async fn what_there_is_no_room_for_is_not_said_to_be_fenced() {
    let Some(lab) = Lab::open().await else { return };
    let (first, first_order, first_handle) = lab.session(1).await;
    lab.ledger.end(&first_order, &first_handle);
    assert_eq!(lab.backend.revoke(&first_handle).await, Ok(Undone::Fenced));
    for n in 2..MANY {
        let order = lab.order(n, Ttl::from_mins(20));
        lab.ledger.end(&order, &lab.backend.plan(&order).unwrap());
    }
    let (last, last_order, last_handle) = lab.session(MANY).await;
    lab.ledger.end(&last_order, &last_handle);
    let refused = lab.backend.revoke(&last_handle).await.unwrap_err();
    assert!(refused.internal.contains("10240 characters"), "{refused}");
    assert_eq!(lab.aws.read(&last, BUCKET).await, 200, "which is why it is not said");
    assert_eq!(lab.aws.read(&first, BUCKET).await, 403, "what was fenced stays fenced");
    let (_, document) = fence(&lab).await.expect("a fence");
    assert!(document.to_string().len() <= 10_240);
    let alarm = eventually("whoever looks after it is told", SOON, async || lab.backend.tend().await.err()).await;
    assert!(alarm.internal.contains("are not fenced"), "{alarm}");
}

#[tokio::test]
async fn where_a_role_says_so_all_older_sessions_are_fenced_rather_than_some_left_alone() {
    let older = |_: &mut _, role: &mut Value| role["overflow"] = json!("fence_all_older");
    let Some(lab) = Lab::open_with(older, &HashMap::new()).await else { return };
    let (first, first_order, first_handle) = lab.session(1).await;
    let (bystander, ..) = lab.session(2).await;
    let second = lab.clock.now();
    eventually("the second in which they were issued is over", SOON, async || {
        (lab.clock.now() >= second.plus(Ttl::from_secs(2))).then_some(())
    })
    .await;
    for n in 3..MANY {
        let order = lab.order(n, Ttl::from_mins(20));
        lab.ledger.end(&order, &lab.backend.plan(&order).unwrap());
    }
    lab.ledger.end(&first_order, &first_handle);
    assert_eq!(lab.backend.revoke(&first_handle).await, Ok(Undone::Fenced));
    assert_eq!(lab.aws.read(&first, BUCKET).await, 403);
    assert_eq!(lab.aws.read(&bystander, BUCKET).await, 403, "the price that the role agreed to");
    let (_, document) = fence(&lab).await.expect("a fence");
    let text = document.to_string();
    assert!(text.contains("aws:TokenIssueTime") && text.len() <= 10_240, "{}", text.len());
}

#[tokio::test]
async fn the_room_that_a_roles_other_policies_take_is_counted() {
    let Some(lab) = Lab::open().await else { return };
    let long: Vec<String> = (0..100).map(|n| format!("arn:aws:s3:::bucket-{n:0>70}")).collect();
    let theirs =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": long}]});
    lab.aws.put_inline("deploy", "theirs", &theirs.to_string()).await;
    for n in 2..40 {
        let order = lab.order(n, Ttl::from_mins(20));
        lab.ledger.end(&order, &lab.backend.plan(&order).unwrap());
    }
    // Of those that expire within the same millisecond the last.
    let (_, order, handle) = lab.session(40).await;
    lab.ledger.end(&order, &handle);
    let refused = lab.backend.revoke(&handle).await.unwrap_err();
    assert!(refused.internal.contains("not for those of"), "{refused}");
    let sizes: usize = lab.aws.inline_policies("deploy").await.iter().map(|(_, policy)| policy.to_string().len()).sum();
    assert!(sizes <= 10_240, "{sizes}");
}

#[tokio::test]
async fn a_fence_knows_how_many_it_has_room_for_and_says_so_without_asking() {
    let Some(lab) = Lab::open().await else { return };
    let places = || lab.backend.fence(&lab.role).expect("it is fenced").places;
    assert_eq!(places(), Some(165), "as far as is known");
    let (_, order, handle) = lab.session(1).await;
    let long: Vec<String> = (0..100).map(|n| format!("arn:aws:s3:::bucket-{n:0>70}")).collect();
    let theirs =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": long}]});
    lab.aws.put_inline("deploy", "theirs", &theirs.to_string()).await;
    lab.backend.tend().await.unwrap();
    let left = places().expect("a limit");
    assert!((1..20).contains(&left), "{left}: what others wrote leaves less");
    lab.ledger.end(&order, &handle);
    for n in 2..=u64::from(left) {
        let order = lab.order(n, Ttl::from_mins(20));
        lab.ledger.end(&order, &lab.backend.plan(&order).unwrap());
    }
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced), "so many it does hold");
    let mut any = lab.role.clone();
    any.parameters["overflow"] = json!("fence_all_older");
    assert_eq!(lab.backend.fence(&any).expect("it is fenced").places, None, "where all older ones may be fenced");
}

/// The page that the record is read by is smaller than that.
#[tokio::test]
async fn of_however_many_sessions_each_role_is_fenced_by_its_own() {
    let older = |_: &mut _, role: &mut Value| role["overflow"] = json!("fence_all_older");
    let Some(lab) = Lab::open_with(older, &HashMap::new()).await else { return };
    let (keys, order, handle) = lab.session(1).await;
    for n in 2..1_200 {
        let mut order = lab.order(n, Ttl::from_mins(20));
        if n % 2 == 0 {
            let mut elsewhere = lab.role.clone();
            elsewhere.parameters["role_arn"] = json!("arn:aws:iam::123456789012:role/elsewhere");
            order.role = std::sync::Arc::new(elsewhere);
        }
        lab.ledger.end(&order, &lab.backend.plan(&order).unwrap());
    }
    lab.ledger.end(&order, &handle);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced), "though it is read last");
    assert_eq!(lab.aws.read(&keys, BUCKET).await, 403);
    let (_, document) = fence(&lab).await.expect("a fence");
    let text = document.to_string();
    for n in (2..1_200_u64).step_by(2) {
        assert!(!text.contains(&lab.order(n, Ttl::ZERO).grant.to_string()), "another role's");
    }
}

#[tokio::test]
async fn while_iam_does_not_answer_nothing_is_said_to_be_fenced() {
    let Some(mut lab) = Lab::open().await else { return };
    let (_, order, handle) = lab.session(1).await;
    lab.ledger.end(&order, &handle);
    lab.aws.stop();
    let refused = lab.backend.revoke(&handle).await.unwrap_err();
    assert!(refused.internal.contains("not fenced yet"), "{refused}");
    lab.backend.tend().await.unwrap_err();
}

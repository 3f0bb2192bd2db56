//! Other doors to what the backend's roles reach, as far as IAM shows them: who else a role's trust policy lets in, who
//! else has the managed policies that it has, and the static keys of those.

use std::collections::BTreeSet;

use hallpass_core::port::{Belongs, InventoryItem, ItemKind};
use serde_json::Value;

use super::iam::Iam;
use super::policy::{account_of, role_name};
use super::query::CallFailed;
use super::sts::Sts;

/// Most doors that are told.
const MAX_DOORS: usize = 1_000;

/// The doors beside the broker's own to each of `roles`.
pub(super) async fn find(iam: &Iam, sts: &Sts, roles: &[String]) -> Result<Vec<InventoryItem>, CallFailed> {
    let mut doors = BTreeSet::new();
    let mut users = BTreeSet::new();
    for arn in roles {
        let name = role_name(arn);
        let Some(role) = iam.role(name).await? else { continue };
        let own = sts.principal(account_of(arn).unwrap_or_default()).await;
        for principal in principals(&role.trust) {
            if Some(&principal) != own.as_ref() {
                users.extend(principal.split_once(":user/").map(|(_, user)| role_name(user).to_owned()));
                doors.insert(format!("{arn} trusts {principal}"));
            }
        }
        for policy in iam.attached_policies(name).await? {
            let entities = iam.entities_of(&policy).await?;
            for user in entities.users {
                doors.insert(format!("user {user} has {policy}, as {arn} has"));
                users.insert(user);
            }
            let others = entities.roles.into_iter().filter(|other| other != name && !is_one_of(roles, other));
            doors.extend(others.map(|other| format!("role {other} has {policy}, as {arn} has")));
        }
    }
    for user in users {
        let keys = iam.active_keys(&user).await?;
        doors.extend(keys.into_iter().map(|key| format!("user {user} has the static key {key}")));
    }
    let item = |name: String| InventoryItem { belongs: Belongs::ToOthers, kind: ItemKind::Door, name, handle: None };
    Ok(doors.into_iter().take(MAX_DOORS).map(item).collect())
}

fn is_one_of(roles: &[String], name: &str) -> bool {
    roles.iter().any(|arn| role_name(arn) == name)
}

/// Everybody whom a trust policy lets in. What it denies does not count: a condition may not hold.
fn principals(trust: &Value) -> BTreeSet<String> {
    let statements = match &trust["Statement"] {
        Value::Array(statements) => statements.iter().collect::<Vec<_>>(),
        statement => vec![statement],
    };
    let mut found = BTreeSet::new();
    for statement in statements.into_iter().filter(|statement| statement["Effect"] == "Allow") {
        match &statement["Principal"] {
            Value::String(anybody) => {
                found.insert(anybody.clone());
            }
            Value::Object(kinds) => found.extend(kinds.values().flat_map(texts)),
            _ => {}
        }
        if statement.get("NotPrincipal").is_some() {
            found.insert("everybody but some".to_owned());
        }
    }
    found
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trust_policy_names_whom_it_lets_in() {
        let trust = json!({"Statement": [
            {"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::1:oidc-provider/x", "AWS": ["a", "b"]}},
            {"Effect": "Allow", "Principal": "*"},
            {"Effect": "Deny", "Principal": {"AWS": "c"}},
            {"Effect": "Allow", "NotPrincipal": {"AWS": "d"}},
        ]});
        let found: Vec<_> = principals(&trust).into_iter().collect();
        assert_eq!(found, ["*", "a", "arn:aws:iam::1:oidc-provider/x", "b", "everybody but some"]);
        let single = json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": "a"}}});
        assert_eq!(principals(&single).len(), 1);
    }
}

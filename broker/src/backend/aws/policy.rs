//! Session policies, as AWS takes them: they can only narrow what the role may.

use serde_json::Value;

/// Longest session policy, in characters, without the white space that nobody needs.
pub(super) const MAX_CHARACTERS: usize = 2_048;
/// Most managed policies of one session.
pub(super) const MAX_ARNS: usize = 10;

/// A session policy out of a role: JSON in a text, or a table. Answers it as it is sent.
pub(super) fn session_policy(value: &Value) -> Result<String, String> {
    let parsed;
    let policy = match value {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).map_err(|error| format!("is no JSON: {error}"))?;
            &parsed
        }
        table => table,
    };
    let object = policy.as_object().ok_or("must be a policy: JSON in a text, or a table")?;
    if let Some(unknown) = object.keys().find(|key| !["Version", "Id", "Statement"].contains(&key.as_str())) {
        return Err(format!("a policy has Version, Id and Statement, and no {unknown:?}"));
    }
    let statements = match object.get("Statement") {
        Some(Value::Array(statements)) if !statements.is_empty() => statements.iter().collect(),
        Some(statement @ Value::Object(_)) => vec![statement],
        _ => return Err("a policy needs at least one Statement".to_owned()),
    };
    for statement in statements {
        let part = |key: &str| statement.get(key);
        if !matches!(part("Effect").and_then(Value::as_str), Some("Allow" | "Deny")) {
            return Err("each Statement has the Effect \"Allow\" or \"Deny\"".to_owned());
        }
        if part("Action").or_else(|| part("NotAction")).is_none() {
            return Err("each Statement names its Action".to_owned());
        }
        if part("Resource").or_else(|| part("NotResource")).is_none() {
            return Err("each Statement names its Resource".to_owned());
        }
        if part("Principal").or_else(|| part("NotPrincipal")).is_some() {
            return Err("a session policy is about the session: it names no Principal".to_owned());
        }
    }
    let compact = policy.to_string();
    let characters = compact.chars().count();
    if characters > MAX_CHARACTERS {
        return Err(format!("has {characters} characters; AWS takes {MAX_CHARACTERS}"));
    }
    let is_taken = |c: char| matches!(c, '\u{9}' | '\u{a}' | '\u{d}' | '\u{20}'..='\u{ff}');
    match compact.chars().find(|c| !is_taken(*c)) {
        Some(other) => Err(format!("has the character {other:?}, which AWS does not take in a session policy")),
        None => Ok(compact),
    }
}

/// The ARN of a managed policy: `arn:aws:iam::123456789012:policy/name`, or one of AWS's own.
pub(super) fn is_policy_arn(text: &str) -> bool {
    is_arn(text, "policy/") && text.len() <= 2_048
}

/// The ARN of a role.
pub(super) fn is_role_arn(text: &str) -> bool {
    (20..=2_048).contains(&text.len()) && is_arn(text, "role/") && account_of(text).is_some()
}

fn is_arn(text: &str, kind: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let name = resource.strip_prefix(kind).unwrap_or_default();
    let is_taken = |b: u8| b.is_ascii_alphanumeric() || b"/_+=,.@-".contains(&b);
    *arn == "arn"
        && matches!(*partition, "aws" | "aws-cn" | "aws-us-gov")
        && (*account == "aws" || is_account(account))
        && !name.is_empty()
        && name.bytes().all(is_taken)
        && !name.ends_with('/')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The account of an ARN.
pub(super) fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|account| is_account(account))
}

/// The name of a role, by which IAM is asked for it: what is behind the last slash of its ARN.
pub(super) fn role_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(resource: &str) -> Value {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource}]})
    }

    #[test]
    fn a_session_policy_is_a_text_or_a_table_and_is_sent_without_white_space() {
        let policy = reading("arn:aws:s3:::b/*");
        let text = serde_json::to_string_pretty(&policy).unwrap();
        let sent = session_policy(&policy).unwrap();
        assert_eq!(session_policy(&Value::String(text)).unwrap(), sent);
        assert!(!sent.contains(' ') && sent.contains("s3:GetObject"));
    }

    #[test]
    fn what_aws_would_refuse_is_refused_at_load() {
        let long = reading(&"x".repeat(MAX_CHARACTERS));
        let mut principal = reading("*");
        principal["Statement"][0]["Principal"] = json!("*");
        for (policy, problem) in [
            (json!("{"), "is no JSON"),
            (json!([]), "must be a policy"),
            (json!({"Version": "2012-10-17"}), "at least one Statement"),
            (json!({"Statement": [], "Version": "2012-10-17"}), "at least one Statement"),
            (json!({"Statements": []}), "no \"Statements\""),
            (json!({"Statement": {"Effect": "allow", "Action": "*", "Resource": "*"}}), "Effect"),
            (json!({"Statement": {"Effect": "Allow", "Resource": "*"}}), "Action"),
            (json!({"Statement": {"Effect": "Allow", "Action": "*"}}), "Resource"),
            (principal, "no Principal"),
            (long, "AWS takes 2048"),
            (reading("arn:aws:s3:::ключ"), "does not take"),
        ] {
            let refused = session_policy(&policy).unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
        let room = MAX_CHARACTERS - session_policy(&reading("")).unwrap().len();
        session_policy(&reading(&"x".repeat(room))).expect("as long as AWS takes");
        session_policy(&reading(&"x".repeat(room + 1))).unwrap_err();
    }

    #[test]
    fn arns_are_those_of_roles_and_policies() {
        assert!(is_role_arn("arn:aws:iam::123456789012:role/ci/deploy"));
        assert!(is_role_arn("arn:aws-us-gov:iam::123456789012:role/deploy"));
        for wrong in [
            "deploy",
            "arn:aws:iam::aws:role/deploy",
            "arn:aws:iam::12345678901:role/deploy",
            "arn:aws:iam::123456789012:user/deploy",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/de*loy",
            "arn:aws:sts::123456789012:role/deploy",
            "arn:gcp:iam::123456789012:role/deploy",
        ] {
            assert!(!is_role_arn(wrong), "{wrong}");
        }
        assert!(is_policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess"));
        assert!(is_policy_arn("arn:aws:iam::123456789012:policy/ci/narrow"));
        assert_eq!(role_name("arn:aws:iam::123456789012:role/ci/deploy"), "deploy");
        assert_eq!(account_of("arn:aws:iam::123456789012:role/ci/deploy"), Some("123456789012"));
    }
}

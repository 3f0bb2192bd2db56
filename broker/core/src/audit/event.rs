//! Entries for others to read: events in the shape of the Open Cybersecurity Schema Framework (OCSF 1.5), one a line.
//!
//! What is around it is for searching; what counts is `raw_data`, the content of the entry's leaf. Everything else in a
//! line follows from it, so that whoever verifies an export makes each line again and compares. For an entry that was
//! once exported, what follows must therefore stay what it is: another mapping is another `MAPPING`.

use serde_json::{Map, Value, json};

use super::leaf::Leaf;
use super::strict;

/// Which mapping a line was made by.
const MAPPING: &str = "1";
/// The version of the schema that the events are in.
const OCSF: &str = "1.5.0";

/// An entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry is not the JSON of an audit entry: {0}")]
pub struct UnreadableEntry(pub String);

/// The event of a leaf.
///
/// # Errors
/// [`UnreadableEntry`] when what the leaf holds was never an entry.
pub fn of(leaf: &Leaf) -> Result<Value, UnreadableEntry> {
    let entry = strict::parse(leaf.entry()).map_err(UnreadableEntry)?;
    let word = |name: &str| entry.get(name).and_then(Value::as_str);
    let missing = |name: &str| UnreadableEntry(format!("it has no {name}"));
    let action = word("action").ok_or_else(|| missing("action"))?;
    let outcome = word("outcome").ok_or_else(|| missing("outcome"))?;
    let time = entry.get("time").filter(|time| time.is_i64() || time.is_u64()).ok_or_else(|| missing("time"))?;
    let actor = entry.get("actor").and_then(Value::as_object).ok_or_else(|| missing("actor"))?;
    let object = entry.get("object").and_then(Value::as_object).ok_or_else(|| missing("object"))?;

    let class = Class::of(action);
    let (status_id, status, severity_id, severity) = match outcome {
        "success" => (1, "Success", 1, "Informational"),
        "denied" => (2, "Failure", 2, "Low"),
        _ => (2, "Failure", 3, "Medium"),
    };
    let (who, source) = actor_of(actor);
    let mut event = json!({
        "activity_id": class.activity_id,
        "activity_name": class.activity,
        "actor": who,
        "api": {"operation": action, "service": {"name": "hallpass"}},
        "category_name": class.category,
        "category_uid": class.class_uid / 1000,
        "class_name": class.class,
        "class_uid": class.class_uid,
        "metadata": {
            "event_code": action,
            "log_name": leaf.log().to_string(),
            "log_version": MAPPING,
            "product": {"name": "Hallpass", "vendor_name": "Hallpass"},
            "sequence": leaf.sequence(),
            "uid": leaf.hash().to_string(),
            "version": OCSF,
        },
        "raw_data": leaf.text(),
        "resources": resources_of(object),
        "severity": severity,
        "severity_id": severity_id,
        "src_endpoint": source,
        "status": status,
        "status_detail": outcome,
        "status_id": status_id,
        "time": time,
        "type_uid": class.class_uid * 100 + class.activity_id,
    });
    let mut put = |pointer: &str, name: &str, value: Option<Value>| {
        let object = event.pointer_mut(pointer).and_then(Value::as_object_mut);
        if let (Some(object), Some(value)) = (object, value) {
            object.insert(name.to_owned(), value);
        }
    };
    put("", "status_code", word("reason").map(Value::from));
    put("/api", "request", word("request_id").map(|id| json!({"uid": id})));
    put("/metadata", "correlation_uid", word("correlation_id").map(Value::from));
    let on_behalf_of = entry.get("on_behalf_of").and_then(Value::as_object).map(|actor| actor_of(actor).0);
    put("/actor", "invoked_by", on_behalf_of);
    let mut unmapped = entry.get("detail").and_then(Value::as_object).cloned().unwrap_or_default();
    unmapped.extend(word("decision").map(|id| ("decision_id".to_owned(), Value::from(id))));
    put("", "unmapped", (!unmapped.is_empty()).then_some(Value::Object(unmapped)));
    Ok(event)
}

/// The event of a leaf as a line, without its end.
///
/// # Errors
/// [`UnreadableEntry`] when what the leaf holds was never an entry.
pub fn line_of(leaf: &Leaf) -> Result<String, UnreadableEntry> {
    of(leaf).map(|event| event.to_string())
}

/// Where an action belongs in OCSF.
struct Class {
    category: &'static str,
    class: &'static str,
    class_uid: u32,
    activity: &'static str,
    activity_id: u32,
}

impl Class {
    /// By the words of the action, so that a line with an action from a newer broker is mapped alike by an older reader.
    fn of(action: &str) -> Self {
        let (subject, verb) = action.split_once('.').unwrap_or((action, ""));
        let (activity_id, activity) = match verb {
            "open" | "create" => (1, "Create"),
            "" if subject == "read" => (2, "Read"),
            "activate" | "renew" | "retry" | "publish" => (3, "Update"),
            "revoke" | "fence" | "confirm" | "expire" | "fail" | "abandon" => (4, "Delete"),
            _ => (99, "Other"),
        };
        let iam = "Identity & Access Management";
        match subject {
            "proof" => {
                Self { category: iam, class: "Authentication", class_uid: 3002, activity: "Logon", activity_id: 1 }
            }
            "key" | "configuration" => {
                Self { category: iam, class: "Entity Management", class_uid: 3004, activity, activity_id }
            }
            "broker" => {
                let (activity_id, activity) = if verb == "start" { (3, "Start") } else { (99, "Other") };
                let (category, class) = ("Application Activity", "Application Lifecycle");
                Self { category, class, class_uid: 6002, activity, activity_id }
            }
            _ => {
                Self { category: "Application Activity", class: "API Activity", class_uid: 6003, activity, activity_id }
            }
        }
    }
}

/// Who acted, and from where.
fn actor_of(actor: &Map<String, Value>) -> (Value, Value) {
    let word = |name: &str| actor.get(name).and_then(Value::as_str).unwrap_or_default();
    let nowhere = || json!({"type": "Unknown", "type_id": 0});
    match word("type") {
        "identity" => {
            let (issuer, subject) = (word("issuer"), word("subject"));
            let user = json!({"domain": issuer, "name": subject, "type_id": 3, "uid": format!("{issuer}:{subject}")});
            (json!({"user": user}), nowhere())
        }
        "broker" => (json!({"app_name": "hallpass-broker"}), nowhere()),
        "local_administrator" => (json!({"user": {"name": "local-administrator", "type_id": 2}}), nowhere()),
        _ => {
            let source = actor.get("source").and_then(Value::as_str);
            (json!({"user": {"type_id": 0}}), source.map_or_else(nowhere, |ip| json!({"ip": ip})))
        }
    }
}

/// What it was done to.
fn resources_of(object: &Map<String, Value>) -> Value {
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    if let Some(ids) = object.get("ids").and_then(Value::as_array) {
        let kind = kind.strip_suffix('s').unwrap_or(kind);
        return ids.iter().map(|id| json!({"type": kind, "uid": id})).collect();
    }
    let mut resource = Map::new();
    resource.insert("type".to_owned(), kind.into());
    for (from, to) in [("id", "uid"), ("revision", "uid"), ("name", "name")] {
        if let Some(value) = object.get(from) {
            resource.insert(to.to_owned(), value.clone());
        }
    }
    json!([resource])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
    use crate::error::{Reason, Refusal};
    use crate::id::{GrantId, IssuerName};
    use crate::testing::sample::{self, NOW};

    fn event(entry: &AuditEntry) -> Value {
        of(&Leaf::new(sample::id(1), 7, &serde_json::to_string(entry).unwrap())).unwrap()
    }

    #[test]
    fn an_opening_is_api_activity_with_all_that_is_known_of_it() {
        let actor = Actor::Identity { issuer: IssuerName::new("ci").unwrap(), subject: "repo:acme/app".to_owned() };
        let object = AuditObject::Grant { id: sample::id::<GrantId>(9) };
        let entry = AuditEntry::success(NOW, actor, AuditAction::GrantOpen, object)
            .in_request(sample::id(3))
            .by_decision(sample::id(4))
            .with("role", "payments/prod/deploy");
        let event = event(&entry);
        let at = |pointer: &str| event.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!((at("/class_uid"), at("/type_uid"), at("/category_uid")), (6003.into(), 600_301.into(), 6.into()));
        assert_eq!((at("/status_id"), at("/time")), (1.into(), NOW.as_millis().into()));
        assert_eq!(at("/actor/user/uid"), "ci:repo:acme/app");
        assert_eq!(at("/resources/0/uid"), sample::id::<GrantId>(9).to_string());
        assert_eq!(at("/api/request/uid"), sample::id::<GrantId>(3).to_string());
        assert_eq!((at("/metadata/sequence"), at("/unmapped/role")), (7.into(), "payments/prod/deploy".into()));
        let raw = Leaf::parse(at("/raw_data").as_str().unwrap().to_owned()).unwrap();
        assert_eq!(at("/metadata/uid"), raw.hash().to_string());
        assert_eq!(serde_json::from_str::<AuditEntry>(raw.entry()).unwrap(), entry, "nothing is lost");
    }

    #[test]
    fn a_refused_proof_is_a_failed_authentication_from_somewhere() {
        let actor = Actor::Unverified { source: Some("192.0.2.1".to_owned()) };
        let refusal = Refusal::proof(Reason::Expired, "the proof expired");
        let event = event(&AuditEntry::denied(NOW, actor, AuditAction::ProofVerify, AuditObject::Broker, &refusal));
        assert_eq!((&event["class_uid"], &event["type_uid"]), (&3002.into(), &300_201.into()));
        assert_eq!((&event["status_id"], &event["status_code"]), (&2.into(), &"expired".into()));
        assert_eq!(event["src_endpoint"]["ip"], "192.0.2.1");
    }

    #[test]
    fn every_action_has_its_class() {
        let classes = |action| {
            let class = Class::of(action);
            (class.class_uid, class.activity_id)
        };
        for (action, expected) in [
            ("grant.activate", (6003, 3)),
            ("grant.revoke", (6003, 4)),
            ("read", (6003, 2)),
            ("configuration.publish", (3004, 3)),
            ("key.create", (3004, 1)),
            ("broker.start", (6002, 3)),
            ("proof.refusals", (3002, 1)),
            ("something.new", (6003, 99)),
        ] {
            assert_eq!(classes(action), expected, "{action}");
        }
        let ids = vec![sample::id::<GrantId>(1), sample::id(2)];
        let many = AuditEntry::success(NOW, Actor::Broker, AuditAction::GrantExpire, AuditObject::Grants { ids });
        assert_eq!(event(&many)["resources"].as_array().unwrap().len(), 2);
        assert_eq!(event(&many)["resources"][0]["type"], "grant");
    }

    #[test]
    fn what_was_never_an_entry_has_no_event() {
        for bad in ["", "{}", "[]", r#"{"action":"read"}"#, r#"{"action":"read","action":"read"}"#] {
            assert!(of(&Leaf::new(sample::id(1), 7, bad)).is_err(), "{bad}");
        }
    }
}

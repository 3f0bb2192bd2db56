//! The parameters of a role of this backend: the table `[aws]`.

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;
use hallpass_core::time::Ttl;
use serde_json::Value;

use super::failure::CHAINING;
use super::policy;
use super::tags::{self, MAX_KEY, MAX_TAGS, MAX_VALUE, OWN, OWN_TAGS, Tag};
use super::{MIN_LIFE, SHORTEST};
use crate::backend::parameters::{Table, invalid};
use crate::config::backend::{AwsAuth, AwsBackend as Settings};

const KNOWN: &[&str] = &[
    "role_arn",
    "session_policy",
    "policy_arns",
    "session_tags",
    "tags",
    "source_identity",
    "region",
    "duration",
    "overflow",
];

/// What AWS gives a role that says nothing else.
const USUAL_DURATION: Ttl = Ttl::from_hours(1);
/// The longest session of any role, and the longest of one that another session assumed.
const LONGEST_DURATION: Ttl = Ttl::from_hours(12);
const LONGEST_CHAINED: Ttl = Ttl::from_hours(1);

/// What a session of a role is.
#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) role_arn: String,
    pub(super) session_policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    /// The role's own tags, where sessions are tagged at all.
    pub(super) tags: Option<Vec<Tag>>,
    pub(super) source_identity: bool,
    pub(super) region: Option<String>,
    /// The longest session that may be asked for: the role's `MaxSessionDuration`.
    pub(super) duration: Ttl,
    /// Whether all older sessions are fenced where there is no room to fence each.
    pub(super) fences_all_older: bool,
}

impl Parameters {
    pub(super) fn read(role: &Role, settings: &Settings) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "aws", KNOWN)?;
        let role_arn = table.text("role_arn")?.ok_or_else(|| {
            invalid("role_arn", "is missing: the AWS role, such as arn:aws:iam::123456789012:role/deploy")
        })?;
        check_role(role_arn, settings)?;
        let session_policy = match role.parameters.get("session_policy") {
            None => None,
            Some(policy) => Some(policy::session_policy(policy).map_err(|problem| invalid("session_policy", problem))?),
        };
        let policy_arns = table.texts("policy_arns")?.unwrap_or_default();
        if policy_arns.len() > policy::MAX_ARNS {
            return Err(invalid("policy_arns", format!("AWS takes {} at most", policy::MAX_ARNS)));
        }
        if let Some(wrong) = policy_arns.iter().find(|arn| !policy::is_policy_arn(arn)) {
            return Err(invalid("policy_arns", format!("{wrong:?} is no ARN of a managed policy")));
        }
        let is_tagged = table.flag("session_tags")?;
        let tags = match table.table("tags")? {
            Some(_) if !is_tagged => {
                return Err(invalid("tags", "are sent as session tags: set session_tags = true, too"));
            }
            Some(tags) => own_tags(tags)?,
            None => Vec::new(),
        };
        let region = table.text("region")?;
        if let Some(wrong) = region.filter(|region| !is_region(region)) {
            return Err(invalid("region", format!("{wrong:?} is no region such as \"eu-central-1\"")));
        }
        let overflow = table.text("overflow")?;
        let fences_all_older = match overflow {
            None | Some("stay_revoking") => false,
            Some("fence_all_older") => true,
            Some(other) => {
                let problem = format!("{other:?} is neither \"stay_revoking\" nor \"fence_all_older\"");
                return Err(invalid("overflow", problem));
            }
        };
        Ok(Self {
            role_arn: role_arn.to_owned(),
            session_policy,
            policy_arns: policy_arns.into_iter().map(str::to_owned).collect(),
            tags: is_tagged.then_some(tags),
            source_identity: table.flag("source_identity")?,
            region: region.map(str::to_owned),
            duration: duration(table.text("duration")?, settings)?,
            fences_all_older,
        })
    }

    /// What only the whole role can show to be wrong.
    pub(super) fn check_life(role: &Role) -> Result<(), InvalidParameters> {
        if role.ttl.max >= MIN_LIFE {
            return Ok(());
        }
        let problem = format!(
            "the role's ttl.max is {}: AWS makes no session shorter than {SHORTEST}, and with the time that asking may \
             take a grant needs {MIN_LIFE} at least",
            role.ttl.max
        );
        Err(invalid("role_arn", problem))
    }
}

fn check_role(role_arn: &str, settings: &Settings) -> Result<(), InvalidParameters> {
    if !policy::is_role_arn(role_arn) {
        let problem = format!("{role_arn:?} is no ARN of a role, such as arn:aws:iam::123456789012:role/deploy");
        return Err(invalid("role_arn", problem));
    }
    let Some(fence) = &settings.fence else { return Ok(()) };
    if role_arn == fence.role_arn {
        let problem = "is the role that fences are set with: whoever had a session of it could lift every fence";
        return Err(invalid("role_arn", problem));
    }
    if policy::account_of(role_arn) != policy::account_of(&fence.role_arn) {
        let problem = "is in another account than the backend's fence.role_arn, which can fence nothing there; give \
                       that account a backend of its own";
        return Err(invalid("role_arn", problem));
    }
    Ok(())
}

fn duration(text: Option<&str>, settings: &Settings) -> Result<Ttl, InvalidParameters> {
    let Some(text) = text else { return Ok(USUAL_DURATION) };
    let duration = Ttl::parse(text).map_err(|error| invalid("duration", format!("{text:?} is {error}")))?;
    if settings.auth == AwsAuth::AssumeRole && duration > LONGEST_CHAINED {
        return Err(invalid("duration", format!("must be 1h at most with auth = \"assume_role\": {CHAINING}")));
    }
    if (SHORTEST..=LONGEST_DURATION).contains(&duration) {
        return Ok(duration);
    }
    let problem =
        format!("AWS sessions last from {SHORTEST} to {LONGEST_DURATION}, as the role's MaxSessionDuration says");
    Err(invalid("duration", problem))
}

fn own_tags(table: &serde_json::Map<String, Value>) -> Result<Vec<Tag>, InvalidParameters> {
    let refuse = |key: &str, problem: String| Err(invalid(format!("tags.{key}"), problem));
    if table.len() > MAX_TAGS - OWN_TAGS {
        return Err(invalid("tags", format!("AWS takes {MAX_TAGS}, {OWN_TAGS} of which the broker gives")));
    }
    let mut tags: Vec<Tag> = Vec::with_capacity(table.len());
    for (key, value) in table {
        let lower = key.to_ascii_lowercase();
        let Some(value) = value.as_str() else { return refuse(key, "must be text".to_owned()) };
        if key.is_empty() || key.chars().count() > MAX_KEY || value.chars().count() > MAX_VALUE {
            return refuse(key, format!("a key has 1 to {MAX_KEY} characters, a value {MAX_VALUE} at most"));
        }
        if !key.chars().chain(value.chars()).all(tags::is_allowed) {
            return refuse(key, "has letters, digits, spaces and _.:/=+-@ only".to_owned());
        }
        if lower.starts_with("aws:") || lower.starts_with(OWN) {
            return refuse(key, format!("keys that begin with \"aws:\" are AWS's, with {OWN:?} the broker's"));
        }
        if tags.iter().any(|tag| tag.key.eq_ignore_ascii_case(key)) {
            return refuse(key, "is there twice: AWS does not tell upper from lower case in keys".to_owned());
        }
        tags.push(Tag { key: key.clone(), value: value.to_owned() });
    }
    Ok(tags)
}

fn is_region(text: &str) -> bool {
    crate::config::backend::is_region(text)
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::sample;
    use serde_json::json;

    use super::super::tests_support::{role, settings};
    use super::*;

    fn with(key: &str, value: Value) -> Role {
        let mut role = role();
        role.parameters[key] = value;
        role
    }

    #[test]
    fn a_role_says_what_its_sessions_are() {
        let mut role = with("session_tags", json!(true));
        role.parameters["tags"] = json!({"team": "core"});
        role.parameters["policy_arns"] = json!(["arn:aws:iam::aws:policy/ReadOnlyAccess"]);
        role.parameters["duration"] = json!("4h");
        role.parameters["overflow"] = json!("fence_all_older");
        let read = Parameters::read(&role, &settings()).unwrap();
        assert_eq!(read.role_arn, "arn:aws:iam::123456789012:role/deploy");
        assert_eq!(read.tags.unwrap().len(), 1);
        assert_eq!((read.duration, read.fences_all_older), (Ttl::from_hours(4), true));
        let plain = Parameters::read(&super::super::tests_support::role(), &settings()).unwrap();
        assert_eq!((plain.tags, plain.duration, plain.source_identity), (None, Ttl::from_hours(1), false));
    }

    #[test]
    fn each_key_is_refused_by_its_name() {
        let many: Vec<_> = (0..11).map(|n| format!("arn:aws:iam::123456789012:policy/p{n}")).collect();
        let tag = |key: &str, value: Value| json!({key: value});
        let mut tags: serde_json::Map<_, _> = (0..45).map(|n| (format!("k{n}"), json!("v"))).collect();
        let too_many = Value::Object(tags.clone());
        tags.retain(|key, _| key != "k44");
        for (key, value, named, problem) in [
            ("role_arn", json!("deploy"), "role_arn", "is no ARN"),
            ("role_arn", json!("arn:aws:iam::210987654321:role/deploy"), "role_arn", "another account"),
            ("role_arn", json!("arn:aws:iam::123456789012:role/fence"), "role_arn", "lift every fence"),
            ("session_policy", json!("{"), "session_policy", "is no JSON"),
            ("policy_arns", json!(many), "policy_arns", "10 at most"),
            ("policy_arns", json!(["x"]), "policy_arns", "no ARN"),
            ("session_tags", json!("yes"), "session_tags", "true or false"),
            ("tags", too_many, "tags", "AWS takes 50"),
            ("tags", tag("k", json!(1)), "tags.k", "must be text"),
            ("tags", tag("aws:k", json!("v")), "tags.aws:k", "are AWS's"),
            ("tags", tag("Hallpass:owner", json!("v")), "tags.Hallpass:owner", "the broker's"),
            ("tags", tag("k", json!("v".repeat(257))), "tags.k", "256 at most"),
            ("tags", tag("k", json!("\"")), "tags.k", "only"),
            ("tags", json!({"K": "1", "k": "2"}), "tags.k", "twice"),
            ("region", json!("europe"), "region", "no region"),
            ("duration", json!("14m"), "duration", "15m"),
            ("duration", json!("13h"), "duration", "12h"),
            ("duration", json!("long"), "duration", "long"),
            ("overflow", json!("ignore"), "overflow", "fence_all_older"),
        ] {
            let mut role = with(key, value);
            if key == "tags" {
                role.parameters["session_tags"] = json!(true);
            }
            let refused = Parameters::read(&role, &settings()).unwrap_err();
            assert_eq!(refused.key, named);
            assert!(refused.problem.contains(problem), "{refused}");
        }
        let mut role = with("tags", Value::Object(tags));
        assert!(Parameters::read(&role, &settings()).unwrap_err().problem.contains("session_tags = true"));
        role.parameters["session_tags"] = json!(true);
        Parameters::read(&role, &settings()).expect("as many as AWS takes");
        assert_eq!(Parameters::read(&sample::role("a/b"), &settings()).unwrap_err().key, "audience");
    }

    #[test]
    fn role_chaining_lasts_an_hour_and_says_so() {
        let chained = Settings { auth: AwsAuth::AssumeRole, ..settings() };
        Parameters::read(&with("duration", json!("1h")), &chained).unwrap();
        let refused = Parameters::read(&with("duration", json!("2h")), &chained).unwrap_err();
        assert!(refused.problem.contains("role chaining"), "{refused}");
        Parameters::read(&with("duration", json!("2h")), &settings()).unwrap();
    }

    #[test]
    fn a_role_whose_grants_are_all_too_short_is_refused_with_the_reason() {
        let mut short = role();
        short.ttl.max = Ttl::from_mins(15);
        let refused = Parameters::check_life(&short).unwrap_err();
        assert!(refused.problem.contains("no session shorter than 15m"), "{refused}");
        short.ttl.max = MIN_LIFE;
        Parameters::check_life(&short).unwrap();
    }
}

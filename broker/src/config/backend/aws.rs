//! Backends of kind `aws`.

use hallpass_core::id::BackendName;
use hallpass_core::time::Ttl;
use serde::Deserialize;

use super::{Backend, BackendKind};
use crate::config::Finding;
use crate::config::document::{Document, Duration};
use crate::config::url;
use ::url::Url;

/// How long a fence may take to spread: beyond, something else is wrong.
const LONGEST_PROPAGATION: Ttl = Ttl::from_mins(5);
/// What AWS calls "eventually": seconds, as its services that evaluate policies show it.
const USUAL_PROPAGATION: Ttl = Ttl::from_secs(10);

/// Settings of a backend of kind `aws`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsBackend {
    /// Region whose STS is asked.
    pub region: String,
    /// How the broker shows who it is.
    pub auth: AwsAuth,
    /// Audience of the broker's own token: the client id of the account's OIDC provider.
    pub audience: String,
    /// Where STS is.
    pub sts_endpoint: Url,
    /// Where IAM is.
    pub iam_endpoint: Url,
    /// How sessions are fenced. Without it nothing but time ends them.
    pub fence: Option<AwsFence>,
}

/// How the broker shows AWS who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsAuth {
    /// By its own token: `AssumeRoleWithWebIdentity`.
    WebIdentity,
    /// By the credentials of the default chain: `AssumeRole`.
    AssumeRole,
}

/// How sessions are fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsFence {
    /// The AWS role that may edit the inline policies of the others.
    pub role_arn: String,
    /// How long a changed policy takes until every service has heard of it.
    pub propagation: Ttl,
    /// Whether all older sessions of a role are fenced where there is no room to fence each, whatever its roles say.
    pub fences_all_older: bool,
}

impl AwsBackend {
    /// IAM, and the account in it whose sessions are fenced.
    pub(super) fn server(&self) -> String {
        let account = self.fence.as_ref().and_then(|fence| fence.role_arn.split(':').nth(4)).unwrap_or_default();
        format!("{} {account}", self.iam_endpoint.origin().ascii_serialization())
    }

    /// Region that signatures for IAM are for: it has one for each partition.
    #[must_use]
    pub fn iam_region(&self) -> &'static str {
        match partition(&self.region) {
            Partition::China => "cn-north-1",
            Partition::Government => "us-gov-west-1",
            Partition::World => "us-east-1",
        }
    }
}

#[derive(Clone, Copy)]
enum Partition {
    World,
    China,
    Government,
}

fn partition(region: &str) -> Partition {
    if region.starts_with("cn-") {
        Partition::China
    } else if region.starts_with("us-gov-") {
        Partition::Government
    } else {
        Partition::World
    }
}

/// Whether this is written as a region is: `eu-central-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, words)) => {
            (2..=4).contains(&words.len())
                && words.iter().all(is_word)
                && (1..=2).contains(&number.len())
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        None => false,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    region: String,
    auth: Option<String>,
    audience: Option<String>,
    sts_endpoint: Option<String>,
    iam_endpoint: Option<String>,
    fence: Option<RawFence>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFence {
    role_arn: String,
    propagation: Option<Duration>,
    overflow: Option<String>,
}

pub(super) fn read(entry: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: Raw = entry.read(findings)?;
    let before = findings.len();
    if !is_region(&raw.region) {
        findings.push(entry.finding("region", "must be a region such as \"eu-central-1\""));
    }
    let auth = match raw.auth.as_deref() {
        None | Some("web_identity") => AwsAuth::WebIdentity,
        Some("assume_role") => AwsAuth::AssumeRole,
        Some(_) => {
            findings.push(entry.finding("auth", "is \"web_identity\" (the broker's own token) or \"assume_role\""));
            AwsAuth::WebIdentity
        }
    };
    if auth == AwsAuth::AssumeRole && raw.audience.is_some() {
        findings.push(entry.finding("audience", "is that of the broker's own token, which assume_role does not send"));
    }
    let audience = raw.audience.unwrap_or_else(|| "sts.amazonaws.com".to_owned());
    if audience.is_empty() || audience.len() > 255 {
        findings.push(entry.finding("audience", "has 1 to 255 characters"));
    }
    let (sts, iam) = usual_endpoints(&raw.region);
    let mut endpoint = |key: &str, written: Option<String>, usual: String| {
        let text = written.unwrap_or(usual);
        url::check_origin(&text, false).map_err(|problem| findings.push(entry.finding(key, problem))).ok()
    };
    let sts_endpoint = endpoint("sts_endpoint", raw.sts_endpoint, sts);
    let iam_endpoint = endpoint("iam_endpoint", raw.iam_endpoint, iam);
    let fence = raw.fence.and_then(|raw| fence(entry, raw, findings));
    let (Some(sts_endpoint), Some(iam_endpoint)) = (sts_endpoint, iam_endpoint) else { return None };
    let settings = AwsBackend { region: raw.region, auth, audience, sts_endpoint, iam_endpoint, fence };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::Aws(Box::new(settings)) })
}

fn fence(entry: &Document<'_>, raw: RawFence, findings: &mut Vec<Finding>) -> Option<AwsFence> {
    let before = findings.len();
    let parts: Vec<&str> = raw.role_arn.splitn(6, ':').collect();
    let is_role = matches!(parts.as_slice(), ["arn", _, "iam", "", account, resource]
        if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && resource.starts_with("role/"));
    if !is_role {
        findings.push(
            entry.finding("fence.role_arn", "must be a role, such as arn:aws:iam::123456789012:role/hallpass-fence"),
        );
    }
    let propagation = raw.propagation.map_or(USUAL_PROPAGATION, |Duration(ttl)| ttl);
    if propagation > LONGEST_PROPAGATION {
        findings.push(entry.finding("fence.propagation", format!("must be {LONGEST_PROPAGATION} at most")));
    }
    let fences_all_older = match raw.overflow.as_deref() {
        None | Some("stay_revoking") => false,
        Some("fence_all_older") => true,
        Some(_) => {
            findings.push(entry.finding("fence.overflow", "is \"stay_revoking\" or \"fence_all_older\""));
            false
        }
    };
    let fence = AwsFence { role_arn: raw.role_arn, propagation, fences_all_older };
    (findings.len() == before).then_some(fence)
}

fn usual_endpoints(region: &str) -> (String, String) {
    let origin = |host: &str, suffix: &str| format!("https://{host}.{suffix}");
    match partition(region) {
        Partition::China => {
            let suffix = "amazonaws.com.cn";
            (origin(&format!("sts.{region}"), suffix), origin("iam.cn-north-1", suffix))
        }
        Partition::Government => {
            let suffix = "amazonaws.com";
            (origin(&format!("sts.{region}"), suffix), origin("iam.us-gov", suffix))
        }
        Partition::World => {
            let suffix = "amazonaws.com";
            (origin(&format!("sts.{region}"), suffix), origin("iam", suffix))
        }
    }
}

//! From policy files to policies: bounded, parsed, named, and asking for nothing that this version cannot give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, Policy, PolicySet, Template};
use hallpass_core::binding::Binding;
use hallpass_core::id::PolicyId;
use hallpass_core::time::Ttl;

use super::{advice, shape};
use crate::config::{Finding, PolicySource};

/// Largest policy file. Parsing is superlinear in time and memory: larger, and a bundle could stall the broker that
/// loads it.
pub(crate) const MAX_FILE_BYTES: usize = 512 * 1024;

/// Most policies in a bundle, for the same reason.
pub(crate) const MAX_POLICIES: usize = 5_000;

/// One policy of the bundle.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Its `@id`.
    pub(crate) id: PolicyId,
    /// The policy, under that id.
    pub(crate) policy: Policy,
    /// `@accepts`: what its authors were told of it, and mean.
    pub(crate) accepts: Vec<String>,
    /// `@max_ttl`.
    pub(crate) max_ttl: Option<Ttl>,
    /// `@binding`.
    pub(crate) binding: Option<Binding>,
    /// Where it is written.
    pub(crate) file: PathBuf,
    /// Line of its first token.
    pub(crate) line: Option<usize>,
}

impl Rule {
    /// Something wrong with this policy.
    pub(crate) fn finding(&self, reason: impl std::fmt::Display) -> Finding {
        Finding { file: self.file.clone(), line: self.line, reason: format!("policy {:?}: {reason}", self.id.as_str()) }
    }
}

/// Reads the policies of all files.
///
/// # Errors
/// Everything that is wrong, in all files.
pub(crate) fn read(sources: &[PolicySource]) -> Result<Vec<Rule>, Vec<Finding>> {
    let mut rules = Vec::new();
    let mut findings = Vec::new();
    for source in sources {
        match parse(source) {
            Ok(parsed) => {
                for policy in parsed.policies {
                    match named(policy, &source.file) {
                        Ok(rule) => rules.push(rule),
                        Err(found) => findings.extend(found),
                    }
                }
                findings.extend(parsed.findings);
            }
            Err(found) => findings.extend(found),
        }
    }
    findings.extend(repeated_ids(&rules));
    if rules.len() > MAX_POLICIES {
        let reason = format!("{} policies are more than the {MAX_POLICIES} that a bundle may have", rules.len());
        let file = sources.first().map(|source| source.file.clone()).unwrap_or_default();
        findings.push(Finding { file, line: None, reason });
    }
    if findings.is_empty() { Ok(rules) } else { Err(findings) }
}

struct Parsed {
    policies: Vec<(Policy, Option<usize>)>,
    findings: Vec<Finding>,
}

fn parse(source: &PolicySource) -> Result<Parsed, Vec<Finding>> {
    let finding = |line, reason: String| Finding { file: source.file.clone(), line, reason };
    let text = source.text.as_str();
    if text.len() > MAX_FILE_BYTES {
        let reason = format!("{} bytes are more than the {MAX_FILE_BYTES} that a policy file may have", text.len());
        return Err(vec![finding(None, reason)]);
    }
    let starts = shape::measure(text).map_err(|too_deep| {
        let reason = format!(
            "nests or chains too deeply: at most {} levels, and {} conditions on one path; write alternatives as a set",
            shape::MAX_NESTING,
            shape::MAX_CHAIN
        );
        vec![finding(Some(shape::line_of(text, too_deep.offset)), reason)]
    })?;
    if starts.len() > MAX_POLICIES {
        let reason = format!("{} policies are more than the {MAX_POLICIES} that a bundle may have", starts.len());
        return Err(vec![finding(None, reason)]);
    }
    let set: PolicySet = text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        errors
            .iter()
            .map(|error| {
                let detail = DetailedError::from(error);
                finding(line_in(text, &detail), explain(&detail))
            })
            .collect::<Vec<_>>()
    })?;
    // Cedar numbers the statements of a text from 0: `policy0`, `policy1`, …
    let line = |id: &cedar_policy::PolicyId| {
        let number: Option<usize> = AsRef::<str>::as_ref(id).strip_prefix("policy").and_then(|n| n.parse().ok());
        number.and_then(|n| starts.get(n)).map(|offset| shape::line_of(text, *offset))
    };
    let template = |template: &Template| {
        finding(line(template.id()), "a template: write the principal and the resource out in the policy".to_owned())
    };
    let findings = set.templates().map(template).collect();
    let mut policies: Vec<_> = set.policies().map(|policy| (policy.clone(), line(policy.id()))).collect();
    policies.sort_by_key(|(_, line)| *line);
    Ok(Parsed { policies, findings })
}

/// Line that a diagnostic of Cedar's points at.
pub(crate) fn line_in(text: &str, detail: &DetailedError) -> Option<usize> {
    detail.source_locations.first().map(|label| shape::line_of(text, label.loc.start))
}

/// A diagnostic of Cedar's on one line.
pub(crate) fn explain(detail: &DetailedError) -> String {
    let label = detail.source_locations.first().and_then(|label| label.label.as_deref());
    let parts = [Some(detail.message.as_str()), label, detail.help.as_deref()];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What annotations may say. `@id` names; these others explain and do nothing.
pub(crate) const REMARKS: &[&str] = &["description", "reason", "owner"];

/// Obligations of the policy language that later versions will honour.
const NOT_YET_HONOURED: &[&str] = &["approvals", "approvers", "review_within", "exception"];

fn named((policy, line): (Policy, Option<usize>), file: &Path) -> Result<Rule, Vec<Finding>> {
    let finding = |reason: String| Finding { file: file.to_owned(), line, reason };
    let id = match policy.annotation("id") {
        None | Some("") => Err(finding("a policy without an @id: write @id(\"…\") before it".to_owned())),
        Some(id) => PolicyId::new(id).map_err(|error| finding(error.to_string())),
    };
    let shown = policy.annotation("id").unwrap_or_default();
    let mut findings: Vec<_> = policy
        .annotations()
        .filter_map(|(key, value)| refuse_annotation(policy.effect(), key, value))
        .map(|reason| finding(format!("policy {shown:?}: {reason}")))
        .collect();
    findings.sort();
    match id {
        Ok(id) if findings.is_empty() => Ok(Rule {
            policy: policy.new_id(cedar_policy::PolicyId::new(id.as_str())),
            accepts: policy.annotation("accepts").map(accepted).unwrap_or_default(),
            max_ttl: policy.annotation("max_ttl").and_then(|text| Ttl::parse(text).ok()),
            binding: policy.annotation("binding").and_then(Binding::parse),
            id,
            file: file.to_owned(),
            line,
        }),
        Ok(_) => Err(findings),
        Err(found) => {
            findings.push(found);
            Err(findings)
        }
    }
}

fn refuse_annotation(effect: Effect, key: &str, value: &str) -> Option<String> {
    match key {
        "id" => None,
        remark if REMARKS.contains(&remark) => None,
        "accepts" => {
            let known = accepted(value).iter().all(|code| advice::CODES.contains(&code.as_str()));
            (!known).then(|| format!("@accepts({value:?}): write what was told, some of {}", advice::CODES.join(", ")))
        }
        "max_ttl" | "binding" if effect == Effect::Forbid => {
            Some(format!("@{key} is an obligation, and a forbid gives nothing to bind: write it on the permit"))
        }
        "max_ttl" => match Ttl::parse(value) {
            Ok(Ttl::ZERO) => Some("@max_ttl(\"0\") leaves no time: write a forbid instead".to_owned()),
            Ok(_) => None,
            Err(error) => Some(format!("@max_ttl({value:?}) is {error}")),
        },
        "binding" if Binding::parse(value).is_some() => None,
        "binding" => Some(format!("@binding({value:?}) is neither @binding(\"dpop\") nor @binding(\"mtls\")")),
        obligation if NOT_YET_HONOURED.contains(&obligation) => {
            Some(format!("this version cannot honour @{obligation}, so the bundle is refused rather than weakened"))
        }
        unknown => Some(format!(
            "unknown annotation @{unknown}, which this version cannot honour; it knows @id, @max_ttl, @binding, @accepts, @{}",
            REMARKS.join(", @")
        )),
    }
}

fn accepted(codes: &str) -> Vec<String> {
    codes.split(',').map(|code| code.trim().to_owned()).collect()
}

fn repeated_ids(rules: &[Rule]) -> Vec<Finding> {
    let mut first: BTreeMap<&PolicyId, &Rule> = BTreeMap::new();
    let mut findings = Vec::new();
    for rule in rules {
        if let Some(earlier) = first.get(&rule.id) {
            let place = Finding { reason: String::new(), ..earlier.finding("") };
            findings.push(rule.finding(format!("the @id is taken by {}", place.to_string().trim_end_matches(": "))));
        } else {
            first.insert(&rule.id, rule);
        }
    }
    findings
}

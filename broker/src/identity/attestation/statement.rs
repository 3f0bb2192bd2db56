//! In-toto statements (in-toto attestation framework, `statement.md`) with the predicates that count here.

use std::collections::BTreeSet;

use hallpass_core::attestation::{MAX_TOLD, Person, Reviewed, Said};
use hallpass_core::time::Timestamp;

use crate::identity::jose::json::{Document, Json, Object};

/// SLSA Build Provenance v1.
pub const SLSA_PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// Who agreed to a change: `{commit?, plan_digest?, author?, approvers, at?}`.
pub const REVIEW: &str = "urn:hallpass:attestation:review:v1";

/// What is going to be done with a change: `{plan_digest?, commit?, author?, approvers?, at?}`; the plan is the subject.
pub const PLAN: &str = "urn:hallpass:attestation:plan:v1";

/// v1, and what v0.1 called itself: what is read here is the same in both.
const STATEMENT_TYPES: &[&str] = &["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// Longest text that is kept: it goes into decisions and grants.
const MAX_TEXT_BYTES: usize = 512;

/// What a statement says, and of when.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// Of when.
    pub at: Option<Timestamp>,
    /// What.
    pub said: Said,
}

/// Reads what was signed. The caller has verified it, and so its own words are repeated.
///
/// # Errors
/// What is wrong.
pub fn read(payload: &[u8]) -> Result<Read, String> {
    let document = Document::parse(payload).map_err(|error| format!("it is no statement: {error}"))?;
    let statement = Level { name: String::new(), members: &document.members };
    let kind = statement.required("_type")?;
    if !STATEMENT_TYPES.contains(&kind.as_str()) {
        return Err(format!("its `_type` {kind:?} is not {}", STATEMENT_TYPES.join(" or ")));
    }
    let subjects = Subjects::read(statement.members)?;
    let predicate = statement.level("predicate")?.ok_or("it has no `predicate`")?;
    let predicate_type = statement.required("predicateType")?;
    match predicate_type.as_str() {
        SLSA_PROVENANCE => provenance(&predicate, subjects),
        REVIEW => review(&predicate, &subjects),
        PLAN => plan(&predicate, &subjects),
        _ => Err(format!("its `predicateType` {predicate_type:?} is none of {SLSA_PROVENANCE}, {REVIEW} and {PLAN}")),
    }
}

/// What a statement is about, by digest.
struct Subjects {
    /// `sha256:…`
    sha256: BTreeSet<String>,
    /// Commits.
    commits: BTreeSet<String>,
}

impl Subjects {
    fn read(statement: &Object) -> Result<Self, String> {
        let Some(Json::List(subjects)) = statement.get("subject") else {
            return Err("its `subject` is no array".to_owned());
        };
        if !(1..=MAX_TOLD).contains(&subjects.len()) {
            return Err(format!("it has no `subject`, or more than {MAX_TOLD}"));
        }
        let mut read = Self { sha256: BTreeSet::new(), commits: BTreeSet::new() };
        for (at, subject) in subjects.iter().enumerate() {
            let Json::Object(members) = subject else { return Err(format!("its `subject.{at}` is no object")) };
            let digest = Level { name: format!("subject.{at}"), members }.level("digest")?;
            let digest = digest.ok_or_else(|| format!("its `subject.{at}` has no `digest`"))?;
            if let Some(hex) = digest.text("sha256")? {
                if !is_hex(&hex, &[64]) {
                    return Err(format!("its `{}.sha256` is not 64 lower-case hexadecimal digits", digest.name));
                }
                read.sha256.insert(format!("sha256:{hex}"));
            }
            read.commits.extend(commit_in(&digest)?);
        }
        Ok(read)
    }
}

fn provenance(predicate: &Level<'_>, subjects: Subjects) -> Result<Read, String> {
    let definition = predicate.level("buildDefinition")?.ok_or("it has no `predicate.buildDefinition`")?;
    let run = predicate.level("runDetails")?.ok_or("it has no `predicate.runDetails`")?;
    let builder = run.level("builder")?.ok_or("it has no `predicate.runDetails.builder`")?.required("id")?;
    // Required by SLSA, and a sign that the predicate is what its type says.
    definition.required("buildType")?;
    if subjects.sha256.is_empty() {
        return Err("none of its subjects has a `digest.sha256`".to_owned());
    }
    let at = match run.level("metadata")? {
        Some(metadata) => match metadata.time("finishedOn")? {
            Some(at) => Some(at),
            None => metadata.time("startedOn")?,
        },
        None => None,
    };
    let source = source(&definition)?;
    let (repository, commit) = source.unzip();
    Ok(Read { at, said: Said::SlsaProvenance { builder, repository, commit, subjects: subjects.sha256 } })
}

/// Where the source came from: the one dependency that is a commit of a Git repository. Where there are several, the one that
/// the build was asked for; where that does not tell either, nobody knows.
fn source(definition: &Level<'_>) -> Result<Option<(String, String)>, String> {
    let dependencies = match definition.members.get("resolvedDependencies") {
        None => return Ok(None),
        Some(Json::List(dependencies)) => dependencies,
        Some(_) => return Err(format!("its `{}.resolvedDependencies` is no array", definition.name)),
    };
    let mut sources = BTreeSet::new();
    for (at, dependency) in dependencies.iter().enumerate() {
        let name = format!("{}.resolvedDependencies.{at}", definition.name);
        let Json::Object(members) = dependency else { return Err(format!("its `{name}` is no object")) };
        let dependency = Level { name, members };
        let (Some(uri), Some(digest)) = (dependency.text("uri")?, dependency.level("digest")?) else { continue };
        let Some(repository) = uri.strip_prefix("git+").and_then(without_reference) else { continue };
        if let Some(commit) = commit_in(&digest)? {
            sources.insert((repository, commit));
        }
    }
    if sources.len() > 1 {
        // As `https://actions.github.io/buildtypes/workflow/v1` has it.
        let asked = match definition.level("externalParameters")? {
            Some(parameters) => match parameters.level("workflow")? {
                Some(workflow) => workflow.text("repository")?,
                None => None,
            },
            None => None,
        };
        sources.retain(|(repository, _)| Some(repository) == asked.as_ref());
    }
    Ok(if sources.len() == 1 { sources.pop_first() } else { None })
}

/// `https://host/owner/name@refs/heads/main` → `https://host/owner/name`. An `@` before the path is somebody's name.
fn without_reference(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let path = path.split('@').next().unwrap_or_default();
    Some(format!("{scheme}://{host}/{path}"))
}

fn review(predicate: &Level<'_>, subjects: &Subjects) -> Result<Read, String> {
    let told = reviewed(predicate)?;
    if told.approvers.is_empty() {
        return Err("its `predicate.approvers` names nobody".to_owned());
    }
    let about_commit = told.commit.as_ref().is_some_and(|commit| subjects.commits.contains(commit));
    let about_plan = told.plan_digest.as_ref().is_some_and(|plan| subjects.sha256.contains(plan));
    if !about_commit && !about_plan {
        let what = "`predicate.commit` as `digest.gitCommit`, or its `predicate.plan_digest` as `digest.sha256`";
        return Err(format!("no subject of it has its {what}"));
    }
    Ok(Read { at: predicate.time("at")?, said: Said::Review(told) })
}

fn plan(predicate: &Level<'_>, subjects: &Subjects) -> Result<Read, String> {
    let mut told = reviewed(predicate)?;
    let plan = match (&told.plan_digest, subjects.sha256.len()) {
        (Some(named), _) if !subjects.sha256.contains(named) => {
            return Err("no subject of it has its `predicate.plan_digest` as `digest.sha256`".to_owned());
        }
        (Some(named), _) => Some(named.clone()),
        (None, 1) => subjects.sha256.first().cloned(),
        (None, _) => return Err("name the plan in `predicate.plan_digest`, or as the one subject".to_owned()),
    };
    told.plan_digest = plan;
    Ok(Read { at: predicate.time("at")?, said: Said::Plan(told) })
}

/// The members that reviews and plans have in common. Any other is a mistake: both predicates are this broker's own.
fn reviewed(predicate: &Level<'_>) -> Result<Reviewed, String> {
    const KNOWN: &[&str] = &["commit", "plan_digest", "author", "approvers", "at"];
    if let Some(name) = predicate.members.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("its predicate has {name:?}, and only {} are known", KNOWN.join(", ")));
    }
    let commit = predicate.text("commit")?;
    if commit.as_ref().is_some_and(|commit| !is_hex(commit, &[40, 64])) {
        return Err("its `predicate.commit` is no whole commit: 40 or 64 lower-case hexadecimal digits".to_owned());
    }
    let plan_digest = predicate.text("plan_digest")?;
    let is_digest = |digest: &String| digest.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, &[64]));
    if plan_digest.as_ref().is_some_and(|digest| !is_digest(digest)) {
        return Err("its `predicate.plan_digest` is not `sha256:` and 64 lower-case hexadecimal digits".to_owned());
    }
    let author = predicate.level("author")?.map(|author| person(&author)).transpose()?;
    let approvers = match predicate.members.get("approvers") {
        None => Vec::new(),
        Some(Json::List(approvers)) if approvers.len() <= MAX_TOLD => {
            let one = |(at, approver): (usize, &Json)| {
                let name = format!("predicate.approvers.{at}");
                let Json::Object(members) = approver else { return Err(format!("its `{name}` is no object")) };
                person(&Level { name, members })
            };
            approvers.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return Err(format!("its `predicate.approvers` is no array of at most {MAX_TOLD}")),
    };
    Ok(Reviewed { commit, author, approvers, plan_digest })
}

/// `{"account": "github:1234567"}` or `{"identity": "<issuer>:<subject>"}`.
fn person(level: &Level<'_>) -> Result<Person, String> {
    let found = match (level.members.len(), level.text("account")?, level.text("identity")?) {
        (1, Some(account), None) => Some(Person::Account(account)),
        (1, None, Some(identity)) => Some(Person::Identity(identity)),
        _ => None,
    };
    let has_both_parts = |person: &Person| {
        person.as_str().split_once(':').is_some_and(|(one, other)| !one.is_empty() && !other.is_empty())
    };
    found.filter(has_both_parts).ok_or_else(|| {
        let name = &level.name;
        format!("its `{name}` is neither {{\"account\": \"<host>:<id>\"}} nor {{\"identity\": \"<issuer>:<subject>\"}}")
    })
}

/// The commit of a digest set: `gitCommit`, which some still call `sha1`.
fn commit_in(digest: &Level<'_>) -> Result<Option<String>, String> {
    let commit = match digest.text("gitCommit")? {
        Some(commit) => Some(commit),
        None => digest.text("sha1")?,
    };
    match commit {
        Some(commit) if !is_hex(&commit, &[40, 64]) => {
            Err(format!("its `{}` has no whole commit: 40 or 64 lower-case hexadecimal digits", digest.name))
        }
        commit => Ok(commit),
    }
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// An object somewhere in a statement.
struct Level<'a> {
    name: String,
    members: &'a Object,
}

impl<'a> Level<'a> {
    fn path(&self, member: &str) -> String {
        if self.name.is_empty() { member.to_owned() } else { format!("{}.{member}", self.name) }
    }

    fn level(&self, member: &str) -> Result<Option<Level<'a>>, String> {
        match self.members.get(member) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(members)) => Ok(Some(Level { name: self.path(member), members })),
            Some(_) => Err(format!("its `{}` is no object", self.path(member))),
        }
    }

    /// A text that can be kept and told.
    fn text(&self, member: &str) -> Result<Option<String>, String> {
        match self.members.get(member) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Text(text))
                if !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control) =>
            {
                Ok(Some(text.clone()))
            }
            Some(_) => {
                let path = self.path(member);
                Err(format!("its `{path}` is no line of 1 to {MAX_TEXT_BYTES} bytes"))
            }
        }
    }

    fn required(&self, member: &str) -> Result<String, String> {
        self.text(member)?.ok_or_else(|| format!("it has no `{}`", self.path(member)))
    }

    fn time(&self, member: &str) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.text(member)? else { return Ok(None) };
        let parsed = Timestamp::parse_rfc3339(&text);
        parsed.map(Some).map_err(|_| format!("its `{}` is no time such as 2026-01-31T12:00:00Z", self.path(member)))
    }
}

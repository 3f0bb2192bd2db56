//! What a kind of issuer says of its workloads: each claim, its type, whether it lasts, and what it fills.
//!
//! The invariant: a claim of a profile has the type that the profile gives it, or the proof is refused; and what the
//! kind always says is always there. Nothing is converted but what a profile declares, such as GitLab's truth in
//! quotes. The tables are the documentation, too: it is held against them.

#[cfg(test)]
mod tests;

use hallpass_core::error::{Reason, Refusal};
use hallpass_core::identity::{AttributeValue, Attributes};
use hallpass_core::provenance::Provenance;

use super::jose::json::{Json, Object};
use super::oidc::{fill, texts};
use super::{buildkite, circleci, github_actions, gitlab, google, kubernetes, terraform_cloud};
use crate::config::issuer::IssuerKind;

/// What a kind of issuer says.
#[derive(Debug)]
pub struct Profile {
    /// The kind.
    pub kind: IssuerKind,
    /// The name of its typed attributes in policy: `principal.github`.
    pub record: &'static str,
    /// Where the issuer documents its claims.
    pub source: &'static str,
    /// Its claims beside those of RFC 7519 §4.1.
    pub claims: &'static [Claim],
    /// What tells the runs of a workload apart: a grant is held by the run that opened it.
    pub runs: &'static str,
    /// Whether its proofs have an id (`jti`). Those of a kind that gives none are told apart by what they say.
    pub has_proof_ids: bool,
    /// Holds claims against each other, and adds what follows from several.
    check: fn(&mut Described<'_>) -> Result<(), Refusal>,
}

impl Profile {
    /// Every profile.
    pub const ALL: &'static [&'static Self] = &[
        &github_actions::PROFILE,
        &gitlab::PROFILE,
        &kubernetes::PROFILE,
        &buildkite::PROFILE,
        &circleci::PROFILE,
        &terraform_cloud::PROFILE,
        &google::PROFILE,
    ];

    /// The profile of a kind, where it has one.
    #[must_use]
    pub fn of(kind: IssuerKind) -> Option<&'static Self> {
        Self::ALL.iter().copied().find(|profile| profile.kind == kind)
    }

    pub(super) const fn new(
        kind: IssuerKind,
        record: &'static str,
        source: &'static str,
        claims: &'static [Claim],
        runs: &'static str,
        check: fn(&mut Described<'_>) -> Result<(), Refusal>,
    ) -> Self {
        Self { kind, record, source, claims, runs, has_proof_ids: true, check }
    }

    /// The same of a kind whose proofs have no id.
    pub(super) const fn without_proof_ids(self) -> Self {
        Self { has_proof_ids: false, ..self }
    }

    /// Puts the typed attributes of `claims` among `attributes`, and gives the provenance.
    pub(super) fn describe(
        &self,
        subject: &str,
        claims: &Object,
        attributes: &mut Attributes,
    ) -> Result<Provenance, Refusal> {
        // What an attribute is called belongs to the claim that it is made of, whatever else is called so.
        attributes.retain(|name, _| !self.claims.iter().any(|claim| claim.attribute == name));
        let mut provenance = Provenance::default();
        for claim in self.claims {
            if let Some(value) = claim.read(claims)? {
                if let Some(field) = claim.fills {
                    fill(&mut provenance, field, &value);
                }
                attributes.insert(claim.attribute.to_owned(), value);
            }
        }
        let mut described = Described { subject, attributes, provenance };
        (self.check)(&mut described)?;
        Ok(described.provenance)
    }
}

/// A proof whose claims have their types.
pub(super) struct Described<'a> {
    /// `sub`.
    pub(super) subject: &'a str,
    attributes: &'a mut Attributes,
    pub(super) provenance: Provenance,
}

impl Described<'_> {
    /// A textual attribute.
    pub(super) fn text(&self, attribute: &str) -> Option<&str> {
        match self.attributes.get(attribute) {
            Some(AttributeValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// An attribute that is a whole number.
    pub(super) fn number(&self, attribute: &str) -> Option<i64> {
        match self.attributes.get(attribute) {
            Some(AttributeValue::Long(number)) => Some(*number),
            _ => None,
        }
    }

    /// An attribute that is true or false.
    pub(super) fn truth(&self, attribute: &str) -> Option<bool> {
        match self.attributes.get(attribute) {
            Some(AttributeValue::Bool(truth)) => Some(*truth),
            _ => None,
        }
    }
}

/// One claim of a kind of issuer.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its name; of one within others, the names on the way there.
    pub path: &'static [&'static str],
    /// What it is called in policy.
    pub attribute: &'static str,
    /// Its type.
    pub shape: Shape,
    /// Whether the issuer always says it.
    pub always: bool,
    /// How long it stays true.
    pub constancy: Constancy,
    /// The field of the provenance that it fills, by wire name.
    pub fills: Option<&'static str>,
    /// What to know before a policy is bound to it.
    pub advice: &'static str,
}

/// The type of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string. One that is empty says nothing.
    Text,
    /// `true` or `false`, also in quotes.
    Truth,
    /// A whole number.
    Number,
    /// Strings.
    Texts,
}

impl Shape {
    /// The type in policy.
    #[must_use]
    pub const fn in_policy(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Truth => "Bool",
            Self::Number => "Long",
            Self::Texts => "Set<String>",
        }
    }
}

/// How long a claim stays true of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constancy {
    /// It is never changed and never given to another: bind to it.
    Immutable,
    /// It can be changed, and then given to another.
    Reusable,
    /// It is true of this run.
    OfTheRun,
    /// Whoever can push a branch, open a pull request or start a run chooses it: never the only thing to bind to.
    Chosen,
}

impl Constancy {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Immutable => "never changes",
            Self::Reusable => "can be given to another",
            Self::OfTheRun => "of the run",
            Self::Chosen => "chosen by whoever starts it",
        }
    }
}

/// A claim that is a string of the run.
pub(super) const fn text(path: &'static [&'static str], attribute: &'static str) -> Claim {
    let (shape, constancy) = (Shape::Text, Constancy::OfTheRun);
    Claim { path, attribute, shape, always: false, constancy, fills: None, advice: "" }
}

/// A claim that is true or false.
pub(super) const fn truth(path: &'static [&'static str], attribute: &'static str) -> Claim {
    Claim { shape: Shape::Truth, ..text(path, attribute) }
}

/// A claim that is a whole number.
pub(super) const fn number(path: &'static [&'static str], attribute: &'static str) -> Claim {
    Claim { shape: Shape::Number, ..text(path, attribute) }
}

/// A claim that is a list of strings.
pub(super) const fn list(path: &'static [&'static str], attribute: &'static str) -> Claim {
    Claim { shape: Shape::Texts, ..text(path, attribute) }
}

impl Claim {
    /// It is always there.
    pub(super) const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// It never changes.
    pub(super) const fn immutable(self) -> Self {
        Self { constancy: Constancy::Immutable, ..self }
    }

    /// It can be changed, and given to another.
    pub(super) const fn reusable(self) -> Self {
        Self { constancy: Constancy::Reusable, ..self }
    }

    /// Whoever starts the run chooses it.
    pub(super) const fn chosen(self) -> Self {
        Self { constancy: Constancy::Chosen, ..self }
    }

    /// It fills this field of the provenance, unless an earlier claim has.
    pub(super) const fn fills(self, field: &'static str) -> Self {
        Self { fills: Some(field), ..self }
    }

    /// What to know of it.
    pub(super) const fn says(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }

    /// Its name as written in a proof, with dots on the way.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.join(".")
    }

    fn read(&self, claims: &Object) -> Result<Option<AttributeValue>, Refusal> {
        let value = match self.find(claims)? {
            None | Some(Json::Null) => None,
            Some(Json::Text(text)) if text.is_empty() => None,
            Some(value) => Some(self.typed(value).ok_or_else(|| self.malformed())?),
        };
        match value {
            None if self.always => {
                let detail = format!("the proof has no `{}`, which its issuer always says", self.name());
                Err(Refusal::proof(Reason::MissingClaim, detail).about(self.name()))
            }
            value => Ok(value),
        }
    }

    fn find<'a>(&self, claims: &'a Object) -> Result<Option<&'a Json>, Refusal> {
        let Some((first, rest)) = self.path.split_first() else { return Ok(None) };
        let mut found = claims.get(*first);
        for name in rest {
            found = match found {
                None | Some(Json::Null) => return Ok(None),
                Some(Json::Object(members)) => members.get(*name),
                Some(_) => return Err(self.malformed()),
            };
        }
        Ok(found)
    }

    fn typed(&self, value: &Json) -> Option<AttributeValue> {
        match (self.shape, value) {
            (Shape::Text, Json::Text(text)) => Some(AttributeValue::Text(text.clone())),
            (Shape::Truth, Json::Bool(truth)) => Some(AttributeValue::Bool(*truth)),
            (Shape::Truth, Json::Text(text)) => text.parse().ok().map(AttributeValue::Bool),
            (Shape::Number, Json::Unsigned(number)) => i64::try_from(*number).ok().map(AttributeValue::Long),
            (Shape::Number, Json::Negative(number)) => Some(AttributeValue::Long(*number)),
            (Shape::Texts, Json::List(list)) => texts(list).map(AttributeValue::List),
            _ => None,
        }
    }

    fn malformed(&self) -> Refusal {
        let what = match self.shape {
            Shape::Text => "a string",
            Shape::Truth => "true or false",
            Shape::Number => "a whole number",
            Shape::Texts => "a list of strings",
        };
        let detail = format!("`{}` is not {what}", self.name());
        Refusal::proof(Reason::MalformedClaims, detail).about(self.name())
    }
}

/// Two claims of one issuer that contradict each other: one of them is not what it seems, and policies match on either.
pub(super) fn conflict(claim: &str, said: &str, other: &str, says: &str) -> Refusal {
    let detail = format!("`{claim}` says {said:?}, `{other}` says {says:?}");
    Refusal::proof(Reason::ClaimConflict, detail).about(claim)
}

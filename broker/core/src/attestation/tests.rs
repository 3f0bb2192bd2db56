//! What statements come to together, and who is known to be somebody else.

use std::sync::Arc;

use super::*;
use crate::identity::Shown;
use crate::owner::{Member, Owner};
use crate::testing::sample;
use crate::testing::sample::NOW;

fn person(name: &str) -> Person {
    if name.starts_with("github:") || name.starts_with("gitlab:") {
        Person::Account(name.to_owned())
    } else {
        Person::Identity(name.to_owned())
    }
}

fn vouched(digit: &str, said: Said) -> Vouched {
    let statement = Statement {
        digest: format!("sha256:{}", digit.repeat(64)),
        attestor: AttestorName::new("reviews").unwrap(),
        at: None,
        said,
    };
    Vouched { statement, accounts_of: accounts_of(&["github", "gitlab"]) }
}

/// `ci` knows the accounts of the first; nobody those of the others.
fn accounts_of(hosts: &[&str]) -> AccountsOf {
    let issuers = |at: usize| if at == 0 { vec![IssuerName::new("ci").unwrap()] } else { Vec::new() };
    hosts.iter().enumerate().map(|(at, host)| ((*host).to_owned(), issuers(at))).collect()
}

fn review(author: &str, approver: &str) -> Reviewed {
    Reviewed {
        commit: sample::provenance().commit,
        author: Some(person(author)),
        approvers: vec![person(approver)],
        plan_digest: None,
    }
}

/// Somebody of issuer `ci` whose proof names this account.
fn asker(account: Option<&str>) -> VerifiedIdentity {
    let mut proof = sample::proof("repo:acme/app", "jti");
    proof.provenance.actor_id = account.map(str::to_owned);
    VerifiedIdentity::accept(proof, Shown::default(), None, NOW).unwrap()
}

fn is_independent(reviewed: Reviewed, askers: &[&VerifiedIdentity], catalog: &Catalog) -> bool {
    let attested = Attested::weigh(&[vouched("a", Said::Review(reviewed))], askers, catalog).unwrap();
    attested.change.unwrap().independent
}

/// A member: an identity, and the accounts that are the same person's.
type Listed = (&'static str, &'static [&'static str]);

/// A catalog whose owners say this of their members.
fn owners_say(members: &[Listed]) -> Catalog {
    let member = |(identity, accounts): &Listed| {
        let (issuer, subject) = identity.split_once(':').unwrap();
        Member {
            issuer: IssuerName::new(issuer).unwrap(),
            subject: subject.to_owned(),
            accounts: accounts.iter().map(|account| (*account).to_owned()).collect(),
        }
    };
    let owner = Owner { members: members.iter().map(member).collect(), ..sample::owner() };
    Catalog { owners: [(owner.name.clone(), Arc::new(owner))].into(), ..Catalog::default() }
}

const ADA: Listed = ("people:ada", &["github:1", "gitlab:1"]);
const BOB: Listed = ("people:bob", &["github:2", "gitlab:2"]);
const CAROL: Listed = ("people:carol", &["github:3"]);

#[test]
fn independent_is_who_is_known_to_be_neither_author_nor_approver() {
    let house = owners_say(&[ADA, BOB, CAROL]);
    let told = || review("github:1", "github:2");
    for (account, expected) in [(Some("3"), true), (Some("1"), false), (Some("2"), false), (None, false)] {
        assert_eq!(is_independent(told(), &[&asker(account)], &house), expected, "{account:?}");
    }
    // Everybody who asks: for whom, and by whom.
    let (one, author, unknown) = (asker(Some("3")), asker(Some("1")), asker(None));
    assert!(is_independent(told(), &[&one, &one], &house));
    for other in [&author, &unknown] {
        assert!(!is_independent(told(), &[&one, other], &house));
        assert!(!is_independent(told(), &[other, &one], &house));
    }
    // There is nothing to be independent of where nobody made it, or nobody agreed.
    assert!(!is_independent(Reviewed { author: None, ..told() }, &[&one], &house));
    assert!(!is_independent(Reviewed { approvers: Vec::new(), ..told() }, &[&one], &house));
    // Whoever made it did not approve it alone, by any name.
    for approver in ["github:1", "people:ada", "github:9"] {
        assert!(!is_independent(review("github:1", approver), &[&one], &house), "{approver}");
    }
    let approvers = vec![Person::Account("github:1".to_owned()), Person::Account("github:2".to_owned())];
    assert!(is_independent(Reviewed { approvers, ..told() }, &[&one], &house), "nor did it need to stay out");
    // Subjects of one issuer are told apart; those of different ones are not, without an account of both.
    let other: Listed = ("ci:repo:acme/other", &["github:5"]);
    let dan: Listed = ("people:dan", &[]);
    let by_identity = |author: &str, asker: &VerifiedIdentity| {
        let house = owners_say(&[BOB, CAROL, other, dan, ("ci:repo:acme/app", &["github:4"])]);
        is_independent(review(author, "github:2"), &[asker], &house)
    };
    assert!(by_identity("ci:repo:acme/other", &unknown));
    assert!(!by_identity("ci:repo:acme/app", &unknown));
    assert!(!by_identity("people:dan", &unknown), "nobody knows whether that is the same person");
    assert!(by_identity("people:dan", &one), "carol is known to those people, too");
}

#[test]
fn nobody_is_independent_whom_owners_do_not_know() {
    let told = || review("github:1", "github:2");
    let (carol, bot, nameless) = (asker(Some("3")), asker(Some("41898282")), asker(None));
    let house = owners_say(&[ADA, BOB, CAROL]);
    assert!(is_independent(told(), &[&carol], &house));
    assert!(!is_independent(told(), &[&carol], &Catalog::default()), "nobody knows any of them");
    for strangers in [[BOB, CAROL], [ADA, CAROL], [ADA, BOB]] {
        assert!(!is_independent(told(), &[&carol], &owners_say(&strangers)), "{strangers:?}");
    }
    // An account that is nobody's, in a job that is somebody's: it began the job.
    assert!(!is_independent(told(), &[&bot], &house));
    let job: Listed = ("ci:repo:acme/app", &["github:3"]);
    let with_job = owners_say(&[ADA, BOB, job]);
    assert!(is_independent(told(), &[&nameless], &with_job));
    assert!(is_independent(told(), &[&carol], &with_job));
    assert!(!is_independent(told(), &[&bot], &with_job));
    // And one that is nobody's for an author.
    assert!(!is_independent(review("github:1009", "github:2"), &[&carol], &house));
    assert!(!is_independent(review("people:mallory", "github:2"), &[&carol], &house));
}

#[test]
fn all_accounts_of_a_person_are_that_person() {
    let told = || review("github:1", "github:2");
    let twice: Listed = ("people:ada", &["github:1", "github:1009"]);
    let (second, carol) = (asker(Some("1009")), asker(Some("3")));
    let house = owners_say(&[twice, BOB, CAROL]);
    assert!(!is_independent(told(), &[&second], &house));
    assert!(!is_independent(review("github:1009", "github:2"), &[&asker(Some("1"))], &house));
    assert!(!is_independent(review("people:ada", "github:2"), &[&second], &house));
    assert!(!is_independent(review("github:3", "github:1"), &[&second], &house), "nor has one approved with the other");
    assert!(is_independent(told(), &[&carol], &house), "the control");
    // By two members that have an account in common, and in whatever order they stand.
    let (one, other): (Listed, Listed) =
        (("people:ada", &["github:1", "gitlab:1"]), ("sso:ada", &["github:1009", "gitlab:1"]));
    for members in [[one, other, BOB, CAROL], [other, CAROL, BOB, one]] {
        let house = owners_say(&members);
        assert!(!is_independent(told(), &[&second], &house));
        assert!(!is_independent(review("sso:ada", "github:2"), &[&asker(Some("1"))], &house));
        assert!(is_independent(told(), &[&carol], &house), "the control");
    }
    // Two people with an account each: the control of both.
    let apart = owners_say(&[ADA, ("people:eve", &["github:1009"]), BOB]);
    assert!(is_independent(told(), &[&second], &apart));
}

#[test]
fn what_owners_say_of_their_members_tells_who_is_whom() {
    let told = |author: &str| review(author, "github:2");
    let nameless = asker(None);
    let linked = owners_say(&[ADA, BOB, ("ci:repo:acme/app", &["github:3"]), ("people:eve", &["gitlab:5"])]);
    assert!(is_independent(told("github:1"), &[&nameless], &linked));
    assert!(!is_independent(told("github:3"), &[&nameless], &linked));
    assert!(!is_independent(told("gitlab:5"), &[&nameless], &linked), "an account of another host tells nothing");
    // The author by an identity whose account the asker's proof names.
    let author = owners_say(&[("ci:repo:acme/author", &["github:1"]), BOB, CAROL]);
    assert!(!is_independent(told("ci:repo:acme/author"), &[&asker(Some("1"))], &author));
    assert!(is_independent(told("ci:repo:acme/author"), &[&asker(Some("3"))], &author));
}

#[test]
fn an_attestor_speaks_of_the_accounts_of_its_own_hosts_alone() {
    let asker = asker(Some("3"));
    let house = owners_say(&[
        ADA,
        BOB,
        CAROL,
        ("people:eve", &["gitlab:3"]),
        ("sso:fay", &["gitlab:6"]),
        ("ci:repo:acme/app", &[]),
        ("ci:repo:acme/other", &[]),
        ("ci:repo:acme/another", &[]),
    ]);
    let weigh = |hosts: &[&str], author: &str, approver: &str| {
        let vouched =
            Vouched { accounts_of: accounts_of(hosts), ..vouched("a", Said::Review(review(author, approver))) };
        let attested = Attested::weigh(&[vouched], &[&asker], &house);
        attested.map(|attested| attested.change.unwrap().independent).map_err(|refusal| refusal.reason)
    };
    assert_eq!(weigh(&["github"], "github:1", "github:2"), Ok(true));
    for (author, approver) in [("gitlab:1", "github:2"), ("github:1", "gitlab:2"), ("gitlab:1", "gitlab:2")] {
        assert_eq!(weigh(&["github"], author, approver), Err(Reason::BadAttestation), "{author} {approver}");
    }
    assert_eq!(weigh(&[], "github:1", "github:2"), Err(Reason::BadAttestation));
    assert_eq!(weigh(&[], "ci:repo:acme/other", "ci:repo:acme/another"), Ok(true), "identities are no host's");
    // It may name them, and the asker's number is another host's: whether they are the same nobody knows.
    assert_eq!(weigh(&["github", "gitlab"], "gitlab:6", "github:2"), Ok(false));
    assert_eq!(weigh(&["github", "gitlab"], "gitlab:1", "github:2"), Ok(true), "owners tell those people apart");
    assert_eq!(weigh(&["gitlab", "github"], "gitlab:1", "gitlab:2"), Ok(true));
    assert_eq!(weigh(&["gitlab", "github"], "gitlab:3", "gitlab:2"), Ok(false));
}

#[test]
fn every_review_names_the_plan_and_the_author_or_none_counts_as_one_that_does() {
    let house = owners_say(&[ADA, BOB, CAROL]);
    let plan_digest = || Some(format!("sha256:{}", "5".repeat(64)));
    let weigh = |reviews: &[&dyn Fn(&mut Reviewed)]| {
        let reviewed = |change: &&dyn Fn(&mut Reviewed)| {
            let mut reviewed = Reviewed { plan_digest: plan_digest(), ..review("github:1", "github:2") };
            change(&mut reviewed);
            Said::Review(reviewed)
        };
        let plan = Said::Plan(Reviewed {
            plan_digest: plan_digest(),
            author: Some(person("github:1")),
            ..Reviewed::default()
        });
        let said = reviews.iter().map(reviewed).chain([plan]);
        let offered: Vec<_> = said.zip(["a", "b", "c"]).map(|(said, digit)| vouched(digit, said)).collect();
        let change = Attested::weigh(&offered, &[&asker(Some("3"))], &house).unwrap().change.unwrap();
        (change.plan_reviewed, change.independent)
    };
    let whole = |_: &mut Reviewed| {};
    let of_no_plan = |reviewed: &mut Reviewed| reviewed.plan_digest = None;
    let of_nobodys = |reviewed: &mut Reviewed| reviewed.author = None;
    assert_eq!(weigh(&[&whole]), (true, true));
    assert_eq!(weigh(&[&whole, &|reviewed| reviewed.approvers.push(person("github:1"))]), (true, true));
    assert_eq!(weigh(&[]), (false, false), "nobody agreed");
    for reviews in [[&of_no_plan as &dyn Fn(&mut Reviewed), &whole], [&whole, &of_no_plan]] {
        assert_eq!(weigh(&reviews), (false, true));
    }
    for reviews in [[&of_nobodys as &dyn Fn(&mut Reviewed), &whole], [&whole, &of_nobodys]] {
        assert_eq!(weigh(&reviews), (true, false));
    }
}

#[test]
fn a_review_is_of_the_commit_of_the_proof_or_of_the_plan_that_is_offered() {
    let plan_digest = Some(format!("sha256:{}", "5".repeat(64)));
    let of_plan = Reviewed { commit: None, plan_digest: plan_digest.clone(), ..review("github:1", "github:2") };
    let of_plan = vouched("a", Said::Review(of_plan));
    let of_commit = vouched("b", Said::Review(review("github:1", "github:2")));
    let plan = vouched("c", Said::Plan(Reviewed { plan_digest, ..Reviewed::default() }));
    let weigh = |offered: &[&Vouched], asker: &VerifiedIdentity| {
        let offered: Vec<_> = offered.iter().map(|offered| (*offered).clone()).collect();
        let attested = Attested::weigh(&offered, &[asker], &Catalog::default());
        attested.map(|attested| attested.change.unwrap().commit).map_err(|refusal| (refusal.reason, refusal.detail))
    };
    let named = sample::provenance().commit;
    let job = asker(None);
    assert_eq!(weigh(&[&of_commit], &job), Ok(named.clone()));
    assert_eq!(weigh(&[&of_plan, &plan], &job), Ok(None));
    assert_eq!(weigh(&[&plan, &of_plan], &job), Ok(None));
    assert_eq!(weigh(&[&of_plan, &of_commit, &plan], &job), Ok(named.clone()));
    for (offered, place) in [(vec![&of_plan], 0), (vec![&of_commit, &of_plan], 1)] {
        let (reason, detail) = weigh(&offered, &job).unwrap_err();
        assert_eq!(reason, Reason::AttestationMismatch);
        assert!(detail.contains(&format!("`attestations.{place}`")), "{detail}");
        assert!(detail.contains(named.as_deref().unwrap()), "what would be right: {detail}");
    }
    // A proof that has no commit is of nothing that a review could name: policy may ask for one.
    let mut proof = sample::proof("repo:acme/app", "jti");
    proof.provenance.commit = None;
    let silent = VerifiedIdentity::accept(proof, Shown::default(), None, NOW).unwrap();
    assert_eq!(weigh(&[&of_plan], &silent), Ok(None));
    assert_eq!(weigh(&[&of_commit], &silent), Ok(named));
}

#[test]
fn the_commit_of_a_change_is_never_that_of_a_build() {
    let commit = sample::provenance().commit;
    let build = vouched(
        "a",
        Said::SlsaProvenance {
            builder: "https://builder.test".to_owned(),
            repository: None,
            commit: commit.clone(),
            subjects: [format!("sha256:{}", "7".repeat(64))].into(),
        },
    );
    let plan = |commit: Option<String>| {
        let plan_digest = Some(format!("sha256:{}", "5".repeat(64)));
        vouched("b", Said::Plan(Reviewed { commit, plan_digest, ..Reviewed::default() }))
    };
    let weigh = |offered: &[Vouched]| {
        let attested = Attested::weigh(offered, &[&asker(None)], &Catalog::default()).unwrap();
        (attested.build.unwrap().commit, attested.change.unwrap().commit)
    };
    assert_eq!(weigh(&[build.clone(), plan(None)]), (commit.clone(), None));
    assert_eq!(weigh(&[plan(None), build.clone()]), (commit.clone(), None));
    assert_eq!(weigh(&[build, plan(commit.clone())]), (commit.clone(), commit));
}

#[test]
fn statements_about_different_things_are_refused_together() {
    let weigh = |offered: &[Vouched]| {
        Attested::weigh(offered, &[&asker(Some("3"))], &Catalog::default()).map_err(|refusal| refusal.parameter)
    };
    let plan = |digit: &str, of: &str| {
        let plan_digest = Some(format!("sha256:{}", of.repeat(64)));
        vouched(digit, Said::Plan(Reviewed { plan_digest, ..Reviewed::default() }))
    };
    let told = |change: &dyn Fn(&mut Reviewed)| {
        let mut reviewed = review("github:1", "github:2");
        change(&mut reviewed);
        vouched("b", Said::Review(reviewed))
    };
    let first = vouched("a", Said::Review(review("github:1", "github:2")));
    let more = told(&|reviewed| reviewed.approvers = vec![person("github:9")]);
    let both = weigh(&[first.clone(), more, plan("c", "5")]).unwrap();
    let change = both.change.unwrap();
    assert_eq!((change.approvers.len(), change.plan_reviewed), (2, false), "no review names the plan");
    let second = Err(Some("attestations.1".to_owned()));
    let refused = |offered: Vouched| weigh(&[first.clone(), offered]).map(drop);
    assert_eq!(refused(first.clone()), second);
    assert_eq!(refused(told(&|reviewed| reviewed.author = Some(person("github:9")))), second);
    assert_eq!(refused(told(&|reviewed| reviewed.commit = Some("1".repeat(40)))), second, "the proof has another");
    assert_eq!(weigh(&[plan("a", "5"), plan("b", "5")]).map(drop), second);
    let reviewed = told(&|reviewed| reviewed.plan_digest = Some(format!("sha256:{}", "6".repeat(64))));
    assert_eq!(weigh(&[plan("a", "5"), reviewed]).map(drop), second);
    // Where the proof says nothing, statements still have to agree.
    let mut proof = sample::proof("repo:acme/app", "jti");
    proof.provenance.commit = None;
    let silent = VerifiedIdentity::accept(proof, Shown::default(), None, NOW).unwrap();
    let other = told(&|reviewed| reviewed.commit = Some("1".repeat(40)));
    assert!(Attested::weigh(&[first, other], &[&silent], &Catalog::default()).is_err());
}

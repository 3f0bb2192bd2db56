//! Promises 2, 5 and 8 where an older copy of the store is gone on from: in one commit, once, and nothing is believed of
//! what came after the copy.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hallpass_core::audit::AuditAction;
use hallpass_core::error::Reason;
use hallpass_core::grant::StateName;
use hallpass_core::port::{Anchor, AnchorFailed, AuditLog as _, RevocationStore as _};
use hallpass_core::service::{Accepted, Accepting, Evidence, Live, NotAccepted, inspect, open};
use hallpass_core::testing::{Nature, StoreFault, World, Write, sample};
use hallpass_core::time::Ttl;
use hallpass_core::work::checkpoint;

use crate::lab::{Lab, in_no_time};

/// A place for a checkpoint.
#[derive(Default)]
struct Beside(Mutex<Option<String>>);

#[async_trait]
impl Anchor for Beside {
    async fn read(&self) -> Result<Option<String>, AnchorFailed> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn keep(&self, note: &str) -> Result<(), AnchorFailed> {
        *self.0.lock().unwrap() = Some(note.to_owned());
        Ok(())
    }
}

/// A store, and the place for its checkpoint, where there is none.
struct Copy {
    lab: Lab,
    beside: Arc<Beside>,
    evidence: Evidence,
}

impl Copy {
    fn new(nature: Nature) -> Self {
        let (lab, beside) = (Lab::new(nature), Arc::new(Beside::default()));
        let evidence =
            Evidence { anchor: Some(Arc::clone(&beside) as Arc<dyn Anchor>), ..(*lab.ports.evidence).clone() };
        Self { lab, beside, evidence }
    }

    async fn accept(&self, live: Live) -> Result<Accepted, NotAccepted> {
        self.accept_by(Some(live)).await
    }

    async fn accept_by(&self, live: Option<Live>) -> Result<Accepted, NotAccepted> {
        let fresh = self.lab.ports.fresh_id().unwrap();
        let now = self.lab.ports.now();
        let asked = Accepting { reason: "the disk was lost", live, fresh, now };
        self.evidence.accept(self.lab.ports.store.as_ref(), &asked).await
    }

    fn is_kept(&self) -> bool {
        self.beside.0.lock().unwrap().is_some()
    }

    async fn told(&self, action: AuditAction) -> usize {
        self.lab.log().await.iter().filter(|one| one.entry.action == action).count()
    }
}

#[test]
fn promise_8_a_copy_is_gone_on_from_in_one_commit_whenever_accepting_it_is_broken_off() {
    in_no_time(async {
        for nature in [Nature::hard(), Nature::local()] {
            let copy = Copy::new(nature);
            let lab = &copy.lab;
            let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let before = lab.log().await.len();
            let live = async || lab.store.in_force().is_live(&lab.grant(id).await, lab.ports.now());

            copy.accept(Live::Ended).await.unwrap();
            assert!(!live().await, "what the copy held live has ended with the answer");
            assert!(copy.is_kept());
            assert_eq!((copy.told(AuditAction::AuditAccept).await, lab.log().await.len()), (1, before + 2));
            assert!(
                matches!(copy.accept(Live::Ended).await, Err(NotAccepted::Kept)),
                "the log is the one that was signed"
            );
            lab.settle().await;
            assert!(lab.grant(id).await.state_name().is_final());
            assert_eq!(copy.told(AuditAction::RevocationComplete).await, 1);

            // Broken off: before the commit nothing is there, after it everything, and asking again goes on from it.
            let copy = Copy::new(Nature::local());
            let lab = &copy.lab;
            let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let live = async || lab.store.in_force().is_live(&lab.grant(id).await, lab.ports.now());
            let before = lab.log().await.len();
            lab.store.fail(Write::Restore, 0, StoreFault::Lost);
            assert!(matches!(copy.accept(Live::Ended).await, Err(NotAccepted::Broken(_))));
            assert!(live().await && !copy.is_kept() && lab.log().await.len() == before);
            lab.store.fail(Write::Restore, 0, StoreFault::AnswerLost);
            assert!(matches!(copy.accept(Live::Ended).await, Err(NotAccepted::Broken(_))));
            assert!(!live().await && !copy.is_kept());
            let after = lab.log().await.len();
            let accepted = copy.accept(Live::Ended).await.unwrap();
            assert_eq!((accepted.restored.unwrap().number, lab.log().await.len()), (1, after), "it is told of once");
            assert!(copy.is_kept());
            lab.restart().await;
            assert!(!live().await, "a start does not bring it back");
        }
    });
}

#[test]
fn promise_5_a_proof_that_may_have_been_used_after_the_copy_mints_nothing() {
    in_no_time(async {
        for live in [Live::Ended, Live::Kept] {
            let copy = Copy::new(Nature::local());
            let lab = &copy.lab;
            let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let never_used = lab.proof(World::SUBJECT);
            lab.clock.advance(Ttl::from_secs(30));
            copy.accept(live).await.unwrap();
            lab.restart().await;
            lab.follow().await;
            let state = lab.grant(id).await.state_name();
            assert_eq!(state == StateName::Active, live == Live::Kept, "{state:?}");

            let mint = async |proof| open::open(&lab.ports, proof, &lab.request(), &lab.origin()).await;
            let refused = mint(&never_used).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::IssuedBeforeRestore);
            let foreseen = async |proof| {
                let caller = inspect::caller(&lab.ports, proof, &lab.origin()).await.unwrap();
                caller.preview(&lab.ports, &lab.request(), &lab.origin()).await.unwrap().terms
            };
            assert_eq!(foreseen(&never_used).await.unwrap_err().reason, refused.reason());
            let log = lab.log().await;
            assert_eq!(log.last().unwrap().entry.reason.as_deref(), Some("issued_before_restore"));
            let leeway = sample::rules().leeway;
            let refused = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::IssuedBeforeRestore, "of a clock that is ahead it could be older");
            lab.clock.advance(leeway);
            assert_eq!(lab.open(&lab.request()).await.unwrap_err().reason(), Reason::IssuedBeforeRestore);
            lab.clock.advance(Ttl::from_secs(1));
            assert!(foreseen(&lab.proof(World::SUBJECT)).await.is_ok());
            let fresh = lab.open(&lab.request()).await.unwrap().grant;
            assert!(lab.store.in_force().is_live(&fresh, lab.ports.now()));
            assert_eq!(mint(&never_used).await.unwrap_err().reason(), Reason::IssuedBeforeRestore);
            lab.clock.advance(Ttl::from_mins(5));
            assert_eq!(mint(&never_used).await.unwrap_err().reason(), Reason::Expired, "and then it is no proof");
        }
    });
}

#[test]
fn what_cannot_be_accepted_says_so_and_changes_nothing() {
    in_no_time(async {
        let copy = Copy::new(Nature::local());
        let lab = &copy.lab;
        lab.open(&lab.request()).await.unwrap();
        let (ports, before) = (&lab.ports, lab.log().await.len());
        let asked = |reason| Accepting { reason, live: Some(Live::Ended), fresh: sample::id(5), now: ports.now() };
        let nowhere = ports.evidence.accept(ports.store.as_ref(), &asked("the disk was lost")).await;
        assert_eq!(nowhere, Err(NotAccepted::NoPlace));
        for reason in ["", " ", "two\nlines", &"x".repeat(2_000)] {
            let refused = copy.evidence.accept(ports.store.as_ref(), &asked(reason)).await;
            assert_eq!(refused, Err(NotAccepted::Reason), "{reason}");
        }
        *copy.beside.0.lock().unwrap() = Some("another log\n".to_owned());
        assert!(matches!(copy.accept(Live::Ended).await, Err(NotAccepted::Broken(_))));
        assert_eq!(lab.log().await.len(), before);
        *copy.beside.0.lock().unwrap() = None;
        copy.accept(Live::Ended).await.unwrap();
    });
}

/// By the record of the newest checkpoint: a place that is new is no restore, one that is gone may be, and where nothing is
/// recorded whoever asks has to know.
#[test]
fn promise_9_a_place_for_checkpoints_that_is_new_ends_nothing() {
    in_no_time(async {
        for (anchored, ends) in [(Some(false), false), (Some(true), true), (None, true)] {
            let copy = Copy::new(Nature::local());
            let lab = &copy.lab;
            let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let unused = lab.proof(World::SUBJECT);
            let live = async || lab.store.in_force().is_live(&lab.grant(id).await, lab.ports.now());
            if let Some(anchored) = anchored {
                let signed = copy.evidence.checkpoints.sign(lab.store.tree_head()).unwrap();
                lab.store.keep_checkpoint(signed, lab.ports.now(), anchored).await.unwrap();
            }
            let refused = copy.evidence.confirm(lab.ports.store.as_ref()).await.unwrap_err().to_string();
            assert_eq!(refused.contains("--keep-grants"), anchored != Some(false), "{refused}");
            assert_eq!(refused.contains("--end-grants"), anchored != Some(true), "{refused}");
            if anchored.is_none() {
                let (before, refused) = (lab.log().await.len(), copy.accept_by(None).await.unwrap_err());
                assert_eq!(refused, NotAccepted::Undecided);
                assert!(refused.to_string().contains("--keep-grants") && refused.to_string().contains("--end-grants"));
                assert!(live().await && !copy.is_kept() && lab.log().await.len() == before);
                copy.accept(Live::Ended).await.unwrap();
            } else {
                copy.accept_by(None).await.unwrap();
            }
            assert_eq!((live().await, copy.is_kept()), (!ends, true), "{anchored:?}");
            assert_eq!(copy.told(AuditAction::AuditAccept).await, 1);
            copy.evidence.confirm(lab.ports.store.as_ref()).await.unwrap();
            let minted = open::open(&lab.ports, &unused, &lab.request(), &lab.origin()).await;
            assert_eq!(minted.is_err(), ends, "nor are proofs of before refused: {anchored:?}");
        }
    });
}

/// An older copy by what is beside the store is one, whatever its record says.
#[test]
fn promise_9_an_older_copy_is_no_new_place() {
    in_no_time(async {
        let copy = Copy::new(Nature::local());
        let lab = &copy.lab;
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let signed = copy.evidence.checkpoints.sign(lab.store.tree_head()).unwrap();
        lab.store.keep_checkpoint(signed, lab.ports.now(), false).await.unwrap();
        let longer = hallpass_core::audit::tree::TreeHead { size: 9_000, ..lab.store.tree_head() };
        *copy.beside.0.lock().unwrap() = Some(copy.evidence.checkpoints.sign(longer).unwrap().note);
        copy.accept_by(None).await.unwrap();
        assert!(!lab.store.in_force().is_live(&lab.grant(id).await, lab.ports.now()));
    });
}

/// Whether there is a place is recorded with what was signed, also where nothing else is new.
#[test]
fn what_is_signed_says_whether_there_was_a_place_beside_the_store() {
    in_no_time(async {
        let copy = Copy::new(Nature::local());
        let mut ports = copy.lab.ports.clone();
        let recorded = async || copy.lab.store.newest_checkpoint().await.unwrap().unwrap().anchored;
        checkpoint::tick(&ports).await.unwrap();
        assert_eq!(recorded().await, Some(false));
        ports.evidence = Arc::new(copy.evidence.clone());
        checkpoint::tick(&ports).await.unwrap();
        assert_eq!(recorded().await, Some(true));
        checkpoint::tick(&copy.lab.ports).await.unwrap();
        assert_eq!(recorded().await, Some(false));
    });
}

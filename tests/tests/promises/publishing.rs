//! A bundle is put into force by who may do that when it happens, and by nothing that is not on record.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hallpass_core::catalog::Revision;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::id::RevisionId;
use hallpass_core::identity::Proof;
use hallpass_core::policy::Action;
use hallpass_core::port::{
    BundleSource, Candidate, CompileError, Files, Governance as _, NamedFiles, OnceRecorded, Press,
};
use hallpass_core::service::configuration::{Content, Published, Publishing, Wanted, publisher, record_local};
use hallpass_core::testing::{FixedGovernance, Nature, Ruling, StoreFault, Write, sample};
use hallpass_core::time::Ttl;

use crate::lab::{Lab, in_no_time};

/// What is done while a bundle is compiled.
type Meanwhile = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// Makes of every bundle the revision in force under another name.
struct Copier {
    governance: Arc<FixedGovernance>,
    next: RevisionId,
    meanwhile: Meanwhile,
    put_in_force: Arc<AtomicUsize>,
}

#[async_trait]
impl Press for Copier {
    async fn compile(&self, files: Files) -> Result<Candidate, CompileError> {
        if let Some(then) = self.meanwhile.lock().unwrap().take() {
            then();
        }
        let now = self.governance.current();
        let copy = |id: RevisionId| Revision {
            id,
            catalog: now.catalog.clone(),
            policy: Arc::clone(&now.policy),
            verifiers: now.verifiers.clone(),
            attestors: Arc::clone(&now.attestors),
            backends: now.backends.clone(),
        };
        let (in_force, governance) = (Mutex::new(Some(copy(self.next.clone()))), Arc::clone(&self.governance));
        let (count, revision) = (Arc::clone(&self.put_in_force), Arc::new(copy(self.next.clone())));
        let put_in_force = OnceRecorded::does(move || {
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(revision) = in_force.lock().unwrap().take() {
                governance.swap(revision);
            }
        });
        Ok(Candidate { revision, files, named: NamedFiles::new(), warnings: Vec::new(), put_in_force })
    }
}

/// A lab whose bundle can be published, and how.
struct Desk {
    lab: Lab,
    copier: Arc<Copier>,
    publishing: Publishing,
}

impl Desk {
    async fn open() -> Self {
        let lab = Lab::new(Nature::hard());
        let copier = Arc::new(Copier {
            governance: Arc::clone(&lab.governance),
            next: sample::revision('b'),
            meanwhile: Mutex::default(),
            put_in_force: Arc::default(),
        });
        let (id, none) = (sample::revision('a'), NamedFiles::new());
        record_local(&lab.ports, &id, Files::new(), &none, hallpass_core::port::Occasion::Bootstrap).await.unwrap();
        let publishing = Publishing::new(BundleSource::Api, Arc::clone(&copier) as Arc<dyn Press>);
        Self { lab, copier, publishing }
    }

    async fn publish_with(&self, proof: Proof, upload: impl FnOnce(&Lab)) -> Result<Published, ServiceError> {
        let ports = &self.lab.ports;
        let mut publisher = publisher(ports, &self.publishing, proof, &self.lab.origin()).await?;
        upload(&self.lab);
        let content = Content::Files(Files::from([("owners.toml".to_owned(), "# new".to_owned())]));
        let wanted = Wanted { content, replaces: Some(vec![sample::revision('a')]), preview: false };
        publisher.publish(ports, &self.publishing, wanted).await
    }

    async fn publish(&self, upload: impl FnOnce(&Lab)) -> Result<Published, ServiceError> {
        self.publish_with(self.lab.proof("user:ada"), upload).await
    }

    /// By what is decided, and by what is on record.
    async fn in_force(&self) -> (RevisionId, RevisionId) {
        let recorded = self.lab.ports.store.active_revision().await.unwrap().unwrap().id;
        (self.lab.governance.current().id.clone(), recorded)
    }
}

fn both(digit: char) -> (RevisionId, RevisionId) {
    (sample::revision(digit), sample::revision(digit))
}

#[test]
fn what_is_published_is_in_force_and_on_record() {
    in_no_time(async {
        let desk = Desk::open().await;
        assert!(desk.publish(|_| ()).await.unwrap().published);
        assert_eq!((desk.in_force().await, desk.copier.put_in_force.load(Ordering::SeqCst)), (both('b'), 1));
    });
}

/// Not when it has been in force for a moment either.
#[test]
fn what_cannot_be_recorded_is_never_in_force() {
    in_no_time(async {
        let desk = Desk::open().await;
        desk.lab.store.fail(Write::Publish, 0, StoreFault::Lost);
        assert!(desk.publish(|_| ()).await.is_err());
        assert_eq!((desk.in_force().await, desk.copier.put_in_force.load(Ordering::SeqCst)), (both('a'), 0));
        // The answer alone may be lost: then what is on record is in force.
        desk.lab.store.fail(Write::Publish, 0, StoreFault::AnswerLost);
        assert!(desk.publish(|_| ()).await.unwrap().published);
        assert_eq!(desk.in_force().await, both('b'));
    });
}

#[test]
fn who_may_no_longer_publish_when_the_upload_is_there_does_not() {
    type Upload = fn(&Lab);
    let uploads: [(&str, Upload, Reason); 3] = [
        ("the proof expires", |lab| lab.clock.advance(Ttl::from_mins(6)), Reason::Expired),
        ("policy changes", |lab| lab.policy.rule(Action::Publish, None, Ruling::Deny), Reason::PolicyDenied),
        ("the issuer goes", |lab| lab.governance.edit(|revision| revision.verifiers.clear()), Reason::UnknownIssuer),
    ];
    for (name, upload, reason) in uploads {
        for while_compiling in [false, true] {
            in_no_time(async {
                let desk = Arc::new(Desk::open().await);
                let refused = if while_compiling {
                    let of_press = Arc::downgrade(&desk);
                    let then = move || upload(&of_press.upgrade().unwrap().lab);
                    *desk.copier.meanwhile.lock().unwrap() = Some(Box::new(then));
                    desk.publish(|_| ()).await
                } else {
                    desk.publish(upload).await
                };
                match refused {
                    Err(ServiceError::Refused(refusal)) => assert_eq!(refusal.reason, reason, "{name}"),
                    other => panic!("{name}: {other:?}"),
                }
                assert_eq!(desk.in_force().await, both('a'), "{name}");
            });
        }
    }
}

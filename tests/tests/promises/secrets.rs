//! Promise 7: secrets live once.

use hallpass_core::credential::Handle;
use hallpass_core::secret::{Secret, SecretBytes};
use hallpass_core::service::revoke;
use hallpass_core::testing::{Call, Fault, Nature, World, received};
use hallpass_core::time::Ttl;

use crate::lab::{Lab, in_no_time, secret};

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn promise_7_secrets_live_once() {
    in_no_time(async {
        for nature in [Nature::hard(), Nature::local(), Nature { answers_handle: true, ..Nature::hard() }] {
            let lab = Lab::new(nature);
            let proof = lab.proof(World::SUBJECT);
            let token = proof.token().unwrap().expose().to_owned();
            let opened =
                hallpass_core::service::open::open(&lab.ports, &proof, &lab.request(), &lab.origin()).await.unwrap();
            let lost = Fault::AnswerLost;
            lab.backend.next(Call::Issue, [Some(lost)]);
            let _ = lab.open(&lab.request()).await;
            lab.backend.next(Call::Revoke, [Some(Fault::Unavailable)]);
            let id = opened.grant.record.id;
            revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap();
            lab.step().await.unwrap();
            lab.clock.advance(Ttl::from_secs(60));
            lab.step().await.unwrap();

            let bytes = lab.bytes();
            assert!(holds(&bytes, "deploy 4f2c to prod"), "what is looked through is really the store");
            assert!(holds(&bytes, opened.grant.fingerprint.as_deref().unwrap()), "the keyed digest is kept");
            for credential in lab.backend.journal() {
                assert!(!holds(&bytes, &credential.secret), "a credential is in the store");
                assert!(!holds(&bytes, &credential.undo), "a handle is in the store unsealed");
                assert!(
                    !holds(&bytes, &format!("undo:{}", credential.grant)),
                    "a planned handle is in the store unsealed"
                );
            }
            assert!(!holds(&bytes, &token), "the proof itself is in the store");
            let kept = secret(&opened);
            for printed in
                [format!("{opened:?}"), format!("{:?}", lab.log().await), format!("{:?}", lab.all_grants().await)]
            {
                assert!(!printed.contains(&kept), "a credential was printed: {printed}");
            }
            let handle = lab.ports.store.handle(id).await.unwrap().unwrap();
            assert!(!format!("{handle:?}").contains("undo"), "{handle:?}");
        }
    });
}

// CASE LOG-004
#[test]
fn promise_7_types_that_hold_secrets_do_not_print_them() {
    let hidden = "hunter2-and-more";
    for printed in [
        format!("{:?}", Secret::new(hidden.to_owned())),
        format!("{:#?}", SecretBytes::new(hidden.as_bytes().to_vec())),
        format!("{:?}", Handle(SecretBytes::new(hidden.as_bytes().to_vec()))),
        format!("{:?}", received(hidden)),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

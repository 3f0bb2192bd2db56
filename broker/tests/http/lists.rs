//! Status lists of a real store: which grants are on which, and when a list is made anew.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::backend::jwt::StatusLists;
use hallpass_broker::keys::LocalSigner;
use hallpass_core::audit::AuditAction;
use hallpass_core::credential::RevocationClass;
use hallpass_core::grant::{Cause, Ending};
use hallpass_core::port::{SignatureAlgorithm, Signer, Store, TokenSigners};
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::store_suite::{apply, open, opening_of};
use hallpass_core::testing::{MockClock, TestSealer};
use hallpass_core::time::{Clock, Ttl};
use hallpass_sqlite::SqliteStore;
use serde_json::Value;

use crate::house::URL;

const LIST: u64 = 1 << 17;

struct Lists {
    clock: Arc<MockClock>,
    store: Arc<dyn Store>,
    lists: StatusLists,
    _folder: tempfile::TempDir,
}

impl Lists {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db"), Arc::new(TestSealer::new(1)), sample::id(99)).unwrap();
        let (store, clock) = (Arc::new(store) as Arc<dyn Store>, Arc::new(MockClock::starting_at(NOW)));
        let key = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
        let signer = LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key).unwrap();
        let keys: Arc<dyn TokenSigners> = Arc::new(vec![Arc::new(signer) as Arc<dyn Signer>]);
        let lists = StatusLists::new(Arc::clone(&store), keys, URL, clock.clone() as Arc<dyn Clock>);
        Self { clock, store, lists, _folder: folder }
    }

    /// A grant whose token is at this place, ended if so.
    async fn grant(&self, n: u64, status_index: u64, ended: bool) {
        let mut opening = opening_of(&self.store, sample::active(n, RevocationClass::Fenced, NOW), n);
        opening.grant.record.status_index = status_index;
        let grant = open(&self.store, opening).await;
        if ended {
            let ending = Ending::by_broker(Cause::REQUESTED, NOW);
            let grant = grant.begin_ending(ending, true).unwrap();
            apply(&self.store, grant, AuditAction::GrantRevoke, NOW).await;
        }
    }

    /// The list's claims and the places that are set, a second after whatever was asked before.
    async fn read(&self, number: u64) -> Option<(Value, Vec<u64>, String)> {
        self.clock.advance(Ttl::from_secs(1));
        let list = self.lists.list(number).await.unwrap()?;
        let token = std::str::from_utf8(&list.bytes).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let packed = URL_SAFE_NO_PAD.decode(claims["status_list"]["lst"].as_str().unwrap()).unwrap();
        let bits = miniz_oxide::inflate::decompress_to_vec_zlib(&packed).unwrap();
        assert_eq!(bits.len() as u64 * 8, LIST);
        let set = (0..LIST).filter(|place| bits[usize::try_from(place / 8).unwrap()] >> (place % 8) & 1 == 1).collect();
        Some((claims, set, list.etag))
    }
}

#[tokio::test]
async fn an_end_changes_the_list_that_its_token_names_and_no_other() {
    let house = Lists::new();
    assert!(house.read(0).await.is_none(), "no token names a list yet");
    house.grant(1, 3, false).await;
    house.grant(2, LIST + 5, false).await;
    let (first, second) = (house.read(0).await.unwrap(), house.read(1).await.unwrap());
    assert_eq!((first.1.as_slice(), second.1.as_slice()), ([].as_slice(), [].as_slice()));
    assert_eq!(first.0["sub"], format!("{URL}/status-lists/0"));
    assert_eq!(second.0["sub"], format!("{URL}/status-lists/1"));
    assert!(house.read(2).await.is_none());
    assert!(house.read(u64::MAX / LIST + 1).await.is_none());

    house.grant(3, LIST + 7, true).await;
    let (still, changed) = (house.read(0).await.unwrap(), house.read(1).await.unwrap());
    assert_eq!(still, first, "not even signed again");
    assert_eq!(changed.1, [7]);
    assert_ne!(changed.2, second.2);
}

#[tokio::test]
async fn a_list_is_valid_for_minutes_and_to_be_asked_for_again_within_seconds() {
    let house = Lists::new();
    house.grant(1, 0, true).await;
    let (claims, set, _) = house.read(0).await.unwrap();
    assert_eq!(set, [0]);
    let at = |claim: &str| claims[claim].as_i64().unwrap();
    assert_eq!((at("iat"), at("exp") - at("iat"), at("ttl")), (house.clock.now().as_secs(), 300, 2));
    assert_eq!((claims["iss"].as_str(), claims["status_list"]["bits"].as_u64()), (Some(URL), Some(1)));
}

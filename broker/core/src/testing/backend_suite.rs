//! What every [`CredentialBackend`] keeps, wherever it mints. An adapter's tests run [`all`] with a role that the
//! backend honours and orders for it.
//!
//! The suite does not try a credential where it is used: that only the adapter's own tests can do.

use crate::credential::{Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use crate::id::GrantId;
use crate::port::{Belongs, CredentialBackend, ExtendError, InventoryScope, IssueError, ItemKind, Undone};
use crate::role::Role;
use crate::time::{Timestamp, Ttl};

/// Makes the order of the `n`-th grant, issued at the first instant and to end at the second.
pub type Order<'a> = Box<dyn Fn(u64, Timestamp, Timestamp) -> IssueOrder + Send + Sync + 'a>;

/// A backend under test.
pub struct Minter<'a> {
    /// What is tested.
    pub backend: &'a dyn CredentialBackend,
    /// Orders of a role that it honours.
    pub order: Order<'a>,
    /// When it is.
    pub now: Timestamp,
}

impl std::fmt::Debug for Minter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter").field("kind", &self.backend.kind()).finish_non_exhaustive()
    }
}

impl Minter<'_> {
    /// An order for as long a life as the backend needs at least, and a minute.
    fn ordinary(&self, n: u64) -> IssueOrder {
        self.lasting(n, 0, self.shortest().as_millis() + 60_000)
    }

    /// An order made `offset` milliseconds from now, for `life` milliseconds.
    fn lasting(&self, n: u64, offset: i64, life: i64) -> IssueOrder {
        let issued_at = Timestamp::from_millis(self.now.as_millis() + offset);
        (self.order)(n, issued_at, Timestamp::from_millis(issued_at.as_millis() + life))
    }

    fn role(&self) -> Role {
        (*(self.order)(0, self.now, self.now.plus(Ttl::from_hours(1))).role).clone()
    }

    fn shortest(&self) -> Ttl {
        self.backend.min_life(&self.role())
    }

    async fn mint(&self, order: &IssueOrder) -> Result<IssuedCredential, IssueError> {
        let planned = self.backend.plan(order)?;
        self.finish(order, &planned).await
    }

    /// Prepares, where the backend does, and mints.
    async fn finish(&self, order: &IssueOrder, planned: &Handle) -> Result<IssuedCredential, IssueError> {
        let prepared = self.backend.prepare(order, planned).await?;
        let handle = prepared.as_ref().unwrap_or(planned);
        let mut issued = self.backend.issue(order, handle).await?;
        // As core keeps them: the answer's, else what was prepared, else what was planned.
        issued.handle = issued.handle.take().or(prepared);
        Ok(issued)
    }
}

/// Runs everything here.
pub async fn all(minter: &Minter<'_>) {
    what_it_says_of_itself_is_coherent(minter);
    a_role_is_checked_at_load_key_by_key(minter);
    the_handle_is_known_before_the_call_and_is_the_grants_own(minter);
    a_credential_never_outlives_its_order(minter).await;
    each_grant_gets_a_credential_of_its_own(minter).await;
    a_credential_does_not_print(minter).await;
    undoing_can_be_repeated_and_undoes_what_never_was(minter).await;
    extending_never_goes_beyond_what_was_asked(minter).await;
    the_inventory_shows_what_its_scope_promises(minter).await;
}

/// Class, lives, effect and scope fit together, and do not change between two questions.
pub fn what_it_says_of_itself_is_coherent(minter: &Minter<'_>) {
    let (backend, role) = (minter.backend, minter.role());
    let kind = backend.kind();
    assert!(!kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{kind:?}");
    assert_eq!(backend.class(&role), backend.class(&role));
    assert!(backend.min_life(&role) > Ttl::ZERO, "a credential lives for some time");
    assert!(backend.max_life(&role).is_none_or(|max| max >= backend.min_life(&role)), "the lives leave no room");
    if backend.effect() == Effect::Local {
        assert_ne!(backend.class(&role), RevocationClass::Hard, "nobody outside hears of the end of what was signed");
        assert_eq!(backend.inventory_scope(), InventoryScope::None, "what leaves nothing behind cannot be listed");
    }
}

/// The role is acceptable; with an unknown key, or without its table, it is refused by name.
pub fn a_role_is_checked_at_load_key_by_key(minter: &Minter<'_>) {
    const UNKNOWN: &str = "key-that-no-backend-knows";
    let role = minter.role();
    minter.backend.validate(&role).expect("the role under test is one that the backend honours");

    let mut with_unknown = role.clone();
    let table = with_unknown.parameters.as_object_mut().expect("parameters are a table");
    table.insert(UNKNOWN.to_owned(), serde_json::Value::Bool(true));
    let refused = minter.backend.validate(&with_unknown).expect_err("an unknown key is refused, never ignored");
    assert_eq!(refused.key, UNKNOWN);
    assert!(!refused.problem.is_empty());

    for not_a_table in [serde_json::Value::Null, serde_json::json!([]), serde_json::json!("text")] {
        let without = Role { parameters: not_a_table, ..role.clone() };
        let refused = minter.backend.validate(&without).expect_err("parameters are a table");
        assert!(!refused.key.is_empty() && !refused.problem.is_empty());
    }
}

/// A crash between intent and answer leaves nothing but the planned handle: the same each time, and nobody else's.
pub fn the_handle_is_known_before_the_call_and_is_the_grants_own(minter: &Minter<'_>) {
    let (one, other) = (minter.ordinary(1), minter.ordinary(2));
    let plan = |order: &IssueOrder| minter.backend.plan(order).expect("an ordinary order can be planned");
    assert!(!plan(&one).0.expose().is_empty());
    assert_eq!(plan(&one), plan(&one), "planning twice gives one handle");
    assert_ne!(plan(&one), plan(&other), "two grants share no handle");
}

/// Whatever the milliseconds: the backend's end is never after the order's, and there is something before it.
pub async fn a_credential_never_outlives_its_order(minter: &Minter<'_>) {
    let shortest = minter.shortest().as_millis();
    let mut n = 100;
    for offset in [0, 1, 499, 999] {
        for life in [shortest, shortest + 1, shortest + 999, shortest + 60_001, shortest + 3_599_999] {
            n += 1;
            let order = minter.lasting(n, offset, life);
            let credential = match minter.mint(&order).await {
                Ok(credential) => credential,
                // Rounding may leave nothing of the shortest life; it is refused then, and not lengthened.
                Err(IssueError::Refused { .. }) if life < shortest + 1_000 => continue,
                Err(error) => panic!("{life} ms at {offset} ms: {error}"),
            };
            assert!(credential.expires_at <= order.expires_at, "{life} ms at {offset} ms: outlives its order");
            assert!(credential.expires_at > order.issued_at, "{life} ms at {offset} ms: dead on arrival");
        }
    }
    for life in [0, -1, -60_000] {
        let order = minter.lasting(99, 0, life);
        assert!(minter.mint(&order).await.is_err(), "an order that is over ({life} ms) mints nothing");
    }
}

/// Two grants never share a credential, or ending one would end both, or neither.
pub async fn each_grant_gets_a_credential_of_its_own(minter: &Minter<'_>) {
    let one = minter.mint(&minter.ordinary(3)).await.expect("an ordinary order is met");
    let other = minter.mint(&minter.ordinary(4)).await.expect("an ordinary order is met");
    assert!(!one.material.fingerprint_input().is_empty(), "a credential can be traced");
    assert_ne!(one.material.fingerprint_input(), other.material.fingerprint_input());
    let is_token = one.material.single_token().is_some();
    assert_eq!(
        minter.backend.yields_single_token(&minter.role()),
        is_token,
        "{} is one token or is not",
        minter.backend.kind()
    );
}

/// What is secret in a credential shows neither in its `Debug` nor in that of its handle.
pub async fn a_credential_does_not_print(minter: &Minter<'_>) {
    let order = minter.ordinary(5);
    let handle = minter.backend.plan(&order).expect("an ordinary order can be planned");
    let credential = minter.finish(&order, &handle).await.expect("an ordinary order is met");
    let printed = format!("{credential:?} {handle:?}");
    let secrets = credential.material.secrets();
    for secret in secrets {
        assert!(!printed.contains(secret), "a credential of {} prints its secret", minter.backend.kind());
    }
}

/// Undoing is repeated until it is confirmed, and undoes a credential whose minting nobody heard of again.
pub async fn undoing_can_be_repeated_and_undoes_what_never_was(minter: &Minter<'_>) {
    let expected = match minter.backend.class(&minter.role()) {
        RevocationClass::Hard => Undone::Gone,
        RevocationClass::Fenced => Undone::Fenced,
        RevocationClass::ExpiryOnly => Undone::OnlyTime,
    };
    let order = minter.ordinary(6);
    let planned = minter.backend.plan(&order).expect("an ordinary order can be planned");
    let credential = minter.finish(&order, &planned).await.expect("an ordinary order is met");
    let handle = credential.handle.unwrap_or(planned);
    for time in ["the first", "the second", "the third"] {
        assert_eq!(minter.backend.revoke(&handle).await, Ok(expected), "{time} time");
    }
    let never = minter.backend.plan(&minter.ordinary(7)).expect("an ordinary order can be planned");
    let undone = minter.backend.revoke(&never).await;
    assert!(undone.is_ok(), "what was never minted is undone: {undone:?}");
}

/// A later end is the one that was asked for or an earlier one.
pub async fn extending_never_goes_beyond_what_was_asked(minter: &Minter<'_>) {
    let order = minter.ordinary(8);
    let planned = minter.backend.plan(&order).expect("an ordinary order can be planned");
    let credential = minter.finish(&order, &planned).await.expect("an ordinary order is met");
    let handle = credential.handle.unwrap_or(planned);
    let until = Timestamp::from_millis(order.expires_at.as_millis() + 90_001);
    match minter.backend.extend(&handle, until).await {
        Ok(end) => assert!(end <= until, "{end} is beyond {until}"),
        Err(ExtendError::Unsupported) => {}
        Err(error) => panic!("a live credential could not be extended: {error}"),
    }
}

/// `Full` shows what is alive and not what was killed; `None` shows nothing.
pub async fn the_inventory_shows_what_its_scope_promises(minter: &Minter<'_>) {
    let order = minter.ordinary(9);
    let planned = minter.backend.plan(&order).expect("an ordinary order can be planned");
    let credential = minter.finish(&order, &planned).await.expect("an ordinary order is met");
    let handle = credential.handle.unwrap_or(planned);
    match minter.backend.inventory_scope() {
        InventoryScope::None => assert!(listed(minter).await.is_empty(), "nothing can be seen, so nothing is shown"),
        InventoryScope::Doors => {
            assert!(!listed(minter).await.contains(&order.grant), "doors are no credentials")
        }
        InventoryScope::Full => {
            assert!(listed(minter).await.contains(&order.grant), "a live credential is shown");
            minter.backend.revoke(&handle).await.expect("a live credential can be undone");
            if minter.backend.class(&minter.role()) == RevocationClass::Hard {
                assert!(!listed(minter).await.contains(&order.grant), "a dead credential is not");
            }
        }
    }
}

/// The grants of the credentials that the inventory shows.
async fn listed(minter: &Minter<'_>) -> Vec<GrantId> {
    let items = minter.backend.inventory().await.expect("the backend answers");
    let credentials = items.into_iter().filter(|item| item.kind == ItemKind::Credential);
    let grants = credentials.filter_map(|item| match item.belongs {
        Belongs::ToGrant(id) => Some(id),
        Belongs::ToSpare(_) | Belongs::ToOthers => None,
    });
    grants.collect()
}

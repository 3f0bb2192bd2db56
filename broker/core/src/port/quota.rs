//! How many live grants there may be at once.

/// The most live grants (pending or active) that an owner's roles, and a role, may have: the one that is opened included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of all roles of the owner together.
    pub owner: Option<u32>,
    /// Of the role.
    pub role: Option<u32>,
    /// Of all grants that one fence at a backend would have to hold, were all of them ended now: those that are over and
    /// not expired count, too.
    pub fence: Option<u32>,
    /// Of all that is derived from one grant, at any depth: of what one actor holds or is acted through.
    pub actor: Option<u32>,
}

impl Quotas {
    /// None at all: nothing is counted.
    pub const NONE: Self = Self { owner: None, role: None, fence: None, actor: None };
}

/// Which quota left no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// The owner's.
    Owner,
    /// The role's.
    Role,
    /// The room of the fence.
    Fence,
    /// Of what is derived, at any depth, from the grant that this one is derived from.
    Derived,
    /// Of that, the share of one who acts.
    Actor,
}

//! What keys invited ends with them: whoever stole one could otherwise be let in afterwards. A key
//! that made an invitation chose its address, and one that sent it again mailed its link: either
//! ends it.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::audit::Trail;
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::member::JoinedByKey;
use crate::repo::invites_of_keys;

/// How many memberships are named at most, the newest.
const NAMED: i64 = 500;

/// What came of the invitations of keys that end.
pub struct Ended {
    /// How many were open, and are revoked now.
    pub invitations: u64,
    /// The memberships that began by the others, and go on.
    pub memberships: Vec<JoinedByKey>,
}

impl Ended {
    /// Adds both to the detail of an audit event.
    pub fn add_to(&self, detail: &mut Value) {
        let handles: Vec<_> = self.memberships.iter().map(|it| it.handle.as_str()).collect();
        detail["invitations"] = json!(self.invitations);
        detail["memberships"] = json!(handles);
    }
}

/// Revokes the open invitations of these keys of the organization, or with `None` of any of its
/// keys, and finds the memberships that began by theirs.
///
/// Whoever calls holds the keys: none of them invites anybody meanwhile.
///
/// # Errors
/// The database's own.
pub async fn end(
    tx: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
    trail: &Trail,
) -> Result<Ended> {
    let invitations = invites_of_keys::revoke(tx, organization, keys, trail.at).await?;
    let memberships = joined(tx, organization, keys).await?;
    Ok(Ended { invitations, memberships })
}

/// The memberships that began by invitations of these keys, and go on.
///
/// # Errors
/// The database's own.
pub async fn joined(
    tx: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
) -> Result<Vec<JoinedByKey>> {
    invites_of_keys::joined(tx, organization, keys, NAMED).await
}

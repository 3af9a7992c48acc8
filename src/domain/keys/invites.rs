//! What keys invited ends with them: whoever stole one could otherwise be let in afterwards. A key
//! that made an invitation chose its address, and one that sent it again mailed its link: either
//! ends it.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::member::KeyInvitedMembership;
use crate::repo::key_invites;

/// How many memberships are named at most, the newest.
const MAX_MEMBERSHIPS: i64 = 500;

/// What came of the invitations of keys that end.
pub struct RevokedInvites {
    /// How many were open, and are revoked now.
    pub invitations: u64,
    /// The memberships that began by the others, and go on.
    pub memberships: Vec<KeyInvitedMembership>,
}

impl RevokedInvites {
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
pub async fn revoke(
    tx: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
    audit: &AuditContext,
) -> Result<RevokedInvites> {
    let invitations = key_invites::revoke(tx, organization, keys, audit.at).await?;
    let memberships = find_memberships(tx, organization, keys).await?;
    Ok(RevokedInvites { invitations, memberships })
}

/// The memberships that began by invitations of these keys, and go on.
pub async fn find_memberships(
    tx: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
) -> Result<Vec<KeyInvitedMembership>> {
    key_invites::list_joined(tx, organization, keys, MAX_MEMBERSHIPS).await
}

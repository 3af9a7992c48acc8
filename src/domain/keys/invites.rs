//! Open invitations are revoked with the key that sent them: a thief of the key could otherwise
//! join the organization later. A key that created an invitation chose its address, and a key that
//! resent it caused its link to be mailed; the end of either revokes the invitation.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::member::KeyInvitedMembership;
use crate::repo::key_invites;

/// The maximum number of memberships that are listed, newest first.
const MAX_MEMBERSHIPS: i64 = 500;

/// The result of revoking the invitations of keys.
pub struct RevokedInvites {
    /// The number of open invitations that were revoked.
    pub invitations: u64,
    /// The memberships that exist because an invitation was accepted.
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

/// Revokes the open invitations of these keys, or with `None` of all keys of the organization, and
/// lists the memberships from their accepted invitations.
///
/// The keys must be locked, so that none of them sends an invitation meanwhile.
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

/// Lists the active memberships from accepted invitations of these keys, or with `None` of all
/// keys.
pub async fn find_memberships(
    tx: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
) -> Result<Vec<KeyInvitedMembership>> {
    key_invites::list_joined(tx, organization, keys, MAX_MEMBERSHIPS).await
}

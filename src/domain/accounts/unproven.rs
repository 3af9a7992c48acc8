//! What an account made before its address was proven is worth nothing to anybody: whoever made it
//! may not be whoever reads the mailbox.
//!
//! Invariant: inviting people and making organizations need a proven address, so nothing here
//! ends another person's membership or keys.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::domain::keys::invites as key_invites;
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::ids::AccountId;
use crate::repo::memberships::Membership;
use crate::repo::{accounts, invites, key_lifecycle, personal_tokens, sessions};

/// How much ended.
#[derive(Default)]
pub struct RevokedAccess {
    sessions: i64,
    personal_tokens: u64,
    keys: usize,
    invitations: u64,
}

impl RevokedAccess {
    /// Adds the counts to the detail of an audit event.
    pub fn add_to(&self, detail: &mut Value) {
        detail["sessions_ended"] = json!(self.sessions);
        detail["personal_tokens_ended"] = json!(self.personal_tokens);
        detail["keys_ended"] = json!(self.keys);
        detail["invitations_ended"] = json!(self.invitations);
    }
}

/// Ends the account's sessions and personal tokens, the keys that its memberships minted and their
/// open invitations. The account is held, and so are the organizations of its `seats`. One that it
/// has no seat in any more is somebody else's and stays as it is.
///
/// Sessions are removed and not only ended: where somebody signed in from before is trusted with
/// more tries to sign in.
pub async fn revoke_access(
    tx: &mut PgConnection,
    account: AccountId,
    seats: &[Membership],
    audit: &AuditContext,
) -> Result<RevokedAccess> {
    // Who switched the security notices off may not be who owns the address.
    accounts::set_security_mails(tx, account, true, audit.at).await?;
    let mut ended = RevokedAccess {
        sessions: sessions::remove_all(tx, account).await?,
        personal_tokens: personal_tokens::revoke_all(tx, account, audit.at).await?,
        ..RevokedAccess::default()
    };
    let (reason, by) = ("Minted before the address of its account was proven", account.to_string());
    for seat in seats {
        let membership = (seat.organization, seat.id);
        // A key that was being minted meanwhile is seen only once its parent's lock was waited
        // for; from a key that is revoked in here nothing more can be minted.
        loop {
            let keys =
                key_lifecycle::revoke_minted_by(tx, membership, reason, &by, audit.at).await?;
            if keys.is_empty() {
                break;
            }
            ended.keys += keys.len();
            let of_keys = key_invites::revoke(tx, seat.organization, Some(&keys), audit).await?;
            ended.invitations += of_keys.invitations;
        }
        let (organization, id) = membership;
        ended.invitations +=
            invites::revoke_by_inviter(tx, organization, id, false, audit.at).await?;
    }
    Ok(ended)
}

//! Revokes what an account created before its e-mail address was proven: the person who signed up
//! may not be the owner of the mailbox.
//!
//! Inviting members and creating organizations need a proven address, so only an account that is
//! older than this rule can have admitted others. Its open invitations are revoked. The memberships
//! and keys of the accounts that it admitted stay: a colleague and a stranger's second account look
//! the same.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::domain::keys::invites as key_invites;
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::ids::AccountId;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::repo::memberships::Membership;
use crate::repo::{accounts, invites, key_lifecycle, oauth_grants, personal_tokens, sessions};

/// What was revoked, by kind.
#[derive(Default)]
pub struct RevokedAccess {
    sessions: i64,
    personal_tokens: u64,
    keys: usize,
    invitations: u64,
    app_grants: u64,
}

impl RevokedAccess {
    /// Adds the counts to the detail of an audit event.
    pub fn add_to(&self, detail: &mut Value) {
        detail["sessions_ended"] = json!(self.sessions);
        detail["personal_tokens_ended"] = json!(self.personal_tokens);
        detail["keys_ended"] = json!(self.keys);
        detail["invitations_ended"] = json!(self.invitations);
        detail["app_grants_ended"] = json!(self.app_grants);
    }
}

/// Revokes the account's sessions and personal access tokens, what it granted to apps, the keys
/// that its memberships created, and their open invitations. Turns its security notices on again.
/// Keys in an organization that the account has left stay: they belong to that organization. The
/// account and the organizations of `memberships` must be locked.
///
/// Sessions are deleted instead of marked as revoked, because a network from which a stored session
/// of the account began is allowed more sign-in attempts.
pub async fn revoke_access(
    tx: &mut PgConnection,
    account: AccountId,
    memberships: &[Membership],
    audit: &AuditContext,
) -> Result<RevokedAccess> {
    // The person who switched the security notices off may not be the owner of the address.
    accounts::set_security_mails(tx, account, true, audit.at).await?;
    let mut revoked = RevokedAccess {
        sessions: sessions::remove_all(tx, account).await?,
        personal_tokens: personal_tokens::revoke_all(tx, account, audit.at).await?,
        app_grants: oauth_grants::revoke_all(
            tx,
            account,
            GrantRevocationReason::AddressUnproven,
            audit.at,
        )
        .await?,
        ..RevokedAccess::default()
    };
    let (reason, actor) =
        ("Created before the address of its account was proven", account.to_string());
    for membership in memberships {
        let organization_and_id = (membership.organization, membership.id);
        // A key that another key is creating becomes visible only after that other key was locked.
        // A revoked key cannot create keys, so the loop ends.
        loop {
            let keys =
                key_lifecycle::revoke_created_by(tx, organization_and_id, reason, &actor, audit.at)
                    .await?;
            if keys.is_empty() {
                break;
            }
            revoked.keys += keys.len();
            let of_keys =
                key_invites::revoke(tx, membership.organization, Some(&keys), audit).await?;
            revoked.invitations += of_keys.invitations;
        }
        let (organization, id) = organization_and_id;
        revoked.invitations +=
            invites::revoke_by_inviter(tx, organization, id, false, audit.at).await?;
    }
    Ok(revoked)
}

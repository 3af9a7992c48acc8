//! Claims to the first key of an organization that was paid for. The buyer is mailed a link, and
//! the key is created when the buyer claims it there, so that it exists nowhere before.

use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::CreatedKey;
use crate::domain::links::candidate_digests;
use crate::domain::mail;
use crate::domain::organizations::provisioning::{create_first_key, find_or_add_owner};
use crate::domain::organizations::status;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::model::audit::AuditContext;
use crate::model::email::Email;
use crate::model::ids::OrganizationId;
use crate::model::organization::Organization;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::secret::Secret;
use crate::repo::{key_claims, organizations, rls};

/// The actor in the audit log for a client with the mailed link.
const CLAIM_ACTOR: &str = "key_claim";

/// Creates the claim to the organization's first key, and queues the mail with its link to the
/// address. `mail_waker` must be notified after the commit.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    email: &Email,
    audit: &AuditContext,
) -> Result<()> {
    key_claims::insert(tx, organization, email, audit.at).await?;
    mail::queue_claim(app, tx, organization, email.as_str(), audit.at).await
}

/// Creates an organization's first key by the mailed link. Of several concurrent claims, one
/// succeeds.
///
/// # Errors
/// Unauthenticated if the link's token is unknown, expired or used, or if the operator has revoked
/// the organization's keys meanwhile; suspended if the organization is suspended, and the link
/// remains valid.
pub async fn claim_key(
    app: &App,
    token: &Secret,
    audit: &AuditContext,
) -> Result<(Organization, CreatedKey)> {
    let digests = candidate_digests(app, token).ok_or_else(invalid_link)?;
    app.db
        .transaction(async |tx| {
            let claim = key_claims::find_presented(tx, &digests).await?;
            let (organization, handle) = claim.ok_or_else(invalid_link)?;
            rls::set_tenant(tx, organization).await?;
            let handle = OrganizationHandle::parse(&handle).map_err(|_| invalid_link())?;
            let locked =
                status::lock_organization(tx, &handle).await.map_err(not_found_to_invalid_link)?;
            if locked.suspended_at.is_some() {
                let message = "The organization is suspended; use the link when it is reactivated";
                return Err(Error::new(ErrorKind::OrganizationSuspended, message));
            }
            if !key_claims::consume(tx, organization, &digests, audit.at).await? {
                return Err(invalid_link());
            }
            let owner = find_or_add_owner(app, tx, &locked, audit).await?;
            let created_key =
                create_first_key(app, tx, (organization, owner), CLAIM_ACTOR, audit).await?;
            let organization = organizations::find(tx, organization).await?;
            Ok((organization.ok_or_else(invalid_link)?, created_key))
        })
        .await
}

/// Replaces the error for an organization that was deleted meanwhile.
fn not_found_to_invalid_link(error: Error) -> Error {
    if *error.kind() == ErrorKind::NotFound { invalid_link() } else { error }
}

fn invalid_link() -> Error {
    Error::unauthenticated(AuthFailure::InvalidToken, "This link is no longer valid")
}

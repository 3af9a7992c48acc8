//! The first key of a purchased organization: the buyer is mailed a link, and the key is minted
//! when it is claimed there, so that it exists nowhere before.

use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::CreatedKey;
use crate::domain::mail;
use crate::domain::organizations::provisioning::{create_first_key, find_or_add_owner};
use crate::domain::organizations::status;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::model::audit::AuditContext;
use crate::model::email::Email;
use crate::model::ids::OrganizationId;
use crate::model::key_format::KeyFormat;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::Organization;
use crate::model::secret::Secret;
use crate::repo::{key_claims, organizations, rls};

/// The actor of the minted key for the audit log: the mailed link.
const BY_CLAIM: &str = "key_claim";

/// Lets the owner of an address claim the organization's first key. After the commit, the caller
/// wakes the worker that mails the link.
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

/// Mints an organization's first key for the mailed link: once, however many requests are made at
/// once.
///
/// # Errors
/// Unauthenticated where the link's token is unknown, expired or used, or the operator has revoked
/// the organization's keys meanwhile; suspended while the organization is, and the link stays
/// valid.
pub async fn claim_key(
    app: &App,
    token: &Secret,
    audit: &AuditContext,
) -> Result<(Organization, CreatedKey)> {
    if !KeyFormat::link_token().matches(token.expose()) {
        return Err(invalid_link());
    }
    let digests = app.peppers.candidates(token.expose());
    app.db
        .transaction(async |tx| {
            let found = key_claims::find_presented(tx, &digests).await?;
            let (organization, handle) = found.ok_or_else(invalid_link)?;
            rls::set_tenant(tx, organization).await?;
            let handle = OrgHandle::parse(&handle).map_err(|_| invalid_link())?;
            let status =
                status::lock_organization(tx, &handle).await.map_err(not_found_to_invalid_link)?;
            if status.suspended_at.is_some() {
                let message = "This organization is suspended; the link works when it is not";
                return Err(Error::new(ErrorKind::OrganizationSuspended, message));
            }
            if !key_claims::consume(tx, organization, &digests, audit.at).await? {
                return Err(invalid_link());
            }
            let owner = find_or_add_owner(app, tx, &status, audit).await?;
            let minted = create_first_key(app, tx, (organization, owner), BY_CLAIM, audit).await?;
            let organization = organizations::find(tx, organization).await?;
            Ok((organization.ok_or_else(invalid_link)?, minted))
        })
        .await
}

/// An organization that was deleted meanwhile has no first key.
fn not_found_to_invalid_link(error: Error) -> Error {
    if *error.kind() == ErrorKind::NotFound { invalid_link() } else { error }
}

fn invalid_link() -> Error {
    Error::unauthenticated(AuthFailure::InvalidToken, "This link is not valid any more")
}

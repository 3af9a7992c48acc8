//! The first key of an organization that was paid for: whoever paid is mailed a link, and it is
//! minted when they ask for it there, so that it is in nobody's hands before.

use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::Minted;
use crate::domain::provisioning::{first_key, owner_of};
use crate::domain::{mails, standing};
use crate::error::{Error, Kind, Proof, Result};
use crate::model::audit::Trail;
use crate::model::email::Email;
use crate::model::ids::OrganizationId;
use crate::model::key_format::KeyFormat;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::Organization;
use crate::model::secret::Secret;
use crate::repo::{key_claims, organizations, tenant_walls};

/// Who minted the key, for the trail: whoever has the mailed link.
const BY_CLAIM: &str = "key_claim";

/// Lets whoever reads mail at an address claim the organization's first key. Whoever commits wakes
/// the worker that mails the link.
///
/// # Errors
/// The database's own.
pub async fn offer(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    email: &Email,
    trail: &Trail,
) -> Result<()> {
    key_claims::insert(tx, organization, email, trail.at).await?;
    mails::queue_claim(app, tx, organization, email.as_str(), trail.at).await
}

/// Mints an organization's first key for whoever followed the mailed link and pressed the button
/// there: once, however many do at once.
///
/// # Errors
/// Unauthenticated where the link's token is unknown, over or used, or the operator has ended the
/// organization's keys meanwhile; suspended while the organization is, and the link stays good.
pub async fn claim(app: &App, token: &Secret, trail: &Trail) -> Result<(Organization, Minted)> {
    if !KeyFormat::of_links().recognises(token.expose()) {
        return Err(wrong_link());
    }
    let digests = app.peppers.candidates(token.expose());
    app.db
        .transaction(async |tx| {
            let found = key_claims::find_shown(tx, &digests).await?;
            let (organization, handle) = found.ok_or_else(wrong_link)?;
            tenant_walls::raise(tx, organization).await?;
            let handle = OrgHandle::parse(&handle).map_err(|_| wrong_link())?;
            let standing = standing::hold(tx, &handle).await.map_err(gone)?;
            if standing.suspended_at.is_some() {
                let message = "This organization is suspended; the link works when it is not";
                return Err(Error::new(Kind::Suspended, message));
            }
            if !key_claims::spend(tx, organization, &digests, trail.at).await? {
                return Err(wrong_link());
            }
            let owner = owner_of(app, tx, &standing, trail).await?;
            let minted = first_key(app, tx, (organization, owner), BY_CLAIM, trail).await?;
            let organization = organizations::find(tx, organization).await?;
            Ok((organization.ok_or_else(wrong_link)?, minted))
        })
        .await
}

/// An organization that was deleted meanwhile has no first key.
fn gone(error: Error) -> Error {
    if *error.kind() == Kind::NotFound { wrong_link() } else { error }
}

fn wrong_link() -> Error {
    Error::unauthenticated(Proof::Token, "This link is not valid any more")
}

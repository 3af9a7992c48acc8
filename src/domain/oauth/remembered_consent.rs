//! Access that was granted before: whether a person need not be asked again.

use crate::app::App;
use crate::domain::oauth::consent::{Approval, list_candidates};
use crate::domain::oauth::pending_request::PendingRequest;
use crate::error::Result;
use crate::model::caller::Person;
use crate::model::oauth::authorization_request::Prompt;
use crate::model::oauth::grant::permitted_scopes;
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::organization_handle::OrganizationHandle;
use crate::repo::oauth_grants;

/// Returns the approval of a request that a live grant already covers, in the one organization that
/// is possible or that the request names. `None` if the person must be asked.
///
/// # Errors
/// The errors of the database.
pub async fn find_remembered(
    app: &App,
    pending: &PendingRequest,
    person: &Person,
) -> Result<Option<Approval>> {
    let PendingRequest { client, request, .. } = pending;
    let redirect_uri = RedirectUri::from_stored(request.target.redirect_uri.clone());
    // Any program on the device can be this client.
    let can_be_impersonated = client.is_public() && redirect_uri.is_local();
    let asks = request.has_prompt(Prompt::Consent) || request.has_prompt(Prompt::SelectAccount);
    if can_be_impersonated || asks {
        return Ok(None);
    }
    let scopes = request.access.scope_texts();
    let is_personal = !request.access.needs_organization();
    if is_personal && (!client.is_verified() || person.pinned_to.is_some()) {
        return Ok(None);
    }
    if is_personal {
        let account = person.account;
        let live = async |tx: &mut _| oauth_grants::lock_live(tx, account, client.id, None).await;
        let granted = app.db.transaction(live).await?.map(|(_, access)| access);
        let granted = granted.filter(|access| access.contains(&scopes, &request.access.resources));
        return Ok(granted.map(|_| remembered(None)));
    }
    let list = async |db: &mut _| list_candidates(db, client, person).await;
    let mut candidates = app.db.run(list).await?;
    candidates.retain(|(candidate, obstacle)| {
        let named = request.organization.as_ref();
        let is_named = named.is_none_or(|it| it.as_str().eq_ignore_ascii_case(&candidate.handle));
        obstacle.is_none() && is_named
    });
    let [(candidate, _)] = &candidates[..] else { return Ok(None) };
    let permitted = permitted_scopes(&scopes, Some(candidate.role));
    let granted = candidate.granted.as_ref();
    if !granted.is_some_and(|access| access.contains(&permitted, &request.access.resources)) {
        return Ok(None);
    }
    let organization = OrganizationHandle::parse(&candidate.handle).ok();
    Ok(organization.map(|it| remembered(Some(it))))
}

fn remembered(organization: Option<OrganizationHandle>) -> Approval {
    Approval { organization, scopes: None, is_remembered: true }
}

//! What the consent page shows.

use crate::app::App;
use crate::domain::accounts;
use crate::domain::oauth::consent;
use crate::domain::oauth::pending_request::AccessRequest;
use crate::error::Result;
use crate::model::caller::Person;
use crate::model::oauth::authorization_request::RequestedAccess;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::document_url::document_host;
use crate::model::oauth::grant::{GrantCandidate, GrantObstacle, permitted_scopes};
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::oauth::scope_sentence::scope_sentence;
use crate::model::oauth::{ClientKind, ClientVisibility, OFFLINE_ACCESS};
use crate::model::organization_handle::OrganizationHandle;

/// A requested scope.
pub struct RequestedScope {
    /// The scope.
    pub scope: String,
    /// What it allows; `None` for a scope of the operator's own product.
    pub sentence: Option<&'static str>,
}

/// An organization that the person can choose.
pub struct OrganizationChoice {
    /// Its public id.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// Why it cannot be chosen.
    pub obstacle: Option<&'static str>,
    /// The requested scopes that the person's role there does not permit.
    pub lacking: Vec<String>,
    /// Whether it is chosen at first.
    pub is_selected: bool,
}

/// Who provides a client.
pub enum ClientPublisher {
    /// The organization that registered it, by its name.
    Organization(String),
    /// The host of its metadata document.
    DocumentHost(String),
    /// No one is known: it registered itself.
    Unknown,
}

impl ClientPublisher {
    fn of(client: &OauthClient) -> Self {
        match client.kind {
            ClientKind::Registered => Self::Organization(client.organization_name.clone()),
            ClientKind::Document => Self::DocumentHost(document_host(&client.client_id)),
            ClientKind::Dynamic => Self::Unknown,
        }
    }
}

/// What the consent page shows.
#[expect(clippy::struct_excessive_bools, reason = "independent facts that the page shows")]
pub struct ConsentView {
    /// The name that the client gives itself.
    pub client_name: String,
    /// Who provides it.
    pub publisher: ClientPublisher,
    /// Whether the operator has published it.
    pub is_verified: bool,
    /// Where the person is sent afterwards; `None` if the client is a device.
    pub redirect_host: Option<String>,
    /// Whether any program on the device could receive the response.
    pub is_local: bool,
    /// The address of the account that is signed in.
    pub email: String,
    /// Whether that address is verified.
    pub is_email_verified: bool,
    /// The requested scopes, without `offline_access`.
    pub scopes: Vec<RequestedScope>,
    /// Whether access while the person is away is requested.
    pub is_offline: bool,
    /// Whether an organization must be chosen.
    pub needs_organization: bool,
    /// The organizations of the account.
    pub organizations: Vec<OrganizationChoice>,
    /// Why access cannot be granted at all.
    pub obstacle: Option<&'static str>,
}

/// Returns what the consent page shows to a person. `named` is the organization that the client
/// expects.
///
/// # Errors
/// Not found if the account was deleted; the errors of the database.
pub async fn view(
    app: &App,
    request: AccessRequest<'_>,
    named: Option<&OrganizationHandle>,
    person: &Person,
) -> Result<ConsentView> {
    let AccessRequest { client, access, redirect_uri } = request;
    let read = async |db: &mut _| {
        let account = accounts::find(db, person.account).await?;
        Ok((account, consent::list_candidates(db, client, person).await?))
    };
    let (account, candidates) = app.db.run(read).await?;
    let redirect_uri = redirect_uri.map(|uri| RedirectUri::from_stored(uri.to_owned()));
    let needs_organization = access.needs_organization();
    let is_private = client.visibility == ClientVisibility::Private;
    let is_member =
        candidates.iter().any(|(candidate, _)| candidate.organization == client.organization);
    let obstacle = if needs_organization {
        let has_choice = candidates.iter().any(|(_, obstacle)| obstacle.is_none());
        (!has_choice).then_some("None of your organizations can grant this access.")
    } else if person.pinned_to.is_some() {
        Some("You signed in for one organization. Sign in with a password to grant this access.")
    } else {
        (is_private && !is_member).then_some(GrantObstacle::PrivateClient.message())
    };
    let scopes = access.scope_texts().into_iter().filter(|scope| scope != OFFLINE_ACCESS);
    let scopes = scopes.map(|scope| RequestedScope { sentence: scope_sentence(&scope), scope });
    Ok(ConsentView {
        client_name: client.name.clone(),
        publisher: ClientPublisher::of(client),
        is_verified: client.is_verified(),
        redirect_host: redirect_uri.as_ref().map(RedirectUri::display_host),
        is_local: redirect_uri.is_some_and(|uri| uri.is_local()),
        is_email_verified: account.is_proven,
        email: account.email,
        scopes: scopes.collect(),
        is_offline: access.is_offline,
        needs_organization,
        organizations: choices(access, named, candidates),
        obstacle,
    })
}

/// Returns the choices. The one that the request names is selected, or the only one.
fn choices(
    access: &RequestedAccess,
    named: Option<&OrganizationHandle>,
    candidates: Vec<(GrantCandidate, Option<GrantObstacle>)>,
) -> Vec<OrganizationChoice> {
    let requested = access.scope_texts();
    let is_only = candidates.iter().filter(|(_, obstacle)| obstacle.is_none()).count() == 1;
    let choice = |(candidate, obstacle): (GrantCandidate, Option<GrantObstacle>)| {
        let permitted = permitted_scopes(&requested, Some(candidate.role));
        let is_named = named.is_some_and(|it| it.as_str().eq_ignore_ascii_case(&candidate.handle));
        OrganizationChoice {
            lacking: requested.iter().filter(|it| !permitted.contains(it)).cloned().collect(),
            is_selected: obstacle.is_none() && (is_only || is_named),
            obstacle: obstacle.map(GrantObstacle::message),
            handle: candidate.handle,
            name: candidate.name,
        }
    };
    candidates.into_iter().map(choice).collect()
}

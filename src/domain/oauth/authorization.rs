//! The authorization endpoint (RFC 6749 §4.1): checks requests, and decides what follows.

use crate::app::App;
use crate::domain::oauth::consent;
use crate::domain::oauth::pending_request::PendingRequest;
use crate::domain::oauth::remembered_consent::find_remembered;
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::AuditContext;
use crate::model::caller::Person;
use crate::model::ids::SessionId;
use crate::model::oauth::authorization_request::{
    AuthorizationRequest, Prompt, RequestParameters, RequestRules, parse_state, response_mode,
};
use crate::model::oauth::authorization_response::{
    AuthorizationError, AuthorizationErrorCode, AuthorizationResponse, ResponseTarget,
};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;
use crate::repo::oauth_clients;

/// The maximum length of a client's id, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 2_048;

/// Why no response to a request may be sent to the client (RFC 6749 §4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSender {
    /// The client is missing, unknown or disabled.
    Client,
    /// The redirect URI is missing, or not one of the client's.
    RedirectUri,
}

/// Returns the client of a request, and where the response is sent.
///
/// # Errors
/// The outer errors are those of the database.
pub async fn find_client_and_target(
    app: &App,
    parameters: &RequestParameters,
) -> Result<Result<(OauthClient, ResponseTarget), UnknownSender>> {
    let is_id = |text: &&str| {
        text.len() <= MAX_CLIENT_ID_BYTES && text.bytes().all(|it| it.is_ascii_graphic())
    };
    let Some(client_id) = parameters.single("client_id").filter(is_id) else {
        return Ok(Err(UnknownSender::Client));
    };
    let client = app.db.run(async |db| oauth_clients::find(db, client_id).await).await?;
    let client = client.filter(|client| app.config.oauth.accepts_kind(client.kind));
    let Some(client) = client else { return Ok(Err(UnknownSender::Client)) };
    let redirect_uri = parameters.single("redirect_uri");
    let redirect_uri =
        redirect_uri.filter(|uri| client.redirect_uris.iter().any(|own| own.allows(uri)));
    let Some(redirect_uri) = redirect_uri else { return Ok(Err(UnknownSender::RedirectUri)) };
    let target = ResponseTarget {
        redirect_uri: redirect_uri.to_owned(),
        mode: response_mode(parameters, redirect_uri),
        state: parse_state(parameters),
    };
    Ok(Ok((client, target)))
}

/// Parses the parameters of a request of this client.
///
/// # Errors
/// The response with the error, to send to the client.
pub fn parse(
    app: &App,
    (client, target): (&OauthClient, ResponseTarget),
    parameters: &RequestParameters,
) -> Result<AuthorizationRequest, AuthorizationResponse> {
    let settings = &app.config.oauth;
    let resources = known_resources(app);
    let rules = RequestRules { client, requestable: &settings.scopes, resources: &resources };
    let parsed = AuthorizationRequest::parse(parameters, target.clone(), &rules);
    parsed.map_err(|error| AuthorizationResponse::new(&target, &settings.issuer, Err(error)))
}

/// Returns the resources that tokens may be for: first this API, the default.
pub(super) fn known_resources(app: &App) -> Vec<Resource> {
    let settings = &app.config.oauth;
    let own = Resource::parse(&settings.issuer).ok();
    let services = settings.services.iter().map(|service| service.resource.clone());
    own.into_iter().chain(services).collect()
}

/// What follows a valid request.
pub enum NextStep {
    /// The person must sign in.
    SignIn,
    /// The person must be asked.
    Consent,
    /// The client gets this response.
    Respond(AuthorizationResponse),
}

/// Decides what follows a request in a session, or in none. If the person has granted the access
/// before, the response has a code.
///
/// # Errors
/// The errors of the database.
pub async fn next_step(
    app: &App,
    pending: &PendingRequest,
    caller: Option<(&Person, SessionId)>,
    audit: &AuditContext,
) -> Result<NextStep> {
    let is_silent = pending.request.has_prompt(Prompt::None);
    let error = |code, description| {
        NextStep::Respond(pending.respond(app, Err(AuthorizationError::new(code, description))))
    };
    let mut signed_in = None;
    if let Some(caller) = caller {
        let sign_in = async |db: &mut _| pending.requires_sign_in(db, caller).await;
        signed_in = (!app.db.run(sign_in).await?).then_some(caller);
    }
    let Some(caller) = signed_in else {
        let code = AuthorizationErrorCode::LoginRequired;
        let silently = || error(code, "The person is not signed in");
        return Ok(if is_silent { silently() } else { NextStep::SignIn });
    };
    if let Some(response) = approve_again(app, pending, caller, audit).await? {
        return Ok(NextStep::Respond(response));
    }
    let code = AuthorizationErrorCode::ConsentRequired;
    let silently = || error(code, "The person has not granted this access");
    Ok(if is_silent { silently() } else { NextStep::Consent })
}

/// Responds with a code if the person has granted the same access before.
async fn approve_again(
    app: &App,
    pending: &PendingRequest,
    caller: (&Person, SessionId),
    audit: &AuditContext,
) -> Result<Option<AuthorizationResponse>> {
    let remembered = find_remembered(app, pending, caller.0).await?;
    let Some(remembered) = remembered else { return Ok(None) };
    match consent::approve(app, pending, caller, &remembered, audit).await {
        Ok(response) => Ok(Some(response)),
        // The person is asked instead.
        Err(error) if is_rejection(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether an error says that the access cannot be granted as before.
fn is_rejection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Forbidden
            | ErrorKind::EmailNotVerified
            | ErrorKind::OrganizationSuspended
            | ErrorKind::Conflict
            | ErrorKind::Unauthenticated(_)
    )
}

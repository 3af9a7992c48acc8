//! The device flow on the side of the device (RFC 8628 §3.1 and §3.4): it asks for access, and
//! polls until a person has answered.

use crate::app::App;
use crate::domain::oauth::authorization::known_resources;
use crate::domain::oauth::client_revocation::revoke_reused_code;
use crate::domain::oauth::tokens::{IssuedTokens, candidates, invalid_grant, issue_for_code};
use crate::error::{Error, ErrorKind, OauthFailure, Result};
use crate::model::audit::AuditContext;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::authorization_request::{
    RequestParameters, RequestRules, RequestedAccess,
};
use crate::model::oauth::authorization_response::{AuthorizationError, AuthorizationErrorCode};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::device::{DevicePoll, NewDevice, UserCode};
use crate::model::oauth::resource::Resource;
use crate::model::oauth::{ApplicationType, ClientKind};
use crate::model::secret::Secret;
use crate::repo::{oauth_devices, oauth_tokens};

/// The maximum number of attempts to generate a user code that no other request has.
const MAX_ATTEMPTS: usize = 5;

/// The codes of a device's request, which are stored nowhere.
pub struct DeviceCodes {
    /// The code with which the device polls.
    pub device_code: Secret,
    /// The code that the person types.
    pub user_code: Secret,
}

/// Requires a client that may use the device flow: a `native` app that an organization registered.
///
/// The flow sends nothing to a redirect URI, so anyone can begin it in the name of a client without
/// a secret, and phish for consent (RFC 8628 §5.4). Clients on a web server do not need it. For
/// clients that no organization registered, it is not stored whether they ask for this flow, and a
/// metadata document would have to be fetched here.
///
/// # Errors
/// Unauthorized client.
pub fn require_device_client(client: &OauthClient) -> Result<()> {
    let is_native = client.application_type == ApplicationType::Native;
    if is_native && client.kind == ClientKind::Registered {
        return Ok(());
    }
    let message = "Only native apps that an organization registered may use the device flow";
    Err(Error::new(ErrorKind::Oauth(OauthFailure::UnauthorizedClient), message))
}

/// Parses what a device requests: `scope` and `resource`, as in an authorization request.
///
/// # Errors
/// An invalid scope or target.
pub fn parse(
    app: &App,
    client: &OauthClient,
    parameters: &RequestParameters,
) -> Result<RequestedAccess> {
    let resources = known_resources(app);
    let requestable = &app.config.oauth.scopes;
    let rules = RequestRules { client, requestable, resources: &resources };
    RequestedAccess::parse(parameters, &rules).map_err(to_error)
}

fn to_error(AuthorizationError { code, description }: AuthorizationError) -> Error {
    match code {
        AuthorizationErrorCode::InvalidScope => failure(OauthFailure::InvalidScope, description),
        AuthorizationErrorCode::InvalidTarget => failure(OauthFailure::InvalidTarget, description),
        _ => Error::malformed(description),
    }
}

fn failure(failure: OauthFailure, message: &'static str) -> Error {
    Error::new(ErrorKind::Oauth(failure), message)
}

/// Stores a device's request, and returns its codes.
///
/// # Errors
/// Unavailable.
pub async fn start(
    app: &App,
    client: &OauthClient,
    access: &RequestedAccess,
) -> Result<DeviceCodes> {
    let device_code = KeyFormat::oauth_device_code().generate(&*app.entropy);
    for _ in 0..MAX_ATTEMPTS {
        let user_code = UserCode::generate(&*app.entropy);
        let new = NewDevice {
            digest: app.peppers.digest(device_code.expose()).0,
            user_code: app.peppers.digest(user_code.digested_text().expose()).0,
            client,
            access,
        };
        if app.db.run(async |db| oauth_devices::insert(db, &new).await).await? {
            return Ok(DeviceCodes { device_code, user_code: user_code.display() });
        }
    }
    Err(Error::unavailable("no free user code was found"))
}

/// Exchanges a device code for tokens, once, after the person has approved. A second use is
/// rejected, and revokes the grant if the first use issued tokens.
///
/// # Errors
/// Authorization pending, slow down, expired token, access denied, invalid grant, scope or target.
pub async fn redeem(
    app: &App,
    client: &OauthClient,
    (device_code, resources): (&Secret, &[Resource]),
    audit: &AuditContext,
) -> Result<IssuedTokens> {
    let candidates = candidates(app, &KeyFormat::oauth_device_code(), device_code)?;
    app.db
        .transaction(async |tx| {
            let poll = oauth_devices::poll(tx, &candidates, client.id).await?;
            if poll != Some(DevicePoll::Approved) {
                return Ok(Err(not_approved(poll)));
            }
            // The person's approval inserted a code with the same digest.
            let code = oauth_tokens::redeem_code(tx, &candidates, client.id).await?;
            if let Some(code) = code {
                return issue_for_code(app, tx, (client, &code), resources, audit).await;
            }
            revoke_reused_code(tx, &candidates, client, audit).await?;
            Ok(Err(invalid_grant("The device code is used or expired")))
        })
        .await?
}

/// Returns the error of a poll for a request that is not approved.
fn not_approved(poll: Option<DevicePoll>) -> Error {
    match poll {
        Some(DevicePoll::Pending { is_early: false }) => {
            failure(OauthFailure::AuthorizationPending, "The person has not answered yet")
        }
        Some(DevicePoll::Pending { is_early: true }) => {
            failure(OauthFailure::SlowDown, "Wait 5 seconds longer between two polls from now on")
        }
        Some(DevicePoll::Denied) => {
            failure(OauthFailure::AccessDenied, "The person denied the request")
        }
        Some(DevicePoll::Expired) => {
            failure(OauthFailure::ExpiredToken, "The person did not answer in time")
        }
        Some(DevicePoll::Approved) | None => invalid_grant("The device code is unknown"),
    }
}

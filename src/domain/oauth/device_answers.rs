//! The device flow on the side of the person (RFC 8628 §3.3): they type the code, and so claim the
//! request; then no other account can answer it.

use crate::app::App;
use crate::domain::oauth::consent_locks::lock_all;
use crate::domain::oauth::devices::require_device_client;
use crate::domain::oauth::grant_creation::{insert_code, permitted_by, record_grant};
use crate::domain::oauth::pending_request::AccessRequest;
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::caller::Person;
use crate::model::ids::SessionId;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::authorization_request::RequestedAccess;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::device::{DeviceClaim, UserCode};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::secret::{Digest, Secret};
use crate::repo::{account_callers, oauth_clients, oauth_devices};

/// A device's request that a person has claimed and not answered.
pub struct DeviceRequest {
    /// The digest of the device code.
    digest: Digest,
    /// The client.
    pub client: OauthClient,
    /// What it requests.
    pub access: RequestedAccess,
}

impl DeviceRequest {
    /// Returns what the person is asked.
    #[must_use]
    pub fn access_request(&self) -> AccessRequest<'_> {
        AccessRequest { client: &self.client, access: &self.access, redirect_uri: None }
    }
}

fn claim_of((person, session): (&Person, SessionId)) -> DeviceClaim {
    DeviceClaim { account: person.account, session }
}

fn no_such_code() -> Error {
    Error::not_found("This code is unknown or has expired, or somebody else has entered it")
}

fn no_such_request() -> Error {
    Error::not_found("This request was answered already, or has expired")
}

/// Claims the request with this user code for a person, and returns the handle with which they
/// answer it in this session. The person may claim it again, and then has another handle.
///
/// # Errors
/// Not found if the code is unknown, expired, answered, or claimed by another account;
/// unauthenticated if the session has ended.
pub async fn claim(app: &App, caller: (&Person, SessionId), typed: &Secret) -> Result<Secret> {
    let user_code = UserCode::parse(typed.expose()).ok_or_else(no_such_code)?;
    let candidates = app.peppers.candidates(user_code.digested_text().expose());
    let handle = KeyFormat::oauth_request().generate(&*app.entropy);
    let digest = app.peppers.digest(handle.expose()).0;
    let claiming = app.db.transaction(async |tx| {
        account_callers::lock_and_confirm_session(tx, None, caller.1).await?;
        oauth_devices::claim(tx, &candidates, claim_of(caller), digest).await
    });
    if claiming.await? { Ok(handle) } else { Err(no_such_code()) }
}

/// Returns the request with this handle, in the session in which it was claimed.
///
/// # Errors
/// Not found if there is none, it was answered or has expired, or its client was disabled.
pub async fn find(
    app: &App,
    caller: (&Person, SessionId),
    handle: &Secret,
) -> Result<DeviceRequest> {
    if !KeyFormat::oauth_request().matches(handle.expose()) {
        return Err(no_such_request());
    }
    let digests = app.peppers.candidates(handle.expose());
    let found = app.db.run(async |db| {
        let device = oauth_devices::find_claimed(db, &digests, claim_of(caller)).await?;
        let Some(device) = device else { return Ok(None) };
        let client = oauth_clients::find(db, &device.client_id).await?;
        let client = client.filter(|client| require_device_client(client).is_ok());
        Ok(client.map(|client| (device, client)))
    });
    let (device, client) = found.await?.ok_or_else(no_such_request)?;
    Ok(DeviceRequest { digest: device.digest, client, access: device.access })
}

/// Grants what a device requests, as far as the account's role permits it, and inserts the code
/// that the device redeems. Returns false if the role permits nothing of it: the request is denied.
///
/// # Errors
/// The same as those of an authorization request's approval; not found if the request was answered
/// or has expired.
pub async fn approve(
    app: &App,
    device: &DeviceRequest,
    caller: (&Person, SessionId),
    organization: Option<&OrganizationHandle>,
    audit: &AuditContext,
) -> Result<bool> {
    let (request, claim) = (device.access_request(), claim_of(caller));
    let requested = request.access.scope_texts();
    let approving = app.db.transaction(async |tx| {
        let membership = match lock_all(tx, request, caller, organization, audit).await? {
            Ok(membership) => membership,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let scopes = permitted_by((request.client, caller.0), membership.as_deref(), &requested);
        let left = oauth_devices::answer(tx, device.digest, claim, scopes.is_some()).await?;
        let left = left.ok_or_else(no_such_request)?;
        let Some(scopes) = scopes else { return Ok(Ok(false)) };
        let of_grant = (membership, scopes);
        let granted = record_grant(app, tx, (request, caller.0), of_grant, audit).await?;
        insert_code(tx, request, (device.digest, left, None), (caller, &granted)).await?;
        Ok(Ok(true))
    });
    let approved = approving.await??;
    app.mail_waker.notify_one();
    Ok(approved)
}

/// Denies a device's request.
///
/// # Errors
/// Not found if the request was answered or has expired; unauthenticated if the session has ended.
pub async fn deny(app: &App, device: &DeviceRequest, caller: (&Person, SessionId)) -> Result<()> {
    let denying = app.db.transaction(async |tx| {
        account_callers::lock_and_confirm_session(tx, None, caller.1).await?;
        oauth_devices::answer(tx, device.digest, claim_of(caller), false).await
    });
    denying.await?.map(|_| ()).ok_or_else(no_such_request)
}

//! Clients register themselves (RFC 7591), and manage their registrations (RFC 7592). All of them
//! are public and unverified.

use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::config::oauth::RegistrationSettings;
use crate::domain::oauth::grant_revocation::record_app_end;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::{AppId, OrganizationId};
use crate::model::key_format::KeyFormat;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::client_metadata::ClientMetadata;
use crate::model::oauth::registration::{MAX_REGISTRATIONS, NewRegistration, Registration};
use crate::model::secret::Secret;
use crate::repo::{app_grants, oauth_registrations};

/// The `Retry-After` while the deployment has the maximum number of registered clients.
const RETRY_AFTER: Duration = Duration::from_hours(1);

/// Checks that clients can be registered; `token` is the one that the request presents.
///
/// # Errors
/// Forbidden if registration is off; unauthenticated if it needs a token, and that is missing or
/// wrong.
pub fn require_allowed(settings: &RegistrationSettings, token: Option<&Secret>) -> Result<()> {
    match settings {
        RegistrationSettings::Open => Ok(()),
        RegistrationSettings::Off => Err(Error::forbidden("Registration of clients is off")),
        RegistrationSettings::WithToken(expected) => {
            let sent = token.map_or(&b""[..], |token| token.expose().as_bytes());
            if expected.expose().as_bytes().ct_eq(sent).into() {
                Ok(())
            } else {
                let message = "An initial access token is required as `Authorization: Bearer`";
                Err(Error::unauthenticated(AuthFailure::InvalidToken, message))
            }
        }
    }
}

/// Registers a client. Returns it, and its registration access token, which is stored nowhere.
///
/// # Errors
/// Rate limited if the deployment has as many such clients as it may have.
pub async fn register(
    app: &App,
    metadata: ClientMetadata,
    audit: &AuditContext,
) -> Result<(Registration, Secret)> {
    let token = KeyFormat::oauth_registration_token().generate(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(token.expose());
    let id = AppId::new(audit.at, &*app.entropy);
    let new = NewRegistration { id, metadata: &metadata, digest, pepper_id, created_at: audit.at };
    let insert = async |tx: &mut PgConnection| {
        oauth_registrations::insert(tx, &new, MAX_REGISTRATIONS).await
    };
    if !app.db.transaction(insert).await? {
        let message = "Too many clients are registered; try again later";
        return Err(Error::new(ErrorKind::RateLimited, message).with_retry_after(RETRY_AFTER));
    }
    Ok((Registration { id, metadata, created_at: audit.at }, token))
}

/// The client that a request is about, as the request names it, and its token.
pub struct PresentedRegistration {
    /// The client's id.
    pub client_id: String,
    /// The registration access token.
    pub token: Option<Secret>,
}

/// Returns the registration of a client.
///
/// # Errors
/// Unauthenticated if there is no such client, it is disabled, or the token is not its own.
pub async fn find(app: &App, presented: &PresentedRegistration) -> Result<Registration> {
    app.db.transaction(async |tx| lock(app, tx, presented).await).await
}

async fn lock(
    app: &App,
    tx: &mut PgConnection,
    presented: &PresentedRegistration,
) -> Result<Registration> {
    let id = AppId::parse(&presented.client_id);
    let format = KeyFormat::oauth_registration_token();
    let token = presented.token.as_ref().filter(|token| format.matches(token.expose()));
    let found = match (id, token) {
        (Some(id), Some(token)) => {
            let candidates = app.peppers.candidates(token.expose());
            oauth_registrations::lock(tx, id, &candidates).await?
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let message = "The client's registration access token is required as `Authorization: \
                       Bearer`";
        Error::unauthenticated(AuthFailure::InvalidToken, message)
    })
}

/// Replaces a client's metadata. Its grants stay, but each account is asked for consent once more,
/// even if its consent would otherwise be remembered.
///
/// # Errors
/// Those of [`find`].
pub async fn update(
    app: &App,
    presented: &PresentedRegistration,
    metadata: ClientMetadata,
    audit: &AuditContext,
) -> Result<Registration> {
    let update = async |tx: &mut PgConnection| {
        let Registration { id, created_at, .. } = lock(app, tx, presented).await?;
        oauth_registrations::update(tx, id, &metadata, audit.at).await?;
        Ok((id, created_at))
    };
    let (id, created_at) = app.db.transaction(update).await?;
    Ok(Registration { id, metadata, created_at })
}

/// Deletes a client. All grants of it end, and with them every token.
///
/// # Errors
/// Those of [`find`].
pub async fn delete(
    app: &App,
    presented: &PresentedRegistration,
    audit: &AuditContext,
) -> Result<()> {
    let delete = async |tx: &mut PgConnection| {
        let Registration { id, metadata, .. } = lock(app, tx, presented).await?;
        let ended =
            app_grants::end_all(tx, &[id], GrantRevocationReason::AppDeleted, audit.at).await?;
        let client_id = id.to_string();
        let event = NewAuditEvent {
            organization: OrganizationId::SYSTEM,
            event_type: AuditEventType::AppDeleted,
            actor: &client_id,
            target: &client_id,
            key_display_id: None,
            detail: json!({ "name": metadata.name }),
            audit,
        };
        record_app_end(tx, event, GrantRevocationReason::AppDeleted, &ended).await?;
        oauth_registrations::delete(tx, id).await
    };
    app.db.transaction(delete).await
}

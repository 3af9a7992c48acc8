//! Secrets of apps: at most two are valid at a time, so that one can be replaced without downtime.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::record_caller_event;
use crate::domain::oauth::locks::{lock_and_confirm_caller, lock_app};
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::caller::Caller;
use crate::model::ids::{AppId, AppSecretId, OrganizationId};
use crate::model::key_format::KeyFormat;
use crate::model::oauth::app::{AppSecret, MAX_SECRETS, NewAppSecret};
use crate::model::scope::BuiltInScope;
use crate::model::secret::Secret;
use crate::model::timestamp;
use crate::repo::oauth_app_secrets;

/// A new secret and its text, which is stored nowhere.
pub struct CreatedSecret {
    /// The text, which the response shows once.
    pub text: Secret,
    /// Its data.
    pub secret: AppSecret,
}

/// Creates a secret of an app, which is valid for `lifetime`, or until it is deleted.
///
/// # Errors
/// Not found; conflict if the app uses no secret, or has two valid ones; unauthenticated or
/// forbidden if the caller may no longer do this.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    (id, lifetime): (AppId, Option<TimeDelta>),
    audit: &AuditContext,
) -> Result<CreatedSecret> {
    let caller = lock_and_confirm_caller(tx, caller, BuiltInScope::AppsWrite, audit).await?;
    // The lock of the app serializes its new secrets, so that the count stays valid.
    let owner = lock_app(tx, caller.organization, id).await?;
    if !owner.auth_method.has_secret() {
        return Err(Error::conflict(
            "This app uses no secret; change tokenEndpointAuthMethod first",
        ));
    }
    if oauth_app_secrets::count(tx, caller.organization, id).await? >= MAX_SECRETS {
        return Err(Error::conflict("This app has two secrets; delete one first"));
    }
    let expires_at = lifetime.map(|lifetime| audit.at + lifetime);
    let created = insert(app, tx, (caller.organization, id), (audit.at, expires_at)).await?;
    let detail = json!({
        "secret_id": created.secret.id.to_string(),
        "display_id": created.secret.display_id,
        "expires_at": expires_at.map(timestamp::format),
    });
    record_caller_event(tx, &caller, AuditEventType::AppSecretCreated, id, detail, audit).await?;
    Ok(created)
}

/// Creates the first secret of an app that is being registered, and returns its text.
pub(super) async fn create_first(
    app: &App,
    tx: &mut PgConnection,
    owner: (OrganizationId, AppId),
    at: DateTime<Utc>,
) -> Result<Secret> {
    Ok(insert(app, tx, owner, (at, None)).await?.text)
}

async fn insert(
    app: &App,
    tx: &mut PgConnection,
    (organization, id): (OrganizationId, AppId),
    (created_at, expires_at): (DateTime<Utc>, Option<DateTime<Utc>>),
) -> Result<CreatedSecret> {
    let format = KeyFormat::oauth_secret();
    let text = format.generate(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(text.expose());
    let display_id = format.display_id(text.expose()).unwrap_or_default().to_owned();
    let secret_id = AppSecretId::new(created_at, &*app.entropy);
    let new = NewAppSecret {
        id: secret_id,
        app: id,
        organization,
        digest,
        pepper_id,
        display_id: &display_id,
        created_at,
        expires_at,
    };
    oauth_app_secrets::insert(tx, &new).await?;
    let secret =
        AppSecret { id: secret_id, display_id, created_at, expires_at, last_used_at: None };
    Ok(CreatedSecret { text, secret })
}

/// Deletes a secret of an app, effective immediately.
///
/// # Errors
/// Not found if there is no such app or no such secret; unauthenticated or forbidden if the caller
/// may no longer do this.
pub async fn delete(
    tx: &mut PgConnection,
    caller: &Caller,
    (id, secret): (AppId, AppSecretId),
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_caller(tx, caller, BuiltInScope::AppsWrite, audit).await?;
    lock_app(tx, caller.organization, id).await?;
    let deleted = oauth_app_secrets::delete(tx, caller.organization, id, secret).await?;
    let display_id = deleted.ok_or_else(no_such_secret)?;
    let detail = json!({ "secret_id": secret.to_string(), "display_id": display_id });
    record_caller_event(tx, &caller, AuditEventType::AppSecretDeleted, id, detail, audit).await
}

/// Returns the error for a secret that does not exist or belongs to another app.
#[must_use]
pub fn no_such_secret() -> Error {
    Error::not_found("There is no such secret")
}

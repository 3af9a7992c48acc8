//! Apps of an organization: register, find, update, delete.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::record_caller_event;
use crate::domain::oauth::grant_revocation::record_app_end;
use crate::domain::oauth::locks::{lock_and_confirm_caller, lock_app, lock_with_plan, no_such_app};
use crate::domain::oauth::secrets::create_first;
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::audit_detail::diff;
use crate::model::caller::Caller;
use crate::model::ids::{AppId, OrganizationId};
use crate::model::oauth::ClientAuthMethod;
use crate::model::oauth::app::{AppChanges, AppSpec, NewApp, OauthApp};
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::public_key_set::PublicKeySet;
use crate::model::scope::BuiltInScope;
use crate::model::secret::Secret;
use crate::repo::{app_grants, oauth_app_secrets, oauth_apps, rls};

const WRITE_SCOPE: BuiltInScope = BuiltInScope::AppsWrite;

/// A new app, and the text of its secret, of which only a digest is stored. Only an app that
/// authenticates with a secret has one.
pub struct CreatedApp {
    /// The text of the secret, which the response shows once.
    pub secret: Option<Secret>,
    /// The app.
    pub app: OauthApp,
}

/// Registers an app.
///
/// # Errors
/// Plan limit; conflict if another app of the organization has the name; unauthenticated or
/// forbidden if the caller may no longer do this.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    spec: AppSpec,
    audit: &AuditContext,
) -> Result<CreatedApp> {
    let (caller, plan) = lock_with_plan(tx, caller, WRITE_SCOPE, audit).await?;
    check_plan_limit(app, tx, (caller.organization, plan), LimitedResource::Apps).await?;
    let id = AppId::new(audit.at, &*app.entropy);
    let new = NewApp {
        id,
        organization: caller.organization,
        spec: &spec,
        created_by: caller.membership,
        created_at: audit.at,
    };
    oauth_apps::insert(tx, &new).await?;
    let secret = match spec.auth_method {
        ClientAuthMethod::None | ClientAuthMethod::PrivateKeyJwt => None,
        ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost => {
            Some(create_first(app, tx, (caller.organization, id), audit.at).await?)
        }
    };
    let registered = find(tx, caller.organization, id).await?;
    let detail = audited_fields(&registered);
    record_caller_event(tx, &caller, AuditEventType::AppCreated, id, detail, audit).await?;
    Ok(CreatedApp { secret, app: registered })
}

/// Updates an app. If its name, home page, redirect URIs or scopes change, it is no longer
/// published. If it no longer authenticates with a secret, its secrets are deleted. A scope that is
/// added does not extend existing grants.
///
/// # Errors
/// Not found; invalid if a redirect URI does not fit the application type, or the method needs keys
/// and there are none; conflict if another app of the organization has the name; unauthenticated or
/// forbidden if the caller may no longer do this.
pub async fn update(
    tx: &mut PgConnection,
    caller: &Caller,
    id: AppId,
    changes: &AppChanges,
    audit: &AuditContext,
) -> Result<OauthApp> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    let organization = caller.organization;
    let before = lock_app(tx, organization, id).await?;
    check_redirect_uris(&before, changes)?;
    let method = changes.auth_method.unwrap_or(before.auth_method);
    let keys = keys_of(method, changes.keys.as_ref().or(before.keys.as_ref()))?;
    if !oauth_apps::update(tx, organization, id, (changes, keys), audit.at).await? {
        return Err(no_such_app());
    }
    if !method.has_secret() {
        oauth_app_secrets::delete_all(tx, organization, id).await?;
    }
    let app = find(tx, organization, id).await?;
    let detail = diff(audited_fields(&before), audited_fields(&app));
    record_caller_event(tx, &caller, AuditEventType::AppUpdated, id, detail, audit).await?;
    Ok(app)
}

/// Checks that, with the changes applied, the application type permits every redirect URI.
fn check_redirect_uris(before: &OauthApp, changes: &AppChanges) -> Result<()> {
    let application = changes.application_type.unwrap_or(before.application_type);
    let uris = changes.redirect_uris.as_ref().unwrap_or(&before.redirect_uris);
    let issue = |(index, uri): (usize, &RedirectUri)| {
        let ValidationError(why) = RedirectUri::parse(uri.as_str(), application).err()?;
        let path = vec!["redirectUris".to_owned(), index.to_string()];
        Some(Issue { path, ..Issue::body(why) })
    };
    let issues: Vec<Issue> = uris.iter().enumerate().filter_map(issue).collect();
    if issues.is_empty() { Ok(()) } else { Err(Error::invalid(issues)) }
}

/// Returns the keys of an app that authenticates with this method: `keys`, or none.
///
/// # Errors
/// Invalid if the method needs keys and there are none.
fn keys_of(method: ClientAuthMethod, keys: Option<&ClientKeys>) -> Result<Option<&ClientKeys>> {
    match (method, keys) {
        (ClientAuthMethod::PrivateKeyJwt, None) => {
            let message = "is required with private_key_jwt, unless jwksUri is sent";
            Err(Error::invalid(vec![Issue::field("jwks", message)]))
        }
        (ClientAuthMethod::PrivateKeyJwt, keys) => Ok(keys),
        _ => Ok(None),
    }
}

/// Returns what the audit log shows of an app.
fn audited_fields(app: &OauthApp) -> Value {
    let uris: Vec<&str> = app.redirect_uris.iter().map(RedirectUri::as_str).collect();
    json!({
        "name": app.name,
        "client_uri": app.client_uri,
        "redirect_uris": uris,
        "application_type": app.application_type.as_str(),
        "token_endpoint_auth_method": app.auth_method.as_str(),
        "jwks": app.keys.as_ref().and_then(ClientKeys::registered).map(PublicKeySet::key_names),
        "jwks_uri": app.keys.as_ref().and_then(ClientKeys::published).map(|it| it.url().as_str()),
        "id_token_signed_response_alg": app.id_token_algorithm.as_str(),
        "scopes": app.scopes,
    })
}

/// Deletes an app. All grants of it end, and with them every token.
///
/// # Errors
/// Not found; unauthenticated or forbidden if the caller may no longer do this.
pub async fn delete(
    tx: &mut PgConnection,
    caller: &Caller,
    id: AppId,
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    let organization = caller.organization;
    let app = lock_app(tx, organization, id).await?;
    // Grants of other organizations end, too, and row-level security would hide them.
    rls::clear_tenant(tx).await?;
    let ended = app_grants::end_all(tx, &[id], GrantRevocationReason::AppDeleted, audit.at).await?;
    let (actor, target) = (caller.actor(), id.to_string());
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::AppDeleted,
        actor: &actor,
        target: &target,
        key_display_id: caller.credential.key().map(|key| key.display_id.as_str()),
        detail: json!({ "name": app.name }),
        audit,
    };
    record_app_end(tx, event, GrantRevocationReason::AppDeleted, &ended).await?;
    rls::set_tenant(tx, organization).await?;
    if oauth_apps::delete(tx, organization, id).await? { Ok(()) } else { Err(no_such_app()) }
}

/// Returns a page of the organization's apps, newest first, and their total count. With `search`,
/// only apps whose names contain it, ignoring case.
pub async fn list(
    tx: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<OauthApp>, i64)> {
    let (apps, total) = oauth_apps::list(tx, organization, search, (offset, limit)).await?;
    Ok((with_secrets_and_grant_counts(tx, organization, apps).await?, total))
}

/// Returns an app of the organization.
///
/// # Errors
/// Not found if there is no such app.
pub async fn find(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: AppId,
) -> Result<OauthApp> {
    let app = oauth_apps::find(tx, organization, id).await?.ok_or_else(no_such_app)?;
    with_secrets_and_grant_counts(tx, organization, vec![app]).await?.pop().ok_or_else(no_such_app)
}

/// Adds the secrets and the numbers of grants. Clears the tenant, to count grants in other
/// organizations, and then sets it to `organization`.
async fn with_secrets_and_grant_counts(
    tx: &mut PgConnection,
    organization: OrganizationId,
    mut apps: Vec<OauthApp>,
) -> Result<Vec<OauthApp>> {
    let ids: Vec<AppId> = apps.iter().map(|app| app.id).collect();
    for (id, secret) in oauth_app_secrets::list(tx, organization, &ids).await? {
        if let Some(app) = apps.iter_mut().find(|app| app.id == id) {
            app.secrets.push(secret);
        }
    }
    rls::clear_tenant(tx).await?;
    set_grant_counts(tx, &mut apps).await?;
    rls::set_tenant(tx, organization).await?;
    Ok(apps)
}

/// Sets each app's number of grants, in all organizations, that are not revoked and whose
/// organization and membership still exist. The tenant must be cleared: otherwise grants of other
/// organizations are not counted.
pub(super) async fn set_grant_counts(tx: &mut PgConnection, apps: &mut [OauthApp]) -> Result<()> {
    let ids: Vec<AppId> = apps.iter().map(|app| app.id).collect();
    let counts = app_grants::count_live(tx, &ids).await?;
    for app in apps {
        let count = counts.iter().find(|count| count.client == app.id.uuid());
        app.grants = count.map_or(0, |count| count.count);
    }
    Ok(())
}

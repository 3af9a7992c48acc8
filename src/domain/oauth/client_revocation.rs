//! Revocation of tokens and grants by their client (RFC 7009), or because a code or token was
//! reused.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::presented::may_be_jwt_access_token;
use crate::error::Result;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::GrantId;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::client::OauthClient;
use crate::model::secret::{Digest, Secret};
use crate::repo::{accounts, audit_events, oauth_tokens};

/// Revokes a token of this client (RFC 7009): an access token alone, or with a refresh token the
/// whole grant. A token of another client, or none at all, is no error.
///
/// # Errors
/// Unavailable.
pub async fn revoke(
    app: &App,
    client: &OauthClient,
    token: &Secret,
    audit: &AuditContext,
) -> Result<()> {
    let (is_access_token, is_refresh_token) = (
        KeyFormat::oauth_token().matches(token.expose()) || may_be_jwt_access_token(token.expose()),
        KeyFormat::oauth_refresh_token().matches(token.expose()),
    );
    if !is_access_token && !is_refresh_token {
        return Ok(());
    }
    let candidates = app.peppers.candidates(token.expose());
    app.db
        .transaction(async |tx| {
            if is_access_token {
                oauth_tokens::revoke_access_token(tx, &candidates, client.id).await?;
                return Ok(());
            }
            let token = oauth_tokens::lock_refresh_token(tx, &candidates, client.id).await?;
            if let Some(token) = token {
                revoke_grant(tx, token.grant, client, GrantRevocationReason::Client, audit).await?;
            }
            Ok(())
        })
        .await
}

/// Revokes the grant of a code that is used again after it was exchanged for tokens, and records
/// that: another party has the code. The whole grant ends, because its tokens may be refreshed at
/// the same moment.
pub(super) async fn revoke_reused_code(
    tx: &mut PgConnection,
    candidates: &[Digest],
    client: &OauthClient,
    audit: &AuditContext,
) -> Result<()> {
    let Some(grant) = oauth_tokens::find_used_code(tx, candidates, client.id).await? else {
        return Ok(());
    };
    if oauth_tokens::revoke_grant(tx, grant, GrantRevocationReason::CodeReused).await? {
        record(tx, grant, client, (AuditEventType::AppCodeReused, json!({})), audit).await?;
    }
    Ok(())
}

/// Revokes a grant with all of its tokens, and records that.
pub(super) async fn revoke_grant(
    tx: &mut PgConnection,
    grant: GrantId,
    client: &OauthClient,
    reason: GrantRevocationReason,
    audit: &AuditContext,
) -> Result<()> {
    if oauth_tokens::revoke_grant(tx, grant, reason).await? {
        let event = (AuditEventType::AppGrantRevoked, json!({ "reason": reason.as_str() }));
        record(tx, grant, client, event, audit).await?;
    }
    Ok(())
}

/// Records an event in the audit log of the grant's organization, or else of its account.
async fn record(
    tx: &mut PgConnection,
    grant: GrantId,
    client: &OauthClient,
    (event_type, mut detail): (AuditEventType, serde_json::Value),
    audit: &AuditContext,
) -> Result<()> {
    let Some((account, organization)) = oauth_tokens::find_owner(tx, grant).await? else {
        return Ok(());
    };
    let organization = match organization {
        Some(organization) => organization,
        None => accounts::find_audit_organization(tx, account).await?,
    };
    detail["client_id"] = json!(client.client_id);
    let event = NewAuditEvent {
        organization,
        event_type,
        actor: &client.client_id,
        target: &grant.to_string(),
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}

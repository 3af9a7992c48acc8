//! Who a credential belongs to: the one question of the hot path.
//!
//! Both questions are asked for many callers at once and answered from indexes; what is revoked
//! or, by the database's clock, expired has no answer.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::caller::Caller;
use crate::model::ids::{KeyId, OrganizationId, SessionId, UserId};
use crate::model::plan::Plan;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

struct Row {
    organization_id: Uuid,
    organization_handle: String,
    plan: String,
    user_id: Uuid,
    user_handle: String,
    key_id: Uuid,
    display_id: String,
    scopes: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
    /// What was asked for: a digest's bytes or a session's id.
    digest: Option<Vec<u8>>,
    session_id: Option<Uuid>,
}

impl Row {
    fn into_caller(self) -> Result<Caller> {
        let plan = Plan::parse(&self.plan).ok_or_else(|| Error::internal("unknown plan"))?;
        Ok(Caller {
            organization: OrganizationId(self.organization_id),
            organization_handle: self.organization_handle,
            plan,
            user: UserId(self.user_id),
            user_handle: self.user_handle,
            key: KeyId::from_uuid(self.key_id),
            key_display_id: self.display_id,
            scopes: ScopeSet::from_stored(&self.scopes),
            key_expires_at: self.expires_at,
            session: self.session_id.map(SessionId::from_uuid),
        })
    }
}

/// The holders of the live keys with these digests.
///
/// # Errors
/// The database's own.
pub async fn by_digests(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Caller>, sqlx::Error> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select k.organization_id, o.handle as organization_handle, o.plan, k.user_id,
                  u.handle as user_handle, k.id as key_id, k.display_id, k.scopes, k.expires_at,
                  k.digest as "digest?", null::uuid as session_id
           from api_keys k
           join organizations o on o.id = k.organization_id
           join users u on u.id = k.user_id
           where k.digest = any($1) and k.revoked_at is null
             and (k.expires_at is null or k.expires_at > now())"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().filter_map(|mut row| {
        let digest = Digest::new(row.digest.take()?.try_into().ok()?);
        Some((digest, row.into_caller().ok()?))
    });
    Ok(found.collect())
}

/// The holders of these sessions, where the session is not ended and its key is live.
///
/// # Errors
/// The database's own.
pub async fn by_sessions(
    db: &mut PgConnection,
    sessions: &[SessionId],
) -> Result<HashMap<SessionId, Caller>, sqlx::Error> {
    let sessions: Vec<Uuid> = sessions.iter().map(|session| session.uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select k.organization_id, o.handle as organization_handle, o.plan, k.user_id,
                  u.handle as user_handle, k.id as key_id, k.display_id, k.scopes, k.expires_at,
                  null::bytea as digest, s.id as "session_id?"
           from key_sessions s
           join api_keys k on k.id = s.key_id
           join organizations o on o.id = k.organization_id
           join users u on u.id = k.user_id
           where s.id = any($1) and s.revoked_at is null and k.revoked_at is null
             and (k.expires_at is null or k.expires_at > now())"#,
        &sessions,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().filter_map(|row| {
        let session = SessionId::from_uuid(row.session_id?);
        Some((session, row.into_caller().ok()?))
    });
    Ok(found.collect())
}

/// The caller as the database knows it in this transaction, its key locked against revocation
/// and narrowing until the transaction ends; `None` where the credential has ended meanwhile.
///
/// Invariant: whatever mints or widens a credential asks here first, so that a key revoked a
/// moment ago mints nothing.
///
/// # Errors
/// The database's own.
pub async fn confirm(db: &mut PgConnection, caller: &Caller) -> Result<Option<Caller>> {
    let session = caller.session.map(SessionId::uuid);
    let row = sqlx::query_as!(
        Row,
        r#"select k.organization_id, o.handle as organization_handle, o.plan, k.user_id,
                  u.handle as user_handle, k.id as key_id, k.display_id, k.scopes, k.expires_at,
                  null::bytea as digest, $3::uuid as session_id
           from api_keys k
           join organizations o on o.id = k.organization_id
           join users u on u.id = k.user_id
           where k.organization_id = $1 and k.id = $2 and k.revoked_at is null
             and (k.expires_at is null or k.expires_at > now())
             and ($3::uuid is null or exists (
                 select from key_sessions s
                 where s.organization_id = $1 and s.id = $3 and s.revoked_at is null))
           for share of k"#,
        caller.organization.0,
        caller.key.uuid(),
        session,
    )
    .fetch_optional(db)
    .await?;
    row.map(Row::into_caller).transpose()
}

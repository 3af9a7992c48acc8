//! Looks up the identities of organizations' credentials, on the hot path. Accounts' credentials
//! are looked up in [`super::account_callers`].
//!
//! Each lookup is one statement, which takes many credentials at once and only uses indexes. The
//! reason for which a known credential is rejected is decided here, by the database's clock. It is
//! recorded in the audit log of the organization; the caller does not see it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{AuthFailure, Error, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::caller::{
    Caller, Credential, CredentialStatus, Identity, KeyDetails, KeyRejectionReason, RejectedKey,
};
use crate::model::ids::{KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

struct Row {
    organization_id: Uuid,
    organization_handle: String,
    organization_name: String,
    plan: String,
    is_suspended: bool,
    allowed_origins: Vec<String>,
    user_id: Uuid,
    user_handle: String,
    creator_role: Option<String>,
    key_id: Uuid,
    prefix: String,
    display_id: String,
    pepper_id: String,
    scopes: Vec<String>,
    allowed_ips: Vec<IpNet>,
    expires_at: Option<DateTime<Utc>>,
    /// The name of a [`KeyRejectionReason`]; `None` if the credential is valid.
    rejection: Option<String>,
    /// The digest that was looked up; otherwise `session_id` is set.
    digest: Option<Vec<u8>>,
    session_id: Option<Uuid>,
}

impl Row {
    fn into_status(self) -> Option<CredentialStatus> {
        let Some(reason) = &self.rejection else {
            let caller = self.into_caller().map(Arc::new)?;
            return Some(CredentialStatus::Valid(Identity { caller: Some(caller), person: None }));
        };
        Some(CredentialStatus::Rejected(RejectedKey {
            organization: OrganizationId(self.organization_id),
            key: KeyId::from_uuid(self.key_id),
            reason: KeyRejectionReason::parse(reason)?,
            key_display_id: self.display_id,
        }))
    }

    /// Returns the caller; `None` only for an unknown plan, which a constraint of the table
    /// excludes.
    fn into_caller(self) -> Option<Caller> {
        Some(Caller {
            organization: OrganizationId(self.organization_id),
            organization_handle: self.organization_handle,
            organization_name: self.organization_name,
            plan: Plan::parse(&self.plan)?,
            is_suspended: self.is_suspended,
            membership: MembershipId(self.user_id),
            membership_handle: self.user_handle,
            role: None,
            creator_role: self.creator_role.as_deref().and_then(Role::parse),
            scopes: ScopeSet::from_stored(&self.scopes),
            credential: Credential::Key(
                KeyDetails {
                    id: KeyId::from_uuid(self.key_id),
                    prefix: self.prefix,
                    display_id: self.display_id,
                    pepper_id: self.pepper_id,
                    allowed_ips: AllowedIps::from_stored(self.allowed_ips),
                    allowed_origins: self.allowed_origins,
                    expires_at: self.expires_at,
                },
                self.session_id.map(SessionId::from_uuid),
            ),
        })
    }
}

/// Returns the statuses of the keys with these digests.
pub async fn find_by_digests(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, CredentialStatus>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select k.organization_id, o.handle as organization_handle,
                  o.name as organization_name, o.plan,
                  o.suspended_at is not null as "is_suspended!", o.allowed_origins, k.user_id,
                  u.handle as user_handle,
                  case when u.removed_at is null then u.role end as creator_role,
                  k.id as key_id, k.prefix, k.display_id, k.pepper_id,
                  k.scopes, k.allowed_ips, k.expires_at,
                  case when k.revoked_at is not null then 'revoked'
                       when k.expires_at <= now() then 'expired'
                       when not k.enabled then 'disabled'
                       when o.deleted_at is not null then 'organization_deleted' end as rejection,
                  k.digest as "digest?", null::uuid as session_id
           from api_keys k
           join organizations o on o.id = k.organization_id
           join users u on u.id = k.user_id
           where k.digest = any($1)"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let identities = rows.into_iter().filter_map(|mut row| {
        let digest = Digest::new(row.digest.take()?.try_into().ok()?);
        Some((digest, row.into_status()?))
    });
    Ok(identities.collect())
}

/// Returns the statuses of these sessions, which keys were exchanged for.
pub async fn find_by_sessions(
    db: &mut PgConnection,
    sessions: &[SessionId],
) -> Result<HashMap<SessionId, CredentialStatus>> {
    let sessions: Vec<Uuid> = sessions.iter().map(|session| session.uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select k.organization_id, o.handle as organization_handle,
                  o.name as organization_name, o.plan,
                  o.suspended_at is not null as "is_suspended!", o.allowed_origins, k.user_id,
                  u.handle as user_handle,
                  case when u.removed_at is null then u.role end as creator_role,
                  k.id as key_id, k.prefix, k.display_id, k.pepper_id,
                  k.scopes, k.allowed_ips, k.expires_at,
                  case when k.revoked_at is not null then 'revoked'
                       when k.expires_at <= now() then 'expired'
                       when not k.enabled then 'disabled'
                       when o.deleted_at is not null then 'organization_deleted'
                       when s.revoked_at is not null then 'session_ended' end as rejection,
                  null::bytea as digest, s.id as "session_id?"
           from key_sessions s
           join api_keys k on k.id = s.key_id
           join organizations o on o.id = k.organization_id
           join users u on u.id = k.user_id
           where s.id = any($1)"#,
        &sessions,
    )
    .fetch_all(db)
    .await?;
    let identities = rows.into_iter().filter_map(|row| {
        let session = SessionId::from_uuid(row.session_id?);
        Some((session, row.into_status()?))
    });
    Ok(identities.collect())
}

/// Locks the session that a key was exchanged for until the transaction ends.
///
/// Invariant: everywhere, sessions are locked before keys, so that two transactions cannot
/// deadlock.
pub async fn lock_session(
    db: &mut PgConnection,
    organization: OrganizationId,
    session: SessionId,
) -> Result<()> {
    sqlx::query!(
        "select id from key_sessions where id = $2 and (organization_id = $1) is true
         for no key update",
        organization.0,
        session.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Returns the caller of a key of the organization as of this transaction. Locks the key until the
/// transaction ends, so that it can be neither revoked nor restricted. The lock is exclusive: with
/// a shared one, a stolen key could delay its own revocation.
///
/// # Errors
/// Unauthenticated if the credential is no longer valid.
pub async fn lock_and_confirm(
    db: &mut PgConnection,
    organization: OrganizationId,
    key: KeyId,
    session: Option<SessionId>,
) -> Result<Arc<Caller>> {
    let session = session.map(SessionId::uuid);
    let row = sqlx::query_as!(
        Row,
        r#"select k.organization_id, o.handle as organization_handle,
                  o.name as organization_name, o.plan,
                  o.suspended_at is not null as "is_suspended!", o.allowed_origins, k.user_id,
                  u.handle as user_handle,
                  case when u.removed_at is null then u.role end as creator_role,
                  k.id as key_id, k.prefix, k.display_id, k.pepper_id,
                  k.scopes, k.allowed_ips, k.expires_at,
                  case when k.revoked_at is not null then 'revoked'
                       when k.expires_at <= now() then 'expired'
                       when not k.enabled then 'disabled'
                       when o.deleted_at is not null then 'organization_deleted'
                       when exists (select from key_sessions s
                                    where s.id = $3 and (s.organization_id = $1) is true
                                      and s.revoked_at is not null) then 'session_ended'
                  end as rejection,
                  null::bytea as digest, $3::uuid as session_id
           from api_keys k
           join organizations o on o.id = k.organization_id
           join users u on u.id = k.user_id
           where k.id = $2 and (k.organization_id = $1) is true
           for no key update of k"#,
        organization.0,
        key.uuid(),
        session,
    )
    .fetch_optional(db)
    .await?;
    match row.and_then(Row::into_status) {
        Some(CredentialStatus::Valid(Identity { caller: Some(caller), .. })) => Ok(caller),
        _ => Err(Error::unauthenticated(AuthFailure::InvalidKey, "This credential is not valid")),
    }
}

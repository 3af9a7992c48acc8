//! Looks up the identities of accounts' credentials: sessions and personal access tokens.
//!
//! Only valid credentials are returned. The reason for a rejection is not needed, since no audit
//! log records it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{AuthFailure, Error, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::caller::{Caller, Credential, Identity, KeyDetails, Person};
use crate::model::ids::{AccountId, KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

/// A membership of an account, with its organization. For a session, it is the membership in the
/// home organization, and for a token, the one that it is pinned with or granted for; the columns
/// are null if there is none.
pub(super) struct MembershipRow {
    pub organization_id: Option<Uuid>,
    pub organization_handle: Option<String>,
    pub organization_name: Option<String>,
    pub plan: Option<String>,
    pub is_suspended: Option<bool>,
    pub user_id: Option<Uuid>,
    pub user_handle: Option<String>,
    pub role: Option<String>,
}

impl MembershipRow {
    /// Returns the caller with this membership; `None` if the account's token is pinned to another
    /// organization.
    fn into_caller(self, person: &Person) -> Option<Arc<Caller>> {
        let pin = person.pinned_to.map(|pin| pin.0);
        if pin.is_some() && pin != self.organization_id {
            return None;
        }
        self.caller(person.scopes.clone(), person.credential.clone())
    }

    fn caller(self, scopes: ScopeSet, credential: Credential) -> Option<Arc<Caller>> {
        Some(Arc::new(Caller {
            organization: OrganizationId(self.organization_id?),
            organization_handle: self.organization_handle?,
            organization_name: self.organization_name?,
            plan: Plan::parse(&self.plan?)?,
            is_suspended: self.is_suspended.unwrap_or(false),
            membership: MembershipId(self.user_id?),
            membership_handle: self.user_handle?,
            role: Some(Role::parse(&self.role?)?),
            creator_role: None,
            scopes,
            credential,
        }))
    }
}

/// Returns the identity of an account's credential, with the membership for which it acts.
pub(super) fn identity(
    account: AccountId,
    (home, pinned_to): (Uuid, Option<Uuid>),
    membership: MembershipRow,
    (scopes, credential): (ScopeSet, Credential),
) -> Identity {
    let person = Person {
        account,
        home_organization: OrganizationId(home),
        pinned_to: pinned_to.map(OrganizationId),
        scopes: scopes.clone(),
        credential: credential.clone(),
    };
    Identity { caller: membership.caller(scopes, credential), person: Some(Arc::new(person)) }
}

struct SessionRow {
    session_id: Uuid,
    digest: Vec<u8>,
    account_id: Uuid,
    home_organization_id: Uuid,
    pinned_to: Option<Uuid>,
    organization_id: Option<Uuid>,
    organization_handle: Option<String>,
    organization_name: Option<String>,
    plan: Option<String>,
    is_suspended: Option<bool>,
    user_id: Option<Uuid>,
    user_handle: Option<String>,
    role: Option<String>,
}

impl From<SessionRow> for Identity {
    fn from(row: SessionRow) -> Self {
        let account = AccountId::from_uuid(row.account_id);
        let credential = Credential::Session(account, SessionId::from_uuid(row.session_id));
        let membership = MembershipRow {
            organization_id: row.organization_id,
            organization_handle: row.organization_handle,
            organization_name: row.organization_name,
            plan: row.plan,
            is_suspended: row.is_suspended,
            user_id: row.user_id,
            user_handle: row.user_handle,
            role: row.role,
        };
        // A session of single sign-on whose membership has ended acts nowhere.
        let member_of = membership.user_id.and(membership.organization_id);
        let pinned_to = row.pinned_to.map(|_| member_of.unwrap_or(OrganizationId::SYSTEM.0));
        identity(
            account,
            (row.home_organization_id, pinned_to),
            membership,
            (ScopeSet::all(), credential),
        )
    }
}

/// Returns the identities of the sessions with these ids, or whose tokens have these digests, that
/// are valid now by the database's clock.
pub async fn find_by_sessions(
    db: &mut PgConnection,
    ids: &[SessionId],
    digests: &[Digest],
) -> Result<Vec<(SessionId, Digest, Identity)>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        SessionRow,
        r#"select s.id as session_id, s.digest, s.account_id, s.pinned_to, a.home_organization_id,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, u.id as "user_id?",
                  u.handle as "user_handle?", u.role as "role?"
           from sessions s
           join accounts a on a.id = s.account_id
           left join organizations o on o.id = coalesce(s.pinned_to, a.home_organization_id)
                                    and o.deleted_at is null
           left join users u on u.account_id = a.id and u.organization_id = o.id
                            and u.removed_at is null
           where (s.id = any($1) or s.digest = any($2))
             and s.revoked_at is null and s.expires_at > now()
             and a.is_active and a.deleted_at is null"#,
        &ids,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let identities = rows.into_iter().filter_map(|mut row| {
        let digest = Digest::new(std::mem::take(&mut row.digest).try_into().ok()?);
        Some((SessionId::from_uuid(row.session_id), digest, row.into()))
    });
    Ok(identities.collect())
}

struct TokenRow {
    token_id: Uuid,
    digest: Vec<u8>,
    prefix: String,
    display_id: String,
    pepper_id: String,
    scopes: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
    account_id: Uuid,
    home_organization_id: Uuid,
    pinned_to: Option<Uuid>,
    organization_id: Option<Uuid>,
    organization_handle: Option<String>,
    organization_name: Option<String>,
    plan: Option<String>,
    is_suspended: Option<bool>,
    user_id: Option<Uuid>,
    user_handle: Option<String>,
    role: Option<String>,
}

impl From<TokenRow> for Identity {
    fn from(row: TokenRow) -> Self {
        let account = AccountId::from_uuid(row.account_id);
        let key = KeyDetails {
            id: KeyId::from_uuid(row.token_id),
            prefix: row.prefix,
            display_id: row.display_id,
            pepper_id: row.pepper_id,
            allowed_ips: AllowedIps::default(),
            allowed_origins: Vec::new(),
            expires_at: row.expires_at,
        };
        let membership = MembershipRow {
            organization_id: row.organization_id,
            organization_handle: row.organization_handle,
            organization_name: row.organization_name,
            plan: row.plan,
            is_suspended: row.is_suspended,
            user_id: row.user_id,
            user_handle: row.user_handle,
            role: row.role,
        };
        // A token whose pinned membership has ended stays pinned, to no organization: its account
        // may have another membership by now, and the token must not become an unpinned one.
        let no_organization = OrganizationId::SYSTEM.0;
        let pinned_to = row.pinned_to.map(|_| row.organization_id.unwrap_or(no_organization));
        let credential = Credential::PersonalToken(account, key);
        let scopes = ScopeSet::from_stored(&row.scopes);
        identity(account, (row.home_organization_id, pinned_to), membership, (scopes, credential))
    }
}

/// Returns the identities of the personal access tokens with these digests that are valid now by
/// the database's clock. A token that is pinned to an organization acts for the account's
/// membership there, until that ends; any other token acts in no organization by itself.
pub async fn find_by_tokens(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Identity>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        TokenRow,
        r#"select t.id as token_id, t.digest, t.prefix, t.display_id, t.pepper_id, t.scopes,
                  t.expires_at, t.account_id, t.pinned_to, a.home_organization_id,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, u.id as "user_id?",
                  u.handle as "user_handle?", u.role as "role?"
           from personal_tokens t
           join accounts a on a.id = t.account_id
           left join users u on u.id = t.pinned_seat and u.organization_id = t.pinned_to
                            and u.account_id = a.id and u.removed_at is null
           left join organizations o on o.id = u.organization_id and o.deleted_at is null
           where t.digest = any($1)
             and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
             and a.is_active and a.deleted_at is null"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let identities = rows.into_iter().filter_map(|mut row| {
        let digest = Digest::new(std::mem::take(&mut row.digest).try_into().ok()?);
        Some((digest, row.into()))
    });
    Ok(identities.collect())
}

/// Returns the identity of a session as of this transaction. Locks the session and the `membership`
/// of the account in an organization until the transaction ends.
///
/// # Errors
/// Forbidden if the membership has ended; otherwise unauthenticated if the session has ended.
pub async fn lock_and_confirm_session(
    db: &mut PgConnection,
    membership: Option<(AccountId, OrganizationId)>,
    session: SessionId,
) -> Result<Identity> {
    sqlx::query!("select id from sessions where id = $1 for no key update", session.uuid())
        .fetch_optional(&mut *db)
        .await?;
    if let Some(membership) = membership {
        lock_membership(db, membership).await?;
    }
    let identity = find_by_sessions(db, &[session], &[]).await?.into_iter().next();
    let identity = identity.map(|(_, _, identity)| identity);
    identity
        .ok_or_else(|| Error::unauthenticated(AuthFailure::InvalidToken, "This session has ended"))
}

/// Does the same as [`lock_and_confirm_session`] for a personal access token.
///
/// # Errors
/// Forbidden if the membership has ended; otherwise unauthenticated if the token has ended.
pub async fn lock_and_confirm_token(
    db: &mut PgConnection,
    membership: (AccountId, OrganizationId),
    token: KeyId,
) -> Result<Identity> {
    let digest = sqlx::query_scalar!(
        "select digest from personal_tokens where id = $1 for no key update",
        token.uuid(),
    )
    .fetch_optional(&mut *db)
    .await?;
    lock_membership(db, membership).await?;
    let digest = digest.and_then(|digest| digest.try_into().ok()).map(Digest::new);
    let identity = find_by_tokens(db, digest.as_slice()).await?.into_values().next();
    identity.ok_or_else(|| {
        Error::unauthenticated(AuthFailure::InvalidKey, "This credential is not valid")
    })
}

/// Returns the account's caller in the organization with this handle, ignoring case. `None` if the
/// account has no membership there, or its token is pinned to another organization.
pub async fn find_caller_by_handle(
    db: &mut PgConnection,
    person: &Person,
    handle: &OrganizationHandle,
) -> Result<Option<Arc<Caller>>> {
    let row = sqlx::query_as!(
        MembershipRow,
        r#"select o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, u.id as "user_id?",
                  u.handle as "user_handle?", u.role as "role?"
           from organizations o
           join users u on u.organization_id = o.id and u.account_id = $1 and u.removed_at is null
           where lower(o.handle collate "C") = lower($2 collate "C") and o.deleted_at is null"#,
        person.account.uuid(),
        handle.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| row.into_caller(person)))
}

/// Does the same as [`find_caller_by_handle`] for the organization with this id.
pub async fn find_caller_in(
    db: &mut PgConnection,
    person: &Person,
    organization: OrganizationId,
) -> Result<Option<Arc<Caller>>> {
    let row = sqlx::query_as!(
        MembershipRow,
        r#"select o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, u.id as "user_id?",
                  u.handle as "user_handle?", u.role as "role?"
           from organizations o
           join users u on u.organization_id = o.id and u.account_id = $1 and u.removed_at is null
           where o.id = $2 and o.deleted_at is null"#,
        person.account.uuid(),
        organization.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| row.into_caller(person)))
}

/// Locks the account's membership in the organization. Call this before the credential is
/// confirmed: under the organization's row-level security, accounts without a membership in it are
/// not visible.
///
/// # Errors
/// Forbidden if the membership has ended.
pub async fn lock_membership(
    db: &mut PgConnection,
    (account, organization): (AccountId, OrganizationId),
) -> Result<()> {
    let locked = sqlx::query!(
        "select id from users
         where account_id = $2 and (organization_id = $1) is true and removed_at is null
         for no key update",
        organization.0,
        account.uuid(),
    )
    .fetch_optional(db)
    .await?;
    let not_a_member = || Error::forbidden("You are no longer a member of this organization");
    locked.map(|_| ()).ok_or_else(not_a_member)
}

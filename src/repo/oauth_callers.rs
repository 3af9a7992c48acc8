//! Looks up the identities of OAuth access tokens, on the hot path. Only valid tokens are returned:
//! what a token may do ends with its grant, membership, account, client or session.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{AuthFailure, Error, Result};
use crate::model::caller::{Credential, Identity, OauthTokenDetails};
use crate::model::ids::{AccountId, AppId, GrantId, MembershipId, OrganizationId};
use crate::model::oauth::OpenidScope;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;
use crate::model::usage::UsageTally;
use crate::repo::account_callers::{MembershipRow, identity};

struct Row {
    digest: Vec<u8>,
    token_id: Uuid,
    scopes: Vec<String>,
    resources: Vec<String>,
    expires_at: DateTime<Utc>,
    account_id: Uuid,
    grant_id: Uuid,
    client_uuid: Uuid,
    client_id: String,
    client_organization_id: Uuid,
    session_id: Option<Uuid>,
    home_organization_id: Uuid,
    organization_id: Option<Uuid>,
    organization_handle: Option<String>,
    organization_name: Option<String>,
    plan: Option<String>,
    is_suspended: Option<bool>,
    user_id: Option<Uuid>,
    user_handle: Option<String>,
    role: Option<String>,
}

impl From<Row> for Identity {
    fn from(row: Row) -> Self {
        let details = OauthTokenDetails {
            token: row.token_id,
            grant: GrantId::from_uuid(row.grant_id),
            client: AppId::from_uuid(row.client_uuid),
            client_id: row.client_id,
            client_organization: OrganizationId(row.client_organization_id),
            openid_scopes: row.scopes.iter().filter_map(|it| OpenidScope::parse(it)).collect(),
            session: row.session_id,
            resources: row.resources,
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
        // A grant without an organization is about the account alone, and works in none.
        let pinned_to = row.organization_id.unwrap_or(OrganizationId::SYSTEM.0);
        let account = AccountId::from_uuid(row.account_id);
        let credential = Credential::OauthToken(account, Box::new(details));
        identity(
            account,
            (row.home_organization_id, Some(pinned_to)),
            membership,
            (ScopeSet::from_stored(&row.scopes), credential),
        )
    }
}

/// Returns the identities of the access tokens with these digests that are valid now by the
/// database's clock. Does not check whether they are for this API.
pub async fn find_by_tokens(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Identity>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select t.digest, t.id as token_id, t.scopes, t.resources,
                  least(t.expires_at, s.expires_at) as "expires_at!", t.account_id, t.grant_id,
                  c.id as client_uuid, c.client_id, c.organization_id as client_organization_id,
                  t.session_id, a.home_organization_id,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, u.id as "user_id?",
                  u.handle as "user_handle?", u.role as "role?"
           from oauth_access_tokens t
           join oauth_grants g on g.id = t.grant_id
           join oauth_clients c on c.id = g.client_id
           join organizations co on co.id = c.organization_id
           join accounts a on a.id = t.account_id
           left join sessions s on s.id = t.session_id
           left join users u on u.id = g.user_id and u.organization_id = g.organization_id
                            and u.removed_at is null
           left join organizations o on o.id = u.organization_id and o.deleted_at is null
           where t.digest = any($1)
             and t.revoked_at is null and t.expires_at > now()
             and g.revoked_at is null and (g.organization_id is null or o.id is not null)
             -- A private app is for the people of its organization.
             and (g.organization_id is not null or c.visibility = 'public' or exists (
                  select from users m
                  where m.account_id = t.account_id and m.organization_id = c.organization_id
                    and m.removed_at is null))
             and c.disabled_at is null and co.deleted_at is null and co.suspended_at is null
             and a.is_active and a.deleted_at is null
             and (t.session_id is null or s.revoked_at is null and s.expires_at > now())"#,
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

/// Locks a grant of the account for this membership until the transaction ends.
///
/// # Errors
/// Unauthenticated if it was revoked, or is of another membership.
pub async fn lock_grant(
    db: &mut PgConnection,
    (account, membership): (AccountId, MembershipId),
    grant: GrantId,
) -> Result<()> {
    let locked = sqlx::query!(
        "select id from oauth_grants
         where id = $1 and account_id = $2 and user_id = $3 and revoked_at is null
         for no key update",
        grant.uuid(),
        account.uuid(),
        membership.0,
    )
    .fetch_optional(db)
    .await?;
    let revoked = || Error::unauthenticated(AuthFailure::InvalidToken, "This grant was revoked");
    locked.map(|_| ()).ok_or_else(revoked)
}

/// Updates `last_used_at` of grants. Never moves it back.
pub async fn record_use(db: &mut PgConnection, tallies: &[UsageTally]) -> Result<()> {
    let ids: Vec<Uuid> = tallies.iter().map(|tally| tally.key.uuid()).collect();
    let times: Vec<DateTime<Utc>> = tallies.iter().map(|tally| tally.last_used_at).collect();
    sqlx::query!(
        "with batch as (
             select id, max(at) as at from unnest($1::uuid[], $2::timestamptz[]) as t (id, at)
             group by id
         ), locked as (
             select g.id, b.at from oauth_grants g join batch b on b.id = g.id
             order by g.id
             for no key update of g
         )
         update oauth_grants g set last_used_at = greatest(g.last_used_at, l.at)
         from locked l where g.id = l.id",
        &ids,
        &times,
    )
    .execute(db)
    .await?;
    Ok(())
}

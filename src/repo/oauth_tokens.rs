//! The redemption of OAuth authorization codes, access tokens and refresh tokens. Every function
//! applies to all organizations: a token belongs to an account.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AccountId, GrantId, OrganizationId};
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::tokens::{
    NewAccessToken, NewRefreshToken, RedeemedCode, SignIn, StoredRefreshToken, TokenGrant,
};
use crate::model::role::Role;
use crate::model::secret::Digest;

fn to_bytes(digests: &[Digest]) -> Vec<Vec<u8>> {
    digests.iter().map(|digest| digest.bytes().to_vec()).collect()
}

fn to_digest(bytes: Vec<u8>) -> Digest {
    // A constraint requires 32 bytes.
    Digest::new(bytes.try_into().unwrap_or_default())
}

/// Marks a code of this client as used and returns it; `None` if there is none, or it was used or
/// has expired by the database's clock. Of several attempts, one succeeds.
pub async fn redeem_code(
    db: &mut PgConnection,
    candidates: &[Digest],
    client: Uuid,
) -> Result<Option<RedeemedCode>> {
    let row = sqlx::query!(
        "update oauth_codes c set used_at = now()
         from oauth_grants g, sessions s
         where c.digest = any($1) and g.id = c.grant_id and g.client_id = $2
           and s.id = c.session_id and c.used_at is null and c.expires_at > now()
         returning c.digest, c.grant_id, c.session_id, s.created_at as signed_in_at, c.nonce,
                   c.redirect_uri, c.challenge, c.scopes, c.resources, c.is_offline",
        &to_bytes(candidates),
        client,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| RedeemedCode {
        digest: to_digest(row.digest),
        grant: GrantId::from_uuid(row.grant_id),
        session: row.session_id,
        signed_in_at: row.signed_in_at,
        nonce: row.nonce,
        redirect_uri: row.redirect_uri,
        challenge: row.challenge,
        scopes: row.scopes,
        resources: row.resources,
        is_offline: row.is_offline,
    }))
}

/// Records that tokens are issued for a code.
pub async fn mark_redeemed(db: &mut PgConnection, code: Digest) -> Result<()> {
    sqlx::query!(
        "update oauth_codes set has_tokens = true where digest = $1",
        code.bytes().as_slice(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the grant of a code of this client for which tokens were issued.
pub async fn find_used_code(
    db: &mut PgConnection,
    candidates: &[Digest],
    client: Uuid,
) -> Result<Option<GrantId>> {
    let grant = sqlx::query_scalar!(
        "select c.grant_id from oauth_codes c
         join oauth_grants g on g.id = c.grant_id
         where c.digest = any($1) and g.client_id = $2 and c.used_at is not null
           and c.has_tokens is not false",
        &to_bytes(candidates),
        client,
    )
    .fetch_optional(db)
    .await?;
    Ok(grant.map(GrantId::from_uuid))
}

/// Locks a grant and returns it; `None` if tokens may no longer be issued for it: it was revoked,
/// or its account, membership or session has ended, or it is about an account that has left the
/// organization of a private app. `session`, if given, must still be valid.
pub async fn lock_grant(
    db: &mut PgConnection,
    grant: GrantId,
    session: Option<Uuid>,
) -> Result<Option<TokenGrant>> {
    let row = sqlx::query!(
        r#"select g.account_id, g.organization_id, o.handle as "handle?",
                  u.role as "role?", o.suspended_at is not null as "is_suspended!"
           from oauth_grants g
           join accounts a on a.id = g.account_id
           join oauth_clients c on c.id = g.client_id
           left join users u on u.id = g.user_id and u.organization_id = g.organization_id
                            and u.removed_at is null
           left join organizations o on o.id = u.organization_id and o.deleted_at is null
           where g.id = $1 and g.revoked_at is null and a.is_active and a.deleted_at is null
             and (g.organization_id is null or o.id is not null)
             -- A private app is for the members of its organization.
             and (g.organization_id is not null or c.visibility = 'public'
                  or exists (
                      select from users m
                      where m.account_id = g.account_id and m.organization_id = c.organization_id
                        and m.removed_at is null))
             and ($2::uuid is null or exists (
                 select from sessions s
                 where s.id = $2 and s.account_id = g.account_id
                   and s.revoked_at is null and s.expires_at > now()))
           for no key update of g"#,
        grant.uuid(),
        session,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| TokenGrant {
        id: grant,
        account: AccountId::from_uuid(row.account_id),
        organization: row.organization_id.map(OrganizationId),
        organization_handle: row.handle,
        role: row.role.as_deref().map(Role::from_stored),
        is_suspended: row.is_suspended,
    }))
}

/// Inserts an access token.
pub async fn insert_access_token(db: &mut PgConnection, token: &NewAccessToken<'_>) -> Result<()> {
    sqlx::query!(
        "insert into oauth_access_tokens (id, digest, account_id, grant_id, session_id, scopes,
                                          resources, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, now(), now() + make_interval(secs => $8))",
        token.id,
        token.digest.bytes().as_slice(),
        token.grant.account.uuid(),
        token.grant.id.uuid(),
        token.session,
        token.scopes,
        token.resources,
        token.lifetime.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Inserts a refresh token. It expires when it is not used for `idle`, and with its chain.
pub async fn insert_refresh_token(
    db: &mut PgConnection,
    token: &NewRefreshToken<'_>,
) -> Result<()> {
    sqlx::query!(
        "insert into oauth_refresh_tokens (id, digest, account_id, grant_id, code, generation, salt,
                                           pepper_id, scopes, resources, auth_time, sid,
                                           created_at, expires_at, absolute_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $14, $15, now(),
                 least(now() + make_interval(secs => $11),
                       coalesce($12, now() + make_interval(secs => $13))),
                 coalesce($12, now() + make_interval(secs => $13)))",
        token.id,
        token.digest.bytes().as_slice(),
        token.grant.account.uuid(),
        token.grant.id.uuid(),
        token.code.bytes().as_slice(),
        token.generation,
        token.salt.as_slice(),
        token.pepper_id,
        token.scopes,
        token.resources,
        token.idle.as_secs_f64(),
        token.absolute_at,
        token.absolute.as_secs_f64(),
        token.sign_in.map(|it| it.at),
        token.sign_in.map(|it| it.session),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the refresh token of this client with one of these digests; `None` if there is none or it
/// has expired.
pub async fn lock_refresh_token(
    db: &mut PgConnection,
    candidates: &[Digest],
    client: Uuid,
) -> Result<Option<StoredRefreshToken>> {
    let row = sqlx::query!(
        r#"select r.id, r.grant_id, r.code, r.generation, r.salt, r.pepper_id, r.scopes,
                  r.resources, r.auth_time, r.sid, r.absolute_at, r.used_at, now() as "now!",
                  exists (select from oauth_refresh_tokens n
                          where n.code = r.code and n.generation = r.generation + 1
                            and n.used_at is not null) as "is_successor_used!"
           from oauth_refresh_tokens r
           join oauth_grants g on g.id = r.grant_id
           where r.digest = any($1) and g.client_id = $2 and r.expires_at > now()
           for no key update of r"#,
        &to_bytes(candidates),
        client,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| StoredRefreshToken {
        id: row.id,
        grant: GrantId::from_uuid(row.grant_id),
        code: to_digest(row.code),
        generation: row.generation,
        salt: row.salt,
        pepper_id: row.pepper_id,
        scopes: row.scopes,
        resources: row.resources,
        sign_in: row.sid.zip(row.auth_time).map(|(session, at)| SignIn { session, at }),
        absolute_at: row.absolute_at,
        time_since_use: row.used_at.map(|used_at: DateTime<Utc>| row.now - used_at),
        is_successor_used: row.is_successor_used,
    }))
}

/// Records that a refresh token's successor was issued.
pub async fn mark_refresh_token_used(db: &mut PgConnection, id: Uuid) -> Result<()> {
    sqlx::query!(
        "update oauth_refresh_tokens set used_at = now() where id = $1 and used_at is null",
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the account and the organization of a grant.
pub async fn find_owner(
    db: &mut PgConnection,
    grant: GrantId,
) -> Result<Option<(AccountId, Option<OrganizationId>)>> {
    let row = sqlx::query!(
        "select account_id, organization_id from oauth_grants where id = $1",
        grant.uuid(),
    )
    .fetch_optional(db)
    .await?;
    let owner = |account, organization: Option<Uuid>| {
        (AccountId::from_uuid(account), organization.map(OrganizationId))
    };
    Ok(row.map(|row| owner(row.account_id, row.organization_id)))
}

/// Revokes a grant, and with it all of its tokens; returns whether it was not revoked before.
pub async fn revoke_grant(
    db: &mut PgConnection,
    grant: GrantId,
    reason: GrantRevocationReason,
) -> Result<bool> {
    let result = sqlx::query!(
        "update oauth_grants set revoked_at = now(), revoked_reason = $2, updated_at = now()
         where id = $1 and revoked_at is null",
        grant.uuid(),
        reason.as_str(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Revokes an access token of this client; returns whether there was one.
pub async fn revoke_access_token(
    db: &mut PgConnection,
    candidates: &[Digest],
    client: Uuid,
) -> Result<bool> {
    let result = sqlx::query!(
        "update oauth_access_tokens t set revoked_at = now()
         from oauth_grants g
         where t.digest = any($1) and g.id = t.grant_id and g.client_id = $2
           and t.revoked_at is null",
        &to_bytes(candidates),
        client,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Returns whether the client has this secret and it has not expired, and records its use at most
/// once a minute, so that a busy client does not cause a write each time.
pub async fn use_client_secret(
    db: &mut PgConnection,
    candidates: &[Digest],
    client: Uuid,
) -> Result<bool> {
    let found = sqlx::query!(
        r#"with found as (
               select id, last_used_at from oauth_client_secrets
               where digest = any($1) and client_id = $2
                 and (expires_at is null or expires_at > now())
           ), used as (
               update oauth_client_secrets s set last_used_at = now()
               from found f
               where s.id = f.id
                 and (f.last_used_at is null or f.last_used_at < now() - interval '1 minute')
           )
           select id from found"#,
        &to_bytes(candidates),
        client,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// Removes up to 1,000 access tokens and as many codes that expired more than a day ago, and as
/// many refresh tokens that have expired; returns how many. A used refresh token is kept until it
/// would have expired, so that its reuse is detected. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let tokens = sqlx::query!(
        "delete from oauth_access_tokens where id = any(array(
             select id from oauth_access_tokens where expires_at < now() - interval '1 day'
             limit 1000 for update skip locked))",
    )
    .execute(&mut *db)
    .await?;
    let refresh_tokens = sqlx::query!(
        "delete from oauth_refresh_tokens where id = any(array(
             select id from oauth_refresh_tokens where expires_at < now()
             limit 1000 for update skip locked))",
    )
    .execute(&mut *db)
    .await?;
    let codes = sqlx::query!(
        "delete from oauth_codes where digest = any(array(
             select digest from oauth_codes where expires_at < now() - interval '1 day'
             limit 1000 for update skip locked))",
    )
    .execute(&mut *db)
    .await?;
    let results = [tokens, refresh_tokens, codes];
    Ok(results.iter().map(sqlx::postgres::PgQueryResult::rows_affected).sum())
}

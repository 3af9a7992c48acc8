//! Sessions of accounts.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::account_reach::AccountReach;
use crate::model::ids::{AccountId, SessionId};
use crate::model::session::{ABSOLUTE_LIFETIME, IDLE_LIFETIME, NewSession, Session};

/// Inserts a session.
pub async fn insert(db: &mut PgConnection, session: &NewSession<'_>) -> Result<()> {
    sqlx::query!(
        "insert into sessions (id, account_id, digest, address, user_agent, created_at,
                               last_seen_at, expires_at, is_remembered, pinned_to, connection_id,
                               ends_at)
         values ($1, $2, $3, $4, $5, $6, $6, least($7, $11::timestamptz), $8, $9, $10, $11)",
        session.id.uuid(),
        session.account.uuid(),
        session.digest.bytes().as_slice(),
        session.client.address.map(|address| address.to_string()),
        session.client.user_agent,
        session.created_at,
        session.created_at + IDLE_LIFETIME,
        session.is_remembered,
        session.sso.map(|sso| sso.organization.0),
        session.sso.map(|sso| sso.connection.uuid()),
        session.sso.map(|sso| sso.ends_at),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Extends sessions that were used, but not beyond [`ABSOLUTE_LIFETIME`] or their own latest end.
/// Never moves times back. To save writes, a session stays unchanged if its stored last use is less
/// than a minute before this one.
pub async fn extend_used(db: &mut PgConnection, uses: &[(SessionId, DateTime<Utc>)]) -> Result<()> {
    let ids: Vec<Uuid> = uses.iter().map(|(id, _)| id.uuid()).collect();
    let times: Vec<DateTime<Utc>> = uses.iter().map(|(_, at)| *at).collect();
    sqlx::query!(
        "with batch as (
             select * from unnest($1::uuid[], $2::timestamptz[]) as t (id, at)
         ), locked as (
             select s.id, b.at from sessions s join batch b on b.id = s.id
             where b.at > s.last_seen_at + interval '1 minute' and s.revoked_at is null
             order by s.id
             for no key update of s
         )
         update sessions s
         set last_seen_at = l.at,
             expires_at = greatest(s.expires_at, least(l.at + make_interval(secs => $3),
                                                       s.created_at + make_interval(secs => $4),
                                                       s.ends_at))
         from locked l where s.id = l.id",
        &ids,
        &times,
        IDLE_LIFETIME.as_seconds_f64(),
        ABSOLUTE_LIFETIME.as_seconds_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    address: Option<String>,
    user_agent: Option<String>,
    created_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: SessionId::from_uuid(row.id),
            address: row.address,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
        }
    }
}

/// Returns at most 1,000 of the account's valid sessions, newest first: those within this reach.
pub async fn list(db: &mut PgConnection, reach: AccountReach) -> Result<Vec<Session>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, address, user_agent, created_at, last_seen_at, expires_at from sessions
         where account_id = $1 and revoked_at is null and expires_at > now()
           and ($2::uuid is null or pinned_to = $2)
         order by id desc limit 1000",
        reach.account.uuid(),
        reach.only.map(|organization| organization.0),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Session::from).collect())
}

/// Returns a session of the account, if it is valid.
pub async fn find(
    db: &mut PgConnection,
    account: AccountId,
    id: SessionId,
) -> Result<Option<Session>> {
    let row = sqlx::query_as!(
        Row,
        "select id, address, user_agent, created_at, last_seen_at, expires_at from sessions
         where account_id = $1 and id = $2 and revoked_at is null and expires_at > now()",
        account.uuid(),
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Session::from))
}

/// Returns whether the browser is to keep the session's cookie when it is closed; false if the
/// account has no such session.
pub async fn is_remembered(
    db: &mut PgConnection,
    account: AccountId,
    id: SessionId,
) -> Result<bool> {
    let is_remembered = sqlx::query_scalar!(
        "select is_remembered from sessions where account_id = $1 and id = $2",
        account.uuid(),
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(is_remembered.unwrap_or_default())
}

/// Returns whether the account with this e-mail address signed in from the network since this time,
/// as far as sessions are stored. Single sign-on does not count: an organization's provider says
/// who signs in.
pub async fn signed_in_from(
    db: &mut PgConnection,
    email: &str,
    network: IpNet,
    since: DateTime<Utc>,
) -> Result<bool> {
    let was_started = sqlx::query_scalar!(
        r#"select exists (
               select from sessions s join accounts a on a.id = s.account_id
               where a.email = $1 and s.created_at > $3 and s.address::inet <<= $2
                 and s.pinned_to is null
           ) as "was_started!""#,
        email,
        network as IpNet,
        since,
    )
    .fetch_one(db)
    .await?;
    Ok(was_started)
}

/// Returns whether the account signed in since this time, but never from the network, as far as
/// sessions are stored.
pub async fn is_new_network(
    db: &mut PgConnection,
    account: AccountId,
    network: IpNet,
    since: DateTime<Utc>,
) -> Result<bool> {
    let is_new = sqlx::query_scalar!(
        r#"select count(*) > 0 and not coalesce(bool_or(address::inet <<= $2), false) as "is_new!"
           from sessions where account_id = $1 and created_at > $3 and pinned_to is null"#,
        account.uuid(),
        network as IpNet,
        since,
    )
    .fetch_one(db)
    .await?;
    Ok(is_new)
}

/// Revokes a session of the account within this reach; returns whether it was valid until now.
pub async fn revoke(
    db: &mut PgConnection,
    reach: AccountReach,
    id: SessionId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update sessions set revoked_at = $3
         where account_id = $1 and id = $2 and revoked_at is null and expires_at > now()
           and ($4::uuid is null or pinned_to = $4)",
        reach.account.uuid(),
        id.uuid(),
        at,
        reach.only.map(|organization| organization.0),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Revokes every session of the account within this reach except `except`; returns how many.
pub async fn revoke_all(
    db: &mut PgConnection,
    reach: AccountReach,
    except: Option<SessionId>,
    at: DateTime<Utc>,
) -> Result<u64> {
    let result = sqlx::query!(
        "with held as (
             select id from sessions
             where account_id = $1 and revoked_at is null and id is distinct from $2
               and ($4::uuid is null or pinned_to = $4)
             order by id
             for no key update
         )
         update sessions s set revoked_at = $3 from held where s.id = held.id",
        reach.account.uuid(),
        except.map(SessionId::uuid),
        at,
        reach.only.map(|organization| organization.0),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Removes every session of the account, with their IP addresses; returns how many were valid until
/// now.
pub async fn remove_all(db: &mut PgConnection, account: AccountId) -> Result<i64> {
    let ended = sqlx::query_scalar!(
        r#"with removed as (
               delete from sessions where id = any(array(
                   select id from sessions where account_id = $1 order by id for update))
               returning revoked_at is null and expires_at > now() as was_good
           )
           select count(*) filter (where was_good) as "ended!" from removed"#,
        account.uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(ended)
}

/// Removes up to 1,000 sessions whose expiry is more than this many days ago, revoked or not;
/// returns how many. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from sessions
         where id = any(array(
             select id from sessions where expires_at < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

//! Mails in the table `outbox`, in which every job is queued (see [`super::jobs`]).

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AccountId, InviteId, OrganizationId};
use crate::model::mail::{MailKind, SecurityNotice};

/// Queues a mail in place of unsent ones of the same kind to the same address.
pub async fn insert(
    db: &mut PgConnection,
    id: Uuid,
    (kind, address): (MailKind, &str),
    callback_url: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    cancel(db, kind, address).await?;
    sqlx::query!(
        "insert into outbox (id, kind, address, callback_url, created_at, due_at, invite_id)
         values ($1, $2, $3, $4, $5, now(), $6)",
        id,
        kind.as_str(),
        address,
        callback_url,
        at,
        kind.invite().map(InviteId::uuid),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Queues the mail of the claim to an organization's first key.
pub async fn insert_claim(
    db: &mut PgConnection,
    id: Uuid,
    (claim_of, address): (OrganizationId, &str),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into outbox (id, kind, address, created_at, due_at, claim_of)
         values ($1, $2, $3, $4, now(), $5)",
        id,
        MailKind::ClaimKey(claim_of).as_str(),
        address,
        at,
        claim_of.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Queues a notice to the account, if its address is verified, it has not opted out, and no notice
/// of the same kind waits for its first attempt.
pub async fn insert_notice(
    db: &mut PgConnection,
    id: Uuid,
    (notice, account): (SecurityNotice, AccountId),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into outbox (id, kind, address, created_at, due_at)
         select $1, $2, a.email, $4, now() from accounts a
         where a.id = $3 and a.security_mails and a.verified_at is not null
           and not exists (select from outbox o
                           where o.address = a.email and o.kind = $2 and o.dead_at is null
                             and o.attempts = 0)",
        id,
        notice.as_str(),
        account.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the unsent mails of a kind to an address, except dead ones.
pub async fn cancel(db: &mut PgConnection, kind: MailKind, address: &str) -> Result<()> {
    sqlx::query!(
        "delete from outbox where id = any(array(
             select id from outbox
             where kind = $1 and address = $2 and invite_id is not distinct from $3
               and dead_at is null
             order by id for update))",
        kind.as_str(),
        address,
        kind.invite().map(InviteId::uuid),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the queued and the dead mails to an account about itself: all but invitations and
/// claims.
pub async fn remove_about_account(db: &mut PgConnection, address: &str) -> Result<()> {
    sqlx::query!(
        "delete from outbox where id = any(array(
             select id from outbox
             where address = $1 and invite_id is null and claim_of is null
             order by id for update))",
        address,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the addresses to mail, each once: those of an organization's owners, and that of an
/// account. Returns only verified ones of active accounts: others may be a stranger's.
pub async fn find_addresses(
    db: &mut PgConnection,
    organization: Option<OrganizationId>,
    account: Option<AccountId>,
) -> Result<Vec<String>> {
    let addresses = sqlx::query_scalar!(
        r#"select a.email as "email!" from accounts a
         where (a.id = $2 or a.id in (
                   select u.account_id from users u
                   join organizations o on o.id = u.organization_id and o.deleted_at is null
                   where u.organization_id = $1 and u.role = 'owner' and u.removed_at is null))
           and a.is_active and a.deleted_at is null and a.verified_at is not null
         order by a.email"#,
        organization.map(|organization| organization.0),
        account.map(AccountId::uuid),
    )
    .fetch_all(db)
    .await?;
    Ok(addresses)
}

/// Queues a mail of one kind to each address, with the content that it needs.
pub async fn insert_each(
    db: &mut PgConnection,
    kind: MailKind,
    mails: &[(Uuid, String)],
    content: &Value,
    at: DateTime<Utc>,
) -> Result<()> {
    let (ids, addresses): (Vec<Uuid>, Vec<String>) = mails.iter().cloned().unzip();
    sqlx::query!(
        "insert into outbox (id, kind, address, created_at, due_at, payload)
         select id, $1, address, $2, now(), $3
         from unnest($4::uuid[], $5::text[]) as mail (id, address)",
        kind.as_str(),
        at,
        content,
        &ids,
        &addresses,
    )
    .execute(db)
    .await?;
    Ok(())
}

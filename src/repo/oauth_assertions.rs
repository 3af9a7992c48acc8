//! The ids of assertions that clients authenticated with, so that each is valid once.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::client_assertion::ClientAssertion;

/// Records that a client used an assertion; returns whether it is the first use. Of several
/// concurrent uses, one is the first.
pub async fn insert(
    db: &mut PgConnection,
    client: &OauthClient,
    assertion: &ClientAssertion,
) -> Result<bool> {
    let result = sqlx::query!(
        "insert into oauth_assertions (client_id, organization_id, assertion_id, expires_at)
         values ($1, $2, $3, $4) on conflict do nothing",
        client.id,
        client.organization.0,
        assertion.id,
        assertion.accepted_until,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes up to 1,000 assertions that cannot be used any more; returns how many. Applies to all
/// organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from oauth_assertions
         where (client_id, assertion_id) in (
             select client_id, assertion_id from oauth_assertions
             where expires_at < now() - interval '1 hour'
             limit 1000 for update skip locked)",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

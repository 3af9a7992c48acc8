//! Sign-ins that wait for the answer of an identity provider.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::ConnectionId;
use crate::model::secret::Digest;
use crate::model::sso::flow::{FLOW_LIFETIME, NewSignInFlow, SignInFlow};

/// Inserts a sign-in, which expires by the database's clock.
pub async fn insert(db: &mut PgConnection, flow: &NewSignInFlow<'_>) -> Result<()> {
    let (connection, organization) = flow.connection;
    sqlx::query!(
        "insert into sso_flows (digest, pepper_id, connection_id, organization_id, browser_digest,
                                callback_url, expires_at)
         values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))",
        flow.digest.bytes().as_slice(),
        flow.pepper_id,
        connection.uuid(),
        organization.0,
        flow.browser.bytes().as_slice(),
        flow.callback_url,
        FLOW_LIFETIME.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Marks the sign-in as answered and returns it: of several concurrent calls, one gets it. `None`
/// if no sign-in of the connection has one of these digests, another browser began it, or it was
/// answered already or has expired.
pub async fn consume(
    db: &mut PgConnection,
    connection: ConnectionId,
    (states, browsers): (&[Digest], &[Digest]),
    at: DateTime<Utc>,
) -> Result<Option<SignInFlow>> {
    let bytes = |digests: &[Digest]| -> Vec<Vec<u8>> {
        digests.iter().map(|digest| digest.bytes().to_vec()).collect()
    };
    let row = sqlx::query!(
        "update sso_flows set used_at = $4
         where digest = any($1) and browser_digest = any($2) and connection_id = $3
           and used_at is null and expires_at > now()
         returning pepper_id, callback_url",
        &bytes(states),
        &bytes(browsers),
        connection.uuid(),
        at,
    )
    .fetch_optional(db)
    .await?;
    let flow =
        row.map(|row| SignInFlow { pepper_id: row.pepper_id, callback_url: row.callback_url });
    Ok(flow)
}

/// Removes up to 1,000 expired sign-ins; returns how many. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from sso_flows
         where digest = any(array(
             select digest from sso_flows where expires_at < now() - interval '1 hour'
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

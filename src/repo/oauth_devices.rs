//! Requests of devices (RFC 8628). Every function applies to all organizations: until a person
//! answers, no organization is chosen.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::oauth::authorization_request::RequestedAccess;
use crate::model::oauth::device::{
    ClaimedDevice, DEVICE_LIFETIME, DeviceClaim, DevicePoll, NewDevice, POLL_INTERVAL_SECONDS,
    SLOW_DOWN_SECONDS,
};
use crate::model::secret::Digest;

fn to_bytes(digests: &[Digest]) -> Vec<Vec<u8>> {
    digests.iter().map(|digest| digest.bytes().to_vec()).collect()
}

/// Inserts a request, which expires by the database's clock. Returns false if another one has the
/// same user code.
pub async fn insert(db: &mut PgConnection, new: &NewDevice<'_>) -> Result<bool> {
    let scopes: Vec<String> = new.access.own_scope_texts().collect();
    let resources = new.access.resources.iter().map(|it| it.as_str().to_owned());
    let resources: Vec<String> = resources.collect();
    let result = sqlx::query!(
        "insert into oauth_devices (digest, user_code_digest, client_id, organization_id, scopes,
                                    resources, is_offline, status, interval_seconds, created_at,
                                    expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, now(),
                 now() + make_interval(secs => $9))
         on conflict (user_code_digest) do nothing",
        new.digest.bytes().as_slice(),
        new.user_code.bytes().as_slice(),
        new.client.id,
        new.client.organization.0,
        &scopes,
        &resources,
        new.access.is_offline,
        POLL_INTERVAL_SECONDS,
        DEVICE_LIFETIME.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Claims the request whose user code has one of these digests, for an account that answers with
/// the handle of this digest. Returns false if there is none, it was answered or has expired, or
/// another account has claimed it. The same account may claim it again.
pub async fn claim(
    db: &mut PgConnection,
    user_code: &[Digest],
    claim: DeviceClaim,
    handle: Digest,
) -> Result<bool> {
    let result = sqlx::query!(
        "update oauth_devices
         set status = 'claimed', account_id = $2, session_id = $3, request_digest = $4
         where user_code_digest = any($1) and expires_at > now()
           and (status = 'pending' or status = 'claimed' and account_id = $2)",
        &to_bytes(user_code),
        claim.account.uuid(),
        claim.session.uuid(),
        handle.bytes().as_slice(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Returns the request that was claimed in this session with a handle of one of these digests;
/// `None` if it was answered or has expired.
pub async fn find_claimed(
    db: &mut PgConnection,
    handle: &[Digest],
    claim: DeviceClaim,
) -> Result<Option<ClaimedDevice>> {
    let row = sqlx::query!(
        "select d.digest, c.client_id, d.scopes, d.resources, d.is_offline
         from oauth_devices d join oauth_clients c on c.id = d.client_id
         where d.request_digest = any($1) and d.account_id = $2 and d.session_id = $3
           and d.status = 'claimed' and d.expires_at > now()",
        &to_bytes(handle),
        claim.account.uuid(),
        claim.session.uuid(),
    )
    .fetch_optional(db)
    .await?;
    // A row of another version may contain a text that this one does not know.
    Ok(row.and_then(|row| {
        let access = RequestedAccess::from_stored(&row.scopes, row.is_offline, &row.resources)?;
        let digest = Digest::new(row.digest.try_into().ok()?);
        Some(ClaimedDevice { digest, client_id: row.client_id, access })
    }))
}

/// Records the answer to a request that is claimed in this session. Returns the time that was left
/// for an answer; `None` if it was answered already or has expired. Of several answers, one
/// succeeds.
pub async fn answer(
    db: &mut PgConnection,
    device: Digest,
    claim: DeviceClaim,
    is_approved: bool,
) -> Result<Option<Duration>> {
    let left = sqlx::query_scalar!(
        r#"update oauth_devices set status = $4
           where digest = $1 and account_id = $2 and session_id = $3 and status = 'claimed'
             and expires_at > now()
           returning extract(epoch from expires_at - now())::float8 as "left!""#,
        device.bytes().as_slice(),
        claim.account.uuid(),
        claim.session.uuid(),
        if is_approved { "approved" } else { "denied" },
    )
    .fetch_optional(db)
    .await?;
    Ok(left.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Records a poll of this client and returns what it finds; `None` if the client has no such
/// request. The request is locked until the transaction ends. A poll that comes before the interval
/// has passed lengthens the interval.
pub async fn poll(
    db: &mut PgConnection,
    candidates: &[Digest],
    client: Uuid,
) -> Result<Option<DevicePoll>> {
    let row = sqlx::query!(
        r#"with polled as (
               select digest, status, expires_at <= now() as is_expired,
                      coalesce(polled_at + make_interval(secs => interval_seconds)
                               > clock_timestamp(), false) as is_early
               from oauth_devices where digest = any($1) and client_id = $2 for no key update
           )
           update oauth_devices d
           set polled_at = clock_timestamp(),
               interval_seconds = d.interval_seconds + case when p.is_early then $3 else 0 end
           from polled p where d.digest = p.digest
           returning p.status, p.is_expired as "is_expired!", p.is_early as "is_early!""#,
        &to_bytes(candidates),
        client,
        SLOW_DOWN_SECONDS,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| match &*row.status {
        "approved" => DevicePoll::Approved,
        "denied" => DevicePoll::Denied,
        _ if row.is_expired => DevicePoll::Expired,
        _ => DevicePoll::Pending { is_early: row.is_early },
    }))
}

/// Removes up to 1,000 requests that expired more than a day ago, like their codes; returns how
/// many.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from oauth_devices where digest = any(array(
             select digest from oauth_devices where expires_at < now() - interval '1 day'
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

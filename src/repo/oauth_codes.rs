//! OAuth authorization codes.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::oauth::grant::NewAuthorizationCode;

/// Inserts a code. It expires by the database's clock, by which it is redeemed.
pub async fn insert(db: &mut PgConnection, new: &NewAuthorizationCode<'_>) -> Result<()> {
    let resources: Vec<String> = new.resources.iter().map(|it| it.as_str().to_owned()).collect();
    sqlx::query!(
        "insert into oauth_codes (digest, account_id, grant_id, session_id, redirect_uri,
                                  challenge, nonce, scopes, resources, is_offline, created_at,
                                  expires_at, has_tokens)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(),
                 now() + make_interval(secs => $11), false)",
        new.digest.bytes().as_slice(),
        new.account.uuid(),
        new.grant.uuid(),
        new.session.uuid(),
        new.redirect_uri,
        new.challenge,
        new.nonce,
        new.scopes,
        &resources,
        new.is_offline,
        new.lifetime.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

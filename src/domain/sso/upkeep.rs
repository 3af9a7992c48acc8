//! Keeps connections current: fetches the metadata of the providers of active connections again,
//! and seals secrets again after a rotation of the sealing keys.

use chrono::TimeDelta;
use futures_util::future::join_all;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::sso::discovery::discover_stored;
use crate::error::Result;
use crate::repo::sso_provider_metadata::{self as metadata, DueConnection};

/// The age at which metadata is fetched again: less than the interval at which a server looks for
/// it, so that each interval finds all of it.
const MAX_AGE: TimeDelta = TimeDelta::minutes(55);
/// The number of connections whose metadata is fetched concurrently.
const BATCH_SIZE: i64 = 8;

/// Fetches all metadata that is due, and seals every secret with the newest key. Several servers
/// share the work. Failures are logged.
pub async fn run(app: &App) {
    if !app.config.sso.is_on {
        return;
    }
    if let Err(error) = refresh_metadata(app).await {
        let cause = error.cause();
        tracing::warn!(%cause, "connections could not be refreshed; retrying in 1 h");
    }
    if let Err(error) = reseal_secrets(app).await {
        let cause = error.cause();
        tracing::warn!(%cause, "client secrets could not be sealed again; retrying in 1 h");
    }
}

/// Fetches the metadata of the providers of all active connections that was not fetched for about
/// an hour. If that fails, the connection keeps its metadata and shows the error. Returns how many
/// connections were due.
///
/// # Errors
/// The database does not respond.
pub async fn refresh_metadata(app: &App) -> Result<usize> {
    let mut count = 0;
    loop {
        let now = app.clock.now();
        let claim =
            async |tx: &mut PgConnection| metadata::claim_due(tx, now, MAX_AGE, BATCH_SIZE).await;
        let due = app.db.transaction(claim).await?;
        if due.is_empty() {
            return Ok(count);
        }
        count += due.len();
        for stored in join_all(due.iter().map(|connection| refresh(app, connection))).await {
            stored?;
        }
    }
}

async fn refresh(app: &App, connection: &DueConnection) -> Result<()> {
    let (id, organization) = (connection.id, connection.organization);
    let discovered = discover_stored(app, &connection.issuer).await;
    let at = app.clock.now();
    app.db
        .tenant_transaction(organization, async |tx| match &discovered {
            Ok(discovered) => {
                let of = (id, connection.issuer.as_str());
                metadata::store(tx, organization, of, &discovered.metadata, at).await
            }
            Err(failure) => {
                tracing::warn!(connection = %id, %failure, "a provider cannot be used");
                let text = format!("The issuer {failure}");
                metadata::record_error(tx, organization, id, &text).await
            }
        })
        .await
}

/// Seals every client secret that another key sealed with the newest key, so that the others can be
/// removed from the settings. Returns how many.
///
/// # Errors
/// The database does not respond. A secret whose key is not configured stays as it is.
pub async fn reseal_secrets(app: &App) -> Result<usize> {
    let Some(newest) = app.sealing_keys.newest_id() else { return Ok(0) };
    let (mut after, mut count) = (None, 0);
    loop {
        let list = async |db: &mut PgConnection| {
            metadata::list_sealed_with_other_keys(db, newest, after).await
        };
        let secrets = app.db.run(list).await?;
        if secrets.is_empty() {
            return Ok(count);
        }
        for (id, organization, sealed) in secrets {
            after = Some(id);
            let opened = app.sealing_keys.open(id.uuid(), &sealed);
            let again = opened.and_then(|secret| app.sealing_keys.seal(id.uuid(), &secret));
            let again = match again {
                Ok(again) => again,
                Err(error) => {
                    let cause = error.cause();
                    tracing::warn!(connection = %id, %cause, "a client secret cannot be opened");
                    continue;
                }
            };
            let replace = async |tx: &mut PgConnection| {
                metadata::reseal(tx, organization, id, (&sealed, &again)).await
            };
            count += usize::from(app.db.tenant_transaction(organization, replace).await?);
        }
    }
}

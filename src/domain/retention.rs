//! Removes what is past its retention (README, *Retention*): a batch at a time, each in a
//! transaction of its own, so that no lock is held for long; rows that somebody else has locked are
//! left for the next time. One table that fails keeps no other from its turn.

use sqlx::PgConnection;

use crate::app::App;
use crate::config::retention::RetentionSettings;
use crate::domain::audit_retention;
use crate::error::Result;
use crate::model::ids::OrganizationId;
use crate::repo::{
    accounts, deleted_organizations, denials, email_tokens, ended_subscriptions, idempotency_keys,
    invites, key_claims, key_endings, key_sessions, outbox, payments, personal_tokens, rate_limits,
    sessions, unfulfilled_checkouts, usage, users,
};

/// What is removed by one statement.
#[derive(Clone, Copy)]
enum Part {
    Mails,
    EmailTokens,
    Sessions,
    KeySessions,
    IdempotencyKeys,
    Denials,
    RateLimits,
    Usage,
    Invites,
    Claims,
    Payments,
    Checkouts,
    Ends,
    PersonalTokens,
    LinksToKeys,
    Keys,
    Seats,
    Accounts,
    AddressesOf(OrganizationId),
    RowsOf(OrganizationId),
}

/// In this order: what refers to something goes before it.
const PARTS: [Part; 18] = [
    Part::Mails,
    Part::EmailTokens,
    Part::Sessions,
    Part::KeySessions,
    Part::IdempotencyKeys,
    Part::Denials,
    Part::RateLimits,
    Part::Usage,
    Part::Invites,
    Part::Claims,
    Part::Payments,
    Part::Checkouts,
    Part::Ends,
    Part::PersonalTokens,
    Part::LinksToKeys,
    Part::Keys,
    Part::Seats,
    Part::Accounts,
];

impl Part {
    /// What the metrics call it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Mails => "outbox",
            Self::EmailTokens => "email_tokens",
            Self::Sessions => "sessions",
            Self::KeySessions => "key_sessions",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Denials => "denials",
            Self::RateLimits => "rate_limits",
            Self::Usage => "usage_daily",
            Self::Invites => "invites",
            Self::Claims => "key_claims",
            Self::Payments => "payments",
            Self::Checkouts => "unfulfilled_checkouts",
            Self::Ends => "ended_subscriptions",
            Self::PersonalTokens => "personal_tokens",
            Self::LinksToKeys | Self::Keys => "api_keys",
            Self::Seats => "users",
            Self::Accounts => "accounts",
            Self::AddressesOf(_) | Self::RowsOf(_) => "organizations",
        }
    }

    /// Removes a batch. How many rows.
    async fn remove(self, tx: &mut PgConnection, keep: RetentionSettings) -> Result<u64> {
        match self {
            Self::Mails => outbox::sweep(tx, keep.mail).await,
            Self::EmailTokens => email_tokens::sweep(tx).await,
            Self::Sessions => sessions::sweep(tx, keep.sessions).await,
            Self::KeySessions => key_sessions::sweep(tx).await,
            Self::IdempotencyKeys => idempotency_keys::sweep(tx).await,
            Self::Denials => denials::sweep(tx, keep.denials).await,
            Self::RateLimits => rate_limits::sweep(tx).await,
            Self::Usage => usage::sweep(tx, keep.usage).await,
            Self::Invites => invites::sweep(tx, keep.invites).await,
            Self::Claims => key_claims::sweep(tx, keep.invites).await,
            Self::Payments => payments::sweep(tx, keep.payments).await,
            Self::Checkouts => unfulfilled_checkouts::sweep(tx).await,
            Self::Ends => ended_subscriptions::sweep(tx).await,
            Self::PersonalTokens => personal_tokens::sweep(tx, keep.tombstones).await,
            Self::LinksToKeys => key_endings::unlink(tx, keep.tombstones).await,
            Self::Keys => key_endings::sweep(tx, keep.tombstones).await,
            Self::Seats => users::sweep(tx, keep.tombstones).await,
            Self::Accounts => accounts::sweep(tx, keep.tombstones).await,
            Self::AddressesOf(id) => deleted_organizations::remove_addresses(tx, id).await,
            Self::RowsOf(id) => deleted_organizations::remove_rows(tx, id).await,
        }
    }
}

/// Removes everything that is past its retention.
pub async fn sweep(app: &App) {
    for part in PARTS {
        remove_all(app, part).await;
    }
    if let Err(error) = sweep_organizations(app).await {
        tracing::warn!(cause = %error.cause(), "deleted organizations not purged; will retry");
    }
    if let Some(days) = app.config.retention.audit
        && let Err(error) = audit_retention::sweep(app, days).await
    {
        tracing::warn!(cause = %error.cause(), "old audit events not removed; will retry");
    }
}

/// Removes what deleted organizations leave behind: addresses of people at once, everything else
/// when it is due.
async fn sweep_organizations(app: &App) -> Result<()> {
    let days = app.config.retention.deleted_organizations;
    let deleted = app.db.run(async |db| deleted_organizations::list(db, days).await).await?;
    for (organization, is_due) in deleted {
        remove_all(app, Part::AddressesOf(organization)).await;
        if is_due {
            remove_all(app, Part::RowsOf(organization)).await;
            app.db.run(async |db| deleted_organizations::finish(db, organization).await).await?;
        }
    }
    Ok(())
}

/// Removes batches until there is no more to remove.
async fn remove_all(app: &App, part: Part) {
    let (table, keep) = (part.as_str(), app.config.retention);
    loop {
        match app.db.transaction(async |tx| part.remove(tx, keep).await).await {
            Ok(0) => break,
            Ok(rows) => {
                metrics::counter!("retention_removed_total", "table" => table).increment(rows);
            }
            Err(error) => {
                tracing::warn!(table, cause = %error.cause(), "retention failed; will retry");
                break;
            }
        }
    }
}

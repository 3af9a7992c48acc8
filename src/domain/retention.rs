//! Removes what is past its retention (README, *Retention*): a batch at a time, each in a
//! transaction of its own, so that no lock is held for long; rows that somebody else has locked are
//! left for the next time. One table that fails keeps no other from its turn.

use sqlx::PgConnection;

use crate::app::App;
use crate::config::retention::RetentionSettings;
use crate::domain::audit::retention;
use crate::error::Result;
use crate::model::ids::OrganizationId;
use crate::repo::{
    accounts, deleted_organizations, email_tokens, ended_subscriptions, idempotency_keys, invites,
    key_claims, key_lifecycle, key_sessions, memberships, outbox, payments, personal_tokens,
    rate_limits, rejections, sessions, unfulfilled_checkouts, usage,
};

/// What is removed by one statement.
#[derive(Clone, Copy)]
enum SweepTarget {
    Mails,
    EmailTokens,
    Sessions,
    KeySessions,
    IdempotencyKeys,
    Rejections,
    RateLimits,
    Usage,
    Invites,
    KeyClaims,
    Payments,
    UnfulfilledCheckouts,
    EndedSubscriptions,
    PersonalTokens,
    KeyReferences,
    Keys,
    Memberships,
    Accounts,
    EmailsOfDeleted(OrganizationId),
    RowsOfDeleted(OrganizationId),
}

/// In this order: what refers to something goes before it.
const SWEEP_ORDER: [SweepTarget; 18] = [
    SweepTarget::Mails,
    SweepTarget::EmailTokens,
    SweepTarget::Sessions,
    SweepTarget::KeySessions,
    SweepTarget::IdempotencyKeys,
    SweepTarget::Rejections,
    SweepTarget::RateLimits,
    SweepTarget::Usage,
    SweepTarget::Invites,
    SweepTarget::KeyClaims,
    SweepTarget::Payments,
    SweepTarget::UnfulfilledCheckouts,
    SweepTarget::EndedSubscriptions,
    SweepTarget::PersonalTokens,
    SweepTarget::KeyReferences,
    SweepTarget::Keys,
    SweepTarget::Memberships,
    SweepTarget::Accounts,
];

impl SweepTarget {
    /// What the metrics call it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Mails => "outbox",
            Self::EmailTokens => "email_tokens",
            Self::Sessions => "sessions",
            Self::KeySessions => "key_sessions",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Rejections => "denials",
            Self::RateLimits => "rate_limits",
            Self::Usage => "usage_daily",
            Self::Invites => "invites",
            Self::KeyClaims => "key_claims",
            Self::Payments => "payments",
            Self::UnfulfilledCheckouts => "unfulfilled_checkouts",
            Self::EndedSubscriptions => "ended_subscriptions",
            Self::PersonalTokens => "personal_tokens",
            Self::KeyReferences | Self::Keys => "api_keys",
            Self::Memberships => "users",
            Self::Accounts => "accounts",
            Self::EmailsOfDeleted(_) | Self::RowsOfDeleted(_) => "organizations",
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
            Self::Rejections => rejections::sweep(tx, keep.rejections).await,
            Self::RateLimits => rate_limits::sweep(tx).await,
            Self::Usage => usage::sweep(tx, keep.usage).await,
            Self::Invites => invites::sweep(tx, keep.invites).await,
            Self::KeyClaims => key_claims::sweep(tx, keep.invites).await,
            Self::Payments => payments::sweep(tx, keep.payments).await,
            Self::UnfulfilledCheckouts => unfulfilled_checkouts::sweep(tx).await,
            Self::EndedSubscriptions => ended_subscriptions::sweep(tx).await,
            Self::PersonalTokens => personal_tokens::sweep(tx, keep.tombstones).await,
            Self::KeyReferences => key_lifecycle::clear_references(tx, keep.tombstones).await,
            Self::Keys => key_lifecycle::sweep(tx, keep.tombstones).await,
            Self::Memberships => memberships::sweep(tx, keep.tombstones).await,
            Self::Accounts => accounts::sweep(tx, keep.tombstones).await,
            Self::EmailsOfDeleted(id) => deleted_organizations::remove_addresses(tx, id).await,
            Self::RowsOfDeleted(id) => deleted_organizations::remove_rows(tx, id).await,
        }
    }
}

/// Removes everything that is past its retention.
pub async fn sweep(app: &App) {
    for part in SWEEP_ORDER {
        remove_all(app, part).await;
    }
    if let Err(error) = sweep_organizations(app).await {
        tracing::warn!(cause = %error.cause(), "deleted organizations not purged; will retry");
    }
    if let Some(days) = app.config.retention.audit
        && let Err(error) = retention::sweep(app, days).await
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
        remove_all(app, SweepTarget::EmailsOfDeleted(organization)).await;
        if is_due {
            remove_all(app, SweepTarget::RowsOfDeleted(organization)).await;
            app.db
                .run(async |db| deleted_organizations::mark_purged(db, organization).await)
                .await?;
        }
    }
    Ok(())
}

/// Removes batches until there is no more to remove.
async fn remove_all(app: &App, part: SweepTarget) {
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

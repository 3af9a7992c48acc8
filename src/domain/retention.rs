//! Deletes rows that are past their retention (README, *Retention*): in batches, each in its own
//! transaction, so that no lock lasts long. Rows that another transaction has locked are left for
//! the next sweep. A failure in one table is logged, and the others are still processed.

use sqlx::PgConnection;

use crate::app::App;
use crate::config::retention::RetentionSettings;
use crate::domain::audit::retention;
use crate::error::Result;
use crate::model::ids::OrganizationId;
use crate::repo::{
    accounts, credential_changes, deleted_organizations, email_tokens, ended_subscriptions,
    idempotency_keys, invites, jobs, key_claims, key_lifecycle, key_sessions, memberships,
    oauth_assertions, oauth_devices, oauth_grants, oauth_registrations, oauth_requests,
    oauth_tokens, payments, personal_tokens, rate_limits, rejections, revocations, sessions,
    sso_flows, unfulfilled_checkouts, usage, usage_events, usage_hourly,
};

/// The rows that one statement deletes.
#[derive(Clone, Copy)]
enum SweepTarget {
    Jobs,
    EmailTokens,
    Sessions,
    KeySessions,
    IdempotencyKeys,
    Rejections,
    Revocations,
    CredentialChanges,
    OauthTokens,
    OauthGrants,
    RateLimits,
    Usage,
    HourlyUsage,
    UsageResources,
    UsageEvents,
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
    OauthRequests,
    OauthClients,
    OauthDevices,
    OauthAssertions,
    SsoFlows,
    EmailsOfDeleted(OrganizationId),
    RowsOfDeleted(OrganizationId),
}

/// The order of a sweep: rows that refer to others are deleted before those.
const SWEEP_ORDER: [SweepTarget; 30] = [
    SweepTarget::Jobs,
    SweepTarget::EmailTokens,
    SweepTarget::Sessions,
    SweepTarget::KeySessions,
    SweepTarget::IdempotencyKeys,
    SweepTarget::Rejections,
    SweepTarget::Revocations,
    SweepTarget::CredentialChanges,
    SweepTarget::OauthTokens,
    SweepTarget::RateLimits,
    SweepTarget::Usage,
    SweepTarget::HourlyUsage,
    SweepTarget::UsageResources,
    SweepTarget::UsageEvents,
    SweepTarget::Invites,
    SweepTarget::KeyClaims,
    SweepTarget::Payments,
    SweepTarget::UnfulfilledCheckouts,
    SweepTarget::EndedSubscriptions,
    SweepTarget::PersonalTokens,
    SweepTarget::KeyReferences,
    SweepTarget::Keys,
    SweepTarget::OauthGrants,
    SweepTarget::Memberships,
    SweepTarget::Accounts,
    SweepTarget::OauthRequests,
    SweepTarget::OauthClients,
    SweepTarget::OauthDevices,
    SweepTarget::OauthAssertions,
    SweepTarget::SsoFlows,
];

impl SweepTarget {
    /// Returns its name in metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "outbox",
            Self::EmailTokens => "email_tokens",
            Self::Sessions => "sessions",
            Self::KeySessions => "key_sessions",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Rejections => "denials",
            Self::Revocations => "revocations",
            Self::CredentialChanges => "credential_changes",
            Self::OauthTokens => "oauth_tokens",
            Self::OauthGrants => "oauth_grants",
            Self::RateLimits => "rate_limits",
            Self::Usage => "usage_daily",
            Self::HourlyUsage => "usage_hourly",
            Self::UsageResources => "usage_resources",
            Self::UsageEvents => "usage_events",
            Self::Invites => "invites",
            Self::KeyClaims => "key_claims",
            Self::Payments => "payments",
            Self::UnfulfilledCheckouts => "unfulfilled_checkouts",
            Self::EndedSubscriptions => "ended_subscriptions",
            Self::PersonalTokens => "personal_tokens",
            Self::KeyReferences | Self::Keys => "api_keys",
            Self::Memberships => "users",
            Self::Accounts => "accounts",
            Self::OauthRequests => "oauth_requests",
            Self::OauthClients => "oauth_clients",
            Self::OauthDevices => "oauth_devices",
            Self::OauthAssertions => "oauth_assertions",
            Self::SsoFlows => "sso_flows",
            Self::EmailsOfDeleted(_) | Self::RowsOfDeleted(_) => "organizations",
        }
    }

    /// Deletes a batch and returns the number of rows.
    async fn remove(self, tx: &mut PgConnection, retention: RetentionSettings) -> Result<u64> {
        match self {
            Self::Jobs => jobs::sweep(tx, retention.mail).await,
            Self::EmailTokens => email_tokens::sweep(tx).await,
            Self::Sessions => sessions::sweep(tx, retention.sessions).await,
            Self::KeySessions => key_sessions::sweep(tx).await,
            Self::IdempotencyKeys => idempotency_keys::sweep(tx).await,
            Self::Rejections => rejections::sweep(tx, retention.rejections).await,
            Self::Revocations => revocations::sweep(tx).await,
            Self::CredentialChanges => credential_changes::sweep(tx).await,
            Self::OauthTokens => oauth_tokens::sweep(tx).await,
            Self::OauthGrants => oauth_grants::sweep(tx, retention.tombstones).await,
            Self::RateLimits => rate_limits::sweep(tx).await,
            Self::Usage => usage::sweep(tx, retention.usage).await,
            Self::HourlyUsage => usage_hourly::sweep(tx, retention.usage).await,
            Self::UsageResources => usage_hourly::sweep_resources(tx).await,
            Self::UsageEvents => usage_events::sweep(tx).await,
            Self::Invites => invites::sweep(tx, retention.invites).await,
            Self::KeyClaims => key_claims::sweep(tx, retention.invites).await,
            Self::Payments => payments::sweep(tx, retention.payments).await,
            Self::UnfulfilledCheckouts => unfulfilled_checkouts::sweep(tx).await,
            Self::EndedSubscriptions => ended_subscriptions::sweep(tx).await,
            Self::PersonalTokens => personal_tokens::sweep(tx, retention.tombstones).await,
            Self::KeyReferences => key_lifecycle::clear_references(tx, retention.tombstones).await,
            Self::Keys => key_lifecycle::sweep(tx, retention.tombstones).await,
            Self::Memberships => memberships::sweep(tx, retention.tombstones).await,
            Self::Accounts => accounts::sweep(tx, retention.tombstones).await,
            Self::OauthRequests => oauth_requests::sweep(tx).await,
            Self::OauthClients => oauth_registrations::sweep(tx).await,
            Self::OauthDevices => oauth_devices::sweep(tx).await,
            Self::OauthAssertions => oauth_assertions::sweep(tx).await,
            Self::SsoFlows => sso_flows::sweep(tx).await,
            Self::EmailsOfDeleted(id) => deleted_organizations::remove_addresses(tx, id).await,
            Self::RowsOfDeleted(id) => deleted_organizations::remove_rows(tx, id).await,
        }
    }
}

/// Deletes everything that is past its retention.
pub async fn sweep(app: &App) {
    for target in SWEEP_ORDER {
        remove_all(app, target).await;
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

/// Deletes the data of deleted organizations: e-mail addresses immediately, everything else when
/// its retention has passed.
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

/// Deletes batches until none is left.
async fn remove_all(app: &App, target: SweepTarget) {
    let (table, retention) = (target.as_str(), app.config.retention);
    loop {
        match app.db.transaction(async |tx| target.remove(tx, retention).await).await {
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

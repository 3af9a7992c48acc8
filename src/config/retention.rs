//! The retention periods: the number of days that data is stored after it has ended.

use std::ops::RangeInclusive;

use crate::config::env::Env;
use crate::model::session::{IDLE_LIFETIME, KNOWN_NETWORK_LIFETIME};

/// The longest retention: 100 years.
const MAX_DAYS: i32 = 36_500;

/// The minimum for sessions. The days count from a session's expiry, even if it was revoked before.
/// It expires at least [`IDLE_LIFETIME`] after its start, and the network of its sign-in must be
/// known for [`KNOWN_NETWORK_LIFETIME`].
const MIN_SESSION_DAYS: i32 = 23;
const _: () = assert!(
    MIN_SESSION_DAYS as i64 >= KNOWN_NETWORK_LIFETIME.num_days() - IDLE_LIFETIME.num_days(),
    "sessions are deleted while their networks must still be known"
);

/// The number of days that data is stored after it has ended. Data without a setting is deleted
/// when it ends, or stored forever (README, *Retention*).
#[derive(Clone, Copy, Debug)]
pub struct RetentionSettings {
    /// The remaining data of a deleted organization.
    pub deleted_organizations: i32,
    /// The remaining rows of keys, tokens, grants, memberships and accounts that have ended.
    pub tombstones: i32,
    /// Invitations and claims that have ended.
    pub invites: i32,
    /// The daily and hourly usage.
    pub usage: i32,
    /// Payments.
    pub payments: i32,
    /// Accounts' sessions that have ended.
    pub sessions: i32,
    /// Dead jobs: mails and reports of leaked keys.
    pub mail: i32,
    /// Rejected requests.
    pub rejections: i32,
    /// Audit events; `None` stores them forever.
    pub audit: Option<i32>,
}

impl RetentionSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut days = |name, min, default| days(env, name, min..=MAX_DAYS).unwrap_or(default);
        Self {
            deleted_organizations: days("RETENTION_DELETED_ORGANIZATIONS_DAYS", 1, 30),
            // The minimum exceeds the lifetime of a session that a key was exchanged for.
            tombstones: days("RETENTION_TOMBSTONES_DAYS", 8, 365),
            invites: days("RETENTION_INVITES_DAYS", 1, 90),
            // The minimum covers the current month, whose quota is computed from these rows.
            usage: days("RETENTION_USAGE_DAYS", 62, 1_095),
            payments: days("RETENTION_PAYMENTS_DAYS", 31, 3_650),
            // Sessions are the record of the networks that an account signed in from.
            sessions: days("RETENTION_SESSIONS_DAYS", MIN_SESSION_DAYS, 30),
            mail: days("RETENTION_MAIL_DAYS", 1, 30),
            rejections: days("RETENTION_DENIALS_DAYS", 1, 30),
            // The minimum leaves time for an investigation.
            audit: self::days(env, "RETENTION_AUDIT_DAYS", 30..=MAX_DAYS),
        }
    }
}

fn days(env: &mut Env<'_>, name: &'static str, allowed: RangeInclusive<i32>) -> Option<i32> {
    env.optional(name, |text| {
        let days = text.parse().ok().filter(|days| allowed.contains(days));
        let (min, max) = (allowed.start(), allowed.end());
        days.ok_or(format!("must be a number of days from {min} to {max}").into())
    })
}

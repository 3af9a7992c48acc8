//! How long what is over is kept, in days.

use std::ops::RangeInclusive;

use crate::config::env::Env;
use crate::model::session::{IDLE_LIFETIME, KNOWN_NETWORK_LIFETIME};

/// The longest: a hundred years.
const MAX_DAYS: i32 = 36_500;

/// A session ends no sooner than [`IDLE_LIFETIME`] after it began, and its place is known for
/// [`KNOWN_NETWORK_LIFETIME`].
const LEAST_OF_SESSIONS: i32 = 23;
const _: () = assert!(
    LEAST_OF_SESSIONS as i64 >= KNOWN_NETWORK_LIFETIME.num_days() - IDLE_LIFETIME.num_days(),
    "places are forgotten while they should be known"
);

/// How long what is over is kept, in days; what has no setting is removed when it is over, or kept
/// (README, *Retention*).
#[derive(Clone, Copy, Debug)]
pub struct RetentionSettings {
    /// What a deleted organization leaves behind.
    pub deleted_organizations: i32,
    /// What is left of keys, tokens, memberships and accounts that have ended.
    pub tombstones: i32,
    /// Invitations and claims that have ended.
    pub invites: i32,
    /// Sums of daily usage.
    pub usage: i32,
    /// Payments.
    pub payments: i32,
    /// People's sessions that have ended.
    pub sessions: i32,
    /// Mails that could not be sent.
    pub mail: i32,
    /// Requests that were refused.
    pub rejections: i32,
    /// Audit events; `None` keeps them.
    pub audit: Option<i32>,
}

impl RetentionSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut days = |name, least, usual| days(env, name, least..=MAX_DAYS).unwrap_or(usual);
        Self {
            deleted_organizations: days("RETENTION_DELETED_ORGANIZATIONS_DAYS", 1, 30),
            // Longer than the sessions that a key was exchanged for.
            tombstones: days("RETENTION_TOMBSTONES_DAYS", 8, 365),
            invites: days("RETENTION_INVITES_DAYS", 1, 90),
            // A month's quota is counted from them.
            usage: days("RETENTION_USAGE_DAYS", 62, 1_095),
            payments: days("RETENTION_PAYMENTS_DAYS", 31, 3_650),
            // Where people signed in is known by them.
            sessions: days("RETENTION_SESSIONS_DAYS", LEAST_OF_SESSIONS, 30),
            mail: days("RETENTION_MAIL_DAYS", 1, 30),
            rejections: days("RETENTION_DENIALS_DAYS", 1, 30),
            // Long enough for somebody to ask who did something.
            audit: self::days(env, "RETENTION_AUDIT_DAYS", 30..=MAX_DAYS),
        }
    }
}

fn days(env: &mut Env<'_>, name: &'static str, allowed: RangeInclusive<i32>) -> Option<i32> {
    env.optional(name, |text| {
        let days = text.parse().ok().filter(|days| allowed.contains(days));
        let (least, most) = (allowed.start(), allowed.end());
        days.ok_or(format!("must be a number of days from {least} to {most}").into())
    })
}

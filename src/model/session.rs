//! A person's session: what signing in starts.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::ids::{AccountId, SessionId};
use crate::model::secret::Digest;

/// How long a session lives after it was last used (contract §1, *Cookies*).
pub const IDLE_LIFETIME: TimeDelta = TimeDelta::days(7);
/// How long a network is known after an account signed in from it.
pub const KNOWN_NETWORK_LIFETIME: TimeDelta = TimeDelta::days(30);
/// How long it lives at most.
pub const ABSOLUTE_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The client of a session, as the list of sessions shows it.
#[derive(Clone, Debug)]
pub struct SessionClient {
    /// Where it is.
    pub address: Option<IpAddr>,
    /// Its `User-Agent` header.
    pub user_agent: Option<String>,
}

/// The public data of a session.
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Where it was started from.
    pub address: Option<String>,
    /// What with.
    pub user_agent: Option<String>,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it was last used, up to a minute behind.
    pub last_seen_at: DateTime<Utc>,
    /// When it ends if it is not used.
    pub expires_at: DateTime<Utc>,
}

/// A session about to be stored.
pub struct NewSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// The digest of its token.
    pub digest: Digest,
    /// The client that signed in.
    pub client: &'a SessionClient,
    /// Whether the browser is to keep its cookie when it closes.
    pub is_remembered: bool,
    /// When it starts.
    pub created_at: DateTime<Utc>,
}

//! Sessions of accounts, which signing in creates.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::ids::{AccountId, ConnectionId, OrganizationId, SessionId};
use crate::model::secret::Digest;

/// The time after its last use at which a session expires.
pub const IDLE_LIFETIME: TimeDelta = TimeDelta::days(7);
/// The time for which a network is known after an account signed in from it.
pub const KNOWN_NETWORK_LIFETIME: TimeDelta = TimeDelta::days(30);
/// The time after its creation at which a session expires, even if it is used.
pub const ABSOLUTE_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The client of a session.
#[derive(Clone, Debug)]
pub struct SessionClient {
    /// Its IP address, if known.
    pub address: Option<IpAddr>,
    /// Its `User-Agent` header.
    pub user_agent: Option<String>,
}

/// The public data of a session.
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The IP address of the client that signed in.
    pub address: Option<String>,
    /// The `User-Agent` header of the client that signed in.
    pub user_agent: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last used. The stored time can be up to a minute old.
    pub last_seen_at: DateTime<Utc>,
    /// When it expires if it is not used again.
    pub expires_at: DateTime<Utc>,
}

/// The limits of a session that single sign-on began.
#[derive(Clone, Copy, Debug)]
pub struct SsoSession {
    /// The only organization in which it acts.
    pub organization: OrganizationId,
    /// The connection, with which it ends.
    pub connection: ConnectionId,
    /// When it ends, even if it is used.
    pub ends_at: DateTime<Utc>,
}

/// A session to insert.
pub struct NewSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// The account that signed in.
    pub account: AccountId,
    /// The digest of its token.
    pub digest: Digest,
    /// The client that signed in.
    pub client: &'a SessionClient,
    /// Whether the browser is to keep the cookie when it is closed.
    pub is_remembered: bool,
    /// The limits of a session that single sign-on began.
    pub sso: Option<SsoSession>,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
}

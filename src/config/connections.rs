//! The limits and timeouts of HTTP connections.

use std::time::Duration;

use crate::config::env::Env;
use crate::model::ValidationError;

/// The limits and timeouts of HTTP connections.
#[derive(Clone, Copy)]
pub struct ConnectionSettings {
    /// The maximum number of open connections.
    pub max_connections: usize,
    /// The maximum number of open connections from one client address.
    pub max_per_address: usize,
    /// The maximum time that a connection may be idle, before its first request and between
    /// requests.
    pub keep_alive: Duration,
    /// The maximum time for the head of a request to arrive.
    pub header_timeout: Duration,
    /// The maximum time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// The maximum time from the head of a request to its response.
    pub request_timeout: Duration,
    /// The maximum time that a client may leave a response unread.
    pub send_timeout: Duration,
    /// The time during which new connections are still accepted after the signal to stop.
    pub shutdown_grace: Duration,
    /// The maximum time that requests and idle connections may continue after `shutdown_grace`.
    pub shutdown_drain: Duration,
}

impl ConnectionSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut seconds = |name, default| {
            let set = env.optional(name, |text| parse_seconds(text, 1));
            set.unwrap_or(Duration::from_secs(default))
        };
        let (keep_alive, header_timeout) =
            (seconds("KEEP_ALIVE_SECONDS", 75), seconds("HEADER_TIMEOUT_SECONDS", 10));
        let (body_timeout, request_timeout) =
            (seconds("BODY_TIMEOUT_SECONDS", 15), seconds("REQUEST_TIMEOUT_SECONDS", 20));
        let send_timeout = seconds("SEND_TIMEOUT_SECONDS", 30);
        let mut seconds_or_zero = |name, default| {
            let set = env.optional(name, |text| parse_seconds(text, 0));
            set.unwrap_or(Duration::from_secs(default))
        };
        let shutdown_grace = seconds_or_zero("SHUTDOWN_GRACE_SECONDS", 3);
        let shutdown_drain = seconds_or_zero("SHUTDOWN_DRAIN_SECONDS", 25);
        let max_connections = env.optional("MAX_CONNECTIONS", parse_connections).unwrap_or(10_000);
        let max_per_address =
            env.optional("MAX_CONNECTIONS_PER_ADDRESS", parse_connections).unwrap_or(1_000);
        Self {
            max_connections,
            max_per_address,
            keep_alive,
            header_timeout,
            body_timeout,
            request_timeout,
            send_timeout,
            shutdown_grace,
            shutdown_drain,
        }
    }
}

fn parse_seconds(text: &str, min: u64) -> Result<Duration, ValidationError> {
    let seconds = text.parse().ok().filter(|seconds| (min..=3_600).contains(seconds));
    let invalid = || format!("must be a whole number of seconds from {min} to 3600").into();
    seconds.map(Duration::from_secs).ok_or_else(invalid)
}

fn parse_connections(text: &str) -> Result<usize, ValidationError> {
    let connections = text.parse().ok().filter(|it| (1..=1_000_000).contains(it));
    connections.ok_or("must be a number from 1 to 1000000".into())
}

//! The settings of the HTTP server.

use std::net::{Ipv4Addr, SocketAddr};

use url::Url;

use crate::config::connections::ConnectionSettings;
use crate::config::env::Env;
use crate::model::ValidationError;
use crate::model::origin::{Origin, TrustedOrigins};

/// The settings of the HTTP server.
pub struct HttpSettings {
    /// The address that the server listens on.
    pub listen_addr: SocketAddr,
    /// The public base URL of the API.
    pub public_url: Url,
    /// The browser origins that may use the session cookie of a signed-in account.
    pub trusted_origins: TrustedOrigins,
    /// The number of trusted proxies that append to `X-Forwarded-For`; with 0 the header is
    /// ignored.
    pub trusted_proxy_hops: usize,
    /// The maximum number of requests in flight, and separately of verifiers' checks in flight.
    pub max_in_flight: usize,
    /// The maximum number of requests in flight for all keys of one organization, one account, or
    /// one address without a credential.
    pub max_in_flight_per_caller: usize,
    /// The limits and timeouts of connections.
    pub connections: ConnectionSettings,
}

impl HttpSettings {
    /// Reads the settings.
    pub fn read(env: &mut Env<'_>) -> Self {
        let listen_addr = env
            .optional("LISTEN_ADDR", parse_addr)
            .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        let public_url = env.optional("PUBLIC_URL", parse_public_url);
        let public_url = public_url.unwrap_or_else(|| default_public_url(listen_addr));
        let dashboards = env.optional("DASHBOARD_ORIGINS", parse_origins).unwrap_or_default();
        Self {
            listen_addr,
            trusted_origins: TrustedOrigins::new(public_url.clone(), dashboards),
            public_url,
            trusted_proxy_hops: env.optional("TRUSTED_PROXY_HOPS", parse_hops).unwrap_or(0),
            max_in_flight: env.optional("MAX_IN_FLIGHT", parse_in_flight).unwrap_or(2_000),
            max_in_flight_per_caller: env
                .optional("MAX_IN_FLIGHT_PER_CALLER", parse_in_flight)
                .unwrap_or(500),
            connections: ConnectionSettings::read(env),
        }
    }

    /// Returns whether callers use TLS, according to the public URL.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.public_url.scheme() == "https"
    }
}

/// Parses `address:port`.
pub(super) fn parse_addr(text: &str) -> Result<SocketAddr, ValidationError> {
    text.parse().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080".into())
}

fn parse_public_url(text: &str) -> Result<Url, ValidationError> {
    let is_bare = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let url = Url::parse(text).ok().filter(is_bare);
    url.ok_or("must be http:// or https:// and a host, without a path".into())
}

fn parse_origins(text: &str) -> Result<Vec<Origin>, ValidationError> {
    text.split(',').map(|origin| Origin::parse(origin.trim())).collect()
}

fn parse_hops(text: &str) -> Result<usize, ValidationError> {
    let hops = text.parse().ok().filter(|hops| *hops <= 16);
    hops.ok_or("must be a number from 0 to 16".into())
}

fn parse_in_flight(text: &str) -> Result<usize, ValidationError> {
    let requests = text.parse().ok().filter(|requests| (1..=1_000_000).contains(requests));
    requests.ok_or("must be a number from 1 to 1000000".into())
}

fn default_public_url(addr: SocketAddr) -> Url {
    let mut url: Url = Url::parse("http://localhost/").unwrap_or_else(|_| unreachable!());
    let _ = url.set_ip_host(addr.ip());
    let _ = url.set_port(Some(addr.port()));
    url
}

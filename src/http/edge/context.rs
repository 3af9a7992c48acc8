//! The request context: the id of a request, its client, its route and, once identified, its
//! caller.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, Method, StatusCode, header};
use chrono::{DateTime, Utc};

use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::error::{Error, Result};
use crate::http::auth::rejected_caller::RejectedCaller;
use crate::http::edge::permits::Permits;
use crate::http::family::{RouteFacts, RouteTable};
use crate::model::audit::AuditContext;
use crate::model::audit_seal::AuditSigner;
use crate::model::caller::Identity;
use crate::model::ids::{OrganizationId, new_request_id};
use crate::model::key_format::KeyFormat;
use crate::model::scope::BuiltInScope;
use crate::model::session::SessionClient;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The context of a request, as an extractor; cheap to clone.
#[derive(Clone)]
pub struct RequestContext(Arc<RequestInfo>);

/// The fields of a [`RequestContext`]. Those in a `OnceLock` are set when they become known.
pub struct RequestInfo {
    /// The id that the client sent for the request, or a new one.
    pub id: String,
    /// The header that the client sent the id in, if not `X-Request-Id`.
    pub echo_header: Option<HeaderName>,
    /// The client's address; `None` if the trusted proxies do not report one.
    pub client_address: Option<IpAddr>,
    /// The `Origin` header; `None` if it was not sent.
    pub origin: Option<String>,
    /// When the request arrived.
    pub received_at: DateTime<Utc>,
    /// Signs the audit events that the request causes.
    pub audit_signer: AuditSigner,
    /// The method; `other` for one that is not standard, because it could contain anything.
    pub method: &'static str,
    /// The path, without the query.
    pub path: String,
    /// The path pattern of the matched route; `-` if no route matched.
    pub route: String,
    /// The facts of the matched route.
    pub facts: RouteFacts,
    /// The owner of the request's credential.
    pub identity: OnceLock<Identity>,
    /// The organization that the path names, if the caller acts in it.
    pub path_organization: OnceLock<OrganizationId>,
    /// The decisions of the rate limits that the request was counted against.
    rate_limit_decisions: Mutex<Vec<RateLimitDecision>>,
    /// The owner of a known credential that was rejected.
    pub rejected_caller: OnceLock<RejectedCaller>,
    /// Set if the request was counted against its organization's monthly quota.
    pub quota_counted: OnceLock<()>,
    /// The permits that the request has while the server works on it.
    pub permits: OnceLock<Permits>,
    /// The scope that the route requires.
    pub required_scope: OnceLock<BuiltInScope>,
    /// The live sessions of its cookies, for requests that may change something.
    pub cookie_sessions: OnceLock<Vec<Identity>>,
}

impl RequestContext {
    /// Creates the context of `request`.
    #[must_use]
    pub fn new(request: &Request, app: &App, table: &RouteTable) -> Self {
        let headers = request.headers();
        let sent = [REQUEST_ID, CORRELATION_ID].into_iter().find_map(|name| {
            let id = headers.get(&name)?.to_str().ok().filter(|id| is_valid_request_id(id))?;
            // A key pasted into the wrong header must not be logged and echoed.
            let formats = [&app.config.keys.format, &app.config.accounts.token_format];
            let is_secret = formats.iter().any(|format| format.matches(id));
            let id = Some(id).filter(|id| !is_secret && !KeyFormat::is_internal_token(id))?;
            Some((id.to_owned(), (name != REQUEST_ID).then_some(name)))
        });
        let (id, echo) = sent.unwrap_or_else(|| (new_request_id(&*app.entropy), None));
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map_or("-", MatchedPath::as_str);
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let hops = app.config.http.trusted_proxy_hops;
        let address = peer.and_then(|ConnectInfo(peer)| client_address(peer.ip(), headers, hops));
        if address.is_none() && headers.contains_key(FORWARDED_FOR) {
            app.forwarding_warning.call_once(|| warn_unreadable_forwarded_for(&id, hops));
        }
        Self(Arc::new(RequestInfo {
            id,
            echo_header: echo,
            client_address: address,
            origin: parse_origin(headers),
            received_at: app.clock.now(),
            audit_signer: app.audit_signer.clone(),
            method: known_method(request.method()),
            path: request.uri().path().to_owned(),
            route: route.to_owned(),
            facts: table.facts(route, request.method(), request.uri().path()),
            identity: OnceLock::new(),
            path_organization: OnceLock::new(),
            rate_limit_decisions: Mutex::default(),
            rejected_caller: OnceLock::new(),
            quota_counted: OnceLock::new(),
            permits: OnceLock::new(),
            required_scope: OnceLock::new(),
            cookie_sessions: OnceLock::new(),
        }))
    }

    /// Returns the context of a request with these extensions.
    ///
    /// # Errors
    /// Internal for a route outside the middleware.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self> {
        let context = extensions.get::<Self>();
        context.cloned().ok_or_else(|| Error::internal("the route is outside the middleware"))
    }

    /// Adds the decision of a rate limit.
    pub fn add_rate_limit_decision(&self, decision: RateLimitDecision) {
        self.rate_limit_decisions.lock().unwrap_or_else(PoisonError::into_inner).push(decision);
    }

    /// Returns whether the request was counted against any rate limit.
    #[must_use]
    pub fn has_rate_limit_decision(&self) -> bool {
        !self.rate_limit_decisions.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the decisions of the rate limits, for the headers of the response.
    #[must_use]
    pub fn take_rate_limit_decisions(&self) -> Vec<RateLimitDecision> {
        std::mem::take(
            &mut *self.rate_limit_decisions.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Returns the audit context of a request whose response has status 200.
    #[must_use]
    pub fn audit_context(&self) -> AuditContext {
        self.audit_context_for(StatusCode::OK)
    }

    /// Returns the audit context of a request whose response has this status.
    #[must_use]
    pub fn audit_context_for(&self, status: StatusCode) -> AuditContext {
        AuditContext {
            method: self.method.to_owned(),
            path: self.path.clone(),
            status: Some(status.as_u16()),
            address: self.client_address,
            request_id: self.id.clone(),
            at: self.received_at,
            signer: self.audit_signer.clone(),
        }
    }
}

impl std::ops::Deref for RequestContext {
    type Target = RequestInfo;

    fn deref(&self) -> &RequestInfo {
        &self.0
    }
}

impl FromRequestParts<App> for RequestContext {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        Self::from_extensions(&parts.extensions)
    }
}

/// The maximum number of characters of `User-Agent` that are stored.
const MAX_USER_AGENT_CHARS: usize = 256;

/// The client that signs in, as the account's list of sessions shows it.
pub struct SignInClient(pub SessionClient);

impl FromRequestParts<App> for SignInClient {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        let user_agent = parts.headers.get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|name| name.to_str().ok());
        let user_agent = user_agent.map(|name| name.chars().take(MAX_USER_AGENT_CHARS).collect());
        Ok(Self(SessionClient { address: context.client_address, user_agent }))
    }
}

/// Returns the value of `Origin`; `null` if the header is repeated or is not text.
fn parse_origin(headers: &HeaderMap) -> Option<String> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next()?.to_str().ok().filter(|_| origins.next().is_none());
    Some(origin.unwrap_or("null").to_owned())
}

fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Returns whether a client's request id has a valid form: 16 to 128 of `[A-Za-z0-9_-]`.
fn is_valid_request_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (16..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// Returns the address that the nearest proxy reports: the last entry of `X-Forwarded-For`.
#[must_use]
pub fn last_forwarded_address(headers: &HeaderMap) -> Option<IpAddr> {
    forwarded_address(headers, 1)
}

/// Returns the peer's address or, behind `hops` trusted proxies, the address that called the
/// outermost of them. Each proxy appends the address that called it, and only the last `hops`
/// entries are trusted. An entry that cannot be parsed gives `None`: with the proxy's own address
/// instead, clients could impersonate the proxy.
fn client_address(peer: IpAddr, headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    if hops == 0 {
        return Some(peer.to_canonical());
    }
    forwarded_address(headers, hops)
}

/// Returns the address in the entry of `X-Forwarded-For` that is `hops` from the end.
fn forwarded_address(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let forwarded = headers.get_all(FORWARDED_FOR).into_iter();
    let listed: Vec<&[u8]> =
        forwarded.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
    let address = parse_forwarded_address(listed[listed.len().checked_sub(hops)?])?;
    Some(address.to_canonical())
}

/// Parses an entry of `X-Forwarded-For`: an address, perhaps with a port, IPv6 perhaps in brackets
/// (RFC 7239 §6). Obfuscated identifiers and `unknown` give `None`.
fn parse_forwarded_address(listed: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(listed).ok()?.trim_matches([' ', '\t']);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(with_port) = text.parse::<SocketAddrV4>() {
        return Some((*with_port.ip()).into());
    }
    let (address, port) = text.strip_prefix('[')?.split_once(']')?;
    let is_port =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    address.parse().ok().filter(|_| is_whole).map(|address: Ipv6Addr| address.into())
}

/// Warns the operator that clients cannot be distinguished. The entry is not logged, because
/// clients choose its content if there are fewer proxies than `TRUSTED_PROXY_HOPS`.
fn warn_unreadable_forwarded_for(request_id: &str, hops: usize) {
    tracing::warn!(
        request_id,
        trusted_proxy_hops = hops,
        "X-Forwarded-For contains no valid client address: such requests share one rate \
         limit, and keys with allowed_ips reject them; check TRUSTED_PROXY_HOPS and the \
         header that the proxies send",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the client address of a request from 127.0.0.1 with this header; `-` for none.
    fn client(forwarded: &str, hops: usize) -> String {
        let mut headers = HeaderMap::new();
        let forwarded = forwarded.as_bytes().try_into().expect("a header");
        headers.insert(FORWARDED_FOR, forwarded);
        let address = client_address(IpAddr::from([127, 0, 0, 1]), &headers, hops);
        address.map_or("-".to_owned(), |it| it.to_string())
    }

    #[test]
    fn without_trusted_proxies_the_header_is_ignored() {
        assert_eq!(client("203.0.113.9", 0), "127.0.0.1");
    }

    #[test]
    fn only_entries_that_trusted_proxies_added_are_used() {
        assert_eq!(client("6.6.6.6, 203.0.113.9", 1), "203.0.113.9");
        assert_eq!(client("6.6.6.6, 203.0.113.9, 10.0.0.2", 2), "203.0.113.9");
        assert_eq!(client("203.0.113.9", 2), "-");
        assert_eq!(client("203.0.113.9, garbage", 1), "-");
        assert_eq!(client("é, 203.0.113.9", 1), "203.0.113.9");
    }

    #[test]
    fn ports_and_brackets_are_removed_and_other_texts_give_no_address() {
        for listed in ["203.0.113.9:51234", "[::ffff:203.0.113.9]:1", " 203.0.113.9:0\t"] {
            assert_eq!(client(listed, 1), "203.0.113.9", "{listed}");
        }
        for listed in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443"] {
            assert_eq!(client(listed, 1), "2001:db8::7", "{listed}");
        }
        for listed in ["[2001:db8::7]:+4", "[2001:db8::7]:", "203.0.113.9:", "_hidden", "unknown"] {
            assert_eq!(client(listed, 1), "-", "{listed}");
        }
    }

    #[test]
    fn an_ipv4_mapped_ipv6_address_is_the_ipv4_address() {
        assert_eq!(client("::ffff:203.0.113.9", 1), "203.0.113.9");
    }

    #[test]
    fn a_request_id_has_16_to_128_of_the_allowed_characters() {
        assert!(is_valid_request_id("abcdefghijklmnop"));
        for text in ["abcdefghijklmno", "abcdefghijklmno\"", &"a".repeat(129), "äbcdefghijklmnop"]
        {
            assert!(!is_valid_request_id(text), "{text:?}");
        }
    }
}

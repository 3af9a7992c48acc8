//! The client for everything that the server fetches over HTTP. Only the export of traces opens
//! other outgoing HTTP connections.
//!
//! Many of the URLs come from strangers, who must not reach hosts inside the network with them. So
//! the host's addresses are checked, and the client connects to no others: reqwest connects to what
//! its resolver returns, and the resolver returns checked addresses only. A host that is an IP
//! address skips the resolver and is checked before. There are no redirects and no proxies, and
//! each fetch has a connection of its own, so each fetch is checked.

mod error;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, IF_NONE_MATCH};
use reqwest::{Client, RequestBuilder, redirect, retry};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

pub use crate::app::http_client::error::FetchError;
use crate::app::http_client::resolver::{CheckedResolver, Lookup, system_lookup};
use crate::config::outbound::OutboundSettings;
use crate::model::outbound::{AddressRule, AllowedHosts};
use crate::model::secret::Secret;

/// The size limit of most documents, in bytes.
pub const DOCUMENT_MAX_BYTES: usize = 64 * 1024;
/// The size limit of metadata, in bytes.
pub const METADATA_MAX_BYTES: usize = 512 * 1024;
/// How long a fetch may take, from the lookup of the name to the end of the body.
const DEADLINE: Duration = Duration::from_secs(5);

/// What to fetch.
#[derive(Clone, Copy)]
pub struct GetRequest<'a> {
    /// The URL.
    pub url: &'a Url,
    /// The `Accept` header: the media types that the caller can read.
    pub accept: &'static str,
    /// The `ETag` of a response that the caller has. If it is still current, the status is 304.
    pub etag: Option<&'a str>,
    /// The access token that is sent (RFC 6750 §2.1).
    pub bearer: Option<&'a Secret>,
    /// The size limit of the body, in bytes.
    pub max_bytes: usize,
}

/// A form to post to the token endpoint of another server (RFC 6749 §4.1.3).
pub struct FormRequest<'a> {
    /// The URL.
    pub url: &'a Url,
    /// The fields of the form.
    pub fields: &'a [(&'a str, &'a str)],
    /// The client id and secret, for HTTP Basic (RFC 6749 §2.3.1).
    pub basic: Option<(&'a str, &'a Secret)>,
    /// The size limit of the response's body, in bytes.
    pub max_bytes: usize,
}

impl FormRequest<'_> {
    fn build(&self, client: &Client) -> RequestBuilder {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let form = form.extend_pairs(self.fields).finish();
        let builder = client.post(self.url.clone()).header(ACCEPT, "application/json");
        let builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let encode = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        match self.basic {
            None => builder,
            Some((id, secret)) => {
                let secret = Zeroizing::new(encode(secret.expose()));
                builder.basic_auth(encode(id), Some(&*secret))
            }
        }
    }
}

impl GetRequest<'_> {
    fn build(&self, client: &Client) -> RequestBuilder {
        let mut builder = client.get(self.url.clone()).header(ACCEPT, self.accept);
        if let Some(etag) = self.etag {
            builder = builder.header(IF_NONE_MATCH, etag);
        }
        match self.bearer {
            None => builder,
            Some(token) => builder.bearer_auth(token.expose()),
        }
    }
}

/// A complete response, of any status.
#[derive(Debug)]
pub struct Fetched {
    /// The status. Redirects are not followed, so it may be 3xx.
    pub status: u16,
    /// The body, as it was sent: a content coding is not decoded.
    pub body: Vec<u8>,
    headers: HeaderMap,
}

impl Fetched {
    /// Returns the value of a header. Several values are joined with commas (RFC 9110 §5.3). `None`
    /// if there is none, or one is not visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter().map(|value| value.to_str().ok());
        let values: Vec<&str> = values.collect::<Option<_>>()?;
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// Fetches documents; cheap to clone.
#[derive(Clone)]
pub struct HttpClient(Arc<Parts>);

struct Parts {
    allowed_hosts: AllowedHosts,
    deadline: Duration,
    lookup: Lookup,
    /// One client for each [`AddressRule`]. Each is created when it is first needed, because that
    /// reads the system's certificates.
    public: OnceCell<Client>,
    loopback: OnceCell<Client>,
    any: OnceCell<Client>,
}

impl HttpClient {
    /// Creates the client. Nothing is connected yet.
    #[must_use]
    pub fn new(settings: &OutboundSettings) -> Self {
        Self::with_deadline(settings, DEADLINE)
    }

    /// Creates a client with another deadline, for tests.
    #[must_use]
    pub fn with_deadline(settings: &OutboundSettings, deadline: Duration) -> Self {
        Self::with_lookup(settings, deadline, system_lookup())
    }

    fn with_lookup(settings: &OutboundSettings, deadline: Duration, lookup: Lookup) -> Self {
        Self(Arc::new(Parts {
            allowed_hosts: settings.allowed_hosts.clone(),
            deadline,
            lookup,
            public: OnceCell::new(),
            loopback: OnceCell::new(),
            any: OnceCell::new(),
        }))
    }

    /// Fetches a document by `GET`, within 5 seconds in all.
    ///
    /// The URL must pass [`AllowedHosts::check`], and every address of its host the returned rule.
    ///
    /// # Errors
    /// The URL or an address of its host is not allowed, there is no complete response in time, or
    /// the body is larger than the size limit. No error contains the URL, an address, or what the
    /// other server sent.
    pub async fn get(&self, request: &GetRequest<'_>) -> Result<Fetched, FetchError> {
        let (url, max_bytes) = (request.url, request.max_bytes);
        self.send_in_time(url, max_bytes, |client| request.build(client)).await
    }

    /// Posts a form, with the same rules and the same deadline as [`HttpClient::get`].
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn post_form(&self, request: &FormRequest<'_>) -> Result<Fetched, FetchError> {
        let (url, max_bytes) = (request.url, request.max_bytes);
        self.send_in_time(url, max_bytes, |client| request.build(client)).await
    }

    async fn send_in_time(
        &self,
        url: &Url,
        max_bytes: usize,
        build: impl FnOnce(&Client) -> RequestBuilder,
    ) -> Result<Fetched, FetchError> {
        let rule = self.0.allowed_hosts.check(url).map_err(FetchError::NotAllowed)?;
        let deadline = self.0.deadline;
        match timeout(deadline, self.send(rule, max_bytes, build)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::NoResponse(format!("the deadline of {deadline:?} passed"))),
        }
    }

    async fn send(
        &self,
        rule: AddressRule,
        max_bytes: usize,
        build: impl FnOnce(&Client) -> RequestBuilder,
    ) -> Result<Fetched, FetchError> {
        let client = self.client(rule).await?;
        let mut response = build(client).send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > max_bytes {
                return Err(FetchError::TooLarge(max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Fetched { status, body, headers: std::mem::take(response.headers_mut()) })
    }

    /// Returns the client whose connections follow this rule.
    async fn client(&self, rule: AddressRule) -> Result<&Client, FetchError> {
        let client = match rule {
            AddressRule::GloballyReachable => &self.0.public,
            AddressRule::Loopback => &self.0.loopback,
            AddressRule::Any => &self.0.any,
        };
        let build = async || build_client(rule, Arc::clone(&self.0.lookup));
        Ok(client.get_or_try_init(build).await?)
    }
}

fn build_client(rule: AddressRule, lookup: Lookup) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(CheckedResolver { rule, lookup })
        // HTTPS_PROXY and its like would resolve the host, and connect to it, elsewhere.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        // No connection is reused: what the name resolves to is checked each time.
        .pool_max_idle_per_host(0)
        // A small body must not become a large one.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    match rule {
        // The system's certificates are not needed and may not exist.
        AddressRule::Loopback => builder.tls_certs_only([]),
        AddressRule::GloballyReachable | AddressRule::Any => builder.https_only(true),
    }
    .build()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{IpAddr, SocketAddr, TcpListener};
    use std::sync::Mutex;

    use super::*;

    const TO_LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Returns a client for which every name has these addresses: the first list at the first
    /// lookup, and so on. The names that were looked up are recorded.
    fn client_with(allow: &str, answers: &[&[IpAddr]]) -> (HttpClient, Arc<Mutex<Vec<String>>>) {
        let names = Arc::<Mutex<Vec<String>>>::default();
        let (recorded, answers) = (Arc::clone(&names), answers.iter().map(|it| it.to_vec()));
        let answers: Vec<_> = answers.collect();
        let lookup: Lookup = Arc::new(move |name| {
            let mut names = recorded.lock().expect("no panic");
            let addresses = answers.get(names.len()).cloned().expect("an expected lookup");
            names.push(name);
            let addresses = addresses.into_iter().map(|it| SocketAddr::new(it, 0)).collect();
            Box::pin(std::future::ready(Ok(addresses)))
        });
        (HttpClient::with_lookup(&settings(allow), Duration::from_secs(5), lookup), names)
    }

    fn settings(allow: &str) -> OutboundSettings {
        let allowed_hosts = AllowedHosts::parse(allow).unwrap_or_default();
        OutboundSettings { allowed_hosts }
    }

    async fn get(client: &HttpClient, url: &str) -> Result<Fetched, FetchError> {
        let url = Url::parse(url).expect("a URL");
        let max_bytes = DOCUMENT_MAX_BYTES;
        client
            .get(&GetRequest { url: &url, accept: "*/*", etag: None, bearer: None, max_bytes })
            .await
    }

    fn is_not_allowed(result: &Result<Fetched, FetchError>) -> bool {
        matches!(result, Err(FetchError::NotAllowed(_)))
    }

    /// Returns a listener on loopback, and its port.
    fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind((TO_LOOPBACK, 0)).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    fn has_no_connection(listener: &TcpListener) -> bool {
        listener.set_nonblocking(true).expect("a listener");
        listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn a_name_with_one_address_that_is_not_allowed_is_not_connected_to_at_all() {
        let (listener, port) = listen();
        let public: IpAddr = "8.8.8.8".parse().expect("an address");
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().expect("an address");
        for addresses in
            [&[public, TO_LOOPBACK][..], &[TO_LOOPBACK, public], &[TO_LOOPBACK], &[mapped, public]]
        {
            let (client, names) = client_with("", &[addresses]);
            let result = get(&client, &format!("https://example.com:{port}/")).await;
            assert!(is_not_allowed(&result), "{addresses:?} {result:?}");
            assert!(!result.unwrap_err().to_string().contains("127."), "{addresses:?}");
            assert_eq!(*names.lock().expect("no panic"), ["example.com"]);
        }
        // A listed host may use https with any address, but http on loopback only.
        let allow = format!("example.com:{port}");
        let (client, _) = client_with(&allow, &[&[TO_LOOPBACK, public]]);
        let result = get(&client, &format!("http://example.com:{port}/")).await;
        assert!(is_not_allowed(&result), "{result:?}");
        assert!(has_no_connection(&listener));
    }

    #[tokio::test]
    async fn each_fetch_looks_up_the_name_once_and_connects_to_what_was_checked() {
        let (listener, port) = listen();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).expect("a request");
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(response).expect("a response");
            (listener, stream, String::from_utf8_lossy(&request[..length]).into_owned())
        });
        let (allow, url) = (format!("idp.test:{port}"), format!("http://idp.test:{port}/a"));
        let other: IpAddr = "10.0.0.1".parse().expect("an address");
        let (client, names) = client_with(&allow, &[&[TO_LOOPBACK], &[other]]);
        assert_eq!(get(&client, &url).await.expect("a response").body, b"ok");
        // The connection is still open, and would lead to an address that was checked before.
        let (listener, _stream, request) = server.join().expect("a request");
        assert!(request.to_lowercase().contains(&format!("\r\nhost: {allow}\r\n")), "{request}");
        let result = get(&client, &url).await;
        assert!(is_not_allowed(&result), "{result:?}");
        assert_eq!(names.lock().expect("no panic").len(), 2);
        assert!(has_no_connection(&listener));
    }

    #[tokio::test]
    async fn a_name_that_is_not_resolved_is_unreachable() {
        let fail = || Err(std::io::Error::other("no such host: 10.0.0.1"));
        let lookup: Lookup = Arc::new(move |_| Box::pin(std::future::ready(fail())));
        let client = HttpClient::with_lookup(&settings(""), DEADLINE, lookup);
        let error = get(&client, "https://example.com/").await.unwrap_err();
        assert_eq!(error, FetchError::NoResponse("the host name was not resolved".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_covers_the_lookup_of_the_name() {
        let lookup: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
        let client = HttpClient::with_lookup(&settings(""), DEADLINE, lookup);
        let error = get(&client, "https://example.com/").await.unwrap_err();
        assert_eq!(error, FetchError::NoResponse("the deadline of 5s passed".to_owned()));
    }
}

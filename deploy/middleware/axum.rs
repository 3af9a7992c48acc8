//! Checks the API keys of your customers with Tenantry, for axum 0.8. Needs reqwest 0.13,
//! serde_json and tokio (`time`).
//!
//!     let tenantry = Tenantry::new()?;
//!     let app = app.layer(tenantry.check()); // every route needs a valid key; or, with a scope:
//!     let app = app.route("/docs/{id}", get(docs).layer(tenantry.require(&["docs:read"])));
//!     async fn docs(Extension(caller): Extension<Verdict>) { caller.organization["id"]… }
//!
//! - TENANTRY_URL is http://…, https://… (with reqwest's TLS) or unix:/path. TENANTRY_VERIFIER is
//!   the secret in VERIFIER_KEYS, without its name; a unix socket of VERIFY_ADDR needs none.
//! - A handler runs only after Tenantry answered, during this request, that the key is valid.
//!   Nothing is cached, and nothing in the `Verdict` comes from the client's request.
//! - Behind `check`, `require` uses its verdict if that is for an organization's key with the
//!   scopes. Otherwise it makes a check of its own. Each check that accepts counts as usage.
//! - The answer is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 if there
//!   is no verdict within 500 ms. Only a connection that was refused is tried again, once.
//! - The client's address is that of `ConnectInfo<SocketAddr>`: serve with
//!   `into_make_service_with_connect_info`. Behind a proxy, insert one with the address that your
//!   proxy reports, in a layer around these.
use std::{env, error::Error, io, net::SocketAddr, time::Duration};

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath};
use axum::http::{HeaderMap, HeaderValue, StatusCode, request::Parts};
use axum::middleware::{FromExtractorLayer, from_extractor_with_state};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_millis(500);
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A valid key, its scopes and its owner.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub organization: Value,
    pub key: Value,
    pub account: Value, // null for an organization's key
    pub scopes: Vec<String>,
    _made_here: (),
}

/// Makes the checks.
#[derive(Clone)]
pub struct Tenantry {
    client: reqwest::Client,
    url: String,
    scopes: Option<Vec<Vec<String>>>, // all of any list
}

/// The layer of a route or a router.
pub type Layer = FromExtractorLayer<Verdict, Tenantry>;
type Failure = Box<dyn Error + Send + Sync>;

impl Tenantry {
    /// Reads the settings from the environment.
    pub fn new() -> Result<Self, Failure> {
        let setting = |name| env::var(name).unwrap_or_default();
        let (url, secret) = (setting("TENANTRY_URL"), setting("TENANTRY_VERIFIER"));
        let client = reqwest::Client::builder().pool_idle_timeout(DEADLINE * 60).no_proxy();
        let (client, base) = match url.strip_prefix("unix:") {
            Some(path) => (client.unix_socket(path), "http://localhost"),
            None if secret.is_empty() => Err("TENANTRY_VERIFIER must be the verifier's secret")?,
            None if url.starts_with("http") => (client, url.trim_end_matches('/')),
            None => Err("TENANTRY_URL must be http://…, https://… or unix:/path")?,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-tenantry-verifier", secret.try_into()?);
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let client = client.default_headers(headers).redirect(reqwest::redirect::Policy::none());
        Ok(Self { client: client.build()?, url: format!("{base}/v1/verify"), scopes: None })
    }

    /// Checks the key.
    pub fn check(&self) -> Layer {
        from_extractor_with_state(self.clone())
    }

    /// Checks the key, and that it has all of the scopes.
    pub fn require(&self, scopes: &[&str]) -> Layer {
        self.require_any(&[scopes])
    }

    /// Checks the key, and that it has all scopes of any of the lists. Panics without a list, or if
    /// a list is empty or contains text that is no scope.
    pub fn require_any(&self, lists: &[&[&str]]) -> Layer {
        let is_list = |list: &&[&str]| !list.is_empty() && list.iter().all(|it| is_scope(it));
        let is_valid = !lists.is_empty() && lists.iter().all(is_list);
        assert!(is_valid, "{lists:?} must be lists of scopes");
        let lists = lists.iter().map(|list| list.iter().map(|it| it.to_string()).collect());
        Self { scopes: Some(lists.collect()), ..self.clone() }.check()
    }

    /// Returns the check of a request, or the code of its rejection.
    fn describe(&self, parts: &Parts) -> Result<Value, &'static str> {
        let bearer = sent(parts, "authorization")?.map(|it| match it.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => "",
        });
        let key = match (sent(parts, "x-api-key")?, bearer) {
            (Some(key), Some(bearer)) if key != bearer => return Err("credentials_conflict"),
            (key, bearer) => key.or(bearer).ok_or("key_missing")?,
        };
        let is_visible = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_graphic());
        let key =
            Some(key).filter(|it| is_visible(it) && it.len() <= 512).ok_or("key_malformed")?;
        // Text that is no origin, or repeated, becomes one that no organization allows.
        let origin = sent(parts, "origin").unwrap_or(Some("null"));
        let origin = origin.map(|it| if is_visible(it) && it.len() <= 256 { it } else { "null" });
        let ip = parts.extensions.get().map(|it: &ConnectInfo<SocketAddr>| it.0.ip());
        let path = parts.extensions.get().map_or("", MatchedPath::as_str);
        let resource = format!("{:.128}", format!("{} {path}", parts.method));
        let client = json!({ "ip": ip, "origin": origin });
        Ok(json!({ "key": key, "scopes": self.scopes, "resource": resource, "client": client }))
    }

    async fn post(&self, check: Value) -> Result<Value, Failure> {
        let post = || self.client.post(&self.url).body(check.to_string()).send();
        let mut response = post().await;
        if response.as_ref().is_err_and(|error| is_refused(error)) {
            tokio::time::sleep(RETRY_AFTER).await;
            response = post().await;
        }
        match response? {
            it if it.status() == StatusCode::OK => Ok(serde_json::from_slice(&it.bytes().await?)?),
            it => Err(format!("the status is {}", it.status()))?,
        }
    }
}

impl FromRequestParts<Tenantry> for Verdict {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, tenantry: &Tenantry) -> Result<Self, Response> {
        let known = parts.extensions.get::<Self>();
        if let Some(verdict) = known.filter(|it| it.covers(&tenantry.scopes)) {
            return Ok(verdict.clone());
        }
        let answer = match tenantry.describe(parts) {
            Err(code) => json!({ "valid": false, "code": code }),
            Ok(check) => match tokio::time::timeout(DEADLINE, tenantry.post(check)).await {
                Ok(answer) => answer.unwrap_or_else(|it| json!({ "code": format!("{it:?}") })),
                Err(_) => json!({ "code": "no answer within the deadline" }),
            },
        };
        let verdict = read(&answer)?;
        parts.extensions.insert(verdict.clone());
        Ok(verdict)
    }
}

impl Verdict {
    /// Whether it suffices for the scopes. Tenantry decides for accounts, which also need the role.
    fn covers(&self, lists: &Option<Vec<Vec<String>>>) -> bool {
        let is_in =
            |it: &str, own: &str| own.strip_suffix('*').is_some_and(|own| it.starts_with(own));
        let has = |it: &String| self.scopes.iter().any(|own| own == it || is_in(it, own));
        let Some(lists) = lists else { return true };
        self.account.is_null() && lists.iter().any(|list| list.iter().all(has))
    }
}

/// Returns the value of a header, which is empty if it is not ASCII. Fails if it is repeated.
fn sent<'a>(parts: &'a Parts, name: &str) -> Result<Option<&'a str>, &'static str> {
    let values = parts.headers.get_all(name).iter();
    let mut values = values.map(|it| it.to_str().unwrap_or_default().trim());
    let value = values.next();
    if values.next().is_none() { Ok(value) } else { Err("credentials_conflict") }
}

/// Returns the verdict, or the response to the client. Without a verdict, that is a 503.
fn read(answer: &Value) -> Result<Verdict, Response> {
    let [organization, key, account] =
        ["organization", "key", "account"].map(|it| answer[it].clone());
    let is_whole = [&organization, &account].iter().all(|it| it.is_null() || it["id"].is_string());
    let scopes =
        serde_json::from_value(key["scopes"].clone()).ok().filter(|_| key["id"].is_string());
    let code = match (answer["valid"].as_bool(), answer["code"].as_str(), scopes) {
        (Some(true), Some("valid"), Some(scopes)) if is_whole => {
            return Ok(Verdict { organization, key, account, scopes, _made_here: () });
        }
        (Some(false), Some(code), _) => code,
        _ => "",
    };
    let (status, message) = match code {
        "key_missing" => (401, "A credential is required"),
        // One text for all, so that nobody learns which keys exist.
        "key_malformed" | "key_unknown" | "key_revoked" | "key_expired" | "key_rotated"
        | "key_disabled" | "owner_disabled" => (401, "This credential is not valid"),
        "credentials_conflict" => (400, "The request has two credentials; send one"),
        "scope_missing" => (403, "This credential lacks a required scope"),
        "organization_suspended" => (403, "This organization is suspended"),
        "origin_not_allowed" => (403, "This credential may not be used from this origin"),
        "address_not_allowed" => (403, "This credential may not be used from this address"),
        "address_unknown" => (403, "This credential may not be used from an unknown address"),
        "rate_limited" => (429, "Too many requests"),
        "quota_exceeded" => (429, "The monthly quota of requests is used up"),
        "credits_exhausted" => (429, "The credits are used up"),
        "unavailable" => (503, "The credential could not be checked"),
        _ => {
            eprintln!("tenantry: credential check failed: {}", answer["code"]);
            return read(&json!({ "valid": false, "code": "unavailable", "retry_after": 1 }));
        }
    };
    let code = if status == 401 { "unauthorized" } else { code };
    let mut error = json!({ "code": code, "message": message });
    if code == "scope_missing" {
        error["missing_scopes"] = answer["missing_scopes"].clone();
    }
    let wait = answer["retry_after"].as_u64().map(|it| [("retry-after", it.to_string())]);
    let bearer = (status == 401).then_some([("www-authenticate", "Bearer")]);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    Err((status, wait, bearer, Json(json!({ "error": error }))).into_response())
}

/// Whether the text is `*`, `group:*` or `group:name`.
fn is_scope(text: &str) -> bool {
    let is_part = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let is_name = |it: &str| it.starts_with(char::is_lowercase) && it.bytes().all(is_part);
    let is_pair = |(group, name)| is_name(group) && (name == "*" || is_name(name));
    text == "*" || text.split_once(':').is_some_and(is_pair)
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let is_it = |it: &io::Error| it.kind() == io::ErrorKind::ConnectionRefused;
    error.downcast_ref().is_some_and(is_it) || error.source().is_some_and(is_refused)
}

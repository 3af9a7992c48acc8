//! Checks the API keys of your customers with Tenantry, for axum 0.8. Needs reqwest 0.13, serde_json, tokio (`time`).
//!
//!     let tenantry = Tenantry::new()?;    // then, so that every route needs a valid key: app.layer(tenantry.check())
//!     app.route("/docs/{id}", get(docs).layer(tenantry.require(&["docs:read"])))                  // or, with a scope
//!     async fn docs(Extension(caller): Extension<Verdict>) -> String { caller.organization["id"].to_string() }
//!
//! - TENANTRY_URL is http://…, https://… (with reqwest's TLS) or unix:/path. TENANTRY_VERIFIER is the secret in
//!   VERIFIER_KEYS, without its name; a unix socket of VERIFY_ADDR needs none. `new` fails without them.
//! - A handler runs only after Tenantry answered, during this request, that the key is valid. Nothing is cached, and
//!   nothing in the `Verdict` comes from the client's request. Without a check, `Extension<Verdict>` is a 500.
//! - `require(&["a:read", "b:read"])` needs both scopes, `require_any(&[&["a:read"], &["b:read"]])` either. Behind
//!   `check` they use its verdict if it is for an organization's key that has the scopes. Otherwise they make a check
//!   of their own. Each check that accepts counts as usage.
//! - The answer is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 if there is no verdict within
//!   500 ms. Only a refused connection is tried again, once.
//! - The client's address is that of `ConnectInfo<SocketAddr>`: serve `into_make_service_with_connect_info`. Behind a
//!   proxy, insert `ConnectInfo` with the address as your proxy reports it, in a layer around these.
use std::{error::Error, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{FromFnLayer, Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_millis(500);
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The verdicts that reject: the status, the message and the codes.
const REJECTIONS: [(u16, &str, &str); 9] = [
    (401, INVALID, "key_malformed key_unknown key_revoked key_expired key_rotated key_disabled owner_disabled"),
    (403, "This credential lacks a required scope", "scope_missing"),
    (403, "This organization is suspended", "organization_suspended"),
    (403, "This credential may not be used from this origin", "origin_not_allowed"),
    (403, "This credential may not be used from this address", "address_not_allowed"),
    (403, "This credential may not be used from an unknown address", "address_unknown"),
    (429, "Too many requests", "rate_limited"),
    (429, "The monthly quota of requests is used up", "quota_exceeded"),
    (429, "The credits are used up", "credits_exhausted"),
];
const INVALID: &str = "This credential is not valid"; // one text for all, so that nobody learns which keys exist

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
pub struct Tenantry(reqwest::Client, String);

type Failure = Box<dyn Error + Send + Sync>;
type Required = (Tenantry, Arc<Vec<Vec<String>>>);
type Run = fn(State<Required>, Request, Next) -> Pin<Box<dyn Future<Output = Response> + Send>>;
/// The layer of a route or a router.
pub type Layer = FromFnLayer<Run, Required, (State<Required>, Request)>;

impl Tenantry {
    /// Reads the settings from the environment.
    pub fn new() -> Result<Self, Failure> {
        let [url, secret] = ["TENANTRY_URL", "TENANTRY_VERIFIER"].map(|name| std::env::var(name).unwrap_or_default());
        let headers = [("content-type", "application/json"), ("x-tenantry-verifier", &secret)];
        let headers = headers.map(|(name, value)| Ok((HeaderName::from_static(name), HeaderValue::from_str(value)?)));
        let client =
            reqwest::Client::builder().default_headers(headers.into_iter().collect::<Result<HeaderMap, Failure>>()?);
        let client = client.no_proxy().redirect(reqwest::redirect::Policy::none()).pool_idle_timeout(DEADLINE * 60);
        let (client, base) = match url.strip_prefix("unix:") {
            Some(path) => (client.unix_socket(path), "http://localhost"),
            None if !url.starts_with("http") => Err("TENANTRY_URL must be http://…, https://… or unix:/path")?,
            None if secret.is_empty() => Err("TENANTRY_VERIFIER must be the verifier's secret")?,
            None => (client, url.trim_end_matches('/')),
        };
        Ok(Self(client.build()?, format!("{base}/v1/verify")))
    }

    /// Checks the key.
    pub fn check(&self) -> Layer {
        self.layer(&[])
    }

    /// Checks the key, and that it has all of the scopes.
    pub fn require(&self, scopes: &[&str]) -> Layer {
        self.require_any(&[scopes])
    }

    /// Checks the key, and that it has all scopes of any of the lists. Panics without a list, or if a list
    /// is empty or contains text that is no scope.
    pub fn require_any(&self, lists: &[&[&str]]) -> Layer {
        let is_list = |list: &&[&str]| !list.is_empty() && list.iter().all(|scope| is_scope(scope));
        assert!(!lists.is_empty() && lists.iter().all(is_list), "{lists:?} must be lists of scopes");
        self.layer(lists)
    }

    fn layer(&self, lists: &[&[&str]]) -> Layer {
        let lists = lists.iter().map(|list| list.iter().map(|scope| scope.to_string()).collect()).collect();
        let run: Run = |State((tenantry, lists)), mut request, next| {
            Box::pin(async move {
                match tenantry.decide(&mut request, &lists).await {
                    Ok(Some(rejection)) => rejection,
                    Ok(None) => next.run(request).await,
                    Err(error) => {
                        eprintln!("tenantry: credential check failed: {error:?}");
                        let wait = json!({ "retry_after": 1 });
                        reject(503, "unavailable", "The credential could not be checked", &wait)
                    }
                }
            })
        };
        from_fn_with_state((self.clone(), Arc::new(lists)), run)
    }

    /// Puts the verdict on the request, or returns the rejection. Fails without a verdict.
    async fn decide(&self, request: &mut Request, lists: &[Vec<String>]) -> Result<Option<Response>, Failure> {
        let covers = |own: &str, it: &str| own.strip_suffix(":*").is_some_and(|own| it.split(':').next() == Some(own));
        let has = |own: &[String], it: &String| own.iter().any(|own| own == "*" || own == it || covers(own, it));
        if let Some(Verdict { scopes, account, .. }) = request.extensions().get() {
            // Tenantry decides for accounts, which also need the role.
            if lists.is_empty() || account.is_null() && lists.iter().any(|list| list.iter().all(|it| has(scopes, it))) {
                return Ok(None);
            }
        }
        let check = match describe(request, lists) {
            Ok(check) => check.to_string(),
            Err(rejection) => return Ok(Some(rejection)),
        };
        let answer: Value = tokio::time::timeout(DEADLINE, self.post(check)).await??;
        let [organization, key, account] = ["organization", "key", "account"].map(|name| answer[name].clone());
        let is_whole = [&organization, &account].iter().all(|it| it.is_null() || it["id"].is_string());
        let code = answer["code"].as_str().unwrap_or_default();
        if answer["valid"] == true && code == "valid" && is_whole && key["id"].is_string() {
            let scopes = serde_json::from_value(key["scopes"].clone())?;
            request.extensions_mut().insert(Verdict { organization, key, account, scopes, _made_here: () });
            return Ok(None);
        }
        let mut known = REJECTIONS.iter().filter(|it| answer["valid"] == false && it.2.split(' ').any(|it| it == code));
        let (status, message, _) = known.next().ok_or("the response is not a verdict")?;
        Ok(Some(reject(*status, code, message, &answer)))
    }

    async fn post(&self, check: String) -> Result<Value, Failure> {
        let post = || self.0.post(&self.1).body(check.clone()).send();
        let mut response = post().await;
        if response.as_ref().is_err_and(|error| is_refused(error)) {
            tokio::time::sleep(RETRY_AFTER).await;
            response = post().await;
        }
        match response? {
            it if it.status() == StatusCode::OK => Ok(serde_json::from_slice(&it.bytes().await?)?),
            it => Err(format!("the status is {}", it.status()).into()),
        }
    }
}

/// Returns the check of a request's credential, or the rejection of a request with none that is well-formed, or
/// with two.
fn describe(request: &Request, lists: &[Vec<String>]) -> Result<Value, Response> {
    let sent = |name| request.headers().get_all(name).iter().map(|it| it.to_str().unwrap_or("null").trim());
    let (mut keys, bearers): (Vec<_>, Vec<_>) = (sent("x-api-key").collect(), sent("authorization").collect());
    let is_repeated = keys.len() > 1 || bearers.len() > 1;
    keys.extend(bearers.iter().map(|text| match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }));
    let key = keys.first().copied().unwrap_or_default();
    if is_repeated || keys.iter().any(|it| *it != key) {
        let message = "The request has two credentials; send one";
        return Err(reject(400, "credentials_conflict", message, &Value::Null));
    } else if keys.is_empty() {
        return Err(reject(401, "", "A credential is required", &Value::Null));
    } else if !(1..=512).contains(&key.len()) || !key.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(reject(401, "", INVALID, &Value::Null));
    }
    let route = request.extensions().get().map(|it: &MatchedPath| format!("{} {}", request.method(), it.as_str()));
    // Text that is no origin, or repeated, becomes one that no organization allows.
    let is_origin = |it: &&str| (1..=256).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic());
    let origin = sent("origin").reduce(|_, _| "null").map(|it| Some(it).filter(is_origin).unwrap_or("null"));
    let resource = route.map(|it| it.chars().take(128).collect::<String>());
    let ip = request.extensions().get().map(|ConnectInfo(address): &ConnectInfo<SocketAddr>| address.ip());
    let (scopes, client) = ((!lists.is_empty()).then_some(lists), json!({ "ip": ip, "origin": origin }));
    Ok(json!({ "key": key, "scopes": scopes, "resource": resource, "client": client }))
}

fn is_scope(text: &str) -> bool {
    let is_part = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let is_name = |it: &str| it.starts_with(|it| matches!(it, 'a'..='z')) && it.bytes().all(is_part);
    text == "*" || text.split_once(':').is_some_and(|(on, to)| is_name(on) && (to == "*" || is_name(to)))
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let is_it = |it: &io::Error| it.kind() == io::ErrorKind::ConnectionRefused;
    error.downcast_ref().is_some_and(is_it) || error.source().is_some_and(is_refused)
}

fn reject(status: u16, code: &str, message: &str, answer: &Value) -> Response {
    let code = if status == 401 { "unauthorized" } else { code };
    let mut error = json!({ "code": code, "message": message });
    if code == "scope_missing" {
        error["missing_scopes"] = answer["missing_scopes"].clone();
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = (status, axum::Json(json!({ "error": error }))).into_response();
    let wait = answer["retry_after"].as_u64().map(|wait| ("retry-after", HeaderValue::from(wait)));
    let bearer = (status == StatusCode::UNAUTHORIZED).then(|| ("www-authenticate", HeaderValue::from_static("Bearer")));
    response
        .headers_mut()
        .extend(wait.into_iter().chain(bearer).map(|(name, value)| (HeaderName::from_static(name), value)));
    response
}

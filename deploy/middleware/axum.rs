//! Checks the API keys of your customers with Tenantry, for axum 0.8. Needs reqwest 0.13, serde_json, tokio with `time`.
//!
//!     let tenantry = Tenantry::new()?;    // then, so that every route needs a valid key: app.layer(tenantry.check())
//!     app.route("/docs/{id}", get(docs).layer(tenantry.require(&["docs:read"])))                  // or, with a scope
//!     async fn docs(Extension(caller): Extension<Verdict>) -> String { caller.organization["id"].to_string() }
//!
//! - TENANTRY_URL is http://…, https://… (with reqwest's TLS) or unix:/path. TENANTRY_VERIFIER is the secret in
//!   VERIFIER_KEYS, without its name; a unix socket of VERIFY_ADDR needs none. `new` fails without them.
//! - A handler runs only after Tenantry answered, during this request, that the key is valid. Nothing is cached, and
//!   nothing in the [`Verdict`] comes from the client's request. Without a check, `Extension<Verdict>` is a 500.
//! - `require(&["a:read", "b:read"])` needs both scopes, `require_any(&[&["a:read"], &["b:read"]])` either. Behind
//!   `check` they use the verdict of the same request; alone, they make the check.
//! - The answer is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 if there is no verdict within
//!   500 ms. Only a refused connection is tried again, once.
//! - The client's address is that of `ConnectInfo<SocketAddr>`: serve `into_make_service_with_connect_info`. Behind a
//!   proxy, insert `ConnectInfo` with the address as your proxy reports it, in a layer around these.
use std::{error::Error, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{FromFnLayer, Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_millis(500);
const RETRY_AFTER: Duration = Duration::from_millis(100);

const INVALID: &str = "This credential is not valid"; // one text for all, so that nobody learns which keys exist
type Failure = Box<dyn Error + Send + Sync>;

/// The owner of a valid key.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Null for a personal access token that is pinned to none.
    pub organization: Value,
    pub key: Value,
    /// Null for an organization's key.
    pub account: Value,
    pub scopes: Vec<String>,
    _made_here: (),
}

/// Makes the checks.
#[derive(Clone)]
pub struct Tenantry(Arc<(reqwest::Client, String, String)>);

/// What a route requires: all scopes of any of these lists.
#[derive(Clone)]
pub struct Required(Tenantry, Arc<Vec<Vec<String>>>);
type Run = fn(State<Required>, Request, Next) -> Pin<Box<dyn Future<Output = Response> + Send>>;
/// The layer of a route or a router.
pub type Layer = FromFnLayer<Run, Required, (State<Required>, Request)>;

impl Tenantry {
    /// Reads the settings from the environment.
    pub fn new() -> Result<Self, Failure> {
        let [url, secret] = ["TENANTRY_URL", "TENANTRY_VERIFIER"].map(|name| std::env::var(name).unwrap_or_default());
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.pool_idle_timeout(Duration::from_secs(30));
        let (client, base) = match url.strip_prefix("unix:") {
            Some(path) => (client.unix_socket(path), "http://localhost"),
            None if !url.starts_with("http") => Err("TENANTRY_URL must be http://…, https://… or unix:/path")?,
            None if secret.is_empty() => Err("TENANTRY_VERIFIER must be the verifier's secret")?,
            None => (client, url.trim_end_matches('/')),
        };
        Ok(Self(Arc::new((client.build()?, format!("{base}/v1/verify"), secret))))
    }

    async fn post(&self, check: &Value) -> Result<Value, Failure> {
        let Self(inner) = self;
        let post = || {
            inner
                .0
                .post(&inner.1)
                .header("x-tenantry-verifier", &inner.2)
                .header("content-type", "application/json")
                .body(check.to_string())
                .send()
        };
        let exchange = async {
            let response = match post().await {
                Err(error) if is_refused(&error) => {
                    tokio::time::sleep(RETRY_AFTER).await;
                    post().await?
                }
                first => first?,
            };
            if response.status() != StatusCode::OK {
                return Err(format!("the status is {}", response.status()).into());
            }
            Ok(serde_json::from_slice(&response.bytes().await?)?)
        };
        tokio::time::timeout(DEADLINE, exchange).await?
    }

    /// Checks the key.
    pub fn check(&self) -> Layer {
        self.require_any(&[])
    }

    /// Checks the key, and that it has all of the scopes.
    pub fn require(&self, scopes: &[&str]) -> Layer {
        self.require_any(&[scopes])
    }

    /// Checks the key, and that it has all scopes of any of the lists. Panics at an empty list.
    pub fn require_any(&self, lists: &[&[&str]]) -> Layer {
        assert!(lists.iter().all(|list| !list.is_empty()), "a list of scopes must not be empty");
        let lists = lists.iter().map(|list| list.iter().map(|scope| scope.to_string()).collect()).collect();
        from_fn_with_state(Required(self.clone(), Arc::new(lists)), |State(required), request, next| {
            Box::pin(run(required, request, next))
        })
    }
}

impl Verdict {
    fn has(&self, scope: &str) -> bool {
        let is_all = |own: &str| own.strip_suffix('*').is_some_and(|it| scope.starts_with(it));
        self.scopes.iter().any(|own| own == scope || own == "*" || (own.ends_with(":*") && is_all(own)))
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let is_it = |it: &std::io::Error| it.kind() == std::io::ErrorKind::ConnectionRefused;
    error.downcast_ref().is_some_and(is_it) || error.source().is_some_and(is_refused)
}

async fn run(Required(tenantry, lists): Required, mut request: Request, next: Next) -> Response {
    // What the scopes of a verdict on this request do not cover here, Tenantry decides.
    let is_covered = |it: &Verdict| lists.iter().any(|list| list.iter().all(|scope| it.has(scope)));
    if !request.extensions().get::<Verdict>().is_some_and(|it| lists.is_empty() || is_covered(it)) {
        let check = match describe(&request, &lists) {
            Ok(check) => check,
            Err(rejection) => return rejection,
        };
        match tenantry.post(&check).await.and_then(|answer| judge(&answer)) {
            Ok(Ok(verdict)) => request.extensions_mut().insert(verdict),
            Ok(Err(rejection)) => return rejection,
            Err(error) => {
                eprintln!("tenantry: credential check failed: {error:?}");
                return reject(503, "unavailable", "The credential could not be checked", &json!({ "retry_after": 1 }));
            }
        };
    }
    next.run(request).await
}

/// Returns the check of a request's credential.
fn describe(request: &Request, lists: &[Vec<String>]) -> Result<Value, Response> {
    let sent = |name: &str| -> Vec<&str> {
        request.headers().get_all(name).iter().map(|it| it.to_str().unwrap_or_default().trim()).collect()
    };
    let (mut keys, bearers, origins) = (sent("x-api-key"), sent("authorization"), sent("origin"));
    let is_repeated = keys.len() > 1 || bearers.len() > 1;
    keys.extend(bearers.iter().map(|text| match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }));
    let [key, ..] = keys[..] else { return Err(unauthorized("A credential is required")) };
    if is_repeated || keys.iter().any(|it| *it != key) {
        let message = "The request has two credentials; send one";
        return Err(reject(400, "credentials_conflict", message, &Value::Null));
    }
    if !(1..=512).contains(&key.len()) || !key.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(unauthorized(INVALID));
    }
    let ip = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip());
    // Text that is no origin becomes one that no organization allows.
    let is_origin = |it: &str| (1..=256).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic());
    let origin =
        (!origins.is_empty()).then(|| Some(origins.join(" ")).filter(|it| is_origin(it)).unwrap_or("null".into()));
    let route = request.extensions().get::<MatchedPath>();
    let resource =
        route.map(|it| format!("{} {}", request.method(), it.as_str()).chars().take(128).collect::<String>());
    Ok(json!({ "key": key, "scopes": lists, "resource": resource, "client": { "ip": ip, "origin": origin } }))
}

/// Returns the verdict or the rejection that it means. Fails on all that is no verdict.
fn judge(answer: &Value) -> Result<Result<Verdict, Response>, Failure> {
    let (organization, key, account) = (&answer["organization"], &answer["key"], &answer["account"]);
    let is_whole =
        [organization, account].iter().all(|it| it.is_null() || it["id"].is_string()) && key["id"].is_string();
    match (answer["valid"].as_bool(), answer["code"].as_str()) {
        (Some(true), Some("valid")) if is_whole => {
            let scopes = serde_json::from_value(key["scopes"].clone())?;
            let (organization, key, account) = (organization.clone(), key.clone(), account.clone());
            Ok(Ok(Verdict { organization, key, account, scopes, _made_here: () }))
        }
        (Some(false), Some(code)) => Ok(Err(match code {
            "key_malformed" | "key_unknown" | "key_revoked" | "key_expired" | "key_rotated" | "key_disabled"
            | "owner_disabled" => unauthorized(INVALID),
            "scope_missing"
            | "organization_suspended"
            | "origin_not_allowed"
            | "address_not_allowed"
            | "address_unknown" => reject(403, code, "This credential does not permit the request", answer),
            "rate_limited" | "quota_exceeded" | "credits_exhausted" => reject(429, code, "A limit is used up", answer),
            _ => return Err("the code is unknown".into()),
        })),
        _ => Err("the response is not a verdict".into()),
    }
}

fn unauthorized(message: &str) -> Response {
    let mut response = reject(401, "unauthorized", message, &Value::Null);
    response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
    response
}

fn reject(status: u16, code: &str, message: &str, answer: &Value) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if code == "scope_missing" {
        error["missing_scopes"] = answer["missing_scopes"].clone();
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = (status, axum::Json(json!({ "error": error }))).into_response();
    if let Some(wait) = answer["retry_after"].as_u64() {
        response.headers_mut().insert("retry-after", wait.into());
    }
    response
}

//! The middleware that handles every request and every response: it renders errors for the
//! request's family, sets headers, and writes the access log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use metrics::{counter, histogram};
use tracing::{Instrument, field};

use crate::app::App;
use crate::app::meter::RequestOutcome;
use crate::error::{Error, ErrorKind};
use crate::http::edge::context::RequestContext;
use crate::http::edge::cors;
use crate::http::edge::host;
use crate::http::edge::rate_limits;
use crate::http::edge::rejection;
use crate::http::edge::trace_context;
use crate::http::family::{AcceptedCredentials, RouteTable};
use crate::http::render::challenge::challenge;
use crate::http::render::kinds::mapping;
use crate::http::render::{self, ErrorExtension, IsRendered, render};
use crate::model::caller::{Credential, Identity};

/// The status that the access log records for a request whose client closed the connection, as
/// nginx does. It is never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The middleware's state; cheap to clone.
#[derive(Clone)]
pub struct MiddlewareState(Arc<Shared>);

struct Shared {
    app: App,
    table: RouteTable,
    has_cors: bool,
}

impl MiddlewareState {
    /// Returns the state of a server with these routes.
    #[must_use]
    pub fn new(app: &App, table: RouteTable) -> Self {
        Self(Arc::new(Shared { app: app.clone(), table, has_cors: true }))
    }

    /// Returns the state of a server that only proxies call. The preflights that they pass on are
    /// not for this server.
    #[must_use]
    pub fn without_cors(app: &App, table: RouteTable) -> Self {
        Self(Arc::new(Shared { app: app.clone(), table, has_cors: false }))
    }
}

/// Handles a request: creates its context, runs the routes, and completes the response.
///
/// The steps are called one after the other and not stacked as layers, because each layer would
/// clone the routes behind it for each request.
pub async fn handle_request(
    State(MiddlewareState(shared)): State<MiddlewareState>,
    mut request: Request,
    next: Next,
) -> Response {
    let Shared { app, table, has_cors } = &*shared;
    let context = RequestContext::new(&request, app, table);
    let span = tracing::info_span!(
        "request",
        otel.name = field::Empty,
        otel.kind = "server",
        id = context.id
    );
    if let Some(traces) = &app.config.telemetry.traces {
        span.record("otel.name", format!("{} {}", context.method, context.route));
        if traces.continues_trace {
            trace_context::continue_trace(&span, request.headers());
        }
    }
    let access_log = AccessLog { app, context: &context, span: &span, started: Instant::now() };
    request.extensions_mut().insert(context.clone());
    if let Some(known) = table.known_parameters(&context.route, request.method()) {
        known.record_unknown(&mut request);
    }
    // A check for a proxy is answered at the end of the headers, whatever body they announce.
    let leaves_body = context.facts.kind.is_for_proxies && !request.body().is_end_stream();
    let response = async {
        // The origin and the method in a check are those of another request.
        let is_check = context.facts.credentials == AcceptedCredentials::Verifiers;
        if *has_cors && context.origin.is_some() && !is_check {
            let run = |request| run_with_timeout(app, &context, request, next);
            cors::handle(app, &context, request, run).await
        } else {
            let mut response = run_with_timeout(app, &context, request, next).await;
            response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
            response
        }
    };
    let mut response = response.instrument(span.clone()).await;
    let error = take_error(&mut response);
    if let Some(error) = &error {
        let _entered = span.enter();
        log_cause(error);
        if response.extensions().get::<IsRendered>().is_none() {
            response = with_headers_of(&response, render(error, &context));
        }
        if let Some(challenge) = challenge(app, &context, error) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
    }
    add_headers(&mut response, &context, app);
    if leaves_body {
        // The server does not wait for the body then.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    access_log.finish(response.status().as_u16(), error.as_deref());
    response
}

/// Takes the error out of a response. An error response that the framework created contains none;
/// for that, returns the error of its status.
fn take_error(response: &mut Response) -> Option<Arc<Error>> {
    let extension = response.extensions_mut().remove::<ErrorExtension>();
    let Some(ErrorExtension(error)) = extension else {
        let status = response.status();
        let is_error = status.is_client_error() || status.is_server_error();
        return is_error.then(|| Arc::new(render::from_status(status)));
    };
    Some(error)
}

/// Runs the routes. A request that exceeds its deadline, or panics, gets an error; the database
/// connection that it was using is closed.
async fn run_with_timeout(
    app: &App,
    context: &RequestContext,
    request: Request,
    next: Next,
) -> Response {
    if let Err(error) = host::require(&request) {
        return error.into_response();
    }
    let response = AssertUnwindSafe(next.run(request)).catch_unwind();
    let limit = app.config.http.connections.request_timeout + context.facts.kind.max_wait;
    match tokio::time::timeout(limit, response).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => render::from_panic(panic),
        Err(elapsed) => Error::unavailable(elapsed).into_response(),
    }
}

/// Adds the headers of the response that a rendered error replaces (`Allow`, CORS), except those of
/// its body.
fn with_headers_of(bare: &Response, mut rendered: Response) -> Response {
    for (name, value) in bare.headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    rendered
}

/// Logs an error of the server once, with its causes.
fn log_cause(error: &Error) {
    let is_server_error =
        matches!(error.kind(), ErrorKind::Internal | ErrorKind::Upstream | ErrorKind::Unavailable);
    if is_server_error && std::error::Error::source(error).is_some() {
        tracing::error!(cause = %error.cause(), "request failed");
    }
}

fn add_headers(response: &mut Response, context: &RequestContext, app: &App) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&context.id) {
        if let Some(echo) = &context.echo_header {
            headers.insert(echo.clone(), id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }
    let policy = HeaderValue::from_static("frame-ancestors 'none'");
    rate_limits::add_headers(headers, &context.take_rate_limit_decisions());
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    if app.config.http.is_https() {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

/// Counts and logs a request once, whether it gets a response or its client closes the connection.
struct AccessLog<'a> {
    app: &'a App,
    context: &'a RequestContext,
    span: &'a tracing::Span,
    started: Instant,
}

impl AccessLog<'_> {
    fn finish(self, status: u16, error: Option<&Error>) {
        self.record(status, error);
        std::mem::forget(self);
    }

    /// Records the caller's usage, the rejection if there is one, the line of the access log and
    /// the metrics. None of them contains a body, a query, a header or a path, only the route's
    /// pattern.
    fn record(&self, status: u16, error: Option<&Error>) {
        let Self { app, context, .. } = self;
        if let Some(caller) = context.identity.get() {
            let outcome =
                error.map_or(RequestOutcome::Answered, |error| mapping(error.kind()).outcome);
            let was_admitted = context.quota_counted.get().is_some();
            let organization = context.path_organization.get().copied();
            app.meter.count(caller, organization, (outcome, was_admitted), context.received_at);
        }
        if let Some(error) = error {
            rejection::record(app, context, status, error);
        }
        let elapsed = self.started.elapsed();
        let family = context.facts.family.as_str();
        let credential = context.identity.get().and_then(Identity::credential);
        let caller = credential.map(Credential::principal);
        let client = context.client_address.filter(|_| app.config.telemetry.log_client_address);
        tracing::info!(
            parent: self.span,
            family,
            method = context.method,
            route = context.route,
            status,
            micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            caller = caller.as_deref().unwrap_or("-"),
            client = client.map(field::display),
            kind = error.map_or("-", |error| mapping(error.kind()).code),
            "request completed",
        );
        let route = context.route.clone();
        counter!("http_requests_total", "family" => family, "route" => route.clone(),
                 "method" => context.method, "status" => status.to_string())
        .increment(1);
        histogram!("http_request_duration_seconds", "family" => family, "route" => route)
            .record(elapsed.as_secs_f64());
    }
}

impl Drop for AccessLog<'_> {
    /// Records that the client closed the connection. The changes may have been committed.
    fn drop(&mut self) {
        self.record(CLIENT_CLOSED_REQUEST, None);
    }
}

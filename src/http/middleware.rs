//! The boundary: the one place every request passes on its way in and every answer on its way
//! out. Here a failure gets its family's words, and the request its line in the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use metrics::{counter, histogram};
use tower_http::cors::CorsLayer;
use tracing::{Instrument, field};

use crate::app::App;
use crate::app::meter::RequestOutcome;
use crate::error::{Error, ErrorKind};
use crate::http::context::RequestContext;
use crate::http::cors;
use crate::http::error::{self, ErrorExtension};
use crate::http::error_details::code;
use crate::http::family::Family;
use crate::http::host;
use crate::http::rate_limits;
use crate::http::rejection;
use crate::http::trace_context;
use crate::model::caller::{Credential, Identity};

/// What the log says of a request whose client went away, as other servers do. Nobody is sent it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the boundary needs; cheap to clone.
#[derive(Clone)]
pub struct MiddlewareState(Arc<(App, CorsLayer)>);

impl MiddlewareState {
    /// The boundary of a server.
    #[must_use]
    pub fn new(app: &App) -> Self {
        Self(Arc::new((app.clone(), cors::layer(app))))
    }
}

/// Gives a request its id, and its answer the dialect, the headers and the log line.
///
/// What every request passes is called from here, one after the other, and not stacked up as
/// layers: each of those would be a copy of the routes behind it, for each request.
pub async fn handle_request(
    State(MiddlewareState(shared)): State<MiddlewareState>,
    mut request: Request,
    next: Next,
) -> Response {
    let (app, cors) = &*shared;
    let context = RequestContext::new(&request, app);
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
    let family = Family::from_path(&context.path);
    let arrived =
        AccessLog { app, context: &context, family, span: &span, started: Instant::now() };
    request.extensions_mut().insert(context.clone());
    let answering = async {
        if context.origin.is_some() {
            let guarded = |request| run_with_timeout(app, request, next);
            cors::handle((app, cors), &context, request, guarded).await
        } else {
            let mut response = run_with_timeout(app, request, next).await;
            response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
            response
        }
    };
    let mut response = answering.instrument(span.clone()).await;
    let failure = take_error(&mut response);
    if let Some(error) = &failure {
        let _within = span.enter();
        log_cause(error);
        response = with_headers_of(&response, family.render(error, &context));
    }
    add_headers(&mut response, &context, app);
    arrived.finish(response.status().as_u16(), failure.as_deref());
    response
}

/// The failure that a response carries, or stands for: what the framework and the libraries on it
/// refuse by themselves gets the family's words too.
fn take_error(response: &mut Response) -> Option<Arc<Error>> {
    let carried = response.extensions_mut().remove::<ErrorExtension>();
    let Some(ErrorExtension(error)) = carried else {
        let status = response.status();
        let failed = status.is_client_error() || status.is_server_error();
        return failed.then(|| Arc::new(error::from_status(status)));
    };
    Some(error)
}

/// The answer, or a failure in its place where that takes too long or panics. Work on the database
/// that is cut off closes its connection.
async fn run_with_timeout(app: &App, request: Request, next: Next) -> Response {
    if let Err(error) = host::require(&request) {
        return error.into_response();
    }
    let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
    let limit = app.config.http.connections.request_timeout;
    match tokio::time::timeout(limit, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => error::from_panic(panic),
        Err(elapsed) => Error::unavailable(elapsed).into_response(),
    }
}

/// The rendered failure, with the headers that were set on the way out (`Allow`, what browsers are
/// told), but for those of the body that it replaces.
fn with_headers_of(bare: &Response, mut rendered: Response) -> Response {
    for (name, value) in bare.headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    rendered
}

/// Logs a failure of ours once, with all that led to it.
fn log_cause(error: &Error) {
    let ours =
        matches!(error.kind(), ErrorKind::Internal | ErrorKind::Upstream | ErrorKind::Unavailable);
    if ours && std::error::Error::source(error).is_some() {
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

/// A request that was let in. Whatever becomes of it, it is counted and told of once.
struct AccessLog<'a> {
    app: &'a App,
    context: &'a RequestContext,
    family: Family,
    span: &'a tracing::Span,
    started: Instant,
}

impl AccessLog<'_> {
    fn finish(self, status: u16, failure: Option<&Error>) {
        self.record(status, failure);
        std::mem::forget(self);
    }

    /// One count for whoever called, one denial for whoever was refused, one line in the log, one
    /// count and one duration in the metrics. Never a body, a query, a header or a path as it was
    /// sent: only the pattern that matched.
    fn record(&self, status: u16, failure: Option<&Error>) {
        let Self { app, context, .. } = self;
        if let Some(caller) = context.identity.get() {
            let outcome = failure.map_or(RequestOutcome::Answered, usage_outcome);
            let was_admitted = context.quota_counted.get().is_some();
            let named = context.path_organization.get().copied();
            app.meter.count(caller, named, (outcome, was_admitted), context.received_at);
        }
        if let Some(error) = failure {
            rejection::record(app, context, status, error);
        }
        let took = self.started.elapsed();
        let credential = context.identity.get().and_then(Identity::credential);
        let caller = credential.map(Credential::principal);
        let client = context.client_address.filter(|_| app.config.telemetry.log_client_address);
        tracing::info!(
            parent: self.span,
            family = self.family.as_str(),
            method = context.method,
            route = context.route,
            status,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            caller = caller.as_deref().unwrap_or("-"),
            client = client.map(field::display),
            kind = failure.map_or("-", |error| code(error.kind())),
            "answered",
        );
        let (family, route) = (self.family.as_str(), context.route.clone());
        counter!("http_requests_total", "family" => family, "route" => route.clone(),
                 "method" => context.method, "status" => status.to_string())
        .increment(1);
        histogram!("http_request_duration_seconds", "family" => family, "route" => route)
            .record(took.as_secs_f64());
    }
}

impl Drop for AccessLog<'_> {
    /// Nobody waits for the answer any more; what was done for it may well be done.
    fn drop(&mut self) {
        self.record(CLIENT_CLOSED_REQUEST, None);
    }
}

/// Whether the caller was refused for what it may, or how much, and not for how it asked.
#[must_use]
pub fn is_rejection(error: &Error) -> bool {
    !matches!(usage_outcome(error), RequestOutcome::Answered)
}

/// What became of a request, for its organization's usage.
fn usage_outcome(error: &Error) -> RequestOutcome {
    match error.kind() {
        ErrorKind::MissingScopes(_)
        | ErrorKind::MissingRole(_)
        | ErrorKind::Forbidden
        | ErrorKind::EmailNotVerified
        | ErrorKind::OrganizationSuspended
        | ErrorKind::PlanLimit { .. } => RequestOutcome::Rejected,
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded { .. } => RequestOutcome::Throttled,
        _ => RequestOutcome::Answered,
    }
}

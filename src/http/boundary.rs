//! The boundary: the one place every request passes on its way in and every answer on its way
//! out. Here a failure gets its family's words, and the request its line in the log.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::{counter, histogram};
use tracing::Instrument;

use crate::app::App;
use crate::error::{Error, Kind};
use crate::http::context::RequestContext;
use crate::http::details::code;
use crate::http::dialect::Family;
use crate::http::error::Failure;

/// How long a request may take from its first line to its answer.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Gives a request its id, and its answer the dialect, the headers and the log line.
pub async fn boundary(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = RequestContext::of(&request, &app);
    let family = Family::of(&context.path);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{} {route}", context.method),
        id = context.id,
    );
    request.extensions_mut().insert(context.clone());
    let mut response = next.run(request).instrument(span.clone()).await;
    let failure = response.extensions_mut().remove::<Failure>();
    if let Some(Failure(error)) = &failure {
        let _within = span.enter();
        log_source(error);
        response = dressed(&response, family.render(error, &context));
    }
    add_headers(&mut response, &context, &app);
    meter(&app, &context, failure.as_ref());
    let outcome = Outcome { family, route, failure: failure.as_ref(), took: started.elapsed() };
    outcome.report(&context, &response, &span);
    response
}

/// Cuts off what takes too long. Work on the database that is cut off closes its connection.
pub async fn with_deadline(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(DEADLINE, next.run(request)).await;
    answered.unwrap_or_else(|elapsed| Error::unavailable(elapsed).into_response())
}

/// The rendered failure, with the headers that its maker had set (`Allow`).
fn dressed(bare: &Response, mut rendered: Response) -> Response {
    if let Some(allow) = bare.headers().get(header::ALLOW) {
        rendered.headers_mut().insert(header::ALLOW, allow.clone());
    }
    rendered
}

/// Logs a failure of ours once, with all that led to it.
fn log_source(error: &Error) {
    if matches!(error.kind(), Kind::Internal | Kind::Upstream | Kind::Unavailable) {
        tracing::error!(error = error as &dyn std::error::Error, "request failed");
    }
}

fn add_headers(response: &mut Response, context: &RequestContext, app: &App) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&context.id) {
        if let Some(echo) = &context.echo {
            headers.insert(echo.clone(), id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }
    let policy = HeaderValue::from_static("frame-ancestors 'none'");
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    if app.config.http.is_https() {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

/// Counts the request for the organization that made it.
fn meter(app: &App, context: &RequestContext, failure: Option<&Failure>) {
    let Some(caller) = context.caller.get() else { return };
    let denied = failure.is_some_and(|Failure(error)| {
        matches!(
            error.kind(),
            Kind::MissingScopes(_)
                | Kind::MissingRole(_)
                | Kind::Forbidden
                | Kind::Suspended
                | Kind::PlanLimit { .. }
                | Kind::RateLimited
                | Kind::QuotaExceeded { .. }
        )
    });
    app.meter.count(caller, denied, context.at);
}

/// How a request ended.
struct Outcome<'a> {
    family: Family,
    route: &'a str,
    failure: Option<&'a Failure>,
    took: Duration,
}

impl Outcome<'_> {
    /// One line in the log, one count and one duration in the metrics. Never a body, a query, a
    /// header or a path as it was sent: only the pattern that matched.
    fn report(&self, context: &RequestContext, response: &Response, span: &tracing::Span) {
        let status = response.status().as_u16();
        let kind = self.failure.map_or("-", |Failure(error)| code(error.kind()));
        let caller = context.caller.get().map(|caller| caller.key.to_string());
        tracing::info!(
            parent: span,
            family = self.family.as_str(),
            method = context.method,
            route = self.route,
            status,
            micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            caller = caller.as_deref().unwrap_or("-"),
            kind,
            "answered",
        );
        let (family, route) = (self.family.as_str(), self.route.to_owned());
        let method = known_method(&context.method);
        counter!("http_requests_total", "family" => family, "route" => route.clone(),
                 "method" => method, "status" => status.to_string())
        .increment(1);
        histogram!("http_request_duration_seconds", "family" => family, "route" => route)
            .record(self.took.as_secs_f64());
    }
}

/// The method as a metric's label: a caller's inventions must not make new time series.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

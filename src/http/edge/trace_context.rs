//! W3C trace context: the span of a request continues the trace of its caller.

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Makes a span a child of the span in the `traceparent` header. Must be called before the span is
/// entered. A repeated or invalid header is ignored.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if headers.get_all(TRACEPARENT).iter().count() != 1 {
        return;
    }
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if context.span().span_context().is_valid() {
        let _ = span.set_parent(context);
    }
}

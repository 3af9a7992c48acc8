//! The trace settings, from the standard variables of OpenTelemetry.
//!
//! The variables that are read here are checked at start. The SDK itself reads the others:
//! `OTEL_RESOURCE_ATTRIBUTES`, the arguments of samplers, `OTEL_BSP_*` and `OTEL_SPAN_*_LIMIT`.

use std::fs;
use std::time::Duration;

use url::Url;

use crate::config::env::Env;
use crate::model::ValidationError;

/// The standard's default timeout of one export.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The samplers that the SDK supports.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// The settings for the export of traces.
#[derive(Clone)]
pub struct TraceSettings {
    /// The complete URL that spans are posted to.
    pub endpoint: Url,
    /// The certificates (PEM) of certificate authorities to trust besides the system's.
    pub certificate: Option<Vec<u8>>,
    /// The timeout of one export.
    pub timeout: Duration,
    /// The service name in traces; `None` if the resource attributes contain it.
    pub service_name: Option<String>,
    /// Whether a request's span continues the trace in its `traceparent` header.
    pub continues_trace: bool,
}

impl TraceSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Option<Self> {
        // By the standard, any value but `true` means false.
        let is_off = env.optional("OTEL_SDK_DISABLED", |it| Ok(it.eq_ignore_ascii_case("true")));
        let is_exporting = env.optional("OTEL_TRACES_EXPORTER", parse_exporter).unwrap_or(true);
        let traces_endpoint = env.optional("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", parse_endpoint);
        let base_endpoint = env.optional("OTEL_EXPORTER_OTLP_ENDPOINT", parse_endpoint);
        env.optional("OTEL_EXPORTER_OTLP_PROTOCOL", parse_protocol);
        env.optional("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", parse_protocol);
        env.optional("OTEL_EXPORTER_OTLP_HEADERS", parse_headers);
        env.optional("OTEL_EXPORTER_OTLP_TRACES_HEADERS", parse_headers);
        let timeout = env.optional("OTEL_EXPORTER_OTLP_TIMEOUT", parse_timeout);
        let traces_timeout = env.optional("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", parse_timeout);
        let certificate = env.optional("OTEL_EXPORTER_OTLP_CERTIFICATE", parse_certificate);
        let traces_certificate =
            env.optional("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", parse_certificate);
        env.optional("OTEL_TRACES_SAMPLER", parse_sampler);
        let continues = env.optional("OTEL_PROPAGATORS", parse_propagators).unwrap_or(true);
        let service_name = env.optional("OTEL_SERVICE_NAME", |text| Ok(text.to_owned()));
        let attributes = env.optional("OTEL_RESOURCE_ATTRIBUTES", parse_attributes);
        let has_service_name = attributes.unwrap_or(false);
        let default_name = (!has_service_name).then(|| "tenantry".to_owned());
        let endpoint = traces_endpoint.or_else(|| Some(traces_url(&base_endpoint?)))?;
        let settings = Self {
            endpoint,
            certificate: traces_certificate.or(certificate),
            timeout: traces_timeout.or(timeout).unwrap_or(DEFAULT_TIMEOUT),
            service_name: service_name.or(default_name),
            continues_trace: continues,
        };
        Some(settings).filter(|_| is_exporting && is_off != Some(true))
    }
}

/// Returns the URL for traces at a collector that receives all signals.
fn traces_url(base: &Url) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/v1/traces", base.path().trim_end_matches('/')));
    url
}

fn parse_endpoint(text: &str) -> Result<Url, ValidationError> {
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    };
    let url = Url::parse(text).ok().filter(is_plain);
    url.ok_or(
        "must be an http:// or https:// URL, such as http://127.0.0.1:4318, without user, \
         password or query; put secrets into OTEL_EXPORTER_OTLP_HEADERS"
            .into(),
    )
}

fn parse_exporter(text: &str) -> Result<bool, ValidationError> {
    match text {
        "otlp" => Ok(true),
        "none" => Ok(false),
        _ => Err("must be otlp or none".into()),
    }
}

fn parse_protocol(text: &str) -> Result<(), ValidationError> {
    match text {
        "http/protobuf" => Ok(()),
        _ => Err("must be http/protobuf, which a collector accepts on port 4318".into()),
    }
}

/// Checks headers of the form `name=value,…` (W3C baggage). The values may be secrets, so messages
/// do not contain them.
fn parse_headers(text: &str) -> Result<(), ValidationError> {
    let is_header = |item: &str| {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        item.split_once('=').is_some_and(|(name, value)| {
            let (name, value) = (name.trim(), value.trim());
            !name.is_empty()
                && name.bytes().all(is_token)
                && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
                && !value.starts_with(['"', '\''])
        })
    };
    let all = text.split(',').all(is_header);
    all.then_some(()).ok_or("must be name=value, separated by commas, without quotes".into())
}

fn parse_timeout(text: &str) -> Result<Duration, ValidationError> {
    let millis = text.parse().ok().filter(|millis| (1..=600_000).contains(millis));
    let millis = millis.ok_or("must be a number of milliseconds from 1 to 600000")?;
    Ok(Duration::from_millis(millis))
}

fn parse_certificate(text: &str) -> Result<Vec<u8>, ValidationError> {
    let pem = fs::read(text).map_err(|error| format!("must name a readable file: {error}"))?;
    let is_pem = String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----");
    if is_pem { Ok(pem) } else { Err("must name a file with certificates in PEM".into()) }
}

fn parse_sampler(text: &str) -> Result<(), ValidationError> {
    let is_known = SAMPLERS.contains(&text);
    let invalid = || format!("must be one of {}", SAMPLERS.join(", ")).into();
    is_known.then_some(()).ok_or_else(invalid)
}

/// Returns whether the propagators include the W3C trace context.
fn parse_propagators(text: &str) -> Result<bool, ValidationError> {
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    if names.iter().all(|name| matches!(*name, "tracecontext" | "baggage" | "none")) {
        return Ok(names.contains(&"tracecontext"));
    }
    Err("must be tracecontext, baggage, both separated by a comma, or none".into())
}

/// Returns whether the attributes contain the service name.
fn parse_attributes(text: &str) -> Result<bool, ValidationError> {
    let mut items = text.split(',').map(|item| item.split_once('='));
    if items.clone().any(|item| item.is_none()) {
        return Err("must be name=value, separated by commas".into());
    }
    Ok(items.any(|item| item.is_some_and(|(name, _)| name.trim() == "service.name")))
}

//! Where traces are sent, by the standard variables of OpenTelemetry.
//!
//! What is read here is checked at start, by name. The SDK reads the rest of the standard by
//! itself: `OTEL_RESOURCE_ATTRIBUTES`, the arguments of samplers, `OTEL_BSP_*` and
//! `OTEL_SPAN_*_LIMIT`.

use std::fs;
use std::time::Duration;

use url::Url;

use crate::config::env::Env;
use crate::model::ValidationError;

/// How long one export may take where nothing is set, as the standard has it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The samplers that the SDK knows.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Where traces are sent.
#[derive(Clone)]
pub struct TraceSettings {
    /// The whole URL that spans are posted to.
    pub endpoint: Url,
    /// The certificates of the authorities that are trusted besides the system's (PEM).
    pub certificate: Option<Vec<u8>>,
    /// How long one export may take.
    pub timeout: Duration,
    /// What we are called in traces; `None` where the resource attributes say.
    pub service_name: Option<String>,
    /// Whether a request's span continues the trace that its caller names.
    pub continues_trace: bool,
}

impl TraceSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Option<Self> {
        // The standard reads anything but `true` as false.
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

/// Where traces go at a collector that takes every signal.
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
        "must be an http:// or https:// URL, such as http://127.0.0.1:4318; what is secret \
         belongs into OTEL_EXPORTER_OTLP_HEADERS, not into the URL"
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
        _ => Err("must be http/protobuf: a collector takes it on port 4318".into()),
    }
}

/// Reads `name=value,…`, as W3C baggage. The values may be secrets, and are not repeated.
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
    let pem =
        fs::read(text).map_err(|error| format!("names a file that can not be read: {error}"))?;
    let is_pem = String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----");
    if is_pem { Ok(pem) } else { Err("must name a file with certificates in PEM".into()) }
}

fn parse_sampler(text: &str) -> Result<(), ValidationError> {
    let is_known = SAMPLERS.contains(&text);
    let known = || format!("must be one of {}", SAMPLERS.join(", ")).into();
    is_known.then_some(()).ok_or_else(known)
}

/// Whether the W3C trace context is among the ways that a trace goes on.
fn parse_propagators(text: &str) -> Result<bool, ValidationError> {
    let words: Vec<_> = text.split(',').map(str::trim).collect();
    if words.iter().all(|word| matches!(*word, "tracecontext" | "baggage" | "none")) {
        return Ok(words.contains(&"tracecontext"));
    }
    Err("must be tracecontext, baggage, both separated by a comma, or none".into())
}

/// Whether the attributes name the service.
fn parse_attributes(text: &str) -> Result<bool, ValidationError> {
    let mut items = text.split(',').map(|item| item.split_once('='));
    if items.clone().any(|item| item.is_none()) {
        return Err("must be name=value, separated by commas".into());
    }
    Ok(items.any(|item| item.is_some_and(|(name, _)| name.trim() == "service.name")))
}

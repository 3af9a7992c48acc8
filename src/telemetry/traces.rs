//! Exports traces over OTLP/HTTP. Failed exports are counted in the metrics and logged with their
//! cause at most once a minute, so that an unreachable collector does not flood the log.

use std::error::Error;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use reqwest::blocking::Client;
use reqwest::{Certificate, redirect};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::registry::LookupSpan;

use super::SetupError;
use crate::config::traces::TraceSettings;

/// The minimum interval between log lines about failures.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Exports spans, if an endpoint is configured.
pub struct TraceExporter(Option<SdkTracerProvider>);

impl TraceExporter {
    /// Starts the thread that exports spans. Nothing is sent yet.
    ///
    /// # Errors
    /// The certificates cannot be parsed, or the HTTP client cannot be created.
    pub fn start(settings: Option<&TraceSettings>) -> Result<Self, SetupError> {
        let Some(settings) = settings else { return Ok(Self(None)) };
        let setup_error = |error: &dyn Error| SetupError::Traces(error_chain(error));
        let cause = Arc::new(Mutex::new(None));
        let client = client(settings).map_err(|error| setup_error(&error))?;
        let client = CauseRecordingClient { client, cause: Arc::clone(&cause) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(settings.endpoint.as_str())
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| setup_error(&error))?;
        let exporter = CountingExporter { exporter, cause, failure_log: Mutex::default() };
        let mut resource = Resource::builder();
        if let Some(name) = &settings.service_name {
            resource = resource.with_service_name(name.clone());
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Self(Some(provider)))
    }

    /// Returns the layer that passes spans to the exporter.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let provider = self.0.as_ref()?;
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tenantry"));
        Some(layer.with_filter(LevelFilter::INFO))
    }

    /// Exports the remaining spans.
    pub fn finish(self) {
        if let Some(Err(error)) = self.0.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "last traces not exported at shutdown");
        }
    }
}

fn client(settings: &TraceSettings) -> Result<Client, reqwest::Error> {
    let mut client = Client::builder().timeout(settings.timeout).redirect(redirect::Policy::none());
    if settings.endpoint.scheme() == "http" {
        // The system's certificates are not needed and may not exist.
        client = client.tls_certs_only([]);
    } else if let Some(pem) = &settings.certificate {
        client = client.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
    }
    client.build()
}

/// Sends requests and records the cause of a failure, which the exporter's error does not contain.
#[derive(Debug)]
struct CauseRecordingClient {
    client: Client,
    cause: Arc<Mutex<Option<String>>>,
}

impl HttpClient for CauseRecordingClient {
    fn send_bytes<'life, 'sending>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'life: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let response = self.client.send_bytes(request).await;
            let cause = response.as_ref().err().map(|error| error_chain(error.as_ref()));
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
            response
        })
    }
}

/// An exporter that counts and logs its failures.
#[derive(Debug)]
struct CountingExporter {
    exporter: SpanExporter,
    cause: Arc<Mutex<Option<String>>>,
    failure_log: Mutex<FailureLog>,
}

/// When a failure was last logged, and how many failures occurred since.
#[derive(Debug, Default)]
struct FailureLog {
    last_logged: Option<Instant>,
    failures: u64,
}

impl opentelemetry_sdk::trace::SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        let outcome = if exported.is_ok() { "sent" } else { "failed" };
        let count = u64::try_from(spans).unwrap_or(u64::MAX);
        counter!("trace_exports_total", "outcome" => outcome).increment(1);
        counter!("trace_spans_total", "outcome" => outcome).increment(count);
        if let Err(error) = &exported {
            self.log(error, spans);
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl CountingExporter {
    fn log(&self, error: &dyn Error, spans: usize) {
        let mut failure_log = self.failure_log.lock().unwrap_or_else(PoisonError::into_inner);
        failure_log.failures += 1;
        if failure_log.last_logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        let failures = std::mem::take(&mut failure_log.failures);
        failure_log.last_logged = Some(Instant::now());
        drop(failure_log);
        let recorded = self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cause = recorded.unwrap_or_else(|| error.to_string());
        tracing::warn!(cause, failures, spans, "traces not exported");
    }
}

/// Returns an error and its chain of sources in one line.
fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

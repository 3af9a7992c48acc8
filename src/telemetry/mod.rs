//! Logs, metrics and traces of this process.
//!
//! The log goes to standard error, with one line per request and one per internal error. Metrics
//! are served by their own listener. Traces are exported only if an endpoint is configured.

mod log_writer;
mod traces;

use std::io::{self, Stderr, Write, stderr};
use std::panic::PanicHookInfo;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use self::log_writer::{LogThread, LogWriter};
use crate::config::telemetry::{LogFormat, TelemetrySettings};

/// Upper bounds of the duration histograms, in seconds.
const DURATION_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Upper bounds of the batch size histogram, in queries.
const BATCH_SIZE_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 512.0];

/// Why telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The metrics recorder could not be installed.
    #[error("metrics: {0}")]
    Metrics(#[from] BuildError),
    /// The exporter of traces could not be started.
    #[error("traces: {0}")]
    Traces(String),
    /// The thread that writes the log could not be started.
    #[error("logs: {0}")]
    Thread(#[from] io::Error),
    /// This process already has a global logger.
    #[error("logs: {0}")]
    Logs(#[from] tracing_subscriber::util::TryInitError),
}

/// The telemetry of this process. Dropping it writes the buffered log lines.
pub struct Telemetry {
    metrics: PrometheusHandle,
    traces: traces::TraceExporter,
    _log: LogThread<Stderr>,
}

impl Telemetry {
    /// Sets up logs, metrics and traces for this process. Call it once, outside of any async
    /// runtime.
    pub fn start(settings: &TelemetrySettings) -> Result<Self, SetupError> {
        let filter = settings.log_filter.clone();
        let (writer, log_thread) = log_writer::start(stderr())?;
        let log = log_layer::<Registry>(settings.log_format, writer.clone()).with_filter(filter);
        let traces = traces::TraceExporter::start(settings.traces.as_ref())?;
        tracing_subscriber::registry().with(log).with(traces.layer()).try_init()?;
        std::panic::set_hook(Box::new(move |panic| {
            log_panic(panic);
            // It may be the last line of this process.
            let _ = writer.clone().flush();
        }));
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_batch_size".to_owned()), &BATCH_SIZE_BUCKETS)?
            .install_recorder()?;
        Ok(Self { metrics, traces, _log: log_thread })
    }

    /// Returns the handle that renders the metrics.
    #[must_use]
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }

    /// Exports the remaining traces. Call it outside of any async runtime.
    pub fn finish(self) {
        self.traces.finish();
    }
}

fn log_layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    format: LogFormat,
    writer: LogWriter<Stderr>,
) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// Logs the location and message of a panic.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(location, message, "panicked");
}

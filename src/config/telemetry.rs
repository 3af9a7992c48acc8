//! The settings for logs, metrics and traces.

use std::net::{Ipv4Addr, SocketAddr};

use tracing::Level;
use tracing_subscriber::filter::Targets;

use crate::config::env::Env;
use crate::config::http::parse_addr;
use crate::config::keys::parse_switch;
use crate::config::traces::TraceSettings;
use crate::model::ValidationError;
use crate::model::audit_head::LOG_TARGET;

/// The settings for logs, metrics and traces.
pub struct TelemetrySettings {
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The log levels, by part of the program.
    pub log_filter: Targets,
    /// Whether the access log contains the client's address.
    pub log_client_address: bool,
    /// The address that serves metrics.
    pub metrics: MetricsListener,
    /// The export of traces; `None` disables it.
    pub traces: Option<TraceSettings>,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The address that serves metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListener {
    /// The default address. If it is in use, the server logs a warning and serves no metrics.
    Default(SocketAddr),
    /// A configured address. If it is in use, the server does not start.
    Address(SocketAddr),
    /// Metrics are not served.
    Off,
}

impl TelemetrySettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let default = MetricsListener::Default((Ipv4Addr::LOCALHOST, 9090).into());
        Self {
            log_format: env.optional("LOG_FORMAT", parse_format).unwrap_or(LogFormat::Text),
            log_filter: env.optional("LOG_FILTER", parse_filter).unwrap_or_else(default_filter),
            log_client_address: env.optional("LOG_CLIENT_ADDRESS", parse_switch).unwrap_or(true),
            metrics: env.optional("METRICS_ADDR", parse_metrics).unwrap_or(default),
            traces: TraceSettings::read(env),
        }
    }
}

fn parse_format(text: &str) -> Result<LogFormat, ValidationError> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".into()),
    }
}

/// Parses the log levels. Heads of the audit log are always logged, whatever the filter is, because
/// they are evidence and logged only once.
fn parse_filter(text: &str) -> Result<Targets, ValidationError> {
    let filter = text.parse().map(|filter: Targets| filter.with_target(LOG_TARGET, Level::INFO));
    filter.map_err(|_| {
        "must be a level (error, warn, info, debug, trace), or levels by part of the program, such \
         as info,sqlx=warn"
            .into()
    })
}

/// Returns the log levels without `LOG_FILTER`.
fn default_filter() -> Targets {
    Targets::new().with_default(Level::INFO).with_target("sqlx", Level::WARN)
}

fn parse_metrics(text: &str) -> Result<MetricsListener, ValidationError> {
    match text {
        "off" => Ok(MetricsListener::Off),
        _ => parse_addr(text)
            .map(MetricsListener::Address)
            .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:9090, or off".into()),
    }
}

//! What is logged, counted and traced, and where to.

use std::net::{Ipv4Addr, SocketAddr};

use tracing::Level;
use tracing_subscriber::filter::Targets;

use crate::config::env::Env;
use crate::config::http::parse_addr;
use crate::config::keys::parse_switch;
use crate::config::traces::TraceSettings;
use crate::model::ValidationError;
use crate::model::audit_head::LOG_TARGET;

/// What is logged, counted and traced, and where to.
pub struct TelemetrySettings {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_filter: Targets,
    /// Whether the access log names the client's address.
    pub log_client_address: bool,
    /// Where metrics are served.
    pub metrics: MetricsListener,
    /// Where traces are sent; `None` sends none.
    pub traces: Option<TraceSettings>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListener {
    /// The default address; where it is taken, nowhere, with a warning.
    Default(SocketAddr),
    /// This address, or the server does not start.
    Address(SocketAddr),
    /// Nowhere.
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

/// Heads of the audit log are logged whatever is left out: they are evidence, and logged once.
fn parse_filter(text: &str) -> Result<Targets, ValidationError> {
    let filter = text.parse().map(|filter: Targets| filter.with_target(LOG_TARGET, Level::INFO));
    filter.map_err(|_| {
        "must be a level (error, warn, info, debug, trace), or levels of parts of the program, \
         such as info,sqlx=warn"
            .into()
    })
}

/// What is logged where nothing else is asked for.
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

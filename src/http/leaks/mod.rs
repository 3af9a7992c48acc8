//! `POST /v1/leaks`: anyone who finds a key reports it. The text is the proof, so no credential is
//! needed, and the route exists whether or not verification is set up.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::app::App;
use crate::domain::leaks;
use crate::error::Result;
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{AddressLimit, RateLimitByAddress};
use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};
use crate::http::render::verification::{BadRequest, TooLarge, Unavailable, UnsupportedMediaType};
use crate::model::ValidationError;
use crate::model::rate_limit::RateLimit;
use crate::model::secret::Secret;

/// The longest text of a key, in characters.
const MAX_KEY_CHARS: usize = 512;
/// The longest URL, in characters.
const MAX_URL_CHARS: usize = 2_048;

/// Returns the routes for reports of leaked keys.
#[must_use]
pub fn routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Verification, AcceptedCredentials::None)
        .route(RouteKind::WRITE, routes!(report))
}

/// Reporting leaked keys.
struct LeakReportLimit;

impl AddressLimit for LeakReportLimit {
    const LIMIT: RateLimit = RateLimit::LeakReports;
}

/// A leaked key.
#[derive(ToSchema)]
#[schema(as = leaks::ReportRequest)]
pub struct LeakReportRequest {
    /// The text of a key, a personal access token or an OAuth access token.
    #[schema(value_type = String, min_length = 1, max_length = 512,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: Secret,
    /// Where it was seen: an http or https URL.
    #[schema(value_type = Option<String>, max_length = 2048,
             examples("https://paste.example.com/abc123"))]
    url: Option<Url>,
}

impl FromFields for LeakReportRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.required("key", parse_key);
        let url = fields.optional("url", text(parse_url));
        Some(Self { key: key?, url })
    }
}

fn parse_key(node: JsonNode) -> Result<Secret, ValidationError> {
    let text = node.into_string()?;
    if text.is_empty() || text.chars().count() > MAX_KEY_CHARS {
        return Err(format!("must be 1 to {MAX_KEY_CHARS} characters long").into());
    }
    Ok(Secret::new(text))
}

fn parse_url(text: &str) -> Result<Url, ValidationError> {
    let is_short = text.chars().count() <= MAX_URL_CHARS && !text.contains(char::is_control);
    let url = is_short.then(|| Url::parse(text).ok()).flatten();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        format!("must be an http or https URL of at most {MAX_URL_CHARS} characters").into()
    })
}

/// The response to every report.
#[derive(Serialize, ToSchema)]
#[schema(as = leaks::Report)]
pub struct LeakReportResponse {
    #[schema(examples("leak_report"))]
    object: &'static str,
    request_id: String,
}

/// Report a leaked key. Anyone who has the text of a key may report it.
///
/// The response is the same whether or not the key exists. For a key that is neither revoked nor
/// expired, the leak policy of its organization is applied and the owners are mailed, once for each
/// key.
#[utoipa::path(post, path = "/v1/leaks", operation_id = "reportLeak", tag = "verification",
    request_body = LeakReportRequest,
    responses((status = 202, description = "Queued.", body = LeakReportResponse), BadRequest,
              TooLarge, UnsupportedMediaType, Unavailable))]
async fn report(
    State(app): State<App>,
    _: RateLimitByAddress<LeakReportLimit>,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<LeakReportRequest>,
) -> Result<(StatusCode, Json<LeakReportResponse>)> {
    let LeakReportRequest { key, url } = request;
    let audit = context.audit_context_for(StatusCode::ACCEPTED);
    leaks::report(&app, &key, url, &audit).await?;
    let response = LeakReportResponse { object: "leak_report", request_id: context.id.clone() };
    Ok((StatusCode::ACCEPTED, Json(response)))
}

//! `POST /webhooks/github/secret-scanning`: receives the keys that GitHub's secret scanning finds
//! in public, as a partner of its program.
//!
//! The endpoint belongs to no family. A body with GitHub's signature is trusted, and no other
//! credential is needed. The signature is verified before the body is parsed.

mod matches;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use metrics::counter;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use self::matches::parse_matches;
use crate::app::App;
use crate::domain::leaks::{GithubFeedback, report_matches};
use crate::error::{AuthFailure, Error, Result};
use crate::http::body::{invalid_json, read_body, without_byte_order_mark};
use crate::http::edge::context::RequestContext;
use crate::http::render::problem::Problem;

const PATH: &str = "/webhooks/github/secret-scanning";
const KEY_IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";
/// The size limit of a body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Returns the route if keys to verify signatures are configured, else no route.
pub fn routes(app: &App) -> Router<App> {
    let routes = Router::new();
    if app.config.github.is_enabled() { routes.route(PATH, post(receive)) } else { routes }
}

/// A text that GitHub found. Other fields are ignored.
#[derive(ToSchema)]
#[schema(as = github::Match)]
#[expect(dead_code, reason = "only used to describe the body in the API document")]
pub struct SecretMatch {
    /// The text.
    #[schema(examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    token: String,
    /// The name under which the form of the text is registered at GitHub.
    #[schema(examples("acme_api_key"))]
    r#type: String,
    /// Where it was found; may be empty.
    #[schema(examples("https://github.com/octocat/Hello-World/blob/main/settings.txt"))]
    url: Option<String>,
    /// What it was found in.
    #[schema(examples("commit"))]
    source: Option<String>,
}

/// Whether a match is a key.
#[derive(Serialize, ToSchema)]
#[schema(as = github::Feedback)]
pub struct SecretFeedback {
    /// The SHA-256 of the text, in hexadecimal.
    #[schema(examples("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"))]
    token_hash: String,
    /// The `type` of the match.
    #[schema(examples("acme_api_key"))]
    token_type: String,
    /// `true_positive` if the text is or was a key of this deployment, else `false_positive`.
    #[schema(examples("true_positive"))]
    label: &'static str,
}

impl From<GithubFeedback> for SecretFeedback {
    fn from(feedback: GithubFeedback) -> Self {
        let GithubFeedback { token_hash, token_type, is_key } = feedback;
        let label = if is_key { "true_positive" } else { "false_positive" };
        Self { token_hash, token_type, label }
    }
}

/// Receive keys that GitHub's secret scanning found.
///
/// Each key is treated as the leak policy of its organization says, and its owners are mailed, once
/// for each key.
#[utoipa::path(post, path = "/webhooks/github/secret-scanning",
    operation_id = "receiveGithubSecrets", tag = "webhooks",
    security(("github_signature" = [])),
    params(("Github-Public-Key-Identifier" = String, Header,
            description = "The identifier of the public key that verifies the signature.")),
    request_body(content = Vec<SecretMatch>,
        description = "The matches exactly as GitHub signed them, at most 1 MiB."),
    responses(
        (status = 200, description = "Received: what each match is, in order.",
         body = Vec<SecretFeedback>),
        (status = 400, description = "The body is not valid JSON.",
         body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The signature is not valid.",
         body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No keys to verify signatures are configured.",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 1 MiB.",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A match is not valid; `issues` lists the fields.",
         body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Temporarily unavailable, or GitHub's public keys cannot be \
                                      fetched; retry after `Retry-After` seconds.",
         body = Problem, content_type = "application/problem+json")))]
pub(super) async fn receive(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Json<Vec<SecretFeedback>>> {
    // A body without a signature is not read.
    let signature = Signature::from_headers(request.headers()).ok_or_else(invalid_signature);
    let signature = signature.inspect_err(|_| count("rejected"))?;
    let body = read_body(&app, request, MAX_BODY_BYTES).await?;
    verify(&app, signature, &body, &context).await.inspect_err(|_| count("rejected"))?;
    let json = without_byte_order_mark(&body);
    let body: Value = serde_json::from_slice(json).map_err(|error| invalid_json(json, &error))?;
    let matches = parse_matches(body).inspect_err(|_| count("invalid"))?;
    let feedback = report_matches(&app, matches, &context.audit_context()).await?;
    count("received");
    Ok(Json(feedback.into_iter().map(SecretFeedback::from).collect()))
}

/// The signature of a body, and the identifier of its key.
struct Signature {
    key_id: String,
    bytes: Vec<u8>,
}

impl Signature {
    /// Reads the signature; `None` if a header is missing, repeated or malformed.
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let single = |name| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().filter(|_| values.next().is_none())?;
            value.to_str().ok().filter(|text| !text.is_empty())
        };
        let (key_id, signature) = (single(KEY_IDENTIFIER)?, single(SIGNATURE)?);
        Some(Self { key_id: key_id.to_owned(), bytes: STANDARD.decode(signature).ok()? })
    }
}

/// Checks that GitHub signed the body.
///
/// # Errors
/// Unauthenticated; unavailable if GitHub's keys had to be fetched and could not be.
async fn verify(
    app: &App,
    Signature { key_id, bytes }: Signature,
    body: &[u8],
    context: &RequestContext,
) -> Result<()> {
    let key = app.github_keys.find(&key_id, context.received_at).await?;
    key.filter(|key| key.verify(body, &bytes)).map(|_| ()).ok_or_else(invalid_signature)
}

fn invalid_signature() -> Error {
    let message = "Github-Public-Key-Signature must be GitHub's signature of the body with the key \
                   that Github-Public-Key-Identifier names; both are required once";
    Error::unauthenticated(AuthFailure::InvalidToken, message)
}

/// Counts a request, by its outcome.
fn count(outcome: &'static str) {
    counter!("github_secret_scanning_total", "outcome" => outcome).increment(1);
}

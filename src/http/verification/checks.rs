//! `POST /v1/verify` and `/v1/verify/batch`: a verdict in JSON. The status is 200 for every
//! verdict; with any other status, nothing was decided about the credential.

use axum::extract::State;
use axum::response::Response;

use crate::app::App;
use crate::domain::verification::{check, check_all};
use crate::error::Result;
use crate::http::body::JsonBody;
use crate::http::edge::context::RequestContext;
use crate::http::render::verification::{
    BadRequest, NotFound, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::verification::check_audit_context;
use crate::http::verification::verdict::{Verification, VerificationList};
use crate::http::verification::verifier::JsonVerifier;
use crate::http::verification::wire::{VerifyBatchRequest, VerifyRequest};

/// Check a credential of a customer: is it valid, whose is it, and may it do this?
///
/// The verdict is never older than the request: a key that was revoked before is rejected, on every
/// server. A rejected check takes no credits and counts against no quota or rate limit of the
/// organization. A check of an invalid credential counts against a rate limit of the client's
/// address, or of the verifier if `client.ip` is missing.
#[utoipa::path(post, path = "/v1/verify", operation_id = "verify", tag = "verification",
    request_body = VerifyRequest, security(("verifier" = []), ("verifier_bearer" = [])),
    responses((status = 200, description = "The verdict.", body = Verification), BadRequest,
              Unauthorized, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn verify(
    State(app): State<App>,
    JsonVerifier(verifier): JsonVerifier,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<VerifyRequest>,
) -> Result<Response> {
    let (key, request) = request.into_check();
    let audit = check_audit_context(&context);
    let verdict = check(&app, &verifier, &key, &request, &audit).await?;
    Verification::new(&verdict, &context.id).into_response()
}

/// Check 1 to 100 credentials. One invalid item rejects the request, and no item is checked.
#[utoipa::path(post, path = "/v1/verify/batch", operation_id = "verifyBatch",
    tag = "verification", request_body = VerifyBatchRequest,
    security(("verifier" = []), ("verifier_bearer" = [])),
    responses((status = 200, description = "The verdicts, in order.", body = VerificationList),
              BadRequest, Unauthorized, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn verify_batch(
    State(app): State<App>,
    JsonVerifier(verifier): JsonVerifier,
    context: RequestContext,
    JsonBody { value: batch, .. }: JsonBody<VerifyBatchRequest>,
) -> Result<Response> {
    let checks: Vec<_> = batch.items.into_iter().map(VerifyRequest::into_check).collect();
    let verdicts = check_all(&app, &verifier, &checks, &check_audit_context(&context)).await?;
    VerificationList::new(&verdicts, &context.id).into_response()
}

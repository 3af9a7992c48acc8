//! `POST /webhooks/stripe`: receives Stripe's events about payments.
//!
//! The endpoint belongs to no family. A body with a valid signature is trusted, and no other
//! credential is needed. Stripe sends an event again until the response is a 2xx, and shows the
//! response to the operator.

mod event;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use metrics::counter;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::billing::event::BillingEvent;
use crate::domain::billing::unfulfilled_checkouts;
use crate::domain::billing::{self, AppliedEvent, BillingEffect};
use crate::domain::idempotency::{FirstResponse, IdempotentOutcome, run_once};
use crate::error::{Error, ErrorKind, Result};
use crate::http::body::{invalid_json, read_body, without_byte_order_mark};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::replay;
use crate::http::render::kinds::status_invalid_as_422;
use crate::http::render::problem::Problem;
use crate::model::ValidationError;
use crate::model::idempotency::{IdempotencyKey, IdempotentRequest, OPERATOR_RESPONSE_LIFETIME};
use crate::model::ids::OrganizationId;
use crate::model::stripe_signature::StripeSignature;

const PATH: &str = "/webhooks/stripe";
const SIGNATURE: &str = "stripe-signature";
/// The size limit of a body, in bytes. It is higher than on other routes, because an invoice may
/// have many lines.
const MAX_BODY_BYTES: usize = 512 * 1024;

/// Returns the route if a secret to verify signatures is configured, else no route.
pub fn routes(app: &App) -> Router<App> {
    let routes = Router::new();
    if app.config.stripe.is_enabled() { routes.route(PATH, post(receive)) } else { routes }
}

/// A Stripe event, reduced to the fields that are used.
#[derive(ToSchema)]
#[schema(as = stripe::Event)]
#[expect(dead_code, reason = "only used to describe the body in the API document")]
pub struct StripeEvent {
    #[schema(examples("evt_1RkQ2eLkdIwHu7ix"))]
    id: String,
    /// `checkout.session.completed`, `checkout.session.async_payment_succeeded`, `invoice.paid`,
    /// `invoice.payment_failed` or `customer.subscription.deleted`; other types are ignored.
    #[schema(examples("checkout.session.completed"))]
    r#type: String,
    /// When the event happened, in seconds since 1970.
    #[schema(examples(1_794_045_600))]
    created: i64,
    /// The affected object, in the field `object`.
    #[schema(value_type = Object)]
    data: Value,
}

/// Confirms that an event was received.
#[derive(Serialize, ToSchema)]
#[schema(as = stripe::Received)]
pub struct StripeEventResponse {
    received: bool,
    /// The effect of the event: `provisioned`, `plan_set`, `reactivated`, `suspended`, or
    /// `recorded` if the organization's status did not change. Absent if the event is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("provisioned"))]
    effect: Option<&'static str>,
}

impl StripeEventResponse {
    const IGNORED: Self = Self { received: true, effect: None };

    const fn with_effect(effect: BillingEffect) -> Self {
        let effect = match effect {
            BillingEffect::Provisioned => "provisioned",
            BillingEffect::PlanSet => "plan_set",
            BillingEffect::Reactivated => "reactivated",
            BillingEffect::Suspended => "suspended",
            BillingEffect::Recorded => "recorded",
        };
        Self { received: true, effect: Some(effect) }
    }
}

/// Receive an event from Stripe.
///
/// A checkout creates an organization or moves one to a plan. The failed payment of an invoice or
/// the end of a subscription suspends it (as configured), and a payment reactivates it.
///
/// Each event is applied once, however often it is sent. Events of other types, checkouts without
/// `metadata.org_id` or in the mode `setup`, and invoices of other subscriptions are acknowledged
/// and ignored.
///
/// An existing organization is moved to another plan only if the customer is recorded as its payer,
/// or if the checkout contains `metadata.mode=existing`.
#[utoipa::path(post, path = "/webhooks/stripe", operation_id = "receiveStripeEvent",
    tag = "webhooks", security(("stripe_signature" = [])),
    request_body(content = StripeEvent,
        description = "The event exactly as Stripe signed it, at most 512 KiB.",
        example = json!({
            "id": "evt_1RkQ2eLkdIwHu7ix", "type": "checkout.session.completed",
            "created": 1_794_045_600,
            "data": { "object": {
                "id": "cs_live_a1b2c3", "payment_status": "paid", "customer": "cus_9s6XKzkNRiz8i3",
                "amount_total": 2900, "currency": "usd",
                "customer_details": { "email": "you@example.com", "name": "Acme Corp" },
                "metadata": { "org_id": "acme", "tier": "starter" },
            } },
        })),
    responses(
        (status = 200, description = "Received.", body = StripeEventResponse),
        (status = 400, description = "The signature is not valid, or the body is not valid JSON.",
         body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No secret to verify signatures is configured.",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The same event is being processed, its organization was \
                                      created concurrently, or a paid checkout cannot be \
                                      fulfilled: its organization exists and is not known to be \
                                      the buyer's, does not exist, or was deleted, or its \
                                      subscription has ended.",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 512 KiB.",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A required field is missing or not valid, or the plan is not \
                                      available for the organization; `issues` lists the fields. A \
                                      paid checkout for an organization is then recorded as \
                                      unfulfilled.",
         body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Temporarily unavailable; retry after `Retry-After` seconds.",
         body = Problem, content_type = "application/problem+json")))]
pub(super) async fn receive(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response> {
    let signature = signature_header(request.headers()).cloned();
    let body = read_body(&app, request, MAX_BODY_BYTES).await?;
    verify_signature(&app, signature.as_ref(), &body, &context)?;
    let json = without_byte_order_mark(&body);
    let body: Value = serde_json::from_slice(json).map_err(|error| invalid_json(json, &error))?;
    let parsed = event::parse(&body).inspect_err(|_| count_event("invalid"))?;
    let Some((key, event)) = parsed else {
        count_event("unused");
        return Ok(Json(StripeEventResponse::IGNORED).into_response());
    };
    apply_event(&app, &key, &event, &context).await
}

/// Returns the header, `None` if it is missing or repeated.
fn signature_header(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(SIGNATURE).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Checks that Stripe signed the body.
fn verify_signature(
    app: &App,
    signature: Option<&HeaderValue>,
    body: &[u8],
    context: &RequestContext,
) -> Result<()> {
    let invalid = |ValidationError(reason): ValidationError| {
        Error::malformed(format!("Stripe-Signature {reason}"))
    };
    let header = signature.and_then(|value| value.to_str().ok());
    let header =
        header.ok_or_else(|| invalid("header is required and must not be repeated".into()))?;
    let signature = StripeSignature::parse(header).map_err(invalid)?;
    signature.verify(body, &app.config.stripe.secrets, context.received_at).map_err(invalid)
}

/// Applies an event once and renders the response.
async fn apply_event(
    app: &App,
    key: &IdempotencyKey,
    event: &BillingEvent,
    context: &RequestContext,
) -> Result<Response> {
    let attempt = IdempotentRequest {
        organization: OrganizationId::SYSTEM,
        principal: "STRIPE".to_owned(),
        endpoint: format!("POST {PATH}"),
        lifetime: OPERATOR_RESPONSE_LIFETIME,
        key_digest: key.digest(),
        // The fingerprint is the id alone, because the rest of the body differs between deliveries.
        fingerprints: app.peppers.candidates(key.as_str()),
    };
    let mut unfulfilled = None;
    let outcome = run_once(app, None, Some(&attempt), context.received_at, async |tx| {
        let response = match billing::apply(app, tx, event, &context.audit_context()).await? {
            AppliedEvent::Done(effect) => StripeEventResponse::with_effect(effect),
            AppliedEvent::Unused => StripeEventResponse::IGNORED,
            AppliedEvent::Unfulfilled(reason, error) => {
                unfulfilled = Some((reason, error));
                return Err(Error::conflict(reason.message()));
            }
        };
        let stored = serde_json::to_value(&response).map_err(Error::internal)?;
        Ok(FirstResponse { response, status: 200, stored_body: Some(stored) })
    });
    let outcome = outcome.await;
    if let Some((reason, error)) = unfulfilled {
        count_event("unfulfilled");
        let audit = context.audit_context_for(status_invalid_as_422(error.kind()));
        unfulfilled_checkouts::record_unfulfilled(app, event, reason, &audit).await?;
        app.mail_waker.notify_one();
        return Err(error);
    }
    let response = match outcome {
        Ok(IdempotentOutcome::FirstRequest(response)) => {
            count_event(response.effect.unwrap_or("unused"));
            Json(response).into_response()
        }
        Ok(IdempotentOutcome::Replayed(stored)) => {
            count_event("replayed");
            replay(stored, context)
        }
        Err(error) if *error.kind() == ErrorKind::NotFound => {
            count_event("unused");
            tracing::info!(event = key.as_str(), "Stripe event ignored: no organization matches");
            Json(StripeEventResponse::IGNORED).into_response()
        }
        Err(error) => {
            count_event("failed");
            return Err(error);
        }
    };
    app.mail_waker.notify_one();
    Ok(response)
}

/// Counts an event with a valid signature, by its outcome.
fn count_event(outcome: &'static str) {
    counter!("stripe_events_total", "outcome" => outcome).increment(1);
}

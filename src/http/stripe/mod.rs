//! `POST /webhooks/stripe`: what Stripe tells of payments.
//!
//! It is outside the families. Whoever signed the body may be believed, whatever else the request
//! says; what Stripe shall try again is answered with anything but a 2xx, and it shows the answer.

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
use crate::domain::billing::unfulfilled_checkouts;
use crate::domain::billing::{self, AppliedEvent, BillingEffect, BillingEvent};
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
/// The largest body, in bytes: an invoice with many lines is larger than other routes take.
const MAX_BODY_BYTES: usize = 512 * 1024;

/// The route, where there is a secret to check signatures with; else there is nothing at the path.
pub fn routes(app: &App) -> Router<App> {
    let routes = Router::new();
    if app.config.stripe.is_enabled() { routes.route(PATH, post(receive)) } else { routes }
}

/// One of Stripe's events, in the parts that matter here.
#[derive(ToSchema)]
#[schema(as = stripe::Event)]
#[expect(dead_code, reason = "only described, in the API document")]
pub struct StripeEvent {
    #[schema(examples("evt_1RkQ2eLkdIwHu7ix"))]
    id: String,
    /// `checkout.session.completed`, `checkout.session.async_payment_succeeded`, `invoice.paid`,
    /// `invoice.payment_failed` or `customer.subscription.deleted`; others are not used.
    #[schema(examples("checkout.session.completed"))]
    r#type: String,
    /// When it happened, in seconds since 1970.
    #[schema(examples(1_794_045_600))]
    created: i64,
    /// What it happened to, under `object`.
    #[schema(value_type = Object)]
    data: Value,
}

/// That an event was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = stripe::Received)]
pub struct StripeEventResponse {
    received: bool,
    /// What became of it: `provisioned`, `plan_set`, `reactivated`, `suspended`, or `recorded`
    /// where how the organization stands did not change. Not there for what is not used.
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

/// Take an event of Stripe's: a checkout makes an organization or moves it to a plan, an invoice or
/// the end of a subscription suspends or reactivates it.
///
/// Each event counts once, however often it is sent. Events of other types, checkouts without
/// `metadata.org_id` or in the mode `setup`, and invoices of other subscriptions are received and
/// not used.
///
/// An organization that is there is moved to another plan only for the customer that is known to
/// pay for it, or where the checkout says `metadata.mode=existing`.
#[utoipa::path(post, path = "/webhooks/stripe", operation_id = "receiveStripeEvent",
    tag = "webhooks", security(("stripe_signature" = [])),
    request_body(content = StripeEvent, description = "At most 512 KiB, as Stripe signed it.",
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
        (status = 400, description = "Not signed as it should be, or not readable.",
         body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no secret to check signatures with.",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The same event is being taken just now, its organization was \
                                      made a moment ago, or a paid checkout can not be fulfilled: \
                                      its organization is there and not known to be the buyer's, \
                                      or is not there, or deleted, or its subscription has ended.",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 512 KiB.",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It lacks what is needed, or a plan was paid for that is not \
                                      for its organization; `issues` names it. A paid checkout \
                                      that names an organization can not be fulfilled then.",
         body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not just now; try again after `Retry-After` seconds.",
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
    let read = event::read(&body).inspect_err(|_| count_event("invalid"))?;
    let Some((key, event)) = read else {
        count_event("unused");
        return Ok(Json(StripeEventResponse::IGNORED).into_response());
    };
    apply_event(&app, &key, &event, &context).await
}

/// The header, where it is there once.
fn signature_header(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(SIGNATURE).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Passes a body that Stripe signed.
fn verify_signature(
    app: &App,
    signature: Option<&HeaderValue>,
    body: &[u8],
    context: &RequestContext,
) -> Result<()> {
    let refused =
        |ValidationError(why): ValidationError| Error::malformed(format!("Stripe-Signature {why}"));
    let header = signature.and_then(|value| value.to_str().ok());
    let header = header.ok_or_else(|| refused("must be there, once".into()))?;
    let signature = StripeSignature::parse(header).map_err(refused)?;
    signature.verify(body, &app.config.stripe.secrets, context.received_at).map_err(refused)
}

/// Takes an event into account, once.
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
        // What else the body says differs each time that Stripe sends it.
        fingerprints: app.peppers.candidates(key.as_str()),
    };
    let mut unfulfilled = None;
    let outcome = run_once(app, None, Some(&attempt), context.received_at, async |tx| {
        let answer = match billing::apply(app, tx, event, &context.audit_context()).await? {
            AppliedEvent::Done(effect) => StripeEventResponse::with_effect(effect),
            AppliedEvent::Unused => StripeEventResponse::IGNORED,
            AppliedEvent::Unfulfilled(reason, error) => {
                unfulfilled = Some((reason, error));
                return Err(Error::conflict(reason.message()));
            }
        };
        let kept = serde_json::to_value(&answer).map_err(Error::internal)?;
        Ok(FirstResponse { response: answer, status: 200, stored_body: Some(kept) })
    });
    let outcome = outcome.await;
    if let Some((reason, error)) = unfulfilled {
        count_event("unfulfilled");
        let audit = context.audit_context_for(status_invalid_as_422(error.kind()));
        unfulfilled_checkouts::record_unfulfilled(app, event, reason, &audit).await?;
        app.mail_waker.notify_one();
        return Err(error);
    }
    let answer = match outcome {
        Ok(IdempotentOutcome::FirstRequest(answer)) => {
            count_event(answer.effect.unwrap_or("unused"));
            Json(answer).into_response()
        }
        Ok(IdempotentOutcome::Replayed(kept)) => {
            count_event("replayed");
            replay(kept, context)
        }
        Err(error) if *error.kind() == ErrorKind::NotFound => {
            count_event("unused");
            tracing::info!(event = key.as_str(), "Stripe tells of what is paid for elsewhere");
            Json(StripeEventResponse::IGNORED).into_response()
        }
        Err(error) => {
            count_event("failed");
            return Err(error);
        }
    };
    app.mail_waker.notify_one();
    Ok(answer)
}

/// Counts an event that Stripe signed, by what came of it.
fn count_event(outcome: &'static str) {
    counter!("stripe_events_total", "outcome" => outcome).increment(1);
}

//! `POST /webhooks/stripe`: what Stripe tells of payments.
//!
//! It is outside the families. Whoever signed the body may be believed, whatever else the request
//! says; what Stripe shall try again is answered with anything but a 2xx, and it shows the answer.

mod event;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use metrics::counter;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::billing::{self, Applied, BillingEvent, Effect};
use crate::domain::idempotency::{Fresh, Outcome, once};
use crate::domain::unfulfilled_checkouts;
use crate::error::{Error, Kind, Result};
use crate::http::body::{broken, whole, without_byte_order_mark};
use crate::http::context::RequestContext;
use crate::http::details::status;
use crate::http::idempotency::replay;
use crate::http::problem::Problem;
use crate::model::Invalid;
use crate::model::idempotency::{Attempt, IdempotencyKey, OPERATOR_LIFETIME};
use crate::model::ids::OrganizationId;
use crate::model::stripe_signature::StripeSignature;

const PATH: &str = "/webhooks/stripe";
const SIGNATURE: &str = "stripe-signature";
/// The largest body, in bytes: an invoice with many lines is larger than other routes take.
const LIMIT: usize = 512 * 1024;

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
pub struct Received {
    received: bool,
    /// What became of it: `provisioned`, `plan_set`, `reactivated`, `suspended`, or `recorded`
    /// where how the organization stands did not change. Not there for what is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("provisioned"))]
    effect: Option<&'static str>,
}

impl Received {
    const UNUSED: Self = Self { received: true, effect: None };

    const fn with(effect: Effect) -> Self {
        let effect = match effect {
            Effect::Provisioned => "provisioned",
            Effect::PlanSet => "plan_set",
            Effect::Reactivated => "reactivated",
            Effect::Suspended => "suspended",
            Effect::Recorded => "recorded",
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
        (status = 200, description = "Received.", body = Received),
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
    let signature = signature_of(request.headers()).cloned();
    let body = whole(&app, request, LIMIT).await?;
    verify(&app, signature.as_ref(), &body, &context)?;
    let json = without_byte_order_mark(&body);
    let body: Value = serde_json::from_slice(json).map_err(|error| broken(json, &error))?;
    let read = event::read(&body).inspect_err(|_| count_event("invalid"))?;
    let Some((key, event)) = read else {
        count_event("unused");
        return Ok(Json(Received::UNUSED).into_response());
    };
    take(&app, &key, &event, &context).await
}

/// The header, where it is there once.
fn signature_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(SIGNATURE).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Passes a body that Stripe signed.
fn verify(
    app: &App,
    signature: Option<&HeaderValue>,
    body: &[u8],
    context: &RequestContext,
) -> Result<()> {
    let refused = |Invalid(why): Invalid| Error::malformed(format!("Stripe-Signature {why}"));
    let header = signature.and_then(|value| value.to_str().ok());
    let header = header.ok_or_else(|| refused("must be there, once".into()))?;
    let signature = StripeSignature::parse(header).map_err(refused)?;
    signature.verify(body, &app.config.stripe.secrets, context.at).map_err(refused)
}

/// Takes an event into account, once.
async fn take(
    app: &App,
    key: &IdempotencyKey,
    event: &BillingEvent,
    context: &RequestContext,
) -> Result<Response> {
    let attempt = Attempt {
        organization: OrganizationId::SYSTEM,
        principal: "STRIPE".to_owned(),
        endpoint: format!("POST {PATH}"),
        lifetime: OPERATOR_LIFETIME,
        key_digest: key.digest(),
        // What else the body says differs each time that Stripe sends it.
        fingerprints: app.peppers.candidates(key.as_str()),
    };
    let mut unfulfilled = None;
    let outcome = once(app, None, Some(&attempt), context.at, async |tx| {
        let answer = match billing::apply(app, tx, event, &context.trail()).await? {
            Applied::Done(effect) => Received::with(effect),
            Applied::Unused => Received::UNUSED,
            Applied::Unfulfilled(reason, error) => {
                unfulfilled = Some((reason, error));
                return Err(Error::conflict(reason.message()));
            }
        };
        let kept = serde_json::to_value(&answer).map_err(Error::internal)?;
        Ok(Fresh { answer, status: 200, kept: Some(kept) })
    });
    let outcome = outcome.await;
    if let Some((reason, error)) = unfulfilled {
        count_event("unfulfilled");
        let trail = context.trail_of(status(error.kind(), StatusCode::UNPROCESSABLE_ENTITY));
        unfulfilled_checkouts::record(app, event, reason, &trail).await?;
        app.mail_waker.notify_one();
        return Err(error);
    }
    let answer = match outcome {
        Ok(Outcome::Fresh(answer)) => {
            count_event(answer.effect.unwrap_or("unused"));
            Json(answer).into_response()
        }
        Ok(Outcome::Replayed(kept)) => {
            count_event("replayed");
            replay(kept, context)
        }
        Err(error) if *error.kind() == Kind::NotFound => {
            count_event("unused");
            tracing::info!(event = key.as_str(), "Stripe tells of what is paid for elsewhere");
            Json(Received::UNUSED).into_response()
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

//! Applies Stripe's billing events: an organization is created for a buyer, suspended when a
//! payment fails or its subscription ends (as configured), and reactivated by a payment.
//!
//! Stripe delivers events in any order and more than once. [`super::idempotency`] ensures that each
//! is applied once. A checkout older than the last applied checkout does not change the plan, and
//! an event older than the last applied event does not change a suspension; their payments are
//! stored. Only the end of a subscription is final: later events of the subscription do not
//! reactivate the organization, and the end applies even if a later event was delivered before it.
//!
//! Invariant: an organization's id in metadata is not sufficient to change the organization, or a
//! client that signed up with the id first would receive what another customer paid for. The payer
//! must be recorded for the organization, or the metadata must contain `mode=existing`. Only the
//! subscription that pays for the organization suspends it; that subscription or a new checkout
//! reactivates it.

pub mod event;
pub mod unfulfilled_checkouts;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::billing::event::{BillingEvent, BillingEventKind, NamedOrganization};
use crate::domain::keys::claims;
use crate::domain::organizations::provisioning::{self, OrganizationSpec};
use crate::domain::organizations::status;
use crate::error::{Error, ErrorKind, Issue, Result};
use crate::model::audit::AuditContext;
use crate::model::email::Email;
use crate::model::external_actor::ExternalActor;
use crate::model::ids::{OrganizationId, PaymentId};
use crate::model::organization::OrganizationStatus;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::payment::{NewPayment, PaymentStatus, UnfulfilledReason};
use crate::repo;
use crate::repo::billing_customers::{BillingCustomer, BillingPayer};
use crate::repo::{
    billing_customers, ended_subscriptions, organization_statuses, organizations, payments,
};

/// The result of applying an event.
pub enum AppliedEvent {
    /// It was applied.
    Done(BillingEffect),
    /// It is the end of a subscription of no known organization. Only the end is stored.
    Unused,
    /// It is a paid checkout that cannot be fulfilled; the error is returned to Stripe, and the
    /// transaction must be rolled back.
    Unfulfilled(UnfulfilledReason, Error),
}

/// The effect of an applied event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BillingEffect {
    /// An organization was created.
    Provisioned,
    /// The organization was moved to the plan that was bought.
    PlanSet,
    /// The organization was reactivated.
    Reactivated,
    /// The organization was suspended.
    Suspended,
    /// The event was recorded; the organization's status did not change.
    Recorded,
}

/// Applies an event.
///
/// # Errors
/// Not found if no organization matches; conflict if the handle was taken concurrently.
pub async fn apply(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    audit: &AuditContext,
) -> Result<AppliedEvent> {
    match &event.kind {
        BillingEventKind::Bought { spec, email, is_existing, .. } => {
            fulfill(app, tx, event, (spec, email.as_ref(), *is_existing), audit).await
        }
        BillingEventKind::BoughtIncomplete { issues, .. } => Ok(incomplete(issues.clone())),
        BillingEventKind::Paid(named_organization)
        | BillingEventKind::PaymentFailed(named_organization)
        | BillingEventKind::SubscriptionEnded(named_organization) => {
            match update_suspension(app, tx, event, named_organization.as_ref(), audit).await {
                Err(error)
                    if *error.kind() == ErrorKind::NotFound
                        && store_early_end(tx, event).await? =>
                {
                    Ok(AppliedEvent::Unused)
                }
                result => Ok(AppliedEvent::Done(result?)),
            }
        }
    }
}

/// Fulfills a purchase: a new organization, or a plan for an existing one.
async fn fulfill(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    (spec, email, is_existing): (&OrganizationSpec, Option<&Email>, bool),
    audit: &AuditContext,
) -> Result<AppliedEvent> {
    let subscription = event.subscription.as_deref();
    let effect = if let Some(status) = organization_statuses::lock(tx, &spec.handle).await? {
        let record = billing_customers::find(tx, status.id).await?;
        if !is_existing
            && !record
                .as_ref()
                .is_some_and(|record| record.is_payer_of(&event.customer, &event.subscription))
        {
            return Ok(conflicting(UnfulfilledReason::BelongsToAnother));
        }
        // A checkout that is older than the last one changes nothing, whether its subscription has
        // ended or not.
        let last = record.as_ref().and_then(|record| record.last_checkout_at);
        let is_older = last.is_some_and(|last| event.at < last);
        if !is_older && ended_subscriptions::find(tx, status.id, subscription).await?.is_some() {
            return Ok(conflicting(UnfulfilledReason::SubscriptionEnded));
        }
        match set_plan(app, tx, event, (&status, record), spec, audit).await {
            Err(error) if *error.kind() == ErrorKind::Invalid => {
                return Ok(AppliedEvent::Unfulfilled(UnfulfilledReason::PlanNotForHome, error));
            }
            result => result?,
        }
    } else if organizations::is_deleted(tx, &spec.handle).await? {
        return Ok(conflicting(UnfulfilledReason::Deleted));
    } else if is_existing {
        return Ok(conflicting(UnfulfilledReason::DoesNotExist));
    } else if ended_subscriptions::find(tx, OrganizationId::SYSTEM, subscription).await?.is_some() {
        return Ok(conflicting(UnfulfilledReason::SubscriptionEnded));
    } else {
        let Some(email) = email else { return Ok(incomplete(vec![email_required()])) };
        provision(app, tx, event, (spec, email), audit).await?
    };
    // If nothing changed, other unfulfilled checkouts of this customer stay unresolved.
    let customer = event.customer.as_deref().filter(|_| effect != BillingEffect::Recorded);
    repo::unfulfilled_checkouts::resolve(tx, &event.id, &spec.handle, customer, audit.at).await?;
    Ok(AppliedEvent::Done(effect))
}

fn conflicting(reason: UnfulfilledReason) -> AppliedEvent {
    AppliedEvent::Unfulfilled(reason, Error::conflict(reason.message()))
}

fn incomplete(issues: Vec<Issue>) -> AppliedEvent {
    AppliedEvent::Unfulfilled(UnfulfilledReason::Incomplete, Error::invalid(issues))
}

fn email_required() -> Issue {
    let path = ["data", "object", "customer_details", "email"].map(str::to_owned).to_vec();
    let needed = "must be an e-mail address: the link to the first key is sent to it";
    Issue { path, ..Issue::body(needed) }
}

/// Creates the organization that was bought, without a key: the buyer is mailed a link to it.
async fn provision(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    (spec, email): (&OrganizationSpec, &Email),
    audit: &AuditContext,
) -> Result<BillingEffect> {
    let provisioned =
        provisioning::create_organization(app, tx, spec, ExternalActor::Stripe, audit).await?;
    let payer = payer_of(event);
    billing_customers::upsert_buyer(tx, provisioned.organization, &payer, audit.at).await?;
    record_payment(app, tx, event, provisioned.organization, audit).await?;
    claims::create(app, tx, provisioned.organization, email, audit).await?;
    Ok(BillingEffect::Provisioned)
}

/// Sets the plan of the organization, which is locked, to the one that was bought, unless a later
/// checkout has been applied.
///
/// # Errors
/// Invalid if the plan is not available for this organization.
async fn set_plan(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    (status, record): (&OrganizationStatus, Option<BillingCustomer>),
    spec: &OrganizationSpec,
    audit: &AuditContext,
) -> Result<BillingEffect> {
    record_payment(app, tx, event, status.id, audit).await?;
    let last = record.as_ref().and_then(|record| record.last_checkout_at);
    if last.is_some_and(|last| event.at < last) {
        return Ok(BillingEffect::Recorded);
    }
    status::change_plan(tx, &spec.handle, spec.plan, ExternalActor::Stripe, audit).await?;
    let is_newest = record.is_none_or(|record| event.at >= record.last_event_at);
    if is_newest && status.is_suspended_for_billing() {
        status::reactivate_locked(tx, status, ExternalActor::Stripe, audit).await?;
    }
    billing_customers::upsert_buyer(tx, status.id, &payer_of(event), audit.at).await?;
    Ok(BillingEffect::PlanSet)
}

/// Suspends or reactivates the organization that a payment or the end of a subscription concerns.
async fn update_suspension(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    named_organization: Option<&NamedOrganization>,
    audit: &AuditContext,
) -> Result<BillingEffect> {
    let (status, record) = find_paid_for(tx, event, named_organization).await?;
    record_payment(app, tx, event, status.id, audit).await?;
    let policy = app.config.stripe.suspend_on;
    let suspends = match event.kind {
        BillingEventKind::PaymentFailed(_) => policy.payment_failed,
        BillingEventKind::SubscriptionEnded(_) => policy.subscription_deleted,
        _ => false,
    };
    let pays = matches!(event.kind, BillingEventKind::Paid(_));
    let may_be_new = pays && named_organization.is_some_and(|named| named.is_first_invoice);
    let ended_at = ended_subscriptions::find(tx, status.id, event.subscription.as_deref()).await?;
    if let (Some(subscription), BillingEventKind::SubscriptionEnded(_)) =
        (&event.subscription, &event.kind)
    {
        ended_subscriptions::record(tx, status.id, subscription, event.at).await?;
    }
    if !determines_status(event, record.as_ref(), may_be_new, ended_at) || !(pays || suspends) {
        return Ok(BillingEffect::Recorded);
    }
    let payer = payer_of(event);
    billing_customers::upsert_payer(tx, status.id, &payer, audit.at).await?;
    if suspends && status.suspended_at.is_none() {
        status::suspend_locked(tx, &status, ExternalActor::Stripe, audit).await?;
        return Ok(BillingEffect::Suspended);
    }
    if pays && status.is_suspended_for_billing() {
        status::reactivate_locked(tx, &status, ExternalActor::Stripe, audit).await?;
        return Ok(BillingEffect::Reactivated);
    }
    Ok(BillingEffect::Recorded)
}

/// Returns whether an event determines the organization's status: it is not older than the last one
/// that did, and concerns the subscription that pays for the organization. Another subscription
/// becomes the paying one with its first invoice that names the organization. Its later invoices
/// do not have this effect, or those of a canceled subscription would have it, too.
///
/// An event without a subscription determines nothing. Of an ended one, only a payment or a
/// failed payment from before its end counts, and only until another subscription replaces it.
fn determines_status(
    event: &BillingEvent,
    record: Option<&BillingCustomer>,
    may_be_new: bool,
    ended_at: Option<DateTime<Utc>>,
) -> bool {
    let Some(subscription) = &event.subscription else { return false };
    let Some(record) = record else { return ended_at.is_none() };
    let is_same = match &record.subscription {
        Some(current) => current == subscription,
        None => !record.pays_once && ended_at.is_none(),
    };
    match event.kind {
        BillingEventKind::SubscriptionEnded(_) if record.subscription.is_some() => is_same,
        BillingEventKind::Paid(_) | BillingEventKind::PaymentFailed(_)
            if ended_at.is_some_and(|ended_at| ended_at <= event.at) =>
        {
            false
        }
        _ => {
            let may_be_new = may_be_new && ended_at.is_none();
            event.at >= record.last_event_at && (is_same || may_be_new)
        }
    }
}

/// Returns the organization that the event concerns, locked, and its recorded payer. It is the one
/// that the metadata names, provided that the event's payer is the recorded one or, if none is
/// recorded, that the metadata contains `mode=existing`. Without a name in the metadata it is the
/// one that the subscription pays for.
async fn find_paid_for(
    tx: &mut PgConnection,
    event: &BillingEvent,
    named_organization: Option<&NamedOrganization>,
) -> Result<(OrganizationStatus, Option<BillingCustomer>)> {
    let not_found = || Error::not_found("No organization matches this subscription and customer");
    let handle = match (named_organization, event.subscription.as_deref()) {
        (Some(named_organization), _) => named_organization.handle.clone(),
        (None, Some(subscription)) => {
            let handle = billing_customers::find_handle_by_subscription(tx, subscription).await?;
            handle
                .and_then(|handle| OrganizationHandle::parse(&handle).ok())
                .ok_or_else(not_found)?
        }
        (None, None) => return Err(not_found()),
    };
    let status = status::lock_organization(tx, &handle).await?;
    let record = billing_customers::find(tx, status.id).await?;
    let is_payer = match &record {
        Some(record) if record.customer.is_some() => {
            record.is_payer_of(&event.customer, &event.subscription)
        }
        _ => named_organization.is_none_or(|named| named.is_existing),
    };
    if is_payer { Ok((status, record)) } else { Err(not_found()) }
}

/// Stores the end of a subscription that belongs to no organization yet, because its checkout may
/// be delivered later. Returns whether the event is such an end.
async fn store_early_end(tx: &mut PgConnection, event: &BillingEvent) -> Result<bool> {
    let (Some(subscription), BillingEventKind::SubscriptionEnded(_)) =
        (&event.subscription, &event.kind)
    else {
        return Ok(false);
    };
    ended_subscriptions::record(tx, OrganizationId::SYSTEM, subscription, event.at).await?;
    Ok(true)
}

fn payer_of(event: &BillingEvent) -> BillingPayer<'_> {
    BillingPayer {
        customer: event.customer.as_deref(),
        subscription: event.subscription.as_deref(),
        pays_once: matches!(event.kind, BillingEventKind::Bought { pays_once: true, .. }),
        event_at: event.at,
    }
}

/// Stores the event's payment, if it has one.
async fn record_payment(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    organization: OrganizationId,
    audit: &AuditContext,
) -> Result<()> {
    let status = match event.kind {
        BillingEventKind::Bought { .. } | BillingEventKind::Paid(_) => PaymentStatus::Paid,
        BillingEventKind::PaymentFailed(_) => PaymentStatus::Failed,
        BillingEventKind::BoughtIncomplete { .. } | BillingEventKind::SubscriptionEnded(_) => {
            return Ok(());
        }
    };
    let Some(charge) = &event.charge else { return Ok(()) };
    let payment = NewPayment {
        id: PaymentId::new(audit.at, &*app.entropy),
        organization,
        event: &event.id,
        charge,
        status,
        created_at: event.at,
    };
    payments::insert(tx, &payment).await
}

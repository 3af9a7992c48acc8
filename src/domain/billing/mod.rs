//! What Stripe tells of payments, taken into account: an organization is made for whoever buys one,
//! suspended where it is not paid for, and reactivated where it is again.
//!
//! Events come in any order and more than once. That each counts once is
//! [`super::idempotency`]'s; what is older than what was last taken into account changes nothing,
//! plans and suspensions each for themselves. Only the end of a subscription is final: nothing of
//! it begins it again, whenever that happened, and nothing that was told before hides it.
//!
//! Invariant: an id in metadata alone moves no organization, or whoever signed up with it first
//! would get what somebody else paid for. The payer is known there, or the metadata say
//! `mode=existing`; and only the subscription that the organization pays by suspends or
//! reactivates it.

pub mod unfulfilled_checkouts;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::claims;
use crate::domain::organizations::provisioning::{self, OrganizationSpec};
use crate::domain::organizations::status;
use crate::error::{Error, ErrorKind, Issue, Result};
use crate::model::audit::AuditContext;
use crate::model::email::Email;
use crate::model::ids::{OrganizationId, PaymentId};
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{OrganizationStatus, STRIPE_ACTOR};
use crate::model::payment::{Charge, NewPayment, PaymentStatus, UnfulfilledReason};
use crate::repo;
use crate::repo::billing_customers::{BillingCustomer, BillingPayer};
use crate::repo::{
    billing_customers, ended_subscriptions, organization_statuses, organizations, payments,
};

/// Something that happened to a payment.
pub struct BillingEvent {
    /// Its id: one event has one, however often it is told.
    pub id: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Who pays; `None` for a guest.
    pub customer: Option<String>,
    /// By which subscription, where it is one.
    pub subscription: Option<String>,
    /// The money, where any was asked for.
    pub charge: Option<Charge>,
    /// What happened.
    pub kind: BillingEventKind,
}

/// What happened.
pub enum BillingEventKind {
    /// Somebody bought an organization, or another plan for theirs.
    Bought {
        /// What it is to be.
        order: Box<OrganizationSpec>,
        /// Where the buyer reads mail.
        email: Option<Email>,
        /// Whether it is no subscription, and nothing more is due.
        pays_once: bool,
        /// Whether the organization is there already, and the buyer's.
        is_existing: bool,
    },
    /// Somebody bought one, and what is said of it is not enough.
    BoughtIncomplete {
        /// The id that is fingerprint, as far as it can be kept.
        handle: String,
        /// Where the buyer reads mail.
        email: Option<Email>,
        /// What is missing or wrong.
        issues: Vec<Issue>,
    },
    /// What was due was paid, for this organization where it is named.
    Paid(Option<NamedOrganization>),
    /// It was not.
    PaymentFailed(Option<NamedOrganization>),
    /// The subscription ended.
    SubscriptionEnded(Option<NamedOrganization>),
}

/// An organization that metadata name.
pub struct NamedOrganization {
    /// Its id.
    pub handle: OrgHandle,
    /// Whether it is said to be there already, and the payer's.
    pub is_existing: bool,
    /// Whether this is the first invoice of its subscription.
    pub is_first_invoice: bool,
}

/// What applying an event came to.
pub enum AppliedEvent {
    /// It was taken into account.
    Done(BillingEffect),
    /// It is about what no organization is known to pay for.
    Unused,
    /// It is a paid checkout that can not be fulfilled, and this is what its delivery is answered
    /// with. What was changed is not to be committed.
    Unfulfilled(UnfulfilledReason, Error),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BillingEffect {
    /// An organization was made.
    Provisioned,
    /// An organization is on the plan that was bought.
    PlanSet,
    /// An organization was reactivated.
    Reactivated,
    /// An organization was suspended.
    Suspended,
    /// How the organization stands did not change.
    Recorded,
}

/// Takes an event into account.
///
/// # Errors
/// Not found where no organization of ours is meant; conflict where its id was taken a moment ago.
pub async fn apply(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    audit: &AuditContext,
) -> Result<AppliedEvent> {
    match &event.kind {
        BillingEventKind::Bought { order, email, is_existing, .. } => {
            fulfil(app, tx, event, (order, email.as_ref(), *is_existing), audit).await
        }
        BillingEventKind::BoughtIncomplete { issues, .. } => Ok(incomplete(issues.clone())),
        BillingEventKind::Paid(named)
        | BillingEventKind::PaymentFailed(named)
        | BillingEventKind::SubscriptionEnded(named) => {
            match update_suspension(app, tx, event, named.as_ref(), audit).await {
                Err(error)
                    if *error.kind() == ErrorKind::NotFound && keep_end(tx, event).await? =>
                {
                    Ok(AppliedEvent::Unused)
                }
                judged => Ok(AppliedEvent::Done(judged?)),
            }
        }
    }
}

/// Gives the buyer what was bought: a new organization, or the plan for theirs.
async fn fulfil(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    (order, email, is_existing): (&OrganizationSpec, Option<&Email>, bool),
    audit: &AuditContext,
) -> Result<AppliedEvent> {
    let subscription = event.subscription.as_deref();
    let effect = if let Some(standing) = organization_statuses::lock(tx, &order.handle).await? {
        let known = billing_customers::find(tx, standing.id).await?;
        if !is_existing
            && !known
                .as_ref()
                .is_some_and(|known| known.is_payer_of(&event.customer, &event.subscription))
        {
            return Ok(conflicting(UnfulfilledReason::BelongsToAnother));
        }
        // One that is older than the last changes nothing, whatever became of it.
        let last = known.as_ref().and_then(|known| known.last_checkout_at);
        let is_older = last.is_some_and(|last| event.at < last);
        if !is_older && ended_subscriptions::find(tx, standing.id, subscription).await?.is_some() {
            return Ok(conflicting(UnfulfilledReason::SubscriptionEnded));
        }
        match set_plan(app, tx, event, (&standing, known), order, audit).await {
            Err(error) if *error.kind() == ErrorKind::Invalid => {
                return Ok(AppliedEvent::Unfulfilled(UnfulfilledReason::PlanNotForHome, error));
            }
            done => done?,
        }
    } else if organizations::is_deleted(tx, &order.handle).await? {
        return Ok(conflicting(UnfulfilledReason::Deleted));
    } else if is_existing {
        return Ok(conflicting(UnfulfilledReason::DoesNotExist));
    } else if ended_subscriptions::find(tx, OrganizationId::SYSTEM, subscription).await?.is_some() {
        return Ok(conflicting(UnfulfilledReason::SubscriptionEnded));
    } else {
        let Some(email) = email else { return Ok(incomplete(vec![email_required()])) };
        provision(app, tx, event, (order, email), audit).await?
    };
    // What changed nothing did not serve the buyer of another.
    let customer = event.customer.as_deref().filter(|_| effect != BillingEffect::Recorded);
    repo::unfulfilled_checkouts::settle(tx, &event.id, &order.handle, customer, audit.at).await?;
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
    let needed = "must be an address: the link to the first key is mailed there";
    Issue { path, ..Issue::body(needed) }
}

/// Makes the organization that was bought, without a key: the buyer is mailed a link to it.
async fn provision(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    (order, email): (&OrganizationSpec, &Email),
    audit: &AuditContext,
) -> Result<BillingEffect> {
    let opened = provisioning::create_organization(app, tx, order, STRIPE_ACTOR, audit).await?;
    let payer = payer_of(event);
    billing_customers::upsert_buyer(tx, opened.organization, &payer, audit.at).await?;
    record_payment(app, tx, event, opened.organization, audit).await?;
    claims::create(app, tx, opened.organization, email, audit).await?;
    Ok(BillingEffect::Provisioned)
}

/// Moves the organization, which is held, to the plan that was bought for it; one for which a later
/// one was bought stays as it is.
///
/// # Errors
/// Invalid where the plan is not for this organization.
async fn set_plan(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    (standing, known): (&OrganizationStatus, Option<BillingCustomer>),
    order: &OrganizationSpec,
    audit: &AuditContext,
) -> Result<BillingEffect> {
    record_payment(app, tx, event, standing.id, audit).await?;
    let last = known.as_ref().and_then(|known| known.last_checkout_at);
    if last.is_some_and(|last| event.at < last) {
        return Ok(BillingEffect::Recorded);
    }
    status::change_plan(tx, &order.handle, order.plan, STRIPE_ACTOR, audit).await?;
    let is_newest = known.is_none_or(|known| event.at >= known.last_event_at);
    if is_newest && standing.is_suspended_for_billing() {
        status::reactivate_locked(tx, standing, STRIPE_ACTOR, audit).await?;
    }
    billing_customers::upsert_buyer(tx, standing.id, &payer_of(event), audit.at).await?;
    Ok(BillingEffect::PlanSet)
}

/// Suspends or reactivates the organization that a payment, or the lack of one, is about.
async fn update_suspension(
    app: &App,
    tx: &mut PgConnection,
    event: &BillingEvent,
    named: Option<&NamedOrganization>,
    audit: &AuditContext,
) -> Result<BillingEffect> {
    let (standing, known) = find_paid_for(tx, event, named).await?;
    record_payment(app, tx, event, standing.id, audit).await?;
    let policy = app.config.stripe.suspend_on;
    let suspends = match event.kind {
        BillingEventKind::PaymentFailed(_) => policy.payment_failed,
        BillingEventKind::SubscriptionEnded(_) => policy.subscription_deleted,
        _ => false,
    };
    let pays = matches!(event.kind, BillingEventKind::Paid(_));
    let may_be_new = pays && named.is_some_and(|named| named.is_first_invoice);
    let ended_at =
        ended_subscriptions::find(tx, standing.id, event.subscription.as_deref()).await?;
    if let (Some(subscription), BillingEventKind::SubscriptionEnded(_)) =
        (&event.subscription, &event.kind)
    {
        ended_subscriptions::put(tx, standing.id, subscription, event.at).await?;
    }
    if !determines_status(event, known.as_ref(), may_be_new, ended_at) || !(pays || suspends) {
        return Ok(BillingEffect::Recorded);
    }
    let payer = payer_of(event);
    billing_customers::upsert_payer(tx, standing.id, &payer, audit.at).await?;
    if suspends && standing.suspended_at.is_none() {
        status::suspend_locked(tx, &standing, STRIPE_ACTOR, audit).await?;
        return Ok(BillingEffect::Suspended);
    }
    if pays && standing.is_suspended_for_billing() {
        status::reactivate_locked(tx, &standing, STRIPE_ACTOR, audit).await?;
        return Ok(BillingEffect::Reactivated);
    }
    Ok(BillingEffect::Recorded)
}

/// Whether an event says how the organization stands: it is no older than the last that did, and
/// about the subscription that pays for it. The first payment of another subscription, which names
/// the organization, puts that in its place; later ones do not, or the last invoices of a
/// subscription that was given up would. What no subscription is due for says nothing.
///
/// Of one that has ended, only what was paid or not paid before does, and only while it is the last
/// that paid.
fn determines_status(
    event: &BillingEvent,
    known: Option<&BillingCustomer>,
    may_be_new: bool,
    ended_at: Option<DateTime<Utc>>,
) -> bool {
    let Some(subscription) = &event.subscription else { return false };
    let Some(known) = known else { return ended_at.is_none() };
    let is_same = match &known.subscription {
        Some(known) => known == subscription,
        None => !known.pays_once && ended_at.is_none(),
    };
    match event.kind {
        BillingEventKind::SubscriptionEnded(_) if known.subscription.is_some() => is_same,
        BillingEventKind::Paid(_) | BillingEventKind::PaymentFailed(_)
            if ended_at.is_some_and(|ended_at| ended_at <= event.at) =>
        {
            false
        }
        _ => {
            let may_be_new = may_be_new && ended_at.is_none();
            event.at >= known.last_event_at && (is_same || may_be_new)
        }
    }
}

/// The organization that the event is about, held, and who is known to pay for it: the one that its
/// metadata name, as long as the payer is known there or, where nobody is, the metadata say
/// `mode=existing`; else the one that pays by its subscription.
async fn find_paid_for(
    tx: &mut PgConnection,
    event: &BillingEvent,
    named: Option<&NamedOrganization>,
) -> Result<(OrganizationStatus, Option<BillingCustomer>)> {
    let none = || Error::not_found("No organization is paid for by this subscription");
    let handle = match (named, event.subscription.as_deref()) {
        (Some(named), _) => named.handle.clone(),
        (None, Some(subscription)) => {
            let found = billing_customers::find_handle_by_subscription(tx, subscription).await?;
            found.and_then(|handle| OrgHandle::parse(&handle).ok()).ok_or_else(none)?
        }
        (None, None) => return Err(none()),
    };
    let standing = status::lock_organization(tx, &handle).await?;
    let known = billing_customers::find(tx, standing.id).await?;
    let is_payer = match &known {
        Some(known) if known.customer.is_some() => {
            known.is_payer_of(&event.customer, &event.subscription)
        }
        _ => named.is_none_or(|named| named.is_existing),
    };
    if is_payer { Ok((standing, known)) } else { Err(none()) }
}

/// Keeps the end of a subscription that no organization is known to pay by, for its checkout may be
/// told later. Whether the event is one.
async fn keep_end(tx: &mut PgConnection, event: &BillingEvent) -> Result<bool> {
    let (Some(subscription), BillingEventKind::SubscriptionEnded(_)) =
        (&event.subscription, &event.kind)
    else {
        return Ok(false);
    };
    ended_subscriptions::put(tx, OrganizationId::SYSTEM, subscription, event.at).await?;
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

/// Stores the payment that the event tells of, if it does.
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

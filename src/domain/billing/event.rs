//! Billing events, parsed from Stripe's format.

use chrono::{DateTime, Utc};

use crate::domain::organizations::provisioning::OrganizationSpec;
use crate::error::Issue;
use crate::model::email::Email;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::payment::Charge;

/// An event about a payment or a subscription.
pub struct BillingEvent {
    /// Its id, which is the same in every delivery.
    pub id: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The customer who pays; `None` for a guest.
    pub customer: Option<String>,
    /// The subscription, if the payment belongs to one.
    pub subscription: Option<String>,
    /// The amount, if one was charged.
    pub charge: Option<Charge>,
    /// What happened.
    pub kind: BillingEventKind,
}

/// What happened.
pub enum BillingEventKind {
    /// A customer bought a new organization, or a plan for an existing one.
    Bought {
        /// The organization and plan that were bought.
        spec: Box<OrganizationSpec>,
        /// The buyer's e-mail address.
        email: Option<Email>,
        /// Whether this is a single payment without a subscription.
        pays_once: bool,
        /// Whether the metadata states that the organization exists and is the buyer's.
        is_existing: bool,
    },
    /// A customer bought an organization, and the event lacks data that is needed to create it.
    BoughtIncomplete {
        /// The id of the organization, shortened if it is not valid.
        handle: String,
        /// The buyer's e-mail address.
        email: Option<Email>,
        /// What is missing or wrong.
        issues: Vec<Issue>,
    },
    /// An invoice was paid, for the organization that the metadata names, if any.
    Paid(Option<NamedOrganization>),
    /// The payment of an invoice failed.
    PaymentFailed(Option<NamedOrganization>),
    /// The subscription ended.
    SubscriptionEnded(Option<NamedOrganization>),
}

/// An organization that the metadata of an event names.
pub struct NamedOrganization {
    /// Its id.
    pub handle: OrganizationHandle,
    /// Whether the metadata states that it exists and is the payer's.
    pub is_existing: bool,
    /// Whether this is the first invoice of its subscription.
    pub is_first_invoice: bool,
}

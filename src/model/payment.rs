//! Payments for organizations, and checkouts that could not be fulfilled.

use chrono::{DateTime, Utc};

use crate::model::ids::{OrganizationId, PaymentId};

/// The status of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentStatus {
    /// The payment succeeded.
    Paid,
    /// The payment failed.
    Failed,
}

impl PaymentStatus {
    /// Parses a status's wire name.
    #[must_use]
    pub fn parse(wire_name: &str) -> Option<Self> {
        [Self::Paid, Self::Failed].into_iter().find(|status| status.as_str() == wire_name)
    }

    /// Returns the status's wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
        }
    }
}

/// The amount of a payment, and what it is for.
pub struct Charge {
    /// The amount in the currency's smallest unit; more than 0.
    pub amount: i64,
    /// The currency: three lower-case letters (ISO 4217).
    pub currency: String,
    /// Stripe's id of the invoice, or of the object that stands for one.
    pub reference: String,
    /// A description of what was paid for.
    pub description: Option<String>,
}

/// The reason why a paid checkout cannot be fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfulfilledReason {
    /// Its organization exists, and its customer is not known to pay for it.
    BelongsToAnother,
    /// Its metadata states that the organization exists, but it does not.
    DoesNotExist,
    /// Its organization was deleted. The id is never reused.
    Deleted,
    /// Its organization is an account's home organization, which cannot have the plan.
    PlanNotForHome,
    /// Its subscription has ended.
    SubscriptionEnded,
    /// Data is missing that is needed to fulfill it.
    Incomplete,
}

impl UnfulfilledReason {
    /// Returns the reason's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BelongsToAnother => "belongs_to_another",
            Self::DoesNotExist => "does_not_exist",
            Self::Deleted => "deleted",
            Self::PlanNotForHome => "plan_not_for_home",
            Self::SubscriptionEnded => "subscription_ended",
            Self::Incomplete => "incomplete",
        }
    }

    /// Returns the message for the operator. Stripe's dashboard displays the response that contains
    /// it.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::BelongsToAnother => {
                "The organization exists and this customer is not known to pay for it; a checkout \
                 for an organization of the buyer's needs metadata.mode=existing"
            }
            Self::DoesNotExist => "The organization does not exist, but metadata.mode is existing",
            Self::Deleted => "The organization was deleted, and its id is never reused",
            Self::PlanNotForHome => "The plan is not for a person's home organization",
            Self::SubscriptionEnded => "The checkout's subscription has ended",
            Self::Incomplete => "The checkout lacks what is needed",
        }
    }
}

/// A payment to insert.
pub struct NewPayment<'a> {
    /// Its id.
    pub id: PaymentId,
    /// The organization that was paid for.
    pub organization: OrganizationId,
    /// The id of Stripe's event that reported it.
    pub event: &'a str,
    /// The amount, and what it is for.
    pub charge: &'a Charge,
    /// Its status.
    pub status: PaymentStatus,
    /// The time of the payment or of its failure.
    pub created_at: DateTime<Utc>,
}

/// The public data of a payment.
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// The amount in the currency's smallest unit.
    pub amount: i64,
    /// The currency: three lower-case letters (ISO 4217).
    pub currency: String,
    /// Its status.
    pub status: PaymentStatus,
    /// A description of what was paid for.
    pub description: Option<String>,
    /// The time of the payment or of its failure.
    pub created_at: DateTime<Utc>,
}

//! Payments for organizations, and checkouts that could not be fulfilled.

use chrono::{DateTime, Utc};

use crate::model::ids::{OrganizationId, PaymentId};

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentStatus {
    /// The money came.
    Paid,
    /// It did not.
    Failed,
}

impl PaymentStatus {
    /// Reads a status's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Paid, Self::Failed].into_iter().find(|status| status.as_str() == word)
    }

    /// The status's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
        }
    }
}

/// Money, and what for.
pub struct Charge {
    /// How much, in the currency's smallest unit; more than nothing.
    pub amount: i64,
    /// The currency: three lower-case letters (ISO 4217).
    pub currency: String,
    /// What it is known by where it was paid: an invoice, or what stands for one.
    pub reference: String,
    /// What for, in words.
    pub description: Option<String>,
}

/// Why a paid checkout cannot be fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfulfilledReason {
    /// Its organization is there, and its customer is not known to pay for it.
    BelongsToAnother,
    /// The metadata states that the organization exists, and it does not.
    DoesNotExist,
    /// Its organization was deleted; the id is not given out again.
    Deleted,
    /// Its organization is a person's home, and the plan is not for those.
    PlanNotForHome,
    /// Its subscription has ended.
    SubscriptionEnded,
    /// Data is missing that is needed to fulfill it.
    Incomplete,
}

impl UnfulfilledReason {
    /// The reason's word.
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

    /// The message for the operator, whom Stripe displays the response.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::BelongsToAnother => {
                "The organization exists and this customer is not known to pay for it; a checkout \
                 for an organization of the buyer's needs metadata.mode=existing"
            }
            Self::DoesNotExist => "The organization does not exist, but metadata.mode is existing",
            Self::Deleted => "The organization was deleted, and its id is not given out again",
            Self::PlanNotForHome => "The plan is not for a person's home organization",
            Self::SubscriptionEnded => "The checkout's subscription has ended",
            Self::Incomplete => "The checkout lacks what is needed",
        }
    }
}

/// A payment about to be stored.
pub struct NewPayment<'a> {
    /// Its id.
    pub id: PaymentId,
    /// What for.
    pub organization: OrganizationId,
    /// The id of the event that reported it.
    pub event: &'a str,
    /// How much.
    pub charge: &'a Charge,
    /// What became of it.
    pub status: PaymentStatus,
    /// When it was created, or failed.
    pub created_at: DateTime<Utc>,
}

/// The public data of a payment.
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// How much, in the currency's smallest unit.
    pub amount: i64,
    /// The currency.
    pub currency: String,
    /// What became of it.
    pub status: PaymentStatus,
    /// What for, in words.
    pub description: Option<String>,
    /// When it was created, or failed.
    pub created_at: DateTime<Utc>,
}

//! Credits of keys and organizations: set, added to and removed in the caller's transaction.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::api_key::ApiKey;
use crate::model::credits::{CreditChange, Credits};
use crate::model::ids::OrganizationId;
use crate::repo::credit_balances;

/// Applies a change to the credits with this id, and returns them; `None` if there are none now.
///
/// # Errors
/// Conflict if units are added where there are no credits.
pub async fn apply(
    tx: &mut PgConnection,
    (organization, id): (OrganizationId, Uuid),
    change: CreditChange,
) -> Result<Option<Credits>> {
    match change {
        CreditChange::Set(credits) => {
            credit_balances::set(tx, (organization, id), &credits).await?;
            Ok(Some(credits))
        }
        CreditChange::Add(units) => {
            let credits = credit_balances::add(tx, (organization, id), units).await?;
            let none = || Error::conflict("There are no credits to add to; set `remaining` first");
            credits.map(Some).ok_or_else(none)
        }
        CreditChange::Remove => {
            credit_balances::delete(tx, (organization, id)).await?;
            Ok(None)
        }
    }
}

/// Adds a key's external id, limits and credits to the detail of an audit event, where it has some.
pub fn add_metering(detail: &mut serde_json::Value, key: &ApiKey) {
    let credits = key.credits.map(audited);
    let fields = [
        ("external_id", key.external_id.clone().map(Into::into)),
        ("limits", key.limits.to_stored()),
        ("credits", credits),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            detail[name] = value;
        }
    }
}

/// Returns credits as the audit log shows them.
#[must_use]
pub fn audited(credits: Credits) -> serde_json::Value {
    json!({
        "remaining": credits.remaining,
        "refill": credits
            .refill
            .map(|refill| json!({ "amount": refill.amount, "every": refill.every.as_str() })),
    })
}

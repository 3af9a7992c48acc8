//! Paid checkouts that cannot be fulfilled. Each is reported to the operator in the deployment's
//! audit log, the server log, a metric and `tenantry doctor`, and to the buyer by e-mail.

use serde_json::json;

use crate::app::App;
use crate::domain::billing::event::{BillingEvent, BillingEventKind};
use crate::domain::mail;
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::external_actor::ExternalActor;
use crate::model::ids::OrganizationId;
use crate::model::mail::MailKind;
use crate::model::payment::UnfulfilledReason;
use crate::repo::audit_events;
use crate::repo::unfulfilled_checkouts::{UnfulfilledCheckout, upsert};

/// Records a checkout that cannot be fulfilled, in its own transaction, because the one that
/// applied the event is rolled back. However often Stripe delivers it, the event is
/// recorded in the audit log and mailed to the buyer once.
pub async fn record_unfulfilled(
    app: &App,
    event: &BillingEvent,
    reason: UnfulfilledReason,
    audit: &AuditContext,
) -> Result<()> {
    let (handle, plan, email) = match &event.kind {
        BillingEventKind::Bought { spec, email, .. } => {
            (spec.handle.as_str(), Some(spec.plan.as_str()), email)
        }
        BillingEventKind::BoughtIncomplete { handle, email, .. } => (handle.as_str(), None, email),
        _ => return Err(Error::internal("only a checkout can be unfulfilled")),
    };
    let checkout = UnfulfilledCheckout {
        event: &event.id,
        handle,
        customer: event.customer.as_deref(),
        reason,
    };
    app.db
        .transaction(async |tx| {
            if !upsert(tx, &checkout, audit.at).await? {
                return Ok(());
            }
            let audit_event = NewAuditEvent {
                organization: OrganizationId::SYSTEM,
                event_type: AuditEventType::CheckoutUnfulfilled,
                actor: ExternalActor::Stripe.as_str(),
                target: handle,
                key_display_id: None,
                detail: json!({
                    "event": event.id,
                    "customer": event.customer,
                    "plan": plan,
                    "reason": reason.as_str(),
                }),
                audit,
            };
            audit_events::insert(tx, &audit_event).await?;
            let Some(email) = email else { return Ok(()) };
            let mail = (MailKind::CheckoutUnfulfilled, email.as_str());
            mail::queue(app, tx, mail, None, audit.at).await
        })
        .await?;
    tracing::warn!(
        event = event.id,
        organization = handle,
        reason = reason.as_str(),
        "paid checkout cannot be fulfilled"
    );
    Ok(())
}

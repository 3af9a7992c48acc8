//! The daily checks of verified domains: the record of each must still exist. The owners of the
//! organization are warned when it does not, and the domain is lost after 7 days.

use serde_json::json;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use crate::app::App;
use crate::app::dns::TxtLookup;
use crate::domain::mail;
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::new_request_id;
use crate::model::mail::MailKind;
use crate::model::sso::domain::{DomainAbsence, DomainStatus, SsoDomain, record_name};
use crate::repo::{audit_events, sso_domains};

/// The number of domains that a server looks up concurrently.
const BATCH_SIZE: i64 = 10;
/// The actor and the command of the events.
const ACTOR: &str = "domain check";

/// Checks every domain that is due, and returns their number. Several servers share the domains. A
/// domain whose record cannot be looked up is due again after an hour.
///
/// # Errors
/// The due domains cannot be read. The failed check of a domain is logged.
pub async fn check_due(app: &App) -> Result<usize> {
    let mut checked = 0;
    loop {
        let claim = app.db.transaction(async |tx| sso_domains::claim_due(tx, BATCH_SIZE).await);
        let due = claim.await?;
        if due.is_empty() {
            return Ok(checked);
        }
        checked += due.len();
        let mut lookups = JoinSet::new();
        for domain in due {
            let app = app.clone();
            lookups.spawn(async move { (look_up(&app, &domain).await, domain) });
        }
        // One transaction at a time: requests need the connections.
        while let Some(joined) = lookups.join_next().await {
            let (lookup, domain) = joined.map_err(Error::internal)?;
            if let Err(error) = record_lookup(app, &domain, lookup).await {
                let (domain, cause) = (&domain.id, error.cause());
                tracing::warn!(%domain, %cause, "domain check not recorded; will retry in 1 h");
            }
        }
    }
}

async fn look_up(app: &App, domain: &SsoDomain) -> TxtLookup {
    app.dns.find_txt(&record_name(&domain.name), &domain.record_value()).await
}

async fn record_lookup(app: &App, domain: &SsoDomain, lookup: TxtLookup) -> Result<()> {
    let is_found = match lookup {
        TxtLookup::Found => true,
        TxtLookup::NotFound { .. } => false,
        TxtLookup::Failed(reason) => {
            let domain = &domain.id;
            tracing::warn!(%domain, reason, "domain could not be looked up; will retry in 1 h");
            return Ok(());
        }
    };
    app.db.transaction(async |tx| record(app, tx, domain, is_found).await).await?;
    if !is_found {
        app.mail_waker.notify_one();
    }
    Ok(())
}

/// Records a check, unless the domain was verified again or changed otherwise meanwhile.
async fn record(
    app: &App,
    tx: &mut PgConnection,
    checked: &SsoDomain,
    is_found: bool,
) -> Result<()> {
    let (organization, id) = (checked.organization, checked.id);
    let is_current = |now: &SsoDomain| {
        now.has_record_of(checked)
            && now.status() == DomainStatus::Verified
            && now.last_seen_at == checked.last_seen_at
    };
    if !sso_domains::lock(tx, organization, id).await?.as_ref().is_some_and(is_current) {
        return Ok(());
    }
    let request_id = new_request_id(&*app.entropy);
    let at = app.clock.now();
    if is_found {
        return sso_domains::record_seen(tx, organization, id, at).await;
    }
    let recorded = sso_domains::record_absent(tx, organization, id, at).await?;
    let Some((absence, handle)) = recorded else { return Ok(()) };
    let audit = AuditContext::for_command(ACTOR, request_id, at, app.audit_signer.clone());
    let (event, mail) = match absence {
        DomainAbsence::Began => (Some(AuditEventType::SsoDomainAbsent), MailKind::DomainAbsent),
        DomainAbsence::Continues => (None, MailKind::DomainAbsent),
        DomainAbsence::Known => return Ok(()),
        DomainAbsence::Lost => (Some(AuditEventType::SsoDomainLost), MailKind::DomainLost),
    };
    if let Some(event_type) = event {
        let event = NewAuditEvent {
            organization,
            event_type,
            actor: ACTOR,
            target: &id.to_string(),
            key_display_id: None,
            detail: json!({ "domain": checked.name.as_str() }),
            audit: &audit,
        };
        audit_events::insert(tx, &event).await?;
    }
    mail::queue_about_domain(app, tx, mail, (organization, &handle, &checked.name), at).await
}

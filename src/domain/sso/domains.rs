//! Domains of an organization: add, verify, delete.
//!
//! A domain is verified by a DNS record that contains its token. It proves this domain alone: not
//! those below it, and no other domain of the organization, each of which has its own token.

use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::app::dns::TxtLookup;
use crate::domain::keys::record_caller_event;
use crate::domain::oauth::locks::lock_and_confirm_caller;
use crate::entropy::random_base62;
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::caller::Caller;
use crate::model::ids::{DomainId, OrganizationId};
use crate::model::scope::BuiltInScope;
use crate::model::sso::domain::{
    DomainStatus, MAX_DOMAINS, NewSsoDomain, SsoDomain, TOKEN_LENGTH, record_name,
};
use crate::model::sso::domain_name::DomainName;
use crate::repo::sso_domains;

const WRITE_SCOPE: BuiltInScope = BuiltInScope::SsoWrite;
/// After how long a lookup that no DNS server answered may be repeated.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Adds a domain, which is not verified. Whether another organization has it is not revealed.
///
/// # Errors
/// Conflict if the organization has added it before, or has [`MAX_DOMAINS`]; unauthenticated or
/// forbidden if the caller may no longer do this.
pub async fn add(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    name: &DomainName,
    audit: &AuditContext,
) -> Result<SsoDomain> {
    // The lock of the organization serializes its new domains, so that the count stays valid.
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    let organization = caller.organization;
    if sso_domains::count(tx, organization).await? >= MAX_DOMAINS {
        let message =
            format!("An organization has at most {MAX_DOMAINS} domains; delete one first");
        return Err(Error::conflict(message));
    }
    let id = DomainId::new(audit.at, &*app.entropy);
    let token = random_base62(&*app.entropy, TOKEN_LENGTH);
    let (created_by, created_at) = (caller.membership, audit.at);
    let new = NewSsoDomain { id, organization, name, token: &token, created_by, created_at };
    sso_domains::insert(tx, &new).await?;
    let event = AuditEventType::SsoDomainAdded;
    record_caller_event(tx, &caller, event, id, json!({ "domain": name.as_str() }), audit).await?;
    find(tx, organization, id).await
}

/// Returns a domain of the organization.
///
/// # Errors
/// Not found if there is no such domain.
pub async fn find(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
) -> Result<SsoDomain> {
    sso_domains::find(tx, organization, id).await?.ok_or_else(no_such_domain)
}

/// A domain whose record was found.
pub struct ProvenDomain(SsoDomain);

/// Looks up the record of a domain, outside any transaction.
///
/// # Errors
/// [`ErrorKind::DomainRecordNotFound`]; unavailable if no DNS server answers.
pub async fn prove(app: &App, domain: SsoDomain) -> Result<ProvenDomain> {
    let record = record_name(&domain.name);
    match app.dns.find_txt(&record, &domain.record_value()).await {
        TxtLookup::Found => Ok(ProvenDomain(domain)),
        TxtLookup::NotFound { others } => {
            let found = match others {
                0 => "there is no TXT record with this name".to_owned(),
                1 => "1 TXT record with this name was found, with another value".to_owned(),
                more => format!("{more} TXT records with this name were found, with other values"),
            };
            let message = format!("The TXT record {record} was not found: {found}");
            Err(Error::new(ErrorKind::DomainRecordNotFound, message))
        }
        TxtLookup::Failed(reason) => {
            let message = format!("The TXT record {record} could not be looked up; try again");
            let error = Error::new(ErrorKind::Unavailable, message).with_source(reason);
            Err(error.with_retry_after(RETRY_AFTER))
        }
    }
}

/// Marks a domain as verified. One that is verified stays so.
///
/// # Errors
/// Not found if it was deleted since its record was looked up, also if it was added again;
/// [`ErrorKind::DomainTaken`] if another organization has it verified; unauthenticated or forbidden
/// if the caller may no longer do this.
pub async fn verify(
    tx: &mut PgConnection,
    caller: &Caller,
    ProvenDomain(proven): &ProvenDomain,
    audit: &AuditContext,
) -> Result<SsoDomain> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    let organization = caller.organization;
    let before = sso_domains::lock(tx, organization, proven.id).await?;
    let before = before.filter(|it| it.has_record_of(proven)).ok_or_else(no_such_domain)?;
    if !sso_domains::set_verified(tx, organization, proven.id, audit.at).await? {
        return Err(no_such_domain());
    }
    if before.status() != DomainStatus::Verified {
        let detail = json!({ "domain": before.name.as_str(), "before": before.status().as_str() });
        let event = AuditEventType::SsoDomainVerified;
        record_caller_event(tx, &caller, event, proven.id, detail, audit).await?;
    }
    find(tx, organization, proven.id).await
}

/// Deletes a domain. If it was verified, it no longer is, effective immediately.
///
/// # Errors
/// Not found; unauthenticated or forbidden if the caller may no longer do this.
pub async fn delete(
    tx: &mut PgConnection,
    caller: &Caller,
    id: DomainId,
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    let organization = caller.organization;
    let domain = sso_domains::lock(tx, organization, id).await?.ok_or_else(no_such_domain)?;
    if !sso_domains::delete(tx, organization, id).await? {
        return Err(no_such_domain());
    }
    let detail = json!({ "domain": domain.name.as_str(), "before": domain.status().as_str() });
    let event = AuditEventType::SsoDomainDeleted;
    record_caller_event(tx, &caller, event, id, detail, audit).await
}

/// Returns the error for a domain that does not exist or belongs to another organization.
#[must_use]
pub fn no_such_domain() -> Error {
    Error::not_found("There is no such domain")
}

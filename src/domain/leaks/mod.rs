//! Leaked keys: reports of them are queued, and acted on by a worker.
//!
//! A report is queued before it is acknowledged, so that it is not lost. A report by anyone is
//! queued whether or not the key exists, so that the response time does not reveal whether it does.
//! The response to GitHub names the texts that are keys, so only reports of keys are queued. The
//! worker looks the key up, and acts in one transaction, once for each key: it applies the policy
//! of the organization, records an audit event and mails each owner. Later reports change nothing,
//! so that a key that its owner has enabled again stays enabled. A key that has ended is harmless:
//! nothing is recorded, and no mail is sent.

mod github;
mod redaction;

use serde_json::{Value, json};
use sqlx::PgConnection;
use url::Url;

pub use self::github::{GithubFeedback, GithubMatch, report_matches};
use self::redaction::redact_url;
use crate::app::App;
use crate::domain::keys::invites;
use crate::domain::keys::presented::possible_digests;
use crate::error::Result;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::{AccountId, OrganizationId, new_uuid};
use crate::model::job::JobOutcome;
use crate::model::leak::{
    LeakAction, LeakNotice, LeakPolicy, LeakReport, LeakSource, ReportingRequest,
};
use crate::model::mail::MailKind;
use crate::model::secret::Secret;
use crate::model::verification::{CredentialKind, KnownCredential, OauthFacts};
use crate::repo::leaks::LeakedCredential;
use crate::repo::{
    accounts, audit_events, key_lifecycle, known_credentials, leaks, mails, oauth_tokens, rls,
};

/// The reason for the revocation of a leaked key.
const REVOKED_REASON: &str = "Reported as leaked";

/// Queues a report by someone who has the key's text. Text that cannot be a key is ignored: anyone
/// can see that from its form.
pub async fn report(app: &App, key: &Secret, url: Option<Url>, audit: &AuditContext) -> Result<()> {
    let Some((kind, digests)) = possible_digests(app, key.expose()) else { return Ok(()) };
    let url = url.and_then(|url| redact_url(app, key, url));
    let request = reporting_request(audit);
    let source = LeakSource::Anyone;
    let report = LeakReport { kind, digests, source, url, found_in: None, request };
    queue(app, &[report], audit).await
}

async fn queue(app: &App, reports: &[LeakReport], audit: &AuditContext) -> Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let reports = reports.iter();
    let rows: Vec<_> =
        reports.map(|it| (new_uuid(audit.at, &*app.entropy), it.to_stored())).collect();
    app.db.run(async |db| leaks::insert_reports(db, &rows, audit.at).await).await?;
    app.leak_report_waker.notify_one();
    Ok(())
}

fn reporting_request(audit: &AuditContext) -> ReportingRequest {
    ReportingRequest {
        method: audit.method.clone(),
        path: audit.path.clone(),
        status: audit.status,
        address: audit.address,
        request_id: audit.request_id.clone(),
    }
}

/// Acts on a queued report: does nothing if the key is unknown, has ended or was reported before.
///
/// # Errors
/// The database does not respond, or the stored policy is unknown. The report stays queued.
pub async fn act(app: &App, report: &LeakReport) -> Result<JobOutcome> {
    let digests = &report.digests;
    let candidates = digests.iter().map(|digest| (report.kind, *digest));
    let known = app.db.run(async |db| known_credentials::find(db, candidates).await);
    let Some(known) = known.await?.into_values().next() else { return Ok(JobOutcome::Done) };
    let audit = audit_context(app, report);
    let action = app.db.transaction(async |tx| match (report.kind, &*known) {
        (CredentialKind::ApiKey, KnownCredential { organization: Some(it), .. }) => {
            act_on_key(app, tx, it.id, &known, report, &audit).await
        }
        (CredentialKind::PersonalToken, KnownCredential { account: Some(it), .. }) => {
            act_on_token(app, tx, it.id, &known, report, &audit).await
        }
        (
            CredentialKind::OauthToken,
            KnownCredential { account: Some(account), oauth: Some(oauth), defect: None, .. },
        ) => act_on_oauth_token(tx, (account.id, oauth), &known, report, &audit).await,
        _ => Ok(None),
    });
    if let Some(action) = action.await? {
        let (key, source, action) = (known.id, report.source.as_str(), action.as_str());
        metrics::counter!("leaked_keys_total", "source" => source, "action" => action).increment(1);
        tracing::warn!(%key, display_id = known.display_id, source, action, "leaked key reported");
        app.mail_waker.notify_one();
    }
    Ok(JobOutcome::Done)
}

fn audit_context(app: &App, report: &LeakReport) -> AuditContext {
    let ReportingRequest { method, path, status, address, request_id } = report.request.clone();
    let (at, signer) = (app.clock.now(), app.audit_signer.clone());
    AuditContext { method, path, status, address, request_id, at, signer }
}

/// Acts on a key under row-level security, but not in [`Database::tenant_transaction`]: a thief of
/// the key could use up the organization's share of the connections and delay this.
///
/// [`Database::tenant_transaction`]: crate::app::database::Database::tenant_transaction
async fn act_on_key(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    known: &KnownCredential,
    report: &LeakReport,
    audit: &AuditContext,
) -> Result<Option<LeakAction>> {
    let (key, actor) = (known.id, report.source.actor());
    rls::set_tenant(tx, organization).await?;
    let Some(policy) = leaks::find_policy(tx, organization).await? else { return Ok(None) };
    let disables = policy == LeakPolicy::Disable;
    let recorded = leaks::record_key(tx, organization, key, disables, audit.at).await?;
    let Some((credential, was_enabled)) = recorded else { return Ok(None) };
    let action = match policy {
        LeakPolicy::Notify => LeakAction::Nothing,
        LeakPolicy::Disable if was_enabled => LeakAction::Disabled,
        LeakPolicy::Disable => LeakAction::AlreadyDisabled,
        LeakPolicy::Revoke => LeakAction::Revoked,
    };
    let mut detail = detail_of(names_of(&credential), action, report);
    detail["policy"] = json!(policy.as_str());
    if action == LeakAction::Revoked {
        let chain = key_lifecycle::list_with_predecessors(tx, organization, key).await?;
        let reason = Some(REVOKED_REASON);
        key_lifecycle::revoke(tx, organization, key, reason, actor, audit.at).await?;
        let revoked = invites::revoke(tx, organization, Some(&chain), audit).await?;
        revoked.add_to(&mut detail);
    }
    record_event(tx, organization, known, (report, detail), audit).await?;
    // With a tenant set, addresses of accounts cannot be read and these mails cannot be queued.
    rls::clear_tenant(tx).await?;
    let notice = notice_of(&credential, action, report);
    mail_owners(app, tx, (Some(organization), None), &notice, audit).await?;
    Ok(Some(action))
}

/// Acts on a personal access token. It cannot be disabled, so the policy to disable revokes it: its
/// owner alone uses it and can create another one. Unless it is pinned to one organization, it acts
/// in several, and it is revoked unless all of them have the policy to notify.
async fn act_on_token(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    known: &KnownCredential,
    report: &LeakReport,
    audit: &AuditContext,
) -> Result<Option<LeakAction>> {
    let recorded = leaks::record_token(tx, account, known.id, audit.at).await?;
    let Some(token) = recorded else { return Ok(None) };
    let action = if token.is_revoked { LeakAction::Revoked } else { LeakAction::Nothing };
    let organization = match token.pinned_to {
        Some(pinned_to) => pinned_to,
        None => accounts::find_audit_organization(tx, account).await?,
    };
    let mut detail = detail_of(names_of(&token.credential), action, report);
    detail["account"] = json!(account.to_string());
    record_event(tx, organization, known, (report, detail), audit).await?;
    let notice = notice_of(&token.credential, action, report);
    mail_owners(app, tx, (token.pinned_to, Some(account)), &notice, audit).await?;
    Ok(Some(action))
}

/// Acts on an OAuth access token: revokes it, whatever the policy. Its app gets another one by
/// itself, so no owner has to act and no mail is sent.
async fn act_on_oauth_token(
    tx: &mut PgConnection,
    (account, oauth): (AccountId, &OauthFacts),
    known: &KnownCredential,
    report: &LeakReport,
    audit: &AuditContext,
) -> Result<Option<LeakAction>> {
    if !oauth_tokens::revoke_access_token(tx, &report.digests, oauth.client).await? {
        return Ok(None);
    }
    let organization = match &known.organization {
        Some(organization) => organization.id,
        None => accounts::find_audit_organization(tx, account).await?,
    };
    let action = LeakAction::Revoked;
    let mut detail = detail_of((known.name.as_deref(), None), action, report);
    detail["account"] = json!(account.to_string());
    detail["client_id"] = json!(oauth.client_id);
    record_event(tx, organization, known, (report, detail), audit).await?;
    Ok(Some(action))
}

/// Returns the detail of the audit event, with the name and the display id of the credential. It
/// never contains the key's text.
fn detail_of(
    (name, display_id): (Option<&str>, Option<&str>),
    action: LeakAction,
    report: &LeakReport,
) -> Value {
    json!({
        "display_id": display_id,
        "name": name,
        "credential": report.kind.as_str(),
        "action": action.as_str(),
        "source": report.source.as_str(),
        "url": report.url,
        "found_in": report.found_in,
    })
}

fn names_of(credential: &LeakedCredential) -> (Option<&str>, Option<&str>) {
    (credential.name.as_deref(), Some(&credential.display_id))
}

async fn record_event(
    tx: &mut PgConnection,
    organization: OrganizationId,
    known: &KnownCredential,
    (report, detail): (&LeakReport, Value),
    audit: &AuditContext,
) -> Result<()> {
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::KeyLeaked,
        actor: report.source.actor(),
        target: &known.id.to_string(),
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}

fn notice_of(credential: &LeakedCredential, action: LeakAction, report: &LeakReport) -> LeakNotice {
    LeakNotice {
        kind: report.kind,
        beginning: format!("{}{}", credential.prefix, credential.display_id),
        action,
        source: report.source,
        url: report.url.clone().filter(|_| report.source == LeakSource::Github),
    }
}

async fn mail_owners(
    app: &App,
    tx: &mut PgConnection,
    (organization, account): (Option<OrganizationId>, Option<AccountId>),
    notice: &LeakNotice,
    audit: &AuditContext,
) -> Result<()> {
    let addresses = mails::find_addresses(tx, organization, account).await?.into_iter();
    let new: Vec<_> = addresses.map(|it| (new_uuid(audit.at, &*app.entropy), it)).collect();
    mails::insert_each(tx, MailKind::KeyLeaked, &new, &notice.to_stored(), audit.at).await
}

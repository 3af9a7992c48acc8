//! Mails are queued in the transaction of the change they report and sent by a worker, so that a
//! slow or unreachable mail server delays no request.
//!
//! The token of a link is generated when its mail is rendered. Only the mail contains it; the
//! database stores its digest. Each retry generates a new token.

mod message;
mod rate_limit;

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use metrics::counter;
use serde_json::json;
use sqlx::PgConnection;
use url::Url;
use uuid::Uuid;

use self::message::Message;
pub use self::rate_limit::with_rate_limits;
use crate::app::App;
use crate::app::mailer::{Delivery, Mail, MailError};
use crate::domain::links::{self, LinkTarget};
use crate::error::Result;
use crate::model::ids::{AccountId, InviteId, OrganizationId, new_uuid};
use crate::model::job::{Job, JobOutcome};
use crate::model::mail::{LinkPurpose, MailKind, QueuedMail, SecurityNotice};
use crate::model::sso::domain_name::DomainName;
use crate::repo::{accounts, email_tokens, jobs, mails};

/// Queues a mail, which replaces an older one of its kind to this address that was not sent yet.
/// `mail_waker` must be notified after the commit.
pub async fn queue(
    app: &App,
    tx: &mut PgConnection,
    mail: (MailKind, &str),
    callback_url: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    mails::insert(tx, new_uuid(at, &*app.entropy), mail, callback_url, at).await
}

/// Queues the mail of an invitation.
pub async fn queue_invite(
    app: &App,
    tx: &mut PgConnection,
    invite: InviteId,
    address: &str,
    at: DateTime<Utc>,
) -> Result<()> {
    queue(app, tx, (MailKind::Invite(invite), address), None, at).await
}

/// Queues a security notice to an account, on the conditions of [`mails::insert_notice`].
pub async fn queue_notice(
    app: &App,
    tx: &mut PgConnection,
    notice: (SecurityNotice, AccountId),
    at: DateTime<Utc>,
) -> Result<()> {
    mails::insert_notice(tx, new_uuid(at, &*app.entropy), notice, at).await
}

/// Queues a mail to each owner of an organization: an app was granted access to it for the first
/// time. `mail_waker` must be notified after the commit.
pub async fn queue_app_granted(
    app: &App,
    tx: &mut PgConnection,
    (organization, handle): (OrganizationId, &str),
    at: DateTime<Utc>,
) -> Result<()> {
    let addresses = mails::find_addresses(tx, Some(organization), None).await?.into_iter();
    let new: Vec<_> = addresses.map(|it| (new_uuid(at, &*app.entropy), it)).collect();
    let content = json!({ "organization": handle });
    mails::insert_each(tx, MailKind::AppGranted, &new, &content, at).await
}

/// Queues a mail of this kind to each owner of an organization: about its verified domain.
/// `mail_waker` must be notified after the commit.
pub async fn queue_about_domain(
    app: &App,
    tx: &mut PgConnection,
    kind: MailKind,
    (organization, handle, domain): (OrganizationId, &str, &DomainName),
    at: DateTime<Utc>,
) -> Result<()> {
    let addresses = mails::find_addresses(tx, Some(organization), None).await?.into_iter();
    let new: Vec<_> = addresses.map(|it| (new_uuid(at, &*app.entropy), it)).collect();
    let content = json!({ "organization": handle, "domain": domain.as_str() });
    mails::insert_each(tx, kind, &new, &content, at).await
}

/// Queues the mail with the link that claims an organization's first key.
pub async fn queue_claim(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    address: &str,
    at: DateTime<Utc>,
) -> Result<()> {
    let id = new_uuid(at, &*app.entropy);
    mails::insert_claim(tx, id, (organization, address), at).await
}

/// Renders and sends a queued mail. Does nothing if the recipient no longer needs it.
///
/// # Errors
/// The link cannot be created. A failed delivery is an outcome, not an error.
pub async fn deliver(app: &App, job: &Job, mail: &QueuedMail) -> Result<JobOutcome> {
    let link = app.db.transaction(async |tx| create_link(app, tx, job.id, mail).await).await?;
    let Some(link) = link else { return Ok(JobOutcome::Done) };
    let sent = send(app, job.created_at, mail, &link).await;
    let outcome = if sent.is_ok() { "sent" } else { "failed" };
    counter!("mails_total", "kind" => mail.kind.as_str(), "outcome" => outcome).increment(1);
    match sent {
        Ok(Delivery::File(file)) => {
            let file = file.display();
            tracing::info!(%file, kind = mail.kind.as_str(), "mail written to a file");
            Ok(JobOutcome::Done)
        }
        Ok(_) => Ok(JobOutcome::Done),
        Err(error) => Ok(JobOutcome::Failed {
            failure: describe_failure(&error, &link),
            is_permanent: matches!(error, MailError::Permanent(_)),
        }),
    }
}

/// Removes the token of a mail that was not delivered: its link was never received.
pub async fn discard(tx: &mut PgConnection, mail: &QueuedMail) -> Result<()> {
    let MailKind::Link(purpose) = mail.kind else { return Ok(()) };
    match accounts::find_by_email(tx, &mail.address).await? {
        Some(account) => email_tokens::remove(tx, (account.id, purpose)).await,
        None => Ok(()),
    }
}

/// Returns the link for a mail, with a new token; for a mail without a link, the public URL. `None`
/// means that the mail must not be sent: a newer one has replaced it, no active account has the
/// address, the address is already verified, the account has no password to reset, or the
/// invitation or claim is no longer open.
async fn create_link(
    app: &App,
    tx: &mut PgConnection,
    job: Uuid,
    mail: &QueuedMail,
) -> Result<Option<Url>> {
    if !jobs::lock(tx, job).await? {
        return Ok(None);
    }
    let target = match mail.kind {
        MailKind::Invite(invite) => LinkTarget::Invite(invite),
        MailKind::ClaimKey(organization) => LinkTarget::FirstKey(organization),
        MailKind::CheckoutUnfulfilled => return Ok(Some(app.config.http.public_url.clone())),
        MailKind::Link(_)
        | MailKind::AlreadyRegistered
        | MailKind::Notice(_)
        | MailKind::KeyLeaked
        | MailKind::AppGranted
        | MailKind::DomainAbsent
        | MailKind::DomainLost => {
            let account = accounts::find_by_email(tx, &mail.address).await?;
            let Some(account) = account.filter(|account| account.is_active) else {
                return Ok(None);
            };
            let MailKind::Link(purpose) = mail.kind else {
                return Ok(Some(app.config.http.public_url.clone()));
            };
            // An account that signs in with single sign-on alone gets no password: it would outlive
            // the person's place in the organization.
            let is_needed = match purpose {
                LinkPurpose::VerifyEmail => !account.is_proven,
                LinkPurpose::ResetPassword => account.password_hash.is_some(),
            };
            if !is_needed {
                return Ok(None);
            }
            LinkTarget::Account(account.id, purpose, mail.callback_url.as_deref())
        }
    };
    links::create(app, tx, target).await
}

async fn send(
    app: &App,
    queued_at: DateTime<Utc>,
    mail: &QueuedMail,
    link: &Url,
) -> Result<Delivery, MailError> {
    let message = match mail.kind {
        MailKind::Link(LinkPurpose::VerifyEmail) => Message::VerifyEmail { link },
        MailKind::Link(LinkPurpose::ResetPassword) => Message::ResetPassword { link },
        MailKind::AlreadyRegistered => Message::AlreadyRegistered,
        MailKind::Notice(notice) => Message::Notice { notice, at: queued_at },
        MailKind::Invite(_) => Message::Invite { link },
        MailKind::ClaimKey(_) => Message::ClaimKey { link },
        MailKind::CheckoutUnfulfilled => Message::CheckoutUnfulfilled,
        MailKind::KeyLeaked => match &mail.leak {
            Some(notice) => Message::KeyLeaked { notice, at: queued_at },
            None => return Err(no_content()),
        },
        MailKind::AppGranted => match &mail.organization {
            Some(organization) => Message::AppGranted { organization, at: queued_at },
            None => return Err(no_content()),
        },
        MailKind::DomainAbsent | MailKind::DomainLost => {
            let (Some(organization), Some(domain)) = (&mail.organization, &mail.domain) else {
                return Err(no_content());
            };
            let is_lost = mail.kind == MailKind::DomainLost;
            Message::Domain { organization, domain, is_lost, at: queued_at }
        }
    };
    let now = app.clock.now();
    // A retry gets a new message id: its token differs, and mail clients hide messages with an id
    // that they have already received.
    let id: Uuid = new_uuid(now, &*app.entropy);
    let outgoing = Mail {
        id,
        written_at: SystemTime::from(now),
        to: &mail.address,
        subject: message.subject(),
        text: &message.text().map_err(rendering_error)?,
        html: &message.html().map_err(rendering_error)?,
    };
    app.mailer.send(&outgoing).await
}

fn no_content() -> MailError {
    MailError::Permanent("the mail has no content".into())
}

fn rendering_error(error: askama::Error) -> MailError {
    MailError::Permanent(error.into())
}

/// Returns the failure for the operator, without the mail server's response if it quotes the link.
fn describe_failure(error: &MailError, link: &Url) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if links::contains_token(&source, link) {
        return format!("{error}: response withheld because it contains the link");
    }
    format!("{error}: {source}")
}

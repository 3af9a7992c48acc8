//! Mails are queued in the transaction of the change they report and sent by a worker, so that a
//! slow or unreachable mail server delays no request.
//!
//! The token of a link is generated when its mail is rendered. Only the mail contains it; the
//! database stores its digest. Each retry generates a new token.

mod message;
mod rate_limit;

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use metrics::counter;
use sqlx::PgConnection;
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use self::message::Message;
pub use self::rate_limit::with_rate_limits;
use crate::app::App;
use crate::app::mailer::{Delivery, Mail, MailError};
use crate::domain::links::{self, LinkTarget};
use crate::error::Result;
use crate::model::ids::{AccountId, InviteId, OrganizationId, new_uuid};
use crate::model::mail::{LinkPurpose, MailKind, QueuedMail, SecurityNotice};
use crate::repo::{accounts, email_tokens, outbox};

/// How many mails are sent concurrently.
const BATCH_SIZE: i64 = 10;
/// For how long a worker leases a mail: longer than one delivery may take.
const LEASE: Duration = Duration::from_mins(2);
/// The delay between the first failure and the second attempt; each later delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(30);
/// The longest delay between two attempts.
const MAX_DELAY: Duration = Duration::from_hours(1);
/// How many attempts a mail gets, in about 9 hours, before it is dead.
const MAX_ATTEMPTS: i32 = 16;
/// How many characters of a failure are stored.
const MAX_FAILURE_LENGTH: usize = 500;

/// Queues a mail, which replaces an older one of its kind to this address that was not sent yet.
/// `mail_waker` must be notified after the commit.
pub async fn queue(
    app: &App,
    tx: &mut PgConnection,
    mail: (MailKind, &str),
    callback_url: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    outbox::insert(tx, new_uuid(at, &*app.entropy), mail, callback_url, at).await
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

/// Queues a security notice to an account, unless the account has opted out of them.
pub async fn queue_notice(
    app: &App,
    tx: &mut PgConnection,
    notice: (SecurityNotice, AccountId),
    at: DateTime<Utc>,
) -> Result<()> {
    outbox::insert_notice(tx, new_uuid(at, &*app.entropy), notice, at).await
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
    outbox::insert_claim(tx, id, (organization, address), at).await
}

/// Attempts every mail that is due, [`BATCH_SIZE`] at a time, and returns how many were attempted.
///
/// # Errors
/// If the due mails cannot be read. A failed delivery is logged and not returned.
pub async fn deliver_due(app: &App) -> Result<usize> {
    let mut attempted = 0;
    loop {
        let due =
            app.db.transaction(async |tx| outbox::lease_due(tx, BATCH_SIZE, LEASE).await).await?;
        if due.is_empty() {
            return Ok(attempted);
        }
        attempted += due.len();
        let mut deliveries = JoinSet::new();
        for mail in due {
            let app = app.clone();
            deliveries.spawn(async move {
                if let Err(error) = deliver(&app, &mail).await {
                    let (mail, cause) = (mail.id, error.cause());
                    tracing::warn!(%mail, %cause, "mail delivery failed; will retry");
                }
            });
        }
        deliveries.join_all().await;
    }
}

/// Returns in how long the next mail is due, `None` if the queue is empty.
pub async fn next_due(app: &App) -> Result<Option<Duration>> {
    app.db.run(async |db| outbox::next_due(db).await).await
}

async fn deliver(app: &App, mail: &QueuedMail) -> Result<()> {
    let Some(link) = app.db.transaction(async |tx| create_link(app, tx, mail).await).await? else {
        return app.db.run(async |db| outbox::remove(db, mail.id).await).await;
    };
    let sent = send(app, mail, &link).await;
    let outcome = if sent.is_ok() { "sent" } else { "failed" };
    counter!("mails_total", "kind" => mail.kind.as_str(), "outcome" => outcome).increment(1);
    match sent {
        Ok(delivery) => {
            if let Delivery::File(file) = delivery {
                let file = file.display();
                tracing::info!(%file, kind = mail.kind.as_str(), "mail written to a file");
            }
            app.db.run(async |db| outbox::remove(db, mail.id).await).await
        }
        Err(error) => record_failure(app, mail, &link, &error).await,
    }
}

/// Returns the link for a mail, with a new token. `None` means that the mail is not to be sent: a
/// newer one has replaced it, no active account has the address, or the address is already
/// verified.
async fn create_link(app: &App, tx: &mut PgConnection, mail: &QueuedMail) -> Result<Option<Url>> {
    if !outbox::lock(tx, mail.id).await? {
        return Ok(None);
    }
    let target = match mail.kind {
        MailKind::Invite(invite) => LinkTarget::Invite(invite),
        MailKind::ClaimKey(organization) => LinkTarget::FirstKey(organization),
        MailKind::CheckoutUnfulfilled => return Ok(Some(app.config.http.public_url.clone())),
        MailKind::Link(_) | MailKind::AlreadyRegistered | MailKind::Notice(_) => {
            let account = accounts::find_by_email(tx, &mail.address).await?;
            let Some(account) = account.filter(|account| account.is_active) else {
                return Ok(None);
            };
            let MailKind::Link(purpose) = mail.kind else {
                return Ok(Some(app.config.http.public_url.clone()));
            };
            if purpose == LinkPurpose::VerifyEmail && account.is_proven {
                return Ok(None);
            }
            LinkTarget::Account(account.id, purpose, mail.callback_url.as_deref())
        }
    };
    links::create(app, tx, target).await
}

async fn send(app: &App, mail: &QueuedMail, link: &Url) -> Result<Delivery, MailError> {
    let message = match mail.kind {
        MailKind::Link(LinkPurpose::VerifyEmail) => Message::VerifyEmail { link },
        MailKind::Link(LinkPurpose::ResetPassword) => Message::ResetPassword { link },
        MailKind::AlreadyRegistered => Message::AlreadyRegistered,
        MailKind::Notice(notice) => Message::Notice { notice, at: mail.created_at },
        MailKind::Invite(_) => Message::Invite { link },
        MailKind::ClaimKey(_) => Message::ClaimKey { link },
        MailKind::CheckoutUnfulfilled => Message::CheckoutUnfulfilled,
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
        text: &message.text(),
        html: &message.html(),
    };
    app.mailer.send(&outgoing).await
}

async fn record_failure(app: &App, mail: &QueuedMail, link: &Url, error: &MailError) -> Result<()> {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let source = if links::contains_token(&source, link) {
        "response withheld because it contains the link"
    } else {
        &source
    };
    let failure: String = format!("{error}: {source}").chars().take(MAX_FAILURE_LENGTH).collect();
    let is_last = matches!(error, MailError::Permanent(_)) || mail.attempts >= MAX_ATTEMPTS;
    let (id, kind, attempts) = (mail.id, mail.kind.as_str(), mail.attempts);
    tracing::warn!(mail = %id, kind, attempts, is_dead = is_last, failure, "mail not sent");
    let now = app.clock.now();
    app.db
        .transaction(async |tx| {
            if !is_last {
                return outbox::reschedule(tx, id, delay_after(attempts), &failure).await;
            }
            // If a newer mail has replaced this one, the stored token belongs to the newer mail.
            if outbox::mark_dead(tx, id, &failure, now).await? {
                remove_token(tx, mail).await?;
            }
            Ok(())
        })
        .await
}

/// Removes the token of a mail that was not delivered: nobody received its link.
async fn remove_token(db: &mut PgConnection, mail: &QueuedMail) -> Result<()> {
    let MailKind::Link(purpose) = mail.kind else { return Ok(()) };
    match accounts::find_by_email(db, &mail.address).await? {
        Some(account) => email_tokens::remove(db, (account.id, purpose)).await,
        None => Ok(()),
    }
}

/// Returns the delay after the given number of attempts.
fn delay_after(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_to_an_hour_and_give_up_after_some_hours() {
        let delays: Vec<_> = (1..MAX_ATTEMPTS).map(delay_after).collect();
        assert_eq!(delays[0], Duration::from_secs(30));
        assert_eq!(delays[1], Duration::from_mins(1));
        assert_eq!(delays.last(), Some(&MAX_DELAY));
        let whole: Duration = delays.iter().sum();
        assert!((8..=10).contains(&(whole.as_secs() / 3600)), "{whole:?}");
    }
}

//! Rate limits of mails: per client, and per recipient and kind of mail. Each kind has its own
//! count, so that one does not use up another's limit.

use std::net::IpAddr;

use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::error::Result;
use crate::model::rate_limit::{LimitSubject, RateLimit};

/// Runs `work`, which queues a mail, and counts the mail first: for the client and for the
/// recipient. If `work` fails or is cancelled, nothing was mailed and the recipient's count is
/// refunded; otherwise failing requests could block mail to an address.
///
/// # Errors
/// The errors that `check` returns for a rate limit decision, and those of `work`.
pub async fn with_rate_limits<T>(
    app: &App,
    client: Option<IpAddr>,
    (kind, to): (&str, &str),
    check: impl Fn(RateLimitDecision) -> Result<()>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let settings = &app.config.rate_limits;
    let client = LimitSubject::from_address(client);
    let recipient = app.peppers.subject(kind, to);
    if let Some(decision) = app.rate_limits.count(settings, RateLimit::MailClient, client).await {
        check(decision)?;
    }
    if let Some(decision) = app.rate_limits.count(settings, RateLimit::MailAddress, recipient).await
    {
        check(decision)?;
    }
    let mut guard = RefundGuard { app: app.clone(), recipient, refunds_on_drop: true };
    let result = work.await;
    guard.refunds_on_drop = false;
    if result.is_err() {
        app.rate_limits.refund(settings, RateLimit::MailAddress, recipient).await;
    }
    result
}

/// A count of a recipient's rate limit that is refunded on drop, unless `work` has finished.
struct RefundGuard {
    app: App,
    recipient: LimitSubject,
    refunds_on_drop: bool,
}

impl Drop for RefundGuard {
    fn drop(&mut self) {
        if self.refunds_on_drop {
            let (app, recipient) = (self.app.clone(), self.recipient);
            tokio::spawn(async move {
                app.rate_limits
                    .refund(&app.config.rate_limits, RateLimit::MailAddress, recipient)
                    .await;
            });
        }
    }
}

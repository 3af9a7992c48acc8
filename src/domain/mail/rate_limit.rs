//! How often mails are asked for: by one client, and to one recipient, where each kind is counted
//! apart, so that none stands in another's way.

use std::net::IpAddr;

use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::error::Result;
use crate::model::rate_limit::{LimitSubject, RateLimit};

/// Does what mails somebody, and counts the mail first: for the client that asks, and for its
/// recipient. What fails, or is not waited for to its end, has mailed nobody: the recipient's limit
/// is as it was, or anybody could keep their mail from them.
///
/// # Errors
/// What `pass` says of a limit; those of `work`.
pub async fn with_rate_limits<T>(
    app: &App,
    client: Option<IpAddr>,
    (kind, to): (&str, &str),
    pass: impl Fn(RateLimitDecision) -> Result<()>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let settings = &app.config.rate_limits;
    let client = LimitSubject::from_address(client);
    let recipient = app.peppers.subject(kind, to);
    if let Some(judged) = app.rate_limits.count(settings, RateLimit::MailClient, client).await {
        pass(judged)?;
    }
    if let Some(judged) = app.rate_limits.count(settings, RateLimit::MailAddress, recipient).await {
        pass(judged)?;
    }
    let mut count = RefundGuard { app: app.clone(), recipient, refunds_on_drop: true };
    let done = work.await;
    count.refunds_on_drop = false;
    if done.is_err() {
        app.rate_limits.give_back(settings, RateLimit::MailAddress, recipient).await;
    }
    done
}

/// A recipient's count. Dropped while it is open, it is given back.
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
                    .give_back(&app.config.rate_limits, RateLimit::MailAddress, recipient)
                    .await;
            });
        }
    }
}

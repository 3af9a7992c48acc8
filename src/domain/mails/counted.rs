//! How often mails are asked for: by one client, and to one recipient, where each kind is counted
//! apart, so that none stands in another's way.

use std::net::IpAddr;

use crate::app::App;
use crate::app::limits::Judged;
use crate::error::Result;
use crate::model::limit::{Limit, Subject};

/// Does what mails somebody, and counts the mail first: for the client that asks, and for its
/// recipient. What fails, or is not waited for to its end, has mailed nobody: the recipient's limit
/// is as it was, or anybody could keep their mail from them.
///
/// # Errors
/// What `pass` says of a limit; those of `work`.
pub async fn counted<T>(
    app: &App,
    client: Option<IpAddr>,
    (kind, to): (&str, &str),
    pass: impl Fn(Judged) -> Result<()>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let settings = &app.config.limits;
    let client = Subject::address(client);
    let recipient = app.peppers.subject(kind, to);
    if let Some(judged) = app.limits.count(settings, Limit::MailClient, client).await {
        pass(judged)?;
    }
    if let Some(judged) = app.limits.count(settings, Limit::MailAddress, recipient).await {
        pass(judged)?;
    }
    let mut count = Count { app: app.clone(), recipient, is_open: true };
    let done = work.await;
    count.is_open = false;
    if done.is_err() {
        app.limits.give_back(settings, Limit::MailAddress, recipient).await;
    }
    done
}

/// A recipient's count. Dropped while it is open, it is given back.
struct Count {
    app: App,
    recipient: Subject,
    is_open: bool,
}

impl Drop for Count {
    fn drop(&mut self) {
        if self.is_open {
            let (app, recipient) = (self.app.clone(), self.recipient);
            tokio::spawn(async move {
                app.limits.give_back(&app.config.limits, Limit::MailAddress, recipient).await;
            });
        }
    }
}

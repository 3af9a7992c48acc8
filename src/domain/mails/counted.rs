//! How often mails are asked for: by one client, and to one recipient, where each kind is counted
//! apart, so that none stands in another's way.

use std::net::IpAddr;

use crate::app::App;
use crate::app::limits::Judged;
use crate::model::limit::{Limit, Subject};

/// Counts a mail of a kind that a client asks for; what the first refusal leaves is not counted.
pub async fn count(
    app: &App,
    client: Option<IpAddr>,
    (kind, to): (&str, &str),
) -> impl Iterator<Item = Judged> {
    let (settings, recipient) = (&app.config.limits, app.peppers.subject(kind, to));
    let client = app.limits.count(settings, Limit::MailClient, Subject::address(client)).await;
    let is_over = client.is_some_and(|judged| judged.verdict.is_refusal());
    let recipient = if is_over {
        None
    } else {
        app.limits.count(settings, Limit::MailAddress, recipient).await
    };
    client.into_iter().chain(recipient)
}

/// Gives the recipient one back: nothing was mailed.
pub async fn give_back(app: &App, (kind, to): (&str, &str)) {
    let recipient = app.peppers.subject(kind, to);
    app.limits.give_back(&app.config.limits, Limit::MailAddress, recipient).await;
}

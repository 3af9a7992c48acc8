//! Whether mail can be sent.

use std::error::Error;

use super::Check;
use crate::app::mailer::{MailDestination, Mailer};

const SUBJECT: &str = "mail";

/// Checks whether the mail server would accept mail, without sending any.
pub(super) async fn check(mailer: &Mailer, has_server: bool) -> Check {
    match mailer.check_connection().await {
        Ok(MailDestination::Smtp) => Check::ok(SUBJECT, "the server of SMTP_URL is at our service"),
        Ok(MailDestination::Folder(folder)) => {
            let text = format!(
                "is written to {}, and none is sent: set SMTP_URL to a mail server",
                folder.display()
            );
            Check::warning(SUBJECT, text)
        }
        Err(error) if !has_server => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "can not be written to the folder mail in DATA_DIR ({why}), so a server does not \
                 start: make it writable, or set SMTP_URL"
            );
            Check::problem(SUBJECT, text)
        }
        Err(error) => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "the server of SMTP_URL does not take our mail ({why}): check its host, port, \
                 password and TLS, and that it can be reached from here"
            );
            Check::problem(SUBJECT, text)
        }
    }
}

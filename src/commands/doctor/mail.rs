//! Checks whether mail can be sent.

use std::error::Error;

use super::Check;
use crate::app::mailer::{MailDestination, Mailer};

const SUBJECT: &str = "mail";

/// Connects to the mail server, and checks whether it accepts mail; without a server, checks
/// whether the folder for mail is writable. Sends no mail. `has_server` states whether `SMTP_URL`
/// is set.
pub(super) async fn check(mailer: &Mailer, has_server: bool) -> Check {
    match mailer.check_connection().await {
        Ok(MailDestination::Smtp) => Check::ok(SUBJECT, "the server in SMTP_URL accepts mail"),
        Ok(MailDestination::Folder(folder)) => {
            let text = format!(
                "is written to files in {} and not sent: set SMTP_URL to a mail server",
                folder.display()
            );
            Check::warning(SUBJECT, text)
        }
        Err(error) if !has_server => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "cannot be written to the folder DATA_DIR/mail ({why}), so the server will not \
                 start: make it writable, or set SMTP_URL"
            );
            Check::problem(SUBJECT, text)
        }
        Err(error) => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "the server in SMTP_URL does not accept mail ({why}): check host, port, password \
                 and TLS, and that this machine can reach it"
            );
            Check::problem(SUBJECT, text)
        }
    }
}

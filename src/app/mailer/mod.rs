//! Sends mail to an SMTP server, or writes it to files if none is configured.
//!
//! Every mail has its own connection. On a pooled connection, the responses to a mail that timed
//! out would be read as those to the next mail, which could count as sent although it was rejected.

mod folder;
mod message;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tokio::time::timeout;

use crate::app::mailer::folder::MailFolder;
pub use crate::app::mailer::message::Mail;
use crate::config::mail::MailSettings;

/// The timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for sending a mail, connecting included. The connection's own timeout applies to
/// connecting only, so without this one a server that stops responding is waited for forever.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends mail.
pub struct Mailer {
    from: Mailbox,
    transport: Transport,
}

enum Transport {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Folder(MailFolder),
}

/// The way in which a mail was delivered.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The SMTP server accepted it.
    Smtp,
    /// It was written to this file.
    File(PathBuf),
}

/// The destination of mail.
#[derive(Debug, PartialEq, Eq)]
pub enum MailDestination {
    /// An SMTP server, which accepted the greeting and the password.
    Smtp,
    /// Files in this folder.
    Folder(PathBuf),
}

/// The reason why a mail was not sent. `Display` states only which of the two it is; the source is
/// the response of the server or the system.
#[derive(Debug)]
pub enum MailError {
    /// A retry cannot succeed: the address is invalid, or the server knows no such recipient.
    Permanent(Box<dyn StdError + Send + Sync>),
    /// A retry may succeed: the server did not respond, failed or reached a limit, or the
    /// configuration is wrong.
    Transient(Box<dyn StdError + Send + Sync>),
}

impl Mailer {
    /// Creates a mailer from the configuration. Connects and writes nothing before the first mail.
    #[must_use]
    pub fn new(settings: &MailSettings, data_dir: &Path) -> Self {
        let transport = match &settings.smtp {
            Some(smtp) => Transport::Smtp(smtp.builder().timeout(Some(CONNECT_TIMEOUT)).build()),
            None => Transport::Folder(MailFolder::within(data_dir)),
        };
        Self { from: settings.from.clone(), transport }
    }

    /// Sends `mail` within 30 seconds. A mail with the same id has the same `Message-ID` or file.
    /// If this is cancelled, the mail may still have been sent.
    ///
    /// # Errors
    /// [`MailError::Permanent`] if a retry cannot succeed, otherwise [`MailError::Transient`].
    /// After a transient error the mail may have been sent: the server's response may have been
    /// lost.
    pub async fn send(&self, mail: &Mail<'_>) -> Result<Delivery, MailError> {
        let message = mail.build_message(&self.from).map_err(MailError::Permanent)?;
        match &self.transport {
            Transport::Smtp(smtp) => match timeout(SEND_TIMEOUT, smtp.send(message)).await {
                Ok(Ok(_)) => Ok(Delivery::Smtp),
                Ok(Err(error)) => Err(classify(error)),
                Err(late) => Err(MailError::Transient(late.into())),
            },
            Transport::Folder(folder) => match folder.store(mail.id, message.formatted()).await {
                Ok(path) => Ok(Delivery::File(path)),
                Err(error) => Err(MailError::Transient(error.into())),
            },
        }
    }
}

impl Mailer {
    /// Checks that mail can be written, if it is written to files. An SMTP server is not checked,
    /// because it may be unavailable only for a while.
    ///
    /// # Errors
    /// The folder, and the reason why it is not writable.
    pub async fn check_writable(&self) -> Result<(), (PathBuf, io::Error)> {
        match &self.transport {
            Transport::Smtp(_) => Ok(()),
            Transport::Folder(folder) => {
                folder.check_writable().await.map_err(|error| (folder.path().to_owned(), error))
            }
        }
    }

    /// Checks whether mail can be sent now, without sending any. Returns its destination.
    ///
    /// # Errors
    /// [`MailError::Transient`] if the server does not respond as expected, or the folder is not
    /// writable.
    pub async fn check_connection(&self) -> Result<MailDestination, MailError> {
        match &self.transport {
            Transport::Smtp(smtp) => match timeout(CONNECT_TIMEOUT, smtp.test_connection()).await {
                Ok(Ok(true)) => Ok(MailDestination::Smtp),
                Ok(Ok(false)) => {
                    Err(MailError::Transient("the server closed the connection".into()))
                }
                Ok(Err(error)) => Err(MailError::Transient(error.into())),
                Err(late) => Err(MailError::Transient(late.into())),
            },
            Transport::Folder(folder) => match folder.check_access() {
                Ok(()) => Ok(MailDestination::Folder(folder.path().to_owned())),
                Err(error) => Err(MailError::Transient(error.into())),
            },
        }
    }
}

/// Classifies a failure. Only an address that cannot receive mail is permanent. A limit, a block,
/// the password or the sender's address may be corrected.
fn classify(error: SmtpError) -> MailError {
    // The address is not ASCII, and the server does not support such addresses.
    let is_unsupported = error.is_client() && error.to_string().contains("SMTPUTF8");
    let response = error.source().map(ToString::to_string).unwrap_or_default();
    if is_unsupported || (error.is_permanent() && is_about_recipient(&response)) {
        MailError::Permanent(error.into())
    } else {
        MailError::Transient(error.into())
    }
}

/// Returns whether the enhanced status code of a rejection (RFC 3463 §3.2, RFC 7505 §4.2) concerns
/// the recipient's address. 5.1.7 and 5.1.8 concern the sender's address, 5.1.0 may concern either.
fn is_about_recipient(response: &str) -> bool {
    const RECIPIENT_CODES: [&str; 7] =
        ["5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.5", "5.1.6", "5.1.10"];
    response.split_whitespace().next().is_some_and(|code| RECIPIENT_CODES.contains(&code))
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent(_) => "the mail was permanently rejected",
            Self::Transient(_) => "the mail was not sent; a retry may succeed",
        })
    }
}

impl StdError for MailError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let (Self::Permanent(source) | Self::Transient(source)) = self;
        Some(source.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use uuid::Uuid;

    use super::*;
    use crate::config::mail::SmtpSettings;

    const BODY: &str = "Open https://auth.example.com/verify?token=s3cret now";

    fn mailer(smtp_url: Option<&str>, data_dir: &Path) -> Mailer {
        let public_url = "https://auth.example.com/".parse().expect("a URL");
        let smtp = smtp_url.map(|url| SmtpSettings::parse(url, &public_url).expect("a URL"));
        let from = "Tenantry <no-reply@example.com>".parse().expect("a mailbox");
        let settings = MailSettings { smtp, from };
        Mailer::new(&settings, data_dir)
    }

    fn mail(to: &str) -> Mail<'_> {
        let written_at = SystemTime::UNIX_EPOCH;
        Mail { id: Uuid::nil(), written_at, to, subject: "Hello", text: BODY, html: BODY }
    }

    /// Returns the URL of a server that accepts every command except `command`, to which it sends
    /// `response`.
    async fn server((command, response): (&'static str, &'static str)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("a client");
            let mut socket = BufReader::new(socket);
            socket.write_all(b"220 test\r\n").await.expect("a connection");
            let mut line = String::new();
            while socket.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                let response = match &line {
                    it if it.starts_with(command) => response,
                    it if it.starts_with("EHLO") => "250-test\r\n250 AUTH PLAIN",
                    _ => "250 yes",
                };
                let _ = socket.write_all(format!("{response}\r\n").as_bytes()).await;
                line.clear();
            }
        });
        format!("smtp://user:password@127.0.0.1:{port}")
    }

    /// Sends a mail and returns the error, which must not contain the token of the link.
    async fn send_error(smtp_url: &str, to: &str) -> MailError {
        let mailer = mailer(Some(smtp_url), Path::new("/nowhere"));
        let error = mailer.send(&mail(to)).await.expect_err("an error");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(error.source().is_some());
        error
    }

    #[tokio::test]
    async fn only_a_rejection_of_the_recipient_s_address_is_permanent() {
        for response in
            ["550 5.1.1 no such user", "556 5.1.10 null MX", "550-5.1.1 no\r\n550 5.1.1 x"]
        {
            let url = server(("RCPT", response)).await;
            let error = send_error(&url, "a@example.com").await;
            assert!(matches!(error, MailError::Permanent(_)), "{response}");
        }
        for (command, response) in [
            ("RCPT", "450 4.2.1 come back later"),
            ("RCPT", "550 blocked by policy"),
            ("RCPT", "550 5.4.5 Daily sending limit exceeded"),
            ("RCPT", "550 5.7.1 relaying denied"),
            ("RCPT", "552 5.2.2 mailbox full"),
            ("MAIL", "550 5.1.8 bad sender"),
            ("MAIL", "550 5.1.0 address rejected"),
            ("DATA", "550 5.4.5 Daily sending limit exceeded"),
            ("DATA", "554 5.7.1 looks like spam"),
        ] {
            let url = server((command, response)).await;
            let error = send_error(&url, "a@example.com").await;
            assert!(matches!(error, MailError::Transient(_)), "{command} {response}");
        }
    }

    #[tokio::test]
    async fn a_rejected_smtp_password_is_transient() {
        let url = server(("AUTH", "535 wrong password")).await;
        assert!(matches!(send_error(&url, "a@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test]
    async fn an_address_that_is_not_ascii_is_permanent_if_the_server_does_not_support_it() {
        let url = server(("EHLO", "250-test\r\n250 AUTH PLAIN")).await;
        assert!(matches!(send_error(&url, "pelé@example.com").await, MailError::Permanent(_)));
    }

    #[tokio::test]
    async fn an_unreachable_server_is_transient() {
        let url = "smtp://127.0.0.1:1";
        assert!(matches!(send_error(url, "a@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn sending_to_a_server_that_does_not_respond_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("smtp://{}", listener.local_addr().expect("bound"));
        let start = tokio::time::Instant::now();
        assert!(matches!(send_error(&url, "a@example.com").await, MailError::Transient(_)));
        assert!(start.elapsed() <= SEND_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_server_without_authentication_is_transient_even_for_an_address_that_is_not_ascii() {
        let url = server(("EHLO", "250 no way to sign in")).await;
        assert!(matches!(send_error(&url, "pelé@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test]
    async fn the_password_is_not_sent_to_a_server_without_required_tls() {
        let url = server(("AUTH", "550 5.1.1 saw the password")).await + "?tls=required";
        assert!(matches!(send_error(&url, "a@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test]
    async fn without_a_server_the_mail_is_written_to_a_file_with_the_link_as_plain_text() {
        let dir = tempfile::tempdir().expect("a folder");
        let sent = mailer(None, dir.path()).send(&mail("a@example.com")).await.expect("a delivery");
        let Delivery::File(path) = sent else { panic!("not a file") };
        let text = std::fs::read_to_string(path).expect("a file");
        assert_eq!(text.matches(BODY).count(), 2, "the link is not encoded");
    }
}

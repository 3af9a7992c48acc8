//! Sends mail: to an SMTP server, or to files where none is configured.
//!
//! Every mail has a connection of its own. On a pooled one, a mail that was given up half-way
//! leaves its answers to the next, which then counts as sent where it was refused.

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

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a mail may take from the first packet to the last: the connection has no other limit.
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

/// Where a mail went.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The SMTP server accepted it.
    Smtp,
    /// It is in this file.
    File(PathBuf),
}

/// Where mail would go.
#[derive(Debug, PartialEq, Eq)]
pub enum MailDestination {
    /// To an SMTP server, which accepted the greeting and the password.
    Smtp,
    /// To files in this folder.
    Folder(PathBuf),
}

/// Why a mail was not sent. `Display` only says which of the two it is; the source is the response
/// of the server or the system.
#[derive(Debug)]
pub enum MailError {
    /// It never will be: its address is none, or the server knows no such recipient.
    Permanent(Box<dyn StdError + Send + Sync>),
    /// It may be sent later: no answer, a failure, a limit of the server, or a wrong configuration
    /// of this one.
    Transient(Box<dyn StdError + Send + Sync>),
}

impl Mailer {
    /// A mailer as configured. Nothing is connected, made or written before it is needed.
    #[must_use]
    pub fn new(settings: &MailSettings, data_dir: &Path) -> Self {
        let way = match &settings.smtp {
            Some(smtp) => Transport::Smtp(smtp.builder().timeout(Some(CONNECT_TIMEOUT)).build()),
            None => Transport::Folder(MailFolder::within(data_dir)),
        };
        Self { from: settings.from.clone(), transport: way }
    }

    /// Sends `mail` and answers within half a minute; the same mail sent again has the same
    /// `Message-ID` or file. Dropped half-way, it leaves nothing behind but perhaps the mail.
    ///
    /// # Errors
    /// [`MailError::Permanent`] where another try is no use, [`MailError::Transient`] where it may
    /// be. After the latter the mail may have been sent all the same: its answer may be what broke.
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
    /// Fails where mail would go to files that cannot be written. A mail server may come back.
    ///
    /// # Errors
    /// The folder, and the file system's own words.
    pub async fn check_writable(&self) -> Result<(), (PathBuf, io::Error)> {
        match &self.transport {
            Transport::Smtp(_) => Ok(()),
            Transport::Folder(folder) => {
                folder.check_writable().await.map_err(|error| (folder.path().to_owned(), error))
            }
        }
    }

    /// Looks whether mail could be sent now, without sending any.
    ///
    /// # Errors
    /// [`MailError::Transient`] where the server does not answer, or not as it should.
    pub async fn check_connection(&self) -> Result<MailDestination, MailError> {
        match &self.transport {
            Transport::Smtp(smtp) => match timeout(CONNECT_TIMEOUT, smtp.test_connection()).await {
                Ok(Ok(true)) => Ok(MailDestination::Smtp),
                Ok(Ok(false)) => Err(MailError::Transient("it hung up".into())),
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

/// Distinguishes a recipient that cannot be mailed from everything that may be corrected: a limit,
/// a block, the password, the sender's address.
fn classify(error: SmtpError) -> MailError {
    // The address is not ASCII, and the server accepts no such addresses.
    let is_untakable = error.is_client() && error.to_string().contains("SMTPUTF8");
    let words = error.source().map(ToString::to_string).unwrap_or_default();
    if is_untakable || (error.is_permanent() && is_about_recipient(&words)) {
        MailError::Permanent(error.into())
    } else {
        MailError::Transient(error.into())
    }
}

/// Whether a refusal's enhanced status code (RFC 3463 §3.2, RFC 7505 §4.2) is one of the
/// destination address. 5.1.7 and 5.1.8 are about the sender's, 5.1.0 may be about either.
fn is_about_recipient(words: &str) -> bool {
    const OF_DESTINATION: [&str; 7] =
        ["5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.5", "5.1.6", "5.1.10"];
    words.split_whitespace().next().is_some_and(|code| OF_DESTINATION.contains(&code))
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent(_) => "the mail was refused for good",
            Self::Transient(_) => "the mail could not be sent for now",
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

    /// Returns the URL of a server that accepts everything except the command in `no`.
    async fn server(no: (&'static str, &'static str)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("a caller");
            let mut socket = BufReader::new(socket);
            socket.write_all(b"220 test\r\n").await.expect("greeted");
            let mut line = String::new();
            while socket.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                let answer = match &line {
                    it if it.starts_with(no.0) => no.1,
                    it if it.starts_with("EHLO") => "250-test\r\n250 AUTH PLAIN",
                    _ => "250 yes",
                };
                let _ = socket.write_all(format!("{answer}\r\n").as_bytes()).await;
                line.clear();
            }
        });
        format!("smtp://user:password@127.0.0.1:{port}")
    }

    async fn refusal(smtp_url: &str, to: &str) -> MailError {
        let mailer = mailer(Some(smtp_url), Path::new("/nowhere"));
        let error = mailer.send(&mail(to)).await.expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(error.source().is_some());
        error
    }

    #[tokio::test]
    async fn only_a_refusal_of_the_recipient_s_address_is_permanent() {
        for words in ["550 5.1.1 no such user", "556 5.1.10 null MX", "550-5.1.1 no\r\n550 5.1.1 x"]
        {
            let url = server(("RCPT", words)).await;
            let refusal = refusal(&url, "a@example.com").await;
            assert!(matches!(refusal, MailError::Permanent(_)), "{words}");
        }
        for (command, words) in [
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
            let url = server((command, words)).await;
            let refusal = refusal(&url, "a@example.com").await;
            assert!(matches!(refusal, MailError::Transient(_)), "{command} {words}");
        }
    }

    #[tokio::test]
    async fn a_wrong_password_of_ours_condemns_no_mail() {
        let url = server(("AUTH", "535 wrong password")).await;
        assert!(matches!(refusal(&url, "a@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test]
    async fn an_address_the_server_can_not_take_is_permanent() {
        let url = server(("EHLO", "250-test\r\n250 AUTH PLAIN")).await;
        assert!(matches!(refusal(&url, "pelé@example.com").await, MailError::Permanent(_)));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_transient() {
        let url = "smtp://127.0.0.1:1";
        assert!(matches!(refusal(url, "a@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up_after_half_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("smtp://{}", listener.local_addr().expect("bound"));
        let start = tokio::time::Instant::now();
        assert!(matches!(refusal(&url, "a@example.com").await, MailError::Transient(_)));
        assert!(start.elapsed() <= SEND_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_server_that_we_may_not_use_condemns_no_address() {
        let url = server(("EHLO", "250 no way to sign in")).await;
        assert!(matches!(refusal(&url, "pelé@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test]
    async fn no_password_goes_to_a_server_that_lacks_the_tls_we_ask_for() {
        let url = server(("AUTH", "550 saw the password")).await + "?tls=required";
        assert!(matches!(refusal(&url, "a@example.com").await, MailError::Transient(_)));
    }

    #[tokio::test]
    async fn without_a_server_the_mail_is_in_a_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let sent = mailer(None, dir.path()).send(&mail("a@example.com")).await.expect("sent");
        let Delivery::File(path) = sent else { panic!("not a file") };
        let text = std::fs::read_to_string(path).expect("there");
        assert_eq!(text.matches(BODY).count(), 2, "the link is there to be copied");
    }
}

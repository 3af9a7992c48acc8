//! The mail settings: the SMTP server and the sender.
//!
//! `SMTP_URL` contains a password. It is parsed into a transport builder here, and its text is
//! neither stored nor included in messages, even if it is invalid.

use lettre::message::Mailbox;
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, Tokio1Executor};
use url::{Host, Url};

use crate::config::env::Env;
use crate::model::ValidationError;

/// The mail settings.
pub struct MailSettings {
    /// The SMTP server that mail is sent through; `None` writes mail to files.
    pub smtp: Option<SmtpSettings>,
    /// The sender of every mail.
    pub from: Mailbox,
}

/// The SMTP server and the credentials for it. It does not implement `Debug`, so that it cannot be
/// printed.
pub struct SmtpSettings(AsyncSmtpTransportBuilder);

impl MailSettings {
    pub(super) fn read(env: &mut Env<'_>, public_url: &Url) -> Self {
        let smtp = env.optional("SMTP_URL", |text| SmtpSettings::parse(text, public_url));
        let from = env.optional("MAIL_FROM", parse_from);
        if env.is_set("SMTP_URL") && !env.is_set("MAIL_FROM") {
            env.add_problem("MAIL_FROM", "must be set when SMTP_URL is set");
        }
        if env.is_set("SMTP_URL") && !env.is_set("PUBLIC_URL") {
            env.add_problem(
                "PUBLIC_URL",
                "must be set when SMTP_URL is set, because links in mail point to it",
            );
        }
        Self { smtp, from: from.unwrap_or_else(default_sender) }
    }
}

impl SmtpSettings {
    /// Parses an `SMTP_URL`. If its path has no name for the SMTP greeting (`EHLO`), the name is
    /// the host of `public_url`.
    ///
    /// # Errors
    /// The URL is invalid or ambiguous. The message does not contain it.
    pub fn parse(text: &str, public_url: &Url) -> Result<Self, ValidationError> {
        let message = "must be smtps://user:password@host:port, or smtp:// with ?tls=required or \
                       without TLS, with user and password percent-encoded or omitted";
        let url = Url::parse(text).ok().filter(is_unambiguous).ok_or(message)?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(text).map_err(|_| message)?;
        if url.path().trim_matches('/').is_empty() {
            return Ok(Self(builder.hello_name(hello_name(public_url))));
        }
        Ok(Self(builder))
    }

    /// Returns a builder of transports. Nothing is connected yet.
    #[must_use]
    pub fn builder(&self) -> AsyncSmtpTransportBuilder {
        self.0.clone()
    }
}

/// Returns whether the URL has only parts that the transport uses. With a misspelt `tls` the
/// password would be sent unencrypted, and with a user but no password there would be no
/// authentication. `tls` is also accepted with `smtps`, which is always encrypted and ignores it.
fn is_unambiguous(url: &Url) -> bool {
    url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty() == url.password().is_none_or(str::is_empty)
        && url.query_pairs().all(|(name, _)| name == "tls")
        && url.query_pairs().count() <= 1
        && url.fragment().is_none()
}

fn hello_name(public_url: &Url) -> ClientId {
    match public_url.host() {
        Some(Host::Domain(name)) => ClientId::Domain(name.to_owned()),
        Some(Host::Ipv4(address)) => ClientId::Ipv4(address),
        Some(Host::Ipv6(address)) => ClientId::Ipv6(address),
        None => ClientId::default(),
    }
}

fn parse_from(text: &str) -> Result<Mailbox, ValidationError> {
    let is_plain = !text.contains(char::is_control);
    let from: Option<Mailbox> = text.parse().ok().filter(|_| is_plain);
    let from = from.filter(|it| AsRef::<str>::as_ref(&it.email).is_ascii());
    from.ok_or("must be a mailbox, such as Tenantry <no-reply@example.com>".into())
}

fn default_sender() -> Mailbox {
    let address = Address::new("no-reply", "localhost").unwrap_or_else(|_| unreachable!());
    Mailbox::new(Some("Tenantry".to_owned()), address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    fn read(variables: &[(&str, &str)]) -> Result<MailSettings, ConfigError> {
        let find = |name: &str| {
            if name == "PUBLIC_URL" {
                return Some("https://auth.example.com".to_owned());
            }
            let variable = variables.iter().find(|(other, _)| *other == name);
            variable.map(|(_, text)| (*text).to_owned())
        };
        let mut env = Env::from_source(find);
        let public_url = Url::parse("https://auth.example.com/").expect("a URL");
        let settings = MailSettings::read(&mut env, &public_url);
        env.check_problems().map(|()| settings)
    }

    fn problems(variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        read(variables).err().expect("problems").0
    }

    #[test]
    fn without_settings_mail_goes_to_files() {
        let settings = read(&[]).expect("settings");
        assert!(settings.smtp.is_none());
        assert_eq!(settings.from.to_string(), "Tenantry <no-reply@localhost>");
    }

    #[test]
    fn every_form_of_the_url_is_accepted() {
        for url in [
            "smtp://localhost:2525",
            "smtp://127.0.0.1",
            "smtps://user:p%40ss@mail.example.com:465",
            "smtp://user:pass@mail.example.com?tls=required",
            "smtp://mail.example.com/our.name?tls=opportunistic",
        ] {
            let from = ("MAIL_FROM", "Ünï <no-reply@example.com>");
            let settings = read(&[("SMTP_URL", url), from]).expect(url);
            assert!(settings.smtp.is_some(), "{url}");
            assert_eq!(settings.from.name.as_deref(), Some("Ünï"));
        }
    }

    #[test]
    fn the_smtp_greeting_is_the_public_host_unless_the_path_names_another() {
        let public_url = Url::parse("https://auth.example.com/").expect("a URL");
        let hello = |text| {
            let settings = SmtpSettings::parse(text, &public_url).expect("settings");
            format!("{:?}", settings.builder())
        };
        assert!(hello("smtp://mail:25").contains("auth.example.com"));
        assert!(hello("smtp://mail:25/").contains("auth.example.com"));
        let named = hello("smtp://mail:25/our.name");
        assert!(named.contains("our.name") && !named.contains("auth.example.com"));
    }

    #[test]
    fn an_invalid_url_is_rejected_and_the_message_does_not_contain_it() {
        for url in [
            "hunter2",
            "https://user:hunter2@mail.example.com",
            "smtp://user:hunter2@",
            "smtp://user:hunter2@mail.example.com:hunter2",
            "smtp://user:hunter2@mail.example.com?tls=hunter2",
            "smtp://user:hunter2@mail.example.com?tsl=required",
            "smtp://user:hunter2@mail.example.com?tls=required&tls=hunter2",
            "smtp://user:hunter2%ff@mail.example.com",
            "smtp://user:hunter2@mail.example.com#hunter2",
            "smtp://hunter2@mail.example.com",
            "smtp://:hunter2@mail.example.com",
        ] {
            let problems = problems(&[("SMTP_URL", url), ("MAIL_FROM", "a@example.com")]);
            assert_eq!(problems.len(), 1, "{url}");
            assert_eq!(problems[0].0, "SMTP_URL");
            assert!(!problems[0].1.contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn a_server_needs_a_sender() {
        let problems = problems(&[("SMTP_URL", "smtp://localhost:2525")]);
        assert_eq!(problems, [("MAIL_FROM", "must be set when SMTP_URL is set".to_owned())]);
    }

    #[test]
    fn a_sender_that_could_break_a_header_is_rejected() {
        for from in [
            "nobody",
            "Tenantry <nobody>",
            "Tenantry\r\nBcc: x@example.com <a@example.com>",
            "Tenantry\u{7} <a@example.com>",
            "a@example.com, b@example.com",
            "pelé@example.com",
        ] {
            let problems = problems(&[("MAIL_FROM", from)]);
            assert_eq!(problems[0].0, "MAIL_FROM", "{from}");
        }
    }
}

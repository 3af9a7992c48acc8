//! How mail is sent, and as whom.
//!
//! `SMTP_URL` holds a password: it is read into a connection's recipe here, and its text is
//! neither kept nor repeated, not even where it is wrong.

use lettre::message::Mailbox;
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, Tokio1Executor};
use url::{Host, Url};

use crate::config::env::Env;
use crate::model::ValidationError;

/// How mail is sent, and as whom.
pub struct MailSettings {
    /// The server that takes our mail; `None` writes it to files.
    pub smtp: Option<SmtpSettings>,
    /// Who every mail is from.
    pub from: Mailbox,
}

/// The server that takes our mail and what we show it. It can not be printed.
pub struct SmtpSettings(AsyncSmtpTransportBuilder);

impl MailSettings {
    pub(super) fn read(env: &mut Env<'_>, public_url: &Url) -> Self {
        let smtp = env.optional("SMTP_URL", |text| SmtpSettings::parse(text, public_url));
        let from = env.optional("MAIL_FROM", parse_from);
        if env.is_set("SMTP_URL") && !env.is_set("MAIL_FROM") {
            env.add_problem("MAIL_FROM", "must be set when SMTP_URL is");
        }
        if env.is_set("SMTP_URL") && !env.is_set("PUBLIC_URL") {
            env.add_problem(
                "PUBLIC_URL",
                "must be set when SMTP_URL is: links in mails lead there",
            );
        }
        Self { smtp, from: from.unwrap_or_else(default_sender) }
    }
}

impl SmtpSettings {
    /// Reads an `SMTP_URL`. Without a name in its path, we greet the server as `public_url`'s host.
    ///
    /// # Errors
    /// Where the URL is wrong or unclear, in words that do not repeat it.
    pub fn parse(text: &str, public_url: &Url) -> Result<Self, ValidationError> {
        let wrong = "must be smtps://user:password@host:port, or smtp:// with ?tls=required or \
                     without TLS; user and password percent-encoded, or left out";
        let url = Url::parse(text).ok().filter(is_unambiguous).ok_or(wrong)?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(text).map_err(|_| wrong)?;
        if url.path().trim_matches('/').is_empty() {
            return Ok(Self(builder.hello_name(hello_name(public_url))));
        }
        Ok(Self(builder))
    }

    /// A recipe for connections. Nothing is connected yet.
    #[must_use]
    pub fn builder(&self) -> AsyncSmtpTransportBuilder {
        self.0.clone()
    }
}

/// Whether nothing in the URL would be passed over in silence: a misspelt `tls` must not turn into
/// a password sent in the clear, nor a lone user into no sign-in at all.
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
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
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
        let settings = read(&[]).expect("good");
        assert!(settings.smtp.is_none());
        assert_eq!(settings.from.to_string(), "Tenantry <no-reply@localhost>");
    }

    #[test]
    fn every_way_to_a_server_is_taken() {
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
    fn we_greet_as_our_public_host_unless_told_otherwise() {
        let public_url = Url::parse("https://auth.example.com/").expect("a URL");
        let hello = |text| {
            let settings = SmtpSettings::parse(text, &public_url).expect("good");
            format!("{:?}", settings.builder())
        };
        assert!(hello("smtp://mail:25").contains("auth.example.com"));
        assert!(hello("smtp://mail:25/").contains("auth.example.com"));
        let told = hello("smtp://mail:25/our.name");
        assert!(told.contains("our.name") && !told.contains("auth.example.com"));
    }

    #[test]
    fn a_wrong_server_is_refused_without_repeating_it() {
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
            let found = problems(&[("SMTP_URL", url), ("MAIL_FROM", "a@example.com")]);
            assert_eq!(found.len(), 1, "{url}");
            assert_eq!(found[0].0, "SMTP_URL");
            assert!(!found[0].1.contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn a_server_needs_a_sender() {
        let found = problems(&[("SMTP_URL", "smtp://localhost:2525")]);
        assert_eq!(found, [("MAIL_FROM", "must be set when SMTP_URL is".to_owned())]);
    }

    #[test]
    fn a_sender_that_could_break_a_header_is_refused() {
        for from in [
            "nobody",
            "Tenantry <nobody>",
            "Tenantry\r\nBcc: x@example.com <a@example.com>",
            "Tenantry\u{7} <a@example.com>",
            "a@example.com, b@example.com",
            "pelé@example.com",
        ] {
            let found = problems(&[("MAIL_FROM", from)]);
            assert_eq!(found[0].0, "MAIL_FROM", "{from}");
        }
    }
}

//! The texts of mails.
//!
//! They never contain text from a caller, not even a name, except the URL of a report that GitHub
//! signed, and a domain that an organization proved, for its owners. Otherwise a stranger could
//! sign up with another person's address and have the product send any text to it.

use askama::Template;
use chrono::{DateTime, Utc};
use url::Url;

use crate::model::leak::{LeakAction, LeakNotice, LeakSource};
use crate::model::mail::SecurityNotice;

/// The content of a mail. It has no `Debug`, because its link may give access to an account.
#[derive(Clone, Copy)]
pub enum Message<'a> {
    /// Asks to confirm an address that was used to sign up.
    VerifyEmail {
        /// Leads to a button that confirms the address. It works once, within 24 hours.
        link: &'a Url,
    },
    /// Offers to set a new password.
    ResetPassword {
        /// Leads to the form for a new password. It works once, within 1 hour.
        link: &'a Url,
    },
    /// Asks to accept an invitation to an organization.
    Invite {
        /// Leads to a button that accepts for the signed-in account. It works once, within 7 days.
        link: &'a Url,
    },
    /// Asks the buyer of an organization to claim its first key.
    ClaimKey {
        /// Leads to a button that shows the key. It works once, within 7 days.
        link: &'a Url,
    },
    /// States that the address already has an account, and that nothing changed.
    AlreadyRegistered,
    /// Reports a security event to the owner of the account.
    Notice {
        /// The event.
        notice: SecurityNotice,
        /// The time of the event.
        at: DateTime<Utc>,
    },
    /// States that a key or a personal access token leaked, and what was done and is to be done.
    KeyLeaked {
        /// The key, where it was seen, and what was done.
        notice: &'a LeakNotice,
        /// The time of the report.
        at: DateTime<Utc>,
    },
    /// States that an app was granted access to an organization for the first time.
    AppGranted {
        /// The public id of the organization.
        organization: &'a str,
        /// The time of the grant.
        at: DateTime<Utc>,
    },
    /// States that the DNS record of a verified domain is absent, or that the domain is lost.
    Domain {
        /// The public id of the organization.
        organization: &'a str,
        /// The domain, as A-labels.
        domain: &'a str,
        /// Whether the domain is lost.
        is_lost: bool,
        /// The time of the check.
        at: DateTime<Utc>,
    },
    /// States to a buyer that the checkout could not be fulfilled, and that nothing changed.
    CheckoutUnfulfilled,
}

/// The plain text of a message.
#[derive(Template)]
#[template(path = "mail/mail.txt", config = "src/web/askama.toml")]
struct Text<'a> {
    message: &'a Message<'a>,
}

/// The HTML of a message.
#[derive(Template)]
#[template(path = "mail/mail.html", config = "src/web/askama.toml")]
struct Html<'a> {
    message: &'a Message<'a>,
}

const TIME_FORMAT: &str = "%Y-%m-%d %H:%M UTC";

impl Message<'_> {
    /// Returns the subject.
    #[must_use]
    pub fn subject(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "Confirm your email address",
            Self::ResetPassword { .. } => "Reset your password",
            Self::Invite { .. } => "You are invited to an organization",
            Self::ClaimKey { .. } => "Your API key is ready",
            Self::AlreadyRegistered => "You already have an account",
            Self::Notice { notice, .. } => match notice {
                SecurityNotice::NewSignIn => "Security notice: new sign-in",
                SecurityNotice::PasswordChanged => "Security notice: password changed",
                SecurityNotice::TokenCreated => "Security notice: new personal access token",
                SecurityNotice::NoticesDisabled => "Security notice: these mails are off",
            },
            Self::KeyLeaked { notice, .. } if notice.is_key() => "An API key of yours has leaked",
            Self::KeyLeaked { .. } => "A personal access token has leaked",
            Self::AppGranted { .. } => "Security notice: an app has access to your organization",
            Self::Domain { is_lost: false, .. } => {
                "Single sign-on: the DNS record of a domain is missing"
            }
            Self::Domain { is_lost: true, .. } => "Single sign-on: a domain is no longer verified",
            Self::CheckoutUnfulfilled => "Your payment could not be matched to an organization",
        }
    }

    /// Renders the plain text.
    pub fn text(&self) -> askama::Result<String> {
        Text { message: self }.render()
    }

    /// Renders the HTML.
    pub fn html(&self) -> askama::Result<String> {
        Html { message: self }.render()
    }

    /// Returns where a leaked key was seen; the URL follows if there is one.
    fn place_of(notice: &LeakNotice) -> &'static str {
        match (notice.source, &notice.url) {
            (LeakSource::Github, Some(_)) => "GitHub found it in public:",
            (LeakSource::Github, None) => "GitHub found it in public.",
            (LeakSource::Anyone, _) => {
                "Someone who has its text reported it. The event KEY_LEAKED in the audit\n\
                 log shows where it was seen, if the report says so. Anyone can write\n\
                 anything there, so do not sign in on that page."
            }
        }
    }

    /// Returns what was done with a leaked key.
    fn action_on(notice: &LeakNotice) -> &'static str {
        match notice.action {
            LeakAction::Nothing => "Nothing was done: it still works for anyone who has its text.",
            LeakAction::Disabled => {
                "It was disabled: every request with it is rejected. If it did not leak,\n\
                 enable it again in the settings of your keys."
            }
            LeakAction::AlreadyDisabled => "It was disabled before, and stays disabled.",
            LeakAction::Revoked => {
                "It was revoked: every request with it is rejected, and it cannot be used\n\
                 again."
            }
        }
    }

    /// Returns the beginning of a notice's first sentence; the time follows.
    fn event_of(notice: SecurityNotice) -> &'static str {
        match notice {
            SecurityNotice::NewSignIn => "Your account was signed in to from a new place",
            SecurityNotice::PasswordChanged => "The password of your account was changed",
            SecurityNotice::TokenCreated => "A personal access token of your account was created",
            SecurityNotice::NoticesDisabled => {
                "Mails like this one were turned off for your account"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verification::CredentialKind;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn text(message: &Message<'_>) -> String {
        message.text().expect("a text")
    }

    fn html(message: &Message<'_>) -> String {
        message.html().expect("HTML")
    }

    fn messages_with_links(link: &Url) -> [Message<'_>; 4] {
        [
            Message::VerifyEmail { link },
            Message::ResetPassword { link },
            Message::Invite { link },
            Message::ClaimKey { link },
        ]
    }

    /// Returns the text with each run of white space replaced by one space.
    fn collapse_whitespace(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_message_with_a_link_shows_it_in_text_and_in_html() {
        let link = url("https://auth.example.com/verify?token=abc&next=d");
        for message in messages_with_links(&link) {
            assert!(text(&message).lines().any(|line| line == link.as_str()));
            let escaped = "https://auth.example.com/verify?token=abc&#38;next=d";
            assert!(html(&message).contains(&format!("href=\"{escaped}\"")));
            assert!(html(&message).contains(&format!(">{escaped}</a>")));
            assert!(!text(&message).contains(['{', '}']) && !html(&message).contains(['{', '}']));
        }
    }

    #[test]
    fn a_link_cannot_break_out_of_the_html() {
        let link = url("https://auth.example.com/?a=1#'\"><script>alert('x')</script>");
        for message in messages_with_links(&link) {
            assert!(!html(&message).contains("<script") && !html(&message).contains("alert('"));
        }
    }

    #[test]
    fn messages_state_how_long_their_link_works_and_that_they_may_be_ignored() {
        let link = url("https://auth.example.com/");
        let assert_contains = |message: Message<'_>, phrase: &str| {
            for words in
                [collapse_whitespace(&text(&message)), collapse_whitespace(&html(&message))]
            {
                assert!(words.contains(phrase), "{phrase}");
                assert!(words.contains("ignore this mail"));
            }
        };
        assert_contains(Message::VerifyEmail { link: &link }, "works once, within 24 hours");
        assert_contains(Message::ResetPassword { link: &link }, "works once, within 1 hour");
        assert_contains(Message::Invite { link: &link }, "works once, within 7 days");
        assert_contains(Message::ClaimKey { link: &link }, "works once, within 7 days");
        assert_contains(Message::AlreadyRegistered, "request a password reset");
        assert_contains(Message::CheckoutUnfulfilled, "nothing has been changed or delivered");
    }

    #[test]
    fn messages_with_links_are_ascii_with_short_lines_and_load_nothing() {
        let link = url("https://auth.example.com/");
        for message in messages_with_links(&link) {
            assert!(text(&message).is_ascii() && html(&message).is_ascii());
            assert!(text(&message).lines().all(|line| line.len() <= 76));
            for loads in ["<img", "src=", "url(", "<link", "<style", "<script"] {
                assert!(!html(&message).contains(loads), "{loads}");
            }
        }
    }

    #[test]
    fn a_notice_states_the_event_its_time_and_how_to_turn_notices_off() {
        let at = "2036-05-08T09:56:42Z".parse().expect("a time");
        for (notice, what) in [
            (SecurityNotice::NewSignIn, "Your account was signed in to from a new place, at"),
            (SecurityNotice::PasswordChanged, "The password of your account was changed, at"),
            (
                SecurityNotice::TokenCreated,
                "A personal access token of your account was created, at",
            ),
            (
                SecurityNotice::NoticesDisabled,
                "Mails like this one were turned off for your account, at",
            ),
        ] {
            let message = Message::Notice { notice, at };
            for words in
                [collapse_whitespace(&text(&message)), collapse_whitespace(&html(&message))]
            {
                assert!(words.contains(&format!("{what} 2036-05-08 09:56 UTC.")), "{words}");
                assert!(words.contains("turn these mails off") && !words.contains('{'));
            }
        }
    }

    #[test]
    fn a_mail_about_an_app_names_the_organization_the_time_and_where_to_look() {
        let at = "2036-05-08T09:56:42Z".parse().expect("a time");
        let message = Message::AppGranted { organization: "org_79d0fHwDRh", at };
        assert!(text(&message).is_ascii() && text(&message).lines().all(|line| line.len() <= 76));
        for words in [collapse_whitespace(&text(&message)), collapse_whitespace(&html(&message))] {
            for phrase in ["org_79d0fHwDRh", "2036-05-08 09:56 UTC", "revoke", "app policy"] {
                assert!(words.contains(phrase), "{phrase}: {words}");
            }
            assert!(!words.contains('{'), "{words}");
        }
    }

    #[test]
    fn a_mail_about_a_domain_names_it_its_record_the_time_and_what_to_do() {
        let at = "2036-05-08T09:56:42Z".parse().expect("a time");
        let organization = "org_79d0fHwDRh";
        for (is_lost, what) in [(false, "within 7 days"), (true, "verify it again")] {
            let message = Message::Domain { organization, domain: "acme.example", is_lost, at };
            let (text, html) = (text(&message), html(&message));
            assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 76), "{text}");
            for words in [collapse_whitespace(&text), collapse_whitespace(&html)] {
                let record = "_tenantry-verification.acme.example";
                for phrase in [organization, record, "2036-05-08 09:56 UTC", what] {
                    assert!(words.contains(phrase), "{phrase}: {words}");
                }
                assert!(!words.contains('{'), "{words}");
            }
        }
    }

    #[test]
    fn a_mail_about_a_leaked_key_states_the_key_the_place_the_action_and_what_to_do() {
        let at = "2036-05-08T09:56:42Z".parse().expect("a time");
        let url = Some("https://github.com/a/b?c=d&e=<f>".to_owned());
        let kinds = [(CredentialKind::ApiKey, "API key"), (CredentialKind::PersonalToken, "token")];
        for (kind, noun) in kinds {
            for (action, what) in [
                (LeakAction::Nothing, "it still works"),
                (LeakAction::Disabled, "It was disabled: every request"),
                (LeakAction::AlreadyDisabled, "It was disabled before"),
                (LeakAction::Revoked, "It was revoked"),
            ] {
                for (source, url, place) in [
                    (LeakSource::Anyone, None, "reported it. The event KEY_LEAKED"),
                    (LeakSource::Github, None, "GitHub found it in public."),
                    (LeakSource::Github, url.clone(), "in public: https://github.com/a/b"),
                ] {
                    let beginning = "tnt_live_abcdefgh".to_owned();
                    let notice = LeakNotice { kind, beginning, action, source, url };
                    let message = Message::KeyLeaked { notice: &notice, at };
                    let (text, html) = (text(&message), html(&message));
                    assert!(message.subject().contains(noun));
                    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 76), "{text}");
                    assert!(!html.contains("<f>") && !html.contains("href"), "{html}");
                    let html = html
                        .replace("<br>", "")
                        .replace("<code style=\"word-break: break-all\">", "");
                    for words in [collapse_whitespace(&text), collapse_whitespace(&html)] {
                        let date = "leaked, at 2036-05-08 09:56 UTC.";
                        for phrase in [date, "tnt_live_abcdefgh", place, what, "What to do next"] {
                            assert!(words.contains(phrase), "{phrase}: {words}");
                        }
                        assert!(!words.contains('{'), "{words}");
                    }
                }
            }
        }
    }
}

//! The texts of mails.
//!
//! Nothing that a caller typed is ever in them, not even a name: a stranger could otherwise sign up
//! with another person's address and have the product send them a text of their own.

use chrono::{DateTime, Utc};
use url::Url;

use crate::model::mail::SecurityNotice;

/// A mail's words. It can not be printed: its link may open an account.
#[derive(Clone, Copy)]
pub enum Message<'a> {
    /// To an address that was signed up: confirm it.
    VerifyEmail {
        /// Confirms the address: once, within 24 hours.
        link: &'a Url,
    },
    /// For an account that requested a password reset.
    ResetPassword {
        /// Leads to a new password: once, within 1 hour.
        link: &'a Url,
    },
    /// To an address that was invited to an organization: accept.
    Invite {
        /// Leads to a button that accepts, for the account that is signed in: once, within 7 days.
        link: &'a Url,
    },
    /// For the buyer of an organization: claim its first key.
    ClaimKey {
        /// Leads to a button that shows the key: once, within 7 days.
        link: &'a Url,
    },
    /// To an address that was signed up and has an account already: nothing changed.
    AlreadyRegistered,
    /// For an account: what was done with it, and when.
    Notice {
        /// What was done.
        notice: SecurityNotice,
        /// When.
        at: DateTime<Utc>,
    },
    /// For the buyer of a checkout that could not be fulfilled: nothing changed.
    CheckoutUnfulfilled,
}

struct Template {
    subject: &'static str,
    text: &'static str,
    html: &'static str,
}

const VERIFY_EMAIL: Template = Template {
    subject: "Confirm your email address",
    text: include_str!("verify_email.txt"),
    html: include_str!("verify_email.html"),
};

const RESET_PASSWORD: Template = Template {
    subject: "Reset your password",
    text: include_str!("reset_password.txt"),
    html: include_str!("reset_password.html"),
};

const ALREADY_REGISTERED: Template = Template {
    subject: "You already have an account",
    text: include_str!("already_registered.txt"),
    html: include_str!("already_registered.html"),
};

const NEW_SIGN_IN: Template = notice("Security notice: new sign-in");
const PASSWORD_CHANGED: Template = notice("Security notice: password changed");
const TOKEN_CREATED: Template = notice("Security notice: new personal access token");
const NOTICES_OFF: Template = notice("Security notice: these mails are off");

const fn notice(subject: &'static str) -> Template {
    Template {
        subject,
        text: include_str!("security_notice.txt"),
        html: include_str!("security_notice.html"),
    }
}

const INVITE: Template = Template {
    subject: "You are invited to an organization",
    text: include_str!("invite.txt"),
    html: include_str!("invite.html"),
};

const CLAIM_KEY: Template = Template {
    subject: "Your API key is ready",
    text: include_str!("claim_key.txt"),
    html: include_str!("claim_key.html"),
};

const CHECKOUT_UNFULFILLED: Template = Template {
    subject: "Your payment could not be matched to an organization",
    text: include_str!("checkout_unfulfilled.txt"),
    html: include_str!("checkout_unfulfilled.html"),
};

impl Message<'_> {
    /// Its subject.
    #[must_use]
    pub fn subject(&self) -> &'static str {
        self.template_and_link().0.subject
    }

    /// Its words in plain text.
    #[must_use]
    pub fn text(&self) -> String {
        let (template, link) = self.template_and_link();
        self.fill_notice(template.text).replace("{link}", link.map_or("", Url::as_str))
    }

    /// Its words in HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let (template, link) = self.template_and_link();
        self.fill_notice(template.html)
            .replace("{link}", &escape_html(link.map_or("", Url::as_str)))
    }

    /// The template with what a notice is of, and when that was.
    fn fill_notice(&self, template: &str) -> String {
        let Self::Notice { notice, at } = self else { return template.to_owned() };
        let what = match notice {
            SecurityNotice::NewSignIn => "Your account was signed in to from a new place",
            SecurityNotice::PasswordChanged => "The password of your account was changed",
            SecurityNotice::TokenCreated => "A personal access token of your account was created",
            SecurityNotice::NoticesDisabled => {
                "Mails like this one were turned off for your account"
            }
        };
        let at = at.format("%Y-%m-%d %H:%M UTC").to_string();
        template.replace("{what}", what).replace("{time}", &at)
    }

    fn template_and_link(&self) -> (&'static Template, Option<&Url>) {
        match self {
            Self::VerifyEmail { link } => (&VERIFY_EMAIL, Some(link)),
            Self::ResetPassword { link } => (&RESET_PASSWORD, Some(link)),
            Self::Invite { link } => (&INVITE, Some(link)),
            Self::ClaimKey { link } => (&CLAIM_KEY, Some(link)),
            Self::AlreadyRegistered => (&ALREADY_REGISTERED, None),
            Self::Notice { notice: SecurityNotice::NewSignIn, .. } => (&NEW_SIGN_IN, None),
            Self::Notice { notice: SecurityNotice::PasswordChanged, .. } => {
                (&PASSWORD_CHANGED, None)
            }
            Self::Notice { notice: SecurityNotice::TokenCreated, .. } => (&TOKEN_CREATED, None),
            Self::Notice { notice: SecurityNotice::NoticesDisabled, .. } => (&NOTICES_OFF, None),
            Self::CheckoutUnfulfilled => (&CHECKOUT_UNFULFILLED, None),
        }
    }
}

/// Escapes a text for HTML, also within an attribute.
fn escape_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn messages_with_links(link: &Url) -> [Message<'_>; 4] {
        [
            Message::VerifyEmail { link },
            Message::ResetPassword { link },
            Message::Invite { link },
            Message::ClaimKey { link },
        ]
    }

    /// The text with every run of white space made one space.
    fn flowing(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_message_with_a_link_shows_it_in_text_and_in_html() {
        let link = url("https://auth.example.com/verify?token=abc&next=d");
        for message in messages_with_links(&link) {
            assert!(message.text().lines().any(|line| line == link.as_str()));
            let escaped = "https://auth.example.com/verify?token=abc&amp;next=d";
            assert!(message.html().contains(&format!("href=\"{escaped}\"")));
            assert!(message.html().contains(&format!(">{escaped}</a>")));
            assert!(!message.text().contains(['{', '}']) && !message.html().contains(['{', '}']));
        }
    }

    #[test]
    fn a_link_can_not_break_out_of_the_html() {
        let link = url("https://auth.example.com/?a=1#'\"><script>alert('x')</script>");
        for message in messages_with_links(&link) {
            assert!(!message.html().contains("<script") && !message.html().contains('\''));
        }
        assert_eq!(escape_html("<a href=\"'&\">"), "&lt;a href=&quot;&#39;&amp;&quot;&gt;");
    }

    #[test]
    fn messages_say_how_long_their_link_works_and_who_may_ignore_them() {
        let link = url("https://auth.example.com/");
        let says = |message: Message<'_>, phrase: &str| {
            for words in [flowing(&message.text()), flowing(&message.html())] {
                assert!(words.contains(phrase), "{phrase}");
                assert!(words.contains("ignore this mail"));
            }
        };
        says(Message::VerifyEmail { link: &link }, "works once, within 24 hours");
        says(Message::ResetPassword { link: &link }, "works once, within 1 hour");
        says(Message::Invite { link: &link }, "works once, within 7 days");
        says(Message::ClaimKey { link: &link }, "works once, within 7 days");
        says(Message::AlreadyRegistered, "Sign in, or ask for a password reset");
        says(Message::CheckoutUnfulfilled, "nothing has been changed or delivered");
    }

    #[test]
    fn messages_are_plain_ascii_and_load_nothing() {
        let link = url("https://auth.example.com/");
        for message in messages_with_links(&link) {
            assert!(message.text().is_ascii() && message.html().is_ascii());
            assert!(message.text().lines().all(|line| line.len() <= 76));
            for loads in ["<img", "src=", "url(", "<link", "<style", "<script"] {
                assert!(!message.html().contains(loads), "{loads}");
            }
        }
    }

    #[test]
    fn a_notice_says_what_was_done_and_when_and_how_to_turn_it_off() {
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
            for words in [flowing(&message.text()), flowing(&message.html())] {
                assert!(words.contains(&format!("{what} 2036-05-08 09:56 UTC.")), "{words}");
                assert!(words.contains("turn these mails off") && !words.contains('{'));
            }
        }
    }
}

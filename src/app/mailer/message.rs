//! One mail, and how it is written: plain text and the same in HTML.
//!
//! Whatever is in it, none of it becomes a header or a recipient that we did not mean.

use std::error::Error as StdError;
use std::time::SystemTime;

use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MultiPart, SinglePart};
use uuid::Uuid;

/// The longest line that a mail may have.
const MAX_LINE_LENGTH: usize = 998;

/// A mail. It cannot be printed: its content may give access to an account.
pub struct Mail<'a> {
    /// Names this mail for good: in its `Message-ID`, and in the name of its file.
    pub id: Uuid,
    /// When it was written: its `Date`.
    pub written_at: SystemTime,
    /// The address it goes to.
    pub to: &'a str,
    /// Its subject.
    pub subject: &'a str,
    /// The content, as plain text.
    pub text: &'a str,
    /// The content, as HTML.
    pub html: &'a str,
}

impl Mail<'_> {
    /// Builds the mail as it is sent.
    ///
    /// # Errors
    /// An invalid recipient address.
    pub(super) fn build_message(
        &self,
        from: &Mailbox,
    ) -> Result<Message, Box<dyn StdError + Send + Sync>> {
        if self.to.contains(char::is_control) {
            return Err("the address has a control character".into());
        }
        let to: Address = self.to.parse()?;
        let message = Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, to))
            .subject(self.subject)
            .date(self.written_at)
            .message_id(Some(format!("<{}@{}>", self.id, from.email.domain())))
            .raw_header(auto_submitted_header())
            .multipart(
                MultiPart::alternative()
                    .singlepart(part(ContentType::TEXT_PLAIN, self.text))
                    .singlepart(part(ContentType::TEXT_HTML, self.html)),
            )?;
        Ok(message)
    }
}

/// Keeps holiday notices and other machines from answering.
fn auto_submitted_header() -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    HeaderValue::new(name, "auto-generated".to_owned())
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(content_type).body(encode_body(text))
}

/// Encodes a text without quoting where a mail may contain it so: a link in a file can then be
/// copied.
fn encode_body(text: &str) -> Body {
    let is_plain = |line: &str| {
        line.len() <= MAX_LINE_LENGTH
            && line.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
    };
    if !text.lines().all(is_plain) {
        return Body::new(text.to_owned());
    }
    let lines: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
    Body::dangerous_pre_encoded(lines.into_bytes(), ContentTransferEncoding::SevenBit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str) -> Mail<'_> {
        Mail {
            id: Uuid::nil(),
            written_at: SystemTime::UNIX_EPOCH,
            to,
            subject: "Hello",
            text: "plain",
            html: "<p>html</p>",
        }
    }

    fn written(mail: &Mail<'_>) -> Result<String, String> {
        let from = "Tenantry <no-reply@example.com>".parse().expect("a mailbox");
        let message = mail.build_message(&from).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(message.formatted()).expect("text"))
    }

    #[test]
    fn a_mail_has_both_texts_and_every_header() {
        let text = written(&mail("a@example.com")).expect("written");
        for part in [
            "From: Tenantry <no-reply@example.com>\r\n",
            "To: a@example.com\r\n",
            "Subject: Hello\r\n",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
            "Message-ID: <00000000-0000-0000-0000-000000000000@example.com>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: multipart/alternative;",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Type: text/html; charset=utf-8\r\n",
            "\r\n\r\nplain\r\n",
            "\r\n\r\n<p>html</p>\r\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for to in [
            "",
            "a",
            "a@b@",
            "Ann <a@example.com>",
            "a@example.com, b@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "\"\r\n\"@example.com",
            "a@example.com>\r\nRCPT TO:<b@example.com",
        ] {
            written(&mail(to)).expect_err(to);
        }
    }

    #[test]
    fn a_subject_does_not_become_another_header() {
        let subject = "Hello\r\nBcc: b@example.com";
        let text = written(&Mail { subject, ..mail("a@example.com") }).expect("written");
        assert!(!text.contains("\nBcc"), "{text}");
    }

    #[test]
    fn text_that_a_mail_can_not_hold_as_it_is_is_encoded() {
        for text in ["Grüße", &"x".repeat(MAX_LINE_LENGTH + 1)] {
            assert_ne!(encode_body(text).encoding(), ContentTransferEncoding::SevenBit);
        }
        assert_eq!(encode_body("a\nb").into_vec(), b"a\r\nb\r\n");
    }
}

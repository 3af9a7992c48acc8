//! Builds a mail with the same content as plain text and as HTML.
//!
//! Invariant: no content adds a header or a recipient.

use std::error::Error as StdError;
use std::time::SystemTime;

use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MultiPart, SinglePart};
use uuid::Uuid;

/// The maximum length of a line, in bytes without the line break (RFC 5322 §2.1.1).
const MAX_LINE_LENGTH: usize = 998;

/// A mail. It has no `Debug`, because its content may give access to an account.
pub struct Mail<'a> {
    /// Its unique id, which is part of its `Message-ID` and of the name of its file.
    pub id: Uuid,
    /// When it was written, for its `Date` header.
    pub written_at: SystemTime,
    /// The recipient's address.
    pub to: &'a str,
    /// Its subject.
    pub subject: &'a str,
    /// The content, as plain text.
    pub text: &'a str,
    /// The content, as HTML.
    pub html: &'a str,
}

impl Mail<'_> {
    /// Builds the message to send.
    ///
    /// # Errors
    /// The recipient's address is invalid.
    pub(super) fn build_message(
        &self,
        from: &Mailbox,
    ) -> Result<Message, Box<dyn StdError + Send + Sync>> {
        if self.to.contains(char::is_control) {
            return Err("the address contains a control character".into());
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

/// Returns the header that prevents automatic replies (RFC 3834 §5).
fn auto_submitted_header() -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    HeaderValue::new(name, "auto-generated".to_owned())
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(content_type).body(encode_body(text))
}

/// Encodes a text. Text with only printable ASCII and short lines is not encoded, so that a link
/// can be copied from a mail in a file.
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

    fn build(mail: &Mail<'_>) -> Result<String, String> {
        let from = "Tenantry <no-reply@example.com>".parse().expect("a mailbox");
        let message = mail.build_message(&from).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(message.formatted()).expect("text"))
    }

    #[test]
    fn a_mail_has_both_texts_and_every_header() {
        let text = build(&mail("a@example.com")).expect("a message");
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
    fn an_invalid_address_is_an_error() {
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
            build(&mail(to)).expect_err(to);
        }
    }

    #[test]
    fn a_line_break_in_a_subject_adds_no_header() {
        let subject = "Hello\r\nBcc: b@example.com";
        let text = build(&Mail { subject, ..mail("a@example.com") }).expect("a message");
        assert!(!text.contains("\nBcc"), "{text}");
    }

    #[test]
    fn only_text_that_is_not_ascii_or_has_long_lines_is_encoded() {
        for text in ["Grüße", &"x".repeat(MAX_LINE_LENGTH + 1)] {
            assert_ne!(encode_body(text).encoding(), ContentTransferEncoding::SevenBit);
        }
        assert_eq!(encode_body("a\nb").into_vec(), b"a\r\nb\r\n");
    }
}

//! Reads `Authorization` for OAuth clients and verifiers: the credential of any scheme, and HTTP
//! Basic (RFC 7617).

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;

/// Returns the value of a header; `None` if it is repeated.
#[must_use]
pub fn single_header_value(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (first, another) = (values.next()?, values.next());
    first.to_str().ok().filter(|_| another.is_none()).map(|text| text.trim().to_owned())
}

/// Returns the credential in `Authorization`, if its scheme is `wanted`.
#[must_use]
pub fn authorization(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let text = single_header_value(headers, &header::AUTHORIZATION)?;
    let (scheme, credential) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| credential.trim().to_owned())
}

/// Returns the possible names and secrets in `Authorization: Basic`: form-decoded (RFC 6749
/// §2.3.1), and then as they are, because much software does not encode them.
#[must_use]
pub fn basic_credentials(headers: &HeaderMap) -> Vec<(String, String)> {
    let Some(text) = basic_text(headers) else { return Vec::new() };
    let Some((name, secret)) = text.split_once(':') else { return Vec::new() };
    let decoded = decode_form(name).zip(decode_form(secret));
    decoded.into_iter().chain([(name.to_owned(), secret.to_owned())]).collect()
}

fn basic_text(headers: &HeaderMap) -> Option<String> {
    let decoded = BASE64_STANDARD.decode(authorization(headers, "basic")?).ok()?;
    String::from_utf8(decoded).ok()
}

fn decode_form(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_of_basic_are_form_decoded_or_taken_as_they_are_after_the_first_colon_splits_them()
    {
        let readings = |text: &str| {
            let value = format!("BASIC {}", BASE64_STANDARD.encode(text));
            basic_credentials(&HeaderMap::from_iter([(
                header::AUTHORIZATION,
                value.parse().expect("ASCII"),
            )]))
        };
        let pair = |(name, secret): (&str, &str)| (name.to_owned(), secret.to_owned());
        for (text, decoded, raw) in [
            ("gate-way:s%2Bc%3Ar%25t", ("gate-way", "s+c:r%t"), ("gate-way", "s%2Bc%3Ar%25t")),
            ("a+b:c+d:e", ("a b", "c d:e"), ("a+b", "c+d:e")),
            ("%67ateway:%C3%A9", ("gateway", "é"), ("%67ateway", "%C3%A9")),
        ] {
            assert_eq!(readings(text), [decoded, raw].map(pair));
        }
        assert_eq!(readings("no colon"), []);
        assert_eq!(readings("a:%FF"), [pair(("a", "%FF"))]);
    }
}

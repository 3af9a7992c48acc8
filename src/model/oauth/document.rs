//! Metadata documents: when a response contains one, and how long it may be used.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::model::oauth::RequestableScopes;
use crate::model::oauth::client_metadata::{ClientMetadata, MetadataProblem, MetadataSource};

/// The size limit of a document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 5 * 1024;
/// The shortest time for which a document is used, whatever its server says.
const MIN_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// The longest time for which a document is used.
const MAX_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// Why a metadata document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentRejection {
    /// The client id cannot be the URL of a document; what is required of it.
    Url(String),
    /// There is no document: the URL may not be fetched, its server did not respond in time, or not
    /// with status 200 and a JSON object of at most 5 KiB. Which one is not stated, because
    /// strangers choose the URL.
    NotFetched,
    /// The document breaks rules: each of them, with the member's name.
    Invalid(Vec<String>),
}

/// Parses the document of the client with this id.
///
/// # Errors
/// The body is no JSON object, or the document breaks rules.
pub fn parse_document(
    client_id: &str,
    body: &[u8],
    requestable: &RequestableScopes,
) -> Result<ClientMetadata, DocumentRejection> {
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Err(DocumentRejection::NotFetched);
    };
    let has_own_id = members.get("client_id").and_then(Value::as_str) == Some(client_id);
    let wrong_id = "`client_id` must be the URL that was requested".to_owned();
    let describe = |problem: MetadataProblem| format!("`{}` {}", problem.name, problem.message);
    let metadata = ClientMetadata::parse(&members, MetadataSource::Document, requestable);
    match (metadata, has_own_id) {
        (Ok(metadata), true) => Ok(metadata),
        (Ok(_), false) => Err(DocumentRejection::Invalid(vec![wrong_id])),
        (Err(problems), has_own_id) => {
            let wrong_id = (!has_own_id).then_some(wrong_id).into_iter();
            let problems = wrong_id.chain(problems.into_iter().map(describe));
            Err(DocumentRejection::Invalid(problems.collect()))
        }
    }
}

/// Returns until when a response may be used, by `Cache-Control` and `Age` or by `Expires`
/// (RFC 9111 §4.2): at least 5 minutes and at most 24 hours from now.
pub fn expires_at(header: impl Fn(&str) -> Option<String>, now: DateTime<Utc>) -> DateTime<Utc> {
    let cache_control = header("cache-control").unwrap_or_default().to_ascii_lowercase();
    let directives: Vec<&str> = cache_control.split(',').map(str::trim).collect();
    let seconds = |text: &str| text.trim_matches('"').parse::<u32>().ok().map(i64::from);
    let max_age = directives.iter().find_map(|it| seconds(it.strip_prefix("max-age=")?));
    let age = header("age").and_then(|text| seconds(text.trim())).unwrap_or(0);
    let expires = || DateTime::parse_from_rfc2822(&header("expires")?).ok();
    let is_uncached = directives.iter().any(|it| matches!(*it, "no-store" | "no-cache"));
    let lifetime = if is_uncached {
        MIN_LIFETIME
    } else if let Some(max_age) = max_age {
        TimeDelta::seconds(max_age - age)
    } else {
        expires().map_or(MIN_LIFETIME, |expires| expires.to_utc() - now)
    };
    now + lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_used_for_as_long_as_its_headers_say_between_5_minutes_and_24_hours() {
        let now: DateTime<Utc> = "2036-05-08T09:00:00Z".parse().expect("a time");
        for (headers, minutes) in [
            (&[][..], 5),
            (&[("cache-control", "max-age=3600")], 60),
            (&[("cache-control", "public, Max-Age=\"3600\", immutable")], 60),
            (&[("cache-control", "max-age=3600"), ("age", "600")], 50),
            (&[("cache-control", "max-age=3600"), ("age", "7200")], 5),
            (&[("cache-control", "max-age=0")], 5),
            (&[("cache-control", "max-age=4294967295")], 24 * 60),
            (&[("cache-control", "max-age=99999999999")], 5),
            (&[("cache-control", "max-age=-1")], 5),
            (&[("cache-control", "max-age=3600, no-store")], 5),
            (&[("cache-control", "no-cache"), ("expires", "Thu, 08 May 2036 10:00:00 GMT")], 5),
            (&[("expires", "Thu, 08 May 2036 10:00:00 GMT")], 60),
            (&[("expires", "Thu, 08 May 2036 08:00:00 GMT")], 5),
            (&[("expires", "Sat, 10 May 2036 10:00:00 GMT")], 24 * 60),
            (&[("expires", "0")], 5),
        ] {
            let header = |name: &str| {
                let found = headers.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(expires_at(header, now), now + TimeDelta::minutes(minutes), "{headers:?}");
        }
    }

    #[test]
    fn a_document_names_its_own_url_byte_for_byte() {
        let id = "https://a.example/client";
        let parse = |client_id: &str| {
            let body = serde_json::json!({
                "client_id": client_id, "client_name": "A",
                "redirect_uris": ["https://a.example/cb"],
            });
            let requestable = RequestableScopes::with_operators(&[]);
            parse_document(id, body.to_string().as_bytes(), &requestable)
        };
        assert!(parse(id).is_ok());
        for other in ["", "https://a.example/client/", "https://A.example/client", "a"] {
            assert!(matches!(parse(other), Err(DocumentRejection::Invalid(_))), "{other}");
        }
    }
}

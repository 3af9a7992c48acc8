//! The guard of the family's routes: a verifier, by its secret, or behind `VERIFY_ADDR`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;

use crate::app::App;
use crate::app::rejections::RejectedCredential;
use crate::domain::verification::Verifier;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::query;
use crate::model::audit::AuditContext;
use crate::model::rate_limit::{LimitSubject, RateLimit};

const VERIFIER: HeaderName = HeaderName::from_static("x-tenantry-verifier");

/// Marks the requests of the listener `VERIFY_ADDR`.
#[derive(Clone, Copy)]
pub struct LocalVerifier;

/// Guard of the JSON routes: the secret in `X-Tenantry-Verifier` or `Authorization: Bearer`.
pub struct JsonVerifier(pub Verifier);

impl FromRequestParts<App> for JsonVerifier {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let secret = single(&parts.headers, &VERIFIER).or_else(|| bearer(&parts.headers));
        let presented = secret.map(|secret| (None, secret)).into_iter().collect();
        let verifier = identify(parts, app, presented).await?;
        query::require_known(&parts.extensions).map(|()| Self(verifier))
    }
}

/// Guard of introspection: as [`JsonVerifier`], or name and secret as `Authorization: Basic`.
/// Unknown query parameters are ignored (RFC 6749 §3.1).
pub struct IntrospectionVerifier(pub Verifier);

impl FromRequestParts<App> for IntrospectionVerifier {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let headers = &parts.headers;
        let secret = single(headers, &VERIFIER).or_else(|| bearer(headers));
        let presented = match secret {
            Some(secret) => vec![(None, secret)],
            None => basic(headers).into_iter().map(|(name, secret)| (Some(name), secret)).collect(),
        };
        identify(parts, app, presented).await.map(Self)
    }
}

/// Guard of the proxy routes: the secret in `X-Tenantry-Verifier`. `Authorization` is the client's.
pub struct ProxyVerifier(pub Verifier);

impl FromRequestParts<App> for ProxyVerifier {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let secret = single(&parts.headers, &VERIFIER);
        let presented = secret.map(|secret| (None, secret)).into_iter().collect();
        let verifier = identify(parts, app, presented).await;
        // A mistake of the proxy must not look like one of its client, who learns nothing of it.
        let context = RequestContext::from_extensions(&parts.extensions)?;
        verifier.map(Self).map_err(|error| {
            if *error.kind() == ErrorKind::NotFound {
                return error;
            }
            let _ = context.take_rate_limit_decisions();
            Error::unavailable("the proxy presents no valid verifier")
        })
    }
}

/// A presented secret, and the name of the verifier if that is presented, too.
type PresentedSecret = (Option<String>, String);

/// Returns the verifier of a request that presents its secret, in one of several readings. A
/// missing or wrong secret is counted by address and recorded in the deployment's audit log; a
/// correct one is not affected by that count.
///
/// # Errors
/// Unauthenticated; rate limited; not found where verification is off.
async fn identify(
    parts: &mut Parts,
    app: &App,
    presented: Vec<PresentedSecret>,
) -> Result<Verifier> {
    if parts.extensions.get::<LocalVerifier>().is_some() {
        return Ok(Verifier::local());
    }
    let settings = &app.config.verification;
    if !settings.is_enabled() {
        return Err(Error::not_found("No route matches this path"));
    }
    let find = |(name, secret): PresentedSecret| settings.verifiers.find(name.as_deref(), &secret);
    if let Some(name) = presented.into_iter().find_map(find) {
        return Ok(Verifier::new(name));
    }
    let context = RequestContext::from_request_parts(parts, app).await?;
    let client = LimitSubject::from_address(context.client_address);
    app.rejections.record_credential(RejectedCredential::Verifier(Some(client)), || AuditContext {
        path: context.route.clone(),
        ..context.audit_context_for(StatusCode::UNAUTHORIZED)
    });
    count_address(app, &context, RateLimit::VerifierFailures)?;
    let message = "This endpoint requires a verifier's secret in X-Tenantry-Verifier";
    Err(Error::unauthenticated(AuthFailure::InvalidVerifier, message))
}

/// The value of a header that is sent once.
fn single(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (first, another) = (values.next()?, values.next());
    first.to_str().ok().filter(|_| another.is_none()).map(|text| text.trim().to_owned())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    authorization(headers, "bearer")
}

/// The readings of `Authorization: Basic` as a name and a secret: form-decoded (RFC 6749 §2.3.1),
/// or else as they are, because much software does not encode them. Either has to be the name and
/// the secret of one verifier exactly.
fn basic(headers: &HeaderMap) -> Vec<(String, String)> {
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

/// The credential of a scheme in `Authorization`.
fn authorization(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let text = single(headers, &header::AUTHORIZATION)?;
    let (scheme, credential) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| credential.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_of_basic_are_form_decoded_or_taken_as_they_are_after_the_first_colon_splits_them()
    {
        let readings = |text: &str| {
            let value = format!("BASIC {}", BASE64_STANDARD.encode(text));
            basic(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("ASCII"))]))
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

//! How a client proves who it is (RFC 6749 §2.3, OAUTH §1.3): by exactly one method, the one that
//! it is registered with.

use axum::http::HeaderMap;

use crate::app::App;
use crate::domain::oauth::client_authentication::{self, ClientProof, PresentedClient};
use crate::domain::oauth::client_key_sets;
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::http::auth::basic_credentials;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{count_address, count_anonymous, count_client};
use crate::http::edge::shedding;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::client_assertion::{ASSERTION_TYPE, UnverifiedAssertion};
use crate::model::rate_limit::RateLimit;
use crate::model::secret::Secret;

const ASSERTION_TYPE_REQUIRED: &str =
    "must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Returns the client of a request. A request that does not prove to be a client's is counted by
/// its address, since anyone can send the id of a client without a secret; another one by its
/// client.
///
/// # Errors
/// Unauthenticated for an unknown or disabled client, a wrong secret or assertion, and a method
/// that is not the registered one, all with the same message. Invalid for a request with two
/// methods, or without a client. Rate limited.
pub async fn authenticate(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    form: &Form,
) -> Result<OauthClient> {
    let client = identify(app, context, headers, form).await;
    match &client {
        Ok(client) if !client.is_public() => count_client(app, context, client)?,
        _ => count_anonymous(app, context, headers)?,
    }
    if client.as_ref().is_err_and(|it| matches!(it.kind(), ErrorKind::Unauthenticated(_))) {
        count_address(app, context, RateLimit::UnknownKeys)?;
    }
    client
}

async fn identify(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    form: &Form,
) -> Result<OauthClient> {
    let presented = present(headers, form)?;
    if let Some(keys) = client_authentication::find_stale_keys(app, &presented).await? {
        count_address(app, context, RateLimit::ClientDocuments)?;
        let refresh = client_key_sets::refresh(app, keys);
        shedding::await_outside(app, context, refresh).await?;
    }
    let client = client_authentication::authenticate(app, &presented).await?;
    client.ok_or_else(|| {
        unauthenticated("The client is unknown, or did not authenticate as it is registered")
    })
}

fn unauthenticated(message: &'static str) -> Error {
    Error::unauthenticated(AuthFailure::InvalidClient, message)
}

fn invalid(name: &'static str, message: &'static str) -> Error {
    Error::invalid(vec![Issue::field(name, message)])
}

fn present(headers: &HeaderMap, form: &Form) -> Result<PresentedClient> {
    if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
        return present_assertion(headers, form);
    }
    let in_body = form.get("client_secret");
    if headers.contains_key("authorization") {
        // Form-decoded, which changes no id and no secret that this server made.
        let Some((client_id, secret)) = basic_credentials(headers).into_iter().next() else {
            return Err(unauthenticated(
                "The Authorization header is not a client's id and secret in HTTP Basic",
            ));
        };
        if in_body.is_some() {
            return Err(invalid("client_secret", "must not be sent with an Authorization header"));
        }
        if form.get("client_id").is_some_and(|other| other != client_id) {
            return Err(invalid("client_id", "must be that of the Authorization header"));
        }
        let proof = ClientProof::BasicSecret(Secret::new(secret));
        return Ok(PresentedClient { client_id, proof });
    }
    let client_id = form.require("client_id")?.to_owned();
    let proof = match in_body {
        Some(secret) => ClientProof::PostedSecret(Secret::new(secret.to_owned())),
        None => ClientProof::None,
    };
    Ok(PresentedClient { client_id, proof })
}

/// Returns the client of an assertion (RFC 7521 §4.2), which names it. `client_id` may as well.
fn present_assertion(headers: &HeaderMap, form: &Form) -> Result<PresentedClient> {
    let text = Secret::new(form.require("client_assertion")?.to_owned());
    if form.require("client_assertion_type")? != ASSERTION_TYPE {
        return Err(invalid("client_assertion_type", ASSERTION_TYPE_REQUIRED));
    }
    if headers.contains_key("authorization") {
        return Err(invalid("client_assertion", "must not be sent with an Authorization header"));
    }
    if form.get("client_secret").is_some() {
        return Err(invalid("client_secret", "must not be sent with an assertion"));
    }
    let assertion = UnverifiedAssertion::parse(text);
    let assertion = assertion
        .ok_or_else(|| unauthenticated("The assertion is not a signed JWT of a client"))?;
    let client_id = assertion.client_id.clone();
    if form.get("client_id").is_some_and(|other| other != client_id) {
        return Err(invalid("client_id", "must be the subject of the assertion"));
    }
    Ok(PresentedClient { client_id, proof: ClientProof::Assertion(assertion) })
}

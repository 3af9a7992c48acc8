//! How a client proves who it is (RFC 6749 §2.3, OAUTH §1.3): by exactly one method, the one that
//! it is registered with.

use axum::http::HeaderMap;

use crate::app::App;
use crate::domain::oauth::client_authentication::{self, PresentedClient};
use crate::error::{AuthFailure, Error, Issue, Result};
use crate::http::auth::basic_credentials;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::model::oauth::ClientAuthMethod;
use crate::model::oauth::client::OauthClient;
use crate::model::rate_limit::RateLimit;
use crate::model::secret::Secret;

/// Returns the client of a request.
///
/// # Errors
/// Unauthenticated for an unknown or disabled client, a wrong secret, and a method that is not the
/// registered one, all with the same message; such requests are counted by address. Invalid for a
/// request with two methods, or without a client.
pub async fn authenticate(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    form: &Form,
) -> Result<OauthClient> {
    let presented = present(headers, form)?;
    let client = client_authentication::authenticate(app, &presented).await?;
    let Some(client) = client else {
        count_address(app, context, RateLimit::UnknownKeys)?;
        return Err(Error::unauthenticated(
            AuthFailure::InvalidClient,
            "The client is unknown, or did not authenticate as it is registered",
        ));
    };
    Ok(client)
}

fn present(headers: &HeaderMap, form: &Form) -> Result<PresentedClient> {
    let in_body = form.get("client_secret");
    let invalid = |name, message| Error::invalid(vec![Issue::field(name, message)]);
    if headers.contains_key("authorization") {
        // Form-decoded, which changes no id and no secret that this server made.
        let Some((client_id, secret)) = basic_credentials(headers).into_iter().next() else {
            return Err(Error::unauthenticated(
                AuthFailure::InvalidClient,
                "The Authorization header is not a client's id and secret in HTTP Basic",
            ));
        };
        if in_body.is_some() {
            return Err(invalid("client_secret", "must not be sent with an Authorization header"));
        }
        if form.get("client_id").is_some_and(|other| other != client_id) {
            return Err(invalid("client_id", "must be that of the Authorization header"));
        }
        let secret = Some(Secret::new(secret));
        return Ok(PresentedClient { client_id, secret, method: ClientAuthMethod::SecretBasic });
    }
    let client_id = form.require("client_id")?.to_owned();
    let (secret, method) = match in_body {
        Some(secret) => (Some(Secret::new(secret.to_owned())), ClientAuthMethod::SecretPost),
        None => (None, ClientAuthMethod::None),
    };
    Ok(PresentedClient { client_id, secret, method })
}

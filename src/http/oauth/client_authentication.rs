//! How a client proves who it is (RFC 6749 §2.3, OAUTH §1.3): by exactly one method, the one that
//! it is registered with.

use axum::http::HeaderMap;

use crate::app::App;
use crate::domain::oauth::client_authentication::{self, PresentedClient};
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::http::auth::basic_credentials;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{count_address, count_anonymous};
use crate::model::oauth::ClientAuthMethod;
use crate::model::oauth::client::OauthClient;
use crate::model::rate_limit::RateLimit;
use crate::model::secret::Secret;

/// Returns the client of a request. A request that does not prove to be a client's is counted by
/// its address: anyone can send the id of a client without a secret.
///
/// # Errors
/// Unauthenticated for an unknown or disabled client, a wrong secret, and a method that is not the
/// registered one, all with the same message. Invalid for a request with two methods, or without a
/// client. Rate limited.
pub async fn authenticate(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    form: &Form,
) -> Result<OauthClient> {
    let client = identify(app, headers, form).await;
    let is_proven = client.as_ref().is_ok_and(|client| !client.is_public());
    if !is_proven {
        count_anonymous(app, context, headers)?;
    }
    if client.as_ref().is_err_and(|it| matches!(it.kind(), ErrorKind::Unauthenticated(_))) {
        count_address(app, context, RateLimit::UnknownKeys)?;
    }
    client
}

async fn identify(app: &App, headers: &HeaderMap, form: &Form) -> Result<OauthClient> {
    let presented = present(headers, form)?;
    let client = client_authentication::authenticate(app, &presented).await?;
    client.ok_or_else(|| {
        let message = "The client is unknown, or did not authenticate as it is registered";
        Error::unauthenticated(AuthFailure::InvalidClient, message)
    })
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

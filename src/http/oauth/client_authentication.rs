//! How a client authenticates (RFC 6749 §2.3): by exactly one method, the one that it is registered
//! with.

use axum::http::HeaderMap;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::key_sets;
use crate::domain::oauth::client_authentication::{self, ClientProof, PresentedClient};
use crate::domain::oauth::client_key_sets;
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::http::auth::basic_credentials;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{
    count_address, count_anonymous, count_client, peek_account_limit,
};
use crate::http::edge::shedding;
use crate::http::oauth::client_documents;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::client_assertion::{ASSERTION_TYPE, UnverifiedAssertion};
use crate::model::oauth::document::DocumentRejection;
use crate::model::rate_limit::RateLimit;
use crate::model::secret::Secret;

const ASSERTION_TYPE_REQUIRED: &str =
    "must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The parameters with which a client proves who it is. Others use HTTP Basic, or have neither a
/// secret nor a key.
#[derive(ToSchema)]
#[schema(as = oauth::ClientAuthentication)]
#[expect(dead_code, reason = "used only in the API description")]
#[expect(clippy::struct_field_names, reason = "the names of the RFCs")]
pub struct ClientAuthentication {
    /// The client's id. Required unless HTTP Basic or the assertion names it.
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: Option<String>,
    #[schema(format = Password)]
    client_secret: Option<String>,
    /// A JWT that the client signed (RFC 7523 §3): `iss` and `sub` are its id, `aud` the issuer or
    /// the token endpoint, `exp` at most 5 minutes ahead, and `jti` new.
    #[schema(format = Password)]
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
}

/// Returns the client of a request. The request counts against the client if it proves its identity
/// with a secret or a key, and otherwise against the address, since anyone can send the id of a
/// public client.
///
/// # Errors
/// Unauthenticated for an unknown or disabled client, a wrong secret or assertion, and a method
/// that is not the registered one, all with the same message. Invalid for a request with two
/// methods, or without a client. Rate limited. Unavailable if the client's metadata document cannot
/// be fetched now.
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
    let rejection =
        client_documents::refresh_stored(app, context, &presented.client_id).await?.err();
    let client = client_authentication::find(app, &presented).await?;
    let client = match (client, rejection) {
        (Some(client), None) => client,
        // The stored document of a public client suffices: it has no keys that may be replaced.
        (Some(client), Some(DocumentRejection::NotFetched)) if client.is_public() => client,
        (Some(_), Some(DocumentRejection::NotFetched)) => {
            return Err(Error::unavailable("a client's metadata document was not fetched"));
        }
        _ => return Err(not_authentic()),
    };
    if !client.is_public() {
        // Checked before the assertion is used up, so that the client can send it again.
        peek_account_limit(app, context, client.id)?;
    }
    if let ClientProof::Assertion(assertion) = &presented.proof {
        refresh_keys(app, context, &client, assertion).await?;
    }
    let is_authentic = client_authentication::prove(app, &client, &presented.proof).await?;
    if is_authentic { Ok(client) } else { Err(not_authentic()) }
}

/// Fetches the keys that a client publishes, if they are needed. A request that causes a fetch is
/// counted by its address, since anyone can send it, and has no permit while it waits.
async fn refresh_keys(
    app: &App,
    context: &RequestContext,
    client: &OauthClient,
    assertion: &UnverifiedAssertion,
) -> Result<()> {
    let Some(keys) = client_key_sets::find_stale(app, client, assertion) else { return Ok(()) };
    if !keys.is_being_fetched(app) {
        count_address(app, context, RateLimit::ClientDocuments)?;
    }
    shedding::await_without_permits(app, context, key_sets::refresh(app, keys)).await
}

fn not_authentic() -> Error {
    unauthenticated("The client is unknown, or did not authenticate as it is registered")
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
        // The first is form-decoded, which changes no id or secret of this server.
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

/// Returns the client that an assertion names (RFC 7521 §4.2). `client_id` must not name another.
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
    let client_id = assertion.client_id().to_owned();
    if form.get("client_id").is_some_and(|other| other != client_id) {
        return Err(invalid("client_id", "must be the subject of the assertion"));
    }
    Ok(PresentedClient { client_id, proof: ClientProof::Assertion(assertion) })
}

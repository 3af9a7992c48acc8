//! A token request may narrow what was granted, never widen it (RFC 6749 §6, RFC 8707 §2.2).

use crate::app::App;
use crate::error::{Error, ErrorKind, OauthFailure, Result};
use crate::model::oauth::OFFLINE_ACCESS;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;

/// Returns those of the granted scopes that the client may still request; `None` if there is none.
pub(super) fn still_requestable(
    app: &App,
    client: &OauthClient,
    mut scopes: Vec<String>,
) -> Option<Vec<String>> {
    let listed = &app.config.oauth.scopes;
    scopes.retain(|scope| listed.allows(scope) && client.may_request(scope));
    (!scopes.is_empty()).then_some(scopes)
}

/// Returns the requested resources, each once. All of them were granted.
///
/// # Errors
/// Invalid target.
pub(super) fn narrow_resources(requested: &[Resource], granted: &[String]) -> Result<Vec<String>> {
    if requested.is_empty() {
        return Ok(granted.to_vec());
    }
    let mut requested: Vec<_> = requested.iter().map(|it| it.as_str().to_owned()).collect();
    requested.sort();
    requested.dedup();
    if requested.iter().all(|resource| granted.contains(resource)) {
        return Ok(requested);
    }
    let message = "A resource was not granted";
    Err(Error::new(ErrorKind::Oauth(OauthFailure::InvalidTarget), message))
}

/// Returns the requested scopes, all of which were granted. `offline_access` is no scope of a
/// token.
///
/// # Errors
/// Invalid scope.
pub(super) fn narrow_scopes(
    requested: Option<&[String]>,
    granted: &[String],
) -> Result<Vec<String>> {
    let Some(requested) = requested else { return Ok(granted.to_vec()) };
    let is_offline = |scope: &&String| *scope == OFFLINE_ACCESS;
    let requested: Vec<String> =
        requested.iter().filter(|scope| !is_offline(scope)).cloned().collect();
    if !requested.is_empty() && requested.iter().all(|scope| granted.contains(scope)) {
        return Ok(requested);
    }
    let message = "A scope was not granted";
    Err(Error::new(ErrorKind::Oauth(OauthFailure::InvalidScope), message))
}

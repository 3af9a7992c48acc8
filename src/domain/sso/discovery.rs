//! Fetches the metadata of identity providers. No transaction is open meanwhile.

use url::Url;

use crate::app::App;
use crate::app::http_client::{FetchError, GetRequest, METADATA_MAX_BYTES};
use crate::error::{Error, Issue};
use crate::model::sso::connection::ProviderMetadata;
use crate::model::sso::issuer::Issuer;
use crate::model::sso::provider_metadata::{DiscoveryFailure, DiscoveryStep, parse_metadata};

/// The metadata of a provider, as it was just fetched.
pub struct Discovered {
    /// The issuer identifier that it was fetched for.
    pub issuer: String,
    /// The metadata.
    pub metadata: ProviderMetadata,
}

/// Fetches the metadata of the provider with this issuer identifier, within 5 seconds.
///
/// # Errors
/// The metadata cannot be fetched, or cannot be used. Whether a host name has an address inside the
/// network cannot be seen from the error: it is unreachable then.
pub async fn discover(app: &App, issuer: &Issuer) -> Result<Discovered, DiscoveryFailure> {
    let document = fetch(app, issuer.metadata_url()).await?;
    let hosts = &app.config.outbound.allowed_hosts;
    let metadata = parse_metadata(issuer.as_str(), &document, hosts)?;
    Ok(Discovered { issuer: issuer.as_str().to_owned(), metadata })
}

/// Fetches the metadata for an issuer that is stored.
///
/// # Errors
/// Those of [`discover`]. The issuer may also not be allowed any more by the settings.
pub async fn discover_stored(app: &App, issuer: &str) -> Result<Discovered, DiscoveryFailure> {
    let hosts = &app.config.outbound.allowed_hosts;
    let parsed = Issuer::parse(issuer, hosts).map_err(|_| {
        let why = "must be an issuer that the server may fetch from";
        DiscoveryFailure::new(DiscoveryStep::NotAllowedAddress, why)
    })?;
    discover(app, &parsed).await
}

async fn fetch(app: &App, url: &Url) -> Result<Vec<u8>, DiscoveryFailure> {
    let max_bytes = METADATA_MAX_BYTES;
    let request =
        GetRequest { url, accept: "application/json", etag: None, bearer: None, max_bytes };
    let unreachable = || {
        let why = "must publish its metadata at `/.well-known/openid-configuration` below it, \
                   where the server reaches it without a redirect";
        DiscoveryFailure::new(DiscoveryStep::Unreachable, why)
    };
    match app.http_client.get(&request).await {
        Ok(response) if response.status == 200 => Ok(response.body),
        Ok(response) => {
            tracing::info!(status = response.status, "a provider's metadata was not fetched");
            Err(unreachable())
        }
        Err(FetchError::TooLarge(bytes)) => {
            let why = format!("must publish metadata of at most {bytes} bytes");
            Err(DiscoveryFailure::new(DiscoveryStep::BadJson, why))
        }
        Err(error) => {
            tracing::info!(cause = %error, "a provider's metadata was not fetched");
            Err(unreachable())
        }
    }
}

/// Returns the error for a request that names an issuer whose metadata cannot be used.
#[must_use]
pub fn invalid_issuer(failure: &DiscoveryFailure) -> Error {
    Error::invalid(vec![Issue::field("issuer", failure.to_string())])
}

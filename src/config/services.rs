//! The operator's own services that OAuth tokens may be for (RFC 8707).

use url::Url;

use crate::config::env::Env;
use crate::config::verification::VerificationSettings;
use crate::model::ValidationError;
use crate::model::oauth::resource::Resource;

/// A service of the operator's own that tokens may be for.
pub struct Service {
    /// Its identifier.
    pub resource: Resource,
    /// The verifier that stands for it; with `None`, every verifier without a service of its own.
    pub(super) verifier: Option<String>,
    /// Whether its access tokens are JWTs (RFC 9068), which it verifies by itself.
    pub takes_jwt: bool,
}

/// Reads the services, and which of them take JWTs.
///
/// This API takes opaque tokens alone.
pub(super) fn read(
    env: &mut Env<'_>,
    public_url: &Url,
    verification: &VerificationSettings,
) -> Vec<Service> {
    let mut services = env.optional("OAUTH_RESOURCES", parse_services).unwrap_or_default();
    for name in services.iter().filter_map(|service| service.verifier.as_deref()) {
        if !verification.has_verifier(name) {
            let problem = format!("names the verifier {name}, which VERIFIER_KEYS does not");
            env.add_problem("OAUTH_RESOURCES", &problem);
        }
    }
    let own = Resource::parse(public_url.as_str());
    for resource in env.optional("OAUTH_JWT_RESOURCES", parse_resources).unwrap_or_default() {
        if own.as_ref() == Ok(&resource) {
            env.add_problem("OAUTH_JWT_RESOURCES", "must not have PUBLIC_URL");
            continue;
        }
        let listed = services.iter_mut().find(|service| service.resource == resource);
        if let Some(service) = listed {
            service.takes_jwt = true;
        } else {
            let problem = format!("has {}, which OAUTH_RESOURCES has not", resource.as_str());
            env.add_problem("OAUTH_JWT_RESOURCES", &problem);
        }
    }
    services
}

fn parse_services(text: &str) -> Result<Vec<Service>, ValidationError> {
    text.split(',').map(|item| parse_service(item.trim())).collect()
}

/// Parses a service, with or without its verifier: `uri` or `verifier=uri`.
fn parse_service(item: &str) -> Result<Service, ValidationError> {
    let is_name = |text: &&str| !text.contains(':');
    let named = item.split_once('=').filter(|(name, _)| is_name(name));
    let (verifier, uri) = named.map_or((None, item), |(name, uri)| (Some(name.to_owned()), uri));
    Ok(Service { resource: Resource::parse(uri)?, verifier, takes_jwt: false })
}

fn parse_resources(text: &str) -> Result<Vec<Resource>, ValidationError> {
    let parse = |item: &str| Resource::parse(item.trim());
    let resources: Result<Vec<_>, _> = text.split(',').map(parse).collect();
    resources.map_err(|_| "must be URIs of OAUTH_RESOURCES, without the names of verifiers".into())
}

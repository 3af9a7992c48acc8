//! The API's own description (`OpenAPI` 3.1), generated from the handlers.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app::App;
use crate::http::dialect::Family;
use crate::http::{account, health, jwks, onboarding, operator, organization, routes, user};
use crate::model::role;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tenantry",
        description = "Everything between a stranger and an authenticated request: signup, \
                       organizations, API keys, usage, a trail."
    ),
    tags(
        (name = "onboarding", description = "A stranger's script, later its key."),
        (name = "account", description = "A dashboard front end signs people up and in."),
        (name = "organization", description = "An organization's own automation."),
        (name = "operator", description = "The operator's workers: billing, support."),
        (name = "user", description = "Browsers and personal access tokens."),
        (name = "health", description = "Outside the families; failures are RFC 9457 problems.")
    ),
    paths(health::live, health::ready, jwks::show),
    components(schemas(
        onboarding::dialect::Failed,
        account::dialect::Failed,
        organization::dialect::Failed,
        operator::dialect::Failed,
        operator::dialect::FailedForKey,
        user::dialect::Failed
    )),
    modifiers(&Credentials, &Rights)
)]
struct Description;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let header = ApiKeyValue::with_description("X-Api-Key", "A key.");
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key, or an access token of a session."))
            .build();
        let components = document.components.get_or_insert_default();
        let cookie = ApiKeyValue::with_description(
            "tenantry_session",
            "A person's session; `__Host-tenantry_session` where the API is served over https.",
        );
        let master = ApiKeyValue::with_description(
            "X-API-Key",
            "The master key of the route's scope: a secret of `MASTER_ADMIN_KEY_<SCOPE>`.",
        );
        components
            .add_security_scheme("master_key", SecurityScheme::ApiKey(ApiKey::Header(master)));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// Who may do what is told where it is asked for: with the routes of an organization's people.
struct Rights;

impl Modify for Rights {
    fn modify(&self, document: &mut Document) {
        let tags = document.tags.iter_mut().flatten();
        for tag in tags.filter(|tag| tag.name == "user") {
            let description = tag.description.get_or_insert_default();
            *description = format!(
                "{description}\n\nIn an organization, a credential needs the scope, and its person \
                 the role. An organization's own key needs the scope alone, but for owners it must \
                 have been minted by one.\n\n{}",
                role::table()
            );
        }
    }
}

/// Whatever takes a key can be refused for the month's quota, in its family's words.
fn describe_quota(path: &str, item: &mut PathItem) {
    let schema = match Family::of(path) {
        Family::Onboarding => "onboarding.Error",
        Family::Organization => "organization.Error",
        Family::Operator => "operator.KeyError",
        Family::User => "user.Error",
        Family::Account | Family::None => return,
    };
    let PathItem { get, put, post, delete, patch, .. } = item;
    let takes_a_key = |operation: &Operation| {
        let key = SecurityRequirement::new::<_, [&str; 0], &str>("api_key", []);
        operation.security.as_ref().is_some_and(|any| any.contains(&key))
    };
    let operations = [get, put, post, delete, patch].into_iter().flatten();
    for operation in operations.filter(|operation| takes_a_key(operation)) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        let refused = ResponseBuilder::new()
            .description("The plan's requests of this month are spent; `Retry-After` says when.")
            .content("application/json", content)
            .build();
        operation.responses.responses.entry("429".to_owned()).or_insert(refused.into());
    }
}

/// The described routes, and their description.
pub fn split() -> (Router<App>, Document) {
    let (routes, described) = routes().split_for_parts();
    let mut document = Description::openapi();
    document.merge(described);
    for (path, item) in &mut document.paths.paths {
        describe_quota(path, item);
    }
    (routes, document)
}

/// The description as the committed file holds it.
///
/// # Errors
/// Where it can not be written as YAML.
pub fn yaml() -> Result<String, impl std::error::Error> {
    split().1.to_yaml()
}

/// `/openapi.yaml`, `/openapi.json`, and `/docs` to read it in a browser, without a network.
pub fn routes_of(document: Document) -> Router<App> {
    let yaml = document.to_yaml().unwrap_or_default();
    let serve = || async move { ([(header::CONTENT_TYPE, "application/yaml")], yaml) };
    let docs = SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none"));
    Router::new().route("/openapi.yaml", get(serve)).merge(docs.url("/openapi.json", document))
}

//! The API description (`OpenAPI` 3.1), generated from the handlers.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, Method};
use axum::response::Redirect;
use axum::routing::get;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app::App;
use crate::http::family::{AcceptedCredentials, Family, RouteTable, Routes};
use crate::http::oauth::metadata;
use crate::http::public_document::PublicDocument;
use crate::http::render::{account, oauth, onboarding, operator, organization, user};
use crate::http::{github, health, jwks, routes, stripe};
use crate::model::role;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tenantry",
        description = "Everything between a stranger and an authenticated request: signup, \
                       organizations, API keys, usage, an audit log."
    ),
    tags(
        (name = "onboarding", description = "A stranger's script, later its key."),
        (name = "account", description = "A dashboard front end: sign-up and sign-in of accounts."),
        (name = "organization", description = "An organization's own automation."),
        (name = "operator", description = "The operator's workers: billing, support."),
        (name = "user", description = "Browsers and personal access tokens."),
        (name = "verification",
         description = "The operator's own API and its proxies, the *verifiers*, check customers' \
                        credentials. A *check* is a request to verify a credential (`/v1/verify`, \
                        `/v1/verify/token` and the routes for proxies), or one item of \
                        `/v1/verify/batch`."),
        (name = "oauth",
         description = "The authorization server, for third-party apps (RFC 6749)."),
        (name = "webhooks", description = "Events from other services."),
        (name = "health", description = "Outside the families; failures are RFC 9457 problems.")
    ),
    paths(
        health::live,
        health::ready,
        jwks::show,
        metadata::authorization_server,
        metadata::openid_provider,
        metadata::protected_resource,
        stripe::receive,
        github::receive
    ),
    components(schemas(
        onboarding::ErrorBody,
        account::ErrorBody,
        organization::ErrorBody,
        operator::ErrorBody,
        operator::KeyErrorBody,
        oauth::ErrorBody,
        user::ErrorBody
    )),
    modifiers(&SecuritySchemes, &RoleTable)
)]
struct ApiDocument;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
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
        let verifier = ApiKeyValue::with_description(
            "X-Tenantry-Verifier",
            "A verifier's secret: one of `VERIFIER_KEYS`.",
        );
        let verifier_bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A verifier's secret, at the JSON routes."))
            .build();
        let verifier_basic = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("A verifier's name and secret, at `/oauth2/introspect`."))
            .build();
        let client_basic = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("An OAuth client's id and secret."))
            .build();
        let oauth_token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An OAuth access token."))
            .build();
        components.add_security_scheme("oauth_token", SecurityScheme::Http(oauth_token));
        let registration = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The registration access token of an OAuth client; to register one, \
                 `OAUTH_DCR_TOKEN`.",
            ))
            .build();
        components.add_security_scheme("registration", SecurityScheme::Http(registration));
        components.add_security_scheme("client_basic", SecurityScheme::Http(client_basic));
        components.add_security_scheme("verifier_basic", SecurityScheme::Http(verifier_basic));
        components.add_security_scheme("verifier_bearer", SecurityScheme::Http(verifier_bearer));
        components
            .add_security_scheme("verifier", SecurityScheme::ApiKey(ApiKey::Header(verifier)));
        let stripe = ApiKeyValue::with_description(
            "Stripe-Signature",
            "Stripe's signature of the body, with a secret of `STRIPE_WEBHOOK_SECRET`.",
        );
        let stripe = SecurityScheme::ApiKey(ApiKey::Header(stripe));
        components.add_security_scheme("stripe_signature", stripe);
        let github = ApiKeyValue::with_description(
            "Github-Public-Key-Signature",
            "GitHub's signature of the body: ECDSA P-256 with SHA-256, base64 of DER.",
        );
        let github = SecurityScheme::ApiKey(ApiKey::Header(github));
        components.add_security_scheme("github_signature", github);
        components
            .add_security_scheme("master_key", SecurityScheme::ApiKey(ApiKey::Header(master)));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// Adds the table of roles to the description of the user family.
struct RoleTable;

impl Modify for RoleTable {
    fn modify(&self, document: &mut Document) {
        let tags = document.tags.iter_mut().flatten();
        for tag in tags.filter(|tag| tag.name == "user") {
            let description = tag.description.get_or_insert_default();
            *description = format!(
                "{description}\n\nIn an organization, a credential needs the scope, and its \
                 account the role. An organization's own key needs only the scope, but if the role \
                 is owner, an owner must have created the key.\n\n{}",
                role::markdown_table()
            );
        }
    }
}

/// A router, with the facts and the description of its routes.
pub struct ApiDescription {
    /// The routes.
    pub router: Router<App>,
    /// The facts of the routes.
    pub table: RouteTable,
    /// The description of the routes.
    pub document: Document,
}

/// Splits declared routes into their router, facts and description.
#[must_use]
pub fn describe(declared: Routes) -> ApiDescription {
    let (router, operations) = declared.router.split_for_parts();
    let mut document = ApiDocument::openapi();
    document.merge(operations);
    describe_rate_limits(&mut document, &declared.table);
    ApiDescription { router, table: declared.table, document }
}

/// Describes the 429 response of every route except the health checks, which are not rate limited,
/// in the shape of the route's family.
fn describe_rate_limits(document: &mut Document, table: &RouteTable) {
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/health/") {
            continue;
        }
        let facts = table.facts(path, &Method::GET, path);
        let schema = match facts.family {
            Family::Onboarding => "onboarding.Error",
            Family::Account => "account.Error",
            Family::Organization | Family::Verification => "organization.Error",
            Family::Operator if facts.credentials == AcceptedCredentials::OrganizationKeys => {
                "operator.KeyError"
            }
            Family::Operator => "operator.Error",
            Family::User => "user.Error",
            Family::OAuth => "oauth.Error",
            Family::Other => "Problem",
        };
        let media_type = match facts.family {
            Family::Other => "application/problem+json",
            _ => "application/json",
        };
        let limited = ResponseBuilder::new()
            .description("Too many requests; try again after `Retry-After` seconds.")
            .content(media_type, Content::new(Some(Ref::from_schema_name(schema))))
            .build();
        let operations =
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.entry("429".to_owned()).or_insert_with(|| limited.clone().into());
        }
    }
}

/// Returns the description as `openapi.yaml` contains it.
///
/// # Errors
/// The description cannot be written as YAML.
pub fn yaml() -> Result<String, impl std::error::Error> {
    describe(routes()).document.to_yaml()
}

/// The description in both formats. Each is written at the first request for it, because that takes
/// longer than all else that a server does when it starts.
static YAML: LazyLock<PublicDocument> =
    LazyLock::new(|| PublicDocument::new("application/yaml", yaml().unwrap_or_default()));
static JSON: LazyLock<PublicDocument> = LazyLock::new(|| {
    let json = describe(routes()).document.to_json();
    PublicDocument::new("application/json", json.unwrap_or_default())
});

/// Returns the routes of the description: `/openapi.yaml`, `/openapi.json`, and `/docs`, which
/// shows it in a browser without a network. `/` redirects to `/docs`.
pub fn document_routes() -> Router<App> {
    let docs = SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none"));
    Router::new()
        .route("/", get(async || Redirect::temporary("/docs/")))
        .route("/openapi.yaml", get(async |headers: HeaderMap| YAML.respond(&headers)))
        .route("/openapi.json", get(async |headers: HeaderMap| JSON.respond(&headers)))
        .merge(docs)
}

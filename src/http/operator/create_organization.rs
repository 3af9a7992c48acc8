//! `POST /v1/admin/org/create`: creates an organization and its first key.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::CreatedKey;
use crate::domain::organizations::provisioning::{self, OrganizationSpec};
use crate::error::Result;
use crate::http::auth::{MasterKeyGuard, OrgCreate};
use crate::http::body::{Fields, FromFields, JsonBody, parse_metadata, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::ChangeResponse;
use crate::http::limits_and_credits::{
    Credits as CreditsBody, NamedRateLimit, SNAKE_CASE, take_credits, take_limits,
};
use crate::http::operator::idempotency::{RequireIdempotencyKey, RequiredIdempotencyHeader};
use crate::http::operator::wire::{KEY_WARNING, ResponseMeta};
use crate::http::render::operator::{
    BadRequest, Conflict, RateLimited, TooLarge, Unauthorized, Unavailable, Unprocessable,
    UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::wire::Timestamp;
use crate::model::credits::Credits;
use crate::model::external_actor::ExternalActor;
use crate::model::leak::LeakPolicy;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, OrganizationName};
use crate::model::organization::{BusinessDomain, OrganizationSettings};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::origin::{Origin, parse_comma_separated_origins};
use crate::model::plan::Plan;
use axum::http::StatusCode;

/// The attributes of an organization to create.
#[derive(ToSchema)]
#[schema(as = operator::CreateOrganizationRequest)]
pub struct CreateOrganizationRequest {
    /// The organization's id. Ids are unique regardless of case.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$",
             examples("org_acme_2026_example"))]
    org_id: OrganizationHandle,
    #[schema(value_type = String, min_length = 1, max_length = 128, examples("Acme Corp"))]
    name: OrganizationName,
    /// Its business sector: `general`, `healthcare`, `financial`, `employment`, `education`,
    /// `housing`, `insurance` or `government`.
    #[schema(value_type = String, examples("general"))]
    domain: BusinessDomain,
    /// Its plan: `trial`, `starter`, `standard`, `pro`, `scale` or `enterprise`.
    #[schema(value_type = String, examples("starter"))]
    tier: Plan,
    /// The origins whose scripts may use the organization's keys in browsers: 1 to 50, separated by
    /// commas.
    #[schema(value_type = String, examples("https://acme.example.com"))]
    allowed_origins: Vec<Origin>,
    /// The operator's own id for it, at most 128 characters. Several may have the same.
    #[schema(value_type = Option<String>, max_length = 128, examples("cus_1042"))]
    external_id: Option<ExternalId>,
    /// Strings by name, at most 4 KiB in total.
    #[schema(value_type = Option<Object>, examples(json!({ "region": "eu" })))]
    metadata: Option<Metadata>,
    /// Rate limits that its credentials share.
    #[schema(value_type = Option<Vec<NamedRateLimit>>, max_items = 10)]
    limits: Option<NamedLimits>,
    /// Prepaid units that checks of its credentials (`/v1/verify`) take. Default: checks need
    /// none.
    #[schema(value_type = Option<CreditsBody>)]
    credits: Option<Credits>,
    /// What is done with a key that is reported as leaked: `notify`, `disable` (the default) or
    /// `revoke`. With `allowed_origins`, its keys are public and continue to work.
    #[schema(value_type = Option<String>, examples("disable"))]
    leak_policy: Option<LeakPolicy>,
}

impl FromFields for CreateOrganizationRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let org_id = fields.required("org_id", text(OrganizationHandle::parse));
        let name = fields.required("name", text(OrganizationName::parse));
        let domain = fields.required_choice("domain", &BusinessDomain::ALL);
        let tier = fields.required_choice("tier", &Plan::ALL);
        let allowed_origins =
            fields.required("allowed_origins", text(parse_comma_separated_origins));
        let external_id = fields.optional("external_id", text(ExternalId::parse));
        let metadata = fields.optional("metadata", parse_metadata);
        let limits = take_limits::<SNAKE_CASE>(fields);
        let credits = take_credits(fields);
        let leak_policy = fields.optional_choice("leak_policy", &LeakPolicy::ALL);
        Some(Self {
            org_id: org_id?,
            name: name?,
            domain: domain?,
            tier: tier?,
            allowed_origins: allowed_origins?,
            external_id,
            metadata,
            limits,
            credits,
            leak_policy,
        })
    }
}

/// A new organization.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::CreatedOrganization)]
pub struct CreatedOrganization {
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// The key's text. Only the first response contains it; a replay does not.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>, nullable = false, examples("tnt_live_a1b2c3d4…"))]
    api_key: ShownOnce,
    /// The 8 characters after the prefix of the key's text, to tell keys apart.
    #[schema(examples("a1b2c3d4"))]
    prefix: String,
    created_at: Timestamp,
    #[schema(examples("This API key is shown ONCE. Store it securely."))]
    warning: &'static str,
    /// True in a replayed response; absent in the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    already_provisioned: Option<bool>,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Create an organization and its first key, which has all scopes.
///
/// Only the first response contains the key's text. The owner's membership belongs to no account
/// until one accepts an invitation as an owner.
#[utoipa::path(post, path = "/v1/admin/org/create", operation_id = "provisionOrganization",
    tag = "operator", request_body = CreateOrganizationRequest, params(RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 201, description = "Created by this request or the one it repeats.",
               body = CreatedOrganization),
              BadRequest, Unauthorized, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    MasterKeyGuard(scope, _): MasterKeyGuard<OrgCreate>,
    context: RequestContext,
    RequireIdempotencyKey(idempotency): RequireIdempotencyKey,
    JsonBody { value: request, fingerprint }: JsonBody<CreateOrganizationRequest>,
) -> Result<Response> {
    let spec = OrganizationSpec {
        handle: request.org_id,
        name: request.name,
        domain: Some(request.domain),
        plan: request.tier,
        allowed_origins: request.allowed_origins,
        settings: OrganizationSettings {
            external_id: request.external_id.map(|it| it.as_str().to_owned()),
            metadata: request.metadata.unwrap_or_default(),
            limits: request.limits.unwrap_or_default(),
            credits: request.credits,
        },
        leak_policy: request.leak_policy.unwrap_or_default(),
    };
    idempotency
        .run(&app, scope, fingerprint, async |tx| {
            let audit = context.audit_context_for(StatusCode::CREATED);
            let created =
                provisioning::provision(&app, tx, &spec, ExternalActor::Master(scope), &audit)
                    .await?;
            let CreatedKey { secret, key } = created;
            let response = |api_key, already_provisioned| CreatedOrganization {
                org_id: spec.handle.as_str().to_owned(),
                api_key,
                prefix: key.display_id.clone(),
                created_at: Timestamp(audit.at),
                warning: KEY_WARNING,
                already_provisioned,
                stamp: ResponseMeta::from(&context),
            };
            let replay_body = response(ShownOnce::NONE, Some(true));
            let first = ChangeResponse::created(response(secret.into(), None));
            Ok(first.with_replay_body(replay_body))
        })
        .await
}

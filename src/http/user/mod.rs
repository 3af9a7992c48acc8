//! The `user` family: browser sessions, personal access tokens and organization keys. Responses are
//! `{success, status, code, message, data, meta}` in `camelCase`.

mod account;
mod api_key_changes;
mod api_keys;
mod app_attributes;
mod app_grants;
mod app_policy;
mod app_secrets;
mod apps;
mod audit_logs;
mod authorized_apps;
mod claim_key;
mod html_pages;
mod invites;
mod members;
mod offset_page;
mod organization;
mod organizations;
mod passwords;
mod payments;
mod personal_tokens;
mod projects;
mod responses;
mod sessions;
mod sign_in;
mod sign_up;
mod sso;
mod usage;
mod verify_email;
mod wire;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind, Routes};

/// Returns the family's routes.
#[must_use]
pub fn routes() -> Routes {
    Routes::from(in_the_name_of_callers()).merge(sso::browser_routes())
}

fn in_the_name_of_callers() -> FamilyRoutes {
    sso::add_routes(FamilyRoutes::new(Family::User, AcceptedCredentials::Any))
        .route(RouteKind::HASH_OR_MAIL, routes!(sign_up::sign_up))
        .route(RouteKind::HASH_OR_MAIL, routes!(sign_in::sign_in))
        .route(RouteKind::DELETE, routes!(sign_in::sign_out))
        .route(RouteKind::READ, routes!(sign_in::get_session))
        .route(RouteKind::READ, routes!(verify_email::show_page))
        .route(RouteKind::HASH_OR_MAIL, routes!(verify_email::verify))
        .route(RouteKind::HASH_OR_MAIL, routes!(verify_email::resend))
        .route(RouteKind::HASH_OR_MAIL, routes!(passwords::request_reset))
        .route(RouteKind::READ, routes!(passwords::show_page))
        .route(RouteKind::HASH_OR_MAIL, routes!(passwords::reset))
        .route(RouteKind::HASH_OR_MAIL, routes!(passwords::change))
        .route(RouteKind::READ, routes!(claim_key::show_page))
        .route(RouteKind::WRITE, routes!(claim_key::claim))
        .route(RouteKind::READ, routes!(sessions::list))
        .route(RouteKind::DELETE, routes!(sessions::revoke))
        .route(RouteKind::DELETE, routes!(sessions::revoke_others))
        .route(RouteKind::WRITE, routes!(personal_tokens::create))
        .route(RouteKind::READ, routes!(personal_tokens::list))
        .route(RouteKind::READ, routes!(personal_tokens::show))
        .route(RouteKind::WRITE, routes!(personal_tokens::update))
        .route(RouteKind::DELETE, routes!(personal_tokens::delete))
        .route(RouteKind::READ, routes!(account::show))
        .route(RouteKind::WRITE, routes!(account::update))
        .route(RouteKind::HASH_AND_DELETE, routes!(account::delete))
        .route(RouteKind::READ, routes!(organizations::list))
        .route(RouteKind::WRITE, routes!(organizations::create))
        .route(RouteKind::READ, routes!(organization::show))
        .route(RouteKind::WRITE, routes!(organization::update))
        .route(RouteKind::DELETE, routes!(organization::delete))
        .route(RouteKind::READ, routes!(members::my_membership))
        .route(RouteKind::READ, routes!(members::list))
        .route(RouteKind::WRITE, routes!(members::change_role))
        .route(RouteKind::DELETE, routes!(members::remove))
        .route(RouteKind::READ, routes!(invites::list))
        .route(RouteKind::HASH_OR_MAIL, routes!(invites::create))
        .route(RouteKind::DELETE, routes!(invites::revoke))
        .route(RouteKind::HASH_OR_MAIL, routes!(invites::resend))
        .route(RouteKind::READ, routes!(invites::show_page))
        .route(RouteKind::WRITE, routes!(invites::accept))
        .route(RouteKind::READ, routes!(api_keys::list))
        .route(RouteKind::WRITE, routes!(api_keys::create))
        .route(RouteKind::WRITE, routes!(api_key_changes::update))
        .route(RouteKind::DELETE.quota_exempt(), routes!(api_key_changes::revoke))
        .route(RouteKind::WRITE, routes!(api_key_changes::rotate))
        .route(RouteKind::READ, routes!(audit_logs::list))
        .route(RouteKind::READ.quota_exempt(), routes!(usage::show))
        .route(RouteKind::READ, routes!(payments::list))
        .route(RouteKind::READ, routes!(projects::list))
        .route(RouteKind::WRITE, routes!(projects::create))
        .route(RouteKind::READ, routes!(projects::show))
        .route(RouteKind::WRITE, routes!(projects::update))
        .route(RouteKind::DELETE, routes!(projects::delete))
        .route(RouteKind::READ, routes!(apps::list))
        .route(RouteKind::WRITE, routes!(apps::create))
        .route(RouteKind::READ, routes!(apps::show))
        .route(RouteKind::WRITE, routes!(apps::update))
        .route(RouteKind::DELETE, routes!(apps::delete))
        .route(RouteKind::WRITE, routes!(app_secrets::create))
        .route(RouteKind::DELETE, routes!(app_secrets::delete))
        .route(RouteKind::READ, routes!(app_policy::show))
        .route(RouteKind::WRITE, routes!(app_policy::update))
        .route(RouteKind::READ, routes!(app_grants::list))
        .route(RouteKind::DELETE, routes!(app_grants::revoke))
        .route(RouteKind::DELETE, routes!(app_grants::revoke_of_client))
        .route(RouteKind::READ, routes!(authorized_apps::list))
        .route(RouteKind::DELETE, routes!(authorized_apps::revoke))
}

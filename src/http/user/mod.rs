//! The `user` family (contract §6): browser sessions, personal access tokens and organization keys.
//! Responses are `{success, status, code, message, data, meta}` in `camelCase`.

mod account;
mod api_key_changes;
mod api_keys;
mod audit_logs;
mod claim_key;
pub mod dialect;
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
mod sessions;
mod sign_in;
mod sign_up;
mod usage;
mod verify_email;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The family's routes.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_up::sign_up))
        .routes(routes!(sign_in::sign_in))
        .routes(routes!(sign_in::sign_out))
        .routes(routes!(sign_in::get_session))
        .routes(routes!(verify_email::show_page, verify_email::verify))
        .routes(routes!(verify_email::resend))
        .routes(routes!(passwords::request_reset))
        .routes(routes!(passwords::show_page, passwords::reset))
        .routes(routes!(passwords::change))
        .routes(routes!(claim_key::show_page, claim_key::claim))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::revoke))
        .routes(routes!(sessions::revoke_others))
        .routes(routes!(personal_tokens::create))
        .routes(routes!(personal_tokens::list))
        .routes(routes!(personal_tokens::show))
        .routes(routes!(personal_tokens::update))
        .routes(routes!(personal_tokens::delete))
        .routes(routes!(account::show, account::update, account::delete))
        .routes(routes!(organizations::list, organizations::create))
        .routes(routes!(organization::show, organization::update, organization::delete))
        .routes(routes!(members::my_membership))
        .routes(routes!(members::list))
        .routes(routes!(members::change_role))
        .routes(routes!(members::remove))
        .routes(routes!(invites::list, invites::create))
        .routes(routes!(invites::revoke))
        .routes(routes!(invites::resend))
        .routes(routes!(invites::show_page, invites::accept))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_key_changes::update, api_key_changes::revoke))
        .routes(routes!(api_key_changes::rotate))
        .routes(routes!(audit_logs::list))
        .routes(routes!(usage::show))
        .routes(routes!(payments::list))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::show, projects::update, projects::delete))
}

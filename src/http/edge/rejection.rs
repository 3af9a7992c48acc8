//! Records a rejected request for the organization of its caller. A request without a known
//! credential belongs to no organization and is not recorded.

use crate::app::App;
use crate::app::meter::RequestOutcome;
use crate::error::{AuthFailure, Error, ErrorKind};
use crate::http::auth::rejected_caller::RejectedCaller;
use crate::http::edge::context::RequestContext;
use crate::http::render::kinds::mapping;
use crate::model::caller::KeyRejectionReason;
use crate::model::ids::RejectionId;
use crate::model::rejection::Rejection;

/// The maximum number of characters of a message that are stored.
const MAX_DETAIL_CHARS: usize = 256;

/// Records a failed request if it was rejected and its caller is known.
pub fn record(app: &App, context: &RequestContext, status: u16, error: &Error) {
    let Some(rejected) = rejected_caller(context, error) else { return };
    app.rejections.record_request(rejected.organization, || Rejection {
        id: RejectionId::new(context.received_at, &*app.entropy),
        key_display_id: rejected.key_display_id,
        method: context.method.to_owned(),
        path: context.route.clone(),
        status,
        code: mapping(error.kind()).code.to_owned(),
        detail: detail(rejected.reason, error).chars().take(MAX_DETAIL_CHARS).collect(),
        address: context.client_address.map(|address| address.to_string()),
        request_id: context.id.clone(),
        created_at: context.received_at,
    });
}

/// Returns the caller whose request an error rejects: the owner of a rejected credential, or the
/// caller of the request. Returns `None` if the error is not a rejection, or its caller is unknown.
fn rejected_caller(context: &RequestContext, error: &Error) -> Option<RejectedCaller> {
    let is_invalid_credential = match error.kind() {
        ErrorKind::Unauthenticated(AuthFailure::InvalidKey) => true,
        // With a valid credential, the invalid token is that of a link in a mail.
        ErrorKind::Unauthenticated(AuthFailure::InvalidToken) => {
            context.rejected_caller.get().is_some()
        }
        _ => false,
    };
    if !is_invalid_credential && mapping(error.kind()).outcome == RequestOutcome::Answered {
        return None;
    }
    if let Some(rejected) = context.rejected_caller.get() {
        return Some(rejected.clone());
    }
    let identity = context.identity.get()?;
    match context.path_organization.get() {
        Some(organization) => Some(RejectedCaller::in_organization(*organization, identity)),
        None => RejectedCaller::from_identity(identity),
    }
}

/// Returns the error's message, which names what is missing or exceeded. For an invalid key it
/// includes the reason.
fn detail(reason: Option<KeyRejectionReason>, error: &Error) -> String {
    match (reason, error.kind()) {
        (Some(reason), ErrorKind::Unauthenticated(_)) => {
            format!("{}: {}", error.message(), reason.as_str())
        }
        _ => error.message().to_owned(),
    }
}

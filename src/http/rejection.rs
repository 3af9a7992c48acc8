//! Whose denial a refused request is, and what its organization is told of it. What is wrong with a
//! credential that nobody knows is nobody's denial.

use crate::app::App;
use crate::error::{AuthFailure, Error, ErrorKind};
use crate::http::context::RequestContext;
use crate::http::error_details::code;
use crate::http::middleware::is_rejection;
use crate::model::caller::{Credential, Identity, KeyRejectionReason, RejectedKey};
use crate::model::ids::{OrganizationId, RejectionId};
use crate::model::rejection::Rejection;

/// How much of a reason is kept.
const MAX_DETAIL_CHARS: usize = 256;

/// Who is refused.
#[derive(Clone)]
pub struct RejectedCaller {
    /// Whose denial it is.
    organization: OrganizationId,
    /// The key or personal token, as it may be shown; `None` for a person's session.
    key_display_id: Option<String>,
    /// What is wrong with the key, which whoever shows it is not told.
    reason: Option<KeyRejectionReason>,
}

impl RejectedCaller {
    /// The holder of a good credential; `None` where they act in no organization.
    #[must_use]
    pub fn from_identity(identity: &Identity) -> Option<Self> {
        let organization = identity.caller.as_ref().map(|caller| caller.organization)?;
        Some(Self { organization, key_display_id: display_id(identity), reason: None })
    }
}

impl From<&RejectedKey> for RejectedCaller {
    fn from(key: &RejectedKey) -> Self {
        let (organization, reason) = (key.organization, Some(key.reason));
        Self { organization, key_display_id: Some(key.key_display_id.clone()), reason }
    }
}

/// Notes a request that failed, where it was refused to somebody who is known.
pub fn record(app: &App, context: &RequestContext, status: u16, error: &Error) {
    let Some(denied) = rejected_caller(context, error) else { return };
    app.rejections.record(denied.organization, || Rejection {
        id: RejectionId::new(context.received_at, &*app.entropy),
        key_display_id: denied.key_display_id,
        method: context.method.to_owned(),
        path: context.route.clone(),
        status,
        code: code(error.kind()).to_owned(),
        detail: detail(denied.reason, error).chars().take(MAX_DETAIL_CHARS).collect(),
        address: context.client_address.map(|address| address.to_string()),
        request_id: context.id.clone(),
        created_at: context.received_at,
    });
}

/// Who is refused by this failure: the holder of what was shown and not taken, or the caller.
fn rejected_caller(context: &RequestContext, error: &Error) -> Option<RejectedCaller> {
    let is_of_credential = match error.kind() {
        ErrorKind::Unauthenticated(AuthFailure::InvalidKey) => true,
        // Of a caller who is known, it is another token that is wrong: that of a mailed link.
        ErrorKind::Unauthenticated(AuthFailure::InvalidToken) => {
            context.rejected_caller.get().is_some()
        }
        _ => false,
    };
    if !is_of_credential && !is_rejection(error) {
        return None;
    }
    if let Some(denied) = context.rejected_caller.get() {
        return Some(denied.clone());
    }
    let identity = context.identity.get()?;
    match context.path_organization.get() {
        Some(organization) => Some(RejectedCaller {
            organization: *organization,
            key_display_id: display_id(identity),
            reason: None,
        }),
        None => RejectedCaller::from_identity(identity),
    }
}

fn display_id(identity: &Identity) -> Option<String> {
    let key = identity.credential().and_then(Credential::key);
    key.map(|key| key.display_id.clone())
}

/// What the refusal says itself, which names what is missing or spent; of a key that is not good
/// any more its organization learns why.
fn detail(reason: Option<KeyRejectionReason>, error: &Error) -> String {
    match (reason, error.kind()) {
        (Some(reason), ErrorKind::Unauthenticated(_)) => {
            format!("{}: {}", error.message(), reason.as_str())
        }
        _ => error.message().to_owned(),
    }
}

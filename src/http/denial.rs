//! Whose denial a refused request is, and what its organization is told of it. What is wrong with a
//! credential that nobody knows is nobody's denial.

use crate::app::App;
use crate::error::{Error, Kind, Proof};
use crate::http::boundary::is_denial;
use crate::http::context::RequestContext;
use crate::http::details::code;
use crate::model::caller::{Credential, Identity, Refusal, RefusedKey};
use crate::model::denial::Denial;
use crate::model::ids::{DenialId, OrganizationId};

/// How much of a reason is kept.
const DETAIL: usize = 256;

/// Who is refused.
#[derive(Clone)]
pub struct Denied {
    /// Whose denial it is.
    organization: OrganizationId,
    /// The key or personal token, as it may be shown; `None` for a person's session.
    key_display_id: Option<String>,
    /// What is wrong with the key, which whoever shows it is not told.
    reason: Option<Refusal>,
}

impl Denied {
    /// The holder of a good credential; `None` where they act in no organization.
    #[must_use]
    pub fn of(identity: &Identity) -> Option<Self> {
        let organization = identity.caller.as_ref().map(|caller| caller.organization)?;
        Some(Self { organization, key_display_id: display_id(identity), reason: None })
    }
}

impl From<&RefusedKey> for Denied {
    fn from(key: &RefusedKey) -> Self {
        let (organization, reason) = (key.organization, Some(key.reason));
        Self { organization, key_display_id: Some(key.key_display_id.clone()), reason }
    }
}

/// Notes a request that failed, where it was refused to somebody who is known.
pub fn note(app: &App, context: &RequestContext, status: u16, error: &Error) {
    let Some(denied) = denied(context, error) else { return };
    app.denials.note(denied.organization, || Denial {
        id: DenialId::new(context.at, &*app.entropy),
        key_display_id: denied.key_display_id,
        method: context.method.to_owned(),
        path: context.route.clone(),
        status,
        code: code(error.kind()).to_owned(),
        detail: detail(denied.reason, error).chars().take(DETAIL).collect(),
        address: context.address.map(|address| address.to_string()),
        request_id: context.id.clone(),
        created_at: context.at,
    });
}

/// Who is refused by this failure: the holder of what was shown and not taken, or the caller.
fn denied(context: &RequestContext, error: &Error) -> Option<Denied> {
    let is_of_credential = match error.kind() {
        Kind::Unauthenticated(Proof::Key) => true,
        // Of a caller who is known, it is another token that is wrong: that of a mailed link.
        Kind::Unauthenticated(Proof::Token) => context.denied.get().is_some(),
        _ => false,
    };
    if !is_of_credential && !is_denial(error) {
        return None;
    }
    if let Some(denied) = context.denied.get() {
        return Some(denied.clone());
    }
    let identity = context.caller.get()?;
    match context.acting_in.get() {
        Some(organization) => Some(Denied {
            organization: *organization,
            key_display_id: display_id(identity),
            reason: None,
        }),
        None => Denied::of(identity),
    }
}

fn display_id(identity: &Identity) -> Option<String> {
    let key = identity.credential().and_then(Credential::key);
    key.map(|key| key.display_id.clone())
}

/// What the refusal says itself, which names what is missing or spent; of a key that is not good
/// any more its organization learns why.
fn detail(reason: Option<Refusal>, error: &Error) -> String {
    match (reason, error.kind()) {
        (Some(reason), Kind::Unauthenticated(_)) => {
            format!("{}: {}", error.message(), reason.as_str())
        }
        _ => error.message().to_owned(),
    }
}

//! The caller whose request is rejected.

use crate::model::caller::{Credential, Identity, KeyRejectionReason, RejectedKey};
use crate::model::ids::OrganizationId;

/// The caller of a rejected request, for its organization's list of rejections.
#[derive(Clone)]
pub struct RejectedCaller {
    /// The organization that sees the rejection.
    pub organization: OrganizationId,
    /// The display id of the key or personal access token; `None` for other credentials.
    pub key_display_id: Option<String>,
    /// The problem with the key. The organization sees it; the caller does not.
    pub reason: Option<KeyRejectionReason>,
}

impl RejectedCaller {
    /// Returns the owner of a valid credential; `None` if no organization is selected for it.
    #[must_use]
    pub fn from_identity(identity: &Identity) -> Option<Self> {
        let organization = identity.caller.as_ref().map(|caller| caller.organization)?;
        Some(Self::in_organization(organization, identity))
    }

    /// Returns the owner of a valid credential, in an organization.
    #[must_use]
    pub fn in_organization(organization: OrganizationId, identity: &Identity) -> Self {
        let key = identity.credential().and_then(Credential::key);
        let key_display_id = key.map(|key| key.display_id.clone());
        Self { organization, key_display_id, reason: None }
    }
}

impl From<&RejectedKey> for RejectedCaller {
    fn from(key: &RejectedKey) -> Self {
        let (organization, reason) = (key.organization, Some(key.reason));
        Self { organization, key_display_id: Some(key.key_display_id.clone()), reason }
    }
}

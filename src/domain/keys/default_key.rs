//! The default key: created with an account at sign-up, and replaced on request.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::invites;
use crate::domain::keys::{CreatedKey, KeySpec, confirm_caller, insert_key, record_caller_event};
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, Result};
use crate::model::api_key::ApiKey;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::caller::{Caller, Person};
use crate::model::ids::KeyId;
use crate::model::names::KeyName;
use crate::model::scope::{BuiltInScope, ScopeSet};
use crate::repo::{accounts, key_lifecycle, keys, organizations};

/// Creates a new default key for the account in its home organization. The former one is revoked,
/// and so are the keys that replaced it by rotation. If the account has no default key, this
/// creates the first.
///
/// # Errors
/// Unauthenticated if the session has ended meanwhile; forbidden if the account may no longer
/// create keys in its home organization; plan limit if there is no key to replace.
pub async fn regenerate(
    app: &App,
    tx: &mut PgConnection,
    (person, caller): (&Person, &Caller),
    audit: &AuditContext,
) -> Result<CreatedKey> {
    let old = accounts::lock_default_key(tx, person.account).await?;
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(BuiltInScope::ApiKeysWrite)?;
    let replaced = match old {
        Some(old) => revoke_chain(tx, &caller, old, audit).await?,
        None => None,
    };
    if replaced.is_none() {
        check_plan_limit(app, tx, (caller.organization, caller.plan), LimitedResource::Keys)
            .await?;
    }
    let name = replaced.and_then(|key| key.name);
    let name = name.map(|name| KeyName::parse(&name)).transpose();
    let name = name.map_err(|invalid| Error::internal(invalid.to_string()))?;
    let spec = KeySpec::plain(name, ScopeSet::all(), None);
    let created_key =
        insert_key(app, tx, (caller.organization, caller.membership), spec, audit.at).await?;
    accounts::set_default_key(tx, person.account, created_key.key.id).await?;
    let detail = json!({ "display_id": created_key.key.display_id, "name": created_key.key.name });
    record_caller_event(tx, &caller, AuditEventType::KeyCreated, created_key.key.id, detail, audit)
        .await?;
    Ok(created_key)
}

/// Revokes the key, those that replaced it by rotation, and the open invitations that they sent.
/// Returns the one that was live.
async fn revoke_chain(
    tx: &mut PgConnection,
    caller: &Caller,
    first: KeyId,
    audit: &AuditContext,
) -> Result<Option<ApiKey>> {
    let organization = caller.organization;
    let mut chain = Vec::new();
    // A concurrent rotation of the last key adds one more, which is visible once the last key is
    // locked.
    loop {
        let successors = key_lifecycle::list_successors(tx, organization, first).await?;
        if successors.len() == chain.len() {
            break;
        }
        chain = successors;
        keys::lock(tx, organization, &chain).await?;
    }
    let (mut live, actor, reason) = (None, caller.actor(), Some("regenerated"));
    for id in chain {
        let key = keys::find(tx, organization, id).await?;
        live = key.filter(ApiKey::is_live).or(live);
        if key_lifecycle::revoke(tx, organization, id, reason, &actor, audit.at).await? {
            let name = live.as_ref().and_then(|key: &ApiKey| key.name.as_deref());
            let mut detail = json!({ "name": name, "reason": reason });
            let revoked = invites::revoke(tx, organization, Some(&[id]), audit).await?;
            revoked.add_to(&mut detail);
            record_caller_event(tx, caller, AuditEventType::KeyRevoked, id, detail, audit).await?;
        }
    }
    Ok(live)
}

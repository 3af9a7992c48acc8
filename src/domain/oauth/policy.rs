//! Which clients the members of an organization may grant access to.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::keys::record_caller_event;
use crate::domain::oauth::grant_revocation::record_revoked;
use crate::domain::oauth::locks::lock_and_confirm_caller;
use crate::error::{Error, Issue, Result};
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::audit_detail::diff;
use crate::model::caller::Caller;
use crate::model::ids::OrganizationId;
use crate::model::oauth::AppPolicyMode;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::app_policy::{AppPolicy, AppRule};
use crate::model::scope::BuiltInScope;
use crate::repo::{app_grants, app_policies, oauth_clients, rls};

/// Replaces the policy of the caller's organization. The grants that it no longer permits are
/// revoked in the same transaction. Returns the new policy and the number of revoked grants.
///
/// # Errors
/// Forbidden if the policy becomes `open` and the caller is no owner; invalid if a client is
/// unknown; unauthenticated or forbidden if the caller may no longer do this.
pub async fn update(
    tx: &mut PgConnection,
    caller: &Caller,
    policy: &AppPolicy,
    audit: &AuditContext,
) -> Result<(AppPolicy, usize)> {
    let scope = BuiltInScope::OrganizationWrite;
    let caller = lock_and_confirm_caller(tx, caller, scope, audit).await?;
    let organization = caller.organization;
    let before = app_policies::find(tx, organization).await?;
    if policy.mode == AppPolicyMode::Open && before.mode != AppPolicyMode::Open {
        caller.require_owner()?;
    }
    let rules = find_rules(tx, organization, policy).await?;
    app_policies::set_mode(tx, organization, policy.mode, audit.at).await?;
    app_policies::replace_rules(tx, organization, &rules, caller.membership, audit.at).await?;
    let after = app_policies::find(tx, organization).await?;
    let revoked = app_grants::revoke_forbidden(tx, organization, audit.at).await?;
    let mut detail = diff(audited_fields(&before), audited_fields(&after));
    detail["revoked_grants"] = json!(revoked.len());
    let (event, target) = (AuditEventType::AppPolicyUpdated, caller.organization_handle.as_str());
    record_caller_event(tx, &caller, event, target, detail, audit).await?;
    record_revoked(tx, &caller, &revoked, GrantRevocationReason::Policy, audit).await?;
    Ok((after, revoked.len()))
}

fn audited_fields(policy: &AppPolicy) -> Value {
    json!({
        "mode": policy.mode.as_str(), "allowed": policy.allowed, "blocked": policy.blocked,
    })
}

/// Looks up the clients that a policy names.
///
/// # Errors
/// Invalid, with an issue for each client that does not exist, or that is the private app of
/// another organization.
async fn find_rules(
    tx: &mut PgConnection,
    organization: OrganizationId,
    policy: &AppPolicy,
) -> Result<Vec<AppRule>> {
    let ids = [policy.allowed.as_slice(), policy.blocked.as_slice()].concat();
    // Public apps of other organizations are not visible to this one before its policy names them.
    rls::clear_tenant(tx).await?;
    let known = oauth_clients::find_known(tx, organization, &ids).await?;
    rls::set_tenant(tx, organization).await?;
    let known: HashMap<String, Uuid> = known.into_iter().collect();
    let (mut rules, mut issues) = (Vec::new(), Vec::new());
    for (name, clients) in [("allowed", &policy.allowed), ("blocked", &policy.blocked)] {
        for (index, client_id) in clients.iter().enumerate() {
            if let Some(client) = known.get(client_id) {
                rules.push(AppRule { client: *client, is_blocked: name == "blocked" });
            } else {
                let path = vec![name.to_owned(), index.to_string()];
                issues.push(Issue { path, ..Issue::body("must be the id of an app") });
            }
        }
    }
    if issues.is_empty() { Ok(rules) } else { Err(Error::invalid(issues)) }
}

//! Every function of `repo`: which run under row-level security, and a call of each of these.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tenantry::entropy::SystemEntropy;
use tenantry::error::Result;
use tenantry::model::allowed_ips::AllowedIps;
use tenantry::model::api_key::{ApiKey, NewApiKey};
use tenantry::model::audit::{AuditContext, AuditEventFilter, AuditEventType, NewAuditEvent};
use tenantry::model::audit_seal::AuditSigner;
use tenantry::model::caller::{Credential, Person};
use tenantry::model::credits::Credits;
use tenantry::model::idempotency::IdempotentRequest;
use tenantry::model::ids::{InviteId, KeyId, MembershipId, ProjectId, SessionId};
use tenantry::model::invite::NewInvite;
use tenantry::model::mail::MailKind;
use tenantry::model::member::NewMembership;
use tenantry::model::metadata::Metadata;
use tenantry::model::named_limits::{LimitName, NamedLimit, NamedLimits};
use tenantry::model::names::ProjectName;
use tenantry::model::organization::OrganizationChanges;
use tenantry::model::project::{NewProject, ProjectChanges, Slug};
use tenantry::model::role::Role;
use tenantry::model::scope::ScopeSet;
use tenantry::model::secret::Digest;
use tenantry::model::usage::Period;
use tenantry::repo::{
    account_callers, accounts, audit_events, callers, credit_balances, idempotency_keys, invites,
    key_claims, key_invites, key_lifecycle, key_lists, key_sessions, keys, leaks, mails, members,
    memberships, organizations, payments, projects, rejections, usage,
};
use uuid::Uuid;

use super::Tenant;
use super::oauth::{affects_apps, affects_grants};
use super::sso_connection_statements::affects_connections;
use super::sso_domain_statements::affects_domains;

/// The functions that run under row-level security, with a tenant set.
pub const STATEMENTS: [&str; 121] = [
    "app_grants::exists",
    "app_grants::list",
    "app_grants::revoke",
    "app_grants::revoke_forbidden",
    "app_grants::revoke_of_client",
    "app_policies::find",
    "app_policies::replace_rules",
    "app_policies::set_mode",
    "oauth_app_secrets::count",
    "oauth_app_secrets::delete",
    "oauth_app_secrets::delete_all",
    "oauth_app_secrets::insert",
    "oauth_app_secrets::list",
    "oauth_apps::count",
    "oauth_apps::delete",
    "oauth_apps::find",
    "oauth_apps::insert",
    "oauth_apps::list",
    "oauth_apps::lock",
    "oauth_apps::update",
    "sso_connections::count",
    "sso_connections::delete",
    "sso_connections::find",
    "sso_connections::insert",
    "sso_connections::list",
    "sso_connections::lock",
    "sso_connections::set_status",
    "sso_connections::update",
    "sso_provider_metadata::record_error",
    "sso_provider_metadata::reseal",
    "sso_provider_metadata::store",
    "accounts::lock_default_key",
    "accounts::set_default_key",
    "audit_events::insert",
    "audit_events::list",
    "audit_events::list_page",
    "callers::lock_and_confirm",
    "callers::lock_session",
    "credit_balances::add",
    "credit_balances::delete",
    "credit_balances::set",
    "rejections::list",
    "idempotency_keys::find",
    "idempotency_keys::store",
    "invites::accept",
    "invites::find",
    "invites::insert",
    "invites::list",
    "invites::record_membership",
    "invites::extend",
    "invites::revoke",
    "invites::revoke_all",
    "invites::revoke_by_inviter",
    "key_invites::list_joined",
    "key_invites::revoke",
    "key_claims::consume",
    "key_lifecycle::list_with_predecessors",
    "key_lifecycle::revoke",
    "key_lifecycle::revoke_all",
    "key_lifecycle::revoke_created_by",
    "key_lifecycle::list_successors",
    "key_lifecycle::supersede",
    "key_sessions::insert",
    "key_sessions::insert_refresh_token",
    "key_sessions::revoke",
    "key_sessions::consume_refresh_token",
    "keys::count",
    "keys::find",
    "keys::insert",
    "key_lists::list",
    "key_lists::list_page",
    "keys::lock",
    "keys::rehash",
    "keys::reassign_from_owner",
    "keys::set_limits",
    "keys::update",
    "leaks::find_policy",
    "leaks::record_key",
    "members::claim",
    "members::count",
    "members::find",
    "members::has_email",
    "members::has_unclaimed_owner",
    "members::lock",
    "members::is_proven",
    "members::list",
    "members::count_other_owners",
    "members::remove",
    "members::set_role",
    "organizations::delete",
    "organizations::find",
    "organizations::lock",
    "organizations::update",
    "mails::insert",
    "mails::cancel",
    "payments::list",
    "account_callers::find_caller_in",
    "account_callers::lock_and_confirm_session",
    "account_callers::lock_and_confirm_token",
    "projects::count",
    "projects::delete",
    "projects::find",
    "projects::has_slug",
    "projects::insert",
    "projects::list",
    "projects::update",
    "usage::list_by_day",
    "usage::list_by_key",
    "usage::sum_requests",
    "sso_domains::count",
    "sso_domains::delete",
    "sso_domains::find",
    "sso_domains::has_verified",
    "sso_domains::insert",
    "sso_domains::is_verified",
    "sso_domains::list",
    "sso_domains::lock",
    "sso_domains::set_verified",
    "memberships::find_owner",
    "memberships::insert",
    "memberships::lock_of_account",
];

/// The functions that run without a tenant. This list is reviewed by hand; each group has a reason.
const WITHOUT_TENANT: &[&[&str]] = &[
    // Setting the tenant itself, and a lock that is on no row.
    &["idempotency_keys::try_lock", "rls::clear_tenant", "rls::set_tenant"],
    // Looking up the caller or a presented secret, before the organization is known.
    &[
        "callers::find_by_digests",
        "known_credentials::find",
        "callers::find_by_sessions",
        "invites::find_presented",
        "key_claims::find_presented",
        "key_sessions::find_presented",
        "key_sessions::lock_refresh_token",
        "account_callers::find_by_sessions",
        "account_callers::find_by_tokens",
        "account_callers::find_caller_by_handle",
    ],
    // The operator, who is in no organization, and origins of all organizations, for preflights.
    &[
        "organizations::filter_listed_origins",
        "organization_settings::find",
        "organization_settings::list_by_external_id",
        "organization_settings::update",
        "organization_statuses::lock",
        "organization_statuses::set_plan",
        "organization_statuses::set_suspended",
        "memberships::lock_all",
    ],
    // OAuth's codes and tokens, which belong to accounts, and clients of all organizations.
    &[
        "account_callers::lock_membership",
        "oauth_callers::find_by_tokens",
        "oauth_callers::lock_grant",
        "oauth_callers::record_use",
        "oauth_tokens::find_owner",
        "oauth_tokens::insert_access_token",
        "oauth_tokens::insert_refresh_token",
        "oauth_tokens::lock_grant",
        "oauth_tokens::lock_refresh_token",
        "oauth_tokens::mark_refresh_token_used",
        "oauth_tokens::redeem_code",
        "oauth_tokens::mark_redeemed",
        "oauth_tokens::revoke_access_token",
        "oauth_tokens::revoke_grant",
        "oauth_grants::claim_notice",
        "oauth_grants::revoke_all",
        "oauth_grants::sweep",
        "oauth_tokens::find_used_code",
        "oauth_tokens::sweep",
        "oauth_tokens::use_client_secret",
        "oauth_assertions::insert",
        "oauth_assertions::sweep",
    ],
    // Domains of all organizations: whose one is, and the daily checks.
    &[
        "sso_domains::claim_due",
        "sso_domains::find_owner",
        "sso_domains::record_absent",
        "sso_domains::record_seen",
    ],
    // Revocations of any organization, for verifiers.
    &["revocations::read"],
    // What changed in all organizations, for the answers that a server keeps.
    &["credential_changes::begin_epoch", "credential_changes::find_since"],
    // Payments, processed for the operator: tenants may write none of these tables.
    &[
        "billing_customers::find",
        "billing_customers::find_handle_by_subscription",
        "billing_customers::upsert_buyer",
        "billing_customers::upsert_payer",
        "ended_subscriptions::find",
        "ended_subscriptions::record",
        "ended_subscriptions::sweep",
        "key_claims::insert",
        "key_claims::revoke",
        "organizations::is_deleted",
        "mails::insert_claim",
        "payments::insert",
        "unfulfilled_checkouts::find_newest",
        "unfulfilled_checkouts::upsert",
        "unfulfilled_checkouts::resolve",
    ],
    // Verification, heads and retention of the audit logs of all organizations.
    &[
        "audit_chain::list_links",
        "audit_chain::list_unlinked_events",
        "audit_events::link_inserted",
        "audit_heads::list_chain_ends",
        "audit_heads::has_events",
        "audit_heads::store_heads",
        "audit_heads::store_signing_start",
        "audit_heads::find_signing_start",
        "audit_heads::list_heads_without_chain",
        "audit_retention::list",
        "audit_retention::lock_head",
        "audit_retention::remove",
    ],
    // Rate limits belong to no organization: their subjects are addresses and digests.
    &[
        "rate_limits::refund",
        "rate_limits::refill",
        "rate_limits::sweep",
        "rate_limits::check_and_count",
    ],
    // The state of the database itself.
    &[
        "catalog::max_connections",
        "catalog::count_rows",
        "catalog::server_properties",
        "catalog::lock_tables",
        "catalog::disabled_durability_settings",
        "catalog::can_see_organizations",
        "catalog::server_info",
        "catalog::list_tables_of_other_owners",
        "catalog::tenant_role_bypasses_rls",
        "catalog::current_time",
        "catalog::connection_transport",
        "catalog::try_write",
        "schema_diff::list_schema_creators",
        "schema_diff::differences",
        "migrations::is_read_only",
        "migrations::progress",
        "migrations::status",
        "jobs::count_dead",
    ],
    // A new organization, which is no tenant before it exists.
    &["organizations::insert"],
    // OAuth clients of all organizations, for the authorization server and the operator, and how
    // many live grants the clients have.
    &[
        "app_grants::count_live",
        "app_grants::end_all",
        "audit_events::insert_all",
        "oauth_apps::lock_all",
        "app_policies::filter_permitting",
        "oauth_apps::list_of_all",
        "oauth_apps::lock_any",
        "oauth_apps::publish",
        "oauth_apps::set_disabled",
        "oauth_clients::find",
        "oauth_clients::find_known",
    ],
    // Connections to identity providers: before sign-in has chosen an organization, and the upkeep
    // of those of all organizations.
    &[
        "sso_connections::find_active_of",
        "sso_connections::find_by_id",
        "sso_provider_metadata::claim_due",
        "sso_provider_metadata::count_per_sealing_key",
        "sso_provider_metadata::list_sealed_with_other_keys",
    ],
    // Clients that no organization registered, which belong to the deployment.
    &[
        "oauth_documents::extend",
        "oauth_documents::find",
        "oauth_documents::upsert",
        "oauth_registrations::delete",
        "oauth_registrations::insert",
        "oauth_registrations::lock",
        "oauth_registrations::update",
    ],
    // Objects of an account, whatever its memberships are.
    &[
        "app_grants::exists_of_account",
        "app_grants::list_of_account",
        "app_grants::revoke_of_account",
        "account_access::count",
        "accounts::delete",
        "accounts::find",
        "accounts::find_by_email",
        "accounts::insert",
        "accounts::lock",
        "accounts::lock_by_email",
        "accounts::mark_email_proven",
        "accounts::update_password_hash",
        "accounts::set_password",
        "accounts::set_security_mails",
        "accounts::record_sign_in",
        "accounts::find_audit_organization",
        "accounts::update",
        "email_tokens::find",
        "email_tokens::is_pending",
        "email_tokens::remove",
        "email_tokens::remove_all",
        "email_tokens::replace",
        "email_tokens::consume",
        "idempotency_keys::remove_for_account",
        "invites::remove_accepted_by",
        "organizations::find_membership",
        "organizations::list_for_account",
        "mails::insert_notice",
        "mails::remove_about_account",
        "pending_sign_ups::replace",
        "personal_tokens::find",
        "personal_tokens::insert",
        "personal_tokens::list",
        "personal_tokens::rehash",
        "personal_tokens::remove_all",
        "personal_tokens::revoke",
        "personal_tokens::revoke_all",
        "personal_tokens::update",
        "sessions::find",
        "sessions::insert",
        "sessions::is_new_network",
        "sessions::is_remembered",
        "sessions::list",
        "sessions::remove_all",
        "sessions::revoke",
        "sessions::revoke_all",
        "sessions::signed_in_from",
        "memberships::remove_of_account",
    ],
    // Mail of all organizations, sent by a worker.
    &[
        "invites::set_token",
        "key_claims::set_token",
        "mails::find_addresses",
        "mails::insert_each",
        "jobs::mark_dead",
        "jobs::lock",
        "jobs::next_due",
        "jobs::reschedule",
        "jobs::remove",
        "jobs::lease_due",
    ],
    // Reports of leaked keys of any organization.
    &["leaks::insert_reports", "leaks::record_token"],
    // Usage and rejections, which are collected and written for all organizations together.
    &[
        "rejections::insert",
        "rejections::trim",
        "personal_tokens::record_use",
        "sessions::extend_used",
        "usage::add",
        "usage::sum_by_month",
        "usage_events::find_organizations",
        "usage_events::find_organizations_of_keys",
        "usage_events::insert",
        "usage_hourly::add",
        "usage_hourly::list",
    ],
    // Credits, which a server takes from the balances of all organizations.
    &["credit_balances::give_back", "credit_balances::lock", "credit_balances::withdraw"],
    // Authorization requests, which come before an organization is chosen, and what an account
    // grants to any client, in any of its organizations.
    &[
        "oauth_clients::lock_for_share",
        "oauth_codes::insert",
        "oauth_devices::answer",
        "oauth_devices::claim",
        "oauth_devices::find_claimed",
        "oauth_devices::insert",
        "oauth_devices::poll",
        "oauth_grants::insert",
        "oauth_grants::list_candidates",
        "oauth_grants::lock_live",
        "oauth_grants::revoke_of_earlier_memberships",
        "oauth_grants::set_access",
        "oauth_requests::consume",
        "oauth_requests::find",
        "oauth_requests::insert",
        "oauth_requests::record_shown",
    ],
    // Signing in with an identity provider, by a person who may not be a member yet.
    &[
        "invites::find_open",
        "organizations::find_id",
        "sso_flows::consume",
        "sso_flows::insert",
        "sso_identities::end_all",
        "sso_identities::find_account",
        "sso_identities::has_account",
        "sso_identities::insert",
        "sso_identities::lock_active_connection",
        "sso_identities::record_sign_in",
        "sso_identities::remove_of_account",
        "sso_members::lock",
        "sso_members::set_role",
    ],
    // Expired rows of all organizations.
    &[
        "accounts::sweep",
        "deleted_organizations::mark_purged",
        "deleted_organizations::list",
        "deleted_organizations::remove_addresses",
        "deleted_organizations::remove_rows",
        "rejections::sweep",
        "revocations::sweep",
        "credential_changes::sweep",
        "email_tokens::sweep",
        "idempotency_keys::sweep",
        "invites::sweep",
        "key_claims::sweep",
        "key_lifecycle::sweep",
        "key_lifecycle::clear_references",
        "key_sessions::sweep",
        "jobs::sweep",
        "payments::sweep",
        "personal_tokens::sweep",
        "sessions::sweep",
        "unfulfilled_checkouts::sweep",
        "usage::sweep",
        "usage_events::sweep",
        "usage_hourly::sweep",
        "usage_hourly::sweep_resources",
        "memberships::sweep",
        "oauth_devices::sweep",
        "oauth_requests::sweep",
        "oauth_registrations::sweep",
        "sso_flows::sweep",
    ],
    // The connection itself, and the tenant role with its privileges.
    &[
        "connection_settings::configure",
        "connection_settings::is_configured",
        "connection_settings::is_direct",
        "connection_settings::is_transaction_pooled",
        "connection_settings::pooler_version",
        "tenant_access::create",
        "tenant_access::create_role",
        "tenant_access::list_missing",
    ],
    // Operations of the operator on the whole deployment.
    &[
        "keys::count_per_pepper",
        "online_migrations::run",
        "online_migrations::run_ignoring_newer",
        "jobs::retry_dead",
    ],
];

#[test]
fn every_statement_is_tested_under_row_level_security_or_listed_with_a_reason() {
    let mut functions = BTreeSet::new();
    for source in crate::conventions::sources("src/repo") {
        let file = source.path.trim_start_matches("src/repo/").trim_end_matches(".rs").to_owned();
        for part in source.text.split("pub async fn ").skip(1) {
            let (name, _) = part.split_once(['(', '<']).unwrap();
            assert!(functions.insert(format!("{file}::{name}")), "{file}::{name} exists twice");
        }
    }
    let others = WITHOUT_TENANT.iter().copied().flatten().copied();
    let known: Vec<_> = STATEMENTS.into_iter().chain(others).map(str::to_owned).collect();
    let once: BTreeSet<_> = known.iter().cloned().collect();
    assert_eq!(once.len(), known.len(), "a statement is in two lists");
    let missing: Vec<_> = functions.difference(&once).collect();
    assert!(missing.is_empty(), "not listed: {missing:?}");
    let removed: Vec<_> = once.difference(&functions).collect();
    assert!(removed.is_empty(), "no longer in repo: {removed:?}");
}

/// Returns whether a statement with valid arguments for the tenant finds anything. The caller
/// compares the rows that it changes or locks.
pub async fn affects(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now, all) = (it.organization, Utc::now(), (0, 100));
    let month = Period::parse_month("2036-05").unwrap();
    let (filter, resent) = (AuditEventFilter::default(), (it.invite, None));
    Ok(match statement {
        "audit_events::insert" => {
            let audit = AuditContext {
                method: "GET".to_owned(),
                path: "/".to_owned(),
                status: None,
                address: None,
                request_id: "req_0000000000000000".to_owned(),
                at: now,
                signer: AuditSigner::new([("p2", &[7; 32][..])], &SystemEntropy),
            };
            let event = NewAuditEvent {
                organization,
                event_type: AuditEventType::KeyCreated,
                actor: "a",
                target: "b",
                key_display_id: None,
                detail: json!({}),
                audit: &audit,
            };
            audit_events::insert(tx, &event).await?;
            false
        }
        "audit_events::list" => {
            !audit_events::list(tx, organization, &filter, None, 100).await?.is_empty()
        }
        "audit_events::list_page" => {
            audit_events::list_page(tx, organization, &filter, None, all).await?.1 > 0
        }
        "callers::lock_and_confirm" => {
            callers::lock_and_confirm(tx, organization, it.key, None).await.is_ok()
        }
        "rejections::list" => !rejections::list(tx, organization, None, 100).await?.is_empty(),
        "invites::find" => invites::find(tx, organization, it.invite).await?.is_some(),
        "invites::list" => invites::list(tx, organization, None, all).await?.1 > 0,
        "invites::extend" => invites::extend(tx, organization, resent, now).await?.is_some(),
        "invites::revoke" => invites::revoke(tx, organization, it.invite, now).await?,
        "invites::revoke_all" => invites::revoke_all(tx, organization, now).await? > 0,
        "key_lifecycle::revoke" => {
            key_lifecycle::revoke(tx, organization, it.key, None, "test", now).await?
        }
        "key_lifecycle::revoke_all" => {
            key_lifecycle::revoke_all(tx, organization, "test", "test", now).await? > 0
        }
        "key_lifecycle::list_with_predecessors" => {
            !key_lifecycle::list_with_predecessors(tx, organization, it.key).await?.is_empty()
        }
        "key_lifecycle::list_successors" => {
            !key_lifecycle::list_successors(tx, organization, it.key).await?.is_empty()
        }
        "keys::count" => keys::count(tx, organization).await? > 0,
        "keys::find" => keys::find(tx, organization, it.key).await?.is_some(),
        "key_lists::list" => {
            !key_lists::list(tx, organization, (true, None), None, 100).await?.is_empty()
        }
        "key_lists::list_page" => {
            key_lists::list_page(tx, organization, (true, None), None, all).await?.1 > 0
        }
        "members::count" => members::count(tx, organization).await? > 0,
        "members::find" => members::find(tx, organization, &it.membership_handle).await?.is_some(),
        "members::has_email" => members::has_email(tx, organization, &it.email).await?,
        "members::has_unclaimed_owner" => members::has_unclaimed_owner(tx, organization).await?,
        "members::is_proven" => members::is_proven(tx, organization, it.membership).await?,
        "members::list" => members::list(tx, organization, None, all).await?.1 > 0,
        "members::count_other_owners" => {
            members::count_other_owners(tx, organization, it.membership).await? > 0
        }
        "members::remove" => members::remove(tx, organization, it.membership, now).await?,
        "members::set_role" => {
            members::set_role(tx, organization, it.membership, Role::Admin).await?
        }
        "organizations::find" => organizations::find(tx, organization).await?.is_some(),
        "payments::list" => payments::list(tx, organization, None, all).await?.1 > 0,
        "projects::count" => projects::count(tx, organization).await? > 0,
        "projects::find" => projects::find(tx, organization, it.project).await?.is_some(),
        "projects::has_slug" => {
            projects::has_slug(tx, organization, &Slug::parse("one").unwrap()).await?
        }
        "projects::list" => projects::list(tx, organization, None, all).await?.1 > 0,
        "projects::update" => {
            let name = ProjectName::parse("renamed").ok();
            let changes = ProjectChanges { name, slug: None, description: None };
            projects::update(tx, organization, it.project, &changes, now).await?.is_some()
        }
        "projects::delete" => projects::delete(tx, organization, it.project).await?,
        "usage::list_by_day" => !usage::list_by_day(tx, organization, month).await?.is_empty(),
        "usage::list_by_key" => !usage::list_by_key(tx, organization, month, 100).await?.is_empty(),
        "usage::sum_requests" => usage::sum_requests(tx, organization, month).await? > 0,
        "memberships::lock_of_account" => {
            let memberships = memberships::lock_of_account(tx, it.account).await?;
            memberships.iter().any(|membership| membership.organization == organization)
        }
        "memberships::find_owner" => memberships::find_owner(tx, &it.handle).await?.is_some(),
        other => return changes(tx, other, it).await,
    })
}

/// Calls a function that changes credits; returns whether it reports a change.
async fn changes_credits(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let balance = (it.organization, it.key.uuid());
    match statement {
        "credit_balances::add" => return Ok(credit_balances::add(tx, balance, 5).await?.is_some()),
        "credit_balances::delete" => credit_balances::delete(tx, balance).await?,
        _ => {
            let credits = Credits { remaining: 7, refill: None };
            credit_balances::set(tx, balance, &credits).await?;
        }
    }
    Ok(false)
}

/// Like [`affects`], mostly for statements that do not return whether they changed anything.
async fn changes(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    let digest = Digest::new([7; 32]);
    match statement {
        name if name.starts_with("app_") => return affects_grants(tx, name, it).await,
        name if name.starts_with("sso_domains") => return affects_domains(tx, name, it).await,
        name if name.starts_with("sso_") => return affects_connections(tx, name, it).await,
        name if name.starts_with("oauth_") => return affects_apps(tx, name, it).await,
        "invites::accept" => return invites::accept(tx, organization, it.invite, now).await,
        "invites::insert" => {
            let new = NewInvite {
                id: InviteId::from_uuid(Uuid::from_u128(7)),
                organization,
                email: &it.email,
                role: Role::Member,
                invited_by: it.membership,
                key: None,
                created_at: now,
            };
            invites::insert(tx, &new).await?;
        }
        "invites::record_membership" => {
            invites::accept(tx, organization, it.invite, now).await?;
            invites::record_membership(tx, organization, it.invite, it.membership).await?;
        }
        "invites::revoke_by_inviter" => {
            let from = invites::revoke_by_inviter(tx, organization, it.owner, false, now).await?;
            return Ok(from > 0);
        }
        "key_lifecycle::supersede" => {
            key_lifecycle::supersede(tx, organization, it.key, 60, now).await?;
        }
        "key_sessions::insert" => {
            let id = SessionId::from_uuid(Uuid::from_u128(7));
            key_sessions::insert(tx, organization, id, it.key, now).await?;
        }
        "key_sessions::insert_refresh_token" => {
            let session = it.session;
            key_sessions::insert_refresh_token(tx, organization, session, digest, now, now).await?;
        }
        "key_sessions::revoke" => {
            return key_sessions::revoke(tx, organization, it.session, now).await;
        }
        "key_sessions::consume_refresh_token" => {
            key_sessions::consume_refresh_token(tx, organization, it.session, now).await?;
        }
        "key_invites::revoke" => {
            return Ok(key_invites::revoke(tx, organization, Some(&[it.key]), now).await? > 0);
        }
        "credit_balances::add" | "credit_balances::delete" | "credit_balances::set" => {
            return changes_credits(tx, statement, it).await;
        }
        "keys::rehash" => keys::rehash(tx, organization, it.key, digest, "p9").await?,
        "keys::reassign_from_owner" => {
            return keys::reassign_from_owner(tx, organization, it.key, it.membership).await;
        }
        "keys::set_limits" => {
            let name = LimitName::parse("search").unwrap();
            let limit = NamedLimit { name, limit: 1, window_s: 1, always: false };
            let limits = NamedLimits::new(vec![limit]).unwrap();
            keys::set_limits(tx, organization, &[it.key], &limits).await?;
        }
        "keys::update" => {
            let key = ApiKey { enabled: false, ..it.api_key.clone() };
            keys::update(tx, organization, &key, None).await?;
        }
        "leaks::find_policy" => return Ok(leaks::find_policy(tx, organization).await?.is_some()),
        "leaks::record_key" => {
            return Ok(leaks::record_key(tx, organization, it.key, true, now).await?.is_some());
        }
        "members::claim" => {
            // Or the account would have two memberships.
            members::remove(tx, organization, it.membership, now).await?;
            return Ok(members::claim(tx, organization, it.account).await?.is_some());
        }
        "organizations::delete" => organizations::delete(tx, organization, now).await?,
        "organizations::lock" => return Ok(organizations::lock(tx, organization).await?.is_some()),
        "organizations::update" => {
            let allowed_origins = Some(Vec::new());
            let changes = OrganizationChanges { allowed_origins, ..Default::default() };
            organizations::update(tx, organization, &changes, now).await?;
        }
        "key_claims::consume" => {
            let presented = Digest::new(Sha256::digest(it.handle.as_str()).into());
            return key_claims::consume(tx, organization, &[presented], now).await;
        }
        "account_callers::find_caller_in" => {
            let person = Person {
                account: it.account,
                home_organization: organization,
                pinned_to: None,
                scopes: ScopeSet::all(),
                credential: Credential::Session(it.account, it.session),
            };
            return Ok(account_callers::find_caller_in(tx, &person, organization).await?.is_some());
        }
        other => return inserts(tx, other, it).await,
    }
    Ok(false)
}

/// Like [`affects`], mostly for statements that insert or lock rows.
async fn inserts(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    let id = Uuid::from_u128(7);
    match statement {
        "accounts::lock_default_key" => {
            accounts::lock_default_key(tx, it.account_of_owner).await?;
        }
        "accounts::set_default_key" => {
            accounts::set_default_key(tx, it.account_of_owner, it.key).await?;
        }
        "key_invites::list_joined" => {
            let joined = key_invites::list_joined(tx, organization, None, 100).await?;
            return Ok(!joined.is_empty());
        }
        "key_lifecycle::revoke_created_by" => {
            let membership = (organization, it.owner);
            let ended =
                key_lifecycle::revoke_created_by(tx, membership, "test", "test", now).await?;
            return Ok(!ended.is_empty());
        }
        "callers::lock_session" => callers::lock_session(tx, organization, it.session).await?,
        "idempotency_keys::find" => {
            return Ok(idempotency_keys::find(tx, &it.attempt).await?.is_some());
        }
        "idempotency_keys::store" => {
            let attempt = IdempotentRequest {
                lifetime: TimeDelta::hours(24),
                organization,
                principal: it.attempt.principal.clone(),
                endpoint: it.attempt.endpoint.clone(),
                key_digest: [7; 32],
                fingerprints: vec![Digest::new([7; 32])],
            };
            let until = now + TimeDelta::hours(1);
            idempotency_keys::store(tx, &attempt, 200, None, now, until).await?;
        }
        "keys::insert" => {
            let new = NewApiKey {
                id: KeyId::from_uuid(id),
                organization,
                membership: it.owner,
                digest: Digest::new([7; 32]),
                pepper_id: "p1",
                prefix: "tnt_live_",
                display_id: "00000000",
                name: None,
                scopes: &ScopeSet::all(),
                created_at: now,
                expires_at: None,
                allowed_ips: &AllowedIps::default(),
                metadata: &Metadata::default(),
                enabled: true,
                external_id: None,
                limits: &NamedLimits::default(),
                metered_key: None,
                rotated_from: None,
            };
            keys::insert(tx, &new).await?;
        }
        "keys::lock" => keys::lock(tx, organization, &[it.key]).await?,
        "members::lock" => members::lock(tx, organization, &it.membership_handle).await?,
        "mails::insert" => {
            let mail = (MailKind::Invite(it.invite), it.email.as_str());
            mails::insert(tx, id, mail, None, now).await?;
        }
        "mails::cancel" => {
            mails::cancel(tx, MailKind::Invite(it.invite), &it.queued_address).await?;
        }
        "account_callers::lock_and_confirm_session" => {
            let membership = (it.account, organization);
            account_callers::lock_and_confirm_session(tx, Some(membership), it.account_session)
                .await?;
        }
        "account_callers::lock_and_confirm_token" => {
            account_callers::lock_and_confirm_token(tx, (it.account, organization), it.token)
                .await?;
        }
        other => insert_row(tx, other, it).await?,
    }
    Ok(false)
}

/// Runs a statement that inserts one row.
async fn insert_row(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<()> {
    let (organization, now) = (it.organization, Utc::now());
    let id = Uuid::from_u128(7);
    match statement {
        "projects::insert" => {
            let new = NewProject {
                id: ProjectId::from_uuid(id),
                organization,
                name: &ProjectName::parse("new").unwrap(),
                slug: &Slug::parse("new").unwrap(),
                description: None,
                created_by: it.owner,
                created_at: now,
            };
            projects::insert(tx, &new).await?;
        }
        "memberships::insert" => {
            let membership = NewMembership {
                organization,
                id: MembershipId(id),
                handle: "user_0000000000000007",
                role: Role::Member,
                account: None,
                created_at: now,
            };
            memberships::insert(tx, &membership).await?;
        }
        other => panic!("no statement {other}"),
    }
    Ok(())
}

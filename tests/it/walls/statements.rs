//! Every statement of `repo`: which are done in an organization's name, and what each does there.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tenantry::entropy::SystemEntropy;
use tenantry::error::Result;
use tenantry::model::allowed_ips::AllowedIps;
use tenantry::model::api_key::{ApiKey, NewApiKey};
use tenantry::model::audit::{AuditEvent, EventFilter, EventType, Trail};
use tenantry::model::audit_seal::AuditSigner;
use tenantry::model::caller::{Credential, Person};
use tenantry::model::idempotency::Attempt;
use tenantry::model::ids::{InviteId, KeyId, ProjectId, SessionId, UserId};
use tenantry::model::invite::NewInvite;
use tenantry::model::mail::MailKind;
use tenantry::model::member::NewSeat;
use tenantry::model::metadata::Metadata;
use tenantry::model::project::{NewProject, ProjectChanges, ProjectName, Slug};
use tenantry::model::role::Role;
use tenantry::model::scope::ScopeSet;
use tenantry::model::secret::Digest;
use tenantry::model::usage::Period;
use tenantry::repo::{
    accounts, audit_events, callers, denials, idempotency_keys, invites, invites_of_keys,
    key_claims, key_endings, key_sessions, keys, members, organizations, outbox, payments, people,
    projects, usage, users,
};
use uuid::Uuid;

use super::Tenant;

/// What is done in an organization's name, behind its walls.
pub const STATEMENTS: [&str; 75] = [
    "accounts::hold_default_key",
    "accounts::set_default_key",
    "audit_events::insert",
    "audit_events::list",
    "audit_events::part",
    "callers::confirm",
    "callers::hold_session",
    "denials::list",
    "idempotency_keys::find",
    "idempotency_keys::keep",
    "invites::accept",
    "invites::find",
    "invites::insert",
    "invites::list",
    "invites::record_joined",
    "invites::renew",
    "invites::revoke",
    "invites::revoke_all",
    "invites::revoke_from",
    "invites_of_keys::joined",
    "invites_of_keys::revoke",
    "key_claims::spend",
    "key_endings::predecessors",
    "key_endings::revoke",
    "key_endings::revoke_all",
    "key_endings::revoke_minted_by",
    "key_endings::successors",
    "key_endings::supersede",
    "key_sessions::insert",
    "key_sessions::insert_refresh_token",
    "key_sessions::revoke",
    "key_sessions::spend_refresh_tokens",
    "keys::count",
    "keys::find",
    "keys::insert",
    "keys::list",
    "keys::lock",
    "keys::part",
    "keys::redigest",
    "keys::take_from_owner",
    "keys::update",
    "members::claim",
    "members::count",
    "members::find",
    "members::has_address",
    "members::has_unclaimed",
    "members::hold",
    "members::is_proven",
    "members::list",
    "members::other_owners",
    "members::remove",
    "members::set_role",
    "organizations::delete",
    "organizations::find",
    "organizations::hold",
    "organizations::update",
    "outbox::insert",
    "outbox::withdraw",
    "payments::list",
    "people::caller_in",
    "people::confirm_session",
    "people::confirm_token",
    "projects::count",
    "projects::delete",
    "projects::find",
    "projects::has_slug",
    "projects::insert",
    "projects::list",
    "projects::update",
    "usage::by_day",
    "usage::by_key",
    "usage::requests",
    "users::find_owner",
    "users::insert",
    "users::lock_seats",
];

/// What is done without walls, or shows none: this list is judged by hand, and each group says why.
const OTHERS: &[&[&str]] = &[
    // The walls themselves, and a lock that is on no row.
    &["idempotency_keys::try_hold", "tenant_walls::lower", "tenant_walls::raise"],
    // Who is calling, or shows a secret: asked before there is an organization.
    &[
        "callers::by_digests",
        "callers::by_sessions",
        "invites::find_shown",
        "key_claims::find_shown",
        "key_sessions::find_shown",
        "key_sessions::lock_refresh_token",
        "people::by_sessions",
        "people::by_tokens",
        "people::find_caller",
    ],
    // The operator, who is in no organization, and what a preflight asks of all of them.
    &[
        "organizations::listed_origins",
        "standings::hold",
        "standings::set_plan",
        "standings::set_suspended",
        "users::hold_all",
    ],
    // The operator's side, which hears of payments: tenants may write none of these tables.
    &[
        "billing_customers::find",
        "billing_customers::find_paid_for",
        "billing_customers::put_buyer",
        "billing_customers::put_payer",
        "ended_subscriptions::find",
        "ended_subscriptions::put",
        "ended_subscriptions::sweep",
        "key_claims::insert",
        "key_claims::revoke",
        "organizations::is_deleted",
        "outbox::insert_claim",
        "payments::insert",
        "unfulfilled_checkouts::newest",
        "unfulfilled_checkouts::put",
        "unfulfilled_checkouts::settle",
    ],
    // The audit logs of all organizations, to find out whether they are whole, and their heads.
    &[
        "audit_chain::links",
        "audit_chain::without_link",
        "audit_events::link",
        "audit_heads::ends",
        "audit_heads::has_events",
        "audit_heads::keep",
        "audit_heads::put_signing_start",
        "audit_heads::signing_start",
        "audit_heads::without_chain",
        "audit_retention::list",
        "audit_retention::lock_head",
        "audit_retention::remove",
    ],
    // Limits are nobody's data: their subjects are addresses and digests.
    &["rate_limits::give_back", "rate_limits::refill", "rate_limits::sweep", "rate_limits::take"],
    // What the database says of itself.
    &[
        "catalog::connections",
        "catalog::count_rows",
        "catalog::foundations",
        "catalog::lock_tables",
        "catalog::risky_settings",
        "catalog::sees_organizations",
        "catalog::server",
        "catalog::tables_of_others",
        "catalog::tenant_role_is_mighty",
        "catalog::time",
        "catalog::transport",
        "catalog::try_write",
        "definitions::creators",
        "definitions::differences",
        "migrations::is_read_only",
        "migrations::progress",
        "migrations::standing",
        "outbox::count_dead",
    ],
    // An organization is made, and is nobody's until it is.
    &["organizations::insert"],
    // A person's own, by their account, wherever they have seats.
    &[
        "account_holdings::count",
        "accounts::delete",
        "accounts::find",
        "accounts::find_by_email",
        "accounts::insert",
        "accounts::lock",
        "accounts::lock_by_email",
        "accounts::prove",
        "accounts::renew_hash",
        "accounts::set_password",
        "accounts::set_security_mails",
        "accounts::signed_in",
        "accounts::trail_of",
        "accounts::update",
        "email_tokens::find",
        "email_tokens::is_pending",
        "email_tokens::remove",
        "email_tokens::remove_all",
        "email_tokens::replace",
        "email_tokens::spend",
        "idempotency_keys::remove_of_person",
        "invites::remove_accepted_by",
        "organizations::find_of",
        "organizations::list_of",
        "outbox::insert_notice",
        "outbox::remove_about_account",
        "pending_sign_ups::replace",
        "personal_tokens::find",
        "personal_tokens::insert",
        "personal_tokens::list",
        "personal_tokens::redigest",
        "personal_tokens::remove_all",
        "personal_tokens::revoke",
        "personal_tokens::revoke_all",
        "personal_tokens::update",
        "sessions::find",
        "sessions::insert",
        "sessions::is_new_place",
        "sessions::is_remembered",
        "sessions::list",
        "sessions::remove_all",
        "sessions::revoke",
        "sessions::revoke_all",
        "sessions::was_started_from",
        "users::remove_seats",
    ],
    // Mail is sent to whomever, by a worker.
    &[
        "invites::write_token",
        "key_claims::write_token",
        "outbox::give_up",
        "outbox::hold",
        "outbox::next_due",
        "outbox::put_off",
        "outbox::remove",
        "outbox::take",
    ],
    // What was used, and what was refused, is gathered and written for all at once.
    &[
        "denials::insert",
        "denials::trim",
        "personal_tokens::used",
        "sessions::seen",
        "usage::add",
        "usage::of_months",
    ],
    // What is over is over for all.
    &[
        "accounts::sweep",
        "deleted_organizations::finish",
        "deleted_organizations::list",
        "deleted_organizations::remove_addresses",
        "deleted_organizations::remove_rows",
        "denials::sweep",
        "email_tokens::sweep",
        "idempotency_keys::sweep",
        "invites::sweep",
        "key_claims::sweep",
        "key_endings::sweep",
        "key_endings::unlink",
        "key_sessions::sweep",
        "outbox::sweep",
        "payments::sweep",
        "personal_tokens::sweep",
        "sessions::sweep",
        "unfulfilled_checkouts::sweep",
        "usage::sweep",
        "users::sweep",
    ],
    // The connection itself, and the role of tenants with its privileges.
    &[
        "session::configure",
        "session::is_configured",
        "session::is_direct",
        "session::is_shared",
        "session::pooler_version",
        "tenant_access::make",
        "tenant_access::make_role",
        "tenant_access::missing",
    ],
    // The operator's, of the whole deployment.
    &[
        "keys::count_per_pepper",
        "migrations::run",
        "migrations::run_beside_newer",
        "outbox::revive",
    ],
];

#[test]
fn every_statement_is_tried_behind_walls_or_is_nobody_s() {
    let mut found = BTreeSet::new();
    for source in crate::tidy::sources("src/repo") {
        let file = source.path.trim_start_matches("src/repo/").trim_end_matches(".rs").to_owned();
        for part in source.text.split("pub async fn ").skip(1) {
            let (name, _) = part.split_once(['(', '<']).unwrap();
            assert!(found.insert(format!("{file}::{name}")), "{file}::{name} is there twice");
        }
    }
    let others = OTHERS.iter().copied().flatten().copied();
    let known: Vec<_> = STATEMENTS.into_iter().chain(others).map(str::to_owned).collect();
    let once: BTreeSet<_> = known.iter().cloned().collect();
    assert_eq!(once.len(), known.len(), "a statement is in two lists");
    let left_out: Vec<_> = found.difference(&once).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
    let gone: Vec<_> = once.difference(&found).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

/// Runs a statement with everything about `it` right; whether it found anything. What it changed
/// or held is seen in the rows.
pub async fn affects(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now, all) = (it.organization, Utc::now(), (0, 100));
    let month = Period::parse_month("2036-05").unwrap();
    let filter = EventFilter::default();
    Ok(match statement {
        "audit_events::insert" => {
            let trail = Trail {
                method: "GET".to_owned(),
                path: "/".to_owned(),
                status: None,
                address: None,
                request_id: "req_0000000000000000".to_owned(),
                at: now,
                signer: AuditSigner::new([("p2", &[7; 32][..])], &SystemEntropy),
            };
            let event = AuditEvent {
                organization,
                event_type: EventType::KeyCreated,
                actor: "a",
                target: "b",
                key_display_id: None,
                detail: json!({}),
                trail: &trail,
            };
            audit_events::insert(tx, &event).await?;
            false
        }
        "audit_events::list" => {
            !audit_events::list(tx, organization, &filter, None, 100).await?.is_empty()
        }
        "audit_events::part" => {
            audit_events::part(tx, organization, &filter, None, all).await?.1 > 0
        }
        "callers::confirm" => callers::confirm(tx, organization, it.key, None).await.is_ok(),
        "denials::list" => !denials::list(tx, organization, None, 100).await?.is_empty(),
        "invites::find" => invites::find(tx, organization, it.invite).await?.is_some(),
        "invites::list" => invites::list(tx, organization, None, all).await?.1 > 0,
        "invites::renew" => invites::renew(tx, organization, (it.invite, None), now).await?,
        "invites::revoke" => invites::revoke(tx, organization, it.invite, now).await?,
        "invites::revoke_all" => invites::revoke_all(tx, organization, now).await? > 0,
        "key_endings::revoke" => {
            key_endings::revoke(tx, organization, it.key, None, "test", now).await?
        }
        "key_endings::revoke_all" => {
            key_endings::revoke_all(tx, organization, "test", "test", now).await? > 0
        }
        "invites_of_keys::revoke" => {
            invites_of_keys::revoke(tx, organization, Some(&[it.key]), now).await? > 0
        }
        "key_endings::predecessors" => {
            !key_endings::predecessors(tx, organization, it.key).await?.is_empty()
        }
        "key_endings::successors" => {
            !key_endings::successors(tx, organization, it.key).await?.is_empty()
        }
        "keys::count" => keys::count(tx, organization).await? > 0,
        "keys::find" => keys::find(tx, organization, it.key).await?.is_some(),
        "keys::list" => !keys::list(tx, organization, true, None, 100).await?.is_empty(),
        "keys::part" => keys::part(tx, organization, true, None, all).await?.1 > 0,
        "members::count" => members::count(tx, organization).await? > 0,
        "members::find" => members::find(tx, organization, &it.seat_handle).await?.is_some(),
        "members::has_address" => members::has_address(tx, organization, &it.email).await?,
        "members::has_unclaimed" => members::has_unclaimed(tx, organization).await?,
        "members::is_proven" => members::is_proven(tx, organization, it.seat).await?,
        "members::list" => members::list(tx, organization, None, all).await?.1 > 0,
        "members::other_owners" => members::other_owners(tx, organization, it.seat).await? > 0,
        "members::remove" => members::remove(tx, organization, it.seat, now).await?,
        "members::set_role" => members::set_role(tx, organization, it.seat, Role::Admin).await?,
        "organizations::find" => organizations::find(tx, organization).await?.is_some(),
        "payments::list" => payments::list(tx, organization, None, all).await?.1 > 0,
        "projects::count" => projects::count(tx, organization).await? > 0,
        "projects::find" => projects::find(tx, organization, it.project).await?.is_some(),
        "projects::has_slug" => {
            let slug = Slug::parse("one").unwrap();
            projects::has_slug(tx, organization, &slug).await?
        }
        "projects::list" => projects::list(tx, organization, None, all).await?.1 > 0,
        "projects::update" => {
            let name = ProjectName::parse("renamed").unwrap();
            let changes = ProjectChanges { name: Some(name), slug: None, description: None };
            projects::update(tx, organization, it.project, &changes, now).await?
        }
        "projects::delete" => projects::delete(tx, organization, it.project).await?,
        "usage::by_day" => !usage::by_day(tx, organization, month).await?.is_empty(),
        "usage::by_key" => !usage::by_key(tx, organization, month, 100).await?.is_empty(),
        "usage::requests" => usage::requests(tx, organization, month).await? > 0,
        "users::lock_seats" => {
            let seats = users::lock_seats(tx, it.account).await?;
            seats.iter().any(|seat| seat.organization == organization)
        }
        "users::find_owner" => users::find_owner(tx, &it.handle).await?.is_some(),
        other => return changes(tx, other, it).await,
    })
}

/// The same for statements that say nothing, or not enough, of what they changed.
async fn changes(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    let digest = Digest::new([7; 32]);
    match statement {
        "invites::accept" => return invites::accept(tx, organization, it.invite, now).await,
        "invites::insert" => {
            let new = NewInvite {
                id: InviteId::from_uuid(Uuid::from_u128(7)),
                organization,
                email: &it.email,
                role: Role::Member,
                invited_by: it.seat,
                key: None,
                created_at: now,
            };
            invites::insert(tx, &new).await?;
        }
        "invites::record_joined" => {
            invites::accept(tx, organization, it.invite, now).await?;
            invites::record_joined(tx, organization, it.invite, it.seat).await?;
        }
        "invites::revoke_from" => {
            let from = invites::revoke_from(tx, organization, it.owner, false, now).await?;
            return Ok(from > 0);
        }
        "key_endings::supersede" => {
            key_endings::supersede(tx, organization, it.key, 60, now).await?;
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
        "key_sessions::spend_refresh_tokens" => {
            key_sessions::spend_refresh_tokens(tx, organization, it.session, now).await?;
        }
        "keys::redigest" => keys::redigest(tx, organization, it.key, digest, "p9").await?,
        "keys::take_from_owner" => {
            return keys::take_from_owner(tx, organization, it.key, it.seat).await;
        }
        "keys::update" => {
            let key = ApiKey { enabled: false, ..it.api_key.clone() };
            keys::update(tx, organization, &key, None).await?;
        }
        "members::claim" => {
            // Or the person would have two seats.
            members::remove(tx, organization, it.seat, now).await?;
            return Ok(members::claim(tx, organization, it.account).await?.is_some());
        }
        "organizations::delete" => organizations::delete(tx, organization, now).await?,
        "organizations::hold" => return Ok(organizations::hold(tx, organization).await?.is_some()),
        "organizations::update" => {
            organizations::update(tx, organization, None, Some(&[]), now).await?;
        }
        "key_claims::spend" => {
            let shown = Digest::new(Sha256::digest(it.handle.as_str()).into());
            return key_claims::spend(tx, organization, &[shown], now).await;
        }
        "people::caller_in" => {
            let person = Person {
                account: it.account,
                home: organization,
                pinned_to: None,
                scopes: ScopeSet::all(),
                credential: Credential::Session(it.account, it.session),
            };
            return Ok(people::caller_in(tx, &person, organization).await?.is_some());
        }
        other => return makes(tx, other, it).await,
    }
    Ok(false)
}

/// The same for what makes or holds something.
async fn makes(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    let id = Uuid::from_u128(7);
    match statement {
        "accounts::hold_default_key" => {
            accounts::hold_default_key(tx, it.account_of_owner).await?;
        }
        "accounts::set_default_key" => {
            accounts::set_default_key(tx, it.account_of_owner, it.key).await?;
        }
        "invites_of_keys::joined" => {
            let joined = invites_of_keys::joined(tx, organization, None, 100).await?;
            return Ok(!joined.is_empty());
        }
        "key_endings::revoke_minted_by" => {
            let seat = (organization, it.owner);
            let ended = key_endings::revoke_minted_by(tx, seat, "test", "test", now).await?;
            return Ok(!ended.is_empty());
        }
        "callers::hold_session" => callers::hold_session(tx, organization, it.session).await?,
        "idempotency_keys::find" => {
            return Ok(idempotency_keys::find(tx, &it.attempt).await?.is_some());
        }
        "idempotency_keys::keep" => {
            let attempt = Attempt {
                lifetime: TimeDelta::hours(24),
                organization,
                principal: it.attempt.principal.clone(),
                endpoint: it.attempt.endpoint.clone(),
                key_digest: [7; 32],
                fingerprints: vec![Digest::new([7; 32])],
            };
            let until = now + TimeDelta::hours(1);
            idempotency_keys::keep(tx, &attempt, 200, None, now, until).await?;
        }
        "keys::insert" => {
            let new = NewApiKey {
                id: KeyId::from_uuid(id),
                organization,
                user: it.owner,
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
                rotated_from: None,
            };
            keys::insert(tx, &new).await?;
        }
        "keys::lock" => keys::lock(tx, organization, &[it.key]).await?,
        "members::hold" => members::hold(tx, organization, &it.seat_handle).await?,
        "outbox::insert" => {
            let mail = (MailKind::Invite(it.invite), it.email.as_str());
            outbox::insert(tx, id, mail, None, now).await?;
        }
        "outbox::withdraw" => {
            outbox::withdraw(tx, MailKind::Invite(it.invite), &it.waiting).await?;
        }
        "people::confirm_session" => {
            let seat = (it.account, organization);
            people::confirm_session(tx, Some(seat), it.session_of_person).await?;
        }
        "people::confirm_token" => {
            people::confirm_token(tx, (it.account, organization), it.token).await?;
        }
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
        "users::insert" => {
            let seat = NewSeat {
                organization,
                id: UserId(id),
                handle: "user_0000000000000007",
                role: Role::Member,
                account: None,
                created_at: now,
            };
            users::insert(tx, &seat).await?;
        }
        other => panic!("no statement {other}"),
    }
    Ok(false)
}

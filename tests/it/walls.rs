//! The second wall between tenants: with an organization's walls up, rows of others are not there,
//! whatever a statement asks; without an organization, none are.

use std::collections::BTreeSet;

use chrono::Utc;
use serde_json::json;
use sqlx::PgConnection;
use tenantry::error::{Error, Result};
use tenantry::model::api_key::ApiKey;
use tenantry::model::audit::{AuditEvent, EventFilter, EventType, Trail};
use tenantry::model::caller::{Credential, Person};
use tenantry::model::email::Email;
use tenantry::model::ids::{
    AccountId, InviteId, KeyId, OrganizationId, ProjectId, SessionId, UserId,
};
use tenantry::model::invite::NewInvite;
use tenantry::model::org_handle::OrgHandle;
use tenantry::model::project::{ProjectChanges, ProjectName, Slug};
use tenantry::model::role::Role;
use tenantry::model::scope::ScopeSet;
use tenantry::model::secret::Digest;
use tenantry::model::usage::Period;
use tenantry::repo::{
    audit_events, callers, invites, key_endings, key_sessions, keys, members, organizations,
    people, projects, tenant_walls, usage, users,
};
use uuid::Uuid;

use crate::support::people::PASSWORD;
use crate::support::{TestApp, run, with};

/// One organization and a thing of each kind in it.
struct Tenant {
    organization: OrganizationId,
    handle: OrgHandle,
    key: KeyId,
    api_key: ApiKey,
    session: SessionId,
    owner: UserId,
    project: ProjectId,
    invite: InviteId,
    seat: UserId,
    seat_handle: String,
    account: AccountId,
    email: Email,
}

async fn tenant(app: &TestApp, email: &str, member: &str) -> Tenant {
    let owner = app.verified_person(email).await;
    let member = app.verified_person(member).await;
    let seat_handle = app.join(&owner, &member, "member").await;
    let key = app.make_key(&owner, json!({ "name": "k", "scopes": ["*"] })).await;
    app.key(&key.api_key).get("/me").await.has_status(200);
    app.app.meter.flush().await.unwrap();
    app.exchange(&key.api_key).await;
    let project = app.make_project(&owner, "one").await;
    let invites = format!("/api/user/organizations/{}/invites", owner.org_id);
    let request = json!({ "email": format!("x{email}"), "role": "member" });
    let made = app.session(&owner.cookie).post(&invites, request).await.has_status(201);
    app.mails().await;
    let id = async |sql: &'static str, of: &str| -> Uuid {
        sqlx::query_scalar(sql).bind(of).fetch_one(&mut app.sql().await).await.unwrap()
    };
    let organization = id("select id from organizations where handle = $1", &owner.org_id).await;
    let seat = id("select id from users where handle = $1", &seat_handle).await;
    let session = id(
        "select s.id from key_sessions s join organizations o on o.id = s.organization_id
         where o.handle = $1",
        &owner.org_id,
    )
    .await;
    // A seat that nobody has claimed, for whoever is invited as an owner.
    let unclaimed = "insert into users (id, organization_id, handle, role, created_at)
                     select gen_random_uuid(), id, 'unclaimed_' || handle, 'owner', now()
                     from organizations o
                     where not exists (select from users u where u.organization_id = o.id
                                         and u.account_id is null)";
    app.execute(unclaimed).await;
    let of_owner = id(
        "select u.id from users u join organizations o on o.id = u.organization_id
         where o.handle = $1 and u.role = 'owner' and u.account_id is not null",
        &owner.org_id,
    )
    .await;
    let (of, key_id) = (OrganizationId(organization), KeyId::parse(&key.key_id).unwrap());
    let api_key = app.app.db.run(async |db| keys::find(db, of, key_id).await).await.unwrap();
    Tenant {
        api_key: api_key.unwrap(),
        session: SessionId::from_uuid(session),
        owner: UserId(of_owner),
        organization: OrganizationId(organization),
        handle: OrgHandle::parse(&owner.org_id).unwrap(),
        key: KeyId::parse(&key.key_id).unwrap(),
        project: ProjectId::parse(&project).unwrap(),
        invite: InviteId::parse(made.body["data"]["id"].as_str().unwrap()).unwrap(),
        seat: UserId(seat),
        seat_handle,
        account: AccountId::parse(&member.id).unwrap(),
        email: Email::parse(&member.email).unwrap(),
    }
}

/// The statements on tenants' data: every function of `repo` that is told the organization, and
/// those that find it in what they are told.
const STATEMENTS: [&str; 50] = [
    "audit_events::insert",
    "audit_events::list",
    "audit_events::part",
    "callers::confirm",
    "invites::accept",
    "invites::find",
    "invites::insert",
    "invites::list",
    "invites::renew",
    "invites::revoke",
    "invites::revoke_all",
    "invites::revoke_from",
    "key_endings::revoke",
    "key_endings::revoke_all",
    "key_endings::successors",
    "key_endings::supersede",
    "key_sessions::insert",
    "key_sessions::insert_refresh_token",
    "key_sessions::revoke",
    "key_sessions::spend_refresh_tokens",
    "keys::find",
    "keys::list",
    "keys::part",
    "keys::redigest",
    "keys::take_from_owner",
    "keys::update",
    "members::claim",
    "members::find",
    "members::has_address",
    "members::list",
    "members::other_owners",
    "members::remove",
    "members::remove_others",
    "members::set_role",
    "organizations::delete",
    "organizations::find",
    "organizations::hold",
    "organizations::update",
    "people::caller_in",
    "projects::count",
    "projects::delete",
    "projects::find",
    "projects::has_slug",
    "projects::list",
    "projects::update",
    "usage::by_day",
    "usage::by_key",
    "usage::requests",
    "users::find_owner",
    "users::lock_seats",
];

/// Those that are told the organization and take a lock, which shows nothing; the one that asks who
/// is calling with a personal token, which is no tenant's; and the walls themselves.
const LOCKS: [&str; 5] = [
    "callers::hold_session",
    "keys::lock",
    "members::hold",
    "people::confirm_token",
    "tenant_walls::raise",
];

#[test]
fn no_statement_that_is_told_an_organization_is_left_out() {
    let mut told = BTreeSet::new();
    for source in crate::tidy::sources("src/repo") {
        let file = source.path.trim_start_matches("src/repo/").trim_end_matches(".rs").to_owned();
        for part in source.text.split("pub async fn ").skip(1) {
            let (name, rest) = part.split_once(['(', '<']).unwrap();
            let parameters = rest.split(") ->").next().unwrap();
            if parameters.contains("organization: OrganizationId") {
                told.insert(format!("{file}::{name}"));
            }
        }
    }
    let known: BTreeSet<_> = STATEMENTS.into_iter().chain(LOCKS).map(str::to_owned).collect();
    let left_out: Vec<_> = told.difference(&known).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

/// Runs a statement with everything about `it` right; whether it found or changed anything.
async fn affects(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now, all) = (it.organization, Utc::now(), (0, 100));
    let month = Period::parse_month("2036-05").unwrap();
    let filter = EventFilter::default();
    Ok(match statement {
        "audit_events::insert" => {
            let trail = Trail {
                method: "GET".to_owned(),
                path: "/".to_owned(),
                address: None,
                request_id: "req_0000000000000000".to_owned(),
                at: now,
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
            true
        }
        "audit_events::list" => {
            !audit_events::list(tx, organization, &filter, None, 100).await?.is_empty()
        }
        "audit_events::part" => audit_events::part(tx, organization, &filter, all).await?.1 > 0,
        "callers::confirm" => callers::confirm(tx, organization, it.key, None).await.is_ok(),
        "invites::find" => invites::find(tx, organization, it.invite).await?.is_some(),
        "invites::list" => invites::list(tx, organization, None, all).await?.1 > 0,
        "invites::renew" => invites::renew(tx, organization, it.invite, now).await?,
        "invites::revoke" => invites::revoke(tx, organization, it.invite, now).await?,
        "invites::revoke_all" => invites::revoke_all(tx, organization, now).await? > 0,
        "key_endings::revoke" => {
            key_endings::revoke(tx, organization, it.key, None, "test", now).await?
        }
        "key_endings::revoke_all" => {
            key_endings::revoke_all(tx, organization, "test", "test", now).await? > 0
        }
        "key_endings::successors" => {
            !key_endings::successors(tx, organization, it.key).await?.is_empty()
        }
        "keys::find" => keys::find(tx, organization, it.key).await?.is_some(),
        "keys::list" => !keys::list(tx, organization, true, None, 100).await?.is_empty(),
        "keys::part" => keys::part(tx, organization, true, None, all).await?.1 > 0,
        "members::find" => members::find(tx, organization, &it.seat_handle).await?.is_some(),
        "members::has_address" => members::has_address(tx, organization, &it.email).await?,
        "members::list" => members::list(tx, organization, None, all).await?.1 > 0,
        "members::other_owners" => members::other_owners(tx, organization, it.seat).await? > 0,
        "members::remove" => members::remove(tx, organization, it.seat, now).await?,
        "members::set_role" => members::set_role(tx, organization, it.seat, Role::Admin).await?,
        "organizations::find" => organizations::find(tx, organization).await?.is_some(),
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

/// The same for statements that say nothing, or not enough, of what they changed: that is seen by
/// [`rows`].
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
                created_at: now,
            };
            invites::insert(tx, &new).await?;
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
            return members::claim(tx, organization, it.account).await;
        }
        "members::remove_others" => {
            let others = members::remove_others(tx, organization, it.account, now).await?;
            return Ok(others > 0);
        }
        "organizations::delete" => organizations::delete(tx, organization, now).await?,
        "organizations::hold" => return Ok(organizations::hold(tx, organization).await?.is_some()),
        "organizations::update" => {
            organizations::update(tx, organization, None, Some(&[]), now).await?;
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
        other => panic!("no statement {other}"),
    }
    Ok(false)
}

/// Every row of the tenants' tables, as the owner of the tables sees them.
async fn rows(tx: &mut PgConnection) -> Result<String> {
    sqlx::query("set local role none").execute(&mut *tx).await?;
    let rows = "select (select string_agg(t::text, '|' order by t::text) from api_keys t)
                    || (select string_agg(t::text, '|' order by t::text) from key_sessions t)
                    || (select string_agg(t::text, '|' order by t::text) from refresh_tokens t)
                    || (select string_agg(t::text, '|' order by t::text) from users t)
                    || (select string_agg(t::text, '|' order by t::text) from organizations t)
                    || (select string_agg(t::text, '|' order by t::text) from invites t)";
    Ok(sqlx::query_scalar(rows).fetch_one(tx).await?)
}

/// Runs a statement behind walls, and takes back what it did.
async fn behind(app: &TestApp, walls: Walls, statement: &str, it: &Tenant) -> bool {
    let mut affected = false;
    let rolled_back: Result<()> = app
        .app
        .db
        .transaction(async |tx| {
            let before = rows(tx).await?;
            walls.raise(tx).await?;
            // A row of another organization's is refused where it is written.
            let Ok(found) = affects(tx, statement, it).await else {
                return Err(Error::conflict("taken back"));
            };
            affected = found || rows(tx).await? != before;
            Err(Error::conflict("taken back"))
        })
        .await;
    assert_eq!(rolled_back.unwrap_err().message(), "taken back", "{statement}");
    affected
}

#[derive(Clone, Copy)]
enum Walls {
    Of(OrganizationId),
    OfNobody,
}

impl Walls {
    async fn raise(self, tx: &mut PgConnection) -> Result<()> {
        match self {
            Self::Of(organization) => tenant_walls::raise(tx, organization).await?,
            Self::OfNobody => {
                sqlx::query("set local role tenantry_tenant").execute(&mut *tx).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn every_statement_sees_its_own_organization_and_behind_other_walls_nothing() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let other = tenant(app, "dora@example.com", "emil@example.com").await;
        for statement in STATEMENTS {
            let own = behind(app, Walls::Of(acme.organization), statement, &acme).await;
            assert!(own, "{statement} does nothing in its own organization");
            let foreign = behind(app, Walls::Of(other.organization), statement, &acme).await;
            assert!(!foreign, "{statement} reaches through the wall of another organization");
            let nobody = behind(app, Walls::OfNobody, statement, &acme).await;
            assert!(!nobody, "{statement} reaches through the wall of no organization");
        }
    })
    .await;
}

/// Without a condition of its own a statement sees its organization, and no other.
#[tokio::test]
async fn a_statement_that_forgets_its_organization_finds_only_that() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        tenant(app, "dora@example.com", "emil@example.com").await;
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
             where c.relkind = 'r' and a.attname = 'organization_id' and a.attnotnull order by 1",
        )
        .fetch_all(&mut app.sql().await)
        .await
        .unwrap();
        assert!(tables.len() >= 9, "{tables:?}");
        for table in tables {
            let sql = format!("select count(*) from {table} where organization_id <> $1");
            let count = async |tx: &mut PgConnection| -> Result<i64> {
                let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone()));
                Ok(count.bind(acme.organization.0).fetch_one(tx).await?)
            };
            let all = app.app.db.run(count).await.unwrap();
            let within = app.app.db.tenant(acme.organization, count).await.unwrap();
            assert_eq!(within, 0, "{table}");
            let is_filled = table != "idempotency_keys";
            assert_eq!(all > 0, is_filled, "{table} shows nothing");
        }
    })
    .await;
}

/// What is a person's is there where they have a seat, and nowhere else.
#[tokio::test]
async fn people_and_their_credentials_are_there_only_where_they_have_a_seat() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let other = tenant(app, "dora@example.com", "emil@example.com").await;
        let all = json!({ "name": "t", "scopes": ["*"] });
        for email in ["ann@example.com", "ben@example.com", "dora@example.com"] {
            let cookie = app.sign_in(email, PASSWORD).await.cookie().unwrap();
            app.make_token(&cookie, all.clone()).await;
        }
        let owners = [
            "select email from accounts order by 1",
            "select distinct (select email from accounts a where a.id = t.account_id)
             from sessions t order by 1",
            "select distinct (select email from accounts a where a.id = t.account_id)
             from personal_tokens t order by 1",
        ];
        let there = async |sql: &'static str, walls: Walls| -> Vec<Option<String>> {
            let read = app.app.db.transaction(async |tx| {
                walls.raise(tx).await?;
                Ok(sqlx::query_scalar(sql).fetch_all(tx).await?)
            });
            read.await.unwrap()
        };
        let named = |emails: &[&str]| -> Vec<_> {
            emails.iter().map(|email| Some((*email).to_owned())).collect()
        };
        for sql in owners {
            let own = there(sql, Walls::Of(acme.organization)).await;
            assert_eq!(own, named(&["ann@example.com", "ben@example.com"]), "{sql}");
            let others = there(sql, Walls::Of(other.organization)).await;
            assert!(!others.contains(&own[0]) && !others.contains(&None), "{sql}: {others:?}");
            assert_eq!(there(sql, Walls::OfNobody).await, [], "{sql}");
        }
        app.execute("update users set removed_at = now() where role = 'member'").await;
        for sql in owners {
            let own = there(sql, Walls::Of(acme.organization)).await;
            assert_eq!(own, named(&["ann@example.com"]), "{sql}");
        }
    })
    .await;
}

/// Of people and their mail, nothing is changed in an organization's name that is not its own.
#[tokio::test]
async fn the_role_of_tenants_may_do_to_people_only_what_is_needed() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let all = json!({ "name": "t", "scopes": ["*"] });
        let cookie = app.sign_in("ann@example.com", PASSWORD).await.cookie().unwrap();
        app.make_token(&cookie, all).await;
        let invite = json!({ "email": "new@example.com", "role": "member" });
        let invites = format!("/api/user/organizations/{}/invites", acme.handle.as_str());
        app.session(&cookie).post(&invites, invite).await.has_status(201);
        let attempts = [
            "select password_hash from accounts",
            "update accounts set is_active = false",
            // Of one whose home is another organization.
            "update accounts set default_key_id = null where email = 'ben@example.com'",
            "insert into accounts select * from accounts",
            "delete from accounts",
            "update sessions set id = gen_random_uuid()",
            "update sessions set expires_at = now()",
            "insert into sessions select * from sessions",
            "delete from sessions",
            "update personal_tokens set id = gen_random_uuid()",
            "update personal_tokens set scopes = '{*}'",
            "delete from personal_tokens",
            "insert into outbox (id, kind, address, created_at, due_at)
             values (gen_random_uuid(), 'reset_password', 'ann@example.com', now(), now())",
            "update outbox set address = 'mal@example.com'",
            "select from email_tokens",
            "delete from audit_events",
            "truncate outbox",
        ];
        for attempt in attempts {
            let tried = app
                .app
                .db
                .tenant(acme.organization, async |tx| Ok(sqlx::query(attempt).execute(tx).await?));
            let refused = tried.await.expect_err(attempt);
            let refused = refused.cause().to_string();
            let is_wall = ["permission denied", "row-level security"];
            assert!(is_wall.iter().any(|it| refused.contains(it)), "{attempt}: {refused}");
        }
        app.mails().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_of_an_organization_is_left_on_a_connection() {
    with(&[("DATABASE_MAX_CONNECTIONS", "1")])
        .run(async |app| {
            let acme = tenant(app, "ann@example.com", "ben@example.com").await;
            let settings = async |db: &mut PgConnection| -> Result<(String, Option<String>)> {
                let sql = "select current_user::text, current_setting('app.organization_id', true)";
                Ok(sqlx::query_as(sql).fetch_one(db).await?)
            };
            let (owner, _) = app.app.db.run(settings).await.unwrap();
            let failed: Result<()> = app
                .app
                .db
                .tenant(acme.organization, async |tx| {
                    let (role, organization) = settings(tx).await?;
                    assert_eq!(role, "tenantry_tenant");
                    assert_eq!(organization, Some(acme.organization.0.to_string()));
                    sqlx::query("select 1 / 0").execute(tx).await?;
                    Ok(())
                })
                .await;
            failed.unwrap_err();
            for done in [true, false] {
                let (role, organization) = app.app.db.run(settings).await.unwrap();
                assert_eq!(role, owner);
                assert_eq!(organization.unwrap_or_default(), "");
                if done {
                    app.app.db.tenant(acme.organization, async |_| Ok(())).await.unwrap();
                }
            }
        })
        .await;
}

//! Row-level security, the second isolation layer: with a tenant set, a statement finds no rows of
//! other organizations, whatever its conditions are; without one, it finds no rows at all.

mod oauth;
mod rows_read;
mod sso_connection_statements;
mod sso_domain_statements;
mod statements;

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use tenantry::error::{Error, Result};
use tenantry::model::api_key::ApiKey;
use tenantry::model::email::Email;
use tenantry::model::idempotency::{IdempotencyKey, IdempotentRequest};
use tenantry::model::ids::{
    AccountId, AppId, AppSecretId, ConnectionId, DomainId, GrantId, InviteId, KeyId, MembershipId,
    OrganizationId, ProjectId, SessionId,
};
use tenantry::model::organization_handle::OrganizationHandle;
use tenantry::model::secret::Digest;
use tenantry::model::sso::connection::SsoConnection;
use tenantry::model::sso::domain_name::DomainName;
use tenantry::repo::{keys, rls, sso_connections};
use uuid::Uuid;

use self::statements::{STATEMENTS, affects};
use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::{TestApp, run, with_settings};

/// An organization and an object of each kind in it.
struct Tenant {
    organization: OrganizationId,
    handle: OrganizationHandle,
    key: KeyId,
    api_key: ApiKey,
    session: SessionId,
    owner: MembershipId,
    project: ProjectId,
    invite: InviteId,
    membership: MembershipId,
    membership_handle: String,
    account: AccountId,
    account_of_owner: AccountId,
    email: Email,
    account_session: SessionId,
    token: KeyId,
    app: AppId,
    app_secret: AppSecretId,
    grant: GrantId,
    domain: (DomainId, DomainName),
    attempt: IdempotentRequest,
    connection: SsoConnection,
    /// The recipient of a queued mail of the invitation.
    queued_address: String,
}

/// Inserts a payment, a billing customer, an ended subscription and an open key claim for every
/// organization without a payment.
async fn pay(app: &TestApp) {
    let paid = "with o as (select id, handle from organizations o
                          where not exists (select from payments p where p.organization_id = o.id)),
                     p as (insert into payments (id, organization_id, event_id, reference, amount,
                                                 currency, status, created_at)
                           select gen_random_uuid(), id, 'evt_' || handle, 'in_1', 2900, 'usd',
                                  'paid', now() from o),
                     b as (insert into billing_customers (organization_id, customer_id,
                                                          pays_once, last_event_at, created_at)
                           select id, 'cus_' || handle, false, now(), now() from o),
                     e as (insert into ended_subscriptions (organization_id, subscription_id,
                                                            ended_at)
                           select id, 'sub_' || handle, now() from o)
                insert into key_claims (organization_id, email, digest, created_at, expires_at)
                select id, 'buyer@example.com', sha256(convert_to(handle, 'UTF8')), now(),
                       now() + interval '7 days' from o";
    app.execute(paid).await;
}

/// Registers an app, which the member grants access to, and sets a policy for every organization
/// without one.
async fn grant_access(
    app: &TestApp,
    owner: &TestAccount,
    member: &TestAccount,
) -> (AppId, AppSecretId, GrantId) {
    let registered = app.create_app(owner, "reports").await["id"].as_str().unwrap().to_owned();
    let secret = app.first_secret(owner, &registered).await;
    let of_member = (member, Some(owner.org_id.as_str()));
    let grant = app.insert_grant(of_member, &registered, &["projects:read"]).await;
    let forbids = "insert into organization_app_policies (organization_id, mode, updated_at)
                   select id, 'none', now() from organizations on conflict do nothing";
    app.execute(forbids).await;
    let rule = "insert into organization_app_rules (organization_id, client_id, rule, created_by,
                                                    created_at)
                select organization_id, id, 'allowed', created_by, now() from oauth_clients
                on conflict do nothing";
    app.execute(rule).await;
    let ids = (AppId::parse(&registered), AppSecretId::parse(&secret), GrantId::parse(&grant));
    (ids.0.unwrap(), ids.1.unwrap(), ids.2.unwrap())
}

/// A new connection of the owner's organization to an identity provider.
async fn connection(app: &TestApp, owner: &TestAccount, of: OrganizationId) -> SsoConnection {
    let id = ConnectionId::parse(&app.insert_connection(owner).await).unwrap();
    let signed_in =
        "with i as (insert into sso_identities (connection_id, subject, organization_id,
                                                            account_id, created_at, last_sign_in_at)
                                select c.id, 's', c.organization_id, a.id, now(), now()
                                from sso_connections c
                                join accounts a on a.home_organization_id = c.organization_id
                                on conflict do nothing)
                     insert into sso_flows (digest, pepper_id, connection_id, organization_id,
                                            browser_digest, expires_at)
                     select sha256(id::text::bytea), 'p1', id, organization_id,
                            sha256(id::text::bytea), now()
                     from sso_connections on conflict do nothing";
    app.execute(signed_in).await;
    let find = async |db: &mut _| sso_connections::find(db, of, id).await;
    app.app.db.run(find).await.unwrap().unwrap()
}

/// Creates an organization with an object of each kind.
async fn tenant(app: &TestApp, email: &str, member: &str) -> Tenant {
    let (owner, member) = (app.verified_account(email).await, app.verified_account(member).await);
    let membership_handle = app.invite_and_accept(&owner, &member, "member").await;
    let key = app.create_key(&owner, json!({ "name": "k", "scopes": ["*"] })).await;
    let client = app.key(&key.api_key).with("idempotency-key", "one");
    client.post("/me/api-keys", json!({ "name": "second" })).await.assert_status(201);
    let (_, token) =
        app.create_token(&member.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
    let narrow = json!({ "name": "narrow", "scopes": ["usage:read"] });
    let narrow = app.key(&app.create_key(&owner, narrow).await.api_key);
    narrow.get("/v1/organization/denials").await.assert_status(403);
    app.app.rejections.flush().await.unwrap();
    app.app.meter.flush().await.unwrap();
    app.exchange(&key.api_key).await;
    let project = app.create_project(&owner, "one").await;
    let invites = format!("/api/user/organizations/{}/invites", owner.org_id);
    let request = json!({ "email": format!("x{email}"), "role": "member" });
    let created = app.session(&owner.cookie).post(&invites, request).await.assert_status(201);
    app.mails().await;
    let id = async |sql: &'static str, of: &str| -> Uuid {
        sqlx::query_scalar(sql).bind(of).fetch_one(&mut app.connect().await).await.unwrap()
    };
    let organization = id("select id from organizations where handle = $1", &owner.org_id).await;
    let membership = id("select id from users where handle = $1", &membership_handle).await;
    let session = id(
        "select s.id from key_sessions s join organizations o on o.id = s.organization_id
         where o.handle = $1",
        &owner.org_id,
    )
    .await;
    let account_session = id(
        "select s.id from sessions s join accounts a on a.id = s.account_id where a.email = $1",
        &member.email,
    )
    .await;
    // A mail that is not sent during the test.
    let queued_address = "later@example.com";
    let queue = "insert into outbox (id, kind, address, created_at, due_at, invite_id)
                 select gen_random_uuid(), 'invite', 'later@example.com', now(), 'infinity', id
                 from invites i where accepted_at is null
                                  and not exists (select from outbox o where o.invite_id = i.id)";
    app.execute(queue).await;
    // A membership without an account, for the first invited owner.
    let unclaimed = "insert into users (id, organization_id, handle, role, created_at)
                     select gen_random_uuid(), id, 'unclaimed_' || handle, 'owner', now()
                     from organizations o
                     where not exists (select from users u where u.organization_id = o.id
                                         and u.account_id is null)";
    app.execute(unclaimed).await;
    let credits = "insert into credit_balances (id, organization_id, remaining, refilled_at)
                   select id, organization_id, 1000, now() from api_keys on conflict do nothing";
    app.execute(credits).await;
    // Every invitation was created with the organization's key.
    let by_key = "update invites i set key_id = k.id from api_keys k
                  where k.organization_id = i.organization_id and k.name = 'k'";
    app.execute(by_key).await;
    pay(app).await;
    // A paid checkout that could not be fulfilled, of the deployment itself.
    let unfulfilled = "insert into unfulfilled_checkouts (event_id, organization_id, handle,
                                                          reason, created_at, delivered_at)
                       select 'evt_' || gen_random_uuid(), id, 'x', 'deleted', now(), now()
                       from organizations where handle = 'system'";
    app.execute(unfulfilled).await;
    let (registered, app_secret, grant) = grant_access(app, &owner, &member).await;
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
        connection: connection(app, &owner, of).await,
        session: SessionId::from_uuid(session),
        owner: MembershipId(of_owner),
        organization: OrganizationId(organization),
        handle: OrganizationHandle::parse(&owner.org_id).unwrap(),
        key: KeyId::parse(&key.key_id).unwrap(),
        project: ProjectId::parse(&project).unwrap(),
        invite: InviteId::parse(created.body["data"]["id"].as_str().unwrap()).unwrap(),
        membership: MembershipId(membership),
        membership_handle,
        account: AccountId::parse(&member.id).unwrap(),
        account_of_owner: AccountId::parse(&owner.id).unwrap(),
        email: Email::parse(&member.email).unwrap(),
        account_session: SessionId::from_uuid(account_session),
        token: KeyId::parse(&token).unwrap(),
        app: registered,
        app_secret,
        grant,
        domain: sso_domain_statements::add_domain(app, organization).await,
        attempt: IdempotentRequest {
            lifetime: tenantry::model::idempotency::RESPONSE_LIFETIME,
            organization: of,
            principal: key.key_id,
            endpoint: "POST /me/api-keys".to_owned(),
            key_digest: IdempotencyKey::parse("one").unwrap().digest(),
            fingerprints: vec![Digest::new([7; 32])],
        },
        queued_address: queued_address.to_owned(),
    }
}

/// Every row of every table with the transaction that locks it (`xmax`), as the table owner sees
/// them.
async fn rows(tx: &mut PgConnection) -> Result<Vec<String>> {
    sqlx::query("set local role none").execute(&mut *tx).await?;
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *tx).await?;
    let each: Vec<String> = tables
        .into_iter()
        .map(|table| format!("select '{table} ' || t.xmax || ' ' || t::text from {table} t"))
        .collect();
    let all = format!("{} order by 1", each.join(" union all "));
    Ok(sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(tx).await?)
}

/// Returns whether a statement under row-level security finds, changes or locks a row; rolls back.
async fn affects_rows(app: &TestApp, scope: TenantScope, statement: &str, it: &Tenant) -> bool {
    let mut affected = false;
    let rolled_back: Result<()> = app
        .app
        .db
        .transaction(async |tx| {
            let before = rows(tx).await?;
            scope.set(tx).await?;
            // Writing a row of another organization is an error.
            let Ok(found) = affects(tx, statement, it).await else {
                return Err(Error::conflict("rolled back"));
            };
            affected = found || rows(tx).await? != before;
            Err(Error::conflict("rolled back"))
        })
        .await;
    assert_eq!(rolled_back.unwrap_err().message(), "rolled back", "{statement}");
    affected
}

/// The tenant of a transaction.
#[derive(Clone, Copy)]
enum TenantScope {
    Organization(OrganizationId),
    NoOrganization,
}

impl TenantScope {
    async fn set(self, tx: &mut PgConnection) -> Result<()> {
        match self {
            Self::Organization(organization) => rls::set_tenant(tx, organization).await?,
            Self::NoOrganization => {
                sqlx::query("set local role tenantry_tenant").execute(&mut *tx).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn every_statement_affects_its_own_organization_and_no_other() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let other = tenant(app, "dora@example.com", "emil@example.com").await;
        for statement in STATEMENTS {
            let own =
                affects_rows(app, TenantScope::Organization(acme.organization), statement, &acme)
                    .await;
            assert!(own, "{statement} has no effect in its own organization");
            let foreign =
                affects_rows(app, TenantScope::Organization(other.organization), statement, &acme)
                    .await;
            assert!(!foreign, "{statement} has an effect under another organization");
            let unscoped = affects_rows(app, TenantScope::NoOrganization, statement, &acme).await;
            assert!(!unscoped, "{statement} has an effect under no organization");
        }
    })
    .await;
}

/// Tables that tenants may not read at all, not even their own rows: they protect the audit log, or
/// are for verifiers or the servers themselves.
const UNREADABLE: [&str; 10] = [
    "audit_heads",
    "audit_signing",
    "credential_changes",
    "oauth_assertions",
    "oauth_devices",
    "oauth_requests",
    "revocations",
    "usage_events",
    "usage_hourly",
    "usage_resources",
];

#[tokio::test]
async fn a_statement_without_a_condition_finds_no_rows_of_another_organization() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        tenant(app, "dora@example.com", "emil@example.com").await;
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
             where c.relkind = 'r' and a.attname = 'organization_id' and a.attnotnull order by 1",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        assert!(tables.len() >= 9, "{tables:?}");
        let unreadable = "select not has_any_column_privilege('tenantry_tenant', $1, 'select')";
        for table in tables {
            let unreadable = sqlx::query_scalar(unreadable).bind(&table);
            let is_unreadable: bool = unreadable.fetch_one(&mut app.connect().await).await.unwrap();
            assert_eq!(is_unreadable, UNREADABLE.contains(&&*table), "{table}");
            if is_unreadable {
                continue;
            }
            let sql = format!("select count(*) from {table} where organization_id <> $1");
            let count = async |tx: &mut PgConnection| -> Result<i64> {
                let count = sqlx::query_scalar(AssertSqlSafe(sql.clone()));
                Ok(count.bind(acme.organization.0).fetch_one(tx).await?)
            };
            let all = app.app.db.run(count).await.unwrap();
            let within = app.app.db.tenant_transaction(acme.organization, count).await.unwrap();
            assert_eq!(within, 0, "{table}");
            assert!(all > 0, "{table} has no rows of another organization");
        }
    })
    .await;
}

#[tokio::test]
async fn accounts_and_their_credentials_are_visible_only_where_they_have_a_membership() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let other = tenant(app, "dora@example.com", "emil@example.com").await;
        let all = json!({ "name": "t", "scopes": ["*"] });
        for email in ["ann@example.com", "ben@example.com", "dora@example.com"] {
            let cookie = app.sign_in(email, PASSWORD).await.cookie().unwrap();
            app.create_token(&cookie, all.clone()).await;
        }
        let owners = [
            "select email from accounts order by 1",
            "select distinct (select email from accounts a where a.id = t.account_id)
             from sessions t order by 1",
            "select distinct (select email from accounts a where a.id = t.account_id)
             from personal_tokens t order by 1",
        ];
        let visible = async |sql: &'static str, scope: TenantScope| -> Vec<Option<String>> {
            let read = app.app.db.transaction(async |tx| {
                scope.set(tx).await?;
                Ok(sqlx::query_scalar(sql).fetch_all(tx).await?)
            });
            read.await.unwrap()
        };
        let named = |emails: &[&str]| -> Vec<_> {
            emails.iter().map(|email| Some((*email).to_owned())).collect()
        };
        for sql in owners {
            let own = visible(sql, TenantScope::Organization(acme.organization)).await;
            assert_eq!(own, named(&["ann@example.com", "ben@example.com"]), "{sql}");
            let others = visible(sql, TenantScope::Organization(other.organization)).await;
            assert!(!others.contains(&own[0]) && !others.contains(&None), "{sql}: {others:?}");
            assert_eq!(visible(sql, TenantScope::NoOrganization).await, [], "{sql}");
        }
        app.execute("update users set removed_at = now() where role = 'member'").await;
        for sql in owners {
            let own = visible(sql, TenantScope::Organization(acme.organization)).await;
            assert_eq!(own, named(&["ann@example.com"]), "{sql}");
        }
    })
    .await;
}

/// A tenant may change only what it needs of accounts, their credentials and their mail.
#[tokio::test]
async fn the_tenant_role_cannot_change_accounts_credentials_mail_billing_or_audit_events() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let all = json!({ "name": "t", "scopes": ["*"] });
        let cookie = app.sign_in("ann@example.com", PASSWORD).await.cookie().unwrap();
        app.create_token(&cookie, all).await;
        let invite = json!({ "email": "new@example.com", "role": "member" });
        let invites = format!("/api/user/organizations/{}/invites", acme.handle.as_str());
        app.session(&cookie).post(&invites, invite).await.assert_status(201);
        let attempts = [
            "select password_hash from accounts",
            "update accounts set is_active = false",
            // An account whose home is another organization.
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
            "insert into payments select * from payments",
            "update payments set amount = 1",
            "delete from payments",
            "insert into billing_customers select * from billing_customers",
            "update billing_customers set customer_id = 'cus_mine'",
            "insert into ended_subscriptions select * from ended_subscriptions",
            "delete from ended_subscriptions",
            "insert into key_claims select * from key_claims",
            "update key_claims set expires_at = 'infinity'",
            "delete from key_claims",
            "delete from audit_events",
            "truncate outbox",
        ];
        for attempt in attempts {
            let result = app.app.db.tenant_transaction(acme.organization, async |tx| {
                Ok(sqlx::query(attempt).execute(tx).await?)
            });
            let rejected = result.await.expect_err(attempt);
            let rejected = rejected.cause().to_string();
            let messages = ["permission denied", "row-level security"];
            assert!(messages.iter().any(|it| rejected.contains(it)), "{attempt}: {rejected}");
        }
        app.mails().await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_keeps_no_tenant_after_a_transaction_that_commits_or_fails() {
    with_settings(&[("DATABASE_MAX_CONNECTIONS", "1")])
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
                .tenant_transaction(acme.organization, async |tx| {
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
                    app.app
                        .db
                        .tenant_transaction(acme.organization, async |_| Ok(()))
                        .await
                        .unwrap();
                }
            }
        })
        .await;
}

/// Triggers that reject writes without the tenant of the written row.
const TENANT_CHECK_TRIGGERS: [&str; 6] = [
    "create function require_tenant() returns trigger language plpgsql as $$ begin
         if current_user <> 'tenantry_tenant' or new.organization_id <> tenant_organization() then
             raise exception '% is written without its tenant', tg_table_name;
         end if;
         return new;
     end $$",
    "create trigger t before insert on api_keys for each row execute function require_tenant()",
    "create trigger t before insert on audit_events for each row execute function require_tenant()",
    "create trigger t before insert on refresh_tokens
         for each row execute function require_tenant()",
    "create trigger t before insert on users for each row execute function require_tenant()",
    "create trigger t before update on invites for each row execute function require_tenant()",
];

/// If an operation learns its organization only from a secret or an account, it sets the tenant for
/// the rest of its work.
#[tokio::test]
async fn operations_that_begin_with_a_secret_or_an_account_write_under_row_level_security() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let (_, refresh) = app.exchange(&key.api_key).await;
        let invites = format!("/api/user/organizations/{}/invites", ann.org_id);
        let invite = json!({ "email": ben.email, "role": "member" });
        app.session(&ann.cookie).post(&invites, invite).await.assert_status(201);
        let link = app.mailed_token().await;
        for trigger in TENANT_CHECK_TRIGGERS {
            app.execute(trigger).await;
        }
        let request = json!({ "refresh_token": refresh });
        app.anonymous().post("/auth/refresh", request.clone()).await.assert_status(200);
        // A second use of the token ends the session.
        app.anonymous().post("/auth/refresh", request).await.assert_error(401, "unauthorized");
        let ended = "select count(*) from key_sessions where revoked_at is not null";
        assert_eq!(app.count(ended).await, 1);
        let twice = app.session(&ben.cookie).with("idempotency-key", "one");
        for _ in 0..2 {
            let accept = format!("/api/user/invites/{link}/accept");
            twice.post(&accept, json!({})).await.assert_status(200);
        }
        let regenerate = "/auth/api-key/regenerate";
        app.bearer(&ann.token).post(regenerate, json!({})).await.assert_status(200);
        app.bearer(&ann.token).post(regenerate, json!({})).await.assert_status(200);
        let live = "select count(*) from api_keys where revoked_at is null";
        assert_eq!(app.count(live).await, 2);
    })
    .await;
}

/// Uses of the database without a tenant: how many in each file, and why. The list may only shrink.
const WITHOUT_TENANT: [(&str, usize, &str); 74] = [
    ("src/app/batch_lookup.rs", 2, "credentials and origins are looked up"),
    ("src/app/credit_leases/mod.rs", 2, "credits of all organizations are taken and returned"),
    ("src/app/meter/mod.rs", 2, "usage of all organizations is written and read together"),
    ("src/app/rate_limits/mod.rs", 1, "rate limits belong to no organization"),
    ("src/app/rejections/credentials.rs", 1, "rejections of all organizations"),
    ("src/app/rejections/requests.rs", 1, "rejections of all organizations"),
    ("src/app/rejections/sign_ins.rs", 1, "failed sign-ins to all accounts"),
    ("src/commands/audit.rs", 3, "the audit logs of all organizations, for the operator"),
    ("src/commands/key.rs", 1, "counts of the whole deployment, for the operator"),
    ("src/commands/mail.rs", 1, "mail that could not be sent, for the operator"),
    ("src/commands/org.rs", 4, "the operator, who is in no organization"),
    ("src/domain/accounts/deletion.rs", 1, "an account, and the organizations that end with it"),
    ("src/domain/accounts/email_verification.rs", 3, "an account's address"),
    ("src/domain/accounts/mod.rs", 1, "an account"),
    ("src/domain/accounts/password_resets.rs", 2, "an account's password"),
    ("src/domain/accounts/passwords.rs", 4, "an account's password"),
    ("src/domain/accounts/pending_sign_ups.rs", 1, "an account"),
    ("src/domain/accounts/verified_password.rs", 1, "an account's password"),
    ("src/domain/audit/mod.rs", 2, "the heads of all audit logs"),
    ("src/domain/audit/retention.rs", 3, "events past their retention in all audit logs"),
    ("src/domain/billing/unfulfilled_checkouts.rs", 1, "payments of no organization"),
    ("src/domain/keys/claims.rs", 1, "the link names the organization, which is then set"),
    ("src/domain/keys/import.rs", 1, "keys of all organizations, by the operator"),
    ("src/domain/keys/presented.rs", 1, "a personal access token of an account"),
    ("src/domain/keys/sessions.rs", 1, "the token names the organization, which is then set"),
    ("src/domain/leaks/github.rs", 1, "reports of keys of any organization"),
    ("src/domain/leaks/mod.rs", 3, "reports of keys of any organization"),
    ("src/domain/links.rs", 1, "a mailed link is looked up"),
    ("src/domain/mail/mod.rs", 1, "mail is sent to any address"),
    ("src/domain/oauth/authorization.rs", 2, "the client, and the session of an account"),
    ("src/domain/oauth/client_authentication.rs", 3, "clients of all organizations"),
    ("src/domain/oauth/client_documents.rs", 3, "clients of the deployment"),
    ("src/domain/oauth/client_revocation.rs", 1, "tokens of an account"),
    ("src/domain/oauth/consent.rs", 2, "what an account grants, in any of its organizations"),
    ("src/domain/oauth/consent_page.rs", 1, "all organizations of an account"),
    ("src/domain/oauth/device_answers.rs", 4, "a device's request, and an account's answer"),
    ("src/domain/oauth/devices.rs", 2, "a device's request, before anybody answers it"),
    ("src/domain/oauth/pending_request.rs", 3, "a request, before an organization is chosen"),
    ("src/domain/oauth/registration.rs", 4, "clients of the deployment"),
    ("src/domain/oauth/remembered_consent.rs", 2, "what an account granted before"),
    ("src/domain/oauth/tokens.rs", 2, "codes and tokens of an account"),
    ("src/domain/oauth/userinfo.rs", 1, "the account of a token"),
    ("src/domain/organizations/signup.rs", 1, "creates an organization"),
    ("src/domain/retention.rs", 3, "expired rows of all organizations"),
    ("src/domain/sso/callback.rs", 3, "a browser, and a person who may not be a member yet"),
    ("src/domain/sso/domain_checks.rs", 2, "verified domains of all organizations are checked"),
    ("src/domain/sso/sign_in.rs", 3, "a browser in which no one is signed in"),
    ("src/domain/sso/upkeep.rs", 2, "connections of all organizations"),
    ("src/domain/verification/introspection.rs", 1, "an access token of a client"),
    ("src/domain/verification/usage_events.rs", 1, "usage of all organizations is reported"),
    ("src/http/account/me.rs", 1, "an account"),
    ("src/http/auth/cookies.rs", 1, "an account's sessions"),
    ("src/http/auth/guards.rs", 1, "the credential is looked up"),
    ("src/http/edge/rate_limits.rs", 1, "earlier sign-ins of an account"),
    ("src/http/oauth/device.rs", 1, "an account"),
    ("src/http/oauth/sign_in_page.rs", 1, "the session of an account"),
    ("src/http/operator/apps.rs", 2, "apps of all organizations, for the operator"),
    ("src/http/operator/create_organization.rs", 1, "the operator creates an organization"),
    ("src/http/operator/organization_change.rs", 1, "the operator, who is in no organization"),
    ("src/http/operator/settings.rs", 2, "the operator, who is in no organization"),
    ("src/http/operator/usage.rs", 1, "the operator, who is in no organization"),
    ("src/http/stripe/mod.rs", 1, "payments for any organization, and new organizations"),
    ("src/http/user/account.rs", 2, "an account"),
    ("src/http/user/authorized_apps.rs", 2, "what an account granted to apps"),
    ("src/http/user/invites.rs", 1, "the link names the organization, which is then set"),
    ("src/http/user/organizations.rs", 2, "all organizations of an account; creates another one"),
    ("src/http/user/passwords.rs", 1, "an account's password"),
    ("src/http/user/personal_tokens.rs", 5, "an account's tokens"),
    ("src/http/user/sessions.rs", 3, "an account's sessions"),
    ("src/http/user/sign_in.rs", 1, "an account's session"),
    ("src/http/user/sso/callback.rs", 1, "an account's session"),
    ("src/http/user/verify_email.rs", 2, "an account's address"),
    ("src/http/verification/usage.rs", 1, "usage of all organizations is exported"),
    ("src/jobs/mod.rs", 4, "the queue of all organizations"),
];

#[test]
fn every_query_outside_row_level_security_is_listed_with_its_reason() {
    let mut queries = Vec::new();
    for source in crate::conventions::sources("src") {
        if source.path == "src/app/database.rs" {
            continue;
        }
        let code: String = source.code().split_whitespace().collect();
        let calls = [
            "db.run(",
            "db.transaction(",
            "db.long_transaction(",
            ".run(&app,&person,",
            ".run_rate_limited(&app,&person,",
            ".run_checked(&app,&person,",
            "run(&app,scope,",
            "run(app,scope,",
            "once(app,None,",
        ];
        let count: usize = calls.iter().map(|call| code.matches(call).count()).sum();
        if count > 0 {
            queries.push((source.path, count));
        }
    }
    queries.sort();
    let known: Vec<_> =
        WITHOUT_TENANT.iter().map(|(path, count, _)| ((*path).to_owned(), *count)).collect();
    assert_eq!(queries, known);
}

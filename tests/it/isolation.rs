//! The walls between tenants: every operation of the API's description that names something by an
//! id, asked by everybody who may not, with ids of others and with ids that never were. Foreign
//! things look like things that never were, the answers are byte-equal but for the request's id,
//! and nothing is changed.
//!
//! The operations come from the description: one that is in no row of the tables below fails.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tenantry::http::family::Family;

use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::client::{TestClient, TestResponse};
use crate::support::requests::Fixtures;
use crate::support::spec::{Operation, operations};
use crate::support::{TestApp, run};

/// Operations in an organization that its members may use, within their scopes.
const MEMBER_OPERATIONS: [&str; 10] = [
    "createProject",
    "deleteProject",
    "getDashboardUsage",
    "getMyMembership",
    "getOrganization",
    "getProject",
    "listMembers",
    "listProjects",
    "removeMember",
    "updateProject",
];
/// Those that only admins may use.
const ADMIN_OPERATIONS: [&str; 13] = [
    "changeMemberRole",
    "createInvite",
    "createOrganizationKey",
    "listAuditLogs",
    "listInvites",
    "listOrganizationKeys",
    "listPayments",
    "resendInvite",
    "revokeInvite",
    "revokeOrganizationKey",
    "rotateOrganizationKey",
    "updateOrganization",
    "updateOrganizationKey",
];
/// Those that only owners may use, in a session.
const OWNER_OPERATIONS: [&str; 1] = ["deleteOrganization"];
/// Operations that name a key of the caller's organization.
const KEY_OPERATIONS: [&str; 5] =
    ["getApiKey", "revokeApiKey", "revokeMyKey", "rotateApiKey", "updateApiKey"];
/// The operator's, which no tenant's credential opens.
const OPERATOR_OPERATIONS: [&str; 8] = [
    "changePlan",
    "forceRevokeKeys",
    "forceRotateKeys",
    "getUsageOfOrganization",
    "reactivateOrganization",
    "rotateKeysForBilling",
    "suspendOrganization",
    "suspendOrganizationForBilling",
];
/// Operations that name something of the caller's own, in a body or a query, and are for sessions.
const ACCOUNT_OPERATIONS: [&str; 5] =
    ["createToken", "deleteToken", "getToken", "revokeSession", "updateToken"];
/// Operations that name something by a secret, which is no id: `user::invites` tests them.
const SECRET_OPERATIONS: [&str; 2] = ["acceptInvite", "showInvitePage"];
/// Operations whose id is one that the caller chooses for what is made.
const CHOSEN_ID_OPERATIONS: [&str; 2] = ["createOrganization", "signUp"];

/// An id of an organization that never was.
const UNKNOWN_ORGANIZATION: &str = "org_0000000000";
/// Ids that nothing has.
const UNKNOWN_IDS: PathIds<'static> = PathIds {
    key: "key_0000000000000000000000",
    project: "prj_0000000000000000000000",
    invite: "inv_0000000000000000000000",
    membership: "user_0000000000000000",
};
const UNKNOWN_SESSION: &str = "sess_0000000000000000000000";

/// What can be named below an organization.
#[derive(Clone, Copy)]
struct PathIds<'a> {
    key: &'a str,
    project: &'a str,
    invite: &'a str,
    membership: &'a str,
}

#[test]
fn every_operation_that_names_something_is_in_the_matrix() {
    let rows = [
        &MEMBER_OPERATIONS[..],
        &ADMIN_OPERATIONS,
        &OWNER_OPERATIONS,
        &KEY_OPERATIONS,
        &OPERATOR_OPERATIONS,
        &SECRET_OPERATIONS,
    ];
    let rows: BTreeSet<_> = rows.into_iter().flatten().copied().collect();
    let operations = operations();
    let in_path = operations.iter().filter(|it| it.path.contains('{'));
    let in_path: BTreeSet<_> = in_path.map(Operation::id).collect();
    assert_eq!(in_path, rows);
    let rows: BTreeSet<_> = ACCOUNT_OPERATIONS.into_iter().chain(CHOSEN_ID_OPERATIONS).collect();
    // The operator's credential, and a signature, are the route's own, whatever it names.
    let beside = operations.iter().filter(|it| !it.requires_master_key() && !it.is_signed());
    let beside = beside.filter(|it| !it.id_names().is_empty());
    let beside: BTreeSet<_> = beside.map(Operation::id).collect();
    assert_eq!(beside, rows);
}

/// Another tenant: a person with an organization, and things in it.
struct TenantFixture {
    person: TestAccount,
    key: String,
    key_id: String,
    project_id: String,
    invite_id: String,
    membership_id: String,
}

impl TenantFixture {
    async fn new(app: &TestApp) -> Self {
        let person = app.verified_account("dora@example.com").await;
        let emil = app.verified_account("emil@example.com").await;
        let seat_id = app.invite_and_accept(&person, &emil, "member").await;
        let key = app.create_key(&person, json!({ "name": "k", "scopes": ["*"] })).await;
        let project_id = app.create_project(&person, "one").await;
        let invites = format!("/api/user/organizations/{}/invites", person.org_id);
        let request = json!({ "email": "fay@example.com", "role": "member" });
        let made = app.session(&person.cookie).post(&invites, request).await.assert_status(201);
        let invite_id = made.body["data"]["id"].as_str().unwrap().to_owned();
        app.mails().await;
        let (key, key_id) = (key.api_key, key.key_id);
        Self { person, key, key_id, project_id, invite_id, membership_id: seat_id }
    }

    fn ids(&self) -> PathIds<'_> {
        let Self {
            key_id: key, project_id: project, invite_id: invite, membership_id: seat, ..
        } = self;
        PathIds { key, project, invite, membership: seat }
    }
}

/// What somebody is to ann's organization, or lacks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    /// Without a credential, or with one that has ended.
    Unauthenticated,
    /// Of another tenant, with every right there.
    OtherTenant,
    /// The owner's, but pinned to another organization of hers.
    PinnedElsewhere,
    /// The owner's, without the scope.
    Unscoped,
    /// A member's.
    Member,
    /// The owner's, or a key with every scope.
    Owner,
}

/// Somebody who asks.
struct Caller {
    who: &'static str,
    actor: TestClient,
    standing: Access,
    in_session: bool,
}

/// Everybody who asks: see [`Standing`].
async fn callers(app: &TestApp, world: &Fixtures, other: &TenantFixture) -> Vec<Caller> {
    use Access::{Member, OtherTenant, Owner, PinnedElsewhere, Unauthenticated, Unscoped};
    let (ann, dora) = (&world.ann, &other.person);
    let ben = app.sign_in("ben@example.com", PASSWORD).await.assert_status(200).cookie().unwrap();
    let second = json!({ "name": "Second" });
    let second = app.session(&ann.cookie).post("/api/user/organizations", second).await;
    let second = second.assert_status(201).body["data"]["id"].as_str().unwrap().to_owned();
    let token = async |cookie: &str, scopes: &str, pin: Option<&str>| {
        let mut request = json!({ "name": "t", "scopes": [scopes] });
        if let Some(pin) = pin {
            request["metadata"] = json!({ "organizationId": pin });
        }
        app.key(&app.create_token(cookie, request).await.0)
    };
    let key = async |scopes: &str| {
        let request = json!({ "name": format!("of the matrix: {scopes}"), "scopes": [scopes] });
        app.key(&app.create_key(ann, request).await.api_key)
    };
    let narrow = "trademarks:read";
    let (ann_s, dora_s) = (ann.org_id.as_str(), dora.org_id.as_str());
    let mut askers = Vec::new();
    let mut ask = |who, actor, standing, in_session| {
        askers.push(Caller { who, actor, standing, in_session });
    };
    ask("nobody", app.anonymous(), Unauthenticated, false);
    ask("another tenant's key", app.key(&other.key), OtherTenant, false);
    ask("another tenant's owner", app.session(&dora.cookie), OtherTenant, true);
    ask("another tenant's token", token(&dora.cookie, "*", None).await, OtherTenant, false);
    let pinned = token(&dora.cookie, "*", Some(dora_s)).await;
    ask("another tenant's pinned token", pinned, OtherTenant, false);
    let elsewhere = token(&ann.cookie, "*", Some(&second)).await;
    ask("a token pinned elsewhere", elsewhere, PinnedElsewhere, false);
    ask("a token without the scope", token(&ann.cookie, narrow, None).await, Unscoped, false);
    let pinned = token(&ann.cookie, narrow, Some(ann_s)).await;
    ask("a pinned token without the scope", pinned, Unscoped, false);
    ask("a key without the scope", key(narrow).await, Unscoped, false);
    ask("a member", app.session(&ben), Member, true);
    ask("a member's token", token(&ben, "*", None).await, Member, false);
    ask("a member's pinned token", token(&ben, "*", Some(ann_s)).await, Member, false);
    ask("the owner", app.session(&ann.cookie), Owner, true);
    ask("the owner's token", token(&ann.cookie, "*", None).await, Owner, false);
    ask("the owner's pinned token", token(&ann.cookie, "*", Some(ann_s)).await, Owner, false);
    ask("the organization's key", key("*").await, Owner, false);
    for (who, actor) in ended_credentials(app, ann).await {
        ask(who, actor, Unauthenticated, false);
    }
    askers
}

/// Credentials with every right in the person's organization, but for being over.
async fn ended_credentials(app: &TestApp, person: &TestAccount) -> [(&'static str, TestClient); 6] {
    let session = app.session(&person.cookie);
    let key =
        async |name: &str| app.create_key(person, json!({ "name": name, "scopes": ["*"] })).await;
    let token = async |name: &str| {
        app.create_token(&person.cookie, json!({ "name": name, "scopes": ["*"] })).await
    };
    let (revoked, expired, disabled) = (key("gone").await, key("over").await, key("off").await);
    let of = |id: &str| format!("/api/user/organizations/{}/api-keys/{id}", person.org_id);
    session.delete(&of(&revoked.key_id)).await.assert_status(200);
    session.put(&of(&disabled.key_id), json!({ "enabled": false })).await.assert_status(200);
    let (revoked_token, id) = token("gone").await;
    let end = json!({ "keyId": id });
    session.post("/api/auth/api-key/delete", end).await.assert_status(200);
    let (expired_token, _) = token("over").await;
    app.execute("update api_keys set expires_at = now() where name = 'over'").await;
    app.execute("update personal_tokens set expires_at = now() where name = 'over'").await;
    let left = app.sign_in(&person.email, PASSWORD).await.assert_status(200).cookie().unwrap();
    let left = app.session(&left);
    left.post("/api/auth/sign-out", json!({})).await.assert_status(200);
    [
        ("a revoked key", app.key(&revoked.api_key)),
        ("an expired key", app.key(&expired.api_key)),
        ("a disabled key", app.key(&disabled.api_key)),
        ("a revoked token", app.key(&revoked_token)),
        ("an expired token", app.key(&expired_token)),
        ("a session that ended", left),
    ]
}

/// The path of an operation in an organization, with these ids below it.
fn path(operation: &Operation, organization: &str, ids: PathIds<'_>) -> String {
    let path = operation.path.replace("{organizationId}", organization);
    let path = path.replace("{userId}", ids.membership);
    let id = match path.as_str() {
        path if path.contains("/projects/{id}") => ids.project,
        path if path.contains("/invites/{id}") => ids.invite,
        path if path.contains("/api-keys/{id}") => ids.key,
        path if path.contains('{') => panic!("it is not known what {path} names"),
        _ => return path,
    };
    path.replace("{id}", id)
}

async fn send_operation(
    actor: &TestClient,
    operation: &Operation,
    path: &str,
    body: &str,
) -> TestResponse {
    let actor = if operation.has_request_body() {
        actor.with("content-type", "application/json")
    } else {
        actor.clone()
    };
    actor.send(&operation.method, path, body.to_owned()).await
}

/// Every row of every table.
async fn all_rows(app: &TestApp) -> Vec<String> {
    let mut db = app.sql().await;
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("select t::text from {table} t order by 1");
        let found: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut db).await.unwrap();
        rows.extend(found);
    }
    rows
}

/// Refusals of one kind are byte-equal, whatever was named.
#[derive(Default)]
struct Rejections(BTreeMap<(u16, &'static str), Value>);

impl Rejections {
    fn check(
        &mut self,
        what: &str,
        answer: TestResponse,
        (status, code): (u16, &'static str),
    ) -> TestResponse {
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text);
        let answer = answer.assert_error(status, code);
        let body = json!([answer.body_without_request(), answer.header("www-authenticate")]);
        let first = self.0.entry((status, code)).or_insert_with(|| body.clone());
        assert_eq!(*first, body, "{what}");
        if answer.family == Family::User {
            assert!(answer.body.get("request_id").is_none(), "{what}");
        }
        answer
    }
}

const ANONYMOUS: (u16, &str) = (401, "unauthorized");
const FORBIDDEN: (u16, &str) = (403, "FORBIDDEN");
const NO_SCOPE: (u16, &str) = (403, "API_KEY_MISSING_SCOPES");
const NO_ROLE: (u16, &str) = (403, "INSUFFICIENT_PERMISSIONS");
const NOT_FOUND: (u16, &str) = (404, "NOT_FOUND");

/// What is named.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// What ann's organization has, in it.
    Own,
    /// Something of another organization, or nothing, in ann's.
    UnknownWithin,
    /// Another organization than ann's, or none.
    Another,
}

/// What is answered to somebody; `None` where they may do it.
fn expected(asker: &Caller, operation: &Operation, named: Target) -> Option<(u16, &'static str)> {
    let id = operation.id();
    let for_session = OWNER_OPERATIONS.contains(&id) && !asker.in_session;
    let role_needed = ADMIN_OPERATIONS.contains(&id) || OWNER_OPERATIONS.contains(&id);
    Some(match (asker.standing, named) {
        (Access::Unauthenticated, _) => ANONYMOUS,
        (Access::OtherTenant | Access::PinnedElsewhere, _) | (_, Target::Another) => FORBIDDEN,
        _ if for_session => FORBIDDEN,
        (Access::Unscoped, _) => NO_SCOPE,
        (Access::Member, _) if role_needed => NO_ROLE,
        (Access::Member | Access::Owner, Target::UnknownWithin) => NOT_FOUND,
        (Access::Member | Access::Owner, Target::Own) => return None,
    })
}

#[tokio::test]
async fn nobody_reaches_into_an_organization_that_is_not_theirs_or_past_what_they_may() {
    run(async |app| {
        let (world, other) = (Fixtures::new(app).await, TenantFixture::new(app).await);
        let askers = callers(app, &world, &other).await;
        let (ann, dora) = (world.ann.org_id.as_str(), other.person.org_id.as_str());
        let odd = PathIds { key: "acc_1", project: "acc_1", invite: "acc_1", membership: "acc_1" };
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| it.path.contains("{organizationId}")) {
            let body = world.body(operation);
            let names_a_thing = operation.path.contains("{id}") || operation.path.contains("{user");
            let mut targets = vec![
                (Target::Own, world.path(operation)),
                (Target::Another, path(operation, UNKNOWN_ORGANIZATION, UNKNOWN_IDS)),
                (Target::Another, path(operation, UNKNOWN_ORGANIZATION, other.ids())),
            ];
            if names_a_thing {
                for ids in [other.ids(), UNKNOWN_IDS, odd] {
                    targets.push((Target::UnknownWithin, path(operation, ann, ids)));
                }
            }
            for asker in &askers {
                let (mut there, mut elsewhere) = (Rejections::default(), Rejections::default());
                // The stranger's own is no foreign one.
                let foreign = (Target::Another, path(operation, dora, other.ids()));
                let foreign = (asker.standing != Access::OtherTenant).then_some(&foreign);
                for (named, path) in targets.iter().chain(foreign) {
                    let Some(told) = expected(asker, operation, *named) else { continue };
                    // An id of another kind is no id at all, which is seen before what may be done.
                    if told.0 == 403 && path.contains("acc_1") {
                        continue;
                    }
                    let what = format!("{}: {} {path}", asker.who, operation.id());
                    let answer = send_operation(&asker.actor, operation, path, &body).await;
                    let is_there = told.0 == 401 || *named != Target::Another;
                    let refusals = if is_there { &mut there } else { &mut elsewhere };
                    let answer = refusals.check(&what, answer, told);
                    let meta = &answer.body["meta"];
                    if told == NO_SCOPE {
                        let missing = meta["missing_scopes"].as_array().unwrap();
                        assert_eq!(missing.len(), 1, "{what}");
                    }
                    if told == NO_ROLE {
                        let owners = OWNER_OPERATIONS.contains(&operation.id());
                        let role = if owners { "owner" } else { "admin" };
                        assert_eq!(meta["required_role"], role, "{what}");
                    }
                }
            }
            assert!(all_rows(app).await == before, "{} changed something", operation.id());
        }
    })
    .await;
}

/// The same of operations that name a key of the organization that the credential acts in.
#[tokio::test]
async fn a_foreign_key_is_not_there_in_any_family() {
    run(async |app| {
        let (world, other) = (Fixtures::new(app).await, TenantFixture::new(app).await);
        let mut askers = callers(app, &world, &other).await;
        let (actor, standing) = (app.key(&world.acme.api_key), Access::Owner);
        askers.push(Caller { who: "a signup's key", actor, standing, in_session: false });
        let third = app.sign_up().await;
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| KEY_OPERATIONS.contains(&it.id())) {
            let body = world.body(operation);
            let family = Family::from_path(&operation.path);
            for asker in &askers {
                let is_unpinned = asker.who.ends_with("token") && !asker.who.contains("pinned");
                let told = match asker.standing {
                    Access::Unauthenticated => ANONYMOUS,
                    // It acts in no organization.
                    _ if is_unpinned || asker.who == "a token without the scope" => {
                        (403, "forbidden")
                    }
                    _ if asker.in_session && family == Family::Organization => (403, "forbidden"),
                    // At home, everybody here is an owner.
                    _ if asker.in_session => (404, "not_found"),
                    Access::Unscoped | Access::Member => (403, "forbidden"),
                    Access::OtherTenant | Access::PinnedElsewhere | Access::Owner => {
                        (404, "not_found")
                    }
                };
                let mut refusals = Rejections::default();
                // An id of another kind is no id at all, which is seen before what may be done.
                let odd = (told.0 != 403).then_some("acc_1");
                for id in [third.key_id.as_str(), UNKNOWN_IDS.key].into_iter().chain(odd) {
                    let path = operation.path.replace("{id}", id);
                    let what = format!("{}: {} {path}", asker.who, operation.id());
                    let answer = send_operation(&asker.actor, operation, &path, &body).await;
                    refusals.check(&what, answer, told);
                }
            }
            assert!(all_rows(app).await == before, "{} changed something", operation.id());
        }
    })
    .await;
}

/// The path and the body of an operation of people's own, naming a token, a session or an
/// organization.
fn account_request(
    operation: &Operation,
    token: &str,
    session: &str,
    pin: &str,
) -> (String, String) {
    let body = match operation.id() {
        "getToken" => return (format!("{}?id={token}", operation.path), String::new()),
        "createToken" => {
            json!({ "name": "t", "scopes": ["*"], "metadata": { "organizationId": pin } })
        }
        "deleteToken" => json!({ "keyId": token }),
        "revokeSession" => json!({ "id": session }),
        "updateToken" => json!({ "keyId": token, "name": "renamed" }),
        other => panic!("it is not known what {other} names"),
    };
    (operation.path.clone(), body.to_string())
}

#[tokio::test]
async fn no_tenant_s_credential_opens_what_is_the_operator_s() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let token = json!({ "name": "t", "scopes": ["*"] });
        let (token, _) = app.create_token(&world.ann.cookie, token).await;
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| OPERATOR_OPERATIONS.contains(&it.id())) {
            let body = world.body(operation);
            for actor in [
                app.key(&world.operator_target.api_key),
                app.key(&token),
                app.session(&world.ann.cookie),
                app.bearer(&world.ann.token),
            ] {
                let there = send_operation(&actor, operation, &world.path(operation), &body).await;
                let nowhere = operation.path.replace("{id}", UNKNOWN_ORGANIZATION);
                let nowhere = send_operation(&actor, operation, &nowhere, &body).await;
                let there = there.assert_error(401, "UNAUTHORIZED");
                assert_eq!(nowhere.body_without_request(), there.body_without_request());
            }
        }
        assert_eq!(all_rows(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn what_is_another_person_s_is_not_there() {
    run(async |app| {
        let (world, other) = (Fixtures::new(app).await, TenantFixture::new(app).await);
        let askers = callers(app, &world, &other).await;
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| ACCOUNT_OPERATIONS.contains(&it.id())) {
            for asker in askers.iter().filter(|it| it.who != "the owner") {
                let is_member = asker.standing == Access::Member;
                let pin = if is_member { &other.person.org_id } else { &world.ann.org_id };
                let told = match asker.standing {
                    Access::Unauthenticated => ANONYMOUS,
                    _ if !asker.in_session || operation.id() == "createToken" => FORBIDDEN,
                    _ => NOT_FOUND,
                };
                let mut refusals = Rejections::default();
                for (path, body) in [
                    account_request(operation, &world.token_id, &world.other_session, pin),
                    account_request(
                        operation,
                        UNKNOWN_IDS.key,
                        UNKNOWN_SESSION,
                        UNKNOWN_ORGANIZATION,
                    ),
                    account_request(operation, "acc_1", "acc_1", "acc_1"),
                ] {
                    let what = format!("{}: {} {path} {body}", asker.who, operation.id());
                    let answer = send_operation(&asker.actor, operation, &path, &body).await;
                    refusals.check(&what, answer, told);
                }
            }
            assert!(all_rows(app).await == before, "{} changed something", operation.id());
        }
    })
    .await;
}

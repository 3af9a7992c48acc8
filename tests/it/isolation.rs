//! Isolation of tenants. Every operation of the API's description that takes an id is called by
//! each kind of caller without permission, with ids of other tenants and with unknown ids. The
//! responses for foreign and for unknown ids are equal except for the request id, and nothing
//! changes.
//!
//! The operations come from the description: an operation that is in no list below fails a test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tenantry::http::family::Family;

use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::oauth::insert_access_token;
use crate::support::requests::Fixtures;
use crate::support::spec::{Operation, operations};
use crate::support::{TestApp, run};

/// Operations in an organization that its members may use, with the scopes for them.
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
/// Operations that require the admin role.
const ADMIN_OPERATIONS: [&str; 33] = [
    "addSsoDomain",
    "changeMemberRole",
    "createApp",
    "createAppSecret",
    "deleteApp",
    "deleteAppSecret",
    "deleteSsoDomain",
    "listSsoDomains",
    "verifySsoDomain",
    "getApp",
    "getAppPolicy",
    "listAppGrants",
    "listApps",
    "revokeAppGrant",
    "revokeAppGrantsOfClient",
    "updateApp",
    "updateAppPolicy",
    "createSsoConnection",
    "getSsoConnection",
    "listSsoConnections",
    "updateSsoConnection",
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
/// Operations that require the owner role and a session.
const OWNER_SESSION_OPERATIONS: [&str; 1] = ["deleteOrganization"];
/// Operations that require the owner role, or a key that an owner created.
const OWNER_OPERATIONS: [&str; 3] =
    ["activateSsoConnection", "deleteSsoConnection", "disableSsoConnection"];
/// Operations that name a key of the caller's organization.
const KEY_OPERATIONS: [&str; 5] =
    ["getApiKey", "revokeApiKey", "revokeMyKey", "rotateApiKey", "updateApiKey"];
/// Operations of the operator, which reject every credential of a tenant.
const OPERATOR_OPERATIONS: [&str; 13] = [
    "disableOauthApp",
    "enableOauthApp",
    "publishOauthApp",
    "changePlan",
    "forceRevokeKeys",
    "forceRotateKeys",
    "getOrganizationSettings",
    "getUsageOfOrganization",
    "updateOrganizationSettings",
    "reactivateOrganization",
    "rotateKeysForBilling",
    "suspendOrganization",
    "suspendOrganizationForBilling",
];
/// Operations that name an object of the caller's account, in a body or a query; they require a
/// session.
const ACCOUNT_OPERATIONS: [&str; 5] =
    ["createToken", "deleteToken", "getToken", "revokeSession", "updateToken"];
/// Operations that name an object by a secret, or need one beside its id: `user::invites` and
/// `sso::sign_in` test them.
const SECRET_OPERATIONS: [&str; 3] = ["acceptInvite", "completeSso", "showInvitePage"];
/// Operations about an organization that a person chooses for an app: `oauth::consent` and
/// `oauth::device` test them.
const CONSENT_OPERATIONS: [&str; 3] = ["answerConsent", "approveDevice", "authorize"];
/// Operations that name where a person signs in, before anyone has: `sso::sign_in` tests them.
const SIGN_IN_OPERATIONS: [&str; 2] = ["signInSso", "startSso"];
/// Operations with a registration access token (RFC 7592): `oauth::registration` tests them.
const REGISTRATION_OPERATIONS: [&str; 3] =
    ["deleteClientRegistration", "getClientRegistration", "updateClientRegistration"];
/// Operations with a client id in the body, which must be the client's own or is ignored:
/// `oauth::registration` tests them.
const CLIENT_OPERATIONS: [&str; 2] = ["registerClient", "updateClientRegistration"];
/// Operations with the id of a client at an identity provider, which names no object of Tenantry.
const PROVIDER_OPERATIONS: [&str; 2] = ["createSsoConnection", "updateSsoConnection"];
/// Operations that name an object of the caller's account in the path: `user::app_grants` tests
/// them.
const OWN_OPERATIONS: [&str; 1] = ["revokeAuthorizedApp"];
/// Operations that select objects of the organization in their path by another id in the query.
const SELECTING_OPERATIONS: [&str; 2] = ["listAppGrants", "revokeAppGrantsOfClient"];
/// Operations whose id is chosen by the caller for a new object.
const CHOSEN_ID_OPERATIONS: [&str; 2] = ["createOrganization", "signUp"];

/// An id that no organization has.
const UNKNOWN_ORGANIZATION: &str = "org_0000000000";
/// Ids that no object has.
const UNKNOWN_IDS: PathIds<'static> = PathIds {
    key: "key_0000000000000000000000",
    project: "prj_0000000000000000000000",
    invite: "inv_0000000000000000000000",
    membership: "user_0000000000000000",
    app: "app_0000000000000000000000",
    secret: "secret_0000000000000000000000",
    grant: "grant_0000000000000000000000",
    connection: "conn_0000000000000000000000",
    domain: "dom_0000000000000000000000",
};
const UNKNOWN_SESSION: &str = "sess_0000000000000000000000";

/// Ids of objects in an organization.
#[derive(Clone, Copy)]
struct PathIds<'a> {
    key: &'a str,
    project: &'a str,
    invite: &'a str,
    membership: &'a str,
    app: &'a str,
    secret: &'a str,
    grant: &'a str,
    connection: &'a str,
    domain: &'a str,
}

#[test]
fn every_operation_that_takes_an_id_is_in_a_list() {
    let rows = [
        &MEMBER_OPERATIONS[..],
        &ADMIN_OPERATIONS,
        &OWNER_SESSION_OPERATIONS,
        &OWNER_OPERATIONS,
        &KEY_OPERATIONS,
        &OPERATOR_OPERATIONS,
        &SECRET_OPERATIONS,
        &OWN_OPERATIONS,
        &REGISTRATION_OPERATIONS,
    ];
    let rows: BTreeSet<_> = rows.into_iter().flatten().copied().collect();
    let operations = operations();
    let in_path = operations.iter().filter(|it| it.path.contains('{'));
    let in_path: BTreeSet<_> = in_path.map(Operation::id).collect();
    assert_eq!(in_path, rows);
    let rows: BTreeSet<_> = ACCOUNT_OPERATIONS
        .into_iter()
        .chain(CHOSEN_ID_OPERATIONS)
        .chain(CONSENT_OPERATIONS)
        .chain(SELECTING_OPERATIONS)
        .chain(CLIENT_OPERATIONS)
        .chain(PROVIDER_OPERATIONS)
        .chain(SIGN_IN_OPERATIONS)
        .collect();
    // Operations with a master key, a verifier or a signature accept no credential of a tenant.
    let is_for_tenants =
        |it: &&Operation| !it.requires_master_key() && !it.requires_verifier() && !it.is_signed();
    let in_body_or_query = operations.iter().filter(is_for_tenants);
    // An external id is the operator's own, and names no object of Tenantry.
    let is_own = |name: &String| name != "external_id" && name != "externalId";
    let in_body_or_query = in_body_or_query.filter(|it| it.id_names().iter().any(is_own));
    let in_body_or_query: BTreeSet<_> = in_body_or_query.map(Operation::id).collect();
    assert_eq!(in_body_or_query, rows);
}

/// Another tenant: an account with an organization, and objects in it.
struct TenantFixture {
    account: TestAccount,
    key: String,
    key_id: String,
    project_id: String,
    invite_id: String,
    membership_id: String,
    app_id: String,
    secret_id: String,
    grant_id: String,
    connection_id: String,
    domain_id: String,
}

impl TenantFixture {
    async fn new(app: &TestApp) -> Self {
        let account = app.verified_account("dora@example.com").await;
        let emil = app.verified_account("emil@example.com").await;
        let membership_id = app.invite_and_accept(&account, &emil, "member").await;
        let key = app.create_key(&account, json!({ "name": "k", "scopes": ["*"] })).await;
        let project_id = app.create_project(&account, "one").await;
        let invites = format!("/api/user/organizations/{}/invites", account.org_id);
        let request = json!({ "email": "fay@example.com", "role": "member" });
        let created = app.session(&account.cookie).post(&invites, request).await.assert_status(201);
        let invite_id = created.body["data"]["id"].as_str().unwrap().to_owned();
        app.mails().await;
        let (key, key_id) = (key.api_key, key.key_id);
        let app_id = text(&app.create_app(&account, "theirs").await["id"]);
        let secret_id = app.first_secret(&account, &app_id).await;
        let of_account = (&account, Some(account.org_id.as_str()));
        let grant_id = app.insert_grant(of_account, &app_id, &["projects:read"]).await;
        let connection_id = app.insert_connection(&account).await;
        let domains = format!("/api/user/organizations/{}/sso/domains", account.org_id);
        let domain = json!({ "domain": "acme.example" });
        let domain = app.session(&account.cookie).post(&domains, domain).await.assert_status(201);
        let domain_id = text(&domain.body["data"]["id"]);
        Self {
            account,
            key,
            key_id,
            project_id,
            invite_id,
            membership_id,
            app_id,
            secret_id,
            grant_id,
            connection_id,
            domain_id,
        }
    }

    fn ids(&self) -> PathIds<'_> {
        PathIds {
            key: &self.key_id,
            project: &self.project_id,
            invite: &self.invite_id,
            membership: &self.membership_id,
            app: &self.app_id,
            secret: &self.secret_id,
            grant: &self.grant_id,
            connection: &self.connection_id,
            domain: &self.domain_id,
        }
    }
}

/// The access of a caller to ann's organization.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    /// No credential, or one that is revoked, expired or disabled.
    Unauthenticated,
    /// A credential of another tenant, with every permission there.
    OtherTenant,
    /// A token of the owner that is pinned to another organization of hers.
    PinnedElsewhere,
    /// A credential without the scope, of the owner or the organization.
    Unscoped,
    /// A credential of a member.
    Member,
    /// A credential of the owner, or a key with every scope.
    Owner,
}

struct Caller {
    who: &'static str,
    actor: TestClient,
    access: Access,
    in_session: bool,
}

/// Callers with each kind of [`Access`].
async fn callers(app: &TestApp, fixtures: &Fixtures, other: &TenantFixture) -> Vec<Caller> {
    use Access::{Member, OtherTenant, Owner, PinnedElsewhere, Unauthenticated, Unscoped};
    let (ann, dora) = (&fixtures.ann, &other.account);
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
    let app_token = async |account: &TestAccount, org_id: &str, scope: &str| {
        app.bearer(&insert_access_token(app, account, org_id, &[scope]).await)
    };
    let mut callers = Vec::new();
    let mut add = |who, actor, access, in_session| {
        callers.push(Caller { who, actor, access, in_session });
    };
    add("no credential", app.anonymous(), Unauthenticated, false);
    add("another tenant's key", app.key(&other.key), OtherTenant, false);
    add("another tenant's owner", app.session(&dora.cookie), OtherTenant, true);
    add("another tenant's token", token(&dora.cookie, "*", None).await, OtherTenant, false);
    let pinned = token(&dora.cookie, "*", Some(dora_s)).await;
    add("another tenant's pinned token", pinned, OtherTenant, false);
    let elsewhere = token(&ann.cookie, "*", Some(&second)).await;
    add("another tenant's app", app_token(dora, dora_s, "*").await, OtherTenant, false);
    let app_elsewhere = app_token(ann, &second, "*").await;
    add("an app that acts elsewhere", app_elsewhere, PinnedElsewhere, false);
    add("a token pinned elsewhere", elsewhere, PinnedElsewhere, false);
    add("a token without the scope", token(&ann.cookie, narrow, None).await, Unscoped, false);
    let pinned = token(&ann.cookie, narrow, Some(ann_s)).await;
    add("a pinned token without the scope", pinned, Unscoped, false);
    add("a key without the scope", key(narrow).await, Unscoped, false);
    add("a member", app.session(&ben), Member, true);
    add("a member's token", token(&ben, "*", None).await, Member, false);
    add("a member's pinned token", token(&ben, "*", Some(ann_s)).await, Member, false);
    add("the owner", app.session(&ann.cookie), Owner, true);
    add("the owner's token", token(&ann.cookie, "*", None).await, Owner, false);
    add("the owner's pinned token", token(&ann.cookie, "*", Some(ann_s)).await, Owner, false);
    add("the organization's key", key("*").await, Owner, false);
    for (who, actor) in ended_credentials(app, ann).await {
        add(who, actor, Unauthenticated, false);
    }
    callers
}

/// Revoked, expired and disabled credentials that had every permission in the organization.
async fn ended_credentials(
    app: &TestApp,
    account: &TestAccount,
) -> [(&'static str, TestClient); 6] {
    let session = app.session(&account.cookie);
    let key =
        async |name: &str| app.create_key(account, json!({ "name": name, "scopes": ["*"] })).await;
    let token = async |name: &str| {
        app.create_token(&account.cookie, json!({ "name": name, "scopes": ["*"] })).await
    };
    let (revoked, expired, disabled) = (key("gone").await, key("over").await, key("off").await);
    let key_path = |id: &str| format!("/api/user/organizations/{}/api-keys/{id}", account.org_id);
    session.delete(&key_path(&revoked.key_id)).await.assert_status(200);
    session.put(&key_path(&disabled.key_id), json!({ "enabled": false })).await.assert_status(200);
    let (revoked_token, id) = token("gone").await;
    let end = json!({ "keyId": id });
    session.post("/api/auth/api-key/delete", end).await.assert_status(200);
    let (expired_token, _) = token("over").await;
    app.execute("update api_keys set expires_at = now() where name = 'over'").await;
    app.execute("update personal_tokens set expires_at = now() where name = 'over'").await;
    let ended = app.sign_in(&account.email, PASSWORD).await.assert_status(200).cookie().unwrap();
    let ended = app.session(&ended);
    ended.post("/api/auth/sign-out", json!({})).await.assert_status(200);
    [
        ("a revoked key", app.key(&revoked.api_key)),
        ("an expired key", app.key(&expired.api_key)),
        ("a disabled key", app.key(&disabled.api_key)),
        ("a revoked token", app.key(&revoked_token)),
        ("an expired token", app.key(&expired_token)),
        ("a session that ended", ended),
    ]
}

/// The path of an operation in an organization, with these ids.
fn path(operation: &Operation, organization: &str, ids: PathIds<'_>) -> String {
    let path = operation.path.replace("{organizationId}", organization);
    let path = path.replace("{userId}", ids.membership).replace("{secretId}", ids.secret);
    let id = match path.as_str() {
        path if path.contains("/projects/{id}") => ids.project,
        path if path.contains("/invites/{id}") => ids.invite,
        path if path.contains("/api-keys/{id}") => ids.key,
        path if path.contains("/apps/{id}") => ids.app,
        path if path.contains("/app-grants/{id}") => ids.grant,
        path if path.contains("/sso/connections/{id}") => ids.connection,
        path if path.contains("/domains/{id}") => ids.domain,
        path if path.contains('{') => panic!("no kind of id is known for {path}"),
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
    let mut db = app.connect().await;
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

/// Checks that rejections with one status and code are equal, whatever id was named.
#[derive(Default)]
struct Rejections(BTreeMap<(u16, &'static str), Value>);

impl Rejections {
    fn check(
        &mut self,
        what: &str,
        response: TestResponse,
        (status, code): (u16, &'static str),
    ) -> TestResponse {
        assert_eq!(response.status.as_u16(), status, "{what}: {}", response.text);
        let response = response.assert_error(status, code);
        let body = json!([response.body_without_request(), response.header("www-authenticate")]);
        let first = self.0.entry((status, code)).or_insert_with(|| body.clone());
        assert_eq!(*first, body, "{what}");
        if response.family == Family::User {
            assert!(response.body.get("request_id").is_none(), "{what}");
        }
        response
    }
}

const ANONYMOUS: (u16, &str) = (401, "unauthorized");
const FORBIDDEN: (u16, &str) = (403, "FORBIDDEN");
const NO_SCOPE: (u16, &str) = (403, "API_KEY_MISSING_SCOPES");
const NO_ROLE: (u16, &str) = (403, "INSUFFICIENT_PERMISSIONS");
const NOT_FOUND: (u16, &str) = (404, "NOT_FOUND");

/// The object that a request names.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// An object of ann's organization, under its path.
    Own,
    /// An object of another organization, or an unknown one, under the path of ann's.
    UnknownWithin,
    /// Another organization than ann's, or an unknown one.
    Another,
}

fn needs_owner(operation: &str) -> bool {
    OWNER_SESSION_OPERATIONS.contains(&operation) || OWNER_OPERATIONS.contains(&operation)
}

/// The expected rejection of a caller; `None` if it has permission.
fn expected(caller: &Caller, operation: &Operation, target: Target) -> Option<(u16, &'static str)> {
    let id = operation.id();
    let for_session = OWNER_SESSION_OPERATIONS.contains(&id) && !caller.in_session;
    let role_needed = ADMIN_OPERATIONS.contains(&id) || needs_owner(id);
    Some(match (caller.access, target) {
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
async fn no_caller_can_use_another_organization_or_exceed_its_permissions() {
    run(async |app| {
        let (fixtures, other) = (Fixtures::new(app).await, TenantFixture::new(app).await);
        let callers = callers(app, &fixtures, &other).await;
        let (ann, dora) = (fixtures.ann.org_id.as_str(), other.account.org_id.as_str());
        let malformed = PathIds {
            key: "acc_1",
            project: "acc_1",
            invite: "acc_1",
            membership: "acc_1",
            app: "acc_1",
            secret: "acc_1",
            grant: "acc_1",
            connection: "acc_1",
            domain: "acc_1",
        };
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| it.path.contains("{organizationId}")) {
            let body = fixtures.body(operation);
            let has_object_id = operation.path.contains("{id}") || operation.path.contains("{user");
            let mut targets = vec![
                (Target::Own, fixtures.path(operation)),
                (Target::Another, path(operation, UNKNOWN_ORGANIZATION, UNKNOWN_IDS)),
                (Target::Another, path(operation, UNKNOWN_ORGANIZATION, other.ids())),
            ];
            if has_object_id {
                for ids in [other.ids(), UNKNOWN_IDS, malformed] {
                    targets.push((Target::UnknownWithin, path(operation, ann, ids)));
                }
            }
            for caller in &callers {
                let (mut within, mut outside) = (Rejections::default(), Rejections::default());
                // For the other tenant, its own organization is not foreign.
                let foreign = (Target::Another, path(operation, dora, other.ids()));
                let foreign = (caller.access != Access::OtherTenant).then_some(&foreign);
                for (target, path) in targets.iter().chain(foreign) {
                    let Some(rejection) = expected(caller, operation, *target) else { continue };
                    // A malformed id is rejected before permissions are checked.
                    if rejection.0 == 403 && path.contains("acc_1") {
                        continue;
                    }
                    let what = format!("{}: {} {path}", caller.who, operation.id());
                    let response = send_operation(&caller.actor, operation, path, &body).await;
                    let is_within = rejection.0 == 401 || *target != Target::Another;
                    let rejections = if is_within { &mut within } else { &mut outside };
                    let response = rejections.check(&what, response, rejection);
                    let meta = &response.body["meta"];
                    if rejection == NO_SCOPE {
                        let missing = meta["missing_scopes"].as_array().unwrap();
                        assert_eq!(missing.len(), 1, "{what}");
                    }
                    if rejection == NO_ROLE {
                        let role = if needs_owner(operation.id()) { "owner" } else { "admin" };
                        assert_eq!(meta["required_role"], role, "{what}");
                    }
                }
            }
            assert!(all_rows(app).await == before, "{} changed something", operation.id());
        }
    })
    .await;
}

/// Operations that name a key of the organization that the credential acts in.
#[tokio::test]
async fn an_api_key_of_another_organization_is_not_found_in_any_family() {
    run(async |app| {
        let (fixtures, other) = (Fixtures::new(app).await, TenantFixture::new(app).await);
        let mut callers = callers(app, &fixtures, &other).await;
        let (actor, access) = (app.key(&fixtures.acme.api_key), Access::Owner);
        callers.push(Caller { who: "a signup's key", actor, access, in_session: false });
        let third = app.sign_up().await;
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| KEY_OPERATIONS.contains(&it.id())) {
            let body = fixtures.body(operation);
            let family = Family::from_path(&operation.path);
            for caller in &callers {
                let is_unpinned = caller.who.ends_with("token") && !caller.who.contains("pinned");
                let rejection = match caller.access {
                    Access::Unauthenticated => ANONYMOUS,
                    // An unpinned token acts in no organization.
                    _ if is_unpinned || caller.who == "a token without the scope" => {
                        (403, "forbidden")
                    }
                    _ if caller.in_session && family == Family::Organization => (403, "forbidden"),
                    // A session acts in the home organization, which its account owns.
                    _ if caller.in_session => (404, "not_found"),
                    Access::Unscoped | Access::Member => (403, "forbidden"),
                    Access::OtherTenant | Access::PinnedElsewhere | Access::Owner => {
                        (404, "not_found")
                    }
                };
                let mut rejections = Rejections::default();
                // A malformed id is rejected before permissions are checked.
                let malformed = (rejection.0 != 403).then_some("acc_1");
                for id in [third.key_id.as_str(), UNKNOWN_IDS.key].into_iter().chain(malformed) {
                    let path = operation.path.replace("{id}", id);
                    let what = format!("{}: {} {path}", caller.who, operation.id());
                    let response = send_operation(&caller.actor, operation, &path, &body).await;
                    rejections.check(&what, response, rejection);
                }
            }
            assert!(all_rows(app).await == before, "{} changed something", operation.id());
        }
    })
    .await;
}

/// The path and the body of an operation of an account, which names a token, a session or an
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
        other => panic!("no request is known for {other}"),
    };
    (operation.path.clone(), body.to_string())
}

#[tokio::test]
async fn operator_routes_reject_every_tenant_credential() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let token = json!({ "name": "t", "scopes": ["*"] });
        let (token, _) = app.create_token(&fixtures.ann.cookie, token).await;
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| OPERATOR_OPERATIONS.contains(&it.id())) {
            let body = fixtures.body(operation);
            for actor in [
                app.key(&fixtures.operator_target.api_key),
                app.key(&token),
                app.session(&fixtures.ann.cookie),
                app.bearer(&fixtures.ann.token),
            ] {
                let known =
                    send_operation(&actor, operation, &fixtures.path(operation), &body).await;
                let unknown = operation.path.replace("{id}", UNKNOWN_ORGANIZATION);
                let unknown = unknown.replace("{clientId}", UNKNOWN_IDS.app);
                let unknown = send_operation(&actor, operation, &unknown, &body).await;
                let known = known.assert_error(401, "UNAUTHORIZED");
                assert_eq!(unknown.body_without_request(), known.body_without_request());
            }
        }
        assert_eq!(all_rows(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn no_caller_can_use_a_token_or_session_of_another_account() {
    run(async |app| {
        let (fixtures, other) = (Fixtures::new(app).await, TenantFixture::new(app).await);
        let callers = callers(app, &fixtures, &other).await;
        let before = all_rows(app).await;
        for operation in operations().iter().filter(|it| ACCOUNT_OPERATIONS.contains(&it.id())) {
            for caller in callers.iter().filter(|it| it.who != "the owner") {
                let is_member = caller.access == Access::Member;
                let pin = if is_member { &other.account.org_id } else { &fixtures.ann.org_id };
                let rejection = match caller.access {
                    Access::Unauthenticated => ANONYMOUS,
                    _ if !caller.in_session || operation.id() == "createToken" => FORBIDDEN,
                    _ => NOT_FOUND,
                };
                let mut rejections = Rejections::default();
                for (path, body) in [
                    account_request(operation, &fixtures.token_id, &fixtures.other_session, pin),
                    account_request(
                        operation,
                        UNKNOWN_IDS.key,
                        UNKNOWN_SESSION,
                        UNKNOWN_ORGANIZATION,
                    ),
                    account_request(operation, "acc_1", "acc_1", "acc_1"),
                ] {
                    let what = format!("{}: {} {path} {body}", caller.who, operation.id());
                    let response = send_operation(&caller.actor, operation, &path, &body).await;
                    rejections.check(&what, response, rejection);
                }
            }
            assert!(all_rows(app).await == before, "{} changed something", operation.id());
        }
    })
    .await;
}

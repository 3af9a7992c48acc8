//! The walls between tenants: every operation of the API's description that names something by an
//! id, asked by everybody who may not. Foreign things look like things that never were, the answers
//! are byte-equal but for the request's id, and nothing is changed.
//!
//! The operations come from the description: one that is in no row of the tables below fails.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::actor::{Actor, Answer};
use crate::support::people::Person;
use crate::support::requests::World;
use crate::support::spec::{Operation, operations};
use crate::support::{TestApp, run};

/// Operations in an organization that its members may use, within their scopes.
const FOR_MEMBERS: [&str; 10] = [
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
const FOR_ADMINS: [&str; 13] = [
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
const FOR_OWNERS: [&str; 1] = ["deleteOrganization"];
/// Operations that name a key of the caller's organization.
const OF_KEYS: [&str; 5] =
    ["getApiKey", "revokeApiKey", "revokeMyKey", "rotateApiKey", "updateApiKey"];
/// Operations that name something of the caller's own, in a body or a query.
const OF_PEOPLE: [&str; 4] = ["deleteToken", "getToken", "revokeSession", "updateToken"];
/// The operator's, which no tenant's credential opens.
const OF_OPERATOR: [&str; 8] = [
    "changePlan",
    "forceRevokeKeys",
    "forceRotateKeys",
    "getUsageOfOrganization",
    "reactivateOrganization",
    "rotateKeysForBilling",
    "suspendOrganization",
    "suspendOrganizationForBilling",
];
/// Operations that name something by a secret, which is no id: `user::invites` tests them.
const BY_SECRET: [&str; 2] = ["acceptInvite", "showInvitePage"];

/// An id of an organization that never was.
const NOWHERE: &str = "org_0000000000";
/// Ids of a key, a project, an invitation and a seat that nothing has.
const NOTHING: [&str; 4] = [
    "key_0000000000000000000000",
    "prj_0000000000000000000000",
    "inv_0000000000000000000000",
    "user_0000000000000000",
];

#[test]
fn every_operation_that_names_something_is_in_the_matrix() {
    let rows = [&FOR_MEMBERS[..], &FOR_ADMINS, &FOR_OWNERS, &OF_KEYS, &OF_OPERATOR, &BY_SECRET];
    let rows: BTreeSet<_> = rows.into_iter().flatten().copied().collect();
    let operations = operations();
    let named = operations.iter().filter(|it| it.path.contains('{'));
    let named: BTreeSet<_> = named.map(Operation::id).collect();
    assert_eq!(named, rows);
    let of_people = operations.iter().filter(|it| {
        let parameters = it.description["parameters"].as_array();
        let mut parameters = parameters.into_iter().flatten();
        let in_query = parameters.any(|it| it["in"] == "query" && it["name"] == "id");
        in_query
            || it.body_names().iter().any(|name| ["keyId", "sessionId"].contains(&name.as_str()))
    });
    let of_people: BTreeSet<_> = of_people.map(Operation::id).chain(["revokeSession"]).collect();
    assert_eq!(of_people, OF_PEOPLE.into_iter().collect());
}

/// Another tenant: a person with an organization, and things in it.
struct Other {
    person: Person,
    key: String,
    key_id: String,
    project_id: String,
    invite_id: String,
    seat_id: String,
}

impl Other {
    async fn new(app: &TestApp) -> Self {
        let person = app.verified_person("dora@example.com").await;
        let emil = app.verified_person("emil@example.com").await;
        let seat_id = app.join(&person, &emil, "member").await;
        let key = app.make_key(&person, json!({ "name": "k", "scopes": ["*"] })).await;
        let project_id = app.make_project(&person, "one").await;
        let invites = format!("/api/user/organizations/{}/invites", person.org_id);
        let request = json!({ "email": "fay@example.com", "role": "member" });
        let made = app.session(&person.cookie).post(&invites, request).await.has_status(201);
        let invite_id = made.body["data"]["id"].as_str().unwrap().to_owned();
        app.mails().await;
        let (key, key_id) = (key.api_key, key.key_id);
        Self { person, key, key_id, project_id, invite_id, seat_id }
    }
}

/// The path of an operation in an organization, with these ids below it.
fn path(operation: &Operation, organization: &str, ids: [&str; 4]) -> String {
    let [key, project, invite, seat] = ids;
    let path = operation.path.replace("{organizationId}", organization);
    let id = match operation.path.as_str() {
        path if path.contains("/projects/") => project,
        path if path.contains("/invites/") => invite,
        _ => key,
    };
    path.replace("{id}", id).replace("{userId}", seat)
}

async fn ask(actor: &Actor, operation: &Operation, path: &str, body: &str) -> Answer {
    let actor = if operation.reads_a_body() {
        actor.with("content-type", "application/json")
    } else {
        actor.clone()
    };
    actor.send(&operation.method, path, body.to_owned()).await
}

/// Every row of every table.
async fn everything(app: &TestApp) -> Vec<String> {
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

fn in_organizations() -> impl Iterator<Item = Operation> {
    operations().into_iter().filter(|it| it.path.contains("{organizationId}"))
}

#[tokio::test]
async fn a_foreign_organization_and_one_that_never_was_look_the_same_to_everybody() {
    run(async |app| {
        let (world, other) = (World::new(app).await, Other::new(app).await);
        let all = json!({ "name": "t", "scopes": ["*"] });
        let (unpinned, _) = app.make_token(&other.person.cookie, all.clone()).await;
        let pin = |organization: &str| {
            json!({ "name": "t", "scopes": ["*"],
                    "metadata": { "organizationId": organization } })
        };
        let (pinned, _) = app.make_token(&other.person.cookie, pin(&other.person.org_id)).await;
        // The organization's own person, with a token that is pinned to another of theirs.
        let second = json!({ "name": "Second" });
        let second = app.session(&world.ann.cookie).post("/api/user/organizations", second).await;
        let second = second.has_status(201).body["data"]["id"].as_str().unwrap().to_owned();
        let (elsewhere, _) = app.make_token(&world.ann.cookie, pin(&second)).await;
        let strangers = [
            ("another tenant's key", app.key(&other.key), 403),
            ("another tenant's owner", app.session(&other.person.cookie), 403),
            ("another tenant's token", app.key(&unpinned), 403),
            ("another tenant's pinned token", app.key(&pinned), 403),
            ("a token pinned elsewhere", app.key(&elsewhere), 403),
            ("nobody", app.anon(), 401),
        ];
        let before = everything(app).await;
        for operation in in_organizations() {
            let body = world.body(&operation);
            for (who, actor, status) in &strangers {
                let there = ask(actor, &operation, &world.path(&operation), &body).await;
                let nowhere = path(&operation, NOWHERE, NOTHING);
                let nowhere = ask(actor, &operation, &nowhere, &body).await;
                let what = format!("{who}: {}", operation.id());
                assert_eq!(there.status.as_u16(), *status, "{what}: {}", there.text);
                assert_eq!(nowhere.status, there.status, "{what}");
                assert_eq!(nowhere.text, there.text, "{what}");
            }
        }
        assert_eq!(everything(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_credential_that_has_ended_opens_nothing() {
    run(async |app| {
        let world = World::new(app).await;
        let key = async |name: &str| {
            app.make_key(&world.ann, json!({ "name": name, "scopes": ["*"] })).await
        };
        let revoked = key("gone").await;
        let revoke =
            format!("/api/user/organizations/{}/api-keys/{}", world.ann.org_id, revoked.key_id);
        app.session(&world.ann.cookie).delete(&revoke).await.has_status(200);
        let expired = key("over").await;
        let sql = "update api_keys set expires_at = now() where name = 'over'";
        app.execute(sql).await;
        let (token, id) =
            app.make_token(&world.ann.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        let end = json!({ "keyId": id });
        app.session(&world.ann.cookie).post("/api/auth/api-key/delete", end).await.has_status(200);
        let before = everything(app).await;
        let ended = [app.key(&revoked.api_key), app.key(&expired.api_key), app.key(&token)];
        assert_eq!(ended[1].get("/me").await.status, 401);
        for operation in in_organizations() {
            let body = world.body(&operation);
            for actor in &ended {
                let answer = ask(actor, &operation, &world.path(&operation), &body).await;
                answer.has_failed(401, "INVALID_API_KEY");
            }
        }
        assert_eq!(everything(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_token_without_the_scope_and_a_person_without_the_role_are_told_what_is_missing() {
    run(async |app| {
        let world = World::new(app).await;
        let none = json!({ "name": "t", "scopes": ["trademarks:read"] });
        let (none, _) = app.make_token(&world.ann.cookie, none).await;
        let ben = app.sign_in("ben@example.com", crate::support::people::PASSWORD).await;
        let ben = app.session(&ben.has_status(200).cookie().unwrap());
        let before = everything(app).await;
        for operation in in_organizations() {
            let (path, body) = (world.path(&operation), world.body(&operation));
            let answer = ask(&app.key(&none), &operation, &path, &body).await;
            if FOR_OWNERS.contains(&operation.id()) {
                answer.has_failed(403, "FORBIDDEN");
            } else {
                let answer = answer.has_failed(403, "API_KEY_MISSING_SCOPES");
                let missing = answer.body["meta"]["missing_scopes"].as_array().unwrap();
                assert_eq!(missing.len(), 1, "{}", operation.id());
            }
            let needed = match operation.id() {
                id if FOR_ADMINS.contains(&id) => "admin",
                id if FOR_OWNERS.contains(&id) => "owner",
                _ => continue,
            };
            let answer = ask(&ben, &operation, &path, &body).await;
            let answer = answer.has_failed(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(answer.body["meta"]["required_role"], needed, "{}", operation.id());
        }
        assert_eq!(everything(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn what_a_foreign_organization_has_is_not_there_in_one_s_own() {
    run(async |app| {
        let (world, other) = (World::new(app).await, Other::new(app).await);
        let foreign = [other.key_id.as_str(), &other.project_id, &other.invite_id, &other.seat_id];
        let (owner, own) = (app.session(&world.ann.cookie), world.ann.org_id.as_str());
        let key = app.make_key(&world.ann, json!({ "name": "k", "scopes": ["*"] })).await;
        let before = everything(app).await;
        for operation in in_organizations() {
            if !(operation.path.contains("{id}") || operation.path.contains("{userId}")) {
                continue;
            }
            let body = world.body(&operation);
            for actor in [&owner, &app.key(&key.api_key)] {
                let there = ask(actor, &operation, &path(&operation, own, foreign), &body).await;
                let nowhere = ask(actor, &operation, &path(&operation, own, NOTHING), &body).await;
                let there = there.has_failed(404, "NOT_FOUND");
                assert_eq!(there.text, nowhere.text, "{}", operation.id());
                // An id of another kind is no id at all.
                let odd = path(&operation, own, ["acc_1"; 4]);
                let odd = ask(actor, &operation, &odd, &body).await.has_failed(404, "NOT_FOUND");
                assert_eq!(odd.text, nowhere.text, "{}", operation.id());
            }
        }
        assert_eq!(everything(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_foreign_key_is_not_there_in_any_family() {
    run(async |app| {
        let (world, other) = (World::new(app).await, Other::new(app).await);
        let before = everything(app).await;
        for operation in operations().iter().filter(|it| OF_KEYS.contains(&it.id())) {
            let body = world.body(operation);
            let actor = app.key(&world.acme.api_key);
            let there = operation.path.replace("{id}", &other.key_id);
            let there = ask(&actor, operation, &there, &body).await.has_failed(404, "not_found");
            let nowhere = operation.path.replace("{id}", NOTHING[0]);
            let nowhere = ask(&actor, operation, &nowhere, &body).await;
            assert_eq!(nowhere.status, there.status);
            assert_eq!(nowhere.body_without_request(), there.body_without_request());
        }
        assert_eq!(everything(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn no_tenant_s_credential_opens_what_is_the_operator_s() {
    run(async |app| {
        let world = World::new(app).await;
        let token = json!({ "name": "t", "scopes": ["*"] });
        let (token, _) = app.make_token(&world.ann.cookie, token).await;
        let before = everything(app).await;
        for operation in operations().iter().filter(|it| OF_OPERATOR.contains(&it.id())) {
            let body = world.body(operation);
            for actor in [
                app.key(&world.operated.api_key),
                app.key(&token),
                app.session(&world.ann.cookie),
                app.bearer(&world.ann.token),
            ] {
                let there = ask(&actor, operation, &world.path(operation), &body).await;
                let nowhere = operation.path.replace("{id}", NOWHERE);
                let nowhere = ask(&actor, operation, &nowhere, &body).await;
                let there = there.has_failed(401, "UNAUTHORIZED");
                assert_eq!(nowhere.body_without_request(), there.body_without_request());
            }
        }
        assert_eq!(everything(app).await, before);
    })
    .await;
}

#[tokio::test]
async fn what_is_another_person_s_is_not_there() {
    run(async |app| {
        let (world, other) = (World::new(app).await, Other::new(app).await);
        let stranger = app.session(&other.person.cookie);
        let mut before = None;
        for operation in operations().iter().filter(|it| OF_PEOPLE.contains(&it.id())) {
            let (path, body) = (world.path(operation), world.body(operation));
            before.get_or_insert(everything(app).await);
            let there = ask(&stranger, operation, &path, &body).await;
            let there = there.has_failed(404, "NOT_FOUND");
            let nowhere = |text: &str| -> String {
                let (head, tail) = text.split_once("key_").or(text.split_once("sess_")).unwrap();
                let kind = if text.contains("key_") { "key_" } else { "sess_" };
                format!("{head}{kind}{}{}", "0".repeat(22), &tail[22..])
            };
            let (path, body) =
                if body.is_empty() { (nowhere(&path), body) } else { (path, nowhere(&body)) };
            let never = ask(&stranger, operation, &path, &body).await;
            assert_eq!(never.text, there.text, "{}", operation.id());
        }
        assert_eq!(Some(everything(app).await), before);
    })
    .await;
}

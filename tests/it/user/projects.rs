//! `/api/user/organizations/{organizationId}/projects`

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::{START_TIME, text};
use crate::support::client::TestClient;
use crate::support::requests::data_ids;
use crate::support::{TestApp, run};

fn projects_of(organization: &str) -> String {
    format!("/api/user/organizations/{organization}/projects")
}

/// An account, its session, and the path of its organization's projects.
async fn ann_with_projects(app: &TestApp) -> (TestAccount, TestClient, String) {
    let ann = app.sign_up_account("ann@example.com").await;
    let (session, path) = (app.session(&ann.cookie), projects_of(&ann.org_id));
    (ann, session, path)
}

/// A client with a personal access token of these scopes, pinned to `pin` if there is one.
async fn token(
    app: &TestApp,
    account: &TestAccount,
    scopes: Value,
    pin: Option<&str>,
) -> TestClient {
    let mut request = json!({ "name": "ci", "scopes": scopes });
    if let Some(pin) = pin {
        request["metadata"] = json!({ "organizationId": pin });
    }
    app.key(&app.create_token(&account.cookie, request).await.0)
}

/// Makes Ann a member of Ben's organization, as after an accepted invitation.
async fn add_ann_to_bens_organization(app: &TestApp) {
    app.execute(
        "insert into users (id, organization_id, handle, role, account_id, created_at)
         select gen_random_uuid(), b.home_organization_id, 'user_of_ann', 'member', a.id, now()
         from accounts a, accounts b
         where a.email = 'ann@example.com' and b.email = 'ben@example.com'",
    )
    .await;
}

#[tokio::test]
async fn a_project_is_returned_at_creation_and_later() {
    run(async |app| {
        let (_, session, path) = ann_with_projects(app).await;
        let request = json!({
            "name": "My Project", "slug": "mine", "description": "Two\n\tlines ☂",
        });
        let created = session.post(&path, request).await.assert_status(201);
        assert_eq!(created.body["status"], 201);
        assert_eq!(created.body["message"], "Project created");
        let data = &created.body["data"];
        let (id, by) = (text(&data["id"]), text(&data["createdBy"]));
        assert!(id.starts_with("prj_") && by.starts_with("user_"));
        let expected = json!({
            "id": id, "name": "My Project", "slug": "mine", "description": "Two\n\tlines ☂",
            "createdBy": by, "createdAt": START_TIME, "updatedAt": START_TIME,
        });
        assert_eq!(*data, expected);
        let presented = session.get(&format!("{path}/{id}")).await.assert_status(200);
        assert_eq!(presented.body["data"], expected);
        let listed = session.get(&path).await.assert_status(200);
        assert_eq!(listed.body["data"], json!([expected]));
        // An organization's id is case-insensitive.
        let other_case = path.replace("org_", "ORG_");
        session.get(&format!("{other_case}/{id}")).await.assert_status(200);
        let events = "select count(*) from audit_events e join users u on u.handle = e.actor
                    where e.event_type = 'project.created' and e.target like 'prj\\_%'
                      and e.detail ->> 'slug' = 'mine'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test]
async fn accounts_and_their_tokens_use_the_projects_of_all_their_organizations() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        let ben = app.sign_up_account("ben@example.com").await;
        add_ann_to_bens_organization(app).await;
        let of_ben = projects_of(&ben.org_id);
        let pinned = token(app, &ann, json!(["projects:*"]), Some(&ann.org_id)).await;
        let unpinned = token(app, &ann, json!(["projects:*"]), None).await;
        let bearer = app.bearer(&ann.token);
        for (number, client) in [&session, &bearer, &pinned, &unpinned].into_iter().enumerate() {
            let request = json!({ "name": format!("project {number}") });
            let created = client.post(&path, request.clone()).await.assert_status(201);
            let path = format!("{path}/{}", text(&created.body["data"]["id"]));
            client.get(&path).await.assert_status(200);
            client.put(&path, json!({ "name": "renamed" })).await.assert_status(200);
            client.delete(&path).await.assert_status(200);
        }
        for client in [&session, &bearer, &unpinned] {
            client.get(&of_ben).await.assert_status(200);
        }
        // The creator is Ann's membership there.
        let created = unpinned.post(&of_ben, json!({ "name": "theirs" })).await.assert_status(201);
        assert_eq!(created.body["data"]["createdBy"], "user_of_ann");
        // A pinned token works in no other organization.
        let elsewhere = pinned.get(&of_ben).await.assert_error(403, "FORBIDDEN");
        let never = pinned.get(&projects_of("org_never")).await.assert_error(403, "FORBIDDEN");
        assert_eq!(elsewhere.text, never.text);
        pinned.post(&of_ben, json!({ "name": "x" })).await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn an_organization_s_key_uses_its_projects_within_its_scopes() {
    run(async |app| {
        let (acme, ben) = (app.sign_up().await, app.sign_up_account("ben@example.com").await);
        let path = projects_of(&acme.org_id);
        let (key, (access, _)) = (app.key(&acme.api_key), app.exchange(&acme.api_key).await);
        let created = key.post(&path, json!({ "name": "one" })).await.assert_status(201);
        assert_eq!(created.body["data"]["createdBy"], acme.user_id);
        app.bearer(&access).post(&path, json!({ "name": "two" })).await.assert_status(201);
        let by_key = "select count(*) from audit_events
                      where event_type = 'project.created' and actor like 'key\\_%'";
        assert_eq!(app.count(by_key).await, 2);
        let reader =
            app.create_key_with(&acme.api_key, json!({ "scopes": ["projects:read"] })).await;
        let reader = app.key(&reader.api_key);
        let created = format!("{path}/{}", text(&created.body["data"]["id"]));
        reader.get(&path).await.assert_status(200);
        reader.get(&created).await.assert_status(200);
        for response in [
            reader.post(&path, json!({ "name": "x" })).await,
            reader.put(&created, json!({ "name": "x" })).await,
            reader.delete(&created).await,
        ] {
            response.assert_error(403, "API_KEY_MISSING_SCOPES");
        }
        key.get(&projects_of(&ben.org_id)).await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_credential_without_the_scope_is_rejected_with_the_missing_scope() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        let created = app.create_project(&ann, "one").await;
        let created = format!("{path}/{created}");
        let writer = token(app, &ann, json!(["projects:write"]), None).await;
        let reader = token(app, &ann, json!(["projects:read"]), None).await;
        for (response, scope) in [
            (writer.get(&path).await, "projects:read"),
            (writer.get(&created).await, "projects:read"),
            (reader.post(&path, json!({ "name": "x" })).await, "projects:write"),
            (reader.put(&created, json!({ "name": "x" })).await, "projects:write"),
            (reader.delete(&created).await, "projects:write"),
        ] {
            let response = response.assert_error(403, "API_KEY_MISSING_SCOPES");
            assert_eq!(response.body["meta"]["missing_scopes"], json!([scope]));
        }
        // Plain members may change projects.
        app.execute("update users set role = 'member'").await;
        session.put(&created, json!({ "name": "x" })).await.assert_status(200);
        writer.delete(&created).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn another_organization_is_the_same_403_whether_or_not_it_exists() {
    run(async |app| {
        let (_, session, _) = ann_with_projects(app).await;
        let ben = app.sign_up_account("ben@example.com").await;
        let project = app.create_project(&ben, "theirs").await;
        let acme = app.sign_up().await;
        for client in [session, app.key(&acme.api_key)] {
            let foreign = client.get(&projects_of(&ben.org_id)).await;
            let foreign = foreign.assert_error(403, "FORBIDDEN");
            for organization in ["org_never", "a%00b", "%2e%2e", "me", &project] {
                let path = projects_of(organization);
                for response in [
                    client.get(&path).await,
                    client.post(&path, json!({ "name": "x" })).await,
                    client.get(&format!("{path}/{project}")).await,
                    client.put(&format!("{path}/{project}"), json!({ "name": "x" })).await,
                    client.delete(&format!("{path}/{project}")).await,
                ] {
                    let response = response.assert_error(403, "FORBIDDEN");
                    assert_eq!(response.text, foreign.text, "{organization}");
                }
            }
        }
        let theirs = app.session(&ben.cookie).get(&projects_of(&ben.org_id)).await;
        assert_eq!(theirs.body["data"][0]["name"], "theirs");
    })
    .await;
}

#[tokio::test]
async fn another_organization_s_project_is_not_found() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        let ben = app.sign_up_account("ben@example.com").await;
        let of_ben = app.create_project(&ben, "theirs").await;
        let (_, token_id) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        for id in [of_ben.as_str(), &token_id, "prj_0000000000000000000000", "prj_1", "x", "%00"] {
            let path = format!("{path}/{id}");
            session.get(&path).await.assert_error(404, "NOT_FOUND");
            session.put(&path, json!({ "name": "mine" })).await.assert_error(404, "NOT_FOUND");
            session.delete(&path).await.assert_error(404, "NOT_FOUND");
        }
        let theirs = app.session(&ben.cookie).get(&projects_of(&ben.org_id)).await;
        assert_eq!(data_ids(&theirs.body), [of_ben]);
        assert_eq!(theirs.body["data"][0]["name"], "theirs");
    })
    .await;
}

#[tokio::test]
async fn a_slug_is_suggested_by_the_name_and_unique_in_its_organization() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        let create = async |request: Value| session.post(&path, request).await;
        let slug = async |name: &str| {
            let created = create(json!({ "name": name })).await.assert_status(201);
            text(&created.body["data"]["slug"])
        };
        assert_eq!(slug("My Project!").await, "my-project");
        let other = slug("my project").await;
        assert!(other.starts_with("my-project-") && other.len() == 19, "{other}");
        let nameless = slug("名前").await;
        assert!(nameless.starts_with("project-") && nameless.len() == 16, "{nameless}");

        let taken = json!({ "name": "x", "slug": "my-project" });
        create(taken.clone()).await.assert_error(409, "CONFLICT");
        let id = app.create_project(&ann, "x").await;
        let change = json!({ "slug": "my-project" });
        session.put(&format!("{path}/{id}"), change).await.assert_error(409, "CONFLICT");
        let same = session.put(&format!("{path}/{id}"), json!({ "slug": "x" })).await;
        same.assert_status(200);
        // The slug is free in other organizations.
        let ben = app.sign_up_account("ben@example.com").await;
        let theirs = projects_of(&ben.org_id);
        app.session(&ben.cookie).post(&theirs, taken).await.assert_status(201);

        for slug in ["", "-", "a-", "a--b", "My", "a_b", "é", "a\n", &"a".repeat(64)] {
            let wrong = create(json!({ "name": "x", "slug": slug })).await.assert_status(400);
            assert_eq!(wrong.invalid_fields(), ["slug"], "{slug:?}");
        }
        create(json!({ "name": "x", "slug": "a".repeat(63) })).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_of_a_project_is_named() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        let one = format!("{path}/{}", app.create_project(&ann, "one").await);
        let wrong = json!({
            "name": "", "slug": "A", "description": "a\u{0}", "organizationId": "org_other",
            "createdBy": "user_other", "id": "prj_1", "createdAt": START_TIME,
        });
        let unknown = ["organizationId", "createdBy", "id", "createdAt"];
        for response in
            [session.post(&path, wrong.clone()).await, session.put(&one, wrong.clone()).await]
        {
            let response = response.assert_error(400, "VALIDATION_ERROR");
            let mut fields = response.invalid_fields();
            assert_eq!(fields[..3], ["name", "slug", "description"]);
            fields.sort_unstable();
            assert!(unknown.iter().all(|name| fields.binary_search(name).is_ok()), "{fields:?}");
            assert_eq!(fields.len(), 7);
        }
        for (field, value) in [
            ("name", json!("é".repeat(129))),
            ("name", json!("a\nb")),
            ("name", Value::Null),
            ("name", json!(7)),
            ("slug", json!(["a"])),
            ("description", json!("é".repeat(1025))),
            ("description", json!("a\r\nb")),
            ("description", json!({})),
        ] {
            let mut request = json!({ "name": "x" });
            request[field] = value;
            for response in
                [session.post(&path, request.clone()).await, session.put(&one, request).await]
            {
                assert_eq!(response.assert_status(400).invalid_fields(), [field]);
            }
        }
        let missing = session.post(&path, json!({ "slug": "x" })).await.assert_status(400);
        assert_eq!(missing.invalid_fields(), ["name"]);
        let nothing = session.put(&one, json!({})).await.assert_status(400);
        assert_eq!(nothing.invalid_fields(), [""]);
        assert_eq!(app.count("select count(*) from projects").await, 1);
        let longest = json!({ "name": "é".repeat(128), "description": "é".repeat(1024) });
        session.post(&path, longest).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn projects_are_listed_in_pages_and_searched_by_name_and_slug() {
    run(async |app| {
        let (_, session, path) = ann_with_projects(app).await;
        for (name, slug) in [("one", "first"), ("Two", "second"), ("three", "third")] {
            app.clock.advance(TimeDelta::seconds(1));
            session.post(&path, json!({ "name": name, "slug": slug })).await.assert_status(201);
        }
        let list = async |query: &str| session.get(&format!("{path}?{query}")).await;
        let names = async |query: &str| {
            let listed = list(query).await.assert_status(200);
            let items = listed.body["data"].as_array().unwrap();
            items.iter().map(|item| text(&item["name"])).collect::<Vec<_>>()
        };
        assert_eq!(names("").await, ["three", "Two", "one"]);
        let part = list("limit=2").await.assert_status(200);
        assert_eq!(
            part.body["meta"],
            json!({ "total": 3, "offset": 0, "limit": 2, "hasMore": true })
        );
        assert_eq!(names("limit=2").await, ["three", "Two"]);
        assert_eq!(names("limit=2&offset=2").await, ["one"]);
        assert_eq!(names("q=TWO").await, ["Two"]);
        assert_eq!(names("q=SEC").await, ["Two"]);
        assert_eq!(names("q=%25").await, [""; 0]);
        assert_eq!(list("q=ir&limit=1").await.body["meta"]["total"], 2);
        for (query, field) in [("limit=101", "limit"), ("offset=-1", "offset")] {
            let response = list(query).await.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(response.invalid_fields(), [field], "{query}");
            assert_eq!(response.body["meta"]["errors"][0]["location"], "query");
        }
    })
    .await;
}

#[tokio::test]
async fn a_project_update_changes_only_the_requested_fields_and_a_project_is_deleted_once() {
    run(async |app| {
        let (_, session, path) = ann_with_projects(app).await;
        let request = json!({ "name": "one", "description": "first" });
        let created = session.post(&path, request.clone()).await.assert_status(201);
        let mut expected = created.body["data"].clone();
        let one = format!("{path}/{}", text(&expected["id"]));
        app.clock.advance(TimeDelta::seconds(1));
        expected["updatedAt"] = json!("2036-05-08T09:56:43.855Z");
        for (field, value) in
            [("name", json!("two")), ("slug", json!("deux")), ("description", Value::Null)]
        {
            let changed = session.put(&one, json!({ field: value })).await.assert_status(200);
            expected[field] = value;
            assert_eq!(changed.body["data"], expected);
        }
        let presented = session.get(&one).await.assert_status(200);
        assert_eq!(presented.body["data"], expected);

        let deleted = session.delete(&one).await.assert_status(200);
        assert_eq!(deleted.body["data"], json!({ "success": true }));
        session.delete(&one).await.assert_error(404, "NOT_FOUND");
        session.get(&one).await.assert_error(404, "NOT_FOUND");
        session.put(&one, json!({ "name": "x" })).await.assert_error(404, "NOT_FOUND");
        assert_eq!(session.get(&path).await.body["meta"]["total"], 0);
        // Its slug is free again.
        session.post(&path, json!({ "name": "three", "slug": "deux" })).await.assert_status(201);
        let events = "select count(*) from audit_events
                    where event_type in ('project.updated', 'project.deleted')";
        assert_eq!(app.count(events).await, 4);
    })
    .await;
}

#[tokio::test]
async fn a_removed_member_is_rejected_at_the_next_request() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        let one = format!("{path}/{}", app.create_project(&ann, "one").await);
        let pinned = token(app, &ann, json!(["projects:*"]), Some(&ann.org_id)).await;
        let unpinned = token(app, &ann, json!(["projects:*"]), None).await;
        let acme = app.mint_in(&ann).await;
        app.execute("update users set removed_at = now()").await;
        for client in [session, pinned, unpinned] {
            for response in [
                client.get(&path).await,
                client.get(&one).await,
                client.post(&path, json!({ "name": "x" })).await,
                client.put(&one, json!({ "name": "x" })).await,
                client.delete(&one).await,
            ] {
                response.assert_error(403, "FORBIDDEN");
            }
        }
        // The organization's keys and projects stay, whichever account created them.
        let stored = app.key(&acme).get(&one).await.assert_status(200);
        assert!(text(&stored.body["data"]["createdBy"]).starts_with("user_"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_plan_s_limit_is_exact_under_concurrent_requests() {
    run(async |app| {
        let (ann, session, path) = ann_with_projects(app).await;
        for number in 0..9 {
            app.create_project(&ann, &format!("project {number}")).await;
        }
        // Requests of one credential run one after the other, so there are several credentials.
        let unpinned = token(app, &ann, json!(["projects:write"]), None).await;
        let mut clients = vec![session.clone(), unpinned];
        for _ in 0..8 {
            clients.push(app.key(&app.mint_in(&ann).await));
        }
        // Blocks writes until several requests wait for the lock.
        let mut connection = app.connect().await;
        sqlx::raw_sql("begin; lock table projects in exclusive mode")
            .execute(&mut connection)
            .await
            .unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (client, path) = (clients[number % clients.len()].clone(), path.clone());
            // All have the same name; random suffixes make their slugs unique.
            tasks.spawn(async move { client.post(&path, json!({ "name": "last" })).await });
        }
        app.wait_for_lock_waiters(3).await;
        drop(connection);
        let (created, rejected): (Vec<_>, Vec<_>) =
            tasks.join_all().await.into_iter().partition(|it| it.status == 201);
        assert_eq!((created.len(), rejected.len()), (1, 19));
        for response in rejected {
            let response = response.assert_error(403, "PLAN_LIMIT_REACHED");
            assert_eq!(response.body["meta"]["resource"], "projects");
            assert_eq!(response.body["meta"]["limit"], 10);
            assert_eq!(response.body["meta"]["used"], 10);
        }
        assert_eq!(app.count("select count(*) from projects").await, 10);
        // A deleted project does not count, and a larger plan allows more.
        let created = format!("{path}/{}", text(&created[0].body["data"]["id"]));
        session.delete(&created).await.assert_status(200);
        session.post(&path, json!({ "name": "x" })).await.assert_status(201);
        session.post(&path, json!({ "name": "x" })).await.assert_error(403, "PLAN_LIMIT_REACHED");
        app.execute("update organizations set plan = 'enterprise'").await;
        session.post(&path, json!({ "name": "x" })).await.assert_status(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn projects_created_at_the_same_moment_get_different_slugs() {
    run(async |app| {
        let (ann, _, path) = ann_with_projects(app).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (client, path) = (app.key(&app.mint_in(&ann).await), path.clone());
            tasks.spawn(async move { client.post(&path, json!({ "name": "same" })).await });
        }
        for response in tasks.join_all().await {
            response.assert_status(201);
        }
        assert_eq!(app.count("select count(distinct slug) from projects").await, 10);
    })
    .await;
}

impl TestApp {
    /// Creates a key of the account's organization in its session.
    async fn mint_in(&self, account: &TestAccount) -> String {
        let created = self.session(&account.cookie).post("/me/api-keys", json!({})).await;
        text(&created.assert_status(201).body["api_key"])
    }
}

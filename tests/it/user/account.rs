//! `/api/user/me`, `/api/user/organizations`

use serde_json::{Value, json};

use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

#[tokio::test]
async fn an_account_can_change_its_name_and_handle() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let change = json!({ "fullName": "Ann Other", "handle": "ann-other" });
        let changed = app.session(&ann.cookie).put("/api/user/me", change).await.assert_status(200);
        assert_eq!(changed.body["data"]["fullName"], "Ann Other");
        assert_eq!(changed.body["data"]["handle"], "ann-other");
        let one = app.session(&ann.cookie).put("/api/user/me", json!({ "fullName": "A" })).await;
        assert_eq!(one.assert_status(200).body["data"]["handle"], "ann-other");
    })
    .await;
}

#[tokio::test]
async fn invalid_names_and_handles_and_read_only_fields_are_rejected() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let put =
            async |request: Value| app.session(&ann.cookie).put("/api/user/me", request).await;
        let wrong = json!({ "fullName": "", "handle": "Ann Other", "email": "b@example.com",
                            "isVerified": true });
        let response = put(wrong).await.assert_error(400, "VALIDATION_ERROR");
        let mut fields = response.invalid_fields();
        fields.sort_unstable();
        assert_eq!(fields, ["email", "fullName", "handle", "isVerified"]);
        put(json!({})).await.assert_status(400);
        put(json!({ "fullName": null })).await.assert_status(400);
        app.sign_up_account("ben@example.com").await;
        app.execute("update accounts set handle = 'taken' where email = 'ben@example.com'").await;
        put(json!({ "handle": "taken" })).await.assert_error(409, "CONFLICT");
    })
    .await;
}

#[tokio::test]
async fn a_token_reads_and_writes_within_its_scopes() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let reader = json!({ "name": "r", "scopes": ["user:read"] });
        let (reader, _) = app.create_token(&ann.cookie, reader).await;
        app.key(&reader).get("/api/user/me").await.assert_status(200);
        let rejected = app.key(&reader).put("/api/user/me", json!({ "fullName": "X" })).await;
        let rejected = rejected.assert_error(403, "API_KEY_MISSING_SCOPES");
        assert_eq!(rejected.body["meta"]["missing_scopes"], json!(["user:write"]));
        // Listing one's own organizations requires no scope.
        let none = json!({ "name": "n", "scopes": ["usage:read"] });
        let (none, _) = app.create_token(&ann.cookie, none).await;
        let list = app.key(&none).get("/api/user/organizations").await.assert_status(200);
        assert_eq!(list.body["data"][0]["id"], ann.org_id);
        assert_eq!(list.body["meta"]["total"], 1);
    })
    .await;
}

async fn delete(app: &TestApp, cookie: &str, password: &str) -> TestResponse {
    let session = app.session(cookie).with("content-type", "application/json");
    let request = json!({ "password": password }).to_string();
    session.send("DELETE", "/api/user/me", request).await
}

#[tokio::test]
async fn deleting_an_account_ends_its_credentials_and_frees_its_address() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (pat, _) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let regenerated =
            app.session(&ann.cookie).post("/auth/api-key/regenerate", json!({})).await;
        let key =
            regenerated.assert_status(200).body["data"]["api_key"].as_str().unwrap().to_owned();
        delete(app, &ann.cookie, "another-passphrase").await.assert_status(401);
        let deleted = delete(app, &ann.cookie, PASSWORD).await.assert_status(200);
        assert_eq!(deleted.cookie().as_deref(), Some(""));
        for client in [app.session(&ann.cookie), app.bearer(&ann.token), app.key(&pat)] {
            client.get("/api/user/me").await.assert_status(401);
        }
        app.key(&key).get("/me").await.assert_error(401, "unauthorized");
        app.sign_in(&ann.email, PASSWORD).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
        // No personal data is left, and the organization's id is not reused.
        let left = "select count(*) from accounts
                    where email is not null or name is not null or handle is not null";
        assert_eq!(app.count(left).await, 0);
        let again = app.anonymous().post("/signup", json!({ "org_id": ann.org_id })).await;
        again.assert_error(409, "conflict");
        app.sign_up_account("ann@example.com").await;
        let mails = app.mails().await;
        assert!(!mails.is_empty() && mails.iter().all(|mail| mail.token().is_some()));
    })
    .await;
}

/// The rows of all tables that contain one of the texts, except the append-only audit log.
async fn rows_with(app: &TestApp, texts: &[&str]) -> Vec<String> {
    let mut db = app.connect().await;
    let tables = "select tablename::text from pg_tables
                  where schemaname = 'public' and tablename not like 'audit%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    let mut matches = Vec::new();
    for table in tables {
        let sql = format!("select '{table} ' || t::text from {table} t");
        let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        let rows: Vec<String> = rows.fetch_all(&mut db).await.unwrap();
        let holds = |row: &String| texts.iter().any(|text| row.to_lowercase().contains(text));
        matches.extend(rows.into_iter().filter(holds));
    }
    matches
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_personal_outside_the_audit_log() {
    run(async |app| {
        let owner = app.verified_account("owner@example.com").await;
        let (email, name) = ("zoe.quill@example.com", "Zoe Quill");
        let browser = app.anonymous().with("user-agent", "Quillzilla/1.0");
        let request = json!({ "email": email, "password": PASSWORD, "name": name });
        let signed_up = browser.post("/api/auth/sign-up/email", request).await.assert_status(200);
        let zoe = TestAccount {
            email: email.to_owned(),
            id: text(&signed_up.body["data"]["user"]["id"]),
            org_id: text(&signed_up.body["data"]["organization"]["id"]),
            cookie: signed_up.cookie().unwrap(),
            token: text(&signed_up.body["data"]["token"]),
        };
        let session = app.session(&zoe.cookie);
        let verify = json!({ "token": app.mailed_token().await });
        session.post("/api/auth/verify-email", verify).await.assert_status(200);
        app.invite_and_accept(&owner, &zoe, "member").await;
        // Another session, an ended session, a token, and a stored response for a replay.
        for _ in 0..2 {
            let request = json!({ "email": email, "password": PASSWORD });
            browser.post("/api/auth/sign-in/email", request).await.assert_status(200);
        }
        session.post("/api/auth/revoke-other-sessions", json!({})).await.assert_status(200);
        app.create_token(&zoe.cookie, json!({ "name": "Quill's", "scopes": ["*"] })).await;
        let renaming = session.with("idempotency-key", "rename");
        renaming.put("/api/user/me", json!({ "handle": "quill" })).await.assert_status(200);
        // A dead mail, and a pending one.
        app.execute(
            "insert into outbox (id, kind, address, created_at, due_at, dead_at)
             values (gen_random_uuid(), 'already_registered', 'zoe.quill@example.com', now(),
                     now(), now())",
        )
        .await;
        let request = json!({ "email": email });
        app.anonymous().post("/api/auth/request-password-reset", request).await.assert_status(200);
        assert!(rows_with(app, &["quill"]).await.len() >= 9);

        delete(app, &zoe.cookie, PASSWORD).await.assert_status(200);
        assert_eq!(rows_with(app, &["quill"]).await, [] as [String; 0]);
        app.session(&owner.cookie).get("/api/user/me").await.assert_status(200);
        let sessions = "select count(*) from sessions s join accounts a on a.id = s.account_id
                        where a.deleted_at is not null";
        assert_eq!(app.count(sessions).await, 0);
    })
    .await;
}

#[tokio::test]
async fn deleting_a_member_s_account_does_not_delete_an_organization_that_it_joined() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ben = app.verified_account("ben@example.com").await;
        let invites = format!("/api/user/organizations/{}/invites", acme.org_id);
        let request = json!({ "email": ben.email, "role": "member" });
        app.key(&acme.api_key).post(&invites, request).await.assert_status(201);
        let accept = format!("/api/user/invites/{}/accept", app.mailed_token().await);
        app.session(&ben.cookie).post(&accept, json!({})).await.assert_status(200);
        delete(app, &ben.cookie, PASSWORD).await.assert_status(200);
        app.key(&acme.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn the_account_of_the_last_owner_of_a_shared_organization_cannot_be_deleted() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        // Ben is a member of Ann's organization, as after an accepted invitation.
        let membership =
            "insert into users (id, organization_id, handle, role, account_id, created_at)
                    select gen_random_uuid(), a.home_organization_id, 'user_of_ben', 'member', b.id,
                           now()
                    from accounts a, accounts b
                    where a.email = 'ann@example.com' and b.email = 'ben@example.com'";
        app.execute(membership).await;
        delete(app, &ann.cookie, PASSWORD).await.assert_error(409, "CONFLICT");
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
        // With another owner the organization stays when Ann's account is deleted.
        app.execute("update users set role = 'owner' where handle = 'user_of_ben'").await;
        delete(app, &ann.cookie, PASSWORD).await.assert_status(200);
        let list = app.session(&ben.cookie).get("/api/user/organizations").await.assert_status(200);
        assert_eq!(list.body["meta"]["total"], 2);
    })
    .await;
}

#[tokio::test]
async fn deleting_an_account_revokes_its_invitations_and_is_in_the_audit_log() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let gus = app.verified_account("gus@example.com").await;
        let hal = app.verified_account("hal@example.com").await;
        let membership = app.invite_and_accept(&ann, &gus, "admin").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let request = json!({ "email": hal.email, "role": "admin" });
        let session = app.session(&gus.cookie);
        session.post(&format!("{path}/invites"), request).await.assert_status(201);
        let accept = format!("/api/user/invites/{}/accept", app.mailed_token().await);
        delete(app, &gus.cookie, PASSWORD).await.assert_status(200);

        app.session(&hal.cookie).post(&accept, json!({})).await.assert_error(404, "NOT_FOUND");
        let logs = format!("{path}/audit-logs?eventType=member.removed");
        let logs = app.session(&ann.cookie).get(&logs).await.assert_status(200);
        assert_eq!(logs.body["meta"]["total"], 1);
        let event = &logs.body["data"][0];
        assert_eq!((&event["actor"], &event["target"]), (&json!(membership), &json!(membership)));
        assert_eq!(event["detail"], json!({ "role": "admin" }));
    })
    .await;
}

/// A membership that open signup created belongs to no account, whatever its role.
#[tokio::test]
async fn an_unclaimed_membership_does_not_count_as_a_remaining_owner() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let unclaimed = "insert into users (id, organization_id, handle, role, created_at)
                         select gen_random_uuid(), home_organization_id, 'user_of_nobody', 'owner',
                                now() from accounts where email = 'ann@example.com'";
        app.execute(unclaimed).await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        delete(app, &ann.cookie, PASSWORD).await.assert_error(409, "CONFLICT");
        // No other member has an account, so the owner may delete theirs.
        delete(app, &ben.cookie, PASSWORD).await.assert_status(200);
        delete(app, &ann.cookie, PASSWORD).await.assert_status(200);
        let there = "select count(*) from organizations o
                     join users u on u.organization_id = o.id and u.handle = 'user_of_nobody'
                     where o.deleted_at is null and u.removed_at is null";
        assert_eq!(app.count(there).await, 1);
    })
    .await;
}

/// A transaction that writes to several organizations' audit logs locks them in one order.
/// Otherwise two transactions could deadlock.
#[tokio::test]
async fn a_deletion_writes_to_audit_logs_in_the_order_of_their_organizations() {
    run(async |app| {
        let tick = || app.clock.advance(chrono::TimeDelta::milliseconds(1));
        let ann = app.verified_account("ann@example.com").await;
        tick();
        let ben = app.verified_account("ben@example.com").await;
        tick();
        let cleo = app.verified_account("cleo@example.com").await;
        tick();
        app.invite_and_accept(&ann, &ben, "member").await;
        app.invite_and_accept(&cleo, &ben, "member").await;
        delete(app, &ben.cookie, PASSWORD).await.assert_status(200);
        let events: Vec<(String, String)> = sqlx::query_as(
            "select o.handle, e.event_type from audit_events e
             join organizations o on o.id = e.organization_id
             where e.request_id = (select request_id from audit_events
                                   where event_type = 'account.deleted')
             order by e.id",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        // Ben's organization was created after Ann's and before Cleo's.
        let removed = "member.removed".to_owned();
        let expected = [
            (ann.org_id, removed.clone()),
            (ben.org_id.clone(), "account.deleted".to_owned()),
            (ben.org_id, "organization.deleted".to_owned()),
            (cleo.org_id, removed),
        ];
        assert_eq!(events, expected);
    })
    .await;
}

//! `/api/user/organizations` and `/api/user/organizations/{id}`

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::{TestApp, run};

fn path(organization: &str) -> String {
    format!("/api/user/organizations/{organization}")
}

async fn delete(app: &TestApp, account: &TestAccount, organization: &str, confirm: &str) -> u16 {
    let session = app.session(&account.cookie).with("content-type", "application/json");
    let request = json!({ "confirm": confirm }).to_string();
    session.send("DELETE", &path(organization), request).await.status.as_u16()
}

#[tokio::test]
async fn an_account_creates_organizations_and_owns_them() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let create = async |request: Value| session.post("/api/user/organizations", request).await;
        let created = create(json!({ "name": "Acme", "id": "acme" })).await.assert_status(201);
        assert_eq!(created.body["status"], 201);
        let presented = session.get(&path("ACME")).await.assert_status(200);
        assert_eq!(presented.body["data"], created.body["data"]);
        assert_eq!(created.body["data"]["role"], "owner");
        assert_eq!(created.body["data"]["plan"], "trial");
        create(json!({ "name": "Other", "id": "Acme" })).await.assert_error(409, "CONFLICT");
        let list = session.get("/api/user/organizations?q=acm").await.assert_status(200);
        assert_eq!(list.body["meta"]["total"], 1);
        let wrong =
            create(json!({ "name": "", "id": "a b", "plan": "scale" })).await.assert_status(400);
        assert_eq!(wrong.invalid_fields(), ["name", "id", "plan"]);
    })
    .await;
}

#[tokio::test]
async fn settings_are_changed_by_owners_and_admins_only() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let change = json!({
            "name": "Acme",
            "allowedOrigins": ["https://App.example.com", "https://app.example.com:443",
                               "http://localhost:5173"],
        });
        let changed = app.session(&ann.cookie).put(&path(&ann.org_id), change.clone()).await;
        let changed = changed.assert_status(200);
        assert_eq!(changed.body["data"]["name"], "Acme");
        let origins = json!(["https://app.example.com", "http://localhost:5173"]);
        assert_eq!(changed.body["data"]["allowedOrigins"], origins);
        let rejected = app.session(&ben.cookie).put(&path(&ann.org_id), change).await;
        let rejected = rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        assert_eq!(rejected.body["meta"]["required_role"], "admin");
        app.session(&ben.cookie).get(&path(&ann.org_id)).await.assert_status(200);
        for origin in ["https://*.example.com", "null", "https://example.com/path", ""] {
            let change = json!({ "allowedOrigins": [origin] });
            let response = app.session(&ann.cookie).put(&path(&ann.org_id), change).await;
            assert_eq!(
                response.assert_status(400).invalid_fields(),
                ["allowedOrigins"],
                "{origin}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_and_a_key_act_in_their_organization_within_their_scopes() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let other = session.post("/api/user/organizations", json!({ "name": "B" })).await;
        let other = other.assert_status(201).body["data"]["id"].as_str().unwrap().to_owned();
        let token = |pin: Option<&str>, scope: &str| {
            let mut token = json!({ "name": "ci", "scopes": [scope] });
            if let Some(pin) = pin {
                token["metadata"] = json!({ "organizationId": pin });
            }
            token
        };
        let read = "organization:read";
        let (unpinned, _) = app.create_token(&ann.cookie, token(None, read)).await;
        let (pinned, _) = app.create_token(&ann.cookie, token(Some(&other), read)).await;
        app.key(&unpinned).get(&path(&ann.org_id)).await.assert_status(200);
        app.key(&unpinned).get(&path(&other)).await.assert_status(200);
        app.key(&pinned).get(&path(&other)).await.assert_status(200);
        app.key(&pinned).get(&path(&ann.org_id)).await.assert_error(403, "FORBIDDEN");
        let rejected = app.key(&unpinned).put(&path(&other), json!({ "name": "C" })).await;
        let rejected = rejected.assert_error(403, "API_KEY_MISSING_SCOPES");
        assert_eq!(rejected.body["meta"]["missing_scopes"], json!(["organization:write"]));

        let acme = app.sign_up().await;
        let presented = app.key(&acme.api_key).get(&path(&acme.org_id)).await.assert_status(200);
        assert_eq!(presented.body["data"]["role"], Value::Null);
        app.key(&acme.api_key)
            .put(&path(&acme.org_id), json!({ "name": "A" }))
            .await
            .assert_status(200);
        app.key(&acme.api_key).get(&path(&other)).await.assert_error(403, "FORBIDDEN");
        // Requests count for the organization of their path.
        app.app.meter.flush().await.unwrap();
        let counted = "select count(*) from usage_daily u join organizations o
                       on o.id = u.organization_id where o.name = 'B'";
        assert_eq!(app.count(counted).await, 2);
    })
    .await;
}

#[tokio::test]
async fn deleting_an_organization_revokes_keys_tokens_and_invitations_and_reserves_its_id() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "admin").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let invite = json!({ "email": cleo.email, "role": "member" });
        let invites = format!("{}/invites", path(&ann.org_id));
        app.session(&ann.cookie).post(&invites, invite).await.assert_status(201);
        let link = app.mailed_token().await;
        let created =
            app.session(&ann.cookie).post("/me/api-keys", json!({})).await.assert_status(201);
        let key = created.body["api_key"].as_str().unwrap().to_owned();
        let pinned = json!({ "name": "ci", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ben.cookie, pinned).await;

        assert_eq!(delete(app, &ben, &ann.org_id, &ann.org_id).await, 403);
        assert_eq!(delete(app, &ann, &ann.org_id, "another").await, 400);
        assert_eq!(delete(app, &ann, &ann.org_id, &ann.org_id).await, 200);
        app.key(&key).get("/me").await.assert_status(401);
        app.key(&pinned).get("/me").await.assert_error(403, "forbidden");
        for account in [&ann, &ben] {
            app.session(&account.cookie)
                .get(&path(&ann.org_id))
                .await
                .assert_error(403, "FORBIDDEN");
        }
        let accept = format!("/api/user/invites/{link}/accept");
        app.session(&cleo.cookie).post(&accept, json!({})).await.assert_error(404, "NOT_FOUND");
        let again = json!({ "name": "Again", "id": ann.org_id });
        let again = app.session(&ben.cookie).post("/api/user/organizations", again).await;
        again.assert_error(409, "CONFLICT");
        // The account still works.
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_token_or_a_key_cannot_delete_an_organization() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (pat, _) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let acme = app.sign_up().await;
        for (client, id) in [(app.key(&pat), &ann.org_id), (app.key(&acme.api_key), &acme.org_id)] {
            let client = client.with("content-type", "application/json");
            let request = json!({ "confirm": id }).to_string();
            client.send("DELETE", &path(id), request).await.assert_error(403, "FORBIDDEN");
        }
    })
    .await;
}

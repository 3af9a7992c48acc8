//! `/api/user/organizations/{organizationId}/app-grants` and `/api/user/authorized-apps`

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::TestClient;
use crate::support::requests::data_ids;
use crate::support::{TestApp, run};

const OWN: &str = "/api/user/authorized-apps";
const REVOKED: &str = "select count(*) from audit_events where event_type = 'app_grant.revoked'";

fn grants_of(account: &TestAccount) -> String {
    format!("/api/user/organizations/{}/app-grants", account.org_id)
}

/// Ann's organization with ben as an admin, two apps, and grants of both accounts.
struct Granted {
    ann: TestAccount,
    ben: TestAccount,
    /// The client ids of the apps.
    apps: [String; 2],
    /// Of ann to the first app, of ben to both.
    grants: [String; 3],
    owner: TestClient,
    path: String,
}

async fn granted(app: &TestApp) -> Granted {
    let ann = app.verified_account("ann@example.com").await;
    let ben = app.verified_account("ben@example.com").await;
    app.invite_and_accept(&ann, &ben, "admin").await;
    let one = text(&app.create_app(&ann, "One").await["id"]);
    let other = text(&app.create_app(&ann, "Other").await["id"]);
    let scopes = ["projects:read", "audit:read"];
    let grants = [
        app.insert_grant((&ann, Some(&ann.org_id)), &one, &scopes).await,
        app.insert_grant((&ben, Some(&ann.org_id)), &one, &scopes).await,
        app.insert_grant((&ben, Some(&ann.org_id)), &other, &scopes).await,
    ];
    let (owner, path) = (app.session(&ann.cookie), grants_of(&ann));
    Granted { ann, ben, apps: [one, other], grants, owner, path }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test]
async fn an_organization_lists_its_grants_with_the_scopes_that_the_member_s_role_permits_now() {
    run(async |app| {
        let it = granted(app).await;
        let listed = async |query: &str| {
            let path = format!("{}{query}", it.path);
            it.owner.get(&path).await.assert_status(200).body
        };
        let all = listed("").await;
        assert_eq!(sorted(data_ids(&all)), sorted(it.grants.to_vec()));
        let [_, of_ben, other_of_ben] = &it.grants;
        let by_account = listed(&format!("?accountId={}", it.ben.id)).await;
        let expected = sorted(vec![of_ben.clone(), other_of_ben.clone()]);
        assert_eq!(sorted(data_ids(&by_account)), expected);
        assert_eq!(data_ids(&listed("?q=OTHER").await), [other_of_ben.as_str()]);
        assert_eq!(listed("?q=ben@").await["meta"]["total"], 2);
        let query = format!("?clientId={}", it.apps[1]);
        let one = listed(&query).await["data"][0].clone();
        let expected = json!({
            "id": other_of_ben,
            "client": {
                "clientId": it.apps[1], "name": "Other", "kind": "registered", "verified": false,
            },
            "accountId": it.ben.id, "email": "ben@example.com", "organizationId": it.ann.org_id,
            "scopes": ["projects:read", "audit:read"],
            "effectiveScopes": ["projects:read", "audit:read"],
            "resources": [], "createdAt": one["createdAt"], "lastUsedAt": null,
        });
        assert_eq!(one, expected);
        // A demotion narrows what the app may do, and not what was granted.
        app.execute("update users set role = 'member' where role = 'admin'").await;
        let one = listed(&query).await["data"][0].clone();
        assert_eq!(one["effectiveScopes"], json!(["projects:read"]));
        assert_eq!(one["scopes"], json!(["projects:read", "audit:read"]));
        // A grant ends with the membership.
        app.execute("update users set removed_at = now() where role = 'member'").await;
        assert_eq!(data_ids(&listed("").await), [it.grants[0].as_str()]);
        for (query, field) in [("clientId=%20", "clientId"), ("accountId=user_1", "accountId")] {
            let rejected = it.owner.get(&format!("{}?{query}", it.path)).await;
            assert_eq!(rejected.assert_status(400).invalid_fields(), [field]);
        }
    })
    .await;
}

#[tokio::test]
async fn an_organization_revokes_one_grant_or_all_grants_to_an_app() {
    run(async |app| {
        let it = granted(app).await;
        let other = app.sign_up_account("dora@example.com").await;
        let elsewhere = app.insert_grant((&other, None), &it.apps[0], &["user:read"]).await;
        for _ in 0..2 {
            let path = format!("{}/{}", it.path, it.grants[0]);
            it.owner.delete(&path).await.assert_status(200);
        }
        assert_eq!(app.count(REVOKED).await, 1);
        let foreign = it.owner.delete(&format!("{}/{elsewhere}", it.path)).await;
        foreign.assert_error(404, "NOT_FOUND");
        let of_client = format!("{}?clientId={}", it.path, it.apps[0]);
        for count in [1, 0] {
            let revoked = it.owner.delete(&of_client).await.assert_status(200);
            assert_eq!(revoked.body["data"]["revokedGrants"], count);
        }
        let missing = it.owner.delete(&it.path).await.assert_status(400);
        assert_eq!(missing.invalid_fields(), ["clientId"]);
        assert_eq!(data_ids(&it.owner.get(&it.path).await.body), [it.grants[2].as_str()]);
        let live = "select count(*) from oauth_grants where revoked_at is null";
        assert_eq!(app.count(live).await, 2);
        let recorded = "select count(*) from audit_events
                        where event_type = 'app_grant.revoked' and actor like 'user\\_%'
                          and detail ->> 'reason' = 'organization'
                          and detail ->> 'account' like 'acc\\_%'";
        assert_eq!(app.count(recorded).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_member_neither_lists_nor_revokes_the_grants_of_the_organization() {
    run(async |app| {
        let it = granted(app).await;
        app.execute("update users set role = 'member' where role = 'admin'").await;
        let member = app.session(&it.ben.cookie);
        for response in [
            member.get(&it.path).await,
            member.delete(&format!("{}/{}", it.path, it.grants[1])).await,
            member.delete(&format!("{}?clientId={}", it.path, it.apps[0])).await,
        ] {
            let response = response.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(response.body["meta"]["required_role"], "admin");
        }
        assert_eq!(app.count(REVOKED).await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_account_lists_and_revokes_its_own_grants_in_every_organization_and_no_others() {
    run(async |app| {
        let it = granted(app).await;
        let session = app.session(&it.ben.cookie);
        let personal = app.insert_grant((&it.ben, None), &it.apps[0], &["user:read"]).await;
        let listed = session.get(OWN).await.assert_status(200);
        let own = vec![it.grants[1].clone(), it.grants[2].clone(), personal.clone()];
        assert_eq!(sorted(data_ids(&listed.body)), sorted(own));
        let items = listed.body["data"].as_array().unwrap();
        assert!(items.iter().all(|item| item.get("accountId").is_none()));
        let of_account = items.iter().find(|item| item["id"] == personal.as_str()).unwrap();
        assert_eq!(of_account["organizationId"], Value::Null);
        assert_eq!(of_account["effectiveScopes"], json!(["user:read"]));
        for grant in [&it.grants[1], &personal] {
            for _ in 0..2 {
                session.delete(&format!("{OWN}/{grant}")).await.assert_status(200);
            }
        }
        assert_eq!(data_ids(&session.get(OWN).await.body), [it.grants[2].as_str()]);
        for unknown in [it.grants[0].as_str(), "grant_0000000000000000000000", "app_1"] {
            let response = session.delete(&format!("{OWN}/{unknown}")).await;
            response.assert_error(404, "NOT_FOUND");
        }
        // One event is in ann's organization, and one in ben's own.
        let recorded = "select count(distinct organization_id) from audit_events
                        where event_type = 'app_grant.revoked' and actor like 'acc\\_%'
                          and detail ->> 'reason' = 'person'";
        assert_eq!((app.count(recorded).await, app.count(REVOKED).await), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn only_a_session_lists_and_revokes_an_account_s_own_grants() {
    run(async |app| {
        let it = granted(app).await;
        let request = json!({ "name": "t", "scopes": ["*"] });
        let (token, _) = app.create_token(&it.ben.cookie, request.clone()).await;
        let key = app.create_key(&it.ben, request).await;
        for client in [app.key(&token), app.key(&key.api_key)] {
            client.get(OWN).await.assert_error(403, "FORBIDDEN");
            let response = client.delete(&format!("{OWN}/{}", it.grants[1])).await;
            response.assert_error(403, "FORBIDDEN");
        }
        app.bearer(&it.ben.token).get(OWN).await.assert_status(200);
        assert_eq!(app.count(REVOKED).await, 0);
    })
    .await;
}

//! `/api/user/organizations/{organizationId}/apps`

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::app::{START_TIME, text};
use crate::support::apps::{app_request, apps_of};
use crate::support::requests::data_ids;
use crate::support::{TestApp, run, with_settings};

/// Sets the field `name` of a request.
fn with(mut request: Value, name: &str, value: Value) -> Value {
    request[name] = value;
    request
}

#[tokio::test]
async fn an_app_is_returned_at_registration_and_later_and_its_secret_only_at_registration() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (session, path) = (app.session(&ann.cookie), apps_of(&ann));
        let request =
            with(app_request("Reports"), "clientUri", json!("https://reports.example.com"));
        let created = session.post(&path, request).await.assert_status(201);
        let data = &created.body["data"];
        let (id, secret) = (text(&data["id"]), text(&data["clientSecret"]));
        assert!(id.starts_with("app_") && secret.starts_with("tnt_oauth_secret_"), "{data}");
        let mut expected = json!({
            "id": id, "clientId": id, "name": "Reports",
            "clientUri": "https://reports.example.com",
            "redirectUris": ["https://reports.example.com/callback"],
            "applicationType": "web", "tokenEndpointAuthMethod": "client_secret_basic",
            "jwks": null, "jwksUri": null, "idTokenSignedResponseAlg": "RS256",
            "scopes": ["projects:read", "projects:write", "offline_access"],
            "visibility": "private", "status": "active",
            "secrets": [{
                "id": data["secrets"][0]["id"], "start": &secret[.."tnt_oauth_secret_".len() + 4],
                "createdAt": START_TIME, "lastUsedAt": null, "expiresAt": null,
            }],
            "grants": 0, "createdAt": START_TIME, "updatedAt": START_TIME,
        });
        let found = session.get(&format!("{path}/{id}")).await.assert_status(200);
        assert_eq!(found.body["data"], expected);
        let listed = session.get(&path).await.assert_status(200);
        assert_eq!(listed.body["data"], json!([expected]));
        expected["clientSecret"] = json!(secret);
        assert_eq!(*data, expected);
        let events = "select count(*) from audit_events
                      where event_type = 'app.created' and target like 'app\\_%'
                        and actor like 'user\\_%' and detail ->> 'name' = 'Reports'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_native_app_has_no_secret_and_may_have_a_scheme_of_its_own() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let uris = json!(["com.example.app:/cb", "http://localhost/cb"]);
        let native = with(app_request("Native"), "redirectUris", uris.clone());
        let native = with(native, "applicationType", json!("native"));
        let session = app.session(&ann.cookie);
        let created = session.post(&apps_of(&ann), native).await.assert_status(201);
        let data = &created.body["data"];
        assert_eq!(data["tokenEndpointAuthMethod"], "none");
        assert_eq!((&data["clientSecret"], &data["secrets"]), (&Value::Null, &json!([])));
        assert_eq!(data["redirectUris"], uris);
        // As a web app it could not have this scheme.
        let path = format!("{}/{}", apps_of(&ann), text(&data["id"]));
        let web = session.put(&path, json!({ "applicationType": "web" })).await;
        let web = web.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(web.invalid_fields(), ["redirectUris.0"]);
    })
    .await;
}

#[tokio::test]
async fn a_member_cannot_register_or_read_apps() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let member = app.session(&ben.cookie);
        let path = apps_of(&ann);
        for response in [member.post(&path, app_request("Mine")).await, member.get(&path).await] {
            let response = response.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(response.body["meta"]["required_role"], "admin");
        }
        assert_eq!(app.count("select count(*) from oauth_clients").await, 0);
        app.execute("update users set role = 'admin' where role = 'member'").await;
        member.post(&path, app_request("Mine")).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn keys_and_tokens_manage_apps_within_their_scopes() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let path = apps_of(&ann);
        let credential = async |scope: &str| {
            let request = json!({ "name": scope, "scopes": [scope] });
            let key = app.create_key(&ann, request.clone()).await.api_key;
            [key, app.create_token(&ann.cookie, request).await.0]
        };
        for key in credential("apps:write").await {
            let client = app.key(&key);
            let created = client.post(&path, app_request("Reports")).await.assert_status(201);
            let own = format!("{path}/{}", text(&created.body["data"]["id"]));
            let read = client.get(&own).await.assert_error(403, "API_KEY_MISSING_SCOPES");
            assert_eq!(read.body["meta"]["missing_scopes"], json!(["apps:read"]));
            client.put(&own, json!({ "name": "Renamed" })).await.assert_status(200);
            client.delete(&own).await.assert_status(200);
        }
        for key in credential("apps:read").await {
            let client = app.key(&key);
            client.get(&path).await.assert_status(200);
            let rejected = client.post(&path, app_request("Reports")).await;
            let rejected = rejected.assert_error(403, "API_KEY_MISSING_SCOPES");
            assert_eq!(rejected.body["meta"]["missing_scopes"], json!(["apps:write"]));
        }
    })
    .await;
}

#[tokio::test]
async fn each_invalid_attribute_is_named_and_an_item_of_a_list_by_its_index() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (session, path) = (app.session(&ann.cookie), apps_of(&ann));
        let many: Vec<String> = (0..11).map(|n| format!("https://a.example/{n}")).collect();
        let cases = [
            ("name", json!(""), "name"),
            ("redirectUris", json!([]), "redirectUris"),
            ("redirectUris", json!("https://a.example"), "redirectUris"),
            ("redirectUris", json!(many), "redirectUris"),
            ("redirectUris", json!(["https://a.example", "https://a.example"]), "redirectUris"),
            ("redirectUris", json!(["https://a.example", "javascript:alert(1)"]), "redirectUris.1"),
            ("redirectUris", json!(["data:text/html,x"]), "redirectUris.0"),
            ("redirectUris", json!(["com.example.app:/cb"]), "redirectUris.0"),
            ("redirectUris", json!([7]), "redirectUris.0"),
            ("applicationType", json!("desktop"), "applicationType"),
            ("tokenEndpointAuthMethod", json!("tls_client_auth"), "tokenEndpointAuthMethod"),
            ("tokenEndpointAuthMethod", json!("private_key_jwt"), "jwks"),
            ("jwksUri", json!("http://"), "jwksUri"),
            ("idTokenSignedResponseAlg", json!("HS256"), "idTokenSignedResponseAlg"),
            ("scopes", json!([]), "scopes"),
            ("scopes", json!(["projects:read", "projects:read"]), "scopes"),
            ("scopes", json!(["projects:read", "apps:write"]), "scopes.1"),
            ("scopes", json!(["*"]), "scopes.0"),
            ("scopes", json!(["api-keys:read"]), "scopes.0"),
            ("clientUri", json!("http://a.example"), "clientUri"),
            ("skip_consent", json!(true), "skip_consent"),
            ("visibility", json!("public"), "visibility"),
        ];
        for (name, value, field) in cases {
            let what = format!("{name}: {value}");
            let rejected = session.post(&path, with(app_request("Reports"), name, value)).await;
            let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(rejected.invalid_fields(), [field], "{what}");
        }
        let none = session.post(&path, json!({})).await.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(none.invalid_fields(), ["name", "redirectUris", "scopes"]);
        assert_eq!(app.count("select count(*) from oauth_clients").await, 0);
    })
    .await;
}

#[tokio::test]
async fn two_apps_of_an_organization_cannot_have_the_same_name() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let (session, path) = (app.session(&ann.cookie), apps_of(&ann));
        app.create_app(&ann, "Reports").await;
        let other = text(&app.create_app(&ann, "Another").await["id"]);
        let taken = session.post(&path, app_request("REPORTS")).await;
        taken.assert_error(409, "CONFLICT");
        let renamed = session.put(&format!("{path}/{other}"), json!({ "name": "reports" })).await;
        renamed.assert_error(409, "CONFLICT");
        app.create_app(&ben, "Reports").await;
        let ids = data_ids(&session.get(&format!("{path}?q=REPORT")).await.body);
        assert_eq!(ids.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_omitted_attributes_and_does_not_touch_grants() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let id = text(&app.create_app(&ann, "Reports").await["id"]);
        let (session, path) = (app.session(&ann.cookie), format!("{}/{id}", apps_of(&ann)));
        let of_ann = (&ann, Some(ann.org_id.as_str()));
        app.insert_grant(of_ann, &id, &["projects:read"]).await;
        let request = json!({ "scopes": ["projects:read", "user:read"] });
        let updated = session.put(&path, request).await.assert_status(200);
        let data = &updated.body["data"];
        assert_eq!(data["scopes"], json!(["projects:read", "user:read"]));
        assert_eq!((&data["name"], &data["grants"]), (&json!("Reports"), &json!(1)));
        let kept = "select count(*) from oauth_grants
                    where scopes = '{projects:read}' and revoked_at is null";
        assert_eq!(app.count(kept).await, 1);
        session.put(&path, json!({})).await.assert_error(400, "VALIDATION_ERROR");
        let null = session.put(&path, json!({ "scopes": null })).await;
        assert_eq!(null.assert_status(400).invalid_fields(), ["scopes"]);
        // A public client has no secrets.
        let public = json!({ "tokenEndpointAuthMethod": "none" });
        let public = session.put(&path, public).await.assert_status(200);
        assert_eq!(public.body["data"]["secrets"], json!([]));
        assert_eq!(app.count("select count(*) from oauth_client_secrets").await, 0);
        let secrets = format!("{path}/secrets");
        session.post(&secrets, json!({})).await.assert_error(409, "CONFLICT");
    })
    .await;
}

/// An app of ann's, with a grant in her organization, one in ben's, and one of ben's own account.
async fn app_with_grants_everywhere(app: &TestApp) -> (String, crate::support::client::TestClient) {
    let ann = app.sign_up_account("ann@example.com").await;
    let ben = app.sign_up_account("ben@example.com").await;
    let id = text(&app.create_app(&ann, "Reports").await["id"]);
    app.execute("update oauth_clients set visibility = 'public'").await;
    app.insert_grant((&ann, Some(&ann.org_id)), &id, &["projects:read"]).await;
    app.insert_grant((&ben, Some(&ben.org_id)), &id, &["projects:read"]).await;
    app.insert_grant((&ben, None), &id, &["user:read"]).await;
    (format!("{}/{id}", apps_of(&ann)), app.session(&ann.cookie))
}

#[tokio::test]
async fn deleting_an_app_ends_its_grants_everywhere_and_records_them_where_they_were_granted() {
    run(async |app| {
        let (path, session) = app_with_grants_everywhere(app).await;
        let found = session.get(&path).await.assert_status(200);
        assert_eq!(found.body["data"]["grants"], 3);
        session.delete(&path).await.assert_status(200);
        session.get(&path).await.assert_error(404, "NOT_FOUND");
        session.delete(&path).await.assert_error(404, "NOT_FOUND");
        for count in [
            "select count(*) from oauth_clients",
            "select count(*) from oauth_client_secrets",
            "select count(*) from oauth_grants",
        ] {
            assert_eq!(app.count(count).await, 0, "{count}");
        }
        let own = "select count(*) from audit_events where event_type = 'app.deleted'";
        assert_eq!(app.count(own).await, 1);
        // Ben's organization is also where his own account's events are recorded. It does not learn
        // who deleted the app.
        let of_ben = "select count(*) from audit_events e
                      join accounts a on a.home_organization_id = e.organization_id
                      where a.email = 'ben@example.com' and e.event_type = 'app_grant.revoked'
                        and e.actor like 'app\\_%' and e.detail ->> 'reason' = 'app_deleted'
                        and (e.detail ->> 'grants')::int = 2";
        assert_eq!(app.count(of_ben).await, 1);
        let all = "select count(*) from audit_events where event_type = 'app_grant.revoked'";
        assert_eq!(app.count(all).await, 2);
    })
    .await;
}

#[tokio::test]
async fn deleting_an_organization_or_its_only_account_ends_and_records_the_grants_to_its_apps() {
    for deletes_account in [false, true] {
        run(async |app| {
            let (path, ann) = app_with_grants_everywhere(app).await;
            let response = if deletes_account {
                let request = json!({ "password": PASSWORD }).to_string();
                let json = ann.with("content-type", "application/json");
                json.send("DELETE", "/api/user/me", request).await
            } else {
                let path = path.rsplit_once("/apps/").unwrap().0;
                let request = json!({ "confirm": path.rsplit_once('/').unwrap().1 }).to_string();
                ann.with("content-type", "application/json").send("DELETE", path, request).await
            };
            response.assert_status(200);
            let live = "select count(*) from oauth_grants where revoked_at is null";
            assert_eq!(app.count(live).await, 0);
            let of_ben = "select count(*) from audit_events e
                          join accounts a on a.home_organization_id = e.organization_id
                          where a.email = 'ben@example.com' and e.event_type = 'app_grant.revoked'
                            and e.actor like 'app\\_%' and e.target = e.actor
                            and e.detail ->> 'client' = 'Reports'
                            and (e.detail ->> 'grants')::int = 2";
            assert_eq!(app.count(of_ben).await, 1);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_grant_that_is_made_while_the_organization_of_the_app_is_deleted_ends_with_it() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let id = text(&app.create_app(&ann, "Reports").await["id"]);
        let mut consent = app.connect().await;
        let lock = "begin; select from oauth_clients for share";
        sqlx::raw_sql(lock).execute(&mut consent).await.unwrap();
        let insert =
            "insert into oauth_grants (id, account_id, client_id, organization_id, user_id,
                                                scopes, resources, created_at, updated_at)
                      select gen_random_uuid(), a.id, c.id, u.organization_id, u.id,
                             '{projects:read}', '{}', now(), now()
                      from accounts a join users u on u.account_id = a.id
                      cross join oauth_clients c where a.email = $1 and c.client_id = $2";
        let inserted = sqlx::query(insert).bind(&ben.email).bind(&id).execute(&mut consent).await;
        assert_eq!(inserted.unwrap().rows_affected(), 1);
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let request = json!({ "confirm": ann.org_id }).to_string();
        let session = app.session(&ann.cookie).with("content-type", "application/json");
        let deletion = tokio::spawn(async move { session.send("DELETE", &path, request).await });
        app.wait_for_lock_waiters(1).await;
        sqlx::raw_sql("commit").execute(&mut consent).await.unwrap();
        deletion.await.unwrap().assert_status(200);
        let live = "select count(*) from oauth_grants where revoked_at is null";
        assert_eq!(app.count(live).await, 0);
        let recorded = "select count(*) from audit_events where event_type = 'app_grant.revoked'";
        assert_eq!(app.count(recorded).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_20_concurrent_requests_for_the_last_app_of_the_plan_succeeds() {
    with_settings(&[("PLANS", r#"{"trial":{"apps":3}}"#)])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            for name in ["A", "B"] {
                app.create_app(&ann, name).await;
            }
            let requests = (0..20).map(|number| {
                let (session, path) = (app.session(&ann.cookie), apps_of(&ann));
                async move { session.post(&path, app_request(&format!("C{number}"))).await }
            });
            let (created, rejected): (Vec<_>, Vec<_>) =
                join_all(requests).await.into_iter().partition(|it| it.status == 201);
            assert_eq!((created.len(), rejected.len()), (1, 19));
            for response in rejected {
                let response = response.assert_error(403, "PLAN_LIMIT_REACHED");
                assert_eq!(response.plan_limit(), ("apps", 3, 3));
            }
            let path = format!("{}/{}", apps_of(&ann), text(&created[0].body["data"]["id"]));
            app.session(&ann.cookie).delete(&path).await.assert_status(200);
            app.create_app(&ann, "D").await;
        })
        .await;
}

#[tokio::test]
async fn a_repeated_registration_gets_the_first_response_without_the_secret() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie).with("idempotency-key", "one");
        let first = session.post(&apps_of(&ann), app_request("Reports")).await;
        let first = first.assert_status(201);
        let again = session.post(&apps_of(&ann), app_request("Reports")).await.assert_status(201);
        assert_eq!(again.header("idempotent-replayed"), "true");
        let mut expected = first.body["data"].clone();
        let secret = expected.as_object_mut().unwrap().remove("clientSecret");
        assert!(secret.is_some_and(|secret| secret.is_string()));
        assert_eq!(again.body["data"], expected);
        assert_eq!(app.count("select count(*) from oauth_clients").await, 1);
    })
    .await;
}

#[tokio::test]
async fn without_oauth_the_routes_that_manage_apps_and_grants_do_not_exist() {
    with_settings(&[("OAUTH", "off")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let organization = format!("/api/user/organizations/{}", ann.org_id);
            let id = "app_0000000000000000000000";
            let own = [
                format!("{organization}/apps"),
                format!("{organization}/apps/{id}"),
                format!("{organization}/app-policy"),
                format!("{organization}/app-grants"),
                "/api/user/authorized-apps".to_owned(),
            ];
            for path in own {
                for client in [app.session(&ann.cookie), app.anonymous()] {
                    let response = client.get(&path).await.assert_error(404, "NOT_FOUND");
                    assert_eq!(response.body["message"], "No route matches this path", "{path}");
                }
            }
            let operator = app.master_with_idempotency_key("OAUTH_APPS", "one");
            operator.get("/v1/admin/oauth/apps").await.assert_error(404, "NOT_FOUND");
            let publish = format!("/v1/admin/oauth/apps/{id}/publish");
            operator.post(&publish, json!({})).await.assert_error(404, "NOT_FOUND");
        })
        .await;
}

//! `/api/user/organizations/{organizationId}/sso/connections`

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::model::ids::ConnectionId;
use tenantry::repo::sso_connections;

use crate::support::accounts::TestAccount;
use crate::support::app::{START_TIME, text};
use crate::support::client::TestClient;
use crate::support::documents::DocumentServer;
use crate::support::identity_provider::IdentityProvider;
use crate::support::sso::{
    CLIENT_SECRET, connection_request, connections_of, provider_document, shared_issuer,
};
use crate::support::{TestApp, run, with_settings};

/// Sets the field `name` of a request.
fn with(mut request: Value, name: &str, value: Value) -> Value {
    request[name] = value;
    request
}

/// Creates a connection to the shared provider; returns the path of the connection.
async fn create(app: &TestApp, account: &TestAccount) -> String {
    let (session, path) = (app.session(&account.cookie), connections_of(account));
    let created = session.post(&path, connection_request(&shared_issuer())).await;
    app.insert_domains().await;
    format!("{path}/{}", text(&created.assert_status(201).body["data"]["id"]))
}

async fn activate(session: &TestClient, path: &str) -> Value {
    let activated = session.post(&format!("{path}/activate"), json!({})).await;
    activated.assert_status(200).body["data"].clone()
}

/// A session of an admin in the owner's organization.
async fn admin(app: &TestApp, owner: &TestAccount) -> TestClient {
    let ben = app.verified_account("ben@example.com").await;
    app.invite_and_accept(owner, &ben, "admin").await;
    app.session(&ben.cookie)
}

#[tokio::test]
async fn a_connection_is_returned_at_creation_and_later_and_its_secret_never() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
        let mapping = json!([{ "claim": "groups", "value": "ops", "role": "admin" },
                             { "claim": "groups", "value": "bosses", "role": "owner" }]);
        let request = with(connection_request(&shared_issuer()), "roleMapping", mapping.clone());
        let created = session.post(&path, request).await.assert_status(201);
        assert!(!created.text.contains(CLIENT_SECRET), "{}", created.text);
        let data = &created.body["data"];
        let id = text(&data["id"]);
        let callback = format!("{}api/auth/sso/callback/{id}", app.app.config.http.public_url);
        let expected = json!({
            "id": id, "kind": "oidc", "status": "inactive", "issuer": shared_issuer(),
            "clientId": "tenantry", "redirectUri": callback,
            "jit": { "enabled": false, "defaultRole": "member" }, "roleSync": false,
            "roleMapping": mapping, "sessionHours": 24, "lastError": null,
            "discoveredAt": START_TIME, "createdAt": START_TIME, "updatedAt": START_TIME,
        });
        assert_eq!(*data, expected);
        let found = session.get(&format!("{path}/{id}")).await.assert_status(200);
        assert_eq!(found.body["data"], expected);
        let listed = session.get(&path).await.assert_status(200);
        assert_eq!(listed.body["data"], json!([expected]));
        let none = session.get(&format!("{path}?q=elsewhere")).await.assert_status(200);
        assert_eq!(none.body["meta"]["total"], 0);
        let events = "select count(*) from audit_events
                      where event_type = 'sso.connection_created' and target like 'conn\\_%'
                        and actor like 'user\\_%' and detail ->> 'client_id' = 'tenantry'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_to_a_real_provider_is_created_activated_disabled_and_deleted() {
    let Some(provider) = IdentityProvider::start() else { return };
    with_settings(&[("OUTBOUND_ALLOW", &provider.allowed())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            app.insert_domains().await;
            let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
            let request = json!({
                "kind": "oidc", "issuer": provider.issuer(), "clientId": provider.client_id(),
                "clientSecret": provider.client_secret(),
                "jit": { "enabled": true, "defaultRole": "admin" }, "sessionHours": 8,
            });
            let created = session.post(&path, request).await.assert_status(201);
            let id = text(&created.body["data"]["id"]);
            let path = format!("{path}/{id}");
            assert_eq!(activate(&session, &path).await["status"], "active");
            let id = ConnectionId::parse(&id).unwrap();
            let db = &app.app.db;
            let found = db.run(async |db| sso_connections::find_by_id(db, id).await).await;
            let found = found.unwrap().unwrap();
            let jwks = format!("{}/jwks", provider.issuer());
            assert_eq!(found.metadata.jwks_uri.as_str(), jwks);
            let opened = app.app.sealing_keys.open(id.uuid(), &found.client_secret).unwrap();
            assert_eq!(opened.expose(), provider.client_secret());
            let of = found.organization;
            let active = db.run(async |db| sso_connections::find_active_of(db, of).await).await;
            assert_eq!(active.unwrap().len(), 1);
            // Twice is as good as once.
            for (operation, status) in
                [("activate", "active"), ("disable", "disabled"), ("disable", "disabled")]
            {
                let done = session.post(&format!("{path}/{operation}"), json!({})).await;
                assert_eq!(done.assert_status(200).body["data"]["status"], status);
            }
            let active = db.run(async |db| sso_connections::find_active_of(db, of).await).await;
            assert!(active.unwrap().is_empty());
            assert_eq!(activate(&session, &path).await["status"], "active");
            session.delete(&path).await.assert_status(200);
            session.delete(&path).await.assert_error(404, "NOT_FOUND");
            for (event, count) in
                [("created", 1), ("activated", 2), ("disabled", 1), ("deleted", 1)]
            {
                let sql = "select count(*) from audit_events where event_type = $1";
                let events = sqlx::query_scalar(sql).bind(format!("sso.connection_{event}"));
                let events: i64 = events.fetch_one(&mut app.connect().await).await.unwrap();
                assert_eq!(events, count, "{event}");
            }
            assert_eq!(app.count("select count(*) from sso_role_mappings").await, 0);
        })
        .await;
}

#[tokio::test]
async fn each_invalid_attribute_is_named() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
        let own = create(app, &ann).await;
        let mapping =
            |value: Value| json!([{ "claim": "groups", "value": value, "role": "admin" }]);
        let many: Vec<_> = (0..51).map(|n| mapping(json!(format!("{n}")))[0].clone()).collect();
        let cases = [
            ("kind", json!("saml"), "kind"),
            ("issuer", json!(""), "issuer"),
            ("issuer", json!("idp.example.com"), "issuer"),
            ("issuer", json!("https://idp.example.com/?a=b"), "issuer"),
            ("issuer", json!("https://login.microsoftonline.com/common/v2.0"), "issuer"),
            ("issuer", json!("https://login.microsoftonline.com/{tenantid}/v2.0"), "issuer"),
            ("clientId", json!(""), "clientId"),
            ("clientId", json!("é"), "clientId"),
            ("clientSecret", json!("a\n"), "clientSecret"),
            ("clientSecret", json!("a".repeat(1025)), "clientSecret"),
            ("jit", json!(true), "jit"),
            ("jit", json!({ "enabled": "yes" }), "jit.enabled"),
            ("jit", json!({ "defaultRole": "owner" }), "jit.defaultRole"),
            ("jit", json!({ "role": "member" }), "jit.role"),
            ("roleSync", json!("true"), "roleSync"),
            ("roleMapping", json!({}), "roleMapping"),
            ("roleMapping", json!(many), "roleMapping"),
            ("roleMapping", json!([many[0], many[0]]), "roleMapping"),
            ("roleMapping", json!(["admins"]), "roleMapping.0"),
            ("roleMapping", mapping(json!("")), "roleMapping.0.value"),
            ("roleMapping", mapping(json!(7)), "roleMapping.0.value"),
            ("roleMapping", json!([{ "claim": "a", "value": "b" }]), "roleMapping.0.role"),
            ("sessionHours", json!(0), "sessionHours"),
            ("sessionHours", json!(25), "sessionHours"),
            ("sessionHours", json!(1.5), "sessionHours"),
            ("status", json!("active"), "status"),
            ("tokenEndpoint", json!("https://idp.example.com"), "tokenEndpoint"),
        ];
        for (name, value, field) in cases {
            let what = format!("{name}: {value}");
            let request = with(connection_request(&shared_issuer()), name, value.clone());
            let rejected = session.post(&path, request).await;
            let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(rejected.invalid_fields(), [field], "{what}");
            let rejected = session.put(&own, json!({ name: value })).await;
            let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
            let field = if name == "kind" { "kind" } else { field };
            assert_eq!(rejected.invalid_fields(), [field], "{what}");
        }
        for name in ["issuer", "clientId", "clientSecret", "jit", "roleSync", "roleMapping"] {
            let null = session.put(&own, json!({ name: null })).await.assert_status(400);
            assert_eq!(null.invalid_fields(), [name]);
        }
        session.put(&own, json!({})).await.assert_error(400, "VALIDATION_ERROR");
        let none = session.post(&path, json!({})).await.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(none.invalid_fields(), ["issuer", "clientId", "clientSecret"]);
        assert_eq!(app.count("select count(*) from sso_connections").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_omitted_attributes() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (session, path) = (app.session(&ann.cookie), create(app, &ann).await);
        let before = session.get(&path).await.assert_status(200).body["data"].clone();
        let mapping = json!([{ "claim": "groups", "value": "a", "role": "admin" },
                             { "claim": "dept", "value": "b", "role": "member" }]);
        let mut expected = before;
        for (request, changes) in [
            (
                json!({ "jit": { "enabled": true } }),
                json!({ "jit": {
                "enabled": true, "defaultRole": "member" } }),
            ),
            (
                json!({ "jit": { "defaultRole": "admin" } }),
                json!({ "jit": {
                "enabled": true, "defaultRole": "admin" } }),
            ),
            (json!({ "roleSync": true }), json!({ "roleSync": true })),
            (json!({ "sessionHours": 1 }), json!({ "sessionHours": 1 })),
            (json!({ "roleMapping": mapping }), json!({ "roleMapping": mapping })),
            (json!({ "clientSecret": "another-client-secret" }), json!({})),
            (json!({ "clientId": "another" }), json!({ "clientId": "another" })),
            (json!({ "roleMapping": [] }), json!({ "roleMapping": [] })),
        ] {
            for (name, value) in changes.as_object().unwrap() {
                expected[name] = value.clone();
            }
            let updated = session.put(&path, request).await.assert_status(200);
            assert_eq!(updated.body["data"], expected);
            assert!(!updated.text.contains("client-secret"), "{}", updated.text);
        }
        app.seen_secrets.lock().unwrap().push("another-client-secret".to_owned());
        let events = "select count(*) from audit_events
                      where event_type = 'sso.connection_updated'
                        and (detail ->> 'client_secret_changed')::bool";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_provider_and_the_client_can_be_changed_only_before_the_first_activation() {
    let (one, other) = (DocumentServer::start().await, DocumentServer::start().await);
    let [first, second] = [&one, &other].map(|server| server.client_id("idp"));
    one.serve(&provider_document(&first), &[]);
    other.serve(&provider_document(&second), &[]);
    let allowed = format!("{},{}", one.allowed(), other.allowed());
    with_settings(&[("OUTBOUND_ALLOW", &allowed)])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            app.insert_domains().await;
            let session = app.session(&ann.cookie);
            let created = session.post(&connections_of(&ann), connection_request(&first)).await;
            let id = text(&created.assert_status(201).body["data"]["id"]);
            let path = format!("{}/{id}", connections_of(&ann));
            // The secret of the first provider's client must not be sent to the second one.
            let without = session.put(&path, json!({ "issuer": second })).await;
            assert_eq!(without.assert_status(400).invalid_fields(), ["clientSecret"]);
            assert!(other.requests().is_empty());
            let request = json!({ "issuer": second, "clientSecret": CLIENT_SECRET });
            let moved = session.put(&path, request).await.assert_status(200);
            assert_eq!(moved.body["data"]["issuer"], second);
            let endpoint = "select count(*) from sso_connections
                            where token_endpoint = issuer || '/token'";
            assert_eq!(app.count(endpoint).await, 1);
            activate(&session, &path).await;
            for status in ["active", "disabled"] {
                for request in [
                    json!({ "issuer": first, "clientSecret": CLIENT_SECRET }),
                    json!({ "clientId": "another" }),
                ] {
                    let rejected = session.put(&path, request).await;
                    rejected.assert_error(409, "CONFLICT");
                }
                // The same values are no change, and nothing is fetched.
                let same = json!({ "issuer": second, "clientId": "tenantry", "sessionHours": 2 });
                let fetches = other.requests().len();
                let same = session.put(&path, same).await.assert_status(200);
                assert_eq!(
                    (&same.body["data"]["status"], other.requests().len()),
                    (&json!(status), fetches)
                );
                session.post(&format!("{path}/disable"), json!({})).await.assert_status(200);
            }
            assert_eq!(one.requests().len(), 1);
        })
        .await;
}

#[tokio::test]
async fn only_an_owner_activates_disables_and_deletes_a_connection() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (admin, path) = (admin(app, &ann).await, create(app, &ann).await);
        let scopes = json!({ "name": "k", "scopes": ["sso:read", "sso:write"] });
        let keys = format!("/api/user/organizations/{}/api-keys", ann.org_id);
        let key_of_admin = admin.post(&keys, scopes.clone()).await.assert_status(201);
        let key_of_admin = app.key(&text(&key_of_admin.body["data"]["key"]));
        let named = with(scopes, "name", json!("of the owner"));
        let key_of_owner = app.key(&app.create_key(&ann, named).await.api_key);
        for client in [&admin, &key_of_admin] {
            client.put(&path, json!({ "sessionHours": 3 })).await.assert_status(200);
            for rejected in [
                client.post(&format!("{path}/activate"), json!({})).await,
                client.post(&format!("{path}/disable"), json!({})).await,
                client.delete(&path).await,
            ] {
                let rejected = rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
                assert_eq!(rejected.body["meta"]["required_role"], "owner");
            }
        }
        assert_eq!(activate(&key_of_owner, &path).await["status"], "active");
        key_of_owner.delete(&path).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn only_an_owner_changes_the_provider_the_mappings_to_owner_and_whether_roles_follow_claims()
{
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (admin, owner) = (admin(app, &ann).await, app.session(&ann.cookie));
        let owners = json!([{ "claim": "groups", "value": "bosses", "role": "owner" }]);
        let request = with(connection_request(&shared_issuer()), "roleMapping", owners.clone());
        let path = connections_of(&ann);
        let rejected = admin.post(&path, request.clone()).await;
        rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        let created = owner.post(&path, request).await.assert_status(201);
        let path = format!("{path}/{}", text(&created.body["data"]["id"]));
        // An admin keeps what an owner added.
        let more = json!([owners[0], { "claim": "groups", "value": "ops", "role": "admin" }]);
        admin.put(&path, json!({ "roleMapping": more })).await.assert_status(200);
        for request in [
            json!({ "clientId": "another" }),
            json!({ "roleMapping": [{ "claim": "groups", "value": "ops", "role": "owner" }] }),
            json!({ "roleMapping": [] }),
            json!({ "roleSync": true }),
        ] {
            let rejected = admin.put(&path, request).await;
            rejected.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        }
        owner.put(&path, json!({ "roleMapping": [] })).await.assert_status(200);
        let again = admin.put(&path, json!({ "roleMapping": owners })).await;
        again.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        owner.put(&path, json!({ "roleMapping": owners })).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_organization_has_at_most_10_connections_however_many_requests_arrive_at_once() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
        let request = connection_request(&shared_issuer());
        let creations = (0..13).map(|_| session.post(&path, request.clone()));
        let mut statuses: Vec<u16> =
            join_all(creations).await.into_iter().map(|it| it.status.as_u16()).collect();
        statuses.sort_unstable();
        let expected = [vec![201; 10], vec![409; 3]].concat();
        assert_eq!(statuses, expected);
        create(app, &ben).await;
        assert_eq!(app.count("select count(*) from sso_connections").await, 11);
    })
    .await;
}

#[tokio::test]
async fn metadata_is_always_that_of_the_issuer_however_changes_and_activations_overlap() {
    let (one, other) = (DocumentServer::start().await, DocumentServer::start().await);
    let [first, second] = [&one, &other].map(|server| server.client_id("idp"));
    one.serve(&provider_document(&first), &[]);
    other.serve(&provider_document(&second), &[]);
    let allowed = format!("{},{}", one.allowed(), other.allowed());
    with_settings(&[("OUTBOUND_ALLOW", &allowed)])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            app.insert_domains().await;
            let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
            for _ in 0..5 {
                let created = session.post(&path, connection_request(&first)).await;
                let id = text(&created.assert_status(201).body["data"]["id"]);
                let (own, move_on) = (
                    format!("{path}/{id}"),
                    json!({ "issuer": second, "clientSecret": CLIENT_SECRET }),
                );
                let activation = format!("{own}/activate");
                let (moved, activated) =
                    tokio::join!(session.put(&own, move_on), session.post(&activation, json!({})),);
                let done = [moved.status.as_u16(), activated.status.as_u16()];
                assert!(done.contains(&200), "{done:?}");
                assert!(done.iter().all(|status| [200, 409].contains(status)), "{done:?}");
            }
            let mixed = "select count(*) from sso_connections
                         where token_endpoint <> issuer || '/token'";
            assert_eq!(app.count(mixed).await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_repeated_creation_is_answered_from_the_stored_response_without_a_fetch() {
    let server = DocumentServer::start().await;
    let issuer = server.client_id("idp");
    server.serve(&provider_document(&issuer), &[]);
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let session = app.session(&ann.cookie).with("idempotency-key", "one");
            let path = connections_of(&ann);
            let first = session.post(&path, connection_request(&issuer)).await.assert_status(201);
            server.respond("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
            let again = session.post(&path, connection_request(&issuer)).await.assert_status(201);
            assert_eq!(again.body["data"], first.body["data"]);
            assert_eq!(server.requests().len(), 1);
            let other = with(connection_request(&issuer), "clientSecret", json!("another-secret"));
            let reused = session.post(&path, other).await;
            reused.assert_error(422, "IDEMPOTENCY_KEY_REUSED");
        })
        .await;
}

#[tokio::test]
async fn without_single_sign_on_no_route_for_connections_exists() {
    with_settings(&[("SSO", "off")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
            let own = format!("{path}/conn_0000000000000000000000");
            for response in [
                session.get(&path).await,
                session.post(&path, connection_request(&shared_issuer())).await,
                session.get(&own).await,
                session.put(&own, json!({ "sessionHours": 1 })).await,
                session.delete(&own).await,
                session.post(&format!("{own}/activate"), json!({})).await,
                session.post(&format!("{own}/disable"), json!({})).await,
                app.anonymous().get(&path).await,
            ] {
                response.assert_error(404, "NOT_FOUND");
            }
        })
        .await;
}

#[tokio::test]
async fn a_connection_of_a_deleted_organization_is_found_for_no_sign_in() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (session, path) = (app.session(&ann.cookie), create(app, &ann).await);
        activate(&session, &path).await;
        let id = ConnectionId::parse(path.rsplit_once('/').unwrap().1).unwrap();
        let find = async || {
            let find = app.app.db.run(async |db| sso_connections::find_by_id(db, id).await);
            find.await.unwrap()
        };
        let found = find().await.unwrap();
        let organization = path.split("/sso/").next().unwrap();
        let confirm = json!({ "confirm": ann.org_id }).to_string();
        let json = session.with("content-type", "application/json");
        json.send("DELETE", organization, confirm).await.assert_status(200);
        assert!(find().await.is_none());
        let of = found.organization;
        let active = app.app.db.run(async |db| sso_connections::find_active_of(db, of).await);
        assert!(active.await.unwrap().is_empty());
    })
    .await;
}

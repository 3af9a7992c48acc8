//! The hourly upkeep of connections: metadata is fetched again, and secrets are sealed again.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::domain::sso::upkeep::{refresh_metadata, reseal_secrets, run as run_upkeep};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::documents::{DocumentServer, http_response};
use crate::support::sso::{CLIENT_SECRET, connection_request, connections_of, provider_document};
use crate::support::{TestApp, run, with_settings};

/// An account with an active connection to the server, and the path of the connection.
async fn with_connection(app: &TestApp, issuer: &str) -> (TestAccount, String) {
    let ann = app.sign_up_account("ann@example.com").await;
    app.insert_domains().await;
    let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
    let created = session.post(&path, connection_request(issuer)).await.assert_status(201);
    let path = format!("{path}/{}", text(&created.body["data"]["id"]));
    session.post(&format!("{path}/activate"), json!({})).await.assert_status(200);
    (ann, path)
}

#[tokio::test]
async fn metadata_of_active_connections_is_fetched_hourly_and_kept_if_that_fails() {
    let server = DocumentServer::start().await;
    let issuer = server.client_id("idp");
    server.serve(&provider_document(&issuer), &[]);
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let (ann, path) = with_connection(app, &issuer).await;
            let session = app.session(&ann.cookie);
            let show = async || session.get(&path).await.assert_status(200).body["data"].clone();
            let inactive = session.post(&connections_of(&ann), connection_request(&issuer)).await;
            inactive.assert_status(201);
            let before = show().await;
            assert_eq!(refresh_metadata(&app.app).await.unwrap(), 0);
            app.clock.advance(TimeDelta::hours(1));
            server.respond(http_response(503, "", ""));
            assert_eq!(refresh_metadata(&app.app).await.unwrap(), 1);
            let mut failed = show().await;
            assert!(text(&failed["lastError"]).ends_with("(unreachable)"), "{failed}");
            failed["lastError"] = Value::Null;
            assert_eq!(failed, before);
            let kept = "select count(*) from sso_connections where jwks_uri = issuer || '/jwks'";
            assert_eq!(app.count(kept).await, 2);
            app.clock.advance(TimeDelta::hours(1));
            let mut document = provider_document(&issuer);
            document["jwks_uri"] = json!(format!("{issuer}/other-keys"));
            server.serve(&document, &[]);
            run_upkeep(&app.app).await;
            let after = show().await;
            assert_eq!(after["lastError"], Value::Null);
            assert_eq!(after["discoveredAt"], "2036-05-08T11:56:42.855Z");
            assert_eq!(after["updatedAt"], before["updatedAt"]);
            let renewed = "select count(*) from sso_connections where jwks_uri like '%/other-keys'";
            assert_eq!(app.count(renewed).await, 1);
        })
        .await;
}

#[tokio::test]
async fn several_servers_fetch_metadata_once_and_a_provider_that_fails_delays_no_other() {
    let (one, other) = (DocumentServer::start().await, DocumentServer::start().await);
    let [first, second] = [&one, &other].map(|server| server.client_id("idp"));
    one.serve(&provider_document(&first), &[]);
    other.serve(&provider_document(&second), &[]);
    let allowed = format!("{},{}", one.allowed(), other.allowed());
    with_settings(&[("OUTBOUND_ALLOW", &allowed)])
        .run(async |app| {
            let (ann, _) = with_connection(app, &first).await;
            let (session, path) = (app.session(&ann.cookie), connections_of(&ann));
            for _ in 0..9 {
                let created = session.post(&path, connection_request(&second)).await;
                let id = text(&created.assert_status(201).body["data"]["id"]);
                let activation = format!("{path}/{id}/activate");
                session.post(&activation, json!({})).await.assert_status(200);
            }
            let replica = app.replica();
            one.respond(http_response(404, "", ""));
            let before = one.requests().len() + other.requests().len();
            for clock in [&app.clock, &replica.clock] {
                clock.advance(TimeDelta::hours(1));
            }
            let (here, there) =
                tokio::join!(refresh_metadata(&app.app), refresh_metadata(&replica.app));
            assert_eq!(here.unwrap() + there.unwrap(), 10);
            assert_eq!(one.requests().len() + other.requests().len(), before + 10);
            let failed = "select count(*) from sso_connections where last_error is not null";
            assert_eq!(app.count(failed).await, 1);
            replica.close();
        })
        .await;
}

/// Two generations of sealing keys.
const ROTATED: &str = "s2:YW5vdGhlci1zZWFsaW5nLWtleS1vZi0zMi1ieXRlcyE=,\
                       s1:c2VhbGluZy1rZXktbnVtYmVyLTEtb2YtMzItYnl0ZXM=";
const FINISHED: &str = "s2:YW5vdGhlci1zZWFsaW5nLWtleS1vZi0zMi1ieXRlcyE=";

#[tokio::test]
async fn a_rotation_of_the_sealing_keys_finishes_by_itself() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let [first, second] =
            [app.insert_connection(&ann).await, app.insert_connection(&ann).await];
        let of_key = "select count(*) from sso_connections where sealing_key_id = 's2'";
        assert_eq!(reseal_secrets(&app.app).await.unwrap(), 0);
        let rotated = app.replica_with(&[("SEALING_KEYS", ROTATED)]);
        // A change seals again with the newest key, also without a new secret.
        let path = format!("{}/{first}", connections_of(&ann));
        let session = rotated.session(&ann.cookie);
        session.put(&path, json!({ "sessionHours": 1 })).await.assert_status(200);
        assert_eq!(app.count(of_key).await, 1);
        assert_eq!(reseal_secrets(&rotated.app).await.unwrap(), 1);
        assert_eq!(app.count(of_key).await, 2);
        let finished = app.replica_with(&[("SEALING_KEYS", FINISHED)]);
        for id in [first, second] {
            let id = tenantry::model::ids::ConnectionId::parse(&id).unwrap();
            let find = async |db: &mut _| tenantry::repo::sso_connections::find_by_id(db, id).await;
            let found = app.app.db.run(find).await.unwrap().unwrap();
            let opened = finished.app.sealing_keys.open(id.uuid(), &found.client_secret).unwrap();
            assert_eq!(opened.expose(), CLIENT_SECRET);
            // A server that does not know the newest key leaves the secret as it is.
            assert!(app.app.sealing_keys.open(id.uuid(), &found.client_secret).is_err());
        }
        assert_eq!(reseal_secrets(&app.app).await.unwrap(), 0);
        assert_eq!(app.count(of_key).await, 2);
        app.seen_secrets.lock().unwrap().push(CLIENT_SECRET.to_owned());
        rotated.close();
        finished.close();
    })
    .await;
}

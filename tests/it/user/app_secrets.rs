//! `/api/user/organizations/{organizationId}/apps/{id}/secrets`

use futures_util::future::join_all;
use serde_json::json;

use crate::support::app::text;
use crate::support::apps::apps_of;
use crate::support::run;

#[tokio::test]
async fn a_secret_is_replaced_by_a_second_one_and_a_third_is_a_conflict() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let created = app.create_app(&ann, "Reports").await;
        let path = format!("{}/{}", apps_of(&ann), text(&created["id"]));
        let (session, secrets) = (app.session(&ann.cookie), format!("{path}/secrets"));
        let second = session.post(&secrets, json!({ "expiresIn": 3600 })).await.assert_status(201);
        let second = &second.body["data"];
        let secret = text(&second["clientSecret"]);
        assert!(secret.starts_with(&text(&second["start"])), "{second}");
        assert_eq!(second["expiresAt"], "2036-05-08T10:56:42.855Z");
        assert_ne!(second["clientSecret"], created["clientSecret"]);
        session.post(&secrets, json!({})).await.assert_error(409, "CONFLICT");
        let first = text(&created["secrets"][0]["id"]);
        session.delete(&format!("{secrets}/{first}")).await.assert_status(200);
        let deleted = session.delete(&format!("{secrets}/{first}")).await;
        deleted.assert_error(404, "NOT_FOUND");
        let listed = session.get(&path).await.assert_status(200).body["data"]["secrets"].clone();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["id"], second["id"]);
        // An expired secret does not count.
        session.post(&secrets, json!({})).await.assert_status(201);
        app.execute("update oauth_client_secrets set expires_at = now() where expires_at > now()")
            .await;
        session.post(&secrets, json!({})).await.assert_status(201);
        let events = "select count(*) from audit_events
                      where event_type in ('app.secret_created', 'app.secret_deleted')
                        and detail ->> 'secret_id' like 'secret\\_%'";
        assert_eq!(app.count(events).await, 4);
    })
    .await;
}

#[tokio::test]
async fn only_one_of_eight_concurrent_requests_for_a_second_secret_succeeds() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let created = app.create_app(&ann, "Reports").await;
        let secrets = format!("{}/{}/secrets", apps_of(&ann), text(&created["id"]));
        let session = app.session(&ann.cookie);
        let responses = join_all((0..8).map(|_| session.post(&secrets, json!({})))).await;
        let created = responses.iter().filter(|it| it.status == 201).count();
        assert_eq!(created, 1);
        assert!(responses.iter().all(|it| [201, 409, 429, 503].contains(&it.status.as_u16())));
        assert_eq!(app.count("select count(*) from oauth_client_secrets").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_secret_cannot_be_deleted_by_the_path_of_another_app() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (one, other) = (app.create_app(&ann, "one").await, app.create_app(&ann, "two").await);
        let secret = text(&one["secrets"][0]["id"]);
        let path = format!("{}/{}/secrets/{secret}", apps_of(&ann), text(&other["id"]));
        app.session(&ann.cookie).delete(&path).await.assert_error(404, "NOT_FOUND");
        assert_eq!(app.count("select count(*) from oauth_client_secrets").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_replayed_response_has_no_secret_and_an_invalid_lifetime_is_rejected() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let created = app.create_app(&ann, "Reports").await;
        let secrets = format!("{}/{}/secrets", apps_of(&ann), text(&created["id"]));
        let session = app.session(&ann.cookie).with("idempotency-key", "one");
        for wrong in [json!(59), json!(315_360_001), json!("3600"), json!(-1)] {
            let rejected = session.post(&secrets, json!({ "expiresIn": wrong })).await;
            assert_eq!(rejected.assert_status(400).invalid_fields(), ["expiresIn"]);
        }
        let first = session.post(&secrets, json!({})).await.assert_status(201);
        let again = session.post(&secrets, json!({})).await.assert_status(201);
        assert_eq!(again.body["data"]["id"], first.body["data"]["id"]);
        assert!(again.body["data"].get("clientSecret").is_none());
        assert_eq!(app.count("select count(*) from oauth_client_secrets").await, 2);
    })
    .await;
}

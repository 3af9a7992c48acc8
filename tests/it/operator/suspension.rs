//! `POST /v1/admin/org/{id}/suspend` and `/reactivate`

use serde_json::json;

use super::send_confirmed;
use crate::support::app::text;
use crate::support::run;

#[tokio::test]
async fn a_suspended_organization_s_credentials_get_a_403_and_work_after_its_reactivation() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "ci", "scopes": ["*"] })).await;
        let (access, refresh) = app.exchange(&key.api_key).await;
        let pinned = json!({ "name": "t", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
        let organization = format!("/api/user/organizations/{}", ann.org_id);
        let of_person = [app.session(&ann.cookie), app.bearer(&ann.token), app.key(&pinned)];
        let of_key = [app.key(&key.api_key), app.bearer(&access)];
        let for_keys = ["/me", "/v1/organization/me", organization.as_str()];
        let for_people = ["/me", organization.as_str()];
        let callers = of_key.iter().map(|it| (it, &for_keys[..]));
        let callers: Vec<_> =
            callers.chain(of_person.iter().map(|it| (it, &for_people[..]))).collect();
        let suspended = send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "suspend", "evt_1").await;
        let suspended = suspended.assert_status(200);
        assert_eq!(suspended.body["suspended"], true);
        for (client, routes) in &callers {
            for path in *routes {
                let is_user_api = path.starts_with("/api");
                let code =
                    if is_user_api { "ORGANIZATION_SUSPENDED" } else { "organization_suspended" };
                client.get(path).await.assert_error(403, code);
            }
        }
        let own = app.key(&key.api_key).get("/v1/admin/audit-log").await.assert_status(403);
        assert_eq!(own.body["error"]["code"], "FORBIDDEN");
        let exchange = json!({ "api_key": key.api_key });
        let exchange = app.anonymous().post("/auth/token-exchange", exchange).await;
        exchange.assert_error(403, "organization_suspended");
        let refreshing = json!({ "refresh_token": refresh });
        let refreshed = app.anonymous().post("/auth/refresh", refreshing.clone()).await;
        refreshed.assert_error(403, "organization_suspended");
        let regenerate = app.bearer(&ann.token).post("/auth/api-key/regenerate", json!({})).await;
        regenerate.assert_error(403, "AUTHORIZATION_ERROR");
        // Requests about the account itself still work.
        app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
        app.bearer(&ann.token).get("/auth/me").await.assert_status(200);
        let listed =
            app.session(&ann.cookie).get("/api/user/organizations").await.assert_status(200);
        assert_eq!(listed.body["data"][0]["status"], "suspended");

        let active = send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "reactivate", "evt_2").await;
        assert_eq!(active.assert_status(200).body["reactivated"], true);
        for (client, routes) in &callers {
            for path in *routes {
                client.get(path).await.assert_status(200);
            }
        }
        app.anonymous().post("/auth/refresh", refreshing).await.assert_status(200);
        let reactivated = app.session(&ann.cookie).get(&organization).await.assert_status(200);
        assert_eq!(reactivated.body["data"]["status"], "active");
    })
    .await;
}

#[tokio::test]
async fn an_account_continues_to_work_in_its_other_organizations() {
    run(async |app| {
        let (ann, ben) = (
            app.verified_account("ann@example.com").await,
            app.verified_account("ben@example.com").await,
        );
        app.invite_and_accept(&ann, &ben, "member").await;
        send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "suspend", "evt_1")
            .await
            .assert_status(200);
        let session = app.session(&ben.cookie);
        let there = format!("/api/user/organizations/{}", ann.org_id);
        session.get(&there).await.assert_error(403, "ORGANIZATION_SUSPENDED");
        session.get(&format!("/api/user/organizations/{}", ben.org_id)).await.assert_status(200);
        session.get("/me").await.assert_status(200);
    })
    .await;
}

/// A suspended organization gets no new members, and no credential that acts in it.
#[tokio::test]
async fn no_account_joins_a_suspended_organization_and_no_token_is_pinned_to_it() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let request = json!({ "email": ben.email, "role": "member" });
        let session = app.session(&ann.cookie);
        session.post(&format!("{path}/invites"), request).await.assert_status(201);
        let accept = format!("/api/user/invites/{}/accept", app.mailed_token().await);
        send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "suspend", "evt_1")
            .await
            .assert_status(200);

        let joining = app.session(&ben.cookie);
        joining.post(&accept, json!({})).await.assert_error(403, "ORGANIZATION_SUSPENDED");
        // The suspension is not revealed to an account that was not invited.
        let not_invited = app.session(&cleo.cookie).post(&accept, json!({})).await;
        not_invited.assert_error(403, "FORBIDDEN");
        let pinned = json!({
            "name": "ci", "scopes": ["*"], "metadata": { "organizationId": ann.org_id },
        });
        let create = "/api/auth/api-key/create";
        session.post(create, pinned.clone()).await.assert_error(403, "ORGANIZATION_SUSPENDED");
        joining.post(create, pinned.clone()).await.assert_error(403, "FORBIDDEN");
        assert_eq!(app.count("select count(*) from personal_tokens").await, 0);

        send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "reactivate", "evt_2")
            .await
            .assert_status(200);
        joining.post(&accept, json!({})).await.assert_status(200);
        session.post(create, pinned).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn the_status_of_an_organization_is_not_revealed_to_outsiders() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up_account("eve@example.com").await);
        let there = format!("/api/user/organizations/{}", acme.org_id);
        let before = app.session(&other.cookie).get(&there).await.assert_error(403, "FORBIDDEN");
        send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "suspend", "evt_1")
            .await
            .assert_status(200);
        let after = app.session(&other.cookie).get(&there).await.assert_error(403, "FORBIDDEN");
        assert_eq!(after.text, before.text);
        // A revoked key is reported as invalid, not as suspended.
        let revoked = app.sign_up().await;
        send_confirmed(app, "ORG_FORCE_REVOKE", &revoked.org_id, "force-revoke", "evt_2")
            .await
            .assert_status(200);
        send_confirmed(app, "ORG_SUSPEND", &revoked.org_id, "suspend", "evt_3")
            .await
            .assert_status(200);
        app.key(&revoked.api_key).get("/me").await.assert_error(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn a_repeated_suspension_or_reactivation_changes_nothing_and_leaves_no_audit_event() {
    run(async |app| {
        let acme = app.sign_up().await;
        let first = send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "suspend", "evt_1").await;
        let since = text(&first.assert_status(200).body["suspended_at"]);
        app.clock.advance(chrono::TimeDelta::hours(1));
        let second = send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "suspend", "evt_2").await;
        let second = second.assert_status(200);
        assert_eq!(second.header("idempotent-replayed"), "");
        assert_eq!(text(&second.body["suspended_at"]), since);
        for name in ["evt_3", "evt_4"] {
            send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "reactivate", name)
                .await
                .assert_status(200);
        }
        let rows = "select count(*) from audit_events
                    where event_type in ('organization.suspended', 'organization.reactivated')
                      and actor = 'master:ORG_SUSPEND'";
        assert_eq!(app.count(rows).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_suspension_applies_on_every_server_when_its_response_arrives() {
    run(async |app| {
        let acme = app.sign_up().await;
        let replica = app.replica();
        for round in 0..10 {
            let suspend_key = format!("suspend {round}");
            let reactivate_key = format!("reactivate {round}");
            send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "suspend", &suspend_key)
                .await
                .assert_status(200);
            let rejected = replica.key(&acme.api_key).get("/me").await;
            rejected.assert_error(403, "organization_suspended");
            send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "reactivate", &reactivate_key)
                .await
                .assert_status(200);
            replica.key(&acme.api_key).get("/me").await.assert_status(200);
        }
        replica.app.meter.flush().await.unwrap();
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn an_account_cannot_be_deleted_while_its_organization_is_suspended() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "suspend", "evt_1")
            .await
            .assert_status(200);
        let client = app.session(&ann.cookie).with("content-type", "application/json");
        let password = json!({ "password": crate::support::accounts::PASSWORD }).to_string();
        let rejected = client.send("DELETE", "/api/user/me", password.clone()).await;
        rejected.assert_error(403, "ORGANIZATION_SUSPENDED");
        send_confirmed(app, "ORG_SUSPEND", &ann.org_id, "reactivate", "evt_2")
            .await
            .assert_status(200);
        client.send("DELETE", "/api/user/me", password).await.assert_status(200);
        let events = "select count(*) from audit_events where event_type = 'organization.deleted'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

//! Calls of the functions of `repo` for apps, their secrets, grants and policies.

use chrono::Utc;
use sqlx::PgConnection;
use tenantry::error::Result;
use tenantry::model::ids::{AppId, AppSecretId};
use tenantry::model::names::AppName;
use tenantry::model::oauth::app::{AppChanges, AppScope, AppSpec, NewApp, NewAppSecret};
use tenantry::model::oauth::app_grant::GrantFilter;
use tenantry::model::oauth::app_policy::AppPolicy;
use tenantry::model::oauth::redirect_uri::RedirectUri;
use tenantry::model::oauth::{
    AppPolicyMode, ApplicationType, ClientAuthMethod, IdTokenAlgorithm, RequestableScopes,
};
use tenantry::model::secret::Digest;
use tenantry::repo::{app_grants, app_policies, oauth_app_secrets, oauth_apps};
use uuid::Uuid;

use super::{Tenant, tenant};
use crate::support::run;

/// Returns whether a function for grants or policies finds anything.
pub async fn affects_grants(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    Ok(match statement {
        "app_grants::exists" => app_grants::exists(tx, organization, it.grant).await?,
        "app_grants::list" => {
            let filter = GrantFilter::default();
            app_grants::list(tx, organization, &filter, None, (0, 100)).await?.1 > 0
        }
        "app_grants::revoke" => {
            app_grants::revoke(tx, organization, it.grant, now).await?.is_some()
        }
        "app_grants::revoke_forbidden" => {
            !app_grants::revoke_forbidden(tx, organization, now).await?.is_empty()
        }
        "app_grants::revoke_of_client" => {
            let client = it.app.to_string();
            !app_grants::revoke_of_client(tx, organization, &client, now).await?.is_empty()
        }
        "app_policies::find" => app_policies::find(tx, organization).await? != AppPolicy::OPEN,
        "app_policies::replace_rules" => {
            app_policies::replace_rules(tx, organization, &[], it.owner, now).await?;
            false
        }
        "app_policies::set_mode" => {
            app_policies::set_mode(tx, organization, AppPolicyMode::Open, now).await?;
            false
        }
        other => panic!("no statement {other}"),
    })
}

/// Returns whether a function for apps or their secrets finds anything.
pub async fn affects_apps(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    Ok(match statement {
        "oauth_app_secrets::count" => oauth_app_secrets::count(tx, organization, it.app).await? > 0,
        "oauth_app_secrets::delete" => {
            oauth_app_secrets::delete(tx, organization, it.app, it.app_secret).await?.is_some()
        }
        "oauth_app_secrets::delete_all" => {
            oauth_app_secrets::delete_all(tx, organization, it.app).await?;
            false
        }
        "oauth_app_secrets::list" => {
            !oauth_app_secrets::list(tx, organization, &[it.app]).await?.is_empty()
        }
        "oauth_apps::count" => oauth_apps::count(tx, organization).await? > 0,
        "oauth_apps::delete" => oauth_apps::delete(tx, organization, it.app).await?,
        "oauth_apps::find" => oauth_apps::find(tx, organization, it.app).await?.is_some(),
        "oauth_apps::list" => oauth_apps::list(tx, organization, None, (0, 100)).await?.1 > 0,
        "oauth_apps::lock" => {
            oauth_apps::lock(tx, organization, it.app).await?;
            false
        }
        "oauth_apps::update" => {
            let changes = AppChanges { client_uri: Some(None), ..AppChanges::default() };
            oauth_apps::update(tx, organization, it.app, (&changes, None), now).await?
        }
        other => {
            insert(tx, other, it).await?;
            false
        }
    })
}

async fn insert(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<()> {
    let (organization, id) = (it.organization, Uuid::from_u128(7));
    match statement {
        "oauth_app_secrets::insert" => {
            let secret = NewAppSecret {
                id: AppSecretId::from_uuid(id),
                app: it.app,
                organization,
                digest: Digest::new([7; 32]),
                pepper_id: "p1",
                display_id: "00000000",
                created_at: Utc::now(),
                expires_at: None,
            };
            oauth_app_secrets::insert(tx, &secret).await
        }
        "oauth_apps::insert" => {
            let (uri, web) = ("https://app.example.com/cb", ApplicationType::Web);
            let requestable = RequestableScopes::with_operators(&[]);
            let spec = AppSpec {
                name: AppName::parse("new").unwrap(),
                client_uri: None,
                redirect_uris: vec![RedirectUri::parse(uri, web).unwrap()],
                application_type: web,
                auth_method: ClientAuthMethod::None,
                keys: None,
                id_token_algorithm: IdTokenAlgorithm::Rs256,
                scopes: vec![AppScope::parse("projects:read", &requestable).unwrap()],
            };
            let app = NewApp {
                id: AppId::from_uuid(id),
                organization,
                spec: &spec,
                created_by: it.owner,
                created_at: Utc::now(),
            };
            oauth_apps::insert(tx, &app).await
        }
        other => panic!("no statement {other}"),
    }
}

/// The client of another organization is visible where it is used, but not its secrets.
#[tokio::test]
async fn the_client_of_another_organization_can_be_read_where_it_is_used_and_never_changed() {
    run(async |app| {
        let acme = tenant(app, "ann@example.com", "ben@example.com").await;
        let other = tenant(app, "dora@example.com", "emil@example.com").await;
        let used = "insert into organization_app_rules (organization_id, client_id, rule,
                                                        created_by, created_at)
                    select $1, $2, 'blocked', $3, now()";
        sqlx::query(used)
            .bind(other.organization.0)
            .bind(acme.app.uuid())
            .bind(other.owner.0)
            .execute(&mut app.connect().await)
            .await
            .unwrap();
        for (sql, expected) in [
            ("select from oauth_clients where id = $1", 1),
            ("select from oauth_client_secrets where client_id = $1", 0),
            ("select from oauth_clients where id = $1 for update", 0),
            ("update oauth_clients set organization_id = tenant_organization() where id = $1", 0),
            ("delete from oauth_clients where id = $1", 0),
        ] {
            let run = async |tx: &mut PgConnection| {
                Ok(sqlx::query(sql).bind(acme.app.uuid()).execute(tx).await?.rows_affected())
            };
            let rows = app.app.db.tenant_transaction(other.organization, run).await.unwrap();
            assert_eq!(rows, expected, "{sql}");
        }
    })
    .await;
}

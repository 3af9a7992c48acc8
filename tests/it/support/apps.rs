//! Apps of organizations, and grants to them.

use serde_json::{Value, json};

use super::TestApp;
use super::accounts::TestAccount;
use super::app::text;

/// The attributes of a web app.
pub fn app_request(name: &str) -> Value {
    json!({
        "name": name,
        "redirectUris": ["https://reports.example.com/callback"],
        "scopes": ["projects:read", "projects:write", "offline_access"],
    })
}

/// The path of the apps of an account's home organization.
pub fn apps_of(account: &TestAccount) -> String {
    format!("/api/user/organizations/{}/apps", account.org_id)
}

impl TestApp {
    /// Registers a web app in an account's home organization; returns its data.
    pub async fn create_app(&self, account: &TestAccount, name: &str) -> Value {
        let session = self.session(&account.cookie);
        let created = session.post(&apps_of(account), app_request(name)).await;
        created.assert_status(201).body["data"].clone()
    }

    /// Inserts a grant of an account to an app, in an organization of the account or about the
    /// account alone; returns the grant's id.
    pub async fn insert_grant(
        &self,
        (account, organization): (&TestAccount, Option<&str>),
        client_id: &str,
        scopes: &[&str],
    ) -> String {
        let sql = "insert into oauth_grants (id, account_id, client_id, organization_id, user_id,
                                             scopes, resources, created_at, updated_at)
                   select gen_random_uuid(), a.id, c.id, o.id, u.id, $4, '{}', now(), now()
                   from accounts a
                   join oauth_clients c on c.client_id = $2
                   left join organizations o on o.handle = $3
                   left join users u on u.organization_id = o.id and u.account_id = a.id
                                    and u.removed_at is null
                   where a.email = $1 returning id";
        let scopes: Vec<String> = scopes.iter().map(|it| (*it).to_owned()).collect();
        let mut db = self.connect().await;
        let insert = sqlx::query_scalar(sql).bind(&account.email).bind(client_id);
        let id = insert.bind(organization).bind(scopes).fetch_one(&mut db).await.expect("a grant");
        tenantry::model::ids::GrantId::from_uuid(id).to_string()
    }

    /// The id of the first secret of an app.
    pub async fn first_secret(&self, account: &TestAccount, id: &str) -> String {
        let path = format!("{}/{id}", apps_of(account));
        let found = self.session(&account.cookie).get(&path).await.assert_status(200);
        text(&found.body["data"]["secrets"][0]["id"])
    }
}

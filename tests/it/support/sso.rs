//! Connections to identity providers, and a provider that publishes nothing but its metadata.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::OnceLock;

use chrono::Utc;
use serde_json::{Value, json};
use tenantry::model::ids::{ConnectionId, MembershipId, OrganizationId};
use tenantry::model::outbound::AllowedHosts;
use tenantry::model::role::Role;
use tenantry::model::secret::Secret;
use tenantry::model::sso::client::ProviderClientId;
use tenantry::model::sso::connection::{JitSettings, RoleMapping};
use tenantry::model::sso::issuer::Issuer;
use tenantry::model::sso::provider_metadata::parse_metadata;
use tenantry::model::sso::settings::{ConnectionSpec, NewConnection};
use tenantry::repo::sso_connections;
use uuid::Uuid;

use super::TestApp;
use super::accounts::TestAccount;
use super::documents::{JSON, http_response};

/// The client secret of connections in tests.
pub const CLIENT_SECRET: &str = "a-client-secret-of-the-tests";

/// The metadata of a provider with this issuer.
pub fn provider_document(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
    })
}

/// The request that creates a connection to a provider.
pub fn connection_request(issuer: &str) -> Value {
    json!({ "issuer": issuer, "clientId": "tenantry", "clientSecret": CLIENT_SECRET })
}

/// The path of the connections of an account's home organization.
pub fn connections_of(account: &TestAccount) -> String {
    format!("/api/user/organizations/{}/sso/connections", account.org_id)
}

/// The host and port of a provider that publishes its metadata for all tests of this process:
/// the default of `OUTBOUND_ALLOW` in tests.
pub fn shared_provider() -> String {
    static HOST: OnceLock<String> = OnceLock::new();
    let start = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let host = listener.local_addr().expect("an address").to_string();
        let document = provider_document(&format!("http://{host}")).to_string();
        let response = http_response(200, JSON, &document);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        _ => break,
                    }
                }
                let _ = stream.write_all(response.as_bytes());
            }
        });
        host
    };
    HOST.get_or_init(start).clone()
}

/// The issuer of [`shared_provider`].
pub fn shared_issuer() -> String {
    format!("http://{}", shared_provider())
}

impl TestApp {
    /// Inserts a verified domain for every organization without one.
    pub async fn insert_domains(&self) {
        let insert = "insert into sso_domains (id, organization_id, domain, token, created_by,
                                               created_at, verified_at, next_check_at)
                      select gen_random_uuid(), o.id, md5(o.handle) || '.example', 'token', u.id,
                             now(), now(), now()
                      from organizations o
                      join lateral (select id from users u where u.organization_id = o.id
                                    limit 1) u on true
                      on conflict do nothing";
        self.execute(insert).await;
    }

    /// Inserts an inactive connection of an account's home organization to a provider that does not
    /// exist, with a role mapping; returns its id.
    pub async fn insert_connection(&self, account: &TestAccount) -> String {
        let issuer = "https://idp.example.com";
        let ids = "select o.id, u.id from organizations o join users u on u.organization_id = o.id
                   join accounts a on a.id = u.account_id where o.handle = $1 and a.email = $2";
        let (organization, membership): (Uuid, Uuid) = sqlx::query_as(ids)
            .bind(&account.org_id)
            .bind(&account.email)
            .fetch_one(&mut self.connect().await)
            .await
            .expect("a membership");
        let id = ConnectionId::new(Utc::now(), &*self.app.entropy);
        let document = provider_document(issuer).to_string();
        let hosts = AllowedHosts::default();
        let secret = || Secret::new(CLIENT_SECRET.to_owned());
        let (claim, value) = ("groups".to_owned(), "admins".to_owned());
        let new = NewConnection {
            id,
            organization: OrganizationId(organization),
            spec: &ConnectionSpec {
                issuer: Issuer::parse(issuer, &hosts).expect("an issuer"),
                client_id: ProviderClientId::parse("tenantry").expect("an id"),
                client_secret: secret(),
                jit: JitSettings {
                    is_enabled: true,
                    default_role: Role::Member,
                    syncs_role: false,
                },
                role_mapping: vec![RoleMapping { claim, value, role: Role::Admin }],
                session_hours: 24,
            },
            client_secret: &self.app.sealing_keys.seal(id.uuid(), &secret()).expect("a secret"),
            metadata: &parse_metadata(issuer, document.as_bytes(), &hosts).expect("metadata"),
            created_by: MembershipId(membership),
            created_at: self.app.clock.now(),
        };
        let insert = self.app.db.run(async |db| sso_connections::insert(db, &new).await);
        insert.await.expect("a connection");
        id.to_string()
    }
}

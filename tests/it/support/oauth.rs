//! OAuth clients, and browsers in which people answer their requests.

use std::collections::HashMap;

use axum::http::header::SET_COOKIE;
use serde_json::{Value, json};
use tenantry::model::key_format::KeyFormat;
use uuid::Uuid;

use super::TestApp;
use super::accounts::TestAccount;
use super::client::TestResponse;

/// The redirect URI of test clients.
pub const REDIRECT_URI: &str = "https://app.example.com/callback";
/// The challenge of RFC 7636, appendix B.
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Its verifier.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The issuer of test servers.
pub const ISSUER: &str = "http://127.0.0.1:8080";

/// The attributes of a client to insert.
pub struct OauthClientSpec {
    /// Its name.
    pub name: &'static str,
    /// Its redirect URIs.
    pub redirect_uris: &'static [&'static str],
    /// How it authenticates.
    pub auth_method: &'static str,
    /// `web` or `native`.
    pub application_type: &'static str,
    /// Its scopes.
    pub scopes: &'static [&'static str],
    /// `public` or `private`.
    pub visibility: &'static str,
}

impl Default for OauthClientSpec {
    fn default() -> Self {
        Self {
            name: "Planner",
            redirect_uris: &[REDIRECT_URI],
            auth_method: "client_secret_basic",
            application_type: "web",
            scopes: &["projects:read", "projects:write", "user:read", "offline_access"],
            visibility: "public",
        }
    }
}

impl OauthClientSpec {
    /// Inserts a client of the organization with this id.
    pub async fn insert(&self, app: &TestApp, org_id: &str) -> OauthClient {
        let number: Uuid = sqlx::query_scalar("select gen_random_uuid()")
            .fetch_one(&mut app.connect().await)
            .await
            .expect("an id");
        let client_id = format!("app_{}", number.simple());
        let sql = "insert into oauth_clients (id, client_id, organization_id, kind, name,
                       redirect_uris, application_type, auth_method, scopes, visibility,
                       created_at, updated_at)
                   select $1, $2, id, 'registered', $4, $5, $9, $6, $7, $8, now(), now()
                   from organizations where handle = $3";
        let inserted = sqlx::query(sql)
            .bind(number)
            .bind(&client_id)
            .bind(org_id)
            .bind(self.name)
            .bind(self.redirect_uris)
            .bind(self.auth_method)
            .bind(self.scopes)
            .bind(self.visibility)
            .bind(self.application_type)
            .execute(&mut app.connect().await)
            .await;
        assert_eq!(inserted.expect("a client").rows_affected(), 1);
        OauthClient { client_id, redirect_uri: self.redirect_uris[0] }
    }
}

/// A client.
#[derive(Clone)]
pub struct OauthClient {
    /// Its public id.
    pub client_id: String,
    /// The redirect URI of its requests.
    pub redirect_uri: &'static str,
}

impl OauthClient {
    /// The query of a valid request for `projects:read`, with other values of these parameters. An
    /// empty value removes a parameter.
    pub fn query(&self, changes: &[(&str, &str)]) -> String {
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", self.client_id.as_str()),
            ("redirect_uri", self.redirect_uri),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("scope", "projects:read"),
            ("state", "abc"),
        ];
        for (name, value) in changes {
            parameters.retain(|(other, _)| other != name);
            if !value.is_empty() {
                parameters.push((name, value));
            }
        }
        form(&parameters)
    }

    /// The path of a request.
    pub fn path(&self, changes: &[(&str, &str)]) -> String {
        format!("/oauth2/authorize?{}", self.query(changes))
    }
}

/// Inserts a grant of an organization's owner to a client, and its refresh token; returns the
/// token.
pub async fn insert_refresh_token(app: &TestApp, client: &OauthClient, org_id: &str) -> String {
    let token = KeyFormat::oauth_refresh_token().generate(&*app.app.entropy).expose().to_owned();
    let (digest, pepper_id) = app.app.peppers.digest(&token);
    let sql = "with granted as (
                   insert into oauth_grants (id, account_id, client_id, organization_id, user_id,
                       scopes, resources, created_at, updated_at)
                   select gen_random_uuid(), u.account_id, c.id, o.id, u.id, '{projects:read}',
                          array[$1], now(), now()
                   from organizations o
                   join users u on u.organization_id = o.id and u.role = 'owner'
                   join oauth_clients c on c.client_id = $2
                   where o.handle = $3 returning id, account_id, resources
               )
               insert into oauth_refresh_tokens (id, digest, account_id, grant_id, code, generation,
                   salt, pepper_id, scopes, resources, created_at, expires_at, absolute_at)
               select gen_random_uuid(), $4, account_id, id, $4, 0, $4, $5, '{projects:read}',
                      resources, now(), now() + interval '1 day', now() + interval '1 day'
               from granted";
    let inserted = sqlx::query(sql)
        .bind(ISSUER)
        .bind(&client.client_id)
        .bind(org_id)
        .bind(digest.bytes().as_slice())
        .bind(pepper_id)
        .execute(&mut app.connect().await)
        .await;
    assert_eq!(inserted.expect("a token").rows_affected(), 1);
    app.seen_secrets.lock().expect("no panic").push(token.clone());
    token
}

/// Inserts an access token of the client's first grant, with the scopes of `OpenID` Connect;
/// returns the token.
pub async fn insert_openid_token(app: &TestApp, client: &OauthClient) -> String {
    let token = KeyFormat::oauth_token().generate(&*app.app.entropy).expose().to_owned();
    let sql =
        "insert into oauth_access_tokens (id, digest, account_id, grant_id, scopes, resources,
                   created_at, expires_at)
               select gen_random_uuid(), $1, g.account_id, g.id, '{openid,profile,email}',
                      g.resources, now(), now() + interval '1 day'
               from oauth_grants g join oauth_clients c on c.id = g.client_id
               where c.client_id = $2 order by g.created_at limit 1";
    let inserted = sqlx::query(sql)
        .bind(app.app.peppers.digest(&token).0.bytes().as_slice())
        .bind(&client.client_id)
        .execute(&mut app.connect().await)
        .await;
    assert_eq!(inserted.expect("a token").rows_affected(), 1);
    app.seen_secrets.lock().expect("no panic").push(token.clone());
    token
}

/// Inserts an app of an account's home organization, the account's grant to it in an organization,
/// and an access token with these scopes; returns the token.
pub async fn insert_access_token(
    app: &TestApp,
    person: &TestAccount,
    org_id: &str,
    scopes: &[&str],
) -> String {
    let client = OauthClientSpec::default();
    let client = OauthClientSpec { name: "Of a token", ..client }.insert(app, &person.org_id).await;
    app.insert_grant((person, Some(org_id)), &client.client_id, scopes).await;
    let token = insert_openid_token(app, &client).await;
    let sql = "update oauth_access_tokens t set scopes = g.scopes, resources = array[$2]
               from oauth_grants g where g.id = t.grant_id and t.digest = $1";
    let updated = sqlx::query(sql)
        .bind(app.app.peppers.digest(&token).0.bytes().as_slice())
        .bind(ISSUER)
        .execute(&mut app.connect().await)
        .await;
    assert_eq!(updated.expect("a token").rows_affected(), 1);
    token
}

/// A form with these parameters.
pub fn form(parameters: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters);
    form.finish()
}

/// A browser: its session, and the cookie that identifies it.
#[derive(Clone)]
pub struct Browser<'a> {
    app: &'a TestApp,
    session: Option<String>,
    id: Option<String>,
}

impl<'a> Browser<'a> {
    /// A browser in which no one is signed in.
    pub fn new(app: &'a TestApp) -> Self {
        Self { app, session: None, id: None }
    }

    /// A browser with the cookie of a session.
    pub fn signed_in(app: &'a TestApp, session: &str) -> Self {
        Self { session: Some(session.to_owned()), ..Self::new(app) }
    }

    /// The same browser with another session.
    pub fn with_session(&self, session: &str) -> Self {
        Self { session: Some(session.to_owned()), ..self.clone() }
    }

    /// The same browser, whose requests another server receives.
    pub fn on<'b>(&self, app: &'b TestApp) -> Browser<'b> {
        Browser { app, session: self.session.clone(), id: self.id.clone() }
    }

    /// The server that receives its requests.
    pub fn app(&self) -> &'a TestApp {
        self.app
    }

    /// The value of the cookie that identifies it.
    pub fn id(&self) -> &str {
        self.id.as_deref().expect("a cookie")
    }

    fn client(&self) -> super::client::TestClient {
        let client = match &self.session {
            Some(session) => self.app.session(session),
            None => self.app.anonymous(),
        };
        match &self.id {
            Some(id) => client.with("cookie", &format!("tenantry_browser={id}")),
            None => client,
        }
    }

    /// `GET path`
    pub async fn get(&mut self, path: &str) -> TestResponse {
        let response = self.client().get(path).await;
        self.store_cookie(&response);
        response
    }

    /// `POST path` with JSON
    pub async fn post(&mut self, path: &str, body: Value) -> TestResponse {
        let response = self.client().post(path, body).await;
        self.store_cookie(&response);
        response
    }

    /// `POST path` with a form, as another site does it: without the cookies.
    pub async fn post_from_another_site(&mut self, path: &str, form: &str) -> TestResponse {
        let anonymous = self.app.anonymous().with("origin", "https://app.example.com");
        let response = anonymous.with("sec-fetch-site", "cross-site").post_form(path, form).await;
        self.store_cookie(&response);
        response
    }

    fn store_cookie(&mut self, response: &TestResponse) {
        for cookie in response.headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("ASCII");
            if let Some(value) = cookie.strip_prefix("tenantry_browser=") {
                self.id = value.split(';').next().map(str::to_owned);
            }
        }
    }

    /// Begins a request that leads to the consent page; returns its handle.
    pub async fn begin(&mut self, path: &str) -> String {
        let response = self.get(path).await.assert_status(303);
        let handle = handle_in(self.app, &response);
        assert!(response.header("location").starts_with("/oauth2/consent?"), "{response:?}");
        handle
    }

    /// Sends an answer.
    pub async fn send_answer(&self, answer: Value) -> TestResponse {
        let response = self.client().post("/oauth2/consent", answer).await;
        let code = parameters_of(response.body["redirect"].as_str().unwrap_or_default());
        let code = code.get("code").cloned();
        self.app.seen_secrets.lock().expect("no panic").extend(code);
        response
    }

    /// Grants everything that a request asks for, in an organization.
    pub async fn allow(&self, handle: &str, org_id: &str) -> TestResponse {
        let answer = json!({ "request": handle, "accept": true, "organizationId": org_id });
        self.send_answer(answer).await
    }

    /// Begins a request and grants what it asks for; returns the parameters that the client gets.
    pub async fn grant(&mut self, path: &str, org_id: &str) -> HashMap<String, String> {
        let handle = self.begin(path).await;
        let response = self.allow(&handle, org_id).await.assert_status(200);
        parameters_of(response.body["redirect"].as_str().expect("a redirect"))
    }
}

/// The handle in the redirect to a page. It counts as a secret that the test saw.
pub fn handle_in(app: &TestApp, response: &TestResponse) -> String {
    let location = response.header("location");
    let handle = parameters_of(location).remove("request");
    let handle = handle.unwrap_or_else(|| panic!("no handle in {location}"));
    app.seen_secrets.lock().expect("no panic").push(handle.clone());
    handle
}

/// The parameters in the query of a URL.
pub fn parameters_of(url: &str) -> HashMap<String, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

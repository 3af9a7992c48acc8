//! Refreshes at a server that is killed: a refresh can be repeated if its response was lost, and a
//! token that was used before stays rejected.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::locks::TableLock;
use crate::support::oauth::{CHALLENGE, VERIFIER, form, parameters_of};
use crate::support::ports::free_address;
use crate::support::server::{CurlResponse, Server, WorkDir, curl};

const EMAIL: &str = "ann@example.com";
const REDIRECT_URI: &str = "http://127.0.0.1/callback";
/// A person's browser and an app at a server that is killed and started again.
struct CrashTest {
    dir: WorkDir,
    /// Where the server listens: known before it starts, as its issuer needs it.
    address: String,
    server: Server,
}

impl CrashTest {
    fn start() -> Self {
        let dir = WorkDir::new();
        let address = free_address().to_string();
        let server = start(&dir, &address);
        Self { dir, address, server }
    }

    fn restart(&mut self) {
        self.server.kill();
        self.server = start(&self.dir, &self.address);
    }

    fn post(&self, path: &str, body: &Value) -> CurlResponse {
        let (jar, body) = (self.dir.path().join("jar"), body.to_string());
        let jar = jar.to_str().unwrap();
        let cookies = ["-b", jar, "-c", jar, "-H", "Content-Type: application/json", "-d", &body];
        let response = curl(&[&cookies[..], &[&self.server.url(path)]].concat());
        assert!(response.status < 300, "{path}: {}", response.text);
        response
    }

    /// `GET path`; the text includes the head.
    fn get(&self, path: &str) -> CurlResponse {
        let jar = self.dir.path().join("jar");
        let jar = jar.to_str().unwrap();
        curl(&["-b", jar, "-c", jar, "-i", &self.server.url(path)])
    }

    /// The id of an app that the person grants access to, and its first refresh token.
    async fn grant(&self) -> (String, String) {
        let account = json!({ "email": EMAIL, "password": PASSWORD, "name": "Ann" });
        self.post("/api/auth/sign-up/email", &account);
        let prove = "update accounts set proven_at = now()";
        sqlx::query(prove).execute(&mut self.dir.connect().await).await.unwrap();
        self.post("/api/auth/sign-in/email", &json!({ "email": EMAIL, "password": PASSWORD }));
        let sql = "select handle from organizations where handle <> 'system'";
        let org_id: String =
            sqlx::query_scalar(sql).fetch_one(&mut self.dir.connect().await).await.unwrap();
        let app = json!({ "name": "Tool", "applicationType": "native",
            "redirectUris": [REDIRECT_URI], "scopes": ["projects:read", "offline_access"] });
        let created = self.post(&format!("/api/user/organizations/{org_id}/apps"), &app);
        let client_id = created.body["data"]["clientId"].as_str().unwrap().to_owned();
        let request = form(&[
            ("response_type", "code"),
            ("client_id", &client_id),
            ("redirect_uri", REDIRECT_URI),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("scope", "projects:read offline_access"),
        ]);
        let begun = self.get(&format!("/oauth2/authorize?{request}"));
        let location = begun.text.lines().find(|line| line.starts_with("location: "));
        let handle = parameters_of(location.unwrap_or(&begun.text).trim()).remove("request");
        let answer = json!({ "request": handle, "accept": true, "organizationId": org_id });
        let answered = self.post("/oauth2/consent", &answer);
        let redirect = answered.body["redirect"].as_str().unwrap();
        let code = parameters_of(redirect).remove("code").unwrap();
        let exchange = form(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
            ("client_id", &client_id),
        ]);
        let tokens = curl(&["-d", &exchange, &self.server.url("/oauth2/token")]);
        assert_eq!(tokens.status, 200, "{}", tokens.text);
        (client_id, refresh_token_of(&tokens.body))
    }

    fn refresh(&self, client_id: &str, token: &str) -> CurlResponse {
        curl(&["-d", &refresh_form(client_id, token), &self.server.url("/oauth2/token")])
    }
}

fn start(dir: &WorkDir, address: &str) -> Server {
    let issuer = format!("http://{address}");
    dir.start(&[("OAUTH", "on"), ("LISTEN_ADDR", address), ("PUBLIC_URL", &issuer)])
}

fn refresh_form(client_id: &str, token: &str) -> String {
    form(&[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client_id)])
}

fn refresh_token_of(body: &Value) -> String {
    body["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {body}")).to_owned()
}

#[tokio::test]
async fn a_refresh_whose_response_is_lost_can_be_repeated_and_a_used_token_stays_used() {
    let mut test = CrashTest::start();
    let (client_id, first) = test.grant().await;
    let mut lock = TableLock::before_commit(test.dir.connect().await, "oauth_refresh_tokens").await;
    let mut command = Command::new("curl");
    let url = test.server.url("/oauth2/token");
    let parameters = refresh_form(&client_id, &first);
    let lost = command.args(["-s", "-d", &parameters, &url]).stdout(Stdio::piped()).spawn();
    let statement = lock.blocked_statement().await;
    assert_eq!(statement, "COMMIT");
    test.server.kill();
    assert!(lost.unwrap().wait_with_output().unwrap().stdout.is_empty());
    lock.release().await;
    test.restart();
    let again = [(); 2].map(|()| test.refresh(&client_id, &first));
    let [second, same] = again.map(|it| refresh_token_of(&it.body));
    assert_eq!(second, same);
    let live = "select count(*) from oauth_refresh_tokens where used_at is null";
    let live = sqlx::query_scalar::<_, i64>(live).fetch_one(&mut test.dir.connect().await).await;
    assert_eq!(live.unwrap(), 1);
    let third = refresh_token_of(&test.refresh(&client_id, &second).body);
    test.restart();
    for token in [&first, &third] {
        let rejected = test.refresh(&client_id, token);
        assert_eq!((rejected.status, &rejected.body["error"]), (400, &json!("invalid_grant")));
    }
}

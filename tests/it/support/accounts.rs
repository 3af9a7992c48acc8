//! Accounts: sign-up, sign-in, memberships, and their mail.

use std::fs;

use serde_json::{Value, json};
use tenantry::jobs::run_due;

use super::TestApp;
use super::app::{CreatedKey, text};
use super::client::{TestClient, TestResponse};

/// The password of test accounts, where it does not matter.
pub const PASSWORD: &str = "a-long-secure-passphrase";

/// An account with a session.
pub struct TestAccount {
    /// Its email address.
    pub email: String,
    /// The account's id.
    pub id: String,
    /// The home organization's id.
    pub org_id: String,
    /// The session's cookie.
    pub cookie: String,
    /// The session's access token.
    pub token: String,
}

impl TestApp {
    /// Signs up an account through the user family.
    pub async fn sign_up_account(&self, email: &str) -> TestAccount {
        let request = json!({ "email": email, "password": PASSWORD, "name": "Ann Example" });
        let response =
            self.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
        let data = &response.body["data"];
        TestAccount {
            email: email.to_owned(),
            id: text(&data["user"]["id"]),
            org_id: text(&data["organization"]["id"]),
            cookie: response.cookie().expect("a cookie"),
            token: text(&data["token"]),
        }
    }

    /// Signs up an account when only the mail matters.
    pub async fn sign_up_for_mail(&self, email: &str) {
        let request = json!({ "email": email, "password": PASSWORD, "name": "Ann Example" });
        self.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
    }

    /// Signs in through the user family; the password may be wrong.
    pub async fn sign_in(&self, email: &str, password: &str) -> TestResponse {
        let request = json!({ "email": email, "password": password });
        self.anonymous().post("/api/auth/sign-in/email", request).await
    }

    /// A client with a session cookie.
    pub fn session(&self, cookie: &str) -> TestClient {
        self.anonymous().with("cookie", &format!("tenantry_session={cookie}"))
    }

    /// Signs up an account and verifies its address. No mail is left unread.
    pub async fn verified_account(&self, email: &str) -> TestAccount {
        let account = self.sign_up_account(email).await;
        let token = self.mailed_token().await;
        let request = json!({ "token": token });
        let session = self.session(&account.cookie);
        session.post("/api/auth/verify-email", request).await.assert_status(200);
        account
    }

    /// Invites an account to the owner's organization and accepts; returns the membership's id.
    pub async fn invite_and_accept(
        &self,
        owner: &TestAccount,
        account: &TestAccount,
        role: &str,
    ) -> String {
        let path = format!("/api/user/organizations/{}", owner.org_id);
        let request = json!({ "email": account.email, "role": role });
        let session = self.session(&owner.cookie);
        session.post(&format!("{path}/invites"), request).await.assert_status(201);
        let token = self.mailed_token().await;
        let accept = format!("/api/user/invites/{token}/accept");
        let joining = self.session(&account.cookie);
        joining.post(&accept, json!({})).await.assert_status(200);
        let own = joining.get(&format!("{path}/my-membership")).await.assert_status(200);
        text(&own.body["data"]["id"])
    }

    /// Creates a personal access token; returns its text and its id.
    pub async fn create_token(&self, cookie: &str, request: Value) -> (String, String) {
        let response = self.session(cookie).post("/api/auth/api-key/create", request).await;
        let data = response.assert_status(200).body["data"].clone();
        (text(&data["key"]), text(&data["id"]))
    }

    /// Creates a key in an account's home organization, in its session.
    pub async fn create_key(&self, account: &TestAccount, request: Value) -> CreatedKey {
        let path = format!("/api/user/organizations/{}/api-keys", account.org_id);
        let response = self.session(&account.cookie).post(&path, request).await;
        let data = response.assert_status(201).body["data"].clone();
        CreatedKey {
            org_id: String::new(),
            user_id: String::new(),
            api_key: text(&data["key"]),
            key_id: text(&data["id"]),
        }
    }

    /// Creates a project in an account's home organization; returns its id.
    pub async fn create_project(&self, account: &TestAccount, name: &str) -> String {
        let path = format!("/api/user/organizations/{}/projects", account.org_id);
        let response = self.session(&account.cookie).post(&path, json!({ "name": name })).await;
        text(&response.assert_status(201).body["data"]["id"])
    }

    /// Sends queued mail, and returns the mails in the folder except security notices, oldest
    /// first. Empties the folder. Records the tokens as seen secrets.
    pub async fn mails(&self) -> Vec<TestMail> {
        let mut mails = self.all_mails().await;
        mails.retain(|mail| !mail.is_notice());
        mails
    }

    /// Like [`Self::mails`], but returns only the subjects of security notices.
    pub async fn security_notices(&self) -> Vec<String> {
        let mails = self.all_mails().await;
        let notices = mails.iter().filter(|mail| mail.is_notice());
        notices.map(|mail| mail.header("Subject").replace("Security notice: ", "")).collect()
    }

    async fn all_mails(&self) -> Vec<TestMail> {
        run_due(&self.app).await.expect("mail is sent");
        let folder = self.app.config.database.data_dir.join("mail");
        let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
        files.sort();
        let mails = files.into_iter().map(|file| {
            let text = fs::read_to_string(&file).expect("a mail");
            fs::remove_file(&file).expect("removed");
            TestMail { text }
        });
        let mails: Vec<_> = mails.collect();
        let mut seen = self.seen_secrets.lock().expect("no panic");
        seen.extend(mails.iter().filter_map(TestMail::token));
        mails
    }

    /// The token of the only unread mail.
    pub async fn mailed_token(&self) -> String {
        let mails = self.mails().await;
        assert_eq!(mails.len(), 1, "{mails:?}");
        mails[0].token().expect("a link")
    }
}

/// A mail, as the server wrote it.
#[derive(Debug)]
pub struct TestMail {
    /// Headers and body.
    pub text: String,
}

impl TestMail {
    /// The link in its plain text.
    pub fn link(&self) -> Option<&str> {
        self.text.lines().map(str::trim).find(|line| line.starts_with("http"))
    }

    /// The token of its link.
    pub fn token(&self) -> Option<String> {
        let (_, token) = self.link()?.split_once("tnt_link_")?;
        let end = token.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(token.len());
        Some(format!("tnt_link_{}", &token[..end]))
    }

    /// Whether it is a security notice.
    pub fn is_notice(&self) -> bool {
        self.header("Subject").starts_with("Security notice: ")
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        let line = self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().trim()
    }
}

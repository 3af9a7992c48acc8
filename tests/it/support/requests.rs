//! A valid request for every operation of the API's description, for tests of all operations.

use serde_json::{Value, json};
use tenantry::http::family::Family;
use tenantry::model::key_format::KeyFormat;

use super::accounts::{PASSWORD, TestAccount};
use super::app::{CreatedKey, text};
use super::client::TestClient;
use super::oauth::{
    Browser, OauthClientSpec, form, handle_in, insert_openid_token, insert_refresh_token,
};
use super::spec::Operation;
use super::{TestApp, app};

/// A text with the form and the checksum of a key that does not exist.
const UNKNOWN_KEY: &str = "tnt_live_GJXFZd1OCpedvOm74UyEmGhnGp5IzwWzba5t1dIjv9P2c1kbf";

/// An organization with a key, an account with a session, and objects of theirs.
pub struct Fixtures {
    /// An organization created by open signup.
    pub acme: CreatedKey,
    /// Another one, for operations of the operator.
    pub operator_target: CreatedKey,
    /// An account.
    pub ann: TestAccount,
    /// The id of another session of the account.
    pub other_session: String,
    /// The id of a personal access token of the account.
    pub token_id: String,
    /// The id of another one, which may be deleted.
    spare_token_id: String,
    /// The id of a key of ann's organization.
    organization_key_id: String,
    /// The id of a project of ann's organization.
    project_id: String,
    /// The id of another one, which may be deleted.
    spare_project_id: String,
    /// The refresh token of an exchange.
    refresh_token: String,
    /// The token of a link that was not mailed.
    link_token: String,
    /// The id of another account's membership in ann's organization.
    membership_id: String,
    /// The id of an open invitation to ann's organization.
    invite_id: String,
    /// The id of another one, which may be revoked.
    spare_invite_id: String,
    /// The token of an open invitation of ann to another organization.
    invite_token: String,
    /// The query of an authorization request.
    authorization: String,
    /// The form of a client that refreshes its token, or revokes another one.
    client_form: String,
    /// An access token of that client, with the scope `openid`.
    openid_token: String,
    /// The handle of an OAuth request that ann has not answered.
    oauth_request: String,
    /// The form of a device's client.
    device_form: String,
    /// The code of a device that nobody has typed.
    user_code: String,
    /// The handles of two requests of devices that ann has claimed, and not answered.
    device_requests: [String; 2],
    /// The cookie of the browser of `oauth_request`.
    browser: String,
    /// The id of an app of ann's organization.
    app_id: String,
    /// The id of another one, which may be deleted.
    spare_app_id: String,
    /// The id of a third one, which the operator may disable.
    operated_app_id: String,
    /// The id of a secret of the app.
    secret_id: String,
    /// The id of a grant of ann to the app, in her organization.
    grant_id: String,
    /// The ids of two domains of ann's organization. The second may be deleted.
    domain_ids: [String; 2],
    /// A client that registered itself, and its registration access token.
    registration: (String, String),
    /// Another one, which may be deleted.
    spare_registration: (String, String),
    /// The ids of two connections of ann's organization to the shared provider, of which the second
    /// may be deleted.
    connections: [String; 2],
    next_number: std::sync::atomic::AtomicU32,
}

impl Fixtures {
    /// Creates all of it.
    pub async fn new(app: &TestApp) -> Self {
        let (acme, ann) = (app.sign_up().await, app.verified_account("ann@example.com").await);
        let (operator_target, ben) =
            (app.sign_up().await, app.verified_account("ben@example.com").await);
        let membership_id = app.invite_and_accept(&ann, &ben, "member").await;
        let invites = format!("/api/user/organizations/{}/invites", ann.org_id);
        let invite = async |email: &str| {
            let request = json!({ "email": email, "role": "member" });
            let created = app.session(&ann.cookie).post(&invites, request).await.assert_status(201);
            text(&created.body["data"]["id"])
        };
        let (invite_id, spare_invite_id) =
            (invite("cleo@example.com").await, invite("dan@example.com").await);
        app.mails().await;
        let invite_token = mailed_invite(app, &ben, &ann).await;
        let (_, refresh_token) = app.exchange(&acme.api_key).await;
        app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
        let sessions = app.session(&ann.cookie).get("/api/auth/list-sessions").await;
        let sessions = sessions.assert_status(200).body["data"].clone();
        let sessions = sessions.as_array().expect("a list");
        let other = sessions.iter().find(|session| session["current"] == false);
        let token = json!({ "name": "ci", "scopes": ["*"] });
        let (_, token_id) = app.create_token(&ann.cookie, token.clone()).await;
        let (_, spare_token_id) = app.create_token(&ann.cookie, token).await;
        let fixture_key = json!({ "name": "fixture", "scopes": ["*"] });
        let organization_key = app.create_key(&ann, fixture_key).await;
        let project_id = app.create_project(&ann, "one").await;
        let mut purchase = super::stripe::checkout("evt_of_ann", &ann.org_id, "trial");
        purchase["data"]["object"]["metadata"]["mode"] = json!("existing");
        app.send_stripe_event(&purchase).await.assert_status(200);
        let spare_project_id = app.create_project(&ann, "another").await;
        let oauth_client = OauthClientSpec::default().insert(app, &ann.org_id).await;
        let authorization = oauth_client.query(&[]);
        let public = OauthClientSpec { auth_method: "none", name: "Public", ..Default::default() };
        let public = public.insert(app, &ann.org_id).await;
        let app_refresh_token = insert_refresh_token(app, &public, &ann.org_id).await;
        let openid_token = insert_openid_token(app, &public).await;
        let client_form = form(&[
            ("client_id", &public.client_id),
            ("grant_type", "refresh_token"),
            ("refresh_token", &app_refresh_token),
            ("token", "tnt_oauth_unknown"),
        ]);
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let started = browser.get(&format!("/oauth2/authorize?{authorization}")).await;
        let device_form = insert_device_client(app, &ann).await;
        let app_id = text(&app.create_app(&ann, "one").await["id"]);
        let spare_app_id = text(&app.create_app(&ann, "another").await["id"]);
        let operated_app_id = text(&app.create_app(&ann, "a third").await["id"]);
        let secret_id = app.first_secret(&ann, &app_id).await;
        let of_ann = (&ann, Some(ann.org_id.as_str()));
        let grant_id = app.insert_grant(of_ann, &app_id, &["projects:read"]).await;
        let register = async || {
            let request = json!({ "redirect_uris": [super::oauth::REDIRECT_URI] });
            let created = app.anonymous().post("/oauth2/register", request).await;
            let body = created.assert_status(201).body;
            (text(&body["client_id"]), text(&body["registration_access_token"]))
        };
        let (registration, spare_registration) = (register().await, register().await);
        Self {
            authorization,
            client_form,
            openid_token,
            oauth_request: handle_in(app, &started.assert_status(303)),
            browser: browser.id().to_owned(),
            user_code: start_device(app, &device_form).await,
            device_requests: [
                claim_device(app, &ann, &device_form).await,
                claim_device(app, &ann, &device_form).await,
            ],
            device_form,
            app_id,
            spare_app_id,
            operated_app_id,
            secret_id,
            grant_id,
            domain_ids: [add_domain(app, &ann).await, add_domain(app, &ann).await],
            registration,
            spare_registration,
            connections: insert_connections(app, &ann).await,
            acme,
            operator_target,
            ann,
            other_session: app::text(&other.expect("another session")["id"]),
            token_id,
            spare_token_id,
            organization_key_id: organization_key.key_id,
            project_id,
            spare_project_id,
            refresh_token,
            link_token: KeyFormat::link_token().generate(&*app.app.entropy).expose().to_owned(),
            membership_id,
            invite_id,
            spare_invite_id,
            invite_token,
            next_number: 0.into(),
        }
    }

    /// A client that may use the operation, with the content type of the body that it reads.
    pub fn client_for(&self, app: &TestApp, operation: &Operation) -> TestClient {
        let client = self.client_without_content_type(app, operation);
        match operation.content_type() {
            Some(content_type) => client.with("content-type", content_type),
            None => client,
        }
    }

    /// Like [`Self::client_for`], without a content type.
    pub fn client_without_content_type(&self, app: &TestApp, operation: &Operation) -> TestClient {
        let family = Family::from_path(&operation.path);
        match family {
            _ if operation.id() == "receiveGithubSecrets" => {
                super::github::SigningKey::pinned().client(app, &self.body(operation))
            }
            _ if operation.is_signed() => app.stripe_client(&self.body(operation)),
            _ if operation.requires_master_key() => {
                let master = app.master(master_scope_of(operation));
                if operation.method == "GET" {
                    master
                } else {
                    master.with("idempotency-key", operation.id())
                }
            }
            // A proxy presents the key of a client.
            _ if operation.requires_verifier() => {
                app.verifier().with("x-api-key", &self.acme.api_key)
            }
            _ if operation.requires_oauth_token() => app.bearer(&self.openid_token),
            _ if operation.path.starts_with("/oauth2/register/") => {
                app.bearer(&self.registration_of(operation).1)
            }
            _ if family == Family::OAuth => {
                let browser = format!("tenantry_browser={}", self.browser);
                app.session(&self.ann.cookie).with("cookie", &browser)
            }
            _ if !operation.accepts_credential() => app.anonymous(),
            Family::Account | Family::User => app.session(&self.ann.cookie),
            Family::Onboarding
            | Family::Organization
            | Family::Operator
            | Family::Verification
            | Family::OAuth
            | Family::Other => app.key(&self.acme.api_key),
        }
    }

    /// The client whose registration an operation shows or changes, and its token.
    fn registration_of(&self, operation: &Operation) -> &(String, String) {
        match operation.id() {
            "deleteClientRegistration" => &self.spare_registration,
            _ => &self.registration,
        }
    }

    /// The operation's path, with ids of existing objects.
    pub fn path(&self, operation: &Operation) -> String {
        let key = match Family::from_path(&operation.path) {
            Family::User => &self.organization_key_id,
            _ => &self.acme.key_id,
        };
        self.path_with_key(operation, key)
    }

    /// Like [`Self::path`], with the id of a new key if the path names a key.
    pub async fn path_with_new_key(&self, app: &TestApp, operation: &Operation) -> String {
        if !operation.path.contains("{id}") || operation.requires_master_key() {
            return self.path(operation);
        }
        let number = self.next_number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("new {number}");
        let key = match Family::from_path(&operation.path) {
            Family::User => {
                app.create_key(&self.ann, json!({ "name": name, "scopes": ["*"] })).await
            }
            _ => app.create_key_with(&self.acme.api_key, json!({ "name": name })).await,
        };
        self.path_with_key(operation, &key.key_id)
    }

    fn path_with_key(&self, operation: &Operation, key: &str) -> String {
        let id = match operation.id() {
            "revokeInvite" => &self.spare_invite_id,
            "resendInvite" => &self.invite_id,
            "deleteProject" => &self.spare_project_id,
            "deleteApp" => &self.spare_app_id,
            "deleteSsoDomain" => &self.domain_ids[1],
            _ if operation.path.contains("/domains/{id}") => &self.domain_ids[0],
            "deleteSsoConnection" => &self.connections[1],
            _ if operation.path.contains("/sso/connections/{id}") => &self.connections[0],
            _ if operation.path.contains("/apps/{id}") => &self.app_id,
            _ if operation.path.contains("/app-grants/{id}") => &self.grant_id,
            _ if operation.requires_master_key() => &self.operator_target.org_id,
            _ if operation.path.contains("/projects/") => &self.project_id,
            _ => key,
        };
        let path = operation.path.replace("{organizationId}", &self.ann.org_id);
        let path = path.replace("{id}", id).replace("{userId}", &self.membership_id);
        let path = path.replace("{token}", &self.invite_token);
        let path = path.replace("{secretId}", &self.secret_id);
        let path = path.replace("{grantId}", &self.grant_id);
        let client_id = match Family::from_path(&path) {
            Family::OAuth => &self.registration_of(operation).0,
            _ => &self.operated_app_id,
        };
        let path = path.replace("{clientId}", client_id);
        match operation.id() {
            "revokeAppGrantsOfClient" => format!("{path}?clientId={}", self.spare_app_id),
            "getToken" => format!("{path}?id={}", self.token_id),
            "findOrganizations" => format!("{path}?external_id=cus_1"),
            "authorize" => format!("{path}?{}", self.authorization),
            "showOauthSignInPage" | "showConsentPage" => {
                format!("{path}?request={}", self.oauth_request)
            }
            _ => path,
        }
    }

    /// A valid body for the operation; empty if the operation reads no body. Names and addresses
    /// that must be unique are new on each call.
    pub fn body(&self, operation: &Operation) -> String {
        if !operation.has_request_body() {
            return String::new();
        }
        let number = self.next_number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let email = format!("somebody{number}@example.com");
        let confirmation = json!({
            "confirm_org_id": self.operator_target.org_id, "idempotency_key": operation.id(),
        });
        let body: Value = match operation.id() {
            "introspect" => return format!("token={}", self.acme.api_key),
            "identify" => json!({ "email": self.ann.email }),
            "signInSso" => json!({ "connectionId": self.connections[0] }),
            "authorizeByPost" => return self.authorization.clone(),
            "authorizeDevice" => return self.device_form.clone(),
            "claimDevice" => json!({ "userCode": self.user_code }),
            "approveDevice" => json!({
                "request": self.device_requests[0], "organizationId": self.ann.org_id,
            }),
            "denyDevice" => json!({ "request": self.device_requests[1] }),
            "issueToken" | "revokeToken" => return self.client_form.clone(),
            "answerConsent" => json!({
                "request": self.oauth_request, "accept": true, "organizationId": self.ann.org_id,
            }),
            "registerClient" => json!({ "redirect_uris": [super::oauth::REDIRECT_URI] }),
            "updateClientRegistration" => json!({
                "client_id": self.registration.0, "redirect_uris": [super::oauth::REDIRECT_URI],
            }),
            "provisionOrganization" => json!({
                "org_id": format!("provisioned-{number}"), "name": "Acme Corp", "domain": "general",
                "tier": "starter", "allowed_origins": "https://acme.example.com",
            }),
            "forceRotateKeys"
            | "forceRevokeKeys"
            | "suspendOrganization"
            | "reactivateOrganization" => confirmation,
            "changePlan" => json!({ "tier": "pro" }),
            "updateOrganizationSettings" => json!({ "credits": { "remaining": 1_000_000 } }),
            "signUp"
            | "createMyKey"
            | "rotateApiKey"
            | "rotateOrganizationKey"
            | "suspendOrganizationForBilling"
            | "rotateKeysForBilling"
            | "rotateOwnKey"
            | "revokeOwnKey"
            | "publishOauthApp"
            | "disableOauthApp"
            | "enableOauthApp" => json!({}),
            "exchangeKey" => json!({ "api_key": self.acme.api_key }),
            "refreshTokens" => json!({ "refresh_token": self.refresh_token }),
            "createApiKey" | "createOrganizationKey" => {
                json!({ "name": format!("key {number}"), "scopes": ["usage:read"] })
            }
            "updateApiKey" | "updateOrganizationKey" => json!({ "enabled": false }),
            "signUpAccount" => json!({ "email": email, "password": PASSWORD }),
            "signUpEmail" => json!({ "email": email, "password": PASSWORD, "name": "Ben" }),
            "logIn" | "signInEmail" => json!({ "email": self.ann.email, "password": PASSWORD }),
            "receiveStripeEvent" => {
                super::stripe::checkout("evt_fixture", "of-the-fixture", "starter")
            }
            "receiveGithubSecrets" => json!([super::github::found(UNKNOWN_KEY, "")]),
            "reportLeak" => json!({ "key": UNKNOWN_KEY }),
            "verifyEmail" | "claimKey" => json!({ "token": self.link_token }),
            "requestPasswordReset" => json!({ "email": email }),
            "resetPassword" => json!({ "token": self.link_token, "newPassword": PASSWORD }),
            "changePassword" => json!({
                "currentPassword": PASSWORD, "newPassword": PASSWORD, "revokeOtherSessions": false,
            }),
            "revokeSession" => json!({ "id": self.other_session }),
            "createToken" => json!({ "name": "ci", "scopes": ["user:read"] }),
            "updateToken" => json!({ "keyId": self.token_id, "name": "renamed" }),
            "deleteToken" => json!({ "keyId": self.spare_token_id }),
            "createOrganization" => json!({ "name": "Another" }),
            "updateOrganization" => json!({ "name": "Renamed" }),
            "deleteOrganization" => json!({ "confirm": self.ann.org_id }),
            "changeMemberRole" => json!({ "role": "admin" }),
            "createInvite" => json!({ "email": email, "role": "member" }),
            "verify" => json!({ "key": self.acme.api_key }),
            "verifyAndIssueToken" => json!({ "key": self.acme.api_key, "audience": "docs" }),
            "reportUsage" => json!({ "events": [{
                "id": format!("{number}"), "source": "tests", "time": "2036-05-08T09:00:00Z",
                "key_id": self.acme.key_id, "units": 1,
            }] }),
            "verifyBatch" => json!({ "items": [{ "key": self.acme.api_key }] }),
            "updateUser" => json!({ "fullName": "Ann Other" }),
            "createProject" => json!({ "name": format!("project {number}") }),
            "updateProject" => json!({ "description": "Renewed" }),
            "createApp" => super::apps::app_request(&format!("app {number}")),
            "updateApp" => json!({ "clientUri": "https://reports.example.com" }),
            "addSsoDomain" => json!({ "domain": format!("a{number}.example") }),
            "createAppSecret" => json!({ "expiresIn": 3600 }),
            "createSsoConnection" => super::sso::connection_request(&super::sso::shared_issuer()),
            "updateSsoConnection" => json!({ "sessionHours": 12 }),
            "updateAppPolicy" => json!({ "mode": "open", "allowed": [], "blocked": [] }),
            "deleteUser" => json!({ "password": PASSWORD }),
            other => panic!("no request is known for {other}"),
        };
        body.to_string()
    }
}

/// The token of an invitation of an account to the organization of another one.
async fn mailed_invite(app: &TestApp, owner: &TestAccount, account: &TestAccount) -> String {
    let path = format!("/api/user/organizations/{}/invites", owner.org_id);
    let request = json!({ "email": account.email, "role": "member" });
    app.session(&owner.cookie).post(&path, request).await.assert_status(201);
    app.mailed_token().await
}

/// The id of a new domain, whose record exists.
async fn add_domain(app: &TestApp, owner: &TestAccount) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let request = json!({ "domain": format!("fixture{number}.example") });
    let path = format!("/api/user/organizations/{}/sso/domains", owner.org_id);
    let added = app.session(&owner.cookie).post(&path, request).await.assert_status(201);
    let data = &added.body["data"];
    super::dns::add_record(&text(&data["record"]["name"]), &text(&data["record"]["value"]));
    text(&data["id"])
}

/// The ids of two new connections to the shared provider, in an organization whose domains are
/// verified.
async fn insert_connections(app: &TestApp, owner: &TestAccount) -> [String; 2] {
    let ids = [app.insert_connection(owner).await, app.insert_connection(owner).await];
    app.execute("update sso_domains set verified_at = now(), next_check_at = now()").await;
    let update = sqlx::query("update sso_connections set issuer = $1");
    let update = update.bind(super::sso::shared_issuer());
    update.execute(&mut app.connect().await).await.expect("connections");
    ids
}

/// The form of a new client that runs on devices.
async fn insert_device_client(app: &TestApp, owner: &TestAccount) -> String {
    let spec = OauthClientSpec {
        name: "Device",
        auth_method: "none",
        application_type: "native",
        ..Default::default()
    };
    form(&[("client_id", &spec.insert(app, &owner.org_id).await.client_id)])
}

/// The user code of a new request of a device.
async fn start_device(app: &TestApp, device_form: &str) -> String {
    let started = app.anonymous().post_form("/oauth2/device_authorization", device_form).await;
    text(&started.assert_status(200).body["user_code"])
}

/// The handle of a new request of a device that the account has claimed.
async fn claim_device(app: &TestApp, account: &TestAccount, device_form: &str) -> String {
    let request = json!({ "userCode": start_device(app, device_form).await });
    let claimed = app.session(&account.cookie).post("/oauth2/device/claim", request).await;
    text(&claimed.assert_status(200).body["request"])
}

/// The scope of the master key that an operation requires.
fn master_scope_of(operation: &Operation) -> &'static str {
    match operation.id() {
        "provisionOrganization" => "ORG_CREATE",
        "forceRotateKeys" => "ORG_FORCE_ROTATE",
        "forceRevokeKeys" => "ORG_FORCE_REVOKE",
        "suspendOrganization" | "reactivateOrganization" => "ORG_SUSPEND",
        "getUsageOfOrganization" => "ORG_USAGE",
        "getOrganizationSettings" | "updateOrganizationSettings" | "findOrganizations" => {
            "ORG_SETTINGS"
        }
        "suspendOrganizationForBilling" => "BILLING_SUSPEND",
        "rotateKeysForBilling" => "BILLING_ROTATE",
        "changePlan" => "BILLING_PLAN",
        "listOauthApps" | "publishOauthApp" | "disableOauthApp" | "enableOauthApp" => "OAUTH_APPS",
        other => panic!("no scope is known for {other}"),
    }
}

/// The ids of the items in a list of `data`.
pub fn data_ids(body: &Value) -> Vec<String> {
    body["data"].as_array().expect("a list").iter().map(|item| text(&item["id"])).collect()
}

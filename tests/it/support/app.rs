//! A server in this process, with its own database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tenantry::app::App;
use tenantry::clock::Clock;
use tenantry::config::Config;
use tenantry::config::env::Env;
use tenantry::entropy::Entropy;
use tenantry::model::rate_limit::LimitSubject;
use tokio_util::sync::CancellationToken;

use super::client::TestClient;
use super::database::TestDatabase;
use super::leaks::{self, LogStart};
use super::sso;
use super::waiting::wait_until_async;

/// The initial time of every test's clock. It is later than the database's clock, so that an expiry
/// set by the application has not passed for the database.
pub const START_TIME: &str = "2036-05-08T09:56:42.855Z";

/// The default settings of a test server. There are two peppers and two signing secrets, as during
/// a rotation.
const SETTINGS: [(&str, &str); 23] = [
    (
        "KEY_PEPPERS",
        "p2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,\
         p1:YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=",
    ),
    (
        "JWT_SECRETS",
        "j2:QUJDREVGR0hJSkFCQ0RFRkdISUpBQkNERUZHSElKQUI=,\
                     j1:emVyb3plcm96ZXJvemVyb3plcm96ZXJvemVyb3plcm8=",
    ),
    ("SCOPES", "trademarks:read"),
    // All requests come from one address. Tests of rate limits set another profile.
    ("LIMITS_PROFILE", "off"),
    ("MASTER_ADMIN_KEY_ORG_CREATE", "master-of-ORG_CREATE-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_ORG_FORCE_ROTATE", "master-of-ORG_FORCE_ROTATE-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_ORG_FORCE_REVOKE", "master-of-ORG_FORCE_REVOKE-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_ORG_SUSPEND", "master-of-ORG_SUSPEND-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_ORG_USAGE", "master-of-ORG_USAGE-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_ORG_SETTINGS", "master-of-ORG_SETTINGS-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_BILLING_SUSPEND", "master-of-BILLING_SUSPEND-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_BILLING_ROTATE", "master-of-BILLING_ROTATE-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_BILLING_PLAN", "master-of-BILLING_PLAN-0123456789abcdef0123456789"),
    ("MASTER_ADMIN_KEY_OAUTH_APPS", "master-of-OAUTH_APPS-0123456789abcdef0123456789"),
    ("OAUTH", "on"),
    ("OIDC_PRIVATE_KEYS", OPENID_KEYS),
    ("OAUTH_DCR", "open"),
    ("SSO", "on"),
    ("SEALING_KEYS", "s1:c2VhbGluZy1rZXktbnVtYmVyLTEtb2YtMzItYnl0ZXM="),
    ("VERIFIER_KEYS", "gateway:verifier-gateway-0123456789abcdef0123456789"),
    // The machine that runs the tests is busy.
    ("VERIFY_TIMEOUT_MS", "10000"),
    ("STRIPE_WEBHOOK_SECRET", super::stripe::WEBHOOK_SECRET),
    ("GITHUB_SECRET_SCANNING_KEYS", super::github::PUBLISHED_KEYS),
];

/// Private keys that sign tokens, for `JWT_PRIVATE_KEYS`:
/// `openssl genpkey -algorithm ed25519 -outform DER | base64 -w0`, three times.
pub const PRIVATE_KEYS: &str = "\
     e1:MC4CAQAwBQYDK2VwBCIEIIgd9QjEpAZu3+7nwitf6u5KbavrYipHROCB9+gCegjq,\
     e2:MC4CAQAwBQYDK2VwBCIEIE6v5KsSiEavMRA5IV8qlB4HlTQXakzRVjf6rhx53A8M,\
     e3:MC4CAQAwBQYDK2VwBCIEIJhANaEAtt60ISDJ8Q6ubddAGonseIX2dfKEyjMoSF53";

/// Two private keys that sign ID tokens, for `OIDC_PRIVATE_KEYS`:
/// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -outform DER | base64 -w0`.
pub const OPENID_KEYS: &str = include_str!("openid_keys.txt");

/// Counts all organizations except the one of the deployment itself.
pub const COUNT_ORGANIZATIONS: &str = "select count(*) from organizations where handle <> 'system'";

/// The master key of a scope in tests.
pub fn master_key(scope: &str) -> String {
    format!("master-of-{scope}-0123456789abcdef0123456789")
}

/// Runs a test on a server with the default test settings.
pub async fn run(test: impl AsyncFnOnce(&TestApp)) {
    with_settings(&[]).run(test).await;
}

/// Settings of a test server: the defaults and these variables.
pub fn with_settings(settings: &[(&str, &str)]) -> TestSettings {
    let all = SETTINGS.iter().chain(settings);
    TestSettings(all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// The variables of a test server.
pub struct TestSettings(HashMap<String, String>);

impl TestSettings {
    /// Runs a test on a server with these settings, then asserts that no plaintext secret that the
    /// test saw is in the database or the log.
    pub async fn run(mut self, test: impl AsyncFnOnce(&TestApp)) {
        let log_start = leaks::capture_log();
        let database = TestDatabase::create().await;
        let data_dir = tempfile::tempdir().expect("a folder");
        self.0.insert("DATABASE_URL".to_owned(), database.url());
        let folder = data_dir.path().to_str().expect("UTF-8").to_owned();
        self.0.entry("DATA_DIR".to_owned()).or_insert(folder);
        self.0.entry("OUTBOUND_ALLOW".to_owned()).or_insert_with(sso::shared_provider);
        self.0.entry("DNS_SERVERS".to_owned()).or_insert_with(super::dns::default_server);
        let app = TestApp::start(&self.0, 1, log_start);
        test(&app).await;
        app.app.meter.flush().await.expect("usage is written");
        app.app.rejections.flush().await.expect("rejections are written");
        let seen = app.seen_secrets.lock().expect("the lock is not poisoned").clone();
        leaks::assert_no_plaintexts(&mut database.connect().await, &seen, log_start).await;
        app.close();
        database.remove().await;
    }
}

/// A server in this process.
pub struct TestApp {
    /// The state of the server.
    pub app: App,
    /// Its clock, which only the test advances.
    pub clock: Arc<TestClock>,
    /// The plaintext secrets that the test has sent or received, for the check after the test. Of
    /// request bodies, only the passwords of `POST` are recorded.
    pub seen_secrets: Arc<Mutex<Vec<String>>>,
    /// Where the test began in the log.
    pub log_start: LogStart,
    router: Router,
    database: PgConnectOptions,
    settings: HashMap<String, String>,
}

impl TestApp {
    fn start(settings: &HashMap<String, String>, seed: u64, log_start: LogStart) -> Self {
        let config = Config::read(&mut Env::from_source(|name: &str| settings.get(name).cloned()));
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let database = config.database.url.clone().expect("a database");
        let clock = Arc::new(TestClock::default());
        let entropy = Arc::new(TestEntropy(Mutex::new(StdRng::seed_from_u64(seed))));
        let app = App::build(
            config,
            database.clone(),
            clock.clone(),
            entropy.clone(),
            CancellationToken::new(),
        );
        let app = app.expect("an app");
        // The ids of a test must not depend on the randomness that building the app consumed.
        *entropy.0.lock().expect("the lock is not poisoned") = StdRng::seed_from_u64(seed);
        let router = tenantry::http::router(&app);
        let settings = settings.clone();
        let seen_secrets = Arc::default();
        Self { app, clock, seen_secrets, log_start, router, database, settings }
    }

    /// Starts a second server on the same database, with another random seed and a clock of its own
    /// that begins at [`START_TIME`].
    pub fn replica(&self) -> Self {
        self.replica_with(&[])
    }

    /// As [`Self::replica`], with these settings in addition.
    pub fn replica_with(&self, settings: &[(&str, &str)]) -> Self {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let mut replica = Self::start(&all, 2, self.log_start);
        replica.seen_secrets = Arc::clone(&self.seen_secrets);
        replica
    }

    /// What was logged since the test began, by it and by the tests that run beside it.
    pub fn log(&self) -> String {
        self.log_start.log()
    }

    /// The settings with which the binary uses the same database.
    pub fn database_settings(&self) -> [(&str, &str); 3] {
        ["DATABASE_URL", "KEY_PEPPERS", "JWT_SECRETS"].map(|name| (name, &*self.settings[name]))
    }

    /// Closes the server's connections.
    pub fn close(&self) {
        for pool in self.app.pools() {
            pool.close();
        }
    }

    /// Returns a client that sends its requests to `router`.
    pub fn client_for(&self, router: Router) -> TestClient {
        TestClient::new(router, Arc::clone(&self.seen_secrets))
    }

    /// A client without a credential.
    pub fn anonymous(&self) -> TestClient {
        TestClient::new(self.router.clone(), Arc::clone(&self.seen_secrets))
    }

    /// A client with a key in `X-Api-Key`.
    pub fn key(&self, key: &str) -> TestClient {
        self.anonymous().with("x-api-key", key)
    }

    /// A client with a key or an access token in `Authorization`.
    pub fn bearer(&self, token: &str) -> TestClient {
        self.anonymous().with("authorization", &format!("Bearer {token}"))
    }

    /// A client with the master key of a scope.
    pub fn master(&self, scope: &str) -> TestClient {
        let key = master_key(scope);
        self.seen_secrets.lock().expect("the lock is not poisoned").push(key.clone());
        self.key(&key)
    }

    /// Returns a client that authenticates as the verifier `gateway`.
    pub fn verifier(&self) -> TestClient {
        let secret = "verifier-gateway-0123456789abcdef0123456789";
        self.seen_secrets.lock().expect("the lock is not poisoned").push(secret.to_owned());
        self.anonymous().with("x-tenantry-verifier", secret)
    }

    /// A client with a master key and an `Idempotency-Key`.
    pub fn master_with_idempotency_key(&self, scope: &str, name: &str) -> TestClient {
        self.master(scope).with("idempotency-key", name)
    }

    /// A new connection to the database, as its owner.
    pub async fn connect(&self) -> PgConnection {
        self.database.connect().await.expect("a connection")
    }

    /// A new connection to the database, as a superuser.
    pub async fn superuser(&self) -> PgConnection {
        TestDatabase::connect_as_superuser(self.database.get_database().expect("a name")).await
    }

    /// Runs one statement on the database, as its owner; returns the number of affected rows.
    ///
    /// # Panics
    /// If it is an update or a deletion that affects no row.
    pub async fn execute(&self, sql: &'static str) -> u64 {
        let done = sqlx::query(sql).execute(&mut self.connect().await).await;
        let rows = done.expect("a statement").rows_affected();
        let must_affect = ["update ", "delete "].iter().any(|it| sql.starts_with(it));
        assert!(rows > 0 || !must_affect, "no row is affected: {sql}");
        rows
    }

    /// Runs a query that returns one number.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.expect("a count")
    }

    /// Waits until at least `waiters` connections wait for a lock in the database.
    pub async fn wait_for_lock_waiters(&self, waiters: i64) {
        let description = format!("{waiters} connections wait for a lock");
        let are_waiting = async || self.lock_waiters().await >= waiters;
        wait_until_async(&description, are_waiting).await;
    }

    /// Counts the connections that wait for a lock in the database.
    pub async fn lock_waiters(&self) -> i64 {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        self.count(waiting).await
    }

    /// Returns the subject for which requests with an organization's keys are counted.
    pub async fn subject_of(&self, org_id: &str) -> LimitSubject {
        let id = sqlx::query_scalar("select id from organizations where handle = $1");
        LimitSubject::from_id(
            id.bind(org_id).fetch_one(&mut self.connect().await).await.expect("an id"),
        )
    }

    /// Creates an organization by open signup.
    pub async fn sign_up(&self) -> CreatedKey {
        let response = self.anonymous().post("/signup", json!({})).await;
        CreatedKey::from(&response.assert_status(201).body)
    }

    /// Creates a key in the organization of `key`.
    pub async fn create_key_with(&self, key: &str, request: Value) -> CreatedKey {
        let response = self.key(key).post("/me/api-keys", request).await;
        CreatedKey::from(&response.assert_status(201).body)
    }

    /// Exchanges a key for an access token and a refresh token.
    pub async fn exchange(&self, key: &str) -> (String, String) {
        let response =
            self.anonymous().post("/auth/token-exchange", json!({ "api_key": key })).await;
        let body = response.assert_status(200).body;
        (text(&body["access_token"]), text(&body["refresh_token"]))
    }
}

/// The response of a signup or of the creation of a key.
pub struct CreatedKey {
    /// The organization's id (empty for the creation of a key).
    pub org_id: String,
    /// The membership's id (empty for the creation of a key).
    pub user_id: String,
    /// The key's text.
    pub api_key: String,
    /// The key's id.
    pub key_id: String,
}

impl From<&Value> for CreatedKey {
    fn from(body: &Value) -> Self {
        let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Self {
            org_id: field("org_id"),
            user_id: field("user_id"),
            api_key: text(&body["api_key"]),
            key_id: text(&body["key"]["id"]),
        }
    }
}

/// The text of a JSON string; panics for other values.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}

/// A clock that changes only when a test advances it.
pub struct TestClock(Mutex<DateTime<Utc>>);

impl Default for TestClock {
    fn default() -> Self {
        Self(Mutex::new(START_TIME.parse().expect("a time")))
    }
}

impl TestClock {
    /// Advances the clock.
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock().expect("the lock is not poisoned") += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("the lock is not poisoned")
    }
}

/// Entropy from a fixed seed, the same in every run.
struct TestEntropy(Mutex<StdRng>);

impl Entropy for TestEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().expect("the lock is not poisoned").fill_bytes(bytes);
    }
}

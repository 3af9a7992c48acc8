//! The cases that are measured, and their setup.

use serde_json::Value;

use crate::client::Request;
use crate::environment::{BenchmarkEnvironment, VERIFIER_SECRET};
use crate::hashing::{self, cores};
use crate::load::{Measurement, MeasurementWindow, execute_all, run_load};
use crate::nginx::Nginx;
use crate::oauth::insert_tokens;
use crate::pgbench::Pgbench;
use crate::recorder::Recorder;
use crate::script::Recording;
use crate::server::Server;
use tenantry::commands::Failure;

/// The smaller number of concurrent connections.
pub(crate) const FEW_CONNECTIONS: usize = 32;
/// The larger number of concurrent connections. There are as many organizations, and each
/// connection has its own key.
pub(crate) const MANY_CONNECTIONS: usize = 256;
/// The number of keys in a batch of checks.
const BATCH_SIZE: usize = 100;
/// The path of a request that reads only its caller.
const AUTHENTICATED_PATH: &str = "/v1/organization/me";
/// The password of every account.
const PASSWORD: &str = "a-long-secure-passphrase";

/// A case that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BenchmarkCase {
    /// A bare handler that returns a constant, over this number of connections.
    Bare(usize),
    /// A request with a key, which reads only the key's caller, over this number of connections.
    Authenticated(usize),
    /// The same with an OAuth access token, over the smaller number of connections.
    OauthToken,
    /// A check of a key by a verifier, over this number of connections.
    Verify(usize),
    /// A batch of checks of 100 keys by a verifier.
    VerifyBatch,
    /// A bare handler behind an nginx that checks each request.
    NginxChecked,
    /// A bare handler behind nginx.
    NginxUnchecked,
    /// A bare handler that runs one statement, over this number of connections.
    Select(usize),
    /// Sign-ups.
    SignUp,
    /// The statements of a sign-up, run by pgbench.
    SignUpByPgbench,
    /// Key creations, in as many organizations as there are connections.
    CreateKey,
    /// The statements of a key creation, run by pgbench.
    CreateKeyByPgbench,
    /// Sign-ins.
    SignIn,
    /// Argon2 alone.
    Argon2,
}

impl BenchmarkCase {
    /// All cases, in the order in which they are measured: cases that are compared follow each
    /// other.
    pub(crate) const ALL: [Self; 18] = [
        Self::Bare(FEW_CONNECTIONS),
        Self::Authenticated(FEW_CONNECTIONS),
        Self::OauthToken,
        Self::Verify(FEW_CONNECTIONS),
        Self::VerifyBatch,
        Self::NginxChecked,
        Self::NginxUnchecked,
        Self::Select(FEW_CONNECTIONS),
        Self::Bare(MANY_CONNECTIONS),
        Self::Authenticated(MANY_CONNECTIONS),
        Self::Verify(MANY_CONNECTIONS),
        Self::Select(MANY_CONNECTIONS),
        Self::SignUp,
        Self::SignUpByPgbench,
        Self::CreateKey,
        Self::CreateKeyByPgbench,
        Self::SignIn,
        Self::Argon2,
    ];
}

/// The servers and data that the cases use.
pub(crate) struct Setup {
    /// The Tenantry server.
    pub(crate) server: Server,
    bare: Server,
    /// `None` if it is not installed.
    nginx: Option<Nginx>,
    /// One key for each of [`MANY_CONNECTIONS`] organizations.
    keys: Vec<String>,
    /// The stored digests of the keys, in hexadecimal digits.
    digests: Vec<String>,
    /// OAuth access tokens of the accounts.
    oauth_tokens: Vec<String>,
    /// The two cases that pgbench runs; `None` if it is not installed.
    pgbench: Option<[Pgbench; 2]>,
}

impl Setup {
    /// Creates organizations and accounts, and records the statements that a server sends.
    ///
    /// # Errors
    /// A server does not start, a response is unexpected, or the statements cannot be recorded.
    pub(crate) async fn create(
        environment: &BenchmarkEnvironment,
        server: Server,
    ) -> Result<Self, Failure> {
        let signed_up =
            execute_all(server.address, vec![sign_up(); MANY_CONNECTIONS], FEW_CONNECTIONS).await?;
        let keys: Vec<String> = signed_up.iter().filter_map(|body| parse_key(body)).collect();
        if keys.len() < MANY_CONNECTIONS {
            return Err(Failure::Message("a sign-up returned no key".to_owned()));
        }
        let requests = (0..sign_in_connections())
            .map(|number| account_request("/auth/signup", number, 201))
            .collect();
        execute_all(server.address, requests, FEW_CONNECTIONS).await?;
        let pgbench = if Pgbench::is_installed(environment) {
            Some(record(environment, &keys).await?)
        } else {
            None
        };
        let digests = keys.iter().map(|key| hex::encode(environment.digest(key).bytes())).collect();
        let emails = (0..sign_in_connections()).map(email);
        let per_account = FEW_CONNECTIONS.div_ceil(sign_in_connections());
        let oauth_tokens = insert_tokens(environment, emails, per_account).await?;
        let bare = environment.start_bare()?;
        let nginx = Nginx::start(environment.path(), (server.address, bare.address))?;
        Ok(Self { server, bare, nginx, keys, digests, oauth_tokens, pgbench })
    }

    /// Measures a case. Returns `None` if it needs a program that is not installed.
    ///
    /// # Errors
    /// A response is unexpected, or a program fails.
    pub(crate) async fn measure(
        &self,
        case: BenchmarkCase,
        round: usize,
        window: MeasurementWindow,
    ) -> Result<Option<Measurement>, Failure> {
        let (server, bare) = (self.server.address, self.bare.address);
        let keys = |count: usize| self.keys.iter().take(count);
        let measurement = match case {
            BenchmarkCase::Bare(count) => {
                run_load(bare, vec![Request::bare("/bare"); count], window).await?
            }
            BenchmarkCase::Authenticated(count) => {
                let requests = keys(count).map(|key| Request::get(AUTHENTICATED_PATH, key));
                run_load(server, requests.collect(), window).await?
            }
            BenchmarkCase::OauthToken => {
                let tokens = self.oauth_tokens.iter().take(FEW_CONNECTIONS);
                let request = |token: &String| Request::get_with_token(AUTHENTICATED_PATH, token);
                run_load(server, tokens.map(request).collect(), window).await?
            }
            BenchmarkCase::Verify(count) => {
                let requests = keys(count).map(|key| check(key));
                run_load(server, requests.collect(), window).await?
            }
            BenchmarkCase::VerifyBatch => {
                let batch = check_batch(&self.keys[..BATCH_SIZE]);
                run_load(server, vec![batch; FEW_CONNECTIONS], window).await?
            }
            BenchmarkCase::NginxChecked => return self.run_nginx("/checked", window).await,
            BenchmarkCase::NginxUnchecked => return self.run_nginx("/unchecked", window).await,
            BenchmarkCase::Select(count) => {
                let digests = self.digests.iter().take(count);
                let requests = digests.map(|digest| Request::bare(&format!("/select/{digest}")));
                run_load(bare, requests.collect(), window).await?
            }
            BenchmarkCase::SignUp => {
                run_load(server, vec![sign_up(); FEW_CONNECTIONS], window).await?
            }
            BenchmarkCase::CreateKey => {
                run_load(server, keys(FEW_CONNECTIONS).map(|key| create_key(key)).collect(), window)
                    .await?
            }
            BenchmarkCase::SignIn => {
                let requests = (0..sign_in_connections())
                    .map(|number| account_request("/auth/login", number, 200));
                run_load(server, requests.collect(), window).await?
            }
            BenchmarkCase::SignUpByPgbench => return self.run_pgbench(0, round, window).await,
            BenchmarkCase::CreateKeyByPgbench => return self.run_pgbench(1, round, window).await,
            BenchmarkCase::Argon2 => blocking(move || hashing::measure(PASSWORD, window)).await?,
        };
        Ok(Some(measurement))
    }

    async fn run_nginx(
        &self,
        path: &str,
        window: MeasurementWindow,
    ) -> Result<Option<Measurement>, Failure> {
        let Some(nginx) = &self.nginx else { return Ok(None) };
        let keys = self.keys.iter().take(FEW_CONNECTIONS);
        let requests = keys.map(|key| Request::get(path, key)).collect();
        run_load(nginx.address, requests, window).await.map(Some)
    }

    async fn run_pgbench(
        &self,
        index: usize,
        round: usize,
        window: MeasurementWindow,
    ) -> Result<Option<Measurement>, Failure> {
        let Some(pgbench) = &self.pgbench else { return Ok(None) };
        let pgbench = pgbench[index].clone();
        blocking(move || pgbench.run(round, window)).await.map(Some)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from)?
}

/// Returns the number of concurrent sign-ins that keeps all cores busy.
pub(crate) fn sign_in_connections() -> usize {
    (4 * cores()).min(FEW_CONNECTIONS)
}

fn sign_up() -> Request {
    Request::post("/signup", None, r#"{"name":"first"}"#, 201)
}

fn create_key(key: &str) -> Request {
    let body = r#"{"name":"key_{n}","scopes":["usage:read","billing:read"]}"#;
    Request::post("/v1/organization/api-keys", Some(key), body, 201)
}

fn check(key: &str) -> Request {
    let body = format!(r#"{{"key":"{key}","scopes":[["usage:read"]]}}"#);
    Request::check("/v1/verify", VERIFIER_SECRET, &body)
}

fn check_batch(keys: &[String]) -> Request {
    let items: Vec<_> = keys.iter().map(|key| format!(r#"{{"key":"{key}"}}"#)).collect();
    let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
    Request::check("/v1/verify/batch", VERIFIER_SECRET, &body)
}

/// Returns the e-mail address of an account.
fn email(number: usize) -> String {
    format!("p{number}@example.com")
}

fn account_request(path: &str, number: usize, status: u16) -> Request {
    let body = format!(r#"{{"email":"{}","password":"{PASSWORD}"}}"#, email(number));
    Request::post(path, None, &body, status)
}

fn parse_key(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("api_key")?.as_str()?.to_owned())
}

/// Records the statements of a sign-up and of a key creation, as pgbench scripts.
async fn record(
    environment: &BenchmarkEnvironment,
    keys: &[String],
) -> Result<[Pgbench; 2], Failure> {
    let mut recorder = Recorder::start(environment).await?;
    let twice = recorder.record(&sign_up()).await?;
    let sign_up_recording = Recording { same_client: twice, each_client: Vec::new() };
    let mut recordings = Vec::new();
    for key in keys.iter().take(FEW_CONNECTIONS) {
        recordings.push(recorder.record(&create_key(key)).await?);
    }
    recorder.stop()?;
    let each_client = recordings.iter().map(|[once, _]| once.clone()).collect();
    let Some(twice) = recordings.into_iter().next() else {
        return Err(Failure::Message("no organization was created".to_owned()));
    };
    let key_creation = Recording { same_client: twice, each_client };
    Ok([
        Pgbench::prepare(environment, "signup", &sign_up_recording, FEW_CONNECTIONS)?,
        Pgbench::prepare(environment, "key", &key_creation, FEW_CONNECTIONS)?,
    ])
}

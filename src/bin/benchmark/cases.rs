//! What is measured, and what has to be there for it.

use serde_json::Value;

use crate::client::Request;
use crate::environment::BenchmarkEnvironment;
use crate::hashing::{self, cores};
use crate::load::{Measurement, MeasurementWindow, execute_all, run_load};
use crate::pgbench::Pgbench;
use crate::recorder::Recorder;
use crate::script::Recording;
use crate::server::Server;
use tenantry::commands::Failure;

/// The smaller number of concurrent connections.
pub(crate) const FEW_CONNECTIONS: usize = 32;
/// Where it is many. There are as many organizations, and each connection has a key of its own.
pub(crate) const MANY_CONNECTIONS: usize = 256;
/// The password of every account.
const PASSWORD: &str = "a-long-secure-passphrase";

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BenchmarkCase {
    /// A bare handler that returns a constant, over so many connections.
    Bare(usize),
    /// A request with a key, which no more is read for than whose key it is.
    Authenticated(usize),
    /// A bare handler that runs one statement.
    Select(usize),
    /// Signing up.
    SignUp,
    /// The same statements by pgbench.
    SignUpByPgbench,
    /// Making a key, in as many organizations as there are connections.
    MintKey,
    /// The same statements by pgbench.
    MintKeyByPgbench,
    /// Signing in.
    SignIn,
    /// Argon2 alone.
    Argon2,
}

impl BenchmarkCase {
    /// In the order in which they are measured: cases that are compared follow each other.
    pub(crate) const ALL: [Self; 12] = [
        Self::Bare(FEW_CONNECTIONS),
        Self::Authenticated(FEW_CONNECTIONS),
        Self::Select(FEW_CONNECTIONS),
        Self::Bare(MANY_CONNECTIONS),
        Self::Authenticated(MANY_CONNECTIONS),
        Self::Select(MANY_CONNECTIONS),
        Self::SignUp,
        Self::SignUpByPgbench,
        Self::MintKey,
        Self::MintKeyByPgbench,
        Self::SignIn,
        Self::Argon2,
    ];
}

/// What is there to be measured.
pub(crate) struct Setup {
    /// The product.
    pub(crate) server: Server,
    bare: Server,
    /// A key of each of [`MANY_CONNECTIONS`] organizations.
    keys: Vec<String>,
    /// The digests of the keys, as they are stored.
    digests: Vec<String>,
    /// The two cases that pgbench measures, where it is installed.
    pgbench: Option<[Pgbench; 2]>,
}

impl Setup {
    /// Creates organizations and accounts, and records which statements a server sends.
    ///
    /// # Errors
    /// What keeps servers from starting or answering.
    pub(crate) async fn create(
        place: &BenchmarkEnvironment,
        server: Server,
    ) -> Result<Self, Failure> {
        let signed_up =
            execute_all(server.address, vec![sign_up(); MANY_CONNECTIONS], FEW_CONNECTIONS).await?;
        let keys: Vec<String> = signed_up.iter().filter_map(|body| parse_key(body)).collect();
        if keys.len() < MANY_CONNECTIONS {
            return Err(Failure::Message("signups without keys".to_owned()));
        }
        let requests = (0..sign_in_connections())
            .map(|number| account_request("/auth/signup", number, 201))
            .collect();
        execute_all(server.address, requests, FEW_CONNECTIONS).await?;
        let pgbench =
            if Pgbench::is_installed(place) { Some(record(place, &keys).await?) } else { None };
        let digests = keys.iter().map(|key| place.digest(key)).collect();
        Ok(Self { server, bare: place.start_bare()?, keys, digests, pgbench })
    }

    /// Measures a case; `None` where it needs a program that is not installed.
    ///
    /// # Errors
    /// An unexpected response.
    pub(crate) async fn measure(
        &self,
        subject: BenchmarkCase,
        round: usize,
        span: MeasurementWindow,
    ) -> Result<Option<Measurement>, Failure> {
        let (server, bare) = (self.server.address, self.bare.address);
        let keys = |count: usize| self.keys.iter().take(count);
        let measured = match subject {
            BenchmarkCase::Bare(count) => {
                run_load(bare, vec![Request::bare("/bare"); count], span).await?
            }
            BenchmarkCase::Authenticated(count) => {
                let requests = keys(count).map(|key| Request::get("/v1/organization/me", key));
                run_load(server, requests.collect(), span).await?
            }
            BenchmarkCase::Select(count) => {
                let digests = self.digests.iter().take(count);
                let requests = digests.map(|digest| Request::bare(&format!("/select/{digest}")));
                run_load(bare, requests.collect(), span).await?
            }
            BenchmarkCase::SignUp => {
                run_load(server, vec![sign_up(); FEW_CONNECTIONS], span).await?
            }
            BenchmarkCase::MintKey => {
                run_load(server, keys(FEW_CONNECTIONS).map(|key| mint_key(key)).collect(), span)
                    .await?
            }
            BenchmarkCase::SignIn => {
                let requests = (0..sign_in_connections())
                    .map(|number| account_request("/auth/login", number, 200));
                run_load(server, requests.collect(), span).await?
            }
            BenchmarkCase::SignUpByPgbench => return self.run_pgbench(0, round, span).await,
            BenchmarkCase::MintKeyByPgbench => return self.run_pgbench(1, round, span).await,
            BenchmarkCase::Argon2 => blocking(move || hashing::measure(PASSWORD, span)).await?,
        };
        Ok(Some(measured))
    }

    async fn run_pgbench(
        &self,
        which: usize,
        round: usize,
        span: MeasurementWindow,
    ) -> Result<Option<Measurement>, Failure> {
        let Some(pgbench) = &self.pgbench else { return Ok(None) };
        let pgbench = pgbench[which].clone();
        blocking(move || pgbench.run(round, span)).await.map(Some)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from)?
}

/// As many who sign in at once as keep all cores busy.
pub(crate) fn sign_in_connections() -> usize {
    (4 * cores()).min(FEW_CONNECTIONS)
}

fn sign_up() -> Request {
    Request::post("/signup", None, r#"{"name":"first"}"#, 201)
}

fn mint_key(key: &str) -> Request {
    let body = r#"{"name":"key_{n}","scopes":["usage:read","billing:read"]}"#;
    Request::post("/v1/organization/api-keys", Some(key), body, 201)
}

fn account_request(path: &str, number: usize, status: u16) -> Request {
    let body = format!(r#"{{"email":"p{number}@example.com","password":"{PASSWORD}"}}"#);
    Request::post(path, None, &body, status)
}

fn parse_key(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("api_key")?.as_str()?.to_owned())
}

/// Records the statements of signing up and of creating a key, as scripts.
async fn record(place: &BenchmarkEnvironment, keys: &[String]) -> Result<[Pgbench; 2], Failure> {
    let mut recorder = Recorder::start(place).await?;
    let twice = recorder.record(&sign_up()).await?;
    let signing_up = Recording { same_client: twice, each_client: Vec::new() };
    let mut minted = Vec::new();
    for key in keys.iter().take(FEW_CONNECTIONS) {
        minted.push(recorder.record(&mint_key(key)).await?);
    }
    recorder.stop()?;
    let clients = minted.iter().map(|[once, _]| once.clone()).collect();
    let Some(twice) = minted.into_iter().next() else {
        return Err(Failure::Message("no organization was created".to_owned()));
    };
    let minting = Recording { same_client: twice, each_client: clients };
    Ok([
        Pgbench::prepare(place, "signup", &signing_up, FEW_CONNECTIONS)?,
        Pgbench::prepare(place, "key", &minting, FEW_CONNECTIONS)?,
    ])
}

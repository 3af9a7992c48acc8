//! What one running server holds: its connections, its clock and chance, its secrets, and the
//! two machines that keep the hot path short.

pub mod access_tokens;
pub mod batch_lookup;
pub mod connection_shares;
pub mod connector;
pub mod credential_lookup;
pub mod database;
pub mod hash_pool;
pub mod in_flight;
pub mod mailer;
pub mod meter;
pub mod origin_lookup;
pub mod password_hash;
pub mod password_hasher;
pub mod peppers;
pub mod quotas;
pub mod rate_limits;
pub mod readiness;
pub mod rejected_credentials;
pub mod rejections;
pub mod sign_in_failures;

use std::sync::{Arc, Once};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::access_tokens::AccessTokens;
use crate::app::credential_lookup::CredentialLookup;
use crate::app::database::Database;
use crate::app::in_flight::InFlight;
use crate::app::mailer::Mailer;
use crate::app::meter::Meter;
use crate::app::origin_lookup::PageLookup;
use crate::app::password_hasher::PasswordHasher;
use crate::app::peppers::{Peppers, audit_signer};
use crate::app::rate_limits::RateLimits;
use crate::app::readiness::Readiness;
use crate::app::rejected_credentials::RejectedCredentials;
use crate::app::rejections::Rejections;
use crate::app::sign_in_failures::SignInFailures;
use crate::clock::Clock;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::error::Result;
use crate::model::audit_seal::AuditSigner;
use crate::repo::connection_settings;

/// How many connections there are besides those that requests work on.
pub const LOOKUP_CONNECTIONS: u32 =
    credential_lookup::CONNECTIONS + origin_lookup::CONNECTIONS + readiness::CONNECTIONS;

/// Everything a request needs; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// What the operator configured.
    pub config: Config,
    /// The database, for everything but lookups.
    pub db: Database,
    /// Who a credential belongs to.
    pub credential_lookup: CredentialLookup,
    /// Which pages' scripts may use somebody's keys.
    pub origin_lookup: PageLookup,
    /// Whether the database is as it has to be.
    pub readiness: Readiness,
    /// Counts requests.
    pub meter: Meter,
    /// Tells the trail of credentials that were refused.
    pub rejected_credentials: RejectedCredentials,
    /// Sign-ins that failed.
    pub sign_in_failures: SignInFailures,
    /// Tells organizations of requests that were refused.
    pub rejections: Rejections,
    /// How often who may do what.
    pub rate_limits: RateLimits,
    /// How many requests are under way.
    pub in_flight: InFlight,
    /// Digests secrets.
    pub peppers: Peppers,
    /// Signs audit events.
    pub audit_signer: AuditSigner,
    /// Signs and reads access tokens.
    pub access_tokens: AccessTokens,
    /// Hashes and checks passwords.
    pub password_hasher: PasswordHasher,
    /// Sends mail.
    pub mailer: Mailer,
    /// Wakes the worker that sends what is queued.
    pub job_waker: Notify,
    /// Whether the operator was warned that forwarded client addresses can not be read.
    pub forwarding_warning: Once,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The database, for what is asked of it for many requests at once: a connection for each batch
    /// that may be under way.
    lookups: Database,
    stop: CancellationToken,
}

impl App {
    /// Puts a server together. From the moment `stop` is cancelled it says that it is not ready;
    /// what is under way goes on. No connection is opened before it is needed.
    ///
    /// # Errors
    /// Internal where the configuration has nothing to sign tokens with.
    pub fn build(
        config: Config,
        database: sqlx::postgres::PgConnectOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let budget = &config.database;
        let db = Database::open(database.clone(), budget.max_connections, "requests")?;
        let lookups = Database::open_with(
            database,
            connection_settings::LOOKUPS,
            LOOKUP_CONNECTIONS,
            "lookups",
        )?;
        Ok(Self(Arc::new(Parts {
            credential_lookup: CredentialLookup::start(&lookups),
            origin_lookup: PageLookup::start(&lookups, origin_lookup::CONNECTIONS),
            readiness: Readiness::start(&lookups, db.clone()),
            meter: Meter::new(db.clone()),
            rejected_credentials: RejectedCredentials::new(db.clone()),
            sign_in_failures: SignInFailures::new(db.clone()),
            rate_limits: RateLimits::new(db.clone(), &config.rate_limits),
            in_flight: InFlight::new(
                config.http.max_in_flight,
                config.http.max_in_flight_per_caller,
            ),
            rejections: Rejections::new(db.clone()),
            peppers: Peppers::new(&config.keys.peppers),
            audit_signer: audit_signer(&config.keys.peppers, &*entropy),
            access_tokens: AccessTokens::new(&config.tokens, &config.http.public_url)?,
            password_hasher: PasswordHasher::new(Arc::clone(&entropy)),
            mailer: Mailer::new(&config.mail, &budget.data_dir),
            job_waker: Notify::new(),
            forwarding_warning: Once::new(),
            clock,
            entropy,
            db,
            lookups,
            stop,
            config,
        })))
    }

    /// Whether the server is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Every pool of connections.
    pub fn pools(&self) -> impl Iterator<Item = &Database> {
        [&self.db, &self.lookups].into_iter()
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

//! The state of one running server: database connections, clock, randomness, secrets, rate limits,
//! and the batching of lookups and writes that keeps requests fast.

pub mod access_tokens;
pub mod batch_lookup;
pub mod connection_shares;
pub mod connector;
pub mod credential_lookup;
pub mod credit_leases;
pub mod database;
pub mod dns;
pub mod document_fetches;
pub mod github_keys;
pub mod hash_pool;
pub mod http_client;
pub mod id_tokens;
pub mod in_flight;
pub mod jwt_access_tokens;
pub mod key_sets;
pub mod lookup_cache;
pub mod mailer;
pub mod meter;
pub mod openid_signer;
pub mod origin_lookup;
pub mod password_hash;
pub mod password_hasher;
pub mod peppers;
pub mod quotas;
pub mod rate_limits;
pub mod readiness;
pub mod rejections;
pub mod revocation_feed;
pub mod sealing;
pub mod short_lived_tokens;
pub mod verification_lookup;
pub mod write_buffer;

use std::sync::{Arc, Once};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::access_tokens::AccessTokens;
use crate::app::credential_lookup::CredentialLookup;
use crate::app::credit_leases::CreditLeases;
use crate::app::database::Database;
use crate::app::dns::DnsResolver;
use crate::app::document_fetches::DocumentFetches;
use crate::app::github_keys::GithubKeyring;
use crate::app::http_client::HttpClient;
use crate::app::in_flight::InFlight;
use crate::app::key_sets::PublishedKeySets;
use crate::app::lookup_cache::LookupCache;
use crate::app::mailer::Mailer;
use crate::app::meter::Meter;
use crate::app::openid_signer::OpenidSigner;
use crate::app::origin_lookup::OriginLookup;
use crate::app::password_hasher::PasswordHasher;
use crate::app::peppers::{Peppers, audit_signer};
use crate::app::rate_limits::RateLimits;
use crate::app::readiness::Readiness;
use crate::app::rejections::Rejections;
use crate::app::revocation_feed::RevocationFeed;
use crate::app::sealing::SealingKeys;
use crate::app::short_lived_tokens::ShortLivedTokens;
use crate::app::verification_lookup::VerificationLookup;
use crate::clock::Clock;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::error::Result;
use crate::model::audit_seal::AuditSigner;
use crate::repo::connection_settings;

/// The number of connections of the pool for lookups, without those for verifiers.
const LOOKUP_CONNECTIONS: u32 =
    credential_lookup::CONNECTIONS + origin_lookup::CONNECTIONS + readiness::CONNECTIONS;
/// The number of connections that a server opens in addition to `DATABASE_MAX_CONNECTIONS`.
pub const OTHER_CONNECTIONS: u32 = LOOKUP_CONNECTIONS + VERIFICATION_CONNECTIONS;
/// The number of connections of the pool for verifiers.
const VERIFICATION_CONNECTIONS: u32 =
    verification_lookup::CONNECTIONS + credit_leases::CONNECTIONS + revocation_feed::CONNECTIONS;

/// Everything a request needs; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The database, for everything that neither `lookups` nor `verifications` does.
    pub db: Database,
    /// Finds the identity that a credential belongs to.
    pub credential_lookup: CredentialLookup,
    /// Checks whether a browser origin may use an organization's keys.
    pub origin_lookup: OriginLookup,
    /// Checks whether the database is ready for this server.
    pub readiness: Readiness,
    /// Counts authenticated requests and the checks of verifiers.
    pub meter: Meter,
    /// Records rejected requests, credentials and sign-ins.
    pub rejections: Rejections,
    /// The rate limits.
    pub rate_limits: RateLimits,
    /// Bounds the number of requests in flight.
    pub in_flight: InFlight,
    /// Bounds the number of credential checks for verifiers, separately from `in_flight`.
    pub verifications_in_flight: InFlight,
    /// Finds the credentials that verifiers check.
    pub verification_lookup: VerificationLookup,
    /// The prepaid units that this server may use.
    pub credit_leases: CreditLeases,
    /// Reads which credentials ended, for verifiers.
    pub revocation_feed: RevocationFeed,
    /// Digests secrets.
    pub peppers: Peppers,
    /// Seals the client secrets of identity providers.
    pub sealing_keys: SealingKeys,
    /// Signs audit events.
    pub audit_signer: AuditSigner,
    /// Signs and verifies access tokens of sessions and keys.
    pub access_tokens: AccessTokens,
    /// Signs ID tokens, and OAuth access tokens that are JWTs (RFC 9068).
    pub openid_signer: OpenidSigner,
    /// Signs short-lived tokens about customers' credentials.
    pub short_lived_tokens: ShortLivedTokens,
    /// Hashes and checks passwords.
    pub password_hasher: PasswordHasher,
    /// Sends mail.
    pub mailer: Mailer,
    /// Fetches documents over HTTP.
    pub http_client: HttpClient,
    /// Looks up the DNS records that prove domains.
    pub dns: DnsResolver,
    /// The fetches of OAuth clients' metadata documents.
    pub document_fetches: DocumentFetches,
    /// The public keys that OAuth clients and identity providers publish.
    pub key_sets: PublishedKeySets,
    /// The public keys of GitHub's secret scanning.
    pub github_keys: GithubKeyring,
    /// Wakes the worker of queued mails.
    pub mail_waker: Notify,
    /// Wakes the worker of queued reports of leaked keys.
    pub leak_report_waker: Notify,
    /// Whether the warning about an unreadable `X-Forwarded-For` header has been logged.
    pub forwarding_warning: Once,
    /// The source of the current time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The database, for batched lookups: one connection for each batch that may run at once.
    lookups: Database,
    /// The database, for verifiers: reads credentials and revocations, and withdraws credits.
    verifications: Database,
    stop: CancellationToken,
}

impl App {
    /// Creates the state of a server. Once `stop` is cancelled, the server reports that it is not
    /// ready; running requests continue. Connections are opened when they are first needed.
    ///
    /// # Errors
    /// Internal if the configuration has no key to sign tokens with.
    pub fn build(
        config: Config,
        database: sqlx::postgres::PgConnectOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let database_settings = &config.database;
        let db = Database::open(database.clone(), database_settings.max_connections, "requests")?;
        let lookups = Database::open_with(
            database.clone(),
            connection_settings::LOOKUPS,
            LOOKUP_CONNECTIONS,
            "lookups",
        )?;
        let verifications = Database::open_with(
            database,
            connection_settings::LOOKUPS,
            VERIFICATION_CONNECTIONS,
            "verifications",
        )?;
        let access_tokens = AccessTokens::new(&config.tokens, &config.http.public_url)?;
        let http_client = HttpClient::new(&config.outbound);
        Ok(Self(Arc::new(Parts {
            credential_lookup: CredentialLookup::start(
                &lookups,
                LookupCache::new(config.keys.cache_capacity),
            ),
            origin_lookup: OriginLookup::start(&lookups, origin_lookup::CONNECTIONS, ()),
            readiness: Readiness::start(&lookups, db.clone()),
            meter: Meter::new(db.clone()),
            rate_limits: RateLimits::new(db.clone(), &config.rate_limits),
            verifications_in_flight: InFlight::new(config.http.max_in_flight, usize::MAX),
            verification_lookup: VerificationLookup::start(
                &verifications,
                verification_lookup::CONNECTIONS,
                LookupCache::new(config.keys.cache_capacity),
            ),
            credit_leases: CreditLeases::start(&verifications, &db),
            revocation_feed: RevocationFeed::start(&verifications, stop.clone()),
            in_flight: InFlight::new(
                config.http.max_in_flight,
                config.http.max_in_flight_per_caller,
            ),
            rejections: Rejections::new(&db),
            peppers: Peppers::new(&config.keys.peppers),
            sealing_keys: SealingKeys::new(&config.sso.sealing_keys),
            audit_signer: audit_signer(&config.keys.peppers, &*entropy),
            short_lived_tokens: ShortLivedTokens::new(&config.tokens, access_tokens.issuer()),
            access_tokens,
            openid_signer: OpenidSigner::new(&config.oauth),
            password_hasher: PasswordHasher::new(Arc::clone(&entropy)),
            mailer: Mailer::new(&config.mail, &database_settings.data_dir),
            github_keys: GithubKeyring::new(&config.github, http_client.clone()),
            http_client,
            dns: DnsResolver::new(&config.sso.dns_servers),
            document_fetches: DocumentFetches::default(),
            key_sets: PublishedKeySets::default(),
            mail_waker: Notify::new(),
            leak_report_waker: Notify::new(),
            forwarding_warning: Once::new(),
            clock,
            entropy,
            db,
            lookups,
            verifications,
            stop,
            config,
        })))
    }

    /// Returns whether the server is shutting down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Returns every pool of database connections.
    pub fn pools(&self) -> impl Iterator<Item = &Database> {
        [&self.db, &self.lookups, &self.verifications].into_iter()
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

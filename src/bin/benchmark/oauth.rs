//! Inserts OAuth access tokens to measure, as the server stores them.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::environment::{BenchmarkEnvironment, PUBLIC_URL};
use tenantry::clock::{Clock, SystemClock};
use tenantry::commands::Failure;
use tenantry::entropy::SystemEntropy;
use tenantry::error::Error;
use tenantry::model::ValidationError;
use tenantry::model::ids::{AppId, GrantId, new_uuid};
use tenantry::model::key_format::KeyFormat;
use tenantry::model::names::AppName;
use tenantry::model::oauth::app::{AppSpec, NewApp};
use tenantry::model::oauth::grant::{GrantedAccess, NewGrant};
use tenantry::model::oauth::redirect_uri::RedirectUri;
use tenantry::model::oauth::tokens::{NewAccessToken, TokenGrant};
use tenantry::model::oauth::{ApplicationType, ClientAuthMethod, IdTokenAlgorithm};
use tenantry::repo::memberships::Membership;
use tenantry::repo::{accounts, memberships, oauth_apps, oauth_grants, oauth_tokens};

/// How long the tokens are valid: longer than the benchmark takes.
const LIFETIME: Duration = Duration::from_hours(24);

/// Inserts an app, a grant of each account to it, and `tokens_per_account` tokens for each grant.
/// Returns the texts of the tokens.
///
/// # Errors
/// An account has no organization, or the database fails.
pub(crate) async fn insert_tokens(
    environment: &BenchmarkEnvironment,
    emails: impl Iterator<Item = String>,
    tokens_per_account: usize,
) -> Result<Vec<String>, Failure> {
    let mut db = PgConnection::connect(&environment.cluster.url("tenantry")).await?;
    let mut tx = db.begin().await?;
    let (mut client, mut texts) = (None, Vec::new());
    for email in emails {
        let (grant, membership) = find_grantor(&mut tx, &email).await?;
        let client = match client {
            Some(client) => client,
            None => *client.insert(insert_client(&mut tx, &membership).await.map_err(failure)?),
        };
        insert_grant(&mut tx, &grant, (client, &membership)).await.map_err(failure)?;
        for _ in 0..tokens_per_account {
            texts.push(insert_token(environment, &mut tx, &grant).await.map_err(failure)?);
        }
    }
    tx.commit().await?;
    Ok(texts)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of map_err")]
fn failure(error: Error) -> Failure {
    Failure::Message(format!("OAuth tokens cannot be inserted: {}", error.cause()))
}

/// Returns the grant that an account is to make, and its membership.
async fn find_grantor(
    tx: &mut PgConnection,
    email: &str,
) -> Result<(TokenGrant, Membership), Failure> {
    let missing = || Failure::Message(format!("{email} has no organization"));
    let account = accounts::find_by_email(tx, email).await.map_err(failure)?.ok_or_else(missing)?;
    let memberships = memberships::lock_of_account(tx, account.id).await.map_err(failure)?;
    let membership = memberships.into_iter().next().ok_or_else(missing)?;
    let grant = TokenGrant {
        id: GrantId::new(SystemClock.now(), &SystemEntropy),
        account: account.id,
        organization: Some(membership.organization),
        organization_handle: Some(membership.organization_handle.clone()),
        role: Some(membership.role),
        is_suspended: membership.is_suspended,
    };
    Ok((grant, membership))
}

async fn insert_client(tx: &mut PgConnection, owner: &Membership) -> Result<AppId, Error> {
    let native = ApplicationType::Native;
    let redirect_uri = RedirectUri::parse("http://127.0.0.1/callback", native);
    let invalid = |error: ValidationError| Error::internal(error.to_string());
    let spec = AppSpec {
        name: AppName::parse("Benchmark").map_err(invalid)?,
        client_uri: None,
        redirect_uris: vec![redirect_uri.map_err(invalid)?],
        application_type: native,
        auth_method: ClientAuthMethod::None,
        keys: None,
        id_token_algorithm: IdTokenAlgorithm::Rs256,
        scopes: Vec::new(),
    };
    let now = SystemClock.now();
    let (id, organization) = (AppId::new(now, &SystemEntropy), owner.organization);
    let app = NewApp { id, organization, spec: &spec, created_by: owner.id, created_at: now };
    oauth_apps::insert(tx, &app).await.map(|()| id)
}

async fn insert_grant(
    tx: &mut PgConnection,
    grant: &TokenGrant,
    (client, membership): (AppId, &Membership),
) -> Result<(), Error> {
    let access = GrantedAccess { scopes: scopes(), resources: resources() };
    let new = NewGrant {
        id: grant.id,
        account: grant.account,
        client: client.uuid(),
        membership: Some((membership.organization, membership.id)),
        access: &access,
        created_at: SystemClock.now(),
    };
    oauth_grants::insert(tx, &new).await.map(drop)
}

async fn insert_token(
    environment: &BenchmarkEnvironment,
    tx: &mut PgConnection,
    grant: &TokenGrant,
) -> Result<String, Error> {
    let text = KeyFormat::oauth_token().generate(&SystemEntropy).expose().to_owned();
    let token = NewAccessToken {
        id: new_uuid(SystemClock.now(), &SystemEntropy),
        digest: environment.digest(&text),
        grant,
        session: None,
        scopes: &scopes(),
        resources: &resources(),
        lifetime: LIFETIME,
    };
    oauth_tokens::insert_access_token(tx, &token).await.map(|()| text)
}

fn scopes() -> Vec<String> {
    vec!["usage:read".to_owned()]
}

fn resources() -> Vec<String> {
    vec![PUBLIC_URL.to_owned()]
}

//! Reports of GitHub's secret scanning, which name many texts that have the form of a key.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::redaction::redact_url;
use super::{queue, reporting_request};
use crate::app::App;
use crate::domain::keys::presented::possible_digests;
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::leak::{LeakReport, LeakSource};
use crate::model::secret::{Digest, Secret};
use crate::model::verification::CredentialKind;
use crate::repo::known_credentials;

/// A text that GitHub found.
pub struct GithubMatch {
    /// The text.
    pub token: Secret,
    /// The name under which its form is registered at GitHub.
    pub token_type: String,
    /// Where it was found.
    pub url: Option<Url>,
    /// What it was found in, for example `commit`.
    pub found_in: Option<String>,
}

/// The response to one match.
pub struct GithubFeedback {
    /// The SHA-256 of the text, in hexadecimal.
    pub token_hash: String,
    /// The name under which its form is registered at GitHub.
    pub token_type: String,
    /// Whether it is or was a key of this deployment.
    pub is_key: bool,
}

/// Queues a report of each key among the matches, and returns which matches are keys, in order.
///
/// # Errors
/// The database does not respond; nothing is queued then.
pub async fn report_matches(
    app: &App,
    matches: Vec<GithubMatch>,
    audit: &AuditContext,
) -> Result<Vec<GithubFeedback>> {
    let candidates: Vec<_> =
        matches.iter().map(|it| possible_digests(app, it.token.expose())).collect();
    let known = find_known(app, candidates.iter().flatten()).await?;
    let is_known = |digests: &[Digest]| digests.iter().any(|digest| known.contains(digest));
    let (mut reports, mut reported, mut feedback) = (Vec::new(), HashSet::new(), Vec::new());
    for (found, candidates) in matches.into_iter().zip(candidates) {
        let key = candidates.filter(|(_, digests)| is_known(digests));
        feedback.push(GithubFeedback {
            token_hash: hex::encode(Sha256::digest(found.token.expose())),
            token_type: found.token_type,
            is_key: key.is_some(),
        });
        let Some((kind, digests)) = key.filter(|(_, digests)| reported.insert(digests.clone()))
        else {
            continue;
        };
        reports.push(LeakReport {
            kind,
            digests,
            source: LeakSource::Github,
            url: found.url.and_then(|url| redact_url(app, &found.token, url)),
            found_in: found.found_in,
            request: reporting_request(audit),
        });
    }
    queue(app, &reports, audit).await?;
    Ok(feedback)
}

/// Returns the digests among the candidates under which a credential is stored.
async fn find_known(
    app: &App,
    candidates: impl Iterator<Item = &(CredentialKind, Vec<Digest>)>,
) -> Result<HashSet<Digest>> {
    let digests = |(kind, digests): &(CredentialKind, Vec<Digest>)| {
        let kind = *kind;
        digests.iter().map(move |digest| (kind, *digest)).collect::<Vec<_>>()
    };
    let candidates: Vec<_> = candidates.flat_map(digests).collect();
    if candidates.is_empty() {
        return Ok(HashSet::new());
    }
    let known = app
        .db
        .run(async |db| Ok(known_credentials::find(db, candidates).await?.into_keys().collect()));
    known.await
}

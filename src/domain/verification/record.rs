//! Counts checks of valid credentials, and records the rejections of known credentials for their
//! organizations.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{CheckRequest, Verdict, Verifier};
use crate::app::App;
use crate::app::meter::CheckOutcome;
use crate::app::rejections::RejectedCredential;
use crate::model::audit::AuditContext;
use crate::model::caller::{KeyRejectionReason, RejectedKey};
use crate::model::ids::RejectionId;
use crate::model::key_format::KeyFormat;
use crate::model::rejection::Rejection;
use crate::model::secret::Secret;
use crate::model::verification::{CredentialKind, VerdictClass, VerificationCode};

/// The longest path that is recorded, in characters.
const MAX_PATH_CHARS: usize = 256;

/// Counts a check of a known credential without a defect, and records a rejection for its
/// organization.
pub(super) fn record(
    app: &App,
    verifier: &Verifier,
    (key, request): (&Secret, &CheckRequest),
    verdict: &Verdict,
    audit: &AuditContext,
) {
    let Some(credential) = &verdict.credential else { return };
    let class = verdict.code.class();
    // A check of a credential that was revoked, has expired, is disabled or has a disabled owner is
    // no usage of its organization, nor a use of the key. It counts against the rate limit of
    // invalid credentials instead, which belongs to the client's address or the verifier.
    if credential.defect.is_none() {
        let was_admitted =
            verdict.quota.is_some() && verdict.code != VerificationCode::QuotaExceeded;
        let cost = u64::from(request.cost);
        app.meter.count_check(
            (credential.id, credential.kind.as_used()),
            credential.organization.as_ref().map(|organization| organization.id),
            (
                CheckOutcome {
                    admitted: if was_admitted { cost } else { 0 },
                    counted: if class == VerdictClass::Valid { cost } else { 0 },
                    is_rejected: class != VerdictClass::Valid,
                },
                &request.attribution,
            ),
            audit.at,
        );
    }
    record_rejection(app, verifier, (key, request), verdict, audit);
}

/// Records the rejection of a known credential for its organization.
pub(super) fn record_rejection(
    app: &App,
    verifier: &Verifier,
    (key, request): (&Secret, &CheckRequest),
    verdict: &Verdict,
    audit: &AuditContext,
) {
    let Some(credential) = &verdict.credential else { return };
    let class = verdict.code.class();
    let organization = credential.organization.as_ref();
    let Some(organization) = organization.filter(|_| class != VerdictClass::Valid) else { return };
    let (method, path) = &request.method_and_path;
    let (method, path) = (method.to_string(), redact(app, key, path));
    app.rejections.record_request(organization.id, || Rejection {
        id: RejectionId::new(audit.at, &*app.entropy),
        key_display_id: credential.display_id.clone(),
        method,
        path,
        status: status_of(class),
        code: verdict.code.as_str().to_owned(),
        detail: detail(verifier, verdict),
        address: request.client_address.map(|address| address.to_string()),
        request_id: audit.request_id.clone(),
        created_at: audit.at,
    });
    let reason = rejection_reason(verdict.code);
    if let (CredentialKind::ApiKey, Some(reason), Some(display_id)) =
        (credential.kind, reason, &credential.display_id)
    {
        let rejected = RejectedKey {
            organization: organization.id,
            key: credential.id,
            key_display_id: display_id.clone(),
            reason,
        };
        app.rejections.record_credential(RejectedCredential::Key(rejected), || AuditContext {
            status: Some(status_of(class)),
            address: request.client_address,
            ..audit.clone()
        });
    }
}

/// Returns the status that a proxy's client gets for a verdict of this class.
const fn status_of(class: VerdictClass) -> u16 {
    match class {
        VerdictClass::Valid => 200,
        VerdictClass::Malformed => 400,
        VerdictClass::Unauthenticated => 401,
        VerdictClass::Forbidden => 403,
        VerdictClass::Exhausted => 429,
    }
}

fn detail(verifier: &Verifier, verdict: &Verdict) -> String {
    let verifier = verifier.name();
    if verdict.missing_scopes.is_empty() {
        return format!("Rejected in a check by the verifier {verifier}");
    }
    let mut missing = verdict.missing_scopes.join(", ");
    missing.truncate(200);
    format!("Rejected in a check by the verifier {verifier}: lacks the scopes {missing}")
}

/// Returns the reason in the audit log; `None` if the rejection is not recorded there.
const fn rejection_reason(code: VerificationCode) -> Option<KeyRejectionReason> {
    match code {
        VerificationCode::KeyRevoked => Some(KeyRejectionReason::Revoked),
        VerificationCode::KeyExpired | VerificationCode::KeyRotated => {
            Some(KeyRejectionReason::Expired)
        }
        VerificationCode::KeyDisabled => Some(KeyRejectionReason::Disabled),
        VerificationCode::AddressNotAllowed | VerificationCode::AddressUnknown => {
            Some(KeyRejectionReason::Address)
        }
        VerificationCode::OriginNotAllowed => Some(KeyRejectionReason::Origin),
        VerificationCode::Valid
        | VerificationCode::KeyMissing
        | VerificationCode::CredentialsConflict
        | VerificationCode::KeyMalformed
        | VerificationCode::KeyUnknown
        | VerificationCode::OwnerDisabled
        | VerificationCode::OrganizationSuspended
        | VerificationCode::ScopeMissing
        | VerificationCode::RateLimited
        | VerificationCode::QuotaExceeded
        | VerificationCode::CreditsExhausted => None,
    }
}

/// Returns the first 256 characters of a path, in which `…` replaces each segment that may contain
/// a credential: one that contains the presented text or the prefix of any credential, as it is or
/// in percent-encoding.
fn redact(app: &App, key: &Secret, path: &str) -> String {
    let formats = [&app.config.keys.format, &app.config.accounts.token_format];
    let prefixes: Vec<&str> = formats
        .iter()
        .map(|format| format.prefix())
        .chain(KeyFormat::INTERNAL_PREFIXES)
        .filter(|prefix| !prefix.is_empty())
        .collect();
    let is_secret = |segment: &str| {
        let decoded: Cow<'_, str> = percent_decode_str(segment).decode_utf8_lossy();
        let contains_key = !key.expose().is_empty() && decoded.contains(key.expose());
        contains_key || prefixes.iter().any(|prefix| decoded.contains(prefix))
    };
    let redacted = path.split('/').map(|it| if is_secret(it) { "…" } else { it });
    redacted.collect::<Vec<_>>().join("/").chars().take(MAX_PATH_CHARS).collect()
}

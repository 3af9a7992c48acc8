//! Leaked keys: policies of organizations, reports, and notices that are mailed. None of these
//! contains the text of a key.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::model::secret::Digest;
use crate::model::verification::CredentialKind;

/// What is done with an organization's key that is reported as leaked. The owners are mailed in any
/// case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeakPolicy {
    /// Nothing: the key works on.
    Notify,
    /// The key is disabled, which can be undone.
    #[default]
    Disable,
    /// The key is revoked.
    Revoke,
}

impl LeakPolicy {
    /// Every policy, with its wire name.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Notify, "notify"), (Self::Disable, "disable"), (Self::Revoke, "revoke")];

    /// Returns the wire name, which the database stores, too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Parses a wire name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(policy, _)| *policy)
    }
}

/// Who reported a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakSource {
    /// Anyone who has the key's text.
    Anyone,
    /// GitHub's secret scanning.
    Github,
}

impl LeakSource {
    const ALL: [Self; 2] = [Self::Anyone, Self::Github];

    /// Returns the name in the audit log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "report",
            Self::Github => "github",
        }
    }

    /// Returns the actor of the audit event.
    #[must_use]
    pub const fn actor(self) -> &'static str {
        match self {
            Self::Anyone => "leak_report",
            Self::Github => "github",
        }
    }
}

/// What was done with a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakAction {
    /// Nothing: the policy is to notify.
    Nothing,
    /// It was disabled.
    Disabled,
    /// It was disabled before, and stays so.
    AlreadyDisabled,
    /// It was revoked.
    Revoked,
}

impl LeakAction {
    const ALL: [Self; 4] = [Self::Nothing, Self::Disabled, Self::AlreadyDisabled, Self::Revoked];

    /// Returns the name in the audit log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Disabled => "disabled",
            Self::AlreadyDisabled => "already_disabled",
            Self::Revoked => "revoked",
        }
    }
}

/// The request that reported a key, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportingRequest {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The status of its response.
    pub status: Option<u16>,
    /// Its client's address.
    pub address: Option<IpAddr>,
    /// Its id.
    pub request_id: String,
}

/// A report of a leaked key, as it is queued: with the key's digests instead of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakReport {
    /// The kind of credential.
    pub kind: CredentialKind,
    /// The digests under which it may be stored.
    pub digests: Vec<Digest>,
    /// Who reported it.
    pub source: LeakSource,
    /// Where it was seen.
    pub url: Option<String>,
    /// What GitHub found it in, for example `commit`.
    pub found_in: Option<String>,
    /// The request.
    pub request: ReportingRequest,
}

impl LeakReport {
    /// Returns the report as the database stores it.
    #[must_use]
    pub fn to_stored(&self) -> Value {
        let digests: Vec<_> = self.digests.iter().map(|it| hex::encode(it.bytes())).collect();
        json!({
            "credential": self.kind.as_str(),
            "digests": digests,
            "source": self.source.as_str(),
            "url": self.url,
            "found_in": self.found_in,
            "method": self.request.method,
            "path": self.request.path,
            "status": self.request.status,
            "address": self.request.address,
            "request_id": self.request.request_id,
        })
    }

    /// Creates the report from the database's column; `None` if it is of an unknown version.
    #[must_use]
    pub fn from_stored(stored: &Value) -> Option<Self> {
        let digests = stored["digests"].as_array()?.iter().map(|digest| {
            let bytes = hex::decode(digest.as_str()?).ok()?;
            Some(Digest::new(bytes.try_into().ok()?))
        });
        let request = ReportingRequest {
            method: text(stored, "method")?,
            path: text(stored, "path")?,
            status: stored["status"].as_u64().and_then(|status| status.try_into().ok()),
            address: text(stored, "address").and_then(|address| address.parse().ok()),
            request_id: text(stored, "request_id")?,
        };
        Some(Self {
            kind: credential_kind(stored)?,
            digests: digests.collect::<Option<_>>()?,
            source: named(&LeakSource::ALL, LeakSource::as_str, stored, "source")?,
            url: text(stored, "url"),
            found_in: text(stored, "found_in"),
            request,
        })
    }
}

/// What the mail about a leaked key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakNotice {
    /// The kind of credential.
    pub kind: CredentialKind,
    /// The prefix of its text and the 8 characters after it.
    pub beginning: String,
    /// What was done.
    pub action: LeakAction,
    /// Who reported it.
    pub source: LeakSource,
    /// Where it was seen, if GitHub reported it. The URL of any other report is not mailed: its
    /// sender could use it to lead the owners to a malicious website.
    pub url: Option<String>,
}

impl LeakNotice {
    /// Returns the notice as the database stores it.
    #[must_use]
    pub fn to_stored(&self) -> Value {
        json!({
            "credential": self.kind.as_str(),
            "beginning": self.beginning,
            "action": self.action.as_str(),
            "source": self.source.as_str(),
            "url": self.url,
        })
    }

    /// Creates the notice from the database's column; `None` if it is of an unknown version.
    #[must_use]
    pub fn from_stored(stored: &Value) -> Option<Self> {
        Some(Self {
            kind: credential_kind(stored)?,
            beginning: text(stored, "beginning")?,
            action: named(&LeakAction::ALL, LeakAction::as_str, stored, "action")?,
            source: named(&LeakSource::ALL, LeakSource::as_str, stored, "source")?,
            url: text(stored, "url"),
        })
    }

    /// Returns whether the credential is an organization's key.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.kind == CredentialKind::ApiKey
    }
}

fn text(stored: &Value, name: &str) -> Option<String> {
    stored[name].as_str().map(str::to_owned)
}

fn credential_kind(stored: &Value) -> Option<CredentialKind> {
    let kinds = [CredentialKind::ApiKey, CredentialKind::PersonalToken, CredentialKind::OauthToken];
    named(&kinds, CredentialKind::as_str, stored, "credential")
}

/// Returns the value with the name that is stored in a field.
fn named<T: Copy>(
    all: &[T],
    name_of: fn(T) -> &'static str,
    stored: &Value,
    field: &str,
) -> Option<T> {
    let name = stored[field].as_str()?;
    all.iter().copied().find(|it| name_of(*it) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_restored_from_its_name_and_the_default_is_to_disable() {
        for (policy, name) in LeakPolicy::ALL {
            assert_eq!(policy.as_str(), name);
            assert_eq!(LeakPolicy::parse(name), Some(policy));
        }
        assert_eq!(LeakPolicy::parse("Disable"), None);
        assert_eq!(LeakPolicy::default(), LeakPolicy::Disable);
    }

    #[test]
    fn reports_and_notices_are_restored_from_what_is_stored() {
        for (kind, source) in [
            (CredentialKind::ApiKey, LeakSource::Anyone),
            (CredentialKind::PersonalToken, LeakSource::Github),
        ] {
            let url = Some("https://github.com/a/b".to_owned());
            let report = LeakReport {
                kind,
                digests: vec![Digest::new([7; 32]), Digest::new([9; 32])],
                source,
                url: url.clone(),
                found_in: Some("commit".to_owned()),
                request: ReportingRequest {
                    method: "POST".to_owned(),
                    path: "/v1/leaks".to_owned(),
                    status: Some(202),
                    address: Some(IpAddr::from([192, 0, 2, 1])),
                    request_id: "req_1".to_owned(),
                },
            };
            assert_eq!(LeakReport::from_stored(&report.to_stored()), Some(report));
            for action in LeakAction::ALL {
                let (beginning, url) = ("tnt_live_abcdefgh".to_owned(), url.clone());
                let notice = LeakNotice { kind, beginning, action, source, url };
                assert_eq!(LeakNotice::from_stored(&notice.to_stored()), Some(notice));
            }
        }
        assert_eq!(LeakReport::from_stored(&json!({})), None);
        assert_eq!(LeakNotice::from_stored(&json!({ "action": "unknown" })), None);
    }
}

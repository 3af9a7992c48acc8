//! Why a fetch failed, in words that are safe to log: without the URL, names, addresses, or text
//! that the other server sent.

use std::error::Error;
use std::io;

use thiserror::Error as ThisError;

use crate::model::ValidationError;

/// Why a fetch failed.
///
/// A caller who can choose URLs freely should learn no more than that the fetch failed: the
/// difference between a host that is not allowed and one that is not reachable shows what exists
/// inside the network.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum FetchError {
    /// The URL may not be fetched, or an address of its host is not allowed. Nothing was sent. The
    /// text begins with "must".
    #[error("the URL {0}")]
    NotAllowed(ValidationError),
    /// There is no complete response: the name was not resolved, the connection or the TLS
    /// handshake failed, the response was broken off, or the deadline passed.
    #[error("there is no complete response: {0}")]
    NoResponse(String),
    /// The body is larger than this size limit, in bytes.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let causes = causes(&error);
        let own = causes.iter().find_map(|cause| cause.downcast_ref::<Self>());
        own.cloned().unwrap_or_else(|| Self::NoResponse(describe(&error, &causes)))
    }
}

/// Returns the error and its chain of sources.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        // `io::Error::source` skips the error that it contains.
        let contained = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match contained {
            Some(contained) => Some(contained),
            None => cause.source(),
        };
    }
    causes
}

/// Returns what failed. Only texts of known errors are included.
fn describe(error: &reqwest::Error, causes: &[&(dyn Error + 'static)]) -> String {
    if let Some(error) = find::<rustls::Error>(causes) {
        return describe_tls(error);
    }
    if error.is_dns() {
        return "the host name was not resolved".to_owned();
    }
    // The innermost one, because the outer ones contain it.
    if let Some(error) = causes.iter().rev().find_map(|it| it.downcast_ref::<io::Error>()) {
        return error.kind().to_string();
    }
    if let Some(error) = find::<hyper::Error>(causes) {
        return error.to_string();
    }
    if error.is_builder() { "the request is not valid" } else { "the request failed" }.to_owned()
}

fn describe_tls(error: &rustls::Error) -> String {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    match error {
        // The text would contain the names and addresses in the certificate.
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "the certificate is for another host name".to_owned()
        }
        other => format!("TLS: {other}"),
    }
}

fn find<'a, T: Error + 'static>(causes: &[&'a (dyn Error + 'static)]) -> Option<&'a T> {
    causes.iter().find_map(|cause| cause.downcast_ref())
}

//! Responses to authorization requests (RFC 6749 §4.1.2, RFC 9207), and how they are sent to the
//! client.

use crate::model::secret::Secret;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// The code of an error that is sent to a client.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AuthorizationErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl AuthorizationErrorCode {
            /// Returns the code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

error_codes! {
    /// A parameter is missing, repeated or invalid.
    InvalidRequest = "invalid_request",
    /// A response other than a code is requested.
    UnsupportedResponseType = "unsupported_response_type",
    /// A scope is unknown, or the client may not request it.
    InvalidScope = "invalid_scope",
    /// A resource is unknown (RFC 8707 §2).
    InvalidTarget = "invalid_target",
    /// The person denied the request, or has none of the requested rights.
    AccessDenied = "access_denied",
    /// No HTML page may be shown, and the person is not signed in.
    LoginRequired = "login_required",
    /// No HTML page may be shown, and the person has not granted the access.
    ConsentRequired = "consent_required",
    /// No HTML page may be shown, and the person must do something first.
    InteractionRequired = "interaction_required",
    /// The request has a request object.
    RequestNotSupported = "request_not_supported",
    /// The request refers to a request object.
    RequestUriNotSupported = "request_uri_not_supported",
}

/// An error that is sent to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationError {
    /// Its code.
    pub code: AuthorizationErrorCode,
    /// What is wrong, for the client's developer.
    pub description: &'static str,
}

impl AuthorizationError {
    /// Creates an error.
    #[must_use]
    pub const fn new(code: AuthorizationErrorCode, description: &'static str) -> Self {
        Self { code, description }
    }

    /// Creates the error for an invalid parameter.
    #[must_use]
    pub const fn invalid(description: &'static str) -> Self {
        Self::new(AuthorizationErrorCode::InvalidRequest, description)
    }
}

/// How a response is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    Query,
    /// In a form that the browser posts to the redirect URI.
    FormPost,
}

impl ResponseMode {
    /// Parses its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Query, Self::FormPost].into_iter().find(|it| it.as_str() == word)
    }

    /// Returns its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::FormPost => "form_post",
        }
    }
}

/// Where the response to a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseTarget {
    /// The redirect URI, exactly as the request has it.
    pub redirect_uri: String,
    /// How it is sent.
    pub mode: ResponseMode,
    /// The client's own text, which is returned unchanged.
    pub state: Option<String>,
}

/// A response to a client.
pub struct AuthorizationResponse {
    target: ResponseTarget,
    issuer: String,
    outcome: Result<Secret, AuthorizationError>,
}

impl AuthorizationResponse {
    /// Creates a response with a code or an error. It names the issuer in any case (RFC 9207).
    #[must_use]
    pub fn new(
        target: &ResponseTarget,
        issuer: &str,
        outcome: Result<Secret, AuthorizationError>,
    ) -> Self {
        Self { target: target.clone(), issuer: issuer.to_owned(), outcome }
    }

    /// Returns where it is sent.
    #[must_use]
    pub const fn target(&self) -> &ResponseTarget {
        &self.target
    }

    /// Returns its code.
    #[must_use]
    pub fn code(&self) -> Option<Secret> {
        self.outcome.as_ref().ok().map(|code| Secret::new(code.expose().to_owned()))
    }

    /// Returns its parameters other than the code.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, &str)> {
        let mut parameters = match &self.outcome {
            Ok(_) => Vec::new(),
            Err(error) => {
                vec![("error", error.code.as_str()), ("error_description", error.description)]
            }
        };
        parameters.extend(self.target.state.iter().map(|state| ("state", state.as_str())));
        parameters.push(("iss", &self.issuer));
        parameters
    }

    /// Returns the redirect URI with the parameters in its query. The URI itself is not changed.
    #[must_use]
    pub fn url(&self) -> Secret {
        let uri = &self.target.redirect_uri;
        let separator = match uri.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Ok(code) = &self.outcome {
            query.append_pair("code", code.expose());
        }
        query.extend_pairs(self.parameters());
        Secret::new(format!("{uri}{separator}{}", query.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_follow_the_unchanged_redirect_uri() {
        let url = |uri: &str, state: Option<&str>| {
            let target = ResponseTarget {
                redirect_uri: uri.to_owned(),
                mode: ResponseMode::Query,
                state: state.map(str::to_owned),
            };
            let code = Ok(Secret::new("c".to_owned()));
            let response = AuthorizationResponse::new(&target, "https://i.example", code);
            response.url().expose().to_owned()
        };
        let rest = "code=c&iss=https%3A%2F%2Fi.example";
        for (uri, expected) in [
            ("https://a.example/cb", "https://a.example/cb?"),
            ("https://a.example/cb?", "https://a.example/cb?"),
            ("https://a.example/%63b?x=%20&y", "https://a.example/%63b?x=%20&y&"),
            ("com.example.app:/cb", "com.example.app:/cb?"),
        ] {
            assert_eq!(url(uri, None), format!("{expected}{rest}"));
        }
        let with_state = url("https://a.example/", Some("a b&c=d\"><script>"));
        assert!(with_state.contains("&state=a+b%26c%3Dd%22%3E%3Cscript%3E&"), "{with_state}");
    }
}

//! OAuth 2.1: clients, what accounts grant to them, and what organizations permit.

pub mod app;
pub mod app_grant;
pub mod app_policy;
pub mod authorization_request;
pub mod authorization_response;
pub mod client;
pub mod client_assertion;
pub mod client_keys;
pub mod client_metadata;
pub mod device;
pub mod document;
pub mod document_url;
pub mod grant;
pub mod redirect_uri;
pub mod registration;
pub mod resource;
pub mod scope_sentence;
pub mod tokens;

use crate::model::scope::{BuiltInScope, Scope};

macro_rules! stored_words {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Parses its word; `None` for another text.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.as_str() == word)
            }

            /// Returns its word in requests, responses and the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    )*};
}

stored_words! {
    /// How a client came to be known.
    ClientKind {
        /// An organization registered it.
        Registered = "registered",
        /// Its metadata document, whose URL is its id.
        Document = "document",
        /// Dynamic registration (RFC 7591).
        Dynamic = "dynamic",
    }
    /// How a client authenticates at the token endpoint (RFC 7591 §2).
    ClientAuthMethod {
        /// Not at all: it is a public client.
        None = "none",
        /// HTTP Basic.
        SecretBasic = "client_secret_basic",
        /// In the body.
        SecretPost = "client_secret_post",
        /// With an assertion that it signs with its private key (`OpenID` Connect Core §9).
        PrivateKeyJwt = "private_key_jwt",
    }
    /// How an ID token is signed (RFC 7518 §3.1).
    IdTokenAlgorithm {
        /// RSA, which every relying party supports.
        Rs256 = "RS256",
        /// ECDSA with P-256.
        Es256 = "ES256",
    }
    /// A scope of `OpenID` Connect (Core §5.4): what a client learns about the person. It is not a
    /// scope of this API, and needs no role.
    OpenidScope {
        /// Who the person is: an ID token, and the userinfo endpoint.
        Openid = "openid",
        /// The person's name.
        Profile = "profile",
        /// The person's e-mail address.
        Email = "email",
    }
    /// Where a client runs (RFC 7591 §2).
    ApplicationType {
        /// On a web server.
        Web = "web",
        /// On its user's device.
        Native = "native",
    }
    /// Who may grant access to a client.
    ClientVisibility {
        /// The members of its own organization.
        Private = "private",
        /// All accounts.
        Public = "public",
    }
    /// Which clients an organization's members may grant access to.
    AppPolicyMode {
        /// All that are not blocked.
        Open = "open",
        /// Those that are allowed.
        Approved = "approved",
        /// None.
        None = "none",
    }
}

impl ClientAuthMethod {
    /// Returns whether a client authenticates with a secret.
    #[must_use]
    pub const fn has_secret(self) -> bool {
        matches!(self, Self::SecretBasic | Self::SecretPost)
    }
}

/// `offline_access` (`OpenID` Connect Core §11): access while the person is away, with a refresh
/// token that outlives the session. It is not a scope of a credential.
pub const OFFLINE_ACCESS: &str = "offline_access";

/// The built-in scopes that a client may request unless `OAUTH_SCOPES` says otherwise: none that
/// manages keys, members, the organization itself or what it pays.
const DEFAULT_REQUESTABLE: [BuiltInScope; 7] = [
    BuiltInScope::UserRead,
    BuiltInScope::UserWrite,
    BuiltInScope::OrganizationRead,
    BuiltInScope::MembersRead,
    BuiltInScope::ProjectsRead,
    BuiltInScope::ProjectsWrite,
    BuiltInScope::UsageRead,
];

/// The scopes of this API that clients may request. They may request those of `OpenID` Connect and
/// `offline_access` as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestableScopes(Vec<Scope>);

impl RequestableScopes {
    /// Returns the default list: built-in scopes, and the operator's own without wildcards.
    #[must_use]
    pub fn with_operators(operators: &[Scope]) -> Self {
        let built_in = DEFAULT_REQUESTABLE.iter().filter_map(|it| Scope::parse(it.as_str()).ok());
        let own = operators.iter().filter(|scope| !scope.is_wildcard()).cloned();
        Self(built_in.chain(own).collect())
    }

    /// Creates the list of these scopes.
    #[must_use]
    pub const fn new(scopes: Vec<Scope>) -> Self {
        Self(scopes)
    }

    /// Returns whether clients may request the scope.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Returns whether clients may request the scope with this text: one of the list, or one of
    /// `OpenID` Connect.
    #[must_use]
    pub fn allows(&self, text: &str) -> bool {
        OpenidScope::parse(text).is_some() || Scope::parse(text).is_ok_and(|it| self.contains(&it))
    }

    /// Returns the scopes.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

/// Returns whether a scope is about a person's own account, and needs no organization.
#[must_use]
pub fn is_personal(scope: &Scope) -> bool {
    [BuiltInScope::UserRead, BuiltInScope::UserWrite].iter().any(|it| it.as_str() == scope.as_str())
}

/// Returns whether a text can be the public id of a client (RFC 6749, appendix A.1).
#[must_use]
pub fn is_client_id(text: &str) -> bool {
    (1..=2_048).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns whether a text can be a verifier of PKCE (RFC 7636 §4.1).
#[must_use]
pub fn is_pkce_verifier(text: &str) -> bool {
    let is_unreserved =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&text.len()) && text.bytes().all(is_unreserved)
}

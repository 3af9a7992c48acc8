//! The families of routes, and the facts of each route that middleware needs before its handler
//! runs: its family, the credentials that it accepts, its cost, and the limits that it counts
//! against.
//!
//! A family declares its routes with [`FamilyRoutes`], which takes these facts with every route.
//! [`RouteTable`] finds them again through the route that a request matched.

use std::collections::HashMap;

use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::app::App;
use crate::http::query::KnownParameters;
pub use crate::http::route_kind::RouteKind;
use crate::model::caller::Credential;

/// A family of routes, each for one audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Scripts that sign up without an account, and then use their keys.
    Onboarding,
    /// A dashboard front end.
    Account,
    /// An organization's own automation.
    Organization,
    /// The operator's workers.
    Operator,
    /// Browsers and personal access tokens.
    User,
    /// The operator's own API, and the proxies in front of it.
    Verification,
    /// OAuth clients, and services that introspect tokens.
    OAuth,
    /// Every path outside the families. Errors are problem documents (RFC 9457).
    Other,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 8] = [
        Self::Onboarding,
        Self::Account,
        Self::Organization,
        Self::Operator,
        Self::User,
        Self::Verification,
        Self::OAuth,
        Self::Other,
    ];

    /// Returns the family that a path belongs to, whether or not a route matches it.
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        match (segments.next().unwrap_or_default(), segments.next()) {
            ("signup" | "me" | "usage", _)
            | ("auth", Some("token-exchange" | "refresh" | "verify")) => Self::Onboarding,
            ("auth", _) => Self::Account,
            ("v1", Some("organization")) => Self::Organization,
            ("v1", Some("admin")) => Self::Operator,
            ("v1", Some("leaks" | "usage" | "verify")) => Self::Verification,
            ("api", Some("auth" | "user")) => Self::User,
            ("oauth2", _) | ("device", None) => Self::OAuth,
            _ => Self::Other,
        }
    }

    /// Returns the family's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onboarding => "onboarding",
            Self::Account => "account",
            Self::Organization => "organization",
            Self::Operator => "operator",
            Self::User => "user",
            Self::Verification => "verification",
            Self::OAuth => "oauth",
            Self::Other => "none",
        }
    }
}

/// The kinds of credential that a route accepts. The route's guard decides what else the credential
/// needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedCredentials {
    /// API keys, personal access tokens, OAuth access tokens and sessions.
    Any,
    /// Sessions, by cookie or access token.
    Sessions,
    /// API keys, personal access tokens and OAuth access tokens.
    AllButSessions,
    /// An organization's API key itself, and not an access token that was issued for it.
    OrganizationKeys,
    /// OAuth access tokens. Cookies are ignored, and another credential is an invalid token.
    OauthTokens,
    /// Master keys. The route's guard verifies them; no other credential is looked up.
    MasterKeys,
    /// Verifiers. The route's guard identifies them; the credential that the request is about
    /// belongs to someone else.
    Verifiers,
    /// None. No credential is looked up, whatever the request presents.
    None,
}

impl AcceptedCredentials {
    /// Returns whether the route accepts this credential.
    #[must_use]
    pub const fn accepts(self, credential: &Credential) -> bool {
        match self {
            Self::Any => true,
            Self::Sessions => matches!(credential, Credential::Session(..)),
            Self::AllButSessions => !matches!(credential, Credential::Session(..)),
            Self::OrganizationKeys => matches!(credential, Credential::Key(_, None)),
            Self::OauthTokens => matches!(credential, Credential::OauthToken(..)),
            Self::MasterKeys | Self::Verifiers | Self::None => false,
        }
    }
}

/// The facts of a request's route that middleware needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// The family of the route.
    pub family: Family,
    /// The credentials that it accepts.
    pub credentials: AcceptedCredentials,
    /// The cost of the request, and the limits that it counts against.
    pub kind: RouteKind,
}

/// The declared routes, by path pattern.
#[derive(Clone, Default)]
pub struct RouteTable(HashMap<String, Vec<DeclaredRoute>>);

#[derive(Clone)]
struct DeclaredRoute {
    method: Method,
    facts: RouteFacts,
    /// `None` accepts any query parameters.
    parameters: Option<KnownParameters>,
}

impl RouteTable {
    /// Returns the facts of a request: those of the route that it matched; for a method that the
    /// path does not have, those of the path. Without a declared route, they follow from the path.
    #[must_use]
    pub fn facts(&self, route: &str, method: &Method, path: &str) -> RouteFacts {
        if let Some(declared) = self.find(route, method) {
            return declared.facts;
        }
        let kind = RouteKind::of_method(get_for_head(method));
        if let Some(other) = self.0.get(route).and_then(|methods| methods.first()) {
            let is_open_to_all_origins = other.facts.kind.is_open_to_all_origins;
            return RouteFacts {
                kind: RouteKind { is_open_to_all_origins, ..kind },
                ..other.facts
            };
        }
        // Clients discover the server by these documents.
        let is_open_to_all_origins = path.starts_with("/.well-known/");
        let kind = RouteKind { is_open_to_all_origins, ..kind };
        let family = Family::from_path(path);
        let credentials = match family {
            Family::Verification | Family::OAuth => AcceptedCredentials::Verifiers,
            _ => AcceptedCredentials::Any,
        };
        RouteFacts { family, credentials, kind }
    }

    /// Returns the query parameters that a declared route knows; `None` accepts any.
    #[must_use]
    pub fn known_parameters(&self, route: &str, method: &Method) -> Option<&KnownParameters> {
        self.find(route, method)?.parameters.as_ref()
    }

    /// Returns every declared route: its path pattern, method and facts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Method, RouteFacts)> {
        let routes = self.0.iter();
        routes.flat_map(|(path, methods)| {
            methods.iter().map(move |route| (path.as_str(), &route.method, route.facts))
        })
    }

    fn find(&self, route: &str, method: &Method) -> Option<&DeclaredRoute> {
        let method = get_for_head(method);
        self.0.get(route)?.iter().find(|declared| declared.method == method)
    }

    /// Sets these facts for every method of the path that has none yet.
    fn set_default(&mut self, path: &str, facts: RouteFacts) {
        let all = [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
            Method::CONNECT,
        ];
        for method in all {
            if self.find(path, &method).is_none() {
                self.insert(path, DeclaredRoute { method, facts, parameters: None });
            }
        }
    }

    fn insert(&mut self, path: &str, route: DeclaredRoute) {
        self.0.entry(path.to_owned()).or_default().push(route);
    }

    fn extend(&mut self, other: Self) {
        for (path, methods) in other.0 {
            self.0.entry(path).or_default().extend(methods);
        }
    }
}

/// Returns GET for HEAD, because the route of GET handles HEAD.
fn get_for_head(method: &Method) -> &Method {
    if *method == Method::HEAD { &Method::GET } else { method }
}

/// The routes of a family, or of a part of one, that accept the same credentials.
pub struct FamilyRoutes {
    family: Family,
    credentials: AcceptedCredentials,
    routes: Routes,
}

impl FamilyRoutes {
    /// Creates a family without routes.
    #[must_use]
    pub fn new(family: Family, credentials: AcceptedCredentials) -> Self {
        Self { family, credentials, routes: Routes::default() }
    }

    /// Adds routes of one kind, from `utoipa_axum::routes!`.
    #[must_use]
    pub fn route(mut self, kind: RouteKind, handlers: UtoipaMethodRouter<App>) -> Self {
        let facts = RouteFacts { family: self.family, credentials: self.credentials, kind };
        for (path, item) in &handlers.1.paths {
            for (method, operation) in operations_of(item) {
                // OAuth ignores unknown parameters (RFC 6749 §3.1).
                let ignores_unknown = self.family == Family::OAuth;
                let parameters = KnownParameters::of(operation).filter(|_| !ignores_unknown);
                self.routes.table.insert(path, DeclaredRoute { method, facts, parameters });
            }
        }
        self.routes.router = self.routes.router.routes(handlers);
        self
    }

    /// Adds handlers of a path that the API description does not contain, because it describes
    /// another route in their place. They accept any query parameters.
    #[must_use]
    pub fn undescribed(mut self, kind: RouteKind, path: &str, handlers: MethodRouter<App>) -> Self {
        let facts = RouteFacts { family: self.family, credentials: self.credentials, kind };
        self.routes.table.set_default(path, facts);
        self.routes.router = self.routes.router.route(path, handlers);
        self
    }
}

impl From<FamilyRoutes> for Routes {
    fn from(family: FamilyRoutes) -> Self {
        family.routes
    }
}

/// Routes with their descriptions and their facts.
#[derive(Default)]
pub struct Routes {
    /// The routes, with their descriptions.
    pub router: OpenApiRouter<App>,
    /// The facts of the routes.
    pub table: RouteTable,
}

impl Routes {
    /// Adds other routes.
    #[must_use]
    pub fn merge(mut self, other: impl Into<Self>) -> Self {
        let Self { router, table } = other.into();
        self.table.extend(table);
        Self { router: self.router.merge(router), table: self.table }
    }
}

/// Returns the operations of a path item, by method.
fn operations_of(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::in_flight::Cost;

    #[test]
    fn every_route_of_the_families_declares_facts_that_fit_its_path_and_method() {
        let table = crate::http::routes().table;
        assert!(table.iter().count() > 60, "{}", table.iter().count());
        for (path, method, facts) in table.iter() {
            let RouteFacts { family, kind, .. } = facts;
            assert_eq!(family, Family::from_path(path), "{method} {path}");
            let is_read = matches!(kind.cost, Cost::Read | Cost::Check);
            // A proxy checks a request of any method, and other checks have a body.
            let is_for_verifiers = facts.credentials == AcceptedCredentials::Verifiers;
            let is_check = is_for_verifiers && kind.cost == Cost::Check;
            assert_eq!(is_read, method.is_safe() || is_check, "{method} {path}");
            assert!(!kind.is_change || !is_read, "{method} {path}");
            assert!(*method != Method::DELETE || !kind.is_change, "{method} {path}");
        }
    }

    #[test]
    fn a_method_that_a_path_does_not_have_has_the_credentials_of_the_path() {
        let table = crate::http::routes().table;
        let facts = table.facts("/v1/admin/key/rotate", &Method::GET, "/v1/admin/key/rotate");
        assert_eq!(facts.credentials, AcceptedCredentials::OrganizationKeys);
        assert_eq!(facts.kind, RouteKind::READ);
        let head = table.facts("/usage/today", &Method::HEAD, "/usage/today");
        assert!(head.kind.is_quota_exempt);
    }
}

//! The identity provider of the tests.

use serde_json::json;
use url::Url;

use crate::support::identity_provider::IdentityProvider;
use crate::support::server::curl;

#[test]
fn the_identity_provider_signs_in_without_pages_and_changes_while_it_runs() {
    let Some(provider) = IdentityProvider::start() else { return };
    let redirect_uri = "https://app.example.com/callback";
    provider.control(json!({ "redirectUris": [redirect_uri], "discovery": { "a": "b" } }));
    let issuer = provider.issuer();
    let discovered = curl(&[&format!("{issuer}/.well-known/openid-configuration")]).body;
    assert_eq!((discovered["issuer"].as_str(), &discovered["a"]), (Some(issuer), &json!("b")));
    let query = [
        ("client_id", provider.client_id()),
        ("redirect_uri", redirect_uri),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "a-state"),
    ];
    let url = Url::parse_with_params(&format!("{issuer}/auth"), query).unwrap();
    let callback = provider.sign_in(url.as_str());
    assert!(callback.starts_with(&format!("{redirect_uri}?code=")), "{callback}");
    let keys = || curl(&[&format!("{issuer}/jwks")]).body["keys"].as_array().unwrap().len();
    assert_eq!(keys(), 2);
    provider.control(json!({ "rotateKeys": "publish", "nextLogin": null }));
    assert_eq!(keys(), 4);
    let callback = provider.sign_in(url.as_str());
    assert!(callback.starts_with(&format!("{redirect_uri}?error=access_denied")), "{callback}");
}

//! Checks the public URL and the number of trusted proxies.

use url::{Host, Url};

use super::Check;
use super::settings::DoctorSettings;

const PUBLIC_URL: &str = "PUBLIC_URL";
const HOPS: &str = "TRUSTED_PROXY_HOPS";

/// Checks the address that callers use, and the proxies in front of the server.
pub(super) fn checks(settings: &DoctorSettings) -> Vec<Check> {
    let http = &settings.config.http;
    if settings.is_unusable(PUBLIC_URL) || settings.is_unusable("LISTEN_ADDR") {
        return Vec::new();
    }
    let is_reachable = !http.listen_addr.ip().is_loopback();
    let mut checks =
        vec![check_public_url(&http.public_url, settings.has_public_url, is_reachable)];
    if !settings.is_unusable(HOPS) {
        checks.push(match (http.trusted_proxy_hops, http.is_https()) {
            (0, true) => Check::warning(
                HOPS,
                "is 0, but PUBLIC_URL is https, which needs a proxy, so all callers appear to have \
                 the proxy's address: set it to the number of proxies that append to \
                 X-Forwarded-For",
            ),
            (0, false) => Check::ok(HOPS, "a caller's address is that of its connection"),
            (hops, _) => Check::ok(HOPS, format!("{hops} proxies append to X-Forwarded-For")),
        });
    }
    checks
}

/// Checks the public URL. `is_set` states whether the operator set it, and `is_reachable` whether
/// other machines can reach the server.
fn check_public_url(url: &Url, is_set: bool, is_reachable: bool) -> Check {
    if !is_set && is_reachable {
        let text = format!(
            "is not set, so links and access tokens contain {url}, which callers cannot use: set \
             it to the address that callers use"
        );
        return Check::problem(PUBLIC_URL, text);
    }
    if url.scheme() != "https" && !is_loopback(url) {
        let text = format!(
            "{url} is not https, so keys and passwords can be intercepted: put a proxy with TLS in \
             front, and set it to the proxy's address"
        );
        return Check::problem(PUBLIC_URL, text);
    }
    Check::ok(PUBLIC_URL, url.as_str())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(url: &str, is_set: bool, is_reachable: bool) -> String {
        check_public_url(&url.parse().unwrap(), is_set, is_reachable).to_string()
    }

    #[test]
    fn a_public_url_must_be_https_or_loopback_and_set_if_reachable() {
        for accepted in ["https://api.example.com", "http://127.0.0.1:8080", "http://localhost/"] {
            assert!(check_text(accepted, true, true).starts_with("ok"), "{accepted}");
        }
        assert!(check_text("http://127.0.0.1:8080", false, false).starts_with("ok"));
        assert!(check_text("http://0.0.0.0:8080", false, true).contains("is not set"));
        assert!(check_text("http://api.example.com", true, false).contains("is not https"));
    }
}

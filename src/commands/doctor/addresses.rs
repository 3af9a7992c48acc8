//! Checks the public address and the trusted proxies.

use url::{Host, Url};

use super::Check;
use super::settings::DoctorSettings;

const PUBLIC_URL: &str = "PUBLIC_URL";
const HOPS: &str = "TRUSTED_PROXY_HOPS";

/// Returns the checks of the address that callers use, and of the proxies in front of the server.
pub(super) fn checks(settings: &DoctorSettings) -> Vec<Check> {
    let http = &settings.config.http;
    if settings.is_broken(PUBLIC_URL) || settings.is_broken("LISTEN_ADDR") {
        return Vec::new();
    }
    let is_reachable = !http.listen_addr.ip().is_loopback();
    let mut checks =
        vec![check_public_url(&http.public_url, settings.has_public_url, is_reachable)];
    if !settings.is_broken(HOPS) {
        checks.push(match (http.trusted_proxy_hops, http.is_https()) {
            (0, true) => Check::warning(
                HOPS,
                "is 0, but PUBLIC_URL is https, which takes a proxy: every caller has its address; \
                 set it to the number of proxies that add to X-Forwarded-For",
            ),
            (0, false) => Check::ok(HOPS, "callers' addresses are those of their connections"),
            (hops, _) => Check::ok(HOPS, format!("{hops} proxies add to X-Forwarded-For")),
        });
    }
    checks
}

/// `is_set` by the operator; `is_open` to other machines.
fn check_public_url(url: &Url, is_set: bool, is_open: bool) -> Check {
    if !is_set && is_open {
        let text = format!(
            "is not set, so links and access tokens name {url}, which is nobody's address: set it \
             to the one that callers use"
        );
        return Check::problem(PUBLIC_URL, text);
    }
    if url.scheme() != "https" && !is_loopback(url) {
        let text = format!(
            "{url} is not https, so keys and passwords can be read on their way: put a proxy with \
             TLS in front, and set it to that one's address"
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

    fn check_text(url: &str, is_set: bool, is_open: bool) -> String {
        check_public_url(&url.parse().unwrap(), is_set, is_open).to_string()
    }

    #[test]
    fn an_address_is_https_or_of_this_machine_and_somebody_s() {
        for fine in ["https://api.example.com", "http://127.0.0.1:8080", "http://localhost/"] {
            assert!(check_text(fine, true, true).starts_with("ok"), "{fine}");
        }
        assert!(check_text("http://127.0.0.1:8080", false, false).starts_with("ok"));
        assert!(check_text("http://0.0.0.0:8080", false, true).contains("is not set"));
        assert!(check_text("http://api.example.com", true, false).contains("is not https"));
    }
}

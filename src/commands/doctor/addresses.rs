//! Whether callers reach us where we say that we are.

use url::{Host, Url};

use super::Check;
use super::settings::Settings;

const PUBLIC_URL: &str = "PUBLIC_URL";
const HOPS: &str = "TRUSTED_PROXY_HOPS";

/// What is to be said of the address that callers use, and of the proxies before us.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let http = &settings.config.http;
    if settings.is_broken(PUBLIC_URL) || settings.is_broken("LISTEN_ADDR") {
        return Vec::new();
    }
    let is_open = !http.listen_addr.ip().is_loopback();
    let mut checks = vec![public_url(&http.public_url, settings.has_public_url, is_open)];
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
fn public_url(url: &Url, is_set: bool, is_open: bool) -> Check {
    if !is_set && is_open {
        let text = format!(
            "is not set, so links and access tokens name {url}, which is nobody's address: set it \
             to the one that callers use"
        );
        return Check::problem(PUBLIC_URL, text);
    }
    if url.scheme() != "https" && !is_this_machine(url) {
        let text = format!(
            "{url} is not https, so keys and passwords can be read on their way: put a proxy with \
             TLS in front, and set it to that one's address"
        );
        return Check::problem(PUBLIC_URL, text);
    }
    Check::ok(PUBLIC_URL, url.as_str())
}

fn is_this_machine(url: &Url) -> bool {
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

    fn told(url: &str, is_set: bool, is_open: bool) -> String {
        public_url(&url.parse().unwrap(), is_set, is_open).to_string()
    }

    #[test]
    fn an_address_is_https_or_of_this_machine_and_somebody_s() {
        for fine in ["https://api.example.com", "http://127.0.0.1:8080", "http://localhost/"] {
            assert!(told(fine, true, true).starts_with("ok"), "{fine}");
        }
        assert!(told("http://127.0.0.1:8080", false, false).starts_with("ok"));
        assert!(told("http://0.0.0.0:8080", false, true).contains("is not set"));
        assert!(told("http://api.example.com", true, false).contains("is not https"));
    }
}

//! The settings for what the server fetches over HTTP.

use crate::config::env::Env;
use crate::model::outbound::AllowedHosts;

/// The settings for what the server fetches over HTTP.
#[derive(Default)]
pub struct OutboundSettings {
    /// The hosts inside the network that the server may fetch from; none by default.
    pub allowed_hosts: AllowedHosts,
}

impl OutboundSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let allowed_hosts = env.optional("OUTBOUND_ALLOW", AllowedHosts::parse);
        Self { allowed_hosts: allowed_hosts.unwrap_or_default() }
    }
}

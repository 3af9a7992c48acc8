//! Looks up TXT records.
//!
//! Every lookup asks the servers: nothing is cached here. Two servers are asked if two are
//! configured, so that one that lies, or has an old answer, proves nothing alone.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::timeout;

/// How long a lookup takes at most.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// How long one attempt waits for a response. There are two.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of servers that are asked.
const SERVERS: usize = 2;

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxtLookup {
    /// Every server that answered returned the record.
    Found,
    /// A server answered without the record.
    NotFound {
        /// The number of other TXT records with the name that it returned.
        others: usize,
    },
    /// No server answered, with a reason for the log. The record may exist.
    Failed(String),
}

/// Looks up records at the configured DNS servers, or at those of the system.
pub struct DnsResolver {
    configured: Vec<SocketAddr>,
}

impl DnsResolver {
    /// Creates a resolver that asks these servers; those of the system if there are none.
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self { configured: servers.to_vec() }
    }

    /// Looks up whether there is a TXT record with this name and exactly this value, the strings of
    /// a record joined. Takes at most [`LOOKUP_DEADLINE`].
    pub async fn find_txt(&self, name: &str, value: &str) -> TxtLookup {
        let servers = match self.servers() {
            Ok(servers) => servers,
            Err(error) => return TxtLookup::Failed(error.to_string()),
        };
        let name = match Name::from_ascii(format!("{name}.")) {
            Ok(name) => name,
            Err(error) => return TxtLookup::Failed(error.to_string()),
        };
        let lookups = servers.into_iter().take(SERVERS);
        combine(join_all(lookups.map(|server| find_at(server, &name, value))).await)
    }

    /// Returns the servers. Those of the system are read again for each lookup, because they change
    /// with its network.
    fn servers(&self) -> Result<Vec<NameServerConfig>, NetError> {
        if self.configured.is_empty() {
            return Ok(read_system_conf()?.0.name_servers().to_vec());
        }
        Ok(self.configured.iter().map(name_server).collect())
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].into();
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// Looks a record up at one server, with a resolver of its own: a shared one would join lookups
/// that run at the same time.
async fn find_at(server: NameServerConfig, name: &Name, value: &str) -> TxtLookup {
    let address = server.ip;
    let mut options = ResolverOpts::default();
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let config = ResolverConfig::from_name_servers(vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = match builder.with_options(options).build() {
        Ok(resolver) => resolver,
        Err(error) => return TxtLookup::Failed(format!("{address}: {error}")),
    };
    let lookup = resolver.lookup(name.clone(), RecordType::TXT);
    let answers = match timeout(LOOKUP_DEADLINE, lookup).await {
        Ok(Ok(lookup)) => lookup,
        Ok(Err(error)) if is_absence(&error) => return TxtLookup::NotFound { others: 0 },
        Ok(Err(error)) => return TxtLookup::Failed(format!("{address}: {error}")),
        Err(elapsed) => return TxtLookup::Failed(format!("{address}: {elapsed}")),
    };
    let texts = answers.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    let (found, others): (Vec<_>, Vec<_>) = texts.partition(|text| text == value.as_bytes());
    if found.is_empty() { TxtLookup::NotFound { others: others.len() } } else { TxtLookup::Found }
}

/// Returns whether the server said that there is no such record. A referral to other servers, of a
/// server that does not look further itself, says nothing.
fn is_absence(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.soa.is_some() || none.ns.is_none(),
        _ => false,
    }
}

/// Combines what the servers answered: each that did answer must have found the record.
fn combine(lookups: Vec<TxtLookup>) -> TxtLookup {
    let (mut is_found, mut failures) = (false, Vec::new());
    for lookup in lookups {
        match lookup {
            TxtLookup::Found => is_found = true,
            TxtLookup::NotFound { .. } => return lookup,
            TxtLookup::Failed(reason) => failures.push(reason),
        }
    }
    if is_found {
        return TxtLookup::Found;
    }
    if failures.is_empty() {
        failures.push("no DNS server is configured".to_owned());
    }
    TxtLookup::Failed(failures.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_that_answers_must_return_the_record_and_one_must_answer() {
        let (found, absent) = (TxtLookup::Found, TxtLookup::NotFound { others: 1 });
        let failed = TxtLookup::Failed("a".to_owned());
        for (lookups, expected) in [
            (vec![found.clone()], &found),
            (vec![found.clone(), found.clone()], &found),
            (vec![failed.clone(), found.clone()], &found),
            (vec![found.clone(), absent.clone()], &absent),
            (vec![absent.clone(), found.clone()], &absent),
            (vec![failed.clone(), absent.clone()], &absent),
            (vec![failed.clone()], &failed),
        ] {
            assert_eq!(combine(lookups), *expected);
        }
        assert!(matches!(combine(vec![failed.clone(), failed]), TxtLookup::Failed(_)));
        assert!(matches!(combine(Vec::new()), TxtLookup::Failed(_)));
    }
}

//! Resolves host names, and lets the client connect to a host only if all of its addresses are
//! allowed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::sync::Semaphore;

use crate::app::http_client::error::FetchError;
use crate::model::outbound::AddressRule;

/// Looks up the addresses of a name, with port 0.
pub(super) type Lookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Bounds the lookups that run at once: each occupies a thread of tokio's blocking pool, which has
/// 512, until the system's resolver gives up.
static LOOKUPS: Semaphore = Semaphore::const_new(128);

/// Returns the system's lookup.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
            // In a task, which keeps the permit as long as the thread is occupied, even if a
            // deadline ends the wait for it.
            let lookup = tokio::spawn(async move {
                let _permit = permit;
                lookup_host((name, 0)).await.map(Iterator::collect)
            });
            lookup.await?
        })
    })
}

/// Resolves names for a client.
///
/// Invariant: the client connects to no address of a name that was not checked here. It connects to
/// what this returns, and it has no other resolver and no proxy. It does not ask for hosts that are
/// IP addresses.
pub(super) struct CheckedResolver {
    /// The rule that every address must pass.
    pub rule: AddressRule,
    /// Looks up the addresses.
    pub lookup: Lookup,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, rule) = ((self.lookup)(name.as_str().to_owned()), self.rule);
        Box::pin(async move {
            let addresses = lookup.await?;
            for address in &addresses {
                rule.check(address.ip()).map_err(FetchError::NotAllowed)?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

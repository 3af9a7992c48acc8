//! Which connections are closed for new ones at the connection limits.

use std::time::Instant;

use super::{FLOOD, HELLO, SHORT, Server, with_timeout};
use crate::support::waiting::{pause_of_a_slow_client, wait_until_async};

const POST: &str = "POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: t\r\n\r\n";

#[tokio::test]
async fn at_the_connection_cap_the_longest_idle_connection_is_closed_for_a_new_one() {
    let server = Server::start(|limits| limits.connections = 2).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert_eq!(second.request(HELLO).await.status, 200);
    // Times are whole milliseconds; these two must differ.
    let before = Instant::now();
    wait_until_async("a later millisecond", async || before.elapsed().as_millis() > 1).await;
    assert_eq!(first.request(HELLO).await.status, 200);
    let mut third = server.connect().await;
    assert_eq!(third.request(HELLO).await.status, 200);
    assert_eq!(second.read_to_end().await, "");
    assert_eq!(first.request(HELLO).await.status, 200);
    assert_eq!(third.request(HELLO).await.status, 200);
}

#[tokio::test]
async fn a_connection_whose_client_is_slow_is_closed_for_a_new_one_at_any_point() {
    let started =
        ["", "GET /hello HT", &format!("{POST}bo"), "GET /flood HTTP/1.1\r\nhost: t\r\n\r\n"];
    for started in started {
        let server = Server::start(|limits| limits.connections = 1).await;
        let mut slow = server.connect().await;
        slow.send(started).await;
        pause_of_a_slow_client(SHORT).await;
        assert_eq!(server.connect().await.request(HELLO).await.status, 200, "{started:?}");
        assert!(slow.read_to_end().await.len() < FLOOD, "{started:?}");
    }
}

#[tokio::test]
async fn a_connection_with_a_running_request_is_never_closed_for_another() {
    let server = Server::start(|limits| limits.connections = 1).await;
    let mut busy = server.connect().await;
    busy.send(SLOW).await;
    with_timeout(server.entered.notified()).await;
    assert_eq!(server.connect().await.request(HELLO).await.status, 200);
    server.release.notify_one();
    assert_eq!(busy.read_response().await.body, "slow");
}

#[tokio::test]
async fn when_all_connections_have_running_requests_a_new_client_waits_for_a_response() {
    let server = Server::start(|limits| limits.connections = 1).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(SLOW).await;
        with_timeout(server.entered.notified()).await;
        busy.push(client);
    }
    let mut next = server.connect().await;
    next.send(HELLO).await;
    next.stays_silent().await;
    server.release.notify_one();
    assert_eq!(next.read_response().await.status, 200);
}

#[tokio::test]
async fn an_address_s_connections_are_closed_only_for_that_address() {
    let server = Server::start(|limits| limits.connections_per_address = 1).await;
    let mut other = server.connect_from([127, 0, 0, 2]).await;
    assert_eq!(other.request(HELLO).await.status, 200);
    let mut first = server.connect().await;
    assert_eq!(first.request(HELLO).await.status, 200);
    assert_eq!(server.connect().await.request(HELLO).await.status, 200);
    assert_eq!(first.read_to_end().await, "");
    assert_eq!(other.request(HELLO).await.status, 200);
}

#[tokio::test]
async fn an_address_whose_connections_all_have_running_requests_gets_no_further_connection() {
    let server = Server::start(|limits| limits.connections_per_address = 1).await;
    let mut busy = server.connect().await;
    busy.send(SLOW).await;
    with_timeout(server.entered.notified()).await;
    assert_eq!(server.connect().await.read_to_end().await, "");
    assert_eq!(server.connect_from([127, 0, 0, 2]).await.request(HELLO).await.status, 200);
    server.release.notify_one();
    assert_eq!(busy.read_response().await.body, "slow");
    assert_eq!(busy.request(HELLO).await.status, 200);
}

//! How a listener stops: with an announcement, so that no client with an open connection is
//! interrupted, or at once.

use std::io::{Read, Write};

use tenantry::server::DrainOutcome;
use tokio::net::TcpStream;

use super::{HELLO, PAUSE, SHORT, Server, with_timeout};

#[tokio::test]
async fn an_announced_stop_adds_connection_close_to_responses_and_still_accepts_connections() {
    let mut server = Server::start(|_| {}).await;
    let mut before = server.connect().await;
    assert!(!before.request(HELLO).await.head.contains("connection: close"));
    server.stop.announce.cancel();
    before.stays_silent().await;
    for mut client in [before, server.connect().await] {
        let response = client.request(HELLO).await;
        assert_eq!(response.status, 200);
        assert!(response.head.contains("connection: close"), "{}", response.head);
        assert_eq!(client.read_to_end().await, "");
    }
    server.stop.close.cancel();
    assert_eq!(server.drained().await, DrainOutcome::Clean);
}

#[tokio::test]
async fn after_an_announced_stop_an_idle_connection_is_closed_with_its_next_response() {
    let mut server = Server::start(|_| {}).await;
    let (mut idle, mut silent) = (server.connect().await, server.connect().await);
    assert_eq!(idle.request(HELLO).await.status, 200);
    server.stop.announce.cancel();
    server.stop.close.cancel();
    idle.stays_silent().await;
    silent.stays_silent().await;
    assert!(TcpStream::connect(server.address).await.is_err());
    for mut client in [idle, silent] {
        let response = client.request(HELLO).await;
        assert_eq!(response.status, 200);
        assert!(response.head.contains("connection: close"), "{}", response.head);
        assert_eq!(client.read_to_end().await, "");
    }
    assert_eq!(server.drained().await, DrainOutcome::Clean);
}

#[tokio::test]
async fn after_an_announced_stop_an_idle_connection_is_closed_after_the_idle_limit() {
    let mut server = Server::start(|limits| limits.idle = PAUSE).await;
    let mut idle = server.connect().await;
    assert_eq!(idle.request(HELLO).await.status, 200);
    server.stop.announce.cancel();
    server.stop.close.cancel();
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(server.drained().await, DrainOutcome::Clean);
}

#[tokio::test]
async fn an_idle_connection_at_the_drain_deadline_does_not_count_as_interrupted() {
    let mut server = Server::start(|limits| limits.drain = SHORT).await;
    let mut idle = server.connect().await;
    assert_eq!(idle.request(HELLO).await.status, 200);
    server.stop.announce.cancel();
    server.stop.close.cancel();
    assert_eq!(server.drained().await, DrainOutcome::Clean);
    assert_eq!(idle.read_to_end().await, "");
}

/// Tests run on one thread, so no connection is accepted before the test awaits something.
#[tokio::test]
async fn a_request_on_a_connection_not_yet_accepted_gets_a_response() {
    let mut server = Server::start(|_| {}).await;
    server.wait_until_processed().await;
    let mut client = std::net::TcpStream::connect(server.address).unwrap();
    client.write_all(HELLO.as_bytes()).unwrap();
    server.stop.close.cancel();
    assert_eq!(server.drained().await, DrainOutcome::Clean);
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_at_once_and_lets_requests_finish() {
    let mut server = Server::start(|_| {}).await;
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    assert_eq!(idle.request(HELLO).await.status, 200);
    busy.send("GET /slow HTTP/1.1\r\nhost: t\r\n\r\n").await;
    with_timeout(server.entered.notified()).await;

    server.stop.close.cancel();
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(idle.read_to_end().await, "");
    assert!(!server.serving.is_finished());

    server.release.notify_one();
    let response = busy.read_response().await;
    assert_eq!(response.body, "slow");
    assert!(response.head.contains("connection: close"));
    assert_eq!(busy.read_to_end().await, "");
    assert_eq!(server.drained().await, DrainOutcome::Clean);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_begun_before_the_stop_gets_a_response() {
    let mut server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    assert_eq!(client.request(HELLO).await.status, 200);
    let (start, end) = HELLO.split_at(9);
    client.send(start).await;
    server.wait_until_processed().await;

    server.stop.close.cancel();
    client.stays_silent().await;
    let response = client.request(end).await;
    assert_eq!(response.status, 200);
    assert!(response.head.contains("connection: close"));
    assert_eq!(server.drained().await, DrainOutcome::Clean);
}

#[tokio::test]
async fn incomplete_requests_are_closed_at_the_drain_deadline_and_counted() {
    let mut server = Server::start(|limits| limits.drain = PAUSE).await;
    let mut half_head = server.connect().await;
    half_head.send("GET /hello HT").await;
    let mut half_body = server.connect().await;
    half_body.send("POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nbo").await;
    server.wait_until_processed().await;

    server.stop.close.cancel();
    assert_eq!(server.drained().await, DrainOutcome::Forced { connections: 2 });
    assert_eq!(half_head.read_to_end().await, "");
    assert_eq!(half_body.read_to_end().await, "");
}

#[tokio::test]
async fn a_stop_without_connections_is_clean() {
    let mut server = Server::start(|_| {}).await;
    server.stop.close.cancel();
    assert_eq!(server.drained().await, DrainOutcome::Clean);
}

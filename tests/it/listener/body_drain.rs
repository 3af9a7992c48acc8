//! A response that is sent before the body was read arrives, even while the client is still
//! sending.

use tokio::io::AsyncReadExt;

use super::{Client, HELLO, Server, with_timeout};

fn unread_request(headers: &str) -> String {
    format!("POST /refuse HTTP/1.1\r\nhost: t\r\n{headers}\r\n\r\n")
}

/// Checks that the connection was closed, not reset.
async fn assert_closed_cleanly(mut client: Client) {
    let mut rest = Vec::new();
    with_timeout(client.0.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn an_unread_body_is_drained_and_the_connection_stays_usable() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    let body = "x".repeat(1 << 20);
    let sized = unread_request(&format!("content-length: {}", body.len()));
    let chunked = unread_request("transfer-encoding: chunked");
    let chunk = "x".repeat(60_000);
    let chunks = format!("ea60\r\n{chunk}\r\nea60\r\n{chunk}\r\n0\r\n\r\n");
    for (head, body) in [(sized, body), (chunked, chunks)] {
        client.send(&head).await;
        client.send(&body).await;
        let response = client.read_response().await;
        assert_eq!(response.status, 401);
        assert!(!response.head.contains("connection: close"), "{}", response.head);
    }
    assert_eq!(client.request(HELLO).await.status, 200);
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_drained_for_a_while_and_its_connection_closed_cleanly() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send(&unread_request("content-length: 1000")).await;
    client.send("x").await;
    let response = client.read_response().await;
    assert_eq!(response.status, 401);
    assert!(response.head.contains("connection: close"), "{}", response.head);
    client.send("still sending").await;
    assert_closed_cleanly(client).await;
}

#[tokio::test]
async fn a_body_over_the_drain_limit_is_not_read_and_the_response_arrives_while_it_is_sent() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send(&unread_request("content-length: 3000000")).await;
    client.send(&"x".repeat(100_000)).await;
    let response = client.read_response().await;
    assert_eq!(response.status, 401);
    assert!(response.head.contains("connection: close"), "{}", response.head);
    client.send(&"x".repeat(100_000)).await;
    assert_closed_cleanly(client).await;
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_not_asked_for_a_body_that_is_not_read() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send(&unread_request("content-length: 1000\r\nexpect: 100-continue")).await;
    let response = client.read_response().await;
    assert_eq!(response.status, 401);
    assert!(response.head.contains("connection: close"), "{}", response.head);
    assert_closed_cleanly(client).await;
}

#[tokio::test]
async fn the_rejection_of_an_oversized_head_arrives_while_the_head_is_sent() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send(&unread_request(&format!("filler: {}", "x".repeat(100_000)))).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 431"), "{head}");
    client.send(&"x".repeat(100_000)).await;
    assert_closed_cleanly(client).await;
}

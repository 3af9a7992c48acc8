//! The program with which ../check tests ../axum.rs, which it copies next to this one as tenantry.rs.
mod tenantry;

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tenantry::{Tenantry, Verdict};

async fn show(Extension(caller): Extension<Verdict>) -> Json<Value> {
    Json(json!({ "organization": caller.organization["id"], "key": caller.key["id"], "scopes": caller.scopes, "account": caller.account }))
}

#[tokio::main]
async fn main() {
    let tenantry = Tenantry::new().expect("settings");
    match std::env::var("MISTAKE").as_deref() {
        Ok("no scope") => drop(tenantry.require(&[])),
        Ok("no list") => drop(tenantry.require_any(&[])),
        Ok("an empty list") => drop(tenantry.require_any(&[&[]])),
        Ok("not a scope") => drop(tenantry.require(&["docs:read docs:write"])),
        _ => {}
    }
    let app = Router::new()
        .route("/twice", get(show).layer(tenantry.require(&["docs:read"])))
        .route("/any", get(show))
        .layer(tenantry.check())
        .route("/docs/{id}", get(show).layer(tenantry.require(&["docs:read"])))
        .route("/both", get(show).layer(tenantry.require(&["docs:read", "docs:write"])))
        .route("/either", get(show).layer(tenantry.require_any(&[&["docs:write"], &["docs:read"]])));
    let listener =
        tokio::net::TcpListener::bind(("127.0.0.1", std::env::var("PORT").unwrap().parse().unwrap())).await.unwrap();
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
}

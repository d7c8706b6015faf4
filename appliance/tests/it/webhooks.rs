//! Webhooks: what is sent, how it is signed, that nothing is lost, and that the secret stays where it is.

use crate::client::{Client, logged_in};
use appliance::webhooks;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use fleet::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const SECRET: &str = "a-planted-secret-of-a-webhook";

struct Sent {
    signature: String,
    body: String,
}

impl Sent {
    fn subject(&self) -> String {
        serde_json::from_str::<Value>(&self.body).unwrap()["subject"].as_str().unwrap().to_owned()
    }
}

/// Whoever is told: refuses the first so many.
async fn listener(client: &mut Client, refuses: usize) -> (String, mpsc::Receiver<Sent>) {
    let (tell, told) = mpsc::channel(100);
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(refuses));
    let take = move |headers: HeaderMap, body: Bytes| {
        let (tell, left) = (tell.clone(), left.clone());
        async move {
            let signature = headers["elisandra-signature"].to_str().unwrap().to_owned();
            tell.send(Sent { signature, body: String::from_utf8(body.to_vec()).unwrap() }).await.unwrap();
            let less = |left: usize| left.checked_sub(1);
            let order = std::sync::atomic::Ordering::SeqCst;
            if left.fetch_update(order, order, less).is_ok() {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::OK
            }
        }
    };
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let router = Router::new().route("/hook", post(take));
    client.site.tasks.spawn(async move { Ok(axum::serve(socket, router).await?) });
    (url, told)
}

async fn next(told: &mut mpsc::Receiver<Sent>) -> Sent {
    tokio::time::timeout(crate::example::PATIENCE, told.recv()).await.expect("nothing was sent").unwrap()
}

async fn add_rack(client: &Client, name: &str) {
    client.post("/api/v1/racks", json!({ "name": name, "units": 10 })).await.of(StatusCode::CREATED);
}

#[tokio::test]
async fn each_event_is_sent_signed_and_again_until_it_is_taken() {
    let mut client = logged_in().await;
    let (url, mut told) = listener(&mut client, 1).await;
    let new = json!({ "url": url, "secret": SECRET, "subjects": ["rack:r7", "rack:r9"] });
    let made = client.post("/api/v1/webhooks", new).await.of(StatusCode::CREATED);
    let id = made["id"].as_str().unwrap();
    // Before anything sends: nothing that happens meanwhile is lost.
    add_rack(&client, "r7").await;
    add_rack(&client, "r8").await;
    client.site.tasks.spawn(webhooks::run(client.site.app.clone(), client.site.shutdown.clone()));
    let first = next(&mut told).await;
    assert_eq!(first.subject(), "rack:r7");
    let secs = first.signature.strip_prefix("t=").and_then(|rest| rest.split_once(',')).unwrap().0;
    let secs: u64 = secs.parse().unwrap();
    assert_eq!(webhooks::signature(SECRET, Timestamp(secs * 1000), &first.body), first.signature);
    let again = next(&mut told).await;
    assert_eq!(again.body, first.body, "it was refused, so it is sent again");
    add_rack(&client, "r9").await;
    assert_eq!(next(&mut told).await.subject(), "rack:r9");

    let listed = client.get("/api/v1/webhooks").await;
    assert_eq!((&listed.json()[0]["id"], &listed.json()[0]["url"]), (&json!(id), &json!(url)));
    assert!(!listed.text.contains(SECRET));
    client.delete(&format!("/api/v1/webhooks/{id}")).await.of(StatusCode::OK);
    assert_eq!(client.get("/api/v1/webhooks").await.json(), json!([]));
    assert_eq!(client.site.app.vault.names().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_last_error_is_shown_and_the_secret_is_not() {
    let mut client = logged_in().await;
    let (url, mut told) = listener(&mut client, 1000).await;
    client.post("/api/v1/webhooks", json!({ "url": url, "secret": SECRET })).await.of(StatusCode::CREATED);
    client.site.tasks.spawn(webhooks::run(client.site.app.clone(), client.site.shutdown.clone()));
    add_rack(&client, "r7").await;
    next(&mut told).await;
    next(&mut told).await;
    let listed = client.get("/api/v1/webhooks").await.json();
    assert_eq!(listed[0]["error"], "it answered 500 Internal Server Error");
    let timeline = client.get("/api/v1/timeline/site").await.text;
    let database = std::fs::read(client.dir.path().join("log.sqlite-wal")).unwrap();
    assert!(!timeline.contains(SECRET) && !String::from_utf8_lossy(&database).contains(SECRET));
    for (body, sentence) in [
        (json!({ "url": "http://example.org/", "secret": SECRET }), "use https://"),
        (json!({ "url": url, "secret": "short" }), "16 to 256 characters"),
    ] {
        let refused = client.post("/api/v1/webhooks", body).await;
        assert!(refused.error().contains(sentence), "{}", refused.text);
    }
}

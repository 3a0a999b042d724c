//! What a browser loads.

use carillon_gateway::transport::TransportSettings;

use crate::{client::request, fixture::Gateway};

#[tokio::test]
async fn the_page_and_the_stock_client_are_served() {
    let gateway = Gateway::start(TransportSettings::default()).await;
    let get = async |path: &str| request(gateway.address, &format!("GET {path} HTTP/1.1"), "").await;
    let page = get("/").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for id in ["state", "sid", "room", "join", "rooms", "message", "send", "log"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    assert!(get("/socket.io/socket.io.js").await.contains("Socket.IO v4."));
    for path in ["/chat.css", "/chat.js", "/bells.svg"] {
        assert!(get(path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    for path in [
        "/nothing",
        "/socket.iox/",
        "/socket.io/other",
        "//",
        "/../Cargo.toml",
    ] {
        assert!(get(path).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(get("/socket.io/").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn the_page_can_be_left_out() {
    let settings = TransportSettings {
        page: false,
        ..TransportSettings::default()
    };
    let gateway = Gateway::start(settings).await;
    assert!(
        request(gateway.address, "GET / HTTP/1.1", "")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let client = request(gateway.address, "GET /socket.io/socket.io.js HTTP/1.1", "").await;
    assert!(client.starts_with("HTTP/1.1 200"));
}

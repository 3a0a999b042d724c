//! A key set behind a URL.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::jwks::KeySource;

/// Bytes a key set may have.
const BYTES: usize = 1 << 20;

/// A key set that is fetched over HTTP.
#[derive(Debug)]
pub struct JwksUrl {
    client: reqwest::Client,
    url: reqwest::Url,
}

/// A URL no key set can be fetched from.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJwksUrl {
    /// Not a URL of a web server.
    #[error("not the address of a key set; it looks like https://login.example.com/.well-known/jwks.json")]
    NoUrl,
    /// The client can't be made.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl JwksUrl {
    /// Nothing is fetched yet.
    pub fn new(url: &str) -> Result<Self, InvalidJwksUrl> {
        let url = reqwest::Url::parse(url).map_err(|_| InvalidJwksUrl::NoUrl)?;
        let mut client = reqwest::Client::builder();
        match url.scheme() {
            "https" => {}
            // Without TLS it does not matter whom this system trusts, and an image may have no certificates.
            "http" => {
                let tls = rustls::ClientConfig::builder()
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
                client = client.tls_backend_preconfigured(tls);
            }
            _ => return Err(InvalidJwksUrl::NoUrl),
        }
        let client = client
            // Whoever may redirect could name other keys.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("carillon/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url })
    }
}

#[async_trait]
impl KeySource for JwksUrl {
    async fn fetch(&self) -> Result<Bytes, String> {
        // The URL may hold a password.
        let told = |error: reqwest::Error| error.without_url().to_string();
        let mut response = self.client.get(self.url.clone()).send().await.map_err(told)?;
        if !response.status().is_success() {
            return Err(format!("the answer was {}", response.status()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > BYTES {
                return Err(format!("the key set has more than {BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

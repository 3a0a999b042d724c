//! The chat page and the stock client, embedded: nothing is fetched from anywhere else.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use super::responses::{Body, text_response};

/// A file of the page.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
    tag: HeaderValue,
}

/// All files that are served.
#[derive(Debug)]
pub(super) struct Assets(Vec<Asset>);

/// Scripts, styles and connections of its own only; nothing inline, and no frame around it.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Assets {
    /// The client bundle, and the page if it is wanted.
    pub(super) fn new(page: bool) -> Self {
        let script = "text/javascript; charset=utf-8";
        let client = include_bytes!("../../assets/socket.io-client/socket.io.min.js").as_slice();
        let mut files = vec![
            ("/socket.io/socket.io.js", script, client),
            ("/socket.io/socket.io.min.js", script, client),
        ];
        if page {
            files.extend([
                (
                    "/",
                    "text/html; charset=utf-8",
                    include_bytes!("../../assets/page/index.html").as_slice(),
                ),
                (
                    "/chat.css",
                    "text/css; charset=utf-8",
                    include_bytes!("../../assets/page/chat.css").as_slice(),
                ),
                (
                    "/chat.js",
                    script,
                    include_bytes!("../../assets/page/chat.js").as_slice(),
                ),
                (
                    "/bells.svg",
                    "image/svg+xml",
                    include_bytes!("../../assets/page/bells.svg").as_slice(),
                ),
            ]);
        }
        Self(
            files
                .into_iter()
                .map(|(path, kind, content)| Asset {
                    path,
                    kind,
                    content,
                    tag: tag(content),
                })
                .collect(),
        )
    }

    /// Answers a request for a file; `None` if there is no such file.
    pub(super) fn respond(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let asset = self.0.iter().find(|asset| asset.path == path)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = text_response(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
            refusal
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refusal);
        }
        let known = headers.get(header::IF_NONE_MATCH) == Some(&asset.tag);
        let content = if known { &[][..] } else { asset.content };
        let mut response = Response::new(Body::from(Bytes::from_static(content)));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
        headers.insert(header::ETAG, asset.tag.clone());
        for (name, value) in [
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }
}

fn tag(content: &[u8]) -> HeaderValue {
    let hash = hex(&Sha256::digest(content)[..12]);
    HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_served_safely_and_cached() {
        let assets = Assets::new(true);
        let none = HeaderMap::new();
        let page = assets.respond(&Method::GET, "/", &none).unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let tagged: HeaderMap = [(header::IF_NONE_MATCH, page.headers()[header::ETAG].clone())]
            .into_iter()
            .collect();
        let again = assets.respond(&Method::GET, "/", &tagged).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let refused = assets.respond(&Method::POST, "/", &none).unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(assets.respond(&Method::GET, "/..", &none).is_none());
        assert!(Assets::new(false).respond(&Method::GET, "/", &none).is_none());
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_nothing_inline() {
        let page = include_str!("../../assets/page/index.html");
        for banned in ["http://", "https://", "style=", " onclick", "<script>", "<style"] {
            assert!(!page.contains(banned), "{banned}");
        }
        for file in ["chat.css", "chat.js", "socket.io/socket.io.js", "bells.svg"] {
            assert!(page.contains(&format!("\"/{file}\"")), "{file}");
        }
        let script = include_str!("../../assets/page/chat.js");
        for banned in ["innerHTML", "insertAdjacentHTML", "outerHTML", "eval("] {
            assert!(!script.contains(banned), "{banned}");
        }
    }
}

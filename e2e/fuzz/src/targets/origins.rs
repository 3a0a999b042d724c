//! Origins: which web pages may talk to a gateway.

use carillon_gateway::transport::{Origins, fuzzing::judged};
use http::{HeaderMap, HeaderValue, header};
use url::Url;

/// The first line is the page's origin, the second one the gateway's host, and what follows is the list. A page is let
/// in if, and only if, a browser would say that it is of one of them.
pub fn target(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut header = || HeaderValue::from_bytes(lines.next()?).ok();
    let (origin, host) = (header(), header());
    let texts = lines.take(6).filter_map(|line| std::str::from_utf8(line).ok());
    let listed: Vec<&str> = texts.map(str::trim).filter(|text| is_taken(text)).collect();
    let gateway = Gateway {
        origins: Origins::list(&listed).expect("each of them was taken"),
        listed,
        host,
    };
    gateway.judge(origin.as_ref());
    gateway.judge(None);
    gateway.judge(Some(&HeaderValue::from_static("null")));
    for listed in &gateway.listed {
        let (scheme, authority) = listed.split_once("://").unwrap_or(("https", listed));
        let other = if scheme == "https" { "http" } else { "https" };
        for alike in [
            listed.to_ascii_lowercase(),
            format!("{other}://{authority}"),
            format!("{scheme}://{authority}.evil.example"),
            format!("{scheme}://evil-{authority}"),
            format!("{scheme}://evil.example.{authority}"),
            format!("{scheme}://{authority}:8443"),
            format!("{scheme}://{authority}@evil.example"),
            format!("{scheme}://evil.example/{listed}"),
            format!("{scheme}://evil.example#{authority}"),
        ] {
            if let Ok(origin) = HeaderValue::from_str(&alike) {
                gateway.judge(Some(&origin));
            }
        }
    }
}

/// Whether a list takes a text, which then is all, or a scheme, a host and perhaps a port, and nothing else.
fn is_taken(text: &str) -> bool {
    match Origins::list([text]) {
        Err(error) => {
            assert!(error.to_string().contains(text));
            // What a browser writes can be listed.
            assert!(written(text).is_none(), "{text:?} is refused");
            false
        }
        Ok(_) if text == "*" => true,
        Ok(_) => {
            let (scheme, authority) = text.split_once("://").expect("a scheme");
            assert!(["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()));
            let authority = authority.trim_end_matches('/');
            assert!(
                !authority.is_empty() && !authority.contains(['/', '?', '#', '@', '\\']),
                "{text:?}"
            );
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
                _ => (authority, None),
            };
            assert!(!host.is_empty(), "{text:?} has no host");
            let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok();
            assert!(port.is_none_or(is_port), "{text:?} has no such port");
            true
        }
    }
}

/// A text as the origin that a browser takes it for.
fn origin(text: &str) -> Option<url::Origin> {
    let url = Url::parse(text).ok()?;
    ["http", "https"].contains(&url.scheme()).then(|| url.origin())
}

/// An origin if the text is how a browser writes it.
fn written(text: &str) -> Option<url::Origin> {
    let written = origin(text).filter(|origin| origin.ascii_serialization() == text);
    written.filter(|_| is_plain(text))
}

/// Whether a text is a scheme, a host that can have a name or an address, and perhaps a port.
fn is_plain(text: &str) -> bool {
    let is_named = |character: char| character.is_ascii_alphanumeric() || "-._:[]".contains(character);
    let host = text.trim_end_matches('/').split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| host.chars().all(is_named) && !host.ends_with(':'))
}

/// Whether a text is a page's origin, as a browser writes it, with capitals, with the scheme's own port, or with a slash.
fn is_plainly(text: &str, page: &str) -> bool {
    is_plain(text)
        && text.to_ascii_lowercase().starts_with(page)
        && origin(text).is_some_and(|origin_of_text| origin(page) == Some(origin_of_text))
}

/// Whether two texts are one origin.
fn are_same(one: &str, other: &str) -> bool {
    origin(one).map_or_else(
        // A browser has no word for some, like a name that ends in a number; they are compared as they are written.
        || bare(one) == bare(other),
        |origin_of_one| origin(other) == Some(origin_of_one),
    )
}

/// A text in lower case without a slash, and its port as a number, which may be the scheme's own.
fn bare(text: &str) -> (String, u16) {
    let text = text.trim_end_matches('/').to_ascii_lowercase();
    let own_port = if text.starts_with("https:") { 443 } else { 80 };
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) if !host.ends_with(['/', ':']) => (host.to_owned(), port),
        _ => (text, own_port),
    }
}

struct Gateway<'a> {
    origins: Origins,
    listed: Vec<&'a str>,
    host: Option<HeaderValue>,
}

impl Gateway<'_> {
    fn judge(&self, page: Option<&HeaderValue>) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ORIGIN, page), (header::HOST, self.host.as_ref())] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        let told = judged(&self.origins, &headers);
        let Some(page) = page else {
            assert_eq!(told, Some(HeaderMap::new()), "programs are no pages");
            return;
        };
        let page = page.to_str().unwrap_or_default();
        let own = self.own(page);
        let any = self.listed.contains(&"*");
        let is_listed = self.listed.iter().any(|listed| are_same(listed, page));
        let what = format!("{page:?} at {:?} with {:?}: {told:?}", self.host, self.listed);
        if written(page).is_some() {
            let is_own = own.as_deref().is_some_and(|own| is_plainly(own, page));
            assert!(!is_own || told == Some(HeaderMap::new()), "{what}");
            let is_listed = self.listed.iter().any(|listed| is_plainly(listed, page));
            assert!(!(is_own || is_listed || any) || told.is_some(), "{what}");
        }
        let Some(told) = told else {
            assert!(!any, "{what}");
            return;
        };
        match told.get(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            None => {
                assert!(
                    told.is_empty() && own.is_some_and(|own| are_same(&own, page)),
                    "{what}"
                );
            }
            Some(all) if all == "*" => {
                assert!(any, "{what}");
                assert!(
                    !told.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS),
                    "{what}"
                );
            }
            Some(one) => {
                assert!(is_listed, "{what}");
                assert_eq!(told[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
                assert_eq!(told[header::VARY], "Origin");
                assert!(written(page).is_none() || one == page, "{what}");
            }
        }
    }

    /// The gateway's own origin, if a page has its scheme.
    fn own(&self, page: &str) -> Option<String> {
        let (scheme, _) = page.split_once("://")?;
        let host = self.host.as_ref()?.to_str().ok()?;
        Some(format!("{scheme}://{host}"))
    }
}

//! Which web pages may talk to this gateway.
//!
//! A browser says which page a request comes from (`Origin`, RFC 6454) and sends cookies along whoever asks, WebSockets
//! included. So a page of another site is let in only if it is on the list. Programs that are no browsers send none.

use std::str::FromStr;

use http::{HeaderMap, Uri, header};

/// The origins that are let in beside the gateway's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin: write scheme and host, like `https://app.example.com`, or `*` for all")]
pub struct InvalidOrigin(String);

impl Origins {
    /// Every page of every site. For loopback, or where nothing but tokens identifies.
    pub fn any() -> Self {
        Self {
            any: true,
            listed: Vec::new(),
        }
    }

    /// These origins, each like `https://app.example.com:8443`; `*` allows all.
    pub fn list<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, InvalidOrigin> {
        let mut allowed = Self::default();
        for origin in origins {
            let origin = origin.as_ref().trim();
            if origin == "*" {
                allowed.any = true;
                continue;
            }
            let (scheme, authority) = parts(origin).ok_or_else(|| InvalidOrigin(origin.to_owned()))?;
            allowed.listed.push(format!("{scheme}://{authority}"));
        }
        Ok(allowed)
    }
}

/// Scheme and authority of an origin in lower case, without the scheme's own port.
fn parts(origin: &str) -> Option<(String, String)> {
    // Behind a `#` could be anything: `Uri` drops it.
    let origin = Some(origin.trim_end_matches('/')).filter(|origin| !origin.contains('#'))?;
    let uri = Uri::from_str(origin).ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let own_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = uri.authority()?;
    let host = authority.host().to_ascii_lowercase();
    // No user before the host, and nothing but a number behind its colon.
    let behind_host = authority.as_str().strip_prefix(authority.host())?;
    let port = match behind_host.strip_prefix(':') {
        None => behind_host.is_empty().then_some(own_port)?,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse::<u16>().ok()?,
        Some(_) => return None,
    };
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !host.is_empty();
    let authority = match port == own_port {
        true => host,
        false => format!("{host}:{port}"),
    };
    is_bare.then_some((scheme, authority))
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// No browser, or a page of the gateway's own site.
    Own,
    /// A page of another site that is let in; what to answer in `Access-Control-Allow-Origin`, and whether with
    /// credentials.
    Allowed {
        /// The value of the header.
        answer: String,
        /// Whether cookies may be sent.
        credentials: bool,
    },
    /// A page of another site that is not.
    Foreign,
}

impl Origins {
    /// Judges a request by its headers.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Source {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Source::Own;
        };
        let known = origin.to_str().ok().and_then(parts);
        if let Some((scheme, authority)) = &known {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.and_then(|host| parts(&format!("{scheme}://{host}")));
            if host.is_some_and(|(_, host)| host == *authority) {
                return Source::Own;
            }
            let origin = format!("{scheme}://{authority}");
            if self.listed.contains(&origin) {
                return Source::Allowed {
                    answer: origin,
                    credentials: true,
                };
            }
        }
        match self.any {
            true => Source::Allowed {
                answer: "*".to_owned(),
                credentials: false,
            },
            false => Source::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    #[test]
    fn only_own_and_listed_pages_are_let_in() {
        let listed = Origins::list(["https://App.example.com/", "http://a:8080"]).unwrap();
        let judge = |host: &str, origin: &str| listed.judge(&headers(host, Some(origin)));
        assert_eq!(listed.judge(&headers("gw", None)), Source::Own);
        assert_eq!(judge("GW.example.com", "https://gw.example.com"), Source::Own);
        assert_eq!(judge("gw.example.com:443", "https://gw.example.com"), Source::Own);
        assert_eq!(judge("gw:3000", "http://gw:3001"), Source::Foreign);
        assert_eq!(judge("[::1]", "http://[::1]:80"), Source::Own);
        assert_eq!(judge("gw#.evil.org", "https://gw"), Source::Foreign);
        assert_eq!(judge("gw", "https://gw#.evil.org"), Source::Foreign);
        assert_eq!(judge("gw", "null"), Source::Foreign);
        assert_eq!(
            judge("gw", "http://app.example.com"),
            Source::Foreign,
            "another scheme"
        );
        assert_eq!(judge("gw", "https://app.example.com.evil.org"), Source::Foreign);
        assert_eq!(
            judge("gw", "https://app.example.com"),
            Source::Allowed {
                answer: "https://app.example.com".to_owned(),
                credentials: true
            }
        );
        assert!(matches!(
            Origins::any().judge(&headers("gw", Some("null"))),
            Source::Allowed {
                credentials: false,
                ..
            }
        ));
    }

    #[test]
    fn mistakes_in_the_list_are_named() {
        for wrong in [
            "",
            "app.example.com",
            "https://a/path",
            "https://a?query",
            "https://a#fragment",
            "https://a#",
            "ftp://a",
            "https://u@a",
            "https://:443",
            "https://a:",
            "https://a:port",
            "https://a:+80",
            "https://a:65536",
            "https://[::1]80",
        ] {
            assert!(
                Origins::list([wrong]).unwrap_err().to_string().contains(wrong),
                "{wrong}"
            );
        }
    }
}

//! Addresses as `host:port`, with IPv6 hosts in brackets.

use redis::{ConnectionAddr, ConnectionInfo};

use crate::{BrokerError, Result};

/// Joins host and port.
pub(super) fn join(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Takes host and port apart.
pub(super) fn split(address: &str) -> Result<(String, u16)> {
    let wrong = || BrokerError::Misconfigured(format!("`{address}` is not host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    Ok((
        host.trim_matches(['[', ']']).to_owned(),
        port.parse().map_err(|_| wrong())?,
    ))
}

/// The address in `redis.url`.
pub(super) fn of_connection(connection: &ConnectionInfo) -> Result<String> {
    match connection.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Ok(join(host, &port.to_string()))
        }
        _ => Err(BrokerError::Misconfigured(
            "redis.url must name a host and a port".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_being_taken_apart() {
        for (host, port) in [("redis", 6379), ("127.0.0.1", 1), ("::1", 6379)] {
            let address = join(host, &port.to_string());
            assert_eq!(split(&address), Ok((host.to_owned(), port)), "{address}");
        }
        for wrong in ["redis", "redis:", "redis:port", "redis:70000"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}

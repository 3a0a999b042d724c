//! Makes clients for addresses, all with the credentials and certificates of the settings.

use std::fs;

use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates,
};

use super::{RedisOptions, addresses};
use crate::{BrokerError, Result};

/// What is asked for by whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A server that holds keys.
    Server,
    /// A sentinel: it has credentials of its own, or none.
    Sentinel,
}

/// How servers and sentinels are connected to.
pub(super) struct Clients {
    connection: ConnectionInfo,
    certificates: Option<Vec<u8>>,
    sentinel_login: RedisConnectionInfo,
}

impl Clients {
    pub(super) fn new(options: &RedisOptions) -> Result<Self> {
        // TLS needs a cryptography provider; this counts only where the program has not installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connection = options
            .url
            .as_str()
            .into_connection_info()
            .map_err(|error| BrokerError::Misconfigured(format!("redis.url: {error}")))?;
        let certificates = match &options.tls_ca_file {
            None => None,
            Some(file) => Some(fs::read(file).map_err(|error| {
                BrokerError::Misconfigured(format!(
                    "redis.tls.ca_file: cannot read {}: {error}",
                    file.display()
                ))
            })?),
        };
        Ok(Self {
            connection,
            certificates,
            sentinel_login: sentinel_login(options),
        })
    }

    /// The address in `redis.url`.
    pub(super) fn first_address(&self) -> Result<String> {
        addresses::of_connection(&self.connection)
    }

    /// A client for an address.
    pub(super) fn client(&self, address: &str, kind: Kind) -> Result<Client> {
        let wrong = |error: &dyn std::fmt::Display| BrokerError::Misconfigured(format!("{address}: {error}"));
        let (host, port) = addresses::split(address)?;
        let mut info = self.connection.clone();
        info = info.clone().set_addr(match info.addr() {
            ConnectionAddr::TcpTls {
                insecure, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        });
        if kind == Kind::Sentinel {
            info = info.set_redis_settings(self.sentinel_login.clone());
        }
        match &self.certificates {
            None => Client::open(info).map_err(|error| wrong(&error)),
            Some(pem) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                };
                Client::build_with_tls(info, certificates).map_err(|error| wrong(&error))
            }
        }
    }
}

/// A sentinel without a password refuses a client that sends one.
fn sentinel_login(options: &RedisOptions) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if let Some(user) = &options.sentinel_user {
        login = login.set_username(user);
    }
    if let Some(password) = &options.sentinel_password {
        login = login.set_password(password);
    }
    login
}

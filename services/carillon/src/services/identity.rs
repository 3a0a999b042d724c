//! What a gateway knows clients by, as it is set: keys of tokens, and the logins of a web application.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    BrokerError,
    redis::{ForeignKeys, Mode, RedisOptions},
};
use carillon_chassis::run::Misconfigured;
use carillon_gateway::identity::{
    CookieLogins, CookieSecrets, Identities, IdentityMetrics, Jwks, JwksSettings, JwksUrl, Key, LoginStore,
    LoginStoreAway, Recheck, Tokens,
};
use prometheus::Registry;

use crate::{broker, settings::Settings};

/// Logins of those who are in that are looked at again at once.
const LOOKS_AT_ONCE: usize = 16;

/// Everything that is set. Keys and logins that are elsewhere may be away; nobody waits for them here.
pub(crate) fn identities(settings: &Settings, registry: &Registry) -> anyhow::Result<Identities> {
    Ok(Identities {
        tokens: tokens(settings, registry)?,
        logins: logins(settings)?,
    })
}

fn tokens(settings: &Settings, registry: &Registry) -> anyhow::Result<Tokens> {
    let identity = &settings.identity;
    let mut keys = Vec::new();
    if let Some(secret) = &identity.hs256_secret {
        if secret.expose().is_empty() {
            return Err(
                Misconfigured("identity.hs256_secret is empty: anybody could sign".to_owned()).into(),
            );
        }
        keys.push(Key::hs256(secret.expose().as_bytes()));
    }
    for (place, file) in identity.public_keys.iter().enumerate() {
        let wrong = |why: &dyn std::fmt::Display| {
            Misconfigured(format!(
                "identity.public_keys[{place}]: {}: {why}",
                file.display()
            ))
        };
        let pem = fs::read(file).map_err(|error| wrong(&error))?;
        keys.push(Key::from_pem(&pem).map_err(|error| wrong(&error))?);
    }
    let metrics = IdentityMetrics::new(registry)?;
    let jwks = match &identity.jwks_url {
        None => None,
        Some(url) => {
            // The one provider of TLS; there may be one already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let source = JwksUrl::new(url.expose())
                .map_err(|error| Misconfigured(format!("identity.jwks.url: {error}")))?;
            let settings = JwksSettings {
                refresh: identity.jwks_refresh,
                stale: identity.jwks_stale,
                cooldown: identity.jwks_cooldown,
                timeout: identity.jwks_timeout,
            };
            Some(Jwks::start(Arc::new(source), settings, metrics))
        }
    };
    Ok(Tokens {
        keys: keys.into(),
        jwks,
        audience: identity.audience.clone(),
        issuers: identity.issuers.clone(),
        leeway: identity.leeway,
    })
}

fn logins(settings: &Settings) -> anyhow::Result<Option<CookieLogins>> {
    let identity = &settings.identity;
    if identity.cookie_secrets.is_empty() {
        return Ok(None);
    }
    let secrets = identity.cookie_secrets.iter().map(|secret| secret.expose());
    if secrets.clone().any(str::is_empty) {
        let why = "identity.cookie.secrets has an empty one: anybody could sign";
        return Err(Misconfigured(why.to_owned()).into());
    }
    // A browser sends cookies along whichever page asks.
    if settings.gateway.origins.iter().any(|origin| origin == "*") {
        let why = "gateway.origins: `*` would let every page on the web act with its visitor's login cookie; \
                   list the origins of your pages, or set no identity.cookie.secrets";
        return Err(Misconfigured(why.to_owned()).into());
    }
    let pointer = &identity.cookie_user_pointer;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        let why =
            format!("identity.cookie.user.pointer: `{pointer}` is no JSON pointer; one looks like /user/id");
        return Err(Misconfigured(why).into());
    }
    Ok(Some(CookieLogins {
        name: identity.cookie_name.clone(),
        secrets: CookieSecrets::new(secrets),
        prefix: identity.cookie_store_prefix.clone(),
        pointer: pointer.clone(),
        user_prefix: identity.cookie_user_prefix.clone(),
        store: Arc::new(RedisLogins {
            keys: login_keys(settings)?,
            away: AtomicBool::new(false),
        }),
        recheck: Recheck::new(identity.cookie_recheck, LOOKS_AT_ONCE),
    }))
}

fn login_keys(settings: &Settings) -> anyhow::Result<ForeignKeys> {
    let identity = &settings.identity;
    let own = broker::options(settings)?;
    let options = match &identity.cookie_store_url {
        None => own,
        Some(url) => RedisOptions {
            url: url.expose().to_owned(),
            mode: Mode::Standalone,
            nodes: Vec::new(),
            sentinel_password: None,
            ..own
        },
    };
    let options = RedisOptions {
        timeout: identity.cookie_store_timeout,
        ..options
    };
    let keys = ForeignKeys::new(options).map_err(|error| Misconfigured(error.to_string()));
    keys.context("identity.cookie.store.url")
}

/// The logins that `connect-redis` writes.
#[derive(Debug)]
struct RedisLogins {
    keys: ForeignKeys,
    /// Whether it was so at the last look: the log tells of changes, not of each client.
    away: AtomicBool,
}

#[async_trait]
impl LoginStore for RedisLogins {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, LoginStoreAway> {
        let found = self.keys.get(key).await;
        self.heard(found.as_ref().err());
        found.map_err(|error| LoginStoreAway(error.to_string()))
    }

    async fn kept_for(&self, key: &str) -> Result<Option<Duration>, LoginStoreAway> {
        let found = self.keys.kept_for(key).await;
        self.heard(found.as_ref().err());
        found.map_err(|error| LoginStoreAway(error.to_string()))
    }
}

impl RedisLogins {
    fn heard(&self, trouble: Option<&BrokerError>) {
        let was_away = self.away.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(error) if !was_away => tracing::warn!(%error, "the login store does not answer"),
            None if was_away => tracing::info!("the login store answers again"),
            _ => {}
        }
    }
}

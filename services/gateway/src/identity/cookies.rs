//! Who a client is, by the login cookie of a web application: the one that `express-session` signs.
//!
//! The cookie is `s:<id>.<signature>`, the signature HMAC-SHA256 of the id with the application's secret; the login is
//! JSON under a prefix and the id, in a store that the application writes and we only read. The signature is checked
//! first, so nobody makes us look for what he made up.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use carillon_model::{Room, time::wall_clock_milliseconds};
use ring::hmac;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    percent::percent_decoded,
    refused::{IdentityCode, Unidentified},
};

/// Where an application keeps its logins.
#[async_trait]
pub trait LoginStore: fmt::Debug + Send + Sync + 'static {
    /// What lies under a key; `None`: nothing, or nothing any more.
    async fn load(&self, key: &str) -> Result<Option<Bytes>, LoginStoreAway>;

    /// How long a key is still kept; `None` where it has no end of its own, or nobody may know.
    async fn kept_for(&self, key: &str) -> Result<Option<Duration>, LoginStoreAway>;
}

/// The store does not answer. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the login store does not answer: {0}")]
pub struct LoginStoreAway(pub String);

/// How a cookie becomes a user.
#[derive(Clone)]
pub struct CookieLogins {
    /// The cookie's name.
    pub name: String,
    /// What it may be signed with: the application's secret, and former ones.
    pub secrets: CookieSecrets,
    /// What the store's keys begin with.
    pub prefix: String,
    /// Where in the login the user's id is (RFC 6901).
    pub pointer: String,
    /// What is put before the id to name the user here.
    pub user_prefix: String,
    /// The store.
    pub store: Arc<dyn LoginStore>,
    /// How the logins of those who are in are looked at again.
    pub recheck: Recheck,
}

/// How logins are looked at again while their sessions last.
#[derive(Clone, Debug)]
pub struct Recheck {
    /// How often each, give or take a quarter.
    pub every: Duration,
    /// As many looks at once.
    turns: Arc<Semaphore>,
}

impl Recheck {
    /// So often, and so many at once.
    pub fn new(every: Duration, at_once: usize) -> Self {
        Self {
            every,
            turns: Arc::new(Semaphore::new(at_once)),
        }
    }
}

/// Secrets that cookies are signed with.
#[derive(Clone)]
pub struct CookieSecrets(Vec<hmac::Key>);

impl CookieSecrets {
    /// These secrets.
    pub fn new<T: AsRef<[u8]>>(secrets: impl IntoIterator<Item = T>) -> Self {
        let key = |secret: T| hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        Self(secrets.into_iter().map(key).collect())
    }

    /// The id of a cookie with one of these signatures. Compared in constant time: how far a guess was right must not
    /// show in how long it took.
    pub(super) fn open<'a>(&self, value: &'a str) -> Option<&'a str> {
        let (id, signature) = value.strip_prefix("s:")?.rsplit_once('.')?;
        let signature = STANDARD_NO_PAD.decode(signature.trim_end_matches('=')).ok()?;
        let signed = |secret: &hmac::Key| hmac::verify(secret, id.as_bytes(), &signature).is_ok();
        (!id.is_empty() && self.0.iter().any(signed)).then_some(id)
    }
}

impl fmt::Debug for CookieLogins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CookieLogins")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("pointer", &self.pointer)
            .finish_non_exhaustive()
    }
}

/// What a request's cookies say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// There is no such cookie.
    NoCookie,
    /// There is a login, of nobody: a visitor.
    Visitor,
    /// It is a user's.
    User(UserLogin),
}

/// A user's login, as it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct UserLogin {
    /// Where it is in the store. Whoever knows that could sign in, so it is shown nowhere.
    key: Arc<str>,
    pub(crate) user: Arc<str>,
    /// When it ends unless the application extends it, in milliseconds since 1970.
    pub(crate) expires: Option<u64>,
}

impl fmt::Debug for UserLogin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UserLogin")
            .field("user", &self.user)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A login that has not ended.
struct Found {
    login: Value,
    expires: Option<u64>,
}

impl CookieLogins {
    pub(super) async fn identify(&self, cookies: Option<&str>) -> Result<Login, Unidentified> {
        let Some(value) = cookies.and_then(|cookies| cookie(cookies, &self.name)) else {
            return Ok(Login::NoCookie);
        };
        let Some(id) = self.secrets.open(&value) else {
            let message = format!(
                "the cookie `{}` is not signed with a secret known here",
                self.name
            );
            return Err(Unidentified::new(IdentityCode::CookieBadSignature, message));
        };
        let key = format!("{}{id}", self.prefix);
        let found = self.find(&key).await.map_err(|error| {
            tracing::debug!(%error, "a login can't be looked up");
            let message = "the login store does not answer at the moment";
            Unidentified::new(IdentityCode::LoginStoreUnavailable, message)
        })?;
        let Some(Found { login, expires }) = found else {
            let message = "the login of this cookie is over; log in again";
            return Err(Unidentified::new(IdentityCode::LoginExpired, message));
        };
        Ok(match self.user(&login)? {
            None => Login::Visitor,
            Some(user) => Login::User(UserLogin {
                key: key.into(),
                user,
                expires,
            }),
        })
    }

    /// Looks at a login again: `None` if it has ended, or is another user's by now. Applications extend logins while
    /// they are used.
    pub(crate) async fn look_again(&self, login: &UserLogin) -> Result<Option<UserLogin>, LoginStoreAway> {
        let _turn = self.recheck.turns.acquire().await;
        let Some(found) = self.find(&login.key).await? else {
            return Ok(None);
        };
        let same = matches!(self.user(&found.login), Ok(Some(user)) if user == login.user);
        Ok(same.then(|| UserLogin {
            expires: found.expires,
            ..login.clone()
        }))
    }

    /// A login that has not ended. The store forgets logins by itself, and what extends one (`touch`) may move only that
    /// end: the login's own text is the one of its last change, and counts where the store keeps logins for ever.
    async fn find(&self, key: &str) -> Result<Option<Found>, LoginStoreAway> {
        let loaded = self.store.load(key).await?;
        let Some(login) = loaded.and_then(|json| serde_json::from_slice::<Value>(&json).ok()) else {
            return Ok(None);
        };
        let (now, expires) = (wall_clock_milliseconds(), expires(&login));
        if expires.is_none_or(|expires| expires > now) {
            return Ok(Some(Found { login, expires }));
        }
        let left = self.store.kept_for(key).await?.filter(|left| !left.is_zero());
        Ok(left.map(|left| Found {
            login,
            expires: u64::try_from(left.as_millis())
                .ok()
                .map(|left| now.saturating_add(left)),
        }))
    }

    /// Whose it is; `None`: a visitor's.
    fn user(&self, login: &Value) -> Result<Option<Arc<str>>, Unidentified> {
        let user = match login.pointer(&self.pointer) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(id)) if id.is_empty() => return Ok(None),
            Some(Value::String(id)) => format!("{}{id}", self.user_prefix),
            Some(Value::Number(id)) => format!("{}{id}", self.user_prefix),
            Some(_) => {
                let message = format!(
                    "the login has no text or number at `{}` (identity.cookie.user.pointer)",
                    self.pointer
                );
                return Err(Unidentified::new(IdentityCode::LoginWithoutUser, message));
            }
        };
        Room::of_user(&user).map_err(|error| {
            let message = format!("the login's user can't be one here: {error}");
            Unidentified::new(IdentityCode::LoginWithoutUser, message)
        })?;
        Ok(Some(user.into()))
    }
}

/// When a login ends by its own account: `cookie.expires`, a text as JSON has dates, in milliseconds since 1970.
fn expires(login: &Value) -> Option<u64> {
    let expires = login.pointer("/cookie/expires")?.as_str()?;
    let expires = humantime::parse_rfc3339(expires).ok()?;
    let since_1970 = expires.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since_1970.as_millis()).ok()
}

/// The value of a cookie of this name, the first one, as Node's parser has it.
pub(super) fn cookie(cookies: &str, name: &str) -> Option<String> {
    cookies.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        (key.trim() == name).then(|| percent_decoded(unquoted.unwrap_or(value), false))
    })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept {
        login: Mutex<Option<Value>>,
        kept_for: Mutex<Option<Duration>>,
        away: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl LoginStore for Kept {
        async fn load(&self, key: &str) -> Result<Option<Bytes>, LoginStoreAway> {
            if self.away.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(LoginStoreAway("gone".to_owned()));
            }
            assert_eq!(key, "sess:abc.def");
            Ok(self.login.lock().as_ref().map(|login| login.to_string().into()))
        }

        async fn kept_for(&self, key: &str) -> Result<Option<Duration>, LoginStoreAway> {
            assert_eq!(key, "sess:abc.def");
            Ok(*self.kept_for.lock())
        }
    }

    fn logins(store: &Arc<Kept>) -> CookieLogins {
        CookieLogins {
            name: "connect.sid".to_owned(),
            secrets: CookieSecrets::new(["new", "old"]),
            prefix: "sess:".to_owned(),
            pointer: "/user/id".to_owned(),
            user_prefix: "u-".to_owned(),
            store: Arc::clone(store) as Arc<dyn LoginStore>,
            recheck: Recheck::new(Duration::from_secs(60), 1),
        }
    }

    /// As `cookie-signature` does it.
    fn signed(secret: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = STANDARD_NO_PAD.encode(hmac::sign(&key, b"abc.def"));
        let escaped = signature.replace('+', "%2B").replace('/', "%2F");
        format!("theme=dark; connect.sid=s%3Aabc.def.{escaped}; connect.sid=second")
    }

    #[tokio::test]
    async fn a_signed_cookie_leads_to_the_user() {
        let store = Arc::new(Kept::default());
        let logins = logins(&store);
        let user = || {
            Login::User(UserLogin {
                key: "sess:abc.def".into(),
                user: "u-42".into(),
                expires: None,
            })
        };
        for (login, expected) in [
            (json!({ "user": { "id": "42" } }), user()),
            (json!({ "user": { "id": 42 } }), user()),
            (
                json!({ "cookie": { "expires": "2999-01-01T00:00:00.000Z" } }),
                Login::Visitor,
            ),
            (json!({ "user": { "id": "" } }), Login::Visitor),
        ] {
            *store.login.lock() = Some(login);
            for secret in ["new", "old"] {
                assert_eq!(
                    logins.identify(Some(&signed(secret))).await.as_ref(),
                    Ok(&expected)
                );
            }
        }
        assert_eq!(logins.identify(None).await, Ok(Login::NoCookie));
        assert_eq!(
            logins.identify(Some("theme=dark; connect.sid2=s:x.y")).await,
            Ok(Login::NoCookie)
        );
    }

    #[tokio::test]
    async fn what_is_wrong_has_its_own_code() {
        let store = Arc::new(Kept::default());
        let logins = logins(&store);
        let code = async |cookies: &str| logins.identify(Some(cookies)).await.unwrap_err().code;
        for wrong in [
            signed("other"),
            signed("new").replace("abc", "abd"),
            "connect.sid=abc".to_owned(),
            "connect.sid=s:".to_owned(),
            "connect.sid=s%3A.".to_owned(),
            "connect.sid=s%3Aabc.def".to_owned(),
            "connect.sid=%".to_owned(),
        ] {
            assert_eq!(code(&wrong).await, IdentityCode::CookieBadSignature, "{wrong}");
        }
        assert_eq!(code(&signed("new")).await, IdentityCode::LoginExpired);
        *store.login.lock() =
            Some(json!({ "user": { "id": 1 }, "cookie": { "expires": "2020-01-01T00:00:00.000Z" } }));
        assert_eq!(code(&signed("new")).await, IdentityCode::LoginExpired);
        *store.login.lock() = Some(json!({ "user": { "id": [1] } }));
        assert_eq!(code(&signed("new")).await, IdentityCode::LoginWithoutUser);
        store.away.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(code(&signed("new")).await, IdentityCode::LoginStoreUnavailable);
        assert!(!format!("{logins:?}").contains("new"));
    }

    const LONG_AGO: &str = "2020-01-01T00:00:00.000Z";

    fn of_user(id: u64, expires: Option<&str>) -> Option<Value> {
        Some(json!({ "user": { "id": id }, "cookie": { "originalMaxAge": 1_000, "expires": expires } }))
    }

    async fn login_of(logins: &CookieLogins) -> UserLogin {
        match logins.identify(Some(&signed("new"))).await {
            Ok(Login::User(login)) => login,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_login_ends_when_it_is_gone_has_expired_or_is_of_another_user() {
        let store = Arc::new(Kept::default());
        let logins = logins(&store);
        *store.login.lock() = of_user(1, Some("2999-01-01T00:00:00.000Z"));
        let login = login_of(&logins).await;
        assert_eq!(login.expires, Some(32_472_144_000_000));
        assert_eq!(logins.look_again(&login).await, Ok(Some(login.clone())));
        for over in [
            None,
            of_user(2, None),
            of_user(1, Some(LONG_AGO)),
            Some(json!({})),
        ] {
            store.login.lock().clone_from(&over);
            assert_eq!(logins.look_again(&login).await, Ok(None), "{over:?}");
        }
        store.away.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(logins.look_again(&login).await.is_err(), "nobody knows");
        assert!(!format!("{login:?}").contains("abc"));
    }

    #[tokio::test]
    async fn a_login_that_is_used_is_extended_in_the_store_alone() {
        let store = Arc::new(Kept::default());
        let logins = logins(&store);
        *store.login.lock() = of_user(1, Some(LONG_AGO));
        *store.kept_for.lock() = Some(Duration::from_secs(100));
        let login = login_of(&logins).await;
        let left = login.expires.unwrap() - wall_clock_milliseconds();
        assert!((90_000..=100_000).contains(&left), "{left}");
        *store.kept_for.lock() = None;
        assert_eq!(
            logins.look_again(&login).await,
            Ok(None),
            "kept for ever, so its own word counts"
        );
    }
}

//! Who a client is: by its token, else by the login cookie of a web application, else nobody.
//!
//! - [`token`]: JSON Web Tokens, checked with [`keys`] of the settings or of a set that is fetched ([`jwks`], [`jwks_url`])
//! - [`cookies`]: logins that an application keeps in a store of its own, and may end or extend at any time
//! - [`refused`]: why it is not known
//!
//! Nothing here knows Socket.IO or Redis: the transport brings what the client sent, and whoever starts the gateway
//! brings the store. What a client brought is never in a log, an error or a `Debug`.

mod cookies;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod jwks;
mod jwks_url;
mod keys;
mod metrics;
mod percent;
mod refused;
mod token;

use std::sync::Arc;

pub use cookies::{CookieLogins, CookieSecrets, LoginStore, LoginStoreAway, Recheck, UserLogin};
pub use jwks::{Jwks, JwksSettings, KeySource};
pub use jwks_url::{InvalidJwksUrl, JwksUrl};
pub use keys::{InvalidKey, Key};
pub use metrics::IdentityMetrics;
pub(crate) use percent::percent_decoded;
pub use refused::{IdentityCode, Unidentified};
pub use token::Tokens;

use self::cookies::Login;
use crate::hub::Identity;

/// Everything that tells who a client is.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// By tokens.
    pub tokens: Tokens,
    /// By cookies, where an application's logins count here.
    pub logins: Option<CookieLogins>,
}

/// A client that is known, be it as nobody.
#[derive(Clone, Debug, Default)]
pub struct Identified {
    /// Who it is.
    pub identity: Identity,
    /// When its token ends, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// The login it is known by, which may end at any time.
    pub login: Option<UserLogin>,
}

impl Identities {
    /// Finds out who a client is. A token that is wrong is not made good by a cookie, and neither by policy: whoever
    /// brings one wants to be somebody. `anonymous` says whether policy lets nobody in.
    pub async fn identify(
        &self,
        token: Option<&str>,
        cookies: Option<&str>,
        anonymous: bool,
    ) -> Result<Identified, Unidentified> {
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            return self.tokens.identify(token).await;
        }
        let login = match &self.logins {
            None => None,
            Some(logins) => Some(logins.identify(cookies).await?),
        };
        let (code, message) = match login {
            Some(Login::User(login)) => {
                return Ok(Identified {
                    identity: Identity {
                        user: Some(Arc::clone(&login.user)),
                        ..Identity::default()
                    },
                    expires: None,
                    login: Some(login),
                });
            }
            _ if anonymous => return Ok(Identified::default()),
            None => (
                IdentityCode::AnonymousRefused,
                "this gateway wants to know who you are; pass a token in `auth`",
            ),
            Some(Login::NoCookie) => (
                IdentityCode::CookieMissing,
                "this gateway wants to know who you are, and no login cookie came; log in (and connect with credentials)",
            ),
            Some(Login::Visitor) => (
                IdentityCode::LoginWithoutUser,
                "the login of this cookie names no user; log in",
            ),
        };
        Err(Unidentified::new(code, message))
    }

    /// Checks a new token of a client that is known already. It must be the same user's.
    pub async fn refresh(&self, user: Option<&str>, token: &str) -> Result<Identified, Unidentified> {
        let identified = self.tokens.identify(token).await?;
        if identified.identity.user.as_deref() == user {
            return Ok(identified);
        }
        let message = "the token is of another user than the session; connect anew to be somebody else";
        Err(Unidentified::new(IdentityCode::TokenWrongUser, message))
    }
}

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use carillon_model::{Room, time::wall_clock_milliseconds};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{EncodingKey, Header};
use parking_lot::Mutex;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::identity::{
    Identities,
    jwks::{JwksSettings, KeySource},
    metrics::IdentityMetrics,
};

/// Only the public half, and nobody has the other.
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAmxxJah1BJO7QEj9sG9DI
CUziCG+JUqxXsCiGwMD7SCzUwWkTAjWWbrjWgmYH2g2XO07yAPkfxpr6g1Iv9zmA
G7iEoDtC9SqaGkR4vkmAIzW52/uXQn3K9D5syE1JdKn3+DOIErDooqZk0tx1vWJK
Tkv6vr4HhYlECUBsZtIzMq7Py55o2HAiRFXiJdDb7YFJVu6zfmCG6FFSDrQhrTgT
RZqGvys6TxTSnU3knu7rEstd7HbT6bLKlDl10uuNB3l9IQ9GyaHANnGaEbZeG4Y/
syzK8PVjUgbN8T0ynrLVf7fVVJ+OMGUSR1JsETYF5ZV19S8JL3B2K1+uUDJSzIO4
UQIDAQAB
-----END PUBLIC KEY-----
";
const P384_PEM: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEtvrv1qNIiRGj0LQVsvgz4kQJwNBNgoRN
G4Zvg8p9DcejPd7IGHnQiQYIpo5Qo6f9EzDpG4Zbkpyos7/FVVUmK1/HVcN+a0jz
IE/z3IbnzQyqrFE/yNlVYTZTNmB/s+/q
-----END PUBLIC KEY-----
";

/// A key pair: how to sign, and the public half as a key of a set.
struct Pair {
    signing: EncodingKey,
    algorithm: Algorithm,
    jwk: Value,
}

fn ed25519(id: &str) -> Pair {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(public.public_key().as_ref());
    Pair {
        signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
        algorithm: Algorithm::EdDSA,
        jwk: json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig", "alg": "EdDSA" }),
    }
}

fn p256(id: &str) -> Pair {
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    Pair {
        signing: EncodingKey::from_ec_der(pkcs8.as_ref()),
        algorithm: Algorithm::ES256,
        jwk: json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]), "kid": id }),
    }
}

impl Pair {
    fn token(&self, claims: &Value) -> String {
        let header = Header {
            kid: self.jwk["kid"].as_str().map(str::to_owned),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.signing).unwrap()
    }
}

fn hs256(secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn secret_tokens() -> Tokens {
    Tokens {
        keys: [Key::hs256(b"secret")].into(),
        ..Tokens::default()
    }
}

async fn code(tokens: &Tokens, token: &str) -> IdentityCode {
    tokens.identify(token).await.unwrap_err().code
}

fn now() -> u64 {
    wall_clock_milliseconds() / 1000
}

#[tokio::test]
async fn a_good_token_names_its_user_rooms_and_end() {
    let tokens = secret_tokens();
    let (exp, nbf) = (now() - 20, now() + 20);
    let claims =
        json!({ "sub": "42", "rooms": ["team-*"], "exp": exp, "nbf": nbf, "aud": "any", "iss": "any" });
    let identified = tokens.identify(&hs256(b"secret", &claims)).await.unwrap();
    assert_eq!(identified.identity.user.as_deref(), Some("42"));
    assert!(identified.identity.rooms[0].matches(&Room::new("team-a").unwrap()));
    assert_eq!(identified.expires, Some(exp * 1000));
    assert_eq!(format!("{tokens:?}").find("secret"), None);
}

#[tokio::test]
async fn what_is_wrong_has_its_own_code() {
    let tokens = Tokens {
        audience: vec!["push".to_owned()],
        issuers: vec!["https://login".to_owned()],
        ..secret_tokens()
    };
    use IdentityCode as Code;
    let good = json!({ "sub": "42", "aud": ["web", "push"], "iss": "https://login" });
    assert!(tokens.identify(&hs256(b"secret", &good)).await.is_ok());
    for (claim, value, expected) in [
        ("exp", json!(now() - 40), Code::TokenExpired),
        ("exp", json!("tomorrow"), Code::TokenInvalid),
        ("nbf", json!(now() + 40), Code::TokenNotYetValid),
        ("nbf", json!("yesterday"), Code::TokenInvalid),
        ("sub", Value::Null, Code::TokenInvalid),
        ("sub", json!(""), Code::TokenInvalid),
        ("rooms", json!(["a["]), Code::TokenInvalid),
        ("rooms", json!("a"), Code::TokenInvalid),
        ("rooms", json!(vec!["a"; 101]), Code::TokenInvalid),
        ("aud", json!("other"), Code::TokenWrongAudience),
        ("aud", Value::Null, Code::TokenWrongAudience),
        ("iss", json!("https://evil"), Code::TokenWrongIssuer),
        ("iss", Value::Null, Code::TokenWrongIssuer),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        assert_eq!(
            code(&tokens, &hs256(b"secret", &claims)).await,
            expected,
            "{claims}"
        );
    }
    assert_eq!(
        code(&tokens, &hs256(b"other", &good)).await,
        Code::TokenBadSignature
    );
    let cut = hs256(b"secret", &good);
    assert_eq!(
        code(&tokens, &cut[..cut.len() - 4]).await,
        Code::TokenBadSignature
    );
    for wrong in ["no.jwt", "", "a.b.c", &format!("{cut}.x"), &"x".repeat(20_000)] {
        assert_eq!(code(&tokens, wrong).await, Code::TokenInvalid, "{wrong}");
    }
    let critical = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..Header::default()
    };
    let critical = jsonwebtoken::encode(&critical, &good, &EncodingKey::from_secret(b"secret")).unwrap();
    assert_eq!(code(&tokens, &critical).await, Code::TokenInvalid);
}

#[tokio::test]
async fn claims_are_text_even_where_nobody_reads_them() {
    let token = |claims: &[u8]| {
        let [header, claims] = [br#"{"alg":"HS256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let text = format!("{header}.{claims}");
        let mac = Hmac::<Sha256>::new_from_slice(b"secret")
            .unwrap()
            .chain_update(&text);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    };
    let tokens = secret_tokens();
    let good = token("{\"sub\":\"42\",\"name\":\"Zoé\",\"score\":1e999}".as_bytes());
    assert!(tokens.identify(&good).await.is_ok());
    let wrong = token(b"{\"sub\":\"42\",\"name\":\"Zo\xe9\"}");
    assert_eq!(code(&tokens, &wrong).await, IdentityCode::TokenInvalid);
}

#[tokio::test]
async fn the_key_says_how_a_token_is_signed() {
    let claims = json!({ "sub": "42" });
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.";
    let rsa = Tokens {
        keys: [Key::from_pem(RSA_PEM.as_bytes()).unwrap()].into(),
        ..Tokens::default()
    };
    for tokens in [&secret_tokens(), &rsa, &Tokens::default()] {
        assert_eq!(code(tokens, unsigned).await, IdentityCode::TokenBadAlgorithm);
    }
    // What everybody can read is no secret, in whatever form somebody made it one.
    let der: Vec<u8> = base64::engine::general_purpose::STANDARD
        .decode(
            RSA_PEM
                .lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap();
    for public in [RSA_PEM.as_bytes(), RSA_PEM.trim_end().as_bytes(), &der[..]] {
        let forged = hs256(public, &claims);
        assert_eq!(code(&rsa, &forged).await, IdentityCode::TokenBadAlgorithm);
    }
    let longer = jsonwebtoken::encode(
        &Header::new(Algorithm::HS512),
        &claims,
        &EncodingKey::from_secret(b"secret"),
    );
    assert_eq!(
        code(&secret_tokens(), &longer.unwrap()).await,
        IdentityCode::TokenBadAlgorithm
    );
    assert!(Key::from_pem(P384_PEM.as_bytes()).is_err());
    assert!(Key::from_pem(b"secret").is_err());
}

/// A set that changes and goes away.
#[derive(Debug, Default)]
struct Served {
    set: Mutex<Option<Value>>,
    fetches: Mutex<u32>,
}

#[async_trait]
impl KeySource for Served {
    async fn fetch(&self) -> Result<Bytes, String> {
        *self.fetches.lock() += 1;
        let set = self.set.lock().clone().ok_or("away")?;
        Ok(set.to_string().into())
    }
}

impl Served {
    fn serve(&self, pairs: &[&Pair]) {
        let keys: Vec<_> = pairs.iter().map(|pair| &pair.jwk).collect();
        *self.set.lock() = Some(json!({ "keys": keys }));
    }

    fn tokens(self: &Arc<Self>) -> Tokens {
        let seconds = Duration::from_secs;
        let settings = JwksSettings {
            refresh: seconds(300),
            stale: seconds(3600),
            cooldown: seconds(10),
            timeout: seconds(5),
        };
        let metrics = IdentityMetrics::new(&prometheus::Registry::new()).unwrap();
        Tokens {
            jwks: Some(Jwks::start(
                Arc::clone(self) as Arc<dyn KeySource>,
                settings,
                metrics,
            )),
            ..Tokens::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_looked_for_once_and_not_again_at_once() {
    let (one, two, made_up) = (ed25519("one"), p256("two"), ed25519("made up"));
    let claims = json!({ "sub": "42" });
    let served = Arc::new(Served::default());
    served.serve(&[&one]);
    let tokens = served.tokens();
    // The first token waits for the first fetch.
    assert!(tokens.identify(&one.token(&claims)).await.is_ok());
    assert_eq!(*served.fetches.lock(), 1);
    served.serve(&[&two]);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(tokens.identify(&two.token(&claims)).await.is_ok());
    assert_eq!(*served.fetches.lock(), 2);
    // What was withdrawn counts no more, and whoever makes keys up does not make us fetch.
    for _ in 0..50 {
        assert_eq!(
            code(&tokens, &one.token(&claims)).await,
            IdentityCode::TokenUnknownKey
        );
        assert_eq!(
            code(&tokens, &made_up.token(&claims)).await,
            IdentityCode::TokenUnknownKey
        );
    }
    assert_eq!(*served.fetches.lock(), 2);
    let mut forged = ed25519("one");
    forged.jwk["kid"] = json!("two");
    assert_eq!(
        code(&tokens, &forged.token(&claims)).await,
        IdentityCode::TokenUnknownKey
    );
    served.serve(&[&one]);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(*served.fetches.lock(), 3, "fetched by itself");
    let other = code(&tokens, &made_up.token(&claims)).await;
    assert_eq!(
        other,
        IdentityCode::TokenUnknownKey,
        "of the same kind, and not the same"
    );
    forged.jwk["kid"] = json!("one");
    assert_eq!(
        code(&tokens, &forged.token(&claims)).await,
        IdentityCode::TokenBadSignature
    );
    assert_eq!(
        code(&tokens, &hs256(b"x", &claims)).await,
        IdentityCode::TokenBadAlgorithm
    );
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_fetched_are_kept_for_a_while() {
    let one = ed25519("one");
    let token = one.token(&json!({ "sub": "42" }));
    let served = Arc::new(Served::default());
    let tokens = served.tokens();
    assert_eq!(code(&tokens, &token).await, IdentityCode::TokenKeysUnavailable);
    served.serve(&[&one]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(tokens.identify(&token).await.is_ok(), "tried again by itself");
    for broken in [None, Some(json!({ "keys": [] })), Some(json!("no set"))] {
        *served.set.lock() = broken;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert!(tokens.identify(&token).await.is_ok(), "stale, but not too much");
    }
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(code(&tokens, &token).await, IdentityCode::TokenKeysUnavailable);
    served.serve(&[&one]);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert!(tokens.identify(&token).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_public_keys_for_signatures_are_taken_from_a_set() {
    let good = p256("good");
    let secret = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("secret"), "kid": "oct", "alg": "HS256" });
    let mut for_encryption = ed25519("enc");
    for_encryption.jwk["use"] = json!("enc");
    let mut for_others = ed25519("other");
    for_others.jwk["alg"] = json!("ES256");
    let small = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([200; 128]), "e": "AQAB", "kid": "small" });
    let unheard_of = json!({ "kty": "AKP", "alg": "ML-DSA-44", "kid": "new", "pub": "x" });
    let keys = [
        &secret,
        &for_encryption.jwk,
        &for_others.jwk,
        &small,
        &unheard_of,
        &good.jwk,
    ];
    let keys = crate::identity::keys::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    assert_eq!(format!("{keys:?}"), r#"[Key(ES256, Some("good"))]"#);
}

#[tokio::test]
async fn a_new_token_must_be_of_the_same_user() {
    let identities = Identities {
        tokens: secret_tokens(),
        logins: None,
    };
    let token = hs256(b"secret", &json!({ "sub": "42", "exp": now() + 5 }));
    let refreshed = identities.refresh(Some("42"), &token).await.unwrap();
    assert_eq!(refreshed.expires, Some((now() + 5) * 1000));
    for user in [Some("43"), None] {
        let refused = identities.refresh(user, &token).await.unwrap_err();
        assert_eq!(refused.code, IdentityCode::TokenWrongUser);
    }
    let nobody = identities.identify(None, None, true).await.unwrap();
    assert!(nobody.identity.user.is_none());
    let refused = identities.identify(Some(""), None, false).await.unwrap_err();
    assert_eq!(refused.code, IdentityCode::AnonymousRefused);
    assert!(identities.identify(Some("x"), None, true).await.is_err());
}

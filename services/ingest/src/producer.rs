//! Who sends. Keys are known by their SHA-256 only.

use std::sync::Arc;

use carillon_model::{
    Room, Sender,
    policy::{Policy, Producer},
};
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::problem::{Kind, Problem};

/// The sender of a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Nobody known, where policy lets such in.
    Anonymous,
    /// A producer of the policy.
    Known(Arc<Producer>),
}

impl Caller {
    /// Finds the producer by the request's headers.
    pub(crate) fn of(headers: &HeaderMap, policy: &Policy) -> Result<Self, Problem> {
        let Some(key) = key(headers)? else {
            return if policy.anonymous_producers {
                Ok(Self::Anonymous)
            } else {
                Err(unauthorized(
                    "send a producer's key: `Authorization: Bearer <key>`, or `X-API-Key: <key>`",
                ))
            };
        };
        let hash: [u8; 32] = Sha256::digest(key).into();
        match policy.producer_of_key(&hash) {
            Some(producer) => Ok(Self::Known(Arc::clone(producer))),
            None => Err(unauthorized("this key belongs to no producer")),
        }
    }

    /// The producer of the policy, if it is one.
    pub(crate) fn producer(&self) -> Option<&Arc<Producer>> {
        match self {
            Self::Anonymous => None,
            Self::Known(producer) => Some(producer),
        }
    }

    /// For logs and metrics' exemplars, never for a decision.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Known(producer) => &producer.name,
        }
    }

    /// The name space of its idempotency keys. The prefix keeps it apart from those of sessions and lists.
    pub(crate) fn key_space(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Known(producer) => format!("producer:{}", producer.name),
        }
    }

    /// How the message names it.
    pub(crate) fn sender(&self) -> Sender {
        match self {
            Self::Anonymous => Sender::Anonymous,
            Self::Known(producer) => Sender::Producer(producer.name.clone()),
        }
    }

    pub(crate) fn may_send_to(&self, room: &Room) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Known(producer) => producer.may_send_to(room),
        }
    }
}

fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.as_bytes();
        let (scheme, key) = match value.iter().position(|byte| *byte == b' ') {
            Some(space) => (&value[..space], value[space..].trim_ascii()),
            None => (value, &[][..]),
        };
        if !scheme.eq_ignore_ascii_case(b"bearer") || key.is_empty() {
            return Err(unauthorized("the header `Authorization` must be `Bearer <key>`"));
        }
        return Ok(Some(key));
    }
    Ok(headers.get("x-api-key").map(|value| value.as_bytes()))
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
        .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"carillon\"")
}

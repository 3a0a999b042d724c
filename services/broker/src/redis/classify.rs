//! What an error of Redis means: the one place that decides.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::BrokerError;

/// What to do about a failed call.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing was executed: the slot is at this server for good. Look again and repeat.
    Moved,
    /// Nothing was executed: for this call, this server is to be asked.
    Ask(String),
    /// Nothing was executed: repeat in a moment.
    Wait,
    /// Nothing was executed: the script is not there; send it.
    SendScript,
    /// The call failed; `broken` says that the connection is worth nothing any more.
    Failed { error: BrokerError, broken: bool },
}

/// Judges an error. `writes`: whether the call might have changed something; `sent`: whether it may have left.
pub(super) fn classify(error: &RedisError, writes: bool, sent: bool) -> Verdict {
    let failed = |error, broken| Verdict::Failed { error, broken };
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => Verdict::Moved,
        ErrorKind::Server(ServerErrorKind::Ask) => match error.redirect_node() {
            Some((address, _)) => Verdict::Ask(address.to_owned()),
            None => Verdict::Wait,
        },
        ErrorKind::Server(ServerErrorKind::NoScript) => Verdict::SendScript,
        ErrorKind::Server(
            ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::ReadOnly,
        ) => Verdict::Wait,
        ErrorKind::Server(ServerErrorKind::NoPerm) => failed(
            BrokerError::Misconfigured(format!(
                "Redis does not allow it ({text}); see docs/security.md for the ACL rules"
            )),
            false,
        ),
        ErrorKind::AuthenticationFailed => failed(wrong_password(&text), true),
        ErrorKind::Server(_) | ErrorKind::Extension => match error.code() {
            Some("OOM") => failed(BrokerError::OutOfMemory(text), false),
            Some("NOAUTH" | "WRONGPASS") => failed(wrong_password(&text), true),
            Some("WRONGTYPE") => failed(BrokerError::Corrupt(text), false),
            // Writes are refused while the server cannot keep them: MISCONF, NOREPLICAS.
            Some("MISCONF" | "NOREPLICAS") => failed(BrokerError::Unavailable(text), false),
            Some("BUSY" | "UNBLOCKED") => failed(BrokerError::Unavailable(text), true),
            // Inside a script, which may have done a part of its work. The text doesn't name the command.
            _ if text.contains("The user executing the script can't") => {
                let text = format!(
                    "Redis does not allow a command of a script to this user ({text}); its ACL LOG names the command, \
                     docs/security.md has the ACL rules"
                );
                let error = if writes {
                    BrokerError::Unknown(text)
                } else {
                    BrokerError::Misconfigured(text)
                };
                failed(error, false)
            }
            _ if text.contains("OOM command not allowed") => failed(BrokerError::OutOfMemory(text), false),
            _ if text.contains("WRONGTYPE") => failed(BrokerError::Corrupt(text), false),
            _ if text.contains("cluster support disabled") => failed(
                BrokerError::Misconfigured(
                    "redis.mode is cluster, but the server is none; set redis.mode to standalone".to_owned(),
                ),
                false,
            ),
            _ => failed(BrokerError::Corrupt(text), false),
        },
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => failed(BrokerError::Corrupt(text), true),
        ErrorKind::InvalidClientConfig => failed(BrokerError::Misconfigured(text), true),
        _ if text.contains("invalid peer certificate") => failed(
            BrokerError::Misconfigured(format!(
                "the server's certificate is not trusted ({text}); redis.tls.ca_file names a file with its authority"
            )),
            true,
        ),
        _ if writes && sent => failed(BrokerError::Unknown(text), true),
        _ => failed(BrokerError::Unavailable(text), true),
    }
}

fn wrong_password(text: &str) -> BrokerError {
    BrokerError::Misconfigured(format!("Redis refuses the credentials ({text}); check redis.url"))
}

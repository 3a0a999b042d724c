//! What an error of Redis means: the one place that decides.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::requirements::{IS_A_SENTINEL, IS_NO_CLUSTER};
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
            // A script of ours says so of the very message it was given.
            Some(UNSTORABLE) => failed(BrokerError::Unstorable(text), false),
            // Writes are refused while the server cannot keep them: MISCONF, NOREPLICAS.
            Some("MISCONF" | "NOREPLICAS") => failed(BrokerError::NotWritable(text), false),
            Some("BUSY" | "UNBLOCKED") => failed(BrokerError::Unavailable(text), true),
            // Inside a script, which may have done a part of its work. The text doesn't name the command.
            _ if text.contains("The user executing the script can't") => {
                let text = format!(
                    "Redis does not allow a command of a script to this user ({text}); its ACL LOG names the command, \
                     docs/security.md has the ACL rules"
                );
                let error = if writes {
                    BrokerError::Rejected {
                        reason: text,
                        half_done: true,
                    }
                } else {
                    BrokerError::Misconfigured(text)
                };
                failed(error, false)
            }
            _ if text.contains("OOM command not allowed") => failed(BrokerError::OutOfMemory(text), false),
            // Said before anything is executed; after the first, the server hangs up.
            _ if REFUSED_SIZES.iter().any(|said| text.contains(said)) => {
                failed(BrokerError::Unstorable(text), true)
            }
            _ if text.contains("cluster support disabled") => {
                failed(BrokerError::Misconfigured(IS_NO_CLUSTER.to_owned()), false)
            }
            // Nobody knows what it means, so it is not the message that is to blame.
            _ => {
                let half_done = writes && is_from_inside_a_script(&text);
                let error = BrokerError::Rejected {
                    reason: text,
                    half_done,
                };
                failed(error, false)
            }
        },
        // An answer that can't be read says as little of what was done as one that was lost.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType if writes && sent => {
            failed(BrokerError::Unknown(text), true)
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => failed(BrokerError::Corrupt(text), true),
        ErrorKind::InvalidClientConfig => failed(BrokerError::Misconfigured(text), true),
        _ if text.contains("invalid peer certificate") => failed(
            BrokerError::Misconfigured(format!(
                "the server's certificate is not trusted ({text}); redis.tls.ca_file names a file with its authority"
            )),
            true,
        ),
        // Said of a server that was looked at before anything was sent.
        _ if text.contains(IS_A_SENTINEL) => failed(BrokerError::Misconfigured(text), true),
        _ if writes && sent => failed(BrokerError::Unknown(text), true),
        _ => failed(BrokerError::Unavailable(text), true),
    }
}

/// An error's first word, by which a script says that the message it was given can never be stored.
const UNSTORABLE: &str = "UNSTORABLE";

/// What Redis says of a value that is larger than it allows (`proto-max-bulk-len`).
const REFUSED_SIZES: [&str; 2] = ["invalid bulk length", "string exceeds maximum allowed size"];

/// A script that ends with an error keeps what it wrote before. Redis names the script and the line.
fn is_from_inside_a_script(text: &str) -> bool {
    text.contains("script: ") || text.contains("@user_script")
}

fn wrong_password(text: &str) -> BrokerError {
    BrokerError::Misconfigured(format!("Redis refuses the credentials ({text}); check redis.url"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What a server says, as the library reads it.
    fn said(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    fn io(kind: io::ErrorKind) -> RedisError {
        io::Error::from(kind).into()
    }

    fn of(kind: ErrorKind) -> RedisError {
        (kind, "in a test").into()
    }

    /// A verdict in a word or two.
    fn word(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Moved => "moved".to_owned(),
            Verdict::Ask(address) => format!("ask {address}"),
            Verdict::Wait => "wait".to_owned(),
            Verdict::SendScript => "send script".to_owned(),
            Verdict::Failed { error, broken } => {
                let connection = if *broken { "broken" } else { "whole" };
                let half = if error.kind() == "rejected" && error.outcome_is_unknown() {
                    ", half done"
                } else {
                    ""
                };
                format!("{} {connection}{half}", error.kind())
            }
        }
    }

    /// The verdicts on a read not sent, a read sent, a write not sent, a write sent.
    fn verdicts(error: &RedisError) -> [String; 4] {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(writes, sent)| word(&classify(error, writes, sent)))
    }

    /// Errors that mean the same for reads and writes, sent or not: the server said that it did nothing, or what it did.
    #[test]
    fn what_a_server_says_counts_whatever_was_sent() {
        for (line, verdict) in [
            ("MOVED 3999 127.0.0.1:6381", "moved"),
            ("ASK 3999 127.0.0.1:6381", "ask 127.0.0.1:6381"),
            ("ASK", "wait"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "wait"),
            ("CLUSTERDOWN Hash slot not served", "wait"),
            ("MASTERDOWN Link with MASTER is down", "wait"),
            ("LOADING Redis is loading the dataset in memory", "wait"),
            ("READONLY You can't write against a read only replica.", "wait"),
            ("NOSCRIPT No matching script. Please use EVAL.", "send script"),
            (
                "NOPERM this user has no permissions to run the 'xadd' command",
                "misconfigured whole",
            ),
            ("NOAUTH Authentication required.", "misconfigured broken"),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "misconfigured broken",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "out_of_memory whole",
            ),
            (
                "ERR OOM command not allowed script: 0a, on @user_script:3.",
                "out_of_memory whole",
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                "rejected whole",
            ),
            (
                "UNSTORABLE the keys of a room hold something else",
                "unstorable whole",
            ),
            ("ERR Protocol error: invalid bulk length", "unstorable broken"),
            (
                "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
                "unstorable broken",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                "not_writable whole",
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                "not_writable whole",
            ),
            ("BUSY Redis is busy running a script.", "unavailable broken"),
            (
                "UNBLOCKED force unblock from blocking operation",
                "unavailable broken",
            ),
            (
                "ERR This instance has cluster support disabled",
                "misconfigured whole",
            ),
            ("ERR unknown command 'XADD'", "rejected whole"),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                "rejected whole",
            ),
            ("EXECABORT Transaction discarded", "rejected whole"),
            ("ERR proxy: backend pool exhausted", "rejected whole"),
            ("SOMETHING nobody has heard of", "rejected whole"),
        ] {
            assert_eq!(verdicts(&said(line)), [verdict; 4], "{line}");
        }
    }

    /// A script that was stopped half way: what it had written stands.
    #[test]
    fn a_script_that_was_not_allowed_to_go_on_may_have_written() {
        let error = said("ERR The user executing the script can't run this command or subcommand script: 0a");
        let [read, half_done] = ["misconfigured whole", "rejected whole, half done"];
        assert_eq!(verdicts(&error), [read, read, half_done, half_done]);
        for line in [
            "WRONGTYPE Operation against a key script: 0a, on @user_script:3.",
            "ERR Error running script (call to 0a): @user_script: 3: something new",
        ] {
            let [read, half_done] = ["rejected whole", "rejected whole, half done"];
            assert_eq!(
                verdicts(&said(line)),
                [read, read, half_done, half_done],
                "{line}"
            );
        }
    }

    /// Without an answer, only what was never sent is certain not to have been done.
    #[test]
    fn a_lost_answer_to_a_write_is_unknown_and_to_nothing_else() {
        use io::ErrorKind as Io;
        let mut errors: Vec<RedisError> = [
            Io::TimedOut,
            Io::WouldBlock,
            Io::BrokenPipe,
            Io::ConnectionReset,
            Io::ConnectionAborted,
            Io::ConnectionRefused,
            Io::UnexpectedEof,
            Io::NotConnected,
            Io::Other,
        ]
        .map(io)
        .into();
        errors.extend([ErrorKind::Io, ErrorKind::Client].map(of));
        for error in errors {
            let [no, unknown] = ["unavailable broken", "unknown broken"];
            assert_eq!(verdicts(&error), [no, no, no, unknown], "{error}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_no_answer_to_a_write() {
        for kind in [ErrorKind::Parse, ErrorKind::UnexpectedReturnType] {
            let [wrong, unknown] = ["corrupt broken", "unknown broken"];
            assert_eq!(verdicts(&of(kind)), [wrong, wrong, wrong, unknown], "{kind:?}");
        }
    }

    /// They come while a connection is made: nothing was sent, so nothing is unknown.
    #[test]
    fn what_settings_are_to_blame_for_is_said_to_be_so() {
        for error in [
            of(ErrorKind::AuthenticationFailed),
            of(ErrorKind::InvalidClientConfig),
            io::Error::other("invalid peer certificate: UnknownIssuer").into(),
            io::Error::other(format!("Redis at 127.0.0.1:26379: {IS_A_SENTINEL}")).into(),
        ] {
            assert_eq!(verdicts(&error), ["misconfigured broken"; 4], "{error}");
        }
    }
}

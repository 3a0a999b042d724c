//! What a server must be, looked at one thing after the other: readiness wants the first problem, a person all of them.

use futures::future::join_all;
use redis::cmd;

use super::{
    RedisBroker,
    call::Call,
    node::{Node, ask},
    reply,
    requirements::{backlog_problem, eviction_problem, field, mode_problem, replicas_found, version_problem},
};
use crate::{BrokerError, Result};

/// What is looked at where it decides whether anything may be asked of the server at all.
const MODE: &str = "mode";
/// What only matters for what is kept, not for whether it may be written.
const PERSISTENCE: &str = "persistence";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The server, or the installation.
    pub place: String,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What is wrong with it and what to change, if anything.
    pub problem: Option<String>,
}

impl RedisBroker {
    /// Looks at every server and at what is written down of the installation. Changes nothing. An error: nobody answered.
    pub async fn diagnose(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for found in self.look_at_servers().await? {
            findings.extend(found?);
        }
        for node in self.topology().primaries().await? {
            findings.extend(self.look_at_replication(&node).await?);
        }
        // A server of another mode may hold something else, or send on to where it would be.
        let other = |finding: &Finding| finding.subject == MODE && finding.problem.is_some();
        if !findings.iter().any(other) {
            findings.push(self.look_at_installation().await?);
        }
        Ok(findings)
    }

    /// Looks at all primaries at once: one that does not answer costs its own time only.
    async fn look_at_servers(&self) -> Result<Vec<Result<Vec<Finding>>>> {
        let primaries = self.topology().primaries().await?;
        let looks = primaries.iter().map(|node| self.look_at_server(node));
        Ok(join_all(looks).await)
    }

    async fn look_at_server(&self, node: &Node) -> Result<Vec<Finding>> {
        let server = information(node, "server").await?;
        let memory = information(node, "memory").await?;
        let persistence = information(node, "persistence").await?;
        let finding = |subject, found: &str, problem| Finding {
            place: node.address.to_string(),
            subject,
            found: found.to_owned(),
            problem,
        };

        let version = field(&server, "redis_version");
        let mode = field(&server, "redis_mode");
        let other = mode_problem(&server, &self.options().mode);
        let eviction = field(&memory, "maxmemory_policy");

        let appends = field(&persistence, "aof_enabled") == "1";
        // Where CONFIG is not allowed, snapshots are taken on trust. What need not be known is not asked for: a denied
        // command every few seconds would fill the log in which Redis keeps those.
        let snapshots = if appends {
            None
        } else {
            configured(node, "save").await
        };
        let kept = match (appends, snapshots) {
            (true, _) => "append-only file",
            (false, Some(save)) if save.is_empty() => "nothing",
            (false, Some(_)) => "snapshots",
            (false, None) => "not told; taken on trust",
        };
        let forgets = (kept == "nothing" && !self.options().allow_no_persistence).then(|| {
            "it keeps nothing on disk; set appendonly to yes, or redis.allow_no_persistence for a trial"
                .to_owned()
        });
        Ok(vec![
            finding("version", version, version_problem(&server)),
            finding(MODE, mode, other.map(str::to_owned)),
            finding("eviction", eviction, eviction_problem(eviction)),
            finding(PERSISTENCE, kept, forgets),
        ])
    }

    /// What only a person wants to know: it takes rights that services need not have.
    async fn look_at_replication(&self, node: &Node) -> Result<Vec<Finding>> {
        let replication = information(node, "replication").await?;
        let attached = field(&replication, "connected_slaves").parse().unwrap_or(0);
        let ttl = configured(node, "repl-backlog-ttl").await;
        let problem = ttl.as_deref().and_then(|ttl| backlog_problem(ttl.parse().ok()?));
        let finding = |subject, found, problem| Finding {
            place: node.address.to_string(),
            subject,
            found,
            problem,
        };
        Ok(vec![
            finding(
                "replicas",
                replicas_found(attached, u64::from(self.options().wait_replicas)),
                None,
            ),
            finding(
                "backlog",
                ttl.map_or_else(
                    || "not told; taken on trust".to_owned(),
                    |ttl| format!("kept {ttl} s without replicas"),
                ),
                problem,
            ),
        ])
    }

    /// Looks at every server before anything is written there; the first problem is the error. One that keeps nothing on
    /// disk takes writes, but is not ready. Nor is one that does not answer; it keeps nobody from the others.
    pub(super) async fn check_servers(&self, persistence: bool) -> Result<()> {
        // Who was primary when somebody looked last may be gone.
        self.topology().look().await?;
        let mut unavailable = None;
        let mut answered = false;
        for found in self.look_at_servers().await? {
            let found = match found {
                Ok(found) => found,
                Err(error @ BrokerError::Unavailable(_)) => {
                    unavailable = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            answered = true;
            for finding in found {
                if let Some(problem) = finding.problem
                    && (persistence || finding.subject != PERSISTENCE)
                {
                    let text = format!("Redis at {}: {problem}", finding.place);
                    return Err(BrokerError::Misconfigured(text));
                }
            }
        }
        match unavailable {
            Some(error) if persistence || !answered => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether what is fixed for ever is what this process is set to; only looked at, never written.
    async fn look_at_installation(&self) -> Result<Finding> {
        let key = self.keys().meta();
        let mut finding = Finding {
            place: key.clone(),
            subject: "installation",
            found: "not born yet; the first service will write it down".to_owned(),
            problem: None,
        };
        for (name, wanted) in self.fixed() {
            let get = Call::command("HGET", &key).arg(&key).arg(name);
            let answer = get.run(self.topology(), self.options()).await?;
            let Some(kept) = reply::present(answer).map(reply::text).transpose()? else {
                continue;
            };
            if kept != wanted {
                finding.found = format!("{name} {kept}");
                finding.problem = Some(self.other_installation(name, &kept, &wanted));
                return Ok(finding);
            }
            finding.found = format!("{} partitions, as set", self.options().partitions.get());
        }
        Ok(finding)
    }

    /// What is fixed for ever when an installation is born.
    pub(super) fn fixed(&self) -> [(&'static str, String); 3] {
        [
            ("partitions", self.options().partitions.get().to_string()),
            ("hash", "xxh3-64".to_owned()),
            ("format", "carillon.wire.v1".to_owned()),
        ]
    }

    pub(super) fn other_installation(&self, field: &str, kept: &str, wanted: &str) -> String {
        format!(
            "this installation ({}) was born with {field} {kept}, this service is set to {wanted}; \
             set broker.{field} to {kept}, or another redis.prefix for a new installation",
            self.keys().meta()
        )
    }
}

pub(super) async fn information(node: &Node, section: &str) -> Result<String> {
    let mut command = cmd("INFO");
    command.arg(section);
    reply::text(ask(node, &command).await?)
}

async fn configured(node: &Node, name: &str) -> Option<String> {
    let mut command = cmd("CONFIG");
    command.arg("GET").arg(name);
    let mut pair = reply::array(ask(node, &command).await.ok()?).ok()?.into_iter();
    pair.nth(1).and_then(|value| reply::text(value).ok())
}

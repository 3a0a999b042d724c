//! What Carillon asks of a server, judged by what the server says of itself. Pure: texts in, sentences out.

use super::Mode;

/// The oldest version whose scripts, streams and `EXPIRE` do what the broker needs.
const OLDEST: (u32, u32) = (7, 0);

/// The value of a line of `INFO`; empty if there is none.
pub(super) fn field<'a>(information: &'a str, name: &str) -> &'a str {
    let mut lines = information.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value.trim())
}

/// What is wrong with the version in an `INFO server`. A fork counts by the version of Redis it says it is compatible with.
pub(super) fn version_problem(server: &str) -> Option<String> {
    let version = field(server, "redis_version");
    let oldest = format!("{}.{}", OLDEST.0, OLDEST.1);
    match numbers(version) {
        Some(numbers) if numbers >= OLDEST => None,
        Some(_) => Some(format!(
            "version {version} is too old; Carillon needs {oldest} or newer"
        )),
        None => Some(format!(
            "its version `{version}` cannot be read; Carillon needs Redis {oldest} or newer, or a server that says with \
             which version of Redis it is compatible (redis_version in INFO)"
        )),
    }
}

/// Major and minor version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    let minor = parts.next().map_or(Some(0), |part| digits(part).parse().ok())?;
    Some((major, minor))
}

/// What is wrong with the mode in an `INFO server`, for a service that is set to another.
pub(super) fn mode_problem(server: &str, set: &Mode) -> Option<&'static str> {
    match (set, field(server, "redis_mode")) {
        (Mode::Standalone | Mode::Sentinel { .. }, "cluster") => Some(IS_A_CLUSTER),
        (_, "sentinel") => Some(IS_A_SENTINEL),
        (Mode::Cluster, mode) if mode != "cluster" => Some(IS_NO_CLUSTER),
        _ => None,
    }
}

pub(super) const IS_A_CLUSTER: &str = "it is a node of a cluster; set redis.mode to cluster";
pub(super) const IS_NO_CLUSTER: &str = "it is no cluster; set redis.mode to standalone or sentinel";
pub(super) const IS_A_SENTINEL: &str =
    "it is a sentinel; set redis.mode to sentinel, or redis.url to the server itself";
pub(super) const IS_NO_SENTINEL: &str =
    "it is no sentinel; set redis.mode to standalone or cluster, or redis.url to a sentinel";

/// What is wrong with an eviction policy.
pub(super) fn eviction_problem(policy: &str) -> Option<String> {
    (policy != "noeviction")
        .then(|| format!("maxmemory-policy is {policy}, which throws messages away; set it to noeviction"))
}

/// Below this, `repl-backlog-ttl` may change the replication ID between two looks, and no look can tell why.
const SHORTEST_BACKLOG_TTL: u64 = 60;

/// What is wrong with `repl-backlog-ttl`, in seconds; 0 keeps the backlog for ever.
pub(super) fn backlog_problem(ttl: u64) -> Option<String> {
    (1..SHORTEST_BACKLOG_TTL).contains(&ttl).then(|| {
        format!(
            "repl-backlog-ttl is {ttl} seconds, so that a server without replicas changes its identity all the time; set \
             it to {SHORTEST_BACKLOG_TTL} or more, or to 0"
        )
    })
}

/// What `redis.wait_replicas` protects with so many replicas attached.
pub(super) fn replicas_found(attached: u64, waited_for: u64) -> String {
    match (attached, waited_for) {
        (0, 0) => "none".to_owned(),
        (attached, 0) => format!(
            "{attached}, none waited for: a failover that was not planned may lose the newest messages; \
             redis.wait_replicas {attached} would keep them"
        ),
        (attached, wanted) if attached < wanted => format!(
            "{attached}, redis.wait_replicas asks for {wanted}: nothing is accepted until they are there"
        ),
        (attached, wanted) if attached > wanted => format!(
            "{attached}, {wanted} waited for: that survives the loss of one machine, not a promotion; \
             redis.wait_replicas {attached} would"
        ),
        (attached, _) => format!("{attached}, all of them waited for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_that_is_soon_forgotten_is_a_problem() {
        for fine in [0, 60, 3600] {
            assert_eq!(backlog_problem(fine), None, "{fine}");
        }
        for short in [1, 59] {
            assert!(
                backlog_problem(short).unwrap().contains("set it to 60"),
                "{short}"
            );
        }
    }

    #[test]
    fn what_replicas_protect_is_called_what_it_is() {
        for (attached, waited_for, says) in [
            (0, 0, "none"),
            (2, 0, "redis.wait_replicas 2 would keep them"),
            (2, 1, "not a promotion; redis.wait_replicas 2 would"),
            (1, 2, "nothing is accepted"),
            (2, 2, "all of them"),
        ] {
            let found = replicas_found(attached, waited_for);
            assert!(found.contains(says), "{attached}, {waited_for}: {found}");
        }
    }

    fn server(version: &str) -> String {
        format!("# Server\r\nredis_version:{version}\r\nredis_git_sha1:00000000\r\nredis_mode:standalone\r\n")
    }

    #[test]
    fn a_version_that_is_new_enough_is_no_problem() {
        for version in [
            "7.0.0",
            "7.0.15",
            "7.4.2",
            "8.0.3",
            "10.0.0",
            "7",
            "7.0-rc2",
            "255.255.255",
        ] {
            assert_eq!(version_problem(&server(version)), None, "{version}");
        }
    }

    #[test]
    fn a_version_that_is_too_old_is_named_with_what_is_needed() {
        for version in ["6.2.14", "6.9.99", "5.0.7", "2.8.4", "0.7.0", "6"] {
            let problem = version_problem(&server(version));
            assert_eq!(
                problem.as_deref(),
                Some(&*format!(
                    "version {version} is too old; Carillon needs 7.0 or newer"
                ))
            );
        }
    }

    /// What INFO of Valkey 8.1, of KeyDB 6.3 and of Dragonfly 1.21 begins with.
    #[test]
    fn a_fork_counts_by_the_redis_it_is_compatible_with() {
        let valkey = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n\
                      valkey_release_stage:ga\r\nredis_mode:standalone\r\n";
        assert_eq!(version_problem(valkey), None);
        let keydb = "# Server\r\nredis_version:6.3.4\r\nredis_mode:standalone\r\n";
        assert!(version_problem(keydb).unwrap().contains("6.3.4 is too old"));
        let dragonfly =
            "# Server\r\nredis_version:7.2.0\r\ndragonfly_version:df-v1.21.2\r\nredis_mode:standalone\r\n";
        assert_eq!(version_problem(dragonfly), None);
    }

    #[test]
    fn a_version_that_cannot_be_read_is_said_to_be_so() {
        for information in [
            server("unstable"),
            server("v7.2"),
            server("7.x"),
            server(""),
            "# Server\r\nvalkey_version:8.1.1\r\n".to_owned(),
            String::new(),
        ] {
            let problem = version_problem(&information).unwrap();
            assert!(problem.contains("cannot be read"), "{information}: {problem}");
            assert!(problem.contains("7.0 or newer"), "{information}: {problem}");
        }
    }

    #[test]
    fn only_the_mode_that_is_set_will_do() {
        let sentinel = Mode::Sentinel {
            master: "mymaster".to_owned(),
        };
        let of = |mode: &str| format!("# Server\r\nredis_version:7.0.0\r\nredis_mode:{mode}\r\n");
        for (set, found, problem) in [
            (&Mode::Standalone, "standalone", None),
            (&Mode::Standalone, "cluster", Some(IS_A_CLUSTER)),
            (&Mode::Standalone, "sentinel", Some(IS_A_SENTINEL)),
            (&sentinel, "standalone", None),
            (&sentinel, "cluster", Some(IS_A_CLUSTER)),
            (&Mode::Cluster, "cluster", None),
            (&Mode::Cluster, "standalone", Some(IS_NO_CLUSTER)),
            (&Mode::Cluster, "sentinel", Some(IS_A_SENTINEL)),
            // A server that does not say is no cluster.
            (&Mode::Standalone, "", None),
            (&Mode::Cluster, "", Some(IS_NO_CLUSTER)),
        ] {
            assert_eq!(mode_problem(&of(found), set), problem, "{set:?} finds {found}");
        }
    }

    #[test]
    fn only_a_server_that_throws_nothing_away_will_do() {
        assert_eq!(eviction_problem("noeviction"), None);
        for policy in ["allkeys-lru", "volatile-ttl", ""] {
            assert!(
                eviction_problem(policy).unwrap().contains("noeviction"),
                "{policy}"
            );
        }
    }
}

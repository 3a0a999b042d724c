//! Settings from the environment: `CARILLON_REDIS__URL` is `redis.url`. Two underscores are a dot, one is itself.
//!
//! A variable with our prefix that is no setting is refused, as a slip would otherwise be silently without effect.
//! Except for those that Kubernetes puts into every container for each service of the namespace
//! (`CARILLON_GATEWAY_SERVICE_HOST`, `CARILLON_GATEWAY_PORT_3000_TCP`, …): nobody wrote them.

use super::{
    error::{SettingsProblem, Source},
    load::{Declared, Given},
    suggest::nearest,
    value::Raw,
};

const PREFIX: &str = "CARILLON_";

/// Names the settings file.
pub(super) const CONFIG: &str = "CARILLON_CONFIG";

/// The variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

pub(super) fn read(
    variables: &[(String, String)],
    declared: &Declared,
) -> (Vec<Given>, Vec<SettingsProblem>) {
    let mut given = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let key = rest.to_lowercase().replace("__", ".");
        let source = Source::Environment(name.clone());
        if let Some(setting) = declared.get(key.as_str()).filter(|_| variable_of(&key) == *name) {
            given.push(Given {
                key: setting.key.to_owned(),
                raw: Raw::Text(value.clone()),
                source,
            });
        } else if name != CONFIG && !is_of_kubernetes(rest, value) {
            let variables: Vec<String> = declared.keys().map(|key| variable_of(key)).collect();
            let suggestion = nearest(name, variables.iter().map(String::as_str));
            problems.push(SettingsProblem {
                key: None,
                source: Some(source),
                what: unknown(suggestion),
            });
        }
    }
    (given, problems)
}

fn unknown(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(name) => format!("is not a setting; did you mean {name}?"),
        None => "is not a setting; `--print-settings` lists them, `.` being `__`".to_owned(),
    }
}

/// Whether a variable is one of those that announce a service to a container.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let announced =
        value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
    rest == "SERVICE_HOST"
        || rest.ends_with("_SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || rest.contains("_SERVICE_PORT")
        || ((rest == "PORT" || rest.ends_with("_PORT")) && announced)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            rest.rfind(protocol).is_some_and(|place| {
                let tail = &rest[place + protocol.len()..];
                let port = rest[..place].rsplit('_').next().unwrap_or("");
                matches!(tail, "" | "_PROTO" | "_PORT" | "_ADDR")
                    && !port.is_empty()
                    && port.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_announces_is_nobodys_mistake() {
        for (rest, value) in [
            ("GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("GATEWAY_SERVICE_PORT", "3000"),
            ("GATEWAY_SERVICE_PORT_HTTP", "3000"),
            ("GATEWAY_PORT", "tcp://10.0.0.1:3000"),
            ("GATEWAY_PORT_3000_TCP", "tcp://10.0.0.1:3000"),
            ("GATEWAY_PORT_3000_TCP_ADDR", "10.0.0.1"),
            ("SERVICE_HOST", "10.0.0.1"),
        ] {
            assert!(is_of_kubernetes(rest, value), "{rest}");
        }
        assert!(!is_of_kubernetes("INGEST_PORT", "8080"), "that is a slip");
        assert!(!is_of_kubernetes("REDIS_URL", "tcp://x"));
    }

    #[test]
    fn the_variable_of_a_key() {
        assert_eq!(
            variable_of("gateway.drain.timeout"),
            "CARILLON_GATEWAY__DRAIN__TIMEOUT"
        );
        assert_eq!(
            variable_of("telemetry.sample_ratio"),
            "CARILLON_TELEMETRY__SAMPLE_RATIO"
        );
    }
}

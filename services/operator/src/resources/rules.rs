//! Refusals that several kinds share. Each message says what would be right.

use kube::core::Rule;

/// One glob, as CEL's `matches` reads it: every `[` and `{` is closed.
const PATTERN: &str = r"'^([^\\[\\]{}\\\\]|\\\\.|\\[[^\\[\\]]+\\]|\\{[^{}\\[\\]]*\\})+$'";

/// A glob over room names, as [`carillon_model::policy::RoomPattern`] takes it.
pub(super) fn pattern(name: &str) -> Rule {
    Rule::new(format!("self.matches({PATTERN})")).message(&*pattern_message(name))
}

/// The same for each item of a list.
pub(super) fn patterns(name: &str) -> Rule {
    Rule::new(format!("self.all(pattern, pattern.matches({PATTERN}))")).message(&*pattern_message(name))
}

fn pattern_message(name: &str) -> String {
    format!(
        "{name} must be a glob over room names: `*` any text, `?` one character, `[a-z]`, `{{a,b}}`; close every [ and {{"
    )
}

/// A duration that both Kubernetes and the policy understand.
pub(super) fn duration(name: &str, least: &str, most: &str) -> Rule {
    Rule::new(format!(
        "self.matches('^([0-9]+(h|m|s|ms))+$') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
    ))
    .message(&*format!(
        "{name} must be a duration like 30s, 10m or 1h30m, from {least} to {most}"
    ))
}

/// So many in so long.
pub(super) fn rate(name: &str) -> Rule {
    Rule::new("self.matches('^[1-9][0-9]{0,8}/([1-9][0-9]{0,5})?(s|m|h)$')").message(&*format!(
        "{name} must be a count per time, like 200/s, 1000/m or 5000/10s"
    ))
}

/// A number of bytes.
pub(super) fn size(name: &str) -> Rule {
    Rule::new("self.matches('^[0-9]{1,12}(B|kB|KiB|MB|MiB|GB|GiB)?$')").message(&*format!(
        "{name} must be a size like 512KiB, 1MiB or a number of bytes"
    ))
}

/// Bounds that leave room between them.
pub(super) fn bounds() -> Rule {
    Rule::new("self.min <= self.max").message("min must not be above max: raise max or lower min")
}

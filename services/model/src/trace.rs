//! What can be known of a trace without knowing traces: whether it is recorded.

/// Bytes of a `traceparent` of version 00: version, trace, parent and flags, with three dashes.
const LENGTH: usize = 55;

/// Whether a W3C `traceparent` says that its trace is recorded (<https://www.w3.org/TR/trace-context/>). This is asked
/// for every message at every hop, so it only looks at the flags; who opens a span reads the rest, and one that is broken
/// starts a trace of its own.
pub fn is_sampled(traceparent: &str) -> bool {
    // The lowest bit of the last hexadecimal digit.
    match traceparent.as_bytes() {
        [version @ .., b'-', _, flag] if version.len() == LENGTH - 3 => {
            char::from(*flag).to_digit(16).is_some_and(|flag| flag & 1 == 1)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_sampled;

    #[test]
    fn the_lowest_bit_decides() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
        for (flags, sampled) in [
            ("01", true),
            ("00", false),
            ("03", true),
            ("02", false),
            ("ff", true),
        ] {
            assert_eq!(is_sampled(&format!("{parent}{flags}")), sampled, "{flags}");
        }
        for broken in ["", "-01", parent, "00-01", "é-01"] {
            assert!(!is_sampled(broken), "{broken}");
        }
    }
}

//! The scripts, each a file in `scripts/` behind the shared prelude.
//!
//! A script with `allow-oom` runs when Redis is full: what drains must never wait for memory. Only what brings
//! something new is refused then, whole, before it has written anything.

use std::sync::LazyLock;

/// A script as Redis gets it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    pub(super) hash: String,
    pub(super) writes: bool,
}

fn script(flags: &str, writes: bool, body: &str) -> Script {
    let shebang = if flags.is_empty() {
        "#!lua".to_owned()
    } else {
        format!("#!lua flags={flags}")
    };
    let text = format!("{shebang}\n{}\n{body}", include_str!("../../scripts/prelude.lua"));
    let hash = redis::Script::new(&text).get_hash().to_owned();
    Script { text, hash, writes }
}

macro_rules! scripts {
    ($($name:ident: $flags:literal, $writes:literal, $file:literal;)*) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| script($flags, $writes, include_str!(concat!("../../scripts/", $file))));
    )*};
}

scripts! {
    APPEND: "", true, "append.lua";
    // Repeating them does no harm, and what is lost of them is noticed: neither needs an answer that is certain.
    LINEAGE: "allow-oom", false, "lineage.lua";
    APPEND_GAPS: "allow-oom", false, "append_gaps.lua";
    READ_HEAD: "allow-oom", false, "read_head.lua";
    READ_BACKLOG: "allow-oom", false, "read_backlog.lua";
    RECORD: "allow-oom", true, "record.lua";
    TRIM: "allow-oom", true, "trim.lua";
    COUNT_TRY: "allow-oom", true, "count_try.lua";
    BURY_HEAD: "allow-oom", true, "bury_head.lua";
    BURY: "allow-oom", true, "bury.lua";
    DROP_LETTER: "allow-oom", true, "drop_letter.lua";
    ACQUIRE_PARTITION: "allow-oom", true, "acquire_partition.lua";
    ACQUIRE_LIST: "allow-oom", true, "acquire_list.lua";
    RENEW_LEASE: "allow-oom", true, "renew_lease.lua";
    RELEASE_LEASE: "allow-oom", true, "release_lease.lua";
    TAKE_LIST: "allow-oom", true, "take_list.lua";
    ADD_ROUTES: "allow-oom", true, "add_routes.lua";
    REMOVE_ROUTES: "allow-oom", true, "remove_routes.lua";
    READ_HISTORY: "allow-oom", false, "read_history.lua";
    STATE_PRESENCE: "allow-oom", true, "state_presence.lua";
    READ_PRESENCE: "allow-oom", false, "read_presence.lua";
    FORGET_PRESENCE: "allow-oom", true, "forget_presence.lua";
    APPEND_CHANNEL: "allow-oom", true, "append_channel.lua";
    TRIM_CHANNEL: "allow-oom", true, "trim_channel.lua";
}

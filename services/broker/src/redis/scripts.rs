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
    /// Whether a message is at stake: what it wrote has to be held by the replicas that are asked for.
    pub(super) durable: bool,
}

/// What a script does to the keys it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It changes nothing.
    Reads,
    /// It changes what is made anew after a failover: routes, leases, presence, the accounts of channels.
    Writes,
    /// It moves or removes a message.
    MovesMessages,
}

fn script(flags: &str, effect: Effect, body: &str) -> Script {
    let shebang = if flags.is_empty() {
        "#!lua".to_owned()
    } else {
        format!("#!lua flags={flags}")
    };
    let text = format!("{shebang}\n{}\n{body}", include_str!("../../scripts/prelude.lua"));
    let hash = redis::Script::new(&text).get_hash().to_owned();
    Script {
        text,
        hash,
        writes: effect != Effect::Reads,
        durable: effect == Effect::MovesMessages,
    }
}

macro_rules! scripts {
    ($($name:ident: $flags:literal, $effect:ident, $file:literal;)*) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| script($flags, Effect::$effect, include_str!(concat!("../../scripts/", $file))));
    )*};
}

scripts! {
    APPEND: "", MovesMessages, "append.lua";
    // Repeating them does no harm, and what is lost of them is noticed: neither needs an answer that is certain.
    LINEAGE: "allow-oom", Reads, "lineage.lua";
    APPEND_GAPS: "allow-oom", Reads, "append_gaps.lua";
    READ_HEAD: "no-writes", Reads, "read_head.lua";
    READ_BACKLOG: "no-writes", Reads, "read_backlog.lua";
    RECORD: "allow-oom", MovesMessages, "record.lua";
    TRIM: "allow-oom", MovesMessages, "trim.lua";
    UNPARK: "allow-oom", Writes, "unpark.lua";
    COUNT_TRY: "allow-oom", Writes, "count_try.lua";
    TAKE_BACK_TRY: "allow-oom", Writes, "take_back_try.lua";
    BURY_HEAD: "allow-oom", MovesMessages, "bury_head.lua";
    BURY: "allow-oom", MovesMessages, "bury.lua";
    DROP_LETTERS: "allow-oom", MovesMessages, "drop_letters.lua";
    CAP_LETTERS: "allow-oom", MovesMessages, "cap_letters.lua";
    ACQUIRE_PARTITION: "allow-oom", Writes, "acquire_partition.lua";
    ACQUIRE_LIST: "allow-oom", Writes, "acquire_list.lua";
    RENEW_LEASE: "allow-oom", Writes, "renew_lease.lua";
    RELEASE_LEASE: "allow-oom", Writes, "release_lease.lua";
    TAKE_LIST: "allow-oom", Writes, "take_list.lua";
    ADD_ROUTES: "allow-oom", Writes, "add_routes.lua";
    REMOVE_ROUTES: "allow-oom", Writes, "remove_routes.lua";
    READ_HISTORY: "no-writes", Reads, "read_history.lua";
    READ_NEWEST: "no-writes", Reads, "read_newest.lua";
    STATE_PRESENCE: "allow-oom", Writes, "state_presence.lua";
    READ_PRESENCE: "no-writes", Reads, "read_presence.lua";
    FORGET_PRESENCE: "allow-oom", Writes, "forget_presence.lua";
    // A channel that was lost is caught up from history. Where replicas are waited for, trimming waits for what the same
    // server was told before; a channel on another server, with no replica there, must not hold up the partition.
    APPEND_CHANNEL: "allow-oom", Writes, "append_channel.lua";
    TRIM_CHANNEL: "allow-oom", Writes, "trim_channel.lua";
}

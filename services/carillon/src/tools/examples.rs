//! The examples in the commands' help. Lines that begin with `$` are run, every one, by a test that starts what they talk
//! to; so an example that does not work can't stay.

macro_rules! examples {
    ($($name:ident: $($line:literal),+;)+) => {$(
        pub(crate) const $name: &str = concat!("Examples:" $(, "\n  ", $line)+);
    )+};
}

examples! {
    CARILLON:
        "# Everything in one process, on loopback, without Redis",
        "$ carillon dev",
        "# In another terminal: listen, and send",
        "$ carillon tail --rooms lobby",
        "$ carillon push --room lobby --event price '{\"eur\": 42}'";
    DEV:
        "$ carillon dev",
        "# With a policy of your own",
        "$ carillon dev --policy.file policy.yaml",
        "# Send something to the page at http://127.0.0.1:3000/",
        "$ carillon push --all --event 'chat message' hello";
    GATEWAY:
        "$ carillon gateway --redis.url redis://127.0.0.1:6379 --policy.file policy.yaml",
        "# Where does each setting come from?",
        "$ carillon gateway --print-settings";
    DISPATCHER:
        "$ carillon dispatcher --redis.url redis://127.0.0.1:6379";
    INGEST:
        "$ carillon ingest --redis.url redis://127.0.0.1:6379 --ingest.http.listen 127.0.0.1:8080";
    OPERATOR:
        "# In a pod it knows where it is; elsewhere KUBECONFIG says",
        "$ carillon operator --print-settings --operator.namespace carillon";
    OPERATOR_CRDS:
        "# carillon operator crds | kubectl apply --server-side -f -",
        "$ carillon operator crds > crds.yaml";
    PUSH:
        "# To a room, to a user, to everybody; JSON, or any text",
        "$ carillon push --room lobby --event price '{\"eur\": 42}'",
        "$ carillon push --user 42 --event greeting 'hello you'",
        "$ carillon push --all --event 'chat message' 'hello all'",
        "# A file, as one message; bytes are fine",
        "$ carillon push --room lobby --event avatar --file avatar.png",
        "# A message a line, ten a second; again with the same name, nothing is sent twice",
        "$ seq 20 | carillon push --room lobby --event tick --rate 10/s --idempotency-key ticks-1",
        "# With a producer's key, and the answers for a program",
        "$ CARILLON_CLIENT__KEY=secret carillon push --all --event news '\"hi\"' --output json";
    TAIL:
        "# Everything that comes to everybody, and two rooms",
        "$ carillon tail --rooms lobby,prices",
        "# The last ten messages of a room, then end after three",
        "$ carillon tail --rooms lobby --rewind 10 --count 3",
        "# For a program; the next run goes on where this one ended",
        "$ carillon tail --rooms lobby --output json --cursor-file cursors.json",
        "# As a user, from several gateways",
        "$ carillon tail --token \"$TOKEN\" --url http://127.0.0.1:3000,http://127.0.0.1:3000";
    DLQ_LIST:
        "$ carillon dlq list",
        "$ carillon dlq list --redis.url redis://127.0.0.1:6379 --output json";
    DLQ_REPLAY:
        "# All that can be read",
        "$ carillon dlq list | grep -v '(unreadable)' | cut -d ' ' -f 1 | xargs -rn1 carillon dlq replay";
    DLQ_DROP:
        "# The ones that can't be read",
        "$ carillon dlq list | grep '(unreadable)' | cut -d ' ' -f 1 | xargs -rn1 carillon dlq drop",
        "# All that nobody asked about for a month",
        "$ carillon dlq drop --older-than 30d",
        "# All that came from a program that pushed no text to a list",
        "$ carillon dlq drop --reason 'not UTF-8'";
    ROOMS:
        "# Which gateways hold the lobby?",
        "$ carillon rooms lobby",
        "# All rooms that are held, for a program",
        "$ carillon rooms --limit 1000 --output json --redis.url redis://127.0.0.1:6379";
    GATEWAYS:
        "$ carillon gateways",
        "$ carillon gateways --output json --redis.url redis://127.0.0.1:6379";
    CONFIG_CHECK:
        "$ carillon config check",
        "# What a service would start with, and the Redis it would start on",
        "$ carillon config check --connect --redis.url redis://127.0.0.1:6379 --policy.file policy.yaml";
    POLICY_CHECK:
        "$ carillon policy check policy.yaml";
    POLICY_EXPLAIN:
        "# May user 42 join the lobby? And somebody who did not log in?",
        "$ carillon policy explain lobby 42 --policy.file policy.yaml",
        "$ carillon policy explain lobby --policy.file policy.yaml --output json",
        "# By the policy that is in force where an operator wrote it",
        "$ carillon policy explain lobby 42 --redis.url redis://127.0.0.1:6379";
    COMPLETIONS:
        "# For this shell; put it into ~/.bashrc to keep it",
        "$ source <(carillon completions bash)",
        "$ carillon completions zsh > _carillon",
        "$ carillon completions fish > carillon.fish";
    MAN:
        "$ carillon man man1 && ls man1/carillon-push.1";
    SETTINGS:
        "$ carillon settings | grep redis.url";
    COMMANDS:
        "$ carillon commands | grep push";
}

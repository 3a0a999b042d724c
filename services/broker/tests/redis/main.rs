//! The broker on Redis passes the conformance suite: on a standalone server, behind Sentinel, by TLS as a user with the
//! documented rights, and on a Cluster of three. What only one of them has is tested apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![allow(clippy::disallowed_methods)] // real servers live in real time

mod expiries;
mod identities;
mod losses;
mod modes;
mod replicas;
mod round_trips;
mod secured;
mod server;
mod slots;
mod subject;

use carillon_broker::conformance;
use subject::Redis;

/// Hours can't be made to pass on a real server; that its keys expire at their time is looked at in [`expiries`].
const NEED_TIME: [&str; 5] = [
    "without_a_last_offset_prev_is_half_a_day_old_or_the_horizon",
    "a_last_offset_is_forgotten_after_a_day",
    "routes_expire_unless_they_are_asserted_again",
    "presence_expires_unless_it_is_stated_again",
    "the_head_of_a_queue_grows_older",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_server_passes_the_suite() {
    let report = conformance::run(&Redis::standalone(), &conformance::cases()).await;
    report.assert(131, &[&NEED_TIME[..], &["a_partition_moves_under_load"]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_behind_sentinel_passes_the_suite() {
    let report = conformance::run(&Redis::behind_sentinel(), &conformance::cases()).await;
    report.assert(131, &[&NEED_TIME[..], &["a_partition_moves_under_load"]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_passes_the_suite_by_tls() {
    let report = conformance::run(&Redis::secured(), &conformance::cases()).await;
    report.assert(131, &[&NEED_TIME[..], &["a_partition_moves_under_load"]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_passes_the_suite() {
    let report = conformance::run(&Redis::cluster(), &conformance::cases()).await;
    report.assert(132, &NEED_TIME);
}

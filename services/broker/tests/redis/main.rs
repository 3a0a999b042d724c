//! The broker on Redis passes the conformance suite: on a standalone server and on a Cluster of three.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod server;
mod subject;
mod topologies;

use carillon_broker::conformance;
use subject::Redis;

/// Cases that need what only one process' memory can do: hours that pass, and a server made to forget its last writes.
const SKIPPED_STANDALONE: &[&str] = &[];
const SKIPPED_CLUSTER: &[&str] = &[];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_server_passes_the_suite() {
    let report = conformance::run(&Redis::standalone(), &conformance::cases()).await;
    report.assert(106, SKIPPED_STANDALONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_passes_the_suite() {
    let report = conformance::run(&Redis::cluster(), &conformance::cases()).await;
    report.assert(107, SKIPPED_CLUSTER);
}

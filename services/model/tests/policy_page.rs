//! The page about the policy shows one; it must be right.

use carillon_model::policy::Policy;

#[test]
fn the_policy_in_the_page_is_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let policy = Policy::parse_yaml(example).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(policy.producers().len(), 1);
    assert_eq!(policy.lists().len(), 1);
    assert!(policy.gateways().rebalance.is_some() && policy.gateways().drain_rate.is_some());
}

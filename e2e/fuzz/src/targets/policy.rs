//! The policy, from a file or from the operator's snapshot: people write it, so it is long-winded about mistakes.

use carillon_model::{Room, policy::Policy};
use serde_json::Value;

/// A policy is the same however often and in whichever spelling it is read.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let policy = match Policy::parse_yaml(text) {
        Ok(policy) => policy,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for error in &errors.0 {
                assert!(!error.message.is_empty(), "{error:?}");
                assert!(!error.path.contains('\n'), "{error:?}");
            }
            assert!(!errors.to_string().is_empty());
            return;
        }
    };
    let again = Policy::parse_yaml(text).expect("once taken, taken again");
    assert_eq!(again.revision, policy.revision);
    if let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(text) {
        let pretty = serde_json::to_string_pretty(&value).expect("JSON");
        let pretty = Policy::parse_yaml(&pretty).expect("JSON is YAML, on one line or on many");
        // The revision is of the text; everything else is the same.
        let content = |policy: &Policy| format!("{policy:?}").replace(&*policy.revision, "");
        assert_eq!(
            content(&pretty),
            content(&policy),
            "another spelling is no other policy"
        );
    }
    for name in ["all", "lobby", "user:42", "session:x", "a/b", "é*?[{"] {
        let room = Room::new(name).expect("a room");
        let rule = policy.room(&room);
        if policy.rule_of(&room).is_some() {
            assert!(rule.pattern.matches(&room));
        }
    }
    for producer in policy.producers() {
        assert!(!producer.name.is_empty() && !producer.key_hashes.is_empty());
        for hash in &producer.key_hashes {
            let found = policy.producer_of_key(hash).expect("a key of a producer");
            assert!(found.key_hashes.contains(hash));
        }
    }
    assert!(
        policy
            .producer_of_key(&[0xa5; 32])
            .is_none_or(|producer| producer.key_hashes.contains(&[0xa5; 32]))
    );
    for list in policy.lists() {
        assert!(!list.list.is_empty());
        assert!(Room::new(list.room.as_str()).is_ok());
    }
}

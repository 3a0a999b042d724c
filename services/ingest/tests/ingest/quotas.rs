//! What a limited producer may send, and what it is told of it.

use crate::fixture::{Answer, Fixture, hashed};

const ONE: &str = r#"{"to":{"room":"lobby"},"event":"e","data":1}"#;
const KEY: [(&str, &str); 1] = [("authorization", "Bearer key")];

async fn limited(rate: &str) -> Fixture {
    let fixture = Fixture::start().await;
    let hash = hashed("key");
    fixture.set_policy(&format!(
        "producers: [{{name: desk, key_sha256: {hash}, rooms: [lobby], {rate}}}]"
    ));
    fixture
}

/// What is left, and in how many seconds all of it is back.
fn standing(answer: &Answer) -> (u64, u64) {
    let standing = answer
        .header("ratelimit")
        .strip_prefix("\"messages\";r=")
        .unwrap();
    let (left, back) = standing.split_once(";t=").unwrap();
    (left.parse().unwrap(), back.parse().unwrap())
}

fn batch(messages: usize) -> String {
    format!("[{}]", vec![ONE; messages].join(","))
}

#[tokio::test]
async fn every_answer_says_where_a_limited_producer_stands() {
    let fixture = limited("rate: 100/h").await;
    let answer = fixture.post_with(ONE, &KEY).await;
    answer.is_accepted();
    assert_eq!(answer.header("ratelimit-policy"), "\"messages\";q=100;w=3600");
    assert_eq!(standing(&answer), (99, 36));

    let answer = fixture.post_with(batch(9), &KEY).await;
    answer.is_accepted();
    assert_eq!(standing(&answer), (90, 360));

    // What was not sent is not counted, and told nevertheless.
    let answer = fixture.post_with("no JSON", &KEY).await;
    answer.is_problem(400, "malformed");
    assert_eq!(standing(&answer), (90, 360));
    let answer = fixture.post_with(batch(91), &KEY).await;
    answer.is_problem(429, "quota");
    assert_eq!(standing(&answer), (90, 360));
    // One message comes back in 36 s. Next to nothing of that has passed, and it is rounded up.
    assert_eq!(answer.header("retry-after"), "36");

    let stranger = fixture.post(ONE).await;
    stranger.is_problem(401, "unauthorized");
    assert_eq!(stranger.header("ratelimit"), "");
}

#[tokio::test]
async fn a_burst_is_the_largest_batch() {
    let fixture = limited("rate: 2/h, burst: 5").await;
    let answer = fixture.post_with(batch(6), &KEY).await;
    answer
        .is_problem(413, "too-large")
        .has("limit", "producers.burst")
        .has("allowed", 5)
        .says("it can't pass");
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(
        answer.header("ratelimit-policy"),
        "\"messages\";q=2;w=3600, \"burst\";q=5"
    );
    assert_eq!(standing(&answer), (5, 0));
    let answer = fixture.post_with(batch(5), &KEY).await;
    answer.is_accepted();
    assert_eq!(standing(&answer), (0, 9000));
    fixture
        .post_with(ONE, &KEY)
        .await
        .is_problem(429, "quota")
        .says("2 messages per hour, at most 5 at once")
        .has("retry_after", 1800);

    let small = limited("rate: 100/h, burst: 1").await;
    small.post_with(batch(2), &KEY).await.is_problem(413, "too-large");
    small.post_with(ONE, &KEY).await.is_accepted();
    small.post_with(ONE, &KEY).await.is_problem(429, "quota");
}

#[tokio::test]
async fn who_has_no_quota_is_told_of_none() {
    let fixture = limited("").await;
    let answer = fixture.post_with(batch(50), &KEY).await;
    answer.is_accepted();
    assert_eq!(
        (answer.header("ratelimit"), answer.header("ratelimit-policy")),
        ("", "")
    );
}

#[tokio::test]
async fn each_producer_has_its_own_quota_and_a_changed_rate_holds_at_once() {
    let fixture = Fixture::start().await;
    let say = |desk: &str| {
        let (key, other) = (hashed("key"), hashed("other"));
        fixture.set_policy(&format!(
            "producers: [{{name: desk, key_sha256: {key}, rooms: [lobby], rate: {desk}}}, \
             {{name: shop, key_sha256: {other}, rooms: [lobby], rate: 2/h}}]"
        ));
    };
    say("2/h");
    fixture.post_with(batch(2), &KEY).await.is_accepted();
    fixture.post_with(ONE, &KEY).await.is_problem(429, "quota");
    let shop = fixture.post_with(ONE, &[("authorization", "Bearer other")]).await;
    shop.is_accepted();
    assert_eq!(standing(&shop), (1, 1800));
    say("3/h");
    fixture.post_with(batch(3), &KEY).await.is_accepted();
    fixture.post_with(ONE, &KEY).await.is_problem(429, "quota");
}

//! Items that old producers push to plain lists are taken once, in order, whoever takes them.

use bytes::Bytes;
use carillon_model::Offset;

use crate::{
    FencingToken, Incarnation, LeaseName, ListItem, TakeOutcome,
    conformance::{
        Case,
        stage::{LONG, Stage, eventually, keyed, one, request},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(an_empty_list_brings_nothing),
    case!(items_come_in_order_and_stay_until_they_are_settled, PushList),
    case!(a_new_owner_first_finishes_what_is_pending, PushList),
    case!(an_old_owner_takes_nothing, PushList),
    case!(numbers_never_repeat, PushList),
    case!(a_key_that_is_no_list_is_named, PushList),
    case!(items_may_hold_any_bytes, PushList),
    case!(an_intake_that_dies_anywhere_loses_and_doubles_nothing, PushList),
];

async fn own(stage: &Stage, list: &str) -> FencingToken {
    let owner = Incarnation::new("owner", "1");
    eventually!("the list is free", {
        stage.broker.acquire_list(list, &owner, LONG).await.unwrap()
    })
    .token
}

async fn give_back(stage: &Stage, list: &str, token: FencingToken) {
    stage
        .broker
        .release_lease(&LeaseName::List(list.to_owned()), token)
        .await
        .unwrap();
}

async fn take(stage: &Stage, list: &str, token: FencingToken, limit: usize) -> Vec<ListItem> {
    match stage.broker.take(list, token, limit).await.unwrap() {
        TakeOutcome::Items(items) => items,
        other => panic!("no items: {other:?}"),
    }
}

async fn push(stage: &Stage, list: &str, texts: &[&str]) {
    for text in texts {
        stage
            .installation
            .push_list(list, Bytes::copy_from_slice(text.as_bytes()))
            .await;
    }
}

fn texts(items: &[ListItem]) -> Vec<&str> {
    items
        .iter()
        .map(|item| std::str::from_utf8(&item.item).unwrap())
        .collect()
}

fn numbers(items: &[ListItem]) -> Vec<u64> {
    items.iter().map(|item| item.number).collect()
}

async fn an_empty_list_brings_nothing(stage: Stage) {
    let list = stage.installation.list("empty");
    let token = own(&stage, &list).await;
    assert_eq!(take(&stage, &list, token, 10).await, []);
    stage.broker.settle(&list, &[1, 2, 3]).await.unwrap();
    stage.broker.settle(&list, &[]).await.unwrap();
}

async fn items_come_in_order_and_stay_until_they_are_settled(stage: Stage) {
    let list = stage.installation.list("message");
    push(&stage, &list, &["a", "b", "c", "d", "e"]).await;
    let token = own(&stage, &list).await;
    let first = take(&stage, &list, token, 2).await;
    assert_eq!(texts(&first), ["a", "b"]);
    assert!(numbers(&first).is_sorted_by(|a, b| a < b));
    // What is pending comes again, before what is new, and counts: it never grows above the limit.
    assert_eq!(take(&stage, &list, token, 2).await, first);
    assert_eq!(take(&stage, &list, token, 1).await, first);
    let both = take(&stage, &list, token, 4).await;
    assert_eq!(texts(&both), ["a", "b", "c", "d"]);
    assert_eq!(numbers(&both)[..2], numbers(&first));
    stage
        .broker
        .settle(&list, &[first[0].number, both[2].number])
        .await
        .unwrap();
    let rest = take(&stage, &list, token, 10).await;
    assert_eq!(texts(&rest), ["b", "d", "e"]);
    stage.broker.settle(&list, &numbers(&rest)).await.unwrap();
    assert_eq!(take(&stage, &list, token, 10).await, []);
    push(&stage, &list, &["f"]).await;
    assert_eq!(texts(&take(&stage, &list, token, 10).await), ["f"]);
}

async fn a_new_owner_first_finishes_what_is_pending(stage: Stage) {
    let list = stage.installation.list("message");
    push(&stage, &list, &["a", "b", "c"]).await;
    let old = own(&stage, &list).await;
    let taken = take(&stage, &list, old, 2).await;
    give_back(&stage, &list, old).await;
    let new = own(&stage, &list).await;
    assert_eq!(take(&stage, &list, new, 1).await, taken);
    let found = take(&stage, &list, new, 3).await;
    assert_eq!(texts(&found), ["a", "b", "c"]);
    assert_eq!(found[..2], taken);
    assert!(found[2].number > found[1].number);
}

async fn an_old_owner_takes_nothing(stage: Stage) {
    let list = stage.installation.list("message");
    push(&stage, &list, &["a"]).await;
    let old = own(&stage, &list).await;
    give_back(&stage, &list, old).await;
    assert_eq!(stage.broker.take(&list, old, 10).await, Ok(TakeOutcome::Lost));
    let new = own(&stage, &list).await;
    assert_eq!(stage.broker.take(&list, old, 10).await, Ok(TakeOutcome::Lost));
    assert_eq!(texts(&take(&stage, &list, new, 10).await), ["a"]);
    assert_eq!(stage.broker.take(&list, old, 10).await, Ok(TakeOutcome::Lost));
}

async fn numbers_never_repeat(stage: Stage) {
    let list = stage.installation.list("message");
    let mut seen = Vec::new();
    for round in 0..5 {
        push(&stage, &list, &["a", "b"]).await;
        let token = own(&stage, &list).await;
        let items = take(&stage, &list, token, 10).await;
        seen.extend(numbers(&items));
        stage.broker.settle(&list, &numbers(&items)).await.unwrap();
        assert_eq!(items.len(), 2, "round {round}");
        give_back(&stage, &list, token).await;
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

async fn a_key_that_is_no_list_is_named(stage: Stage) {
    let list = stage.installation.list("occupied");
    stage.installation.occupy_list(&list).await;
    let token = own(&stage, &list).await;
    assert_eq!(
        stage.broker.take(&list, token, 10).await,
        Ok(TakeOutcome::NotAList)
    );
}

async fn items_may_hold_any_bytes(stage: Stage) {
    let list = stage.installation.list("message");
    let bytes: Bytes = (0..=255).collect::<Vec<u8>>().into();
    stage.installation.push_list(&list, bytes.clone()).await;
    stage.installation.push_list(&list, Bytes::new()).await;
    let token = own(&stage, &list).await;
    let items = take(&stage, &list, token, 10).await;
    assert_eq!([&items[0].item, &items[1].item], [&bytes, &Bytes::new()]);
}

async fn an_intake_that_dies_anywhere_loses_and_doubles_nothing(stage: Stage) {
    let list = stage.installation.list("message");
    let room = [stage.room(0)];
    let mut pushed = Vec::new();
    for number in 0..30 {
        let text = format!("item {number}");
        push(&stage, &list, &[&text]).await;
        pushed.push(text);
    }
    // Every owner dies: after taking, after appending some of it, or after settling some of it.
    for round in 0.. {
        let token = own(&stage, &list).await;
        let items = take(&stage, &list, token, 4).await;
        if items.is_empty() {
            break;
        }
        assert!(round < 60, "it does not come to an end");
        let appended = if round % 3 == 0 { 0 } else { items.len().min(3) };
        for item in &items[..appended] {
            let text = String::from_utf8(item.item.to_vec()).unwrap();
            let message = keyed(&room, &text, "list", &item.number.to_string());
            one(stage
                .broker
                .append(request(stage.partition, vec![message]))
                .await
                .unwrap());
        }
        if round % 3 == 2 {
            stage
                .broker
                .settle(&list, &numbers(&items[..appended]))
                .await
                .unwrap();
        }
        give_back(&stage, &list, token).await;
    }
    let queue = stage.queue().await;
    let sent: Vec<String> = queue
        .iter()
        .map(|item| String::from_utf8(item.entry.to_vec()).unwrap())
        .map(|entry| entry.split_once('|').unwrap().1.to_owned())
        .collect();
    assert_eq!(sent, pushed);
    assert!(queue.iter().all(|item| item.offset > Offset::ZERO));
}

//! A producer may say the same thing twice.

use crate::{
    AppendOutcome,
    conformance::{
        Case,
        stage::{SHORT, Stage, eventually, keyed, message, one, placed, request},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_repeat_finds_the_first_try),
    case!(a_repeat_of_several_rooms_finds_all_its_offsets),
    case!(a_repeat_within_one_request_is_one_message),
    case!(a_key_with_another_content_is_refused_and_nothing_is_written),
    case!(keys_belong_to_their_producer),
    case!(keys_are_forgotten_after_their_time),
    case!(a_full_queue_still_answers_repeats),
    case!(a_repeat_is_found_after_it_was_handled),
];

async fn a_repeat_finds_the_first_try(stage: Stage) {
    let room = [stage.room(0)];
    let first = one(stage.append_all(vec![keyed(&room, "text", "p", "k")]).await);
    assert!(!first.repeated);
    let other = stage.another().await;
    let append = request(
        stage.partition,
        vec![
            message(&room, "new"),
            keyed(&room, "text", "p", "k"),
            keyed(&room, "text", "p", "k2"),
        ],
    );
    let again = placed(other.append(append).await.unwrap());
    assert!(again[1].repeated);
    assert_eq!(again[1].offsets, first.offsets);
    assert!(!again[0].repeated && !again[2].repeated);
    assert!(again[0].offsets[0] > first.offsets[0] && again[2].offsets[0] > again[0].offsets[0]);
    assert_eq!(stage.queue().await.len(), 3);
}

async fn a_repeat_of_several_rooms_finds_all_its_offsets(stage: Stage) {
    let rooms = [stage.room(0), stage.room(1), stage.room(2)];
    let first = one(stage.append_all(vec![keyed(&rooms, "text", "p", "k")]).await);
    assert_eq!(first.offsets.len(), 3);
    let again = one(stage.append_all(vec![keyed(&rooms, "text", "p", "k")]).await);
    assert!(again.repeated);
    assert_eq!(again.offsets, first.offsets);
    assert_eq!(stage.queue().await.len(), 3);
}

async fn a_repeat_within_one_request_is_one_message(stage: Stage) {
    let room = [stage.room(0)];
    let all = placed(
        stage
            .append_all(vec![
                keyed(&room, "text", "p", "k"),
                keyed(&room, "text", "p", "k"),
            ])
            .await,
    );
    assert_eq!((all[0].repeated, all[1].repeated), (false, true));
    assert_eq!(all[0].offsets, all[1].offsets);
    assert_eq!(stage.queue().await.len(), 1);
    let conflict = stage
        .append_all(vec![keyed(&room, "one", "p", "l"), keyed(&room, "two", "p", "l")])
        .await;
    assert_eq!(conflict, AppendOutcome::KeyReused { message: 1 });
    assert_eq!(stage.queue().await.len(), 1);
}

async fn a_key_with_another_content_is_refused_and_nothing_is_written(stage: Stage) {
    let room = [stage.room(0)];
    one(stage.append_all(vec![keyed(&room, "text", "p", "k")]).await);
    let refused = stage
        .append_all(vec![
            message(&room, "new"),
            keyed(&room, "fresh", "p", "fresh"),
            keyed(&room, "other", "p", "k"),
        ])
        .await;
    assert_eq!(refused, AppendOutcome::KeyReused { message: 2 });
    assert_eq!(stage.queue().await.len(), 1);
    // The key before the refused one was not used up.
    assert!(
        !one(stage
            .append_all(vec![keyed(&room, "fresh again", "p", "fresh")])
            .await)
        .repeated
    );
}

async fn keys_belong_to_their_producer(stage: Stage) {
    let room = [stage.room(0)];
    for (producer, key) in [
        ("p", "k"),
        ("q", "k"),
        ("p:k", "k"),
        ("p", "k:k"),
        ("", "p:k"),
        ("p", ""),
        ("{p}", "k"),
    ] {
        let placed = one(stage.append_all(vec![keyed(&room, "text", producer, key)]).await);
        assert!(!placed.repeated, "{producer:?} {key:?}");
    }
}

async fn keys_are_forgotten_after_their_time(stage: Stage) {
    let room = [stage.room(0)];
    let send = |text: &'static str| {
        let mut append = request(stage.partition, vec![keyed(&room, text, "p", "k")]);
        append.keep_keys = SHORT;
        stage.broker.append(append)
    };
    let first = one(send("one").await.unwrap());
    let second = eventually!("the key is forgotten", {
        match send("two").await.unwrap() {
            AppendOutcome::Appended(mut placed) => Some(placed.remove(0)),
            AppendOutcome::KeyReused { message: 0 } => None,
            refused => panic!("{refused:?}"),
        }
    });
    assert!(!second.repeated && second.offsets > first.offsets);
}

async fn a_full_queue_still_answers_repeats(stage: Stage) {
    let room = [stage.room(0)];
    let send = |key: &'static str, queue_limit: u64| {
        let mut append = request(stage.partition, vec![keyed(&room, "text", "p", key)]);
        append.queue_limit = queue_limit;
        stage.broker.append(append)
    };
    let first = one(send("k", 2).await.unwrap());
    one(send("l", 2).await.unwrap());
    // Full, and with a limit that was lowered meanwhile more than full.
    for queue_limit in [2, 1] {
        let refused = send("m", queue_limit).await;
        assert_eq!(refused, Ok(AppendOutcome::QueueFull { length: 2 }));
        let again = one(send("k", queue_limit).await.unwrap());
        assert!(again.repeated);
        assert_eq!(again.offsets, first.offsets);
    }
}

async fn a_repeat_is_found_after_it_was_handled(stage: Stage) {
    let room = [stage.room(0)];
    let first = one(stage.append_all(vec![keyed(&room, "text", "p", "k")]).await);
    stage.own("owner").await.drain().await;
    let again = one(stage.append_all(vec![keyed(&room, "text", "p", "k")]).await);
    assert!(again.repeated);
    assert_eq!(again.offsets, first.offsets);
    assert_eq!(stage.queue().await.len(), 0);
}

//! A gateway reads its channel in order, within a bound, and as long as it lives.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    ChannelAppend, ChannelItem, ChannelReader, Incarnation, ServiceKind,
    conformance::{
        Case,
        stage::{LONG, SHORT, Stage, eventually, member},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_channel_is_read_in_order_from_its_beginning),
    case!(channels_are_apart),
    case!(reading_on_frees_what_was_read),
    case!(a_channel_over_its_cap_is_emptied_and_says_so),
    case!(a_cap_of_zero_always_leaves_the_mark),
    case!(a_channel_nobody_registered_is_dead),
    case!(the_channel_of_a_gateway_that_left_is_dead_for_ever),
    case!(the_channel_of_a_gateway_that_fell_silent_is_dead_for_ever),
    case!(a_channel_read_waits_for_an_entry),
    case!(a_channel_read_that_waits_in_vain_ends),
    case!(writers_at_once_keep_their_order),
];

const CAP: u64 = 10_000;
const SOON: Duration = Duration::from_secs(10);

/// Reads until so many items came.
async fn read(reader: &mut Box<dyn ChannelReader>, count: usize) -> Vec<ChannelItem> {
    let mut items = Vec::new();
    while items.len() < count {
        let read = reader.read(100, SOON).await.unwrap();
        assert!(!read.lost);
        assert!(!read.items.is_empty(), "only {} of {count} came", items.len());
        items.extend(read.items);
    }
    items
}

fn item(text: impl Into<Bytes>) -> ChannelItem {
    ChannelItem::Entry(text.into())
}

async fn a_channel_is_read_in_order_from_its_beginning(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut expected = Vec::new();
    for number in 0..10 {
        let text = format!("entry {number}");
        expected.push(item(text.clone()));
        let kept = stage.broker.append_channel(&gateway, text.into(), CAP).await;
        assert_eq!(kept, Ok(ChannelAppend::Kept));
    }
    // Entries that came between registering and reading are there.
    let mut reader = stage.another().await.open_channel(&gateway).await.unwrap();
    let first = reader.read(4, SOON).await.unwrap();
    assert_eq!(first.items, expected[..4]);
    let life = stage.broker.lives(Some(&gateway)).await.unwrap().channel;
    assert_eq!(Some(first.life), life);
    assert_eq!(read(&mut reader, 6).await, expected[4..]);
    stage
        .broker
        .append_channel(&gateway, "more".into(), CAP)
        .await
        .unwrap();
    assert_eq!(read(&mut reader, 1).await, [item("more")]);
}

async fn channels_are_apart(stage: Stage) {
    let gateways = [stage.gateway("one").await, stage.gateway("two").await];
    for gateway in &gateways {
        let entry = Bytes::copy_from_slice(gateway.as_str().as_bytes());
        stage.broker.append_channel(gateway, entry, CAP).await.unwrap();
    }
    for gateway in &gateways {
        let mut reader = stage.broker.open_channel(gateway).await.unwrap();
        assert_eq!(read(&mut reader, 1).await, [item(gateway.as_str().to_owned())]);
    }
}

async fn reading_on_frees_what_was_read(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut reader = stage.broker.open_channel(&gateway).await.unwrap();
    for _ in 0..5 {
        for _ in 0..4 {
            let entry = Bytes::from(vec![7; 2000]);
            let kept = stage.broker.append_channel(&gateway, entry, CAP).await;
            assert_eq!(kept, Ok(ChannelAppend::Kept), "what was read still counts");
        }
        read(&mut reader, 4).await;
        // Whoever reads on has taken over what came before.
        assert_eq!(reader.read(10, Duration::from_millis(1)).await.unwrap().items, []);
    }
}

async fn a_channel_over_its_cap_is_emptied_and_says_so(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut reader = stage.broker.open_channel(&gateway).await.unwrap();
    let mut kept = 0;
    while stage
        .broker
        .append_channel(&gateway, vec![7; 1000].into(), CAP)
        .await
        .unwrap()
        == ChannelAppend::Kept
    {
        kept += 1;
        assert!(kept <= 10, "{kept} entries of 1000 bytes in a channel of {CAP}");
    }
    assert!(kept >= 5, "the cap is far below {CAP} bytes: {kept} entries");
    stage
        .broker
        .append_channel(&gateway, "after".into(), CAP)
        .await
        .unwrap();
    assert_eq!(read(&mut reader, 2).await, [ChannelItem::Overrun, item("after")]);
    // And it has its room again.
    stage
        .broker
        .append_channel(&gateway, vec![7; 1000].into(), CAP)
        .await
        .unwrap();
    assert_eq!(read(&mut reader, 1).await, [item(vec![7; 1000])]);
    // Entries that were delivered and not yet trimmed are emptied too, and not delivered again.
    while stage
        .broker
        .append_channel(&gateway, vec![8; 1000].into(), CAP)
        .await
        .unwrap()
        == ChannelAppend::Kept
    {}
    assert_eq!(read(&mut reader, 1).await, [ChannelItem::Overrun]);
}

async fn a_cap_of_zero_always_leaves_the_mark(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    stage
        .broker
        .append_channel(&gateway, "before".into(), CAP)
        .await
        .unwrap();
    let marked = stage.broker.append_channel(&gateway, Bytes::new(), 0).await;
    assert_eq!(marked, Ok(ChannelAppend::Overrun));
    let mut reader = stage.broker.open_channel(&gateway).await.unwrap();
    assert_eq!(read(&mut reader, 1).await, [ChannelItem::Overrun]);
    // In an empty channel too.
    let empty = stage.gateway("empty").await;
    let marked = stage.broker.append_channel(&empty, Bytes::new(), 0).await;
    assert_eq!(marked, Ok(ChannelAppend::Overrun));
}

async fn a_channel_nobody_registered_is_dead(stage: Stage) {
    let nobody = Incarnation::new("nobody", "1");
    assert_dead(&stage, &nobody).await;
}

async fn the_channel_of_a_gateway_that_left_is_dead_for_ever(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    stage
        .broker
        .append_channel(&gateway, "before".into(), CAP)
        .await
        .unwrap();
    stage.broker.deregister(&gateway).await.unwrap();
    assert_dead(&stage, &gateway).await;
    assert_eq!(stage.broker.renew(&gateway, LONG).await, Ok(false));
    assert_dead(&stage, &gateway).await;
}

async fn the_channel_of_a_gateway_that_fell_silent_is_dead_for_ever(stage: Stage) {
    let silent = member(ServiceKind::Gateway, "silent");
    stage.broker.register(&silent, SHORT).await.unwrap();
    let gateway = silent.incarnation.clone();
    eventually!("it is dead", {
        let appended = stage
            .broker
            .append_channel(&gateway, "entry".into(), CAP)
            .await
            .unwrap();
        (appended == ChannelAppend::Dead).then_some(())
    });
    assert_eq!(stage.broker.renew(&gateway, LONG).await, Ok(false));
    stage.broker.report(&silent).await.unwrap();
    assert_dead(&stage, &gateway).await;
}

/// Nothing can be written to it, and nothing comes out of it.
async fn assert_dead(stage: &Stage, gateway: &Incarnation) {
    for _ in 0..2 {
        let appended = stage.broker.append_channel(gateway, "entry".into(), CAP).await;
        assert_eq!(appended, Ok(ChannelAppend::Dead));
    }
    let marked = stage.broker.append_channel(gateway, Bytes::new(), 0).await;
    assert_eq!(marked, Ok(ChannelAppend::Dead));
    let mut reader = stage.broker.open_channel(gateway).await.unwrap();
    assert_eq!(
        reader.read(10, Duration::from_millis(20)).await.unwrap().items,
        []
    );
}

async fn a_channel_read_waits_for_an_entry(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut reader = stage.broker.open_channel(&gateway).await.unwrap();
    let reading = tokio::spawn(async move { reader.read(10, Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    stage
        .broker
        .append_channel(&gateway, "entry".into(), CAP)
        .await
        .unwrap();
    let read = tokio::time::timeout(Duration::from_secs(15), reading)
        .await
        .expect("the reader woke up")
        .unwrap()
        .unwrap();
    assert_eq!(read.items, [item("entry")]);
}

async fn a_channel_read_that_waits_in_vain_ends(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut reader = stage.broker.open_channel(&gateway).await.unwrap();
    let read = reader.read(10, Duration::from_millis(50)).await.unwrap();
    assert_eq!((read.items, read.lost), (Vec::new(), false));
    stage
        .broker
        .append_channel(&gateway, "entry".into(), CAP)
        .await
        .unwrap();
    let read = reader.read(10, SOON).await.unwrap();
    assert_eq!(
        read.items,
        [item("entry")],
        "a read that ended in vain took nothing"
    );
}

async fn writers_at_once_keep_their_order(stage: Stage) {
    let gateway = stage.gateway("gateway").await;
    let mut tasks = Vec::new();
    for writer in 0..4 {
        let (broker, gateway) = (stage.another().await, gateway.clone());
        tasks.push(tokio::spawn(async move {
            for number in 0..25 {
                let entry = format!("{writer} {number:02}").into();
                assert_eq!(
                    broker.append_channel(&gateway, entry, CAP).await,
                    Ok(ChannelAppend::Kept)
                );
            }
        }));
    }
    let mut reader = stage.another().await.open_channel(&gateway).await.unwrap();
    let items = read(&mut reader, 100).await;
    for task in tasks {
        task.await.unwrap();
    }
    for writer in 0..4 {
        let prefix = format!("{writer} ");
        let of_writer: Vec<ChannelItem> = items
            .iter()
            .filter(|item| matches!(item, ChannelItem::Entry(entry) if entry.starts_with(prefix.as_bytes())))
            .cloned()
            .collect();
        let expected: Vec<ChannelItem> = (0..25)
            .map(|number| item(format!("{prefix}{number:02}")))
            .collect();
        assert_eq!(of_writer, expected);
    }
}

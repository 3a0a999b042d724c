use std::collections::VecDeque;

use super::*;
use crate::losses::Raise;

const P: Partition = Partition(0);

fn life(name: &str) -> Life {
    Life(format!("run-{name}:{name}").into())
}

/// A queue that answers as it is told.
#[derive(Default)]
struct Told {
    lineages: Mutex<VecDeque<Result<Lineage>>>,
    outcomes: Mutex<VecDeque<Result<GapOutcome>>>,
    appended: Mutex<Vec<GapAppend>>,
}

#[async_trait]
impl GapQueue for Told {
    async fn lineage(&self, _: Partition, _: Offset) -> Result<Lineage> {
        self.lineages.lock().pop_front().unwrap()
    }

    async fn append_gaps(&self, append: GapAppend) -> Result<GapOutcome> {
        let count = append.rooms.len() as u64 + u64::from(append.partition_gap);
        self.appended.lock().push(append);
        let written = GapOutcome::Written {
            position: 7,
            offsets: (0..count).map(|number| Offset::new(20_000, number)).collect(),
        };
        self.outcomes.lock().pop_front().unwrap_or(Ok(written))
    }
}

fn lineage(server: &str, before: u64, raised: u64) -> Lineage {
    let raise = |name, before, raised| Raise {
        life: life(name),
        before: Offset::new(before, 0),
        raised: Offset::new(raised, 0),
    };
    Lineage {
        life: life(server),
        position: 5,
        raises: vec![raise("a", 0, 1), raise(server, before, raised)],
        whole: true,
    }
}

/// A message to a room, answered with this offset.
fn message(room: &str, offset: u64) -> ([NewMessage; 1], AppendOutcome) {
    let messages = [NewMessage {
        entries: vec![(Room::new(room).unwrap(), bytes::Bytes::new())],
        idempotency: None,
    }];
    let placed = crate::Appended {
        offsets: vec![Offset::new(offset, 0)],
        repeated: false,
    };
    (messages, AppendOutcome::Appended(vec![placed]))
}

/// Messages of so many rooms, confirmed by `a` at 100, 101, ….
async fn losses(rooms: u64) -> Losses {
    let losses = Losses::new(LogLimits::default(), LossMetrics::default());
    for number in 0..rooms {
        let (messages, outcome) = message(&format!("room-{number:04}"), 100 + number);
        losses
            .confirm(P, (&life("a"), number), &messages, &outcome, &Told::default())
            .await
            .unwrap();
    }
    losses
}

#[tokio::test]
async fn every_room_that_lost_gets_a_marker_in_bounded_calls() {
    let losses = losses(450).await;
    assert!(losses.observed(P, &life("b"), None));
    let queue = Told::default();
    queue.lineages.lock().push_back(Ok(lineage("b", 119, 10_000)));
    assert_eq!(losses.settle(P, &queue).await, Ok(Settled::Done));
    let appended = queue.appended.lock();
    let rooms: Vec<usize> = appended.iter().map(|append| append.rooms.len()).collect();
    assert_eq!(rooms, [200, 200, 30]);
    let (room, gap) = &appended[0].rooms[0];
    assert_eq!((room.as_str(), gap.lost_upto.milliseconds), ("room-0020", 120));
    assert!(appended.iter().all(|append| !append.partition_gap));
    assert_eq!(losses.metrics().lost(), 430);
    assert!(losses.unsettled().is_empty());
}

#[tokio::test]
async fn what_could_not_be_written_is_owed_until_it_is() {
    let losses = losses(1).await;
    assert!(losses.observed(P, &life("b"), None));
    let queue = Told::default();
    let away = || BrokerError::Unavailable("away".to_owned());
    queue.lineages.lock().extend([
        Err(away()),
        Ok(lineage("b", 5, 10_000)),
        Ok(lineage("b", 5, 10_000)),
    ]);
    queue.outcomes.lock().push_back(Err(away()));
    assert_eq!(losses.settle(P, &queue).await, Err(away()));
    assert_eq!(losses.settle(P, &queue).await, Err(away()));
    assert_eq!(losses.unsettled(), [P]);
    assert_eq!(losses.settle(P, &queue).await, Ok(Settled::Done));
    assert_eq!(queue.appended.lock().len(), 2);
    assert_eq!(losses.metrics().lost(), 1, "counted once");
}

#[tokio::test]
async fn a_marker_that_meets_another_identity_starts_over() {
    let losses = losses(1).await;
    losses.observed(P, &life("b"), None);
    let queue = Told::default();
    queue
        .lineages
        .lock()
        .extend([Ok(lineage("b", 5, 10_000)), Ok(lineage("c", 7, 20_000))]);
    queue.outcomes.lock().push_back(Ok(GapOutcome::LifeChanged));
    assert_eq!(losses.settle(P, &queue).await, Ok(Settled::Again));
    losses.observed(P, &life("c"), None);
    assert_eq!(losses.settle(P, &queue).await, Ok(Settled::Done));
    assert_eq!(queue.appended.lock()[1].life, life("c"));
}

/// A slot of a Cluster is moved away and back, and messages are accepted by the server that has it again.
#[tokio::test]
async fn a_server_that_has_a_slot_again_is_believed_at_once() {
    let losses = losses(1).await;
    losses.observed(P, &life("b"), None);
    let queue = Told::default();
    let went = lineage("b", 100, 10_000);
    let mut came_back = went.clone();
    came_back.raises.push(Raise {
        life: life("a"),
        before: Offset::new(10_005, 0),
        raised: Offset::new(20_000, 0),
    });
    came_back.life = life("a");
    let mut went_again = came_back.clone();
    went_again.raises.push(Raise {
        life: life("b"),
        before: Offset::new(20_005, 0),
        raised: Offset::new(30_000, 0),
    });
    went_again.life = life("b");
    let late = Lineage {
        raises: went.raises[..1].to_vec(),
        ..came_back.clone()
    };
    for (server, offset, answer, accepted, what) in [
        ("b", 10_001, Some(&went), true, "the successor"),
        (
            "a",
            101,
            Some(&late),
            false,
            "the old server, which is still there",
        ),
        ("a", 102, Some(&went), false, "the old server, which is gone"),
        (
            "a",
            20_001,
            Some(&came_back),
            true,
            "the old server, which has the slot again",
        ),
        (
            "b",
            10_002,
            Some(&came_back),
            false,
            "the successor, which has it no more",
        ),
        (
            "b",
            30_001,
            Some(&went_again),
            true,
            "the successor, which has it again",
        ),
        (
            "a",
            20_002,
            Some(&came_back),
            false,
            "the old server, from when it had it again",
        ),
        ("a", 20_003, None, false, "when nobody can be asked"),
    ] {
        let away = || BrokerError::Unavailable("away".to_owned());
        *queue.lineages.lock() = [answer.cloned().ok_or_else(away)].into();
        let (messages, outcome) = message("x", offset);
        let confirmed = losses
            .confirm(P, (&life(server), 1), &messages, &outcome, &queue)
            .await;
        assert_eq!(confirmed.is_ok(), accepted, "{what}");
        // What is to be judged is asked for by the one that settles.
        if confirmed == Ok(true) {
            assert_eq!(losses.settle(P, &queue).await, Ok(Settled::Done), "{what}");
        }
    }
    assert_eq!(losses.metrics().lost(), 0);
}

#[tokio::test]
async fn session_rooms_are_at_most_once_and_leave_no_gap() {
    let losses = Losses::new(LogLimits::default(), LossMetrics::default());
    let messages = [NewMessage {
        entries: vec![(Room::of_session("s").unwrap(), bytes::Bytes::new())],
        idempotency: None,
    }];
    let placed = crate::Appended {
        offsets: vec![Offset::new(1, 0)],
        repeated: false,
    };
    let outcome = AppendOutcome::Appended(vec![placed]);
    losses
        .confirm(P, (&life("a"), 1), &messages, &outcome, &Told::default())
        .await
        .unwrap();
    assert_eq!(losses.remembered(), 0);
}

use super::*;
use carillon_model::Room;

use crate::losses::{Placed, Raise, Replica};

const P: Partition = Partition(3);

fn life(name: &str) -> Life {
    Life(format!("run-{name}:{name}").into())
}

fn room(name: &str) -> Room {
    Room::new(name).unwrap()
}

fn at(milliseconds: u64) -> Offset {
    Offset::new(milliseconds, 0)
}

fn messages(server: &str, position: u64, places: &[(&str, u64)]) -> Confirmed {
    Confirmed {
        holder: Holder::Gave(life(server)),
        position,
        what: Placed::Messages(
            places
                .iter()
                .map(|(name, offset)| (room(name), at(*offset)))
                .collect(),
        ),
    }
}

/// What the server `b` says after it took over from `a` with everything up to this offset.
fn took_over(before: u64) -> Lineage {
    let raise = |name, before, raised| Raise {
        life: life(name),
        before: at(before),
        raised: at(raised),
    };
    Lineage {
        life: life("b"),
        position: 5000,
        raises: vec![raise("a", 0, 1), raise("b", before, 10_000)],
        whole: true,
    }
}

fn replicas(id: &str, acknowledged: &[u64]) -> ReplicationState {
    ReplicationState {
        replication_id: id.into(),
        replicas: (0..)
            .zip(acknowledged)
            .map(|(number, acknowledged)| Replica {
                address: format!("replica-{number}:6379").into(),
                acknowledged: *acknowledged,
            })
            .collect(),
    }
}

fn lost(log: &UnreplicatedLog) -> Vec<(String, u64)> {
    let owed = log.owed(P, usize::MAX);
    owed.rooms
        .iter()
        .map(|(room, lost)| (room.to_string(), lost.gap.lost_upto.milliseconds))
        .collect()
}

/// Three messages at 10, 20 and 30, written at replication offsets 100, 200 and 300.
fn log() -> UnreplicatedLog {
    let mut log = UnreplicatedLog::default();
    assert!(!log.observed(P, &life("a"), Instant::now()));
    for (offset, name) in [(10, "x"), (20, "y"), (30, "x")] {
        log.confirmed(P, messages("a", offset * 10, &[(name, offset)]), Instant::now())
            .unwrap();
    }
    log
}

#[test]
fn exactly_what_a_promotion_dropped_is_owed_a_marker() {
    // How far the replicas of the old primary were seen, what the new primary has, which rooms lost, whether that is all.
    for (acknowledged, before, rooms, unknown) in [
        (&[][..], 30, &[][..], false),
        (&[], 20, &[("x", 30)], false),
        (&[], 10, &[("x", 30), ("y", 20)], false),
        (&[], 5, &[("x", 30), ("y", 20)], false),
        // The shorter replica is promoted: the longer one's acknowledgements count for nothing.
        (&[150, 400], 10, &[("x", 30), ("y", 20)], false),
        // What every attached replica had was dropped from the log, and one that was not attached is promoted.
        (&[250], 20, &[("x", 30)], false),
        (&[250], 10, &[("x", 30)], true),
        (&[400], 30, &[], false),
        (&[400], 20, &[], true),
    ] {
        let mut log = log();
        log.replicated(P, &replicas("a", acknowledged), Instant::now());
        assert!(log.observed(P, &life("b"), Instant::now()));
        let found = log.judge(P, &took_over(before), Instant::now()).unwrap();
        let case = format!("{acknowledged:?}, {before}");
        let expected: Vec<_> = rooms.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        assert_eq!((lost(&log), found.unknown), (expected, unknown), "{case}");
        assert_eq!(log.owed(P, 1).unknown, unknown, "{case}");
        assert_eq!(log.unsettled().is_empty(), rooms.is_empty() && !unknown, "{case}");
    }
}

#[test]
fn a_replica_that_has_just_gone_still_counts() {
    let mut log = log();
    let now = Instant::now();
    log.replicated(P, &replicas("a", &[150, 150]), now);
    assert_eq!(log.len(), 2, "the first is on both");
    // The second replica is being promoted; the first one acknowledges on.
    log.replicated(P, &replicas("a", &[400]), now);
    assert_eq!(log.len(), 2);
    log.replicated(P, &replicas("b", &[400]), now);
    assert_eq!(log.len(), 2, "another replication ID says nothing of these");
    log.replicated(P, &replicas("a", &[400, 400]), now);
    assert!(log.is_empty());
}

#[test]
fn a_server_without_replicas_is_remembered_less_of() {
    let mut log = UnreplicatedLog::new(LogLimits {
        without_replicas: 1,
        ..LogLimits::default()
    });
    for offset in [10, 20, 30] {
        log.confirmed(P, messages("a", 1, &[("x", offset)]), Instant::now())
            .unwrap();
    }
    assert_eq!(log.len(), 3, "nobody has looked yet");
    log.replicated(P, &replicas("a", &[]), Instant::now());
    assert_eq!(log.len(), 1);
    assert!(!log.judge(P, &took_over(20), Instant::now()).unwrap().unknown);
    assert_eq!(lost(&log), [("x".to_owned(), 30)]);
}

#[test]
fn what_a_replaced_server_answers_is_not_confirmed() {
    let mut log = log();
    log.observed(P, &life("b"), Instant::now());
    assert_eq!(
        log.confirmed(P, messages("a", 400, &[("x", 40)]), Instant::now()),
        Err(Superseded)
    );
    assert_eq!(
        log.confirmed(P, messages("b", 10, &[("x", 10_001)]), Instant::now()),
        Ok(true)
    );
    // A late look at the old one changes nothing.
    log.observed(P, &life("a"), Instant::now());
    assert_eq!(
        log.confirmed(P, messages("a", 400, &[("x", 40)]), Instant::now()),
        Err(Superseded)
    );
    assert_eq!(
        log.judge(
            P,
            &Lineage {
                life: life("a"),
                ..took_over(10)
            },
            Instant::now(),
        ),
        None
    );
    // Unless it is still seen when nobody would any more: then it is the present one.
    let later = Instant::now() + FORMER_FOR;
    log.observed(P, &life("a"), later);
    assert!(log.confirmed(P, messages("a", 400, &[("x", 40)]), later).is_ok());
    assert_eq!(log.unsettled(), [P]);
}

/// A process that never saw the old primary as such, and whose append went there.
#[test]
fn what_a_server_wrote_that_was_never_seen_is_judged() {
    let mut log = UnreplicatedLog::default();
    log.observed(P, &life("b"), Instant::now());
    log.confirmed(P, messages("a", 100, &[("x", 20)]), Instant::now())
        .unwrap();
    assert_eq!(log.unsettled(), [P]);
    log.judge(P, &took_over(10), Instant::now()).unwrap();
    assert_eq!(lost(&log), [("x".to_owned(), 20)]);
}

#[test]
fn what_was_kept_can_be_lost_with_the_next_failover() {
    let mut log = log();
    log.judge(P, &took_over(20), Instant::now()).unwrap();
    assert_eq!(log.len(), 2);
    let mut next = took_over(10);
    next.life = life("c");
    next.raises.push(Raise {
        life: life("c"),
        before: at(10_005),
        raised: at(20_000),
    });
    next.raises[1].before = at(20);
    log.judge(P, &next, Instant::now()).unwrap();
    assert_eq!(log.len(), 2, "both are there");
    // The successor of a successor that lacks what the one between had.
    let mut other = took_over(10);
    other.life = life("d");
    other.raises[1] = Raise {
        life: life("d"),
        before: at(10),
        raised: at(30_000),
    };
    log.judge(P, &other, Instant::now()).unwrap();
    assert_eq!(lost(&log), [("x".to_owned(), 30), ("y".to_owned(), 20)]);
}

/// A client that the first successor moved on stands above what was lost before, and lacks it.
#[test]
fn nobody_counts_as_having_had_what_two_servers_lost() {
    let c = |before| Lineage {
        life: life("c"),
        position: 9000,
        raises: vec![
            Raise {
                life: life("a"),
                before: at(0),
                raised: at(1),
            },
            Raise {
                life: life("c"),
                before: at(before),
                raised: at(20_000),
            },
        ],
        whole: true,
    };
    let mut log = UnreplicatedLog::default();
    log.remember(P, messages("a", 100, &[("x", 10)]));
    log.remember(P, messages("b", 100, &[("x", 10_001)]));
    log.judge(P, &c(5), Instant::now()).unwrap();
    let gap = log.owed(P, 1).rooms.values().next().unwrap().gap;
    for position in [10, 10_001, 19_999] {
        assert!(!gap.was_seen_at(at(position)), "{position}");
    }
    // What the second kept is no loss of the first.
    let mut log = UnreplicatedLog::default();
    log.remember(P, messages("a", 100, &[("x", 10)]));
    log.judge(P, &took_over(20), Instant::now()).unwrap();
    log.remember(P, messages("b", 100, &[("x", 10_001)]));
    log.judge(P, &c(5), Instant::now()).unwrap();
    assert_eq!(lost(&log), [("x".to_owned(), 10_001)]);
}

/// Slots of a Cluster are moved to `b`, back to `a`, and to `b` again.
#[test]
fn nothing_is_lost_by_slots_that_come_back() {
    for without_replicas in [0, 1024] {
        let mut log = UnreplicatedLog::new(LogLimits {
            without_replicas,
            ..LogLimits::default()
        });
        let mut lineage = Lineage {
            life: life("a"),
            position: 1,
            raises: Vec::new(),
            whole: true,
        };
        let mut now = Instant::now();
        for (server, before, raised) in [("a", 0, 0), ("b", 50, 1000), ("a", 1050, 2000), ("b", 2050, 3000)] {
            now += FORMER_FOR;
            lineage.life = life(server);
            lineage.raises.push(Raise {
                life: life(server),
                before: at(before),
                raised: at(raised),
            });
            log.observed(P, &life(server), now);
            let found = log.judge(P, &lineage, now);
            assert!(
                found.is_none_or(|found| found == Judgement::default()),
                "{raised}"
            );
            for offset in [raised + 5, raised + 50] {
                let confirmed = log.confirmed(P, messages(server, 1, &[("x", offset)]), now);
                assert_eq!(confirmed, Ok(false), "{offset}");
            }
            log.replicated(P, &replicas(server, &[]), now);
        }
    }
}

#[test]
fn markers_can_be_lost_too() {
    let mut log = UnreplicatedLog::default();
    let entry = |what| Confirmed {
        holder: Holder::Gave(life("a")),
        position: 1,
        what,
    };
    log.remember(P, entry(Placed::Gaps([(room("x"), at(20))].into())));
    log.remember(P, entry(Placed::PartitionGap(at(21))));
    let found = log.judge(P, &took_over(10), Instant::now()).unwrap();
    assert_eq!(
        (found.messages, found.unknown),
        (0, true),
        "a marker is no message"
    );
    assert_eq!(lost(&log), [("x".to_owned(), 20)]);
    log.marked(P, &log.owed(P, 10));
    assert!(log.unsettled().is_empty());
}

#[test]
fn over_the_limit_the_oldest_go_and_their_loss_is_unknown() {
    let mut log = UnreplicatedLog::new(LogLimits {
        entries: 2,
        ..LogLimits::default()
    });
    for offset in [10, 20, 30] {
        log.confirmed(P, messages("a", 1, &[("x", offset)]), Instant::now())
            .unwrap();
    }
    assert_eq!(log.len(), 2);
    assert!(
        !log.judge(P, &took_over(10), Instant::now()).unwrap().unknown,
        "the one that went is there"
    );
    let mut log = UnreplicatedLog::new(LogLimits {
        bytes: 300,
        ..LogLimits::default()
    });
    for offset in [10, 20, 30] {
        log.confirmed(P, messages("a", 1, &[("x", offset)]), Instant::now())
            .unwrap();
    }
    assert_eq!(log.len(), 2);
    let found = log.judge(P, &took_over(9), Instant::now()).unwrap();
    assert_eq!((found.messages, found.unknown), (2, true));
    assert!(log.is_empty());
    assert_eq!(log.bytes, 0, "what was held is given back");
}

//! A producer's lines, as they come over NDJSON: cut anywhere, too long, and broken off.

use std::sync::LazyLock;

use bytes::Bytes;
use carillon_ingest::{
    IngestSettings,
    fuzzing::{Line, LineReader, Read, Sent, told},
};
use carillon_model::publish::{PublishErrorKind, PublishRequest};
use tokio::runtime::{Builder, Runtime};

use super::publish::{LIMITS, taken};

/// The longest line, small so that it is met.
const LONGEST: usize = 96;
const MEMORY: usize = 1 << 20;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let built = Builder::new_current_thread().enable_time().build();
    built.expect("a runtime")
});
static READER: LazyLock<LineReader> = LazyLock::new(|| {
    let settings = IngestSettings {
        body_bytes: LONGEST,
        limits: LIMITS,
        buffered_bytes: MEMORY,
        ..IngestSettings::default()
    };
    LineReader::new(settings).expect("a reader")
});

/// The first byte says how the rest comes, the second one where it is cut: however that is, the lines are the same, and
/// they are what each of them is alone.
pub fn target(bytes: &[u8]) {
    let Some((&[how, cut], body)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let read = |pieces: Vec<&[u8]>| {
        let largest = pieces.iter().map(|piece| piece.len()).max().unwrap_or_default();
        let window = usize::from(how >> 2) % 8;
        let sent = Sent {
            pieces: pieces.into_iter().map(Bytes::copy_from_slice).collect(),
            cut_off: how & 1 != 0,
            asks_first: how & 2 != 0,
            window,
            // Whoever hands over each line keeps no more than the beginning of one, and what came with its end.
            memory: if window == 0 { LONGEST + largest } else { MEMORY },
        };
        let mut read = RUNTIME.block_on(READER.read(sent));
        assert_eq!(read.unheld, 0, "what is kept is held");
        assert!(read.given_back, "what was held is given back");
        for line in &mut read.lines {
            // A line that is too long is answered before it is all there.
            line.bytes = line.bytes.min(LONGEST + 1);
        }
        read
    };
    let whole = read(vec![body]);
    judged(body, how & 1 != 0, &whole);
    let (before, after) = body.split_at(usize::from(cut).min(body.len()));
    assert_eq!(read(vec![before, after]), whole, "in two pieces");
    assert_eq!(
        read(body.chunks(usize::from(cut).max(1)).collect()),
        whole,
        "in pieces of {cut}"
    );
}

fn judged(body: &[u8], cut_off: bool, read: &Read) {
    let mut answered = read.lines.iter();
    let mut lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    let count = lines.len() as u64;
    if cut_off {
        // The beginning of a line is answered only if that alone is too long.
        let _ = lines.pop_if(|rest| rest.len() <= LONGEST);
    }
    for (number, line) in (1..).zip(lines) {
        if line.len() <= LONGEST && line.trim_ascii().is_empty() {
            continue;
        }
        let answer = answered
            .next()
            .unwrap_or_else(|| panic!("line {number} has no answer"));
        assert_eq!(answer.number, number);
        alone(&Bytes::copy_from_slice(line), answer);
    }
    assert_eq!(answered.next(), None, "there is no such line");
    match &read.ended {
        None => assert!(!cut_off),
        Some(problem) => {
            assert!(cut_off, "it was there to its end");
            assert_eq!(
                (&problem["status"], &problem["line"]),
                (&400.into(), &count.into())
            );
        }
    }
}

/// A line is what it is when nothing is before it and nothing behind.
fn alone(line: &Bytes, answer: &Line) {
    if line.len() > LONGEST {
        let problem = answer.publish.as_ref().expect_err("it is too long");
        assert_eq!(problem["status"], 413);
        assert_eq!(
            (&problem["limit"], &problem["allowed"]),
            (&"ingest.body".into(), &LONGEST.into())
        );
        assert_eq!(problem["line"], answer.number);
        assert_eq!(answer.bytes, LONGEST + 1);
        return;
    }
    assert_eq!(answer.bytes, line.len());
    match (PublishRequest::parse(line, &LIMITS), &answer.publish) {
        (Ok(PublishRequest::One(expected)), Ok(publish)) => {
            assert_eq!(*publish, expected);
            taken(expected);
        }
        (Ok(PublishRequest::Batch(_)), Err(problem)) => {
            assert_eq!(
                (&problem["status"], &problem["line"]),
                (&422.into(), &answer.number.into())
            );
        }
        (Err(errors), Err(problem)) => {
            let is_syntax = errors.errors[0].kind == PublishErrorKind::Syntax;
            assert_eq!(problem["status"] == 400, is_syntax);
            let number = usize::try_from(answer.number).expect("a short body");
            let mut expected = told(&errors.at_line(number)).problem;
            expected.insert("line".to_owned(), number.into());
            assert_eq!(*problem, expected);
        }
        (alone, among) => panic!("alone it is {alone:?}, among others {among:?}"),
    }
}

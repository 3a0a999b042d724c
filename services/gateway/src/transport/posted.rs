//! What a client posts while it polls, as Engine.IO reads it.
//!
//! Java's stock client breaks base64 into lines, as Android's encoder does by default, and Node's server reads that.
//! The library here refuses the request and ends the session, so the breaks are taken out before.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// What stands between the packets of one request.
const SEPARATOR: u8 = 0x1e;

/// A posted body, without line breaks in its base64.
#[derive(Debug)]
pub(super) struct Posted<B> {
    body: B,
    place: Place,
}

/// Where in the body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A packet begins with it.
    Start,
    /// In a packet of bytes.
    Base64,
    /// In a packet of text.
    Text,
    /// In a body of Engine.IO 3, which has other packets and stays as it is.
    Old,
}

impl<B> Posted<B> {
    /// Of a request whose Engine.IO has this number, as its query says.
    pub(super) fn new(body: B, engine: Option<&str>) -> Self {
        let place = if engine == Some("4") {
            Place::Start
        } else {
            Place::Old
        };
        Self { body, place }
    }

    pub(super) fn without_breaks(&mut self, bytes: Bytes) -> Bytes {
        if self.place == Place::Old {
            return bytes;
        }
        let mut kept = Vec::with_capacity(bytes.len());
        for &byte in &bytes {
            self.place = match (self.place, byte) {
                (_, SEPARATOR) => Place::Start,
                (Place::Start, b'b') => Place::Base64,
                (Place::Start, _) => Place::Text,
                (place, _) => place,
            };
            if self.place != Place::Base64 || !matches!(byte, b'\r' | b'\n') {
                kept.push(byte);
            }
        }
        kept.into()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Posted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map_ok(|frame| frame.map_data(|bytes| self.without_breaks(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        if let Some(upper) = self.body.size_hint().upper() {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a body that comes in parts of this many bytes.
    fn left(text: &str, engine: &str, part: usize) -> String {
        let mut posted = Posted::new((), Some(engine));
        let parts = text
            .as_bytes()
            .chunks(part)
            .map(|part| posted.without_breaks(Bytes::copy_from_slice(part)));
        String::from_utf8(parts.collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn base64_comes_without_line_breaks_however_it_is_cut() {
        let body = "42[\"b\",\n1]\u{1e}bAQID\n+vs=\r\n\u{1e}2\u{1e}b\nAA==\u{1e}4b\n";
        for part in 1..body.len() {
            assert_eq!(
                left(body, "4", part),
                "42[\"b\",\n1]\u{1e}bAQID+vs=\u{1e}2\u{1e}bAA==\u{1e}4b\n"
            );
            assert_eq!(left(body, "3", part), body);
        }
    }
}

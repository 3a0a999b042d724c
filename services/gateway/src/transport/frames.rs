//! Watches the frames of a WebSocket go by (RFC 6455, section 5.2).
//!
//! The library closes a connection whose message is over the limit but does not say why. So we look at the frames'
//! headers ourselves, and know the reason when the connection ends.

/// Follows frame headers through a stream of bytes, however it is cut.
#[derive(Debug, Default)]
pub(super) struct FrameWatch {
    limit: u64,
    header: [u8; 14],
    have: usize,
    /// Bytes of the present frame's payload still to come.
    payload: u64,
    /// Bytes of the present message so far.
    message: u64,
    exceeded: bool,
}

impl FrameWatch {
    /// Watches for messages of more than `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Looks at the next bytes; true once a frame or a message is too large.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.exceeded {
            if self.payload > 0 {
                let skip = usize::try_from(self.payload)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.payload -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_length() {
                self.frame();
            }
        }
        self.exceeded
    }

    fn extended(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_length(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.extended() + mask
    }

    fn frame(&mut self) {
        let length = match self.extended() {
            0 => u64::from(self.header[1] & 0x7f),
            count => self.header[2..2 + count]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let (last, operation) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
        self.have = 0;
        self.payload = length;
        // Control frames (8 and above) may come between the frames of a message.
        if operation < 8 {
            self.message = self.message.saturating_add(length);
            self.exceeded |= self.message > self.limit;
            if last {
                self.message = 0;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // lengths that were looked at
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=65535 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(std::iter::repeat_n(0xff, payload));
        bytes
    }

    fn exceeds(limit: u64, frames: &[Vec<u8>], cut: usize) -> bool {
        let mut watch = FrameWatch::new(limit);
        let bytes = frames.concat();
        bytes.chunks(cut).fold(false, |_, chunk| watch.look(chunk))
    }

    #[test]
    fn messages_are_measured_however_they_are_cut() {
        for cut in [1, 2, 3, 7, 1000, 1 << 20] {
            let fine = [
                frame(0x81, 5),
                frame(0x81, 300),
                frame(0x89, 100),
                frame(0x82, 300),
            ];
            assert!(!exceeds(300, &fine, cut), "{cut}");
            assert!(exceeds(299, &fine, cut), "{cut}");
            assert!(exceeds(70_000, &[frame(0x81, 70_001)], cut), "{cut}");
            // A message in three frames with a ping between them.
            let split = [
                frame(0x01, 100),
                frame(0x00, 100),
                frame(0x89, 99),
                frame(0x80, 100),
            ];
            assert!(!exceeds(300, &split, cut), "{cut}");
            assert!(exceeds(299, &split, cut), "{cut}");
        }
    }
}

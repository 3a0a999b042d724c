//! The frames of a WebSocket, watched as they go by.

use carillon_gateway::transport::fuzzing::too_large;

/// However the bytes are cut into pieces, the verdict is the same, and it is what the frames' headers say.
pub fn target(bytes: &[u8]) {
    let Some((&[limit, cut], stream)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let limit = u64::from(limit) * 8;
    let whole = too_large(limit, [stream]);
    assert_eq!(too_large(limit, stream.chunks(usize::from(cut).max(1))), whole);
    assert_eq!(too_large(limit, stream.chunks(1)), whole);
    assert_eq!(whole, oracle(limit, stream));
    assert!(
        !whole || too_large(limit / 2, [stream]),
        "what is too large is so for less"
    );
}

/// The same by looking at the whole.
fn oracle(limit: u64, mut stream: &[u8]) -> bool {
    let mut message: u128 = 0;
    loop {
        let [first, second, rest @ ..] = stream else {
            return false;
        };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if rest.len() < extended + mask {
            return false;
        }
        let length = match extended {
            0 => u128::from(second & 0x7f),
            _ => rest[..extended]
                .iter()
                .fold(0, |length, byte| length << 8 | u128::from(*byte)),
        };
        if first & 0x0f < 8 {
            message += length;
            if message > u128::from(limit) {
                return true;
            }
            if first & 0x80 != 0 {
                message = 0;
            }
        }
        let payload = &rest[extended + mask..];
        let Some(next) = usize::try_from(length)
            .ok()
            .and_then(|length| payload.get(length..))
        else {
            return false;
        };
        stream = next;
    }
}

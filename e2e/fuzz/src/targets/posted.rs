//! What a client posts while it polls, before Engine.IO reads it.

use carillon_gateway::transport::fuzzing::posted;

/// However the body is cut, line breaks go from its base64 and from nowhere else.
pub fn target(bytes: &[u8]) {
    let Some((&cut, body)) = bytes.split_first() else {
        return;
    };
    let read = posted([body]);
    assert_eq!(posted(body.chunks(usize::from(cut).max(1))), read);
    let packets = body.split(|byte| *byte == 0x1e).map(|packet| {
        let is_base64 = packet.first() == Some(&b'b');
        let kept = packet
            .iter()
            .filter(|byte| !(is_base64 && matches!(byte, b'\r' | b'\n')));
        kept.copied().collect::<Vec<u8>>()
    });
    assert_eq!(packets.collect::<Vec<_>>().join(&0x1e), read);
    assert_eq!(posted([&read[..]]), read, "there is nothing left to take out");
}

//! The targets, one file each.

pub mod calls;
pub mod client_events;
pub mod cloud_events;
pub mod cookies;
pub mod handshakes;
pub mod heads;
pub mod jwks;
pub mod jwt;
pub mod lines;
pub mod origins;
pub mod policy;
pub mod posted;
pub mod publish;
pub mod rooms;
pub mod websocket;
pub mod wire;

/// Whether a slice lies within another one: cut out, not copied.
fn lies_in(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// The levels of arrays and objects in a JSON text.
fn depth(json: &[u8]) -> usize {
    let (mut deepest, mut depth, mut text, mut escaped) = (0, 0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'[' | b'{' if !text => depth += 1,
            b']' | b'}' if !text => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

// What lies in Redis, written by hand.

/** A message in a queue as `services/model/proto/wire.proto` has it; all of it is ASCII. */
export function entry(room, text) {
  const field = (number, value) => String.fromCharCode(number * 8 + 2, value.length) + value;
  const message = field(1, '0123456789abcdef') + field(2, 'again') + field(3, JSON.stringify(text));
  return field(1, field(1, room) + field(2, message));
}

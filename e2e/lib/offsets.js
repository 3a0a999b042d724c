// Places in a room, in their order.

const parts = (offset) => offset.split('-').map(BigInt);

/** Below zero where `a` comes before `b`. */
export const compare = (a, b) => {
  const [am, as] = parts(a);
  const [bm, bs] = parts(b);
  return am === bm ? Number(as - bs) : Number(am - bm);
};

/** Above `from` and not above `to`. */
export const within = (offset, from, to) => compare(offset, from) > 0 && compare(offset, to) <= 0;

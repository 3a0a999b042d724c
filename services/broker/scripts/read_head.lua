-- Reads from the head of a queue for its owner, and which channels are parked.
-- KEYS: queue, run, lease, park   ARGV: token, limit
local where = stand(KEYS[1], KEYS[2])
local owned = redis.call('GET', KEYS[3]) == ARGV[1] and 1 or 0
local parked = redis.call('SMEMBERS', KEYS[4])
return { redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2]), where, owned, parked }

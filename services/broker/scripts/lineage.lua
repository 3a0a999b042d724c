-- Which ids a partition's server has: its life, its replication offset, the raises it remembers, whether older ones are
-- forgotten.
-- KEYS: queue, run   ARGV: known
local present, position = raise(KEYS[1], KEYS[2], ARGV[1])
local forgotten = redis.call('HGET', KEYS[2], 'raises_forgotten') and 1 or 0
return { present, position, redis.call('HGET', KEYS[2], 'raises') or '', forgotten }

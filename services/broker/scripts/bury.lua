-- Writes a dead letter that never was in a queue; the same source twice is one.
-- KEYS: letters, sources   ARGV: source, reason, entry
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
local id = redis.call('XADD', KEYS[1], '*', 'source', ARGV[1], 'reason', ARGV[2], 'entry', ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], id)
-- It is asked for again within minutes, or never.
redis.call('EXPIRE', KEYS[2], 86400)
return 1

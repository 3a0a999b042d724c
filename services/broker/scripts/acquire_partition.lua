-- Takes a partition nobody holds. Its token grows for ever.
-- KEYS: lease, queue, run   ARGV: owner, lasts (ms), known
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
raise(KEYS[2], KEYS[3], ARGV[3])
local token = next_token(KEYS[3])
redis.call('HSET', KEYS[3], 'owner', ARGV[1])
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return { token, stand(KEYS[2], KEYS[3]) }

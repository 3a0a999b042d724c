-- Takes a list nobody holds. Its token grows for ever: the clock is in it.
-- KEYS: lease, state   ARGV: owner, lasts (ms)
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local token = next_token(KEYS[2])
redis.call('HSET', KEYS[2], 'owner', ARGV[1])
redis.call('EXPIRE', KEYS[2], 2592000)
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token

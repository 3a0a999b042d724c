-- What a gateway has read is its own now.
-- KEYS: channel, account   ARGV: position
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local read = redis.call('HGET', KEYS[2], 'read')
if not read or tonumber(read) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[2], 'read', ARGV[1]) end
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1] .. '-1')

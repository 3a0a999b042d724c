-- Appends gap markers, if the server has the life it is meant for; the last may be the partition's.
-- KEYS: queue, run   ARGV: life, whether the last is the partition's, entry, entry…
local present, position = life()
if present ~= ARGV[1] or redis.call('HGET', KEYS[2], 'life') ~= present then return false end
local ids = {}
for i = 3, #ARGV do ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end
if ARGV[2] == '1' then redis.call('HSET', KEYS[2], 'doubt', ids[#ids]) end
return { position, ids }

-- Appends gap markers, if the server has the life it is meant for; the last may be the partition's. One of those is
-- enough since the offsets were raised: it covers everything before.
-- KEYS: queue, run   ARGV: life, whether the last is the partition's, entry, entry…
local present, position = life()
if present ~= ARGV[1] or redis.call('HGET', KEYS[2], 'life') ~= present then return false end
local ids, last, marked = {}, #ARGV, false
if ARGV[2] == '1' then
  local raised = string.match(redis.call('HGET', KEYS[2], 'raises') or '', '(%d+%-%d+)$')
  local doubt = redis.call('HGET', KEYS[2], 'doubt')
  marked = raised and doubt and below(raised, doubt) and doubt
end
if marked then last = last - 1 end
for i = 3, last do ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end
if marked then
  ids[#ids + 1] = marked
elseif ARGV[2] == '1' then
  redis.call('HSET', KEYS[2], 'doubt', ids[#ids])
end
return { position, ids }

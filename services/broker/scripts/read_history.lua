-- Reads a page of a room's history and where room and partition stand.
-- KEYS: queue, run, history, last offset   ARGV: after or '', entries, bytes
local where = stand(KEYS[1], KEYS[2])
local last = redis.call('GET', KEYS[4])
if ARGV[1] == '' then return { last, {}, 0, where } end
local limit, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local found = redis.call('XRANGE', KEYS[3], '(' .. ARGV[1], '+', 'COUNT', limit + 1)
local page, size, more = {}, 0, 0
for i, entry in ipairs(found) do
  size = size + #entry[2][2]
  if i > limit or (i > 1 and size > bytes) then
    more = 1
    break
  end
  page[i] = entry
end
return { last, page, more, where }

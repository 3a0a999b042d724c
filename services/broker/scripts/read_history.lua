-- Reads a page of a room's history and where room and partition stand.
-- KEYS: queue, run, history, last offset   ARGV: after or '', entries, bytes
local where = stand(KEYS[1], KEYS[2])
local last = redis.call('GET', KEYS[4])
-- Nothing is above the greatest id, and Redis refuses the range.
if ARGV[1] == '' or ARGV[1] == '18446744073709551615-18446744073709551615' then return { last, {}, 0, where } end
local limit, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local page, size, from = {}, 0, '(' .. ARGV[1]
while true do
  -- A few at a time: large entries beyond the page are not read.
  local count = math.min(limit + 1 - #page, 32)
  local found = redis.call('XRANGE', KEYS[3], from, '+', 'COUNT', count)
  for _, entry in ipairs(found) do
    size = size + #entry[2][2]
    if #page == limit or (#page > 0 and size > bytes) then return { last, page, 1, where } end
    page[#page + 1] = entry
  end
  if #found < count then return { last, page, 0, where } end
  from = '(' .. found[#found][1]
end

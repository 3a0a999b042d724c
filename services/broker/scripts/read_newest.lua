-- Reads the newest entries of a room's history below an id, newest first, and where its partition stands.
-- KEYS: queue, run, history   ARGV: below or '', entries, bytes
local where = stand(KEYS[1], KEYS[2])
-- Nothing is below the least id, and Redis refuses the range.
if ARGV[1] == '0-0' then return { {}, 0, where } end
local limit, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local page, size, from = {}, 0, '+'
if ARGV[1] ~= '' then from = '(' .. ARGV[1] end
while true do
  -- A few at a time: large entries beyond the page are not read.
  local count = math.min(limit + 1 - #page, 32)
  local found = redis.call('XREVRANGE', KEYS[3], from, '-', 'COUNT', count)
  for _, entry in ipairs(found) do
    -- A gap begins with its own field: it has no message.
    if string.byte(entry[2][2]) ~= 26 then
      size = size + #entry[2][2]
      if #page == limit or (#page > 0 and size > bytes) then return { page, 1, where } end
      page[#page + 1] = entry
    end
  end
  if #found < count then return { page, 0, where } end
  from = '(' .. found[#found][1]
end

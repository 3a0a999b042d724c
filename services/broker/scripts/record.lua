-- Takes a batch from the queue into the histories of its rooms: fence, histories, last offsets, then routes.
-- KEYS: lease, run, then per room: history, its bytes, last offset, routes
-- ARGV: token, life, horizon, rooms, entries, then per entry: room (from 0), offset, prev or '', encoded, size, age (ms), bytes, kind
local present = life()
if redis.call('GET', KEYS[1]) ~= ARGV[1] or present ~= ARGV[2] then return false end
local horizon, rooms, entries = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local birth = redis.call('HGET', KEYS[2], 'birth') or '0-0'
local doubt = redis.call('HGET', KEYS[2], 'doubt')
local recorded = {}
for i = 0, entries - 1 do
  local at = 6 + i * 8
  local first = 3 + tonumber(ARGV[at]) * 4
  local offset, prev, encoded = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local size, age, bytes, kind = tonumber(ARGV[at + 4]), ARGV[at + 5], tonumber(ARGV[at + 6]), ARGV[at + 7]
  if kind == 'session' then
    recorded[i + 1] = { '', 0 }
  else
    local history, weight, last = KEYS[first], KEYS[first + 1], KEYS[first + 2]
    local known = redis.call('GET', last)
    local repeated = known and not below(known, offset)
    local stored = false
    if prev == '' then
      if repeated then
        local entry = redis.call('XRANGE', history, offset, offset)
        -- prev stands behind the message: the last field of the entry.
        if entry[1] then stored = string.match(entry[1][2][2], '(%d+%-%d+)$') end
      end
      if stored then
        prev = stored
      elseif known and below(known, offset) then
        prev = known
      elseif not known then
        local floor = text(now() - 43200000) .. '-0'
        if below(floor, birth) then floor = birth end
        prev = below(floor, horizon) and floor or horizon
      else
        prev = horizon
      end
    end
    -- What was lost below this nobody knows: the chain of every room breaks here once.
    if doubt and below(prev, doubt) and below(doubt, offset) then prev = doubt end
    if not repeated then
      redis.call('SET', last, offset, 'EX', 86400)
      if size > 0 then
        local entry = encoded .. '\18' .. string.char(#prev) .. prev
        -- A history may be ahead of what is remembered of the room's last offset: it expires by itself.
        local added = redis.pcall('XADD', history, offset, 'e', entry)
        if not added.err then
          local held = redis.call('INCRBY', weight, #entry)
          local length = redis.call('XLEN', history)
          while length > 0 and (length > size or held > bytes) do
            local oldest = redis.call('XRANGE', history, '-', '+', 'COUNT', 1)[1]
            redis.call('XDEL', history, oldest[1])
            held = redis.call('DECRBY', weight, #oldest[2][2])
            length = length - 1
          end
          redis.call('PEXPIRE', history, age)
          redis.call('PEXPIRE', weight, age)
        end
      else
        redis.call('DEL', history, weight)
      end
    end
    recorded[i + 1] = { prev, repeated and 1 or 0 }
  end
end
local routes = {}
for i = 0, rooms - 1 do
  routes[i + 1] = redis.call('SMEMBERS', KEYS[3 + i * 4 + 3])
end
return { recorded, routes }

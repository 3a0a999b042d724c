-- Takes a batch from the queue into the histories of its rooms: fence, histories, last offsets, then routes.
-- KEYS: lease, run, then per room: history, its bytes, last offset, routes
-- ARGV: token, life, horizon, rooms, entries, then per entry: room (from 0), offset, prev or '', encoded, size, age (ms), bytes, kind
local present = life()
if redis.call('GET', KEYS[1]) ~= ARGV[1] or present ~= ARGV[2] then return false end
local horizon, rooms, entries = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local birth = redis.call('HGET', KEYS[2], 'birth') or '0-0'
local doubt = redis.call('HGET', KEYS[2], 'doubt')

-- An error is the message's own only if its room's keys hold something else, or it is too large; then it is told from
-- all others by its first word.
local function of_the_message(failed)
  local text = failed.err
  if string.find(text, 'WRONGTYPE', 1, true) or string.find(text, 'too large', 1, true) then
    return redis.error_reply('UNSTORABLE ' .. text)
  end
  return failed
end

local function failed(answer)
  return type(answer) == 'table' and answer.err
end

-- Removes the oldest entries of a history that is above its limits: as many as make room for what was added, or 64, so
-- that a history that its policy made shorter shrinks with its messages and none of them pays for all of it.
local function evict(history, length, size, held, bytes, added)
  local gone, freed, step = 0, 0, 1
  local function goes_on()
    return length > gone and (length - gone > size or held - freed > bytes) and (gone < 64 or freed < added)
  end
  while goes_on() do
    local before = gone
    for _, entry in ipairs(redis.call('XRANGE', history, '-', '+', 'COUNT', step)) do
      if not goes_on() then break end
      gone, freed = gone + 1, freed + #entry[2][2]
    end
    if gone == before then break end
    redis.call('XTRIM', history, 'MAXLEN', length - gone)
    step = math.min(step * 2, 16)
  end
  return gone, freed
end

-- What may be wrong with a room's keys is found before anything is written.
local routes, lengths = {}, {}
for i = 0, rooms - 1 do
  local history, weight, last, held = unpack(KEYS, 3 + i * 4, 6 + i * 4)
  local members, length = redis.pcall('SMEMBERS', held), redis.pcall('XLEN', history)
  for _, answer in ipairs({ members, length, redis.pcall('GET', last), redis.pcall('GET', weight) }) do
    if failed(answer) then return of_the_message(answer) end
  end
  routes[i + 1], lengths[history] = members, length
end

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
      if size > 0 then
        local entry = encoded .. '\18' .. string.char(#prev) .. prev
        local added = redis.pcall('XADD', history, offset, 'e', entry)
        if not failed(added) then
          local held = redis.call('INCRBY', weight, #entry)
          local length = lengths[history] + 1
          local gone, freed = evict(history, length, size, held, bytes, #entry)
          if freed > 0 then redis.call('DECRBY', weight, freed) end
          lengths[history] = length - gone
          redis.call('PEXPIRE', history, age)
          redis.call('PEXPIRE', weight, age)
        elseif not string.find(added.err, 'equal or smaller', 1, true) then
          return of_the_message(added)
        end
        -- Else the history is ahead of what is remembered of the room's last offset, which expires by itself.
      elseif failed(redis.pcall('UNLINK', history, weight)) then
        -- Rules that an administrator set for an older version may not allow it.
        redis.call('DEL', history, weight)
      end
      if size == 0 then lengths[history] = 0 end
      redis.call('SET', last, offset, 'EX', 86400)
    end
    recorded[i + 1] = { prev, repeated and 1 or 0 }
  end
end
return { recorded, routes }

-- A tag is invalidated. KEYS: its members, when it was last invalidated. ARGV[1]: this time.
-- Returns the number that goes for it: not below that of any member.
local seq = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[2]) or '0') + 1)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then seq = math.max(seq, tonumber(last[2]) + 1) end
local gone = string.format('%.0f', seq)
redis.call('SET', KEYS[2], gone, 'EX', 86400)
return gone

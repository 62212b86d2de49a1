-- Counts invalidations. KEYS[1]: the number of the last. ARGV[1]: the least that this one may have.
-- Returns it.
local time = redis.call('TIME')
-- Evicted, it does not begin anew.
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local seq = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2], tonumber(ARGV[1])))
redis.call('SET', KEYS[1], seq)
return seq

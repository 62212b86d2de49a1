-- TAG.INVALIDATE, some keys at a time. ARGV: how many keys at most, or nothing for all; what was
-- returned of the time when this began, or nothing if it begins; the tags.
-- Returns how many keys were removed, with a limit: when this began and whether there are more.
local limit, began = tonumber(ARGV[1]), ARGV[2]
if began == '' then
    local time = redis.call('TIME')
    -- Evicted, it does not begin anew.
    local seq = math.max(tonumber(now()) + 1, time[1] * 1000000 + time[2])
    for at = 3, #ARGV do
        local last = redis.call('ZREVRANGE', members(ARGV[at]), 0, 0, 'WITHSCORES')
        if last[2] then seq = math.max(seq, tonumber(last[2]) + 1) end
    end
    began = string.format('%.0f', seq)
    redis.call('SET', 'corral:seq', began)
    for at = 3, #ARGV do
        redis.call('SET', 'corral:gone:' .. ARGV[at], began, 'EX', 86400)
    end
end
local asked = {}
for at = 3, #ARGV do asked[ARGV[at]] = true end
local removed, looked = 0, 0
for at = 3, #ARGV do
    local most = limit and limit - looked or -1
    local keys = redis.call('ZRANGEBYSCORE', members(ARGV[at]), '-inf', '(' .. began,
        'LIMIT', 0, most)
    for _, key in ipairs(keys) do
        -- One that carries several of the tags counts for each.
        local carried = 0
        for _, tag in ipairs(redis.call('HKEYS', record(key))) do
            if asked[tag] then carried = carried + 1 end
        end
        untag(key)
        leave(ARGV[at], key)
        removed = removed + redis.call('UNLINK', key) * math.max(carried, 1)
    end
    looked = looked + #keys
    if limit and looked >= limit then return {removed, began, 1} end
end
if limit then return {removed, began, 0} end
return removed

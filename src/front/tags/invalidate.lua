-- TAG.INVALIDATE, some keys at a time. ARGV: how many keys at most, or nothing for all; what was
-- returned of the time when this began, or nothing if it begins; the tags.
-- Returns how many keys were removed; with a limit, also when this began, whether there are more, and
-- how many of the tags need not be named again.
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

-- Removes some keys of a tag. Returns how many there were, those that had expired included, and how
-- many were removed: one that carries several of the tags counts for each.
local function remove(tag, most)
    local keys = redis.call('ZRANGEBYSCORE', members(tag), '-inf', '(' .. began, 'LIMIT', 0, most)
    if #keys == 0 then return 0, 0 end
    local records, removed = {}, 0
    for at, key in ipairs(keys) do
        records[at] = record(key)
        local carried = 0
        for _, other in ipairs(redis.call('HKEYS', records[at])) do
            if asked[other] then carried = carried + 1 end
            if other ~= tag then leave(other, key) end
        end
        if carried > 1 then removed = removed + redis.call('EXISTS', key) * (carried - 1) end
    end
    redis.call('ZREM', members(tag), unpack(keys))
    if redis.call('EXISTS', members(tag)) == 0 then redis.call('SREM', 'corral:tags', tag) end
    redis.call('UNLINK', unpack(records))
    return #keys, removed + redis.call('UNLINK', unpack(keys))
end

local total, left = 0, limit
for at = 3, #ARGV do
    repeat
        -- As many as a call may have arguments.
        local most = math.min(left or 1000, 1000)
        local looked, removed = remove(ARGV[at], most)
        total = total + removed
        if left then
            left = left - looked
            if left <= 0 then return {total, began, 1, at - 3} end
        end
    until looked < most
end
if limit then return {total, began, 0, #ARGV - 2} end
return total

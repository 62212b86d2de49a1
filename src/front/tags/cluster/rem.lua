-- TAG.REM. KEYS: the key, what is kept of its tags. ARGV: the tags.
-- Returns how many the key had, and for each of them its name and its number.
local removed = {0}
for _, tag in ipairs(ARGV) do
    local number = redis.call('HGET', KEYS[2], tag)
    if number then
        redis.call('HDEL', KEYS[2], tag)
        removed[1] = removed[1] + 1
        removed[#removed + 1] = tag
        removed[#removed + 1] = number
    end
end
-- What a key had that has expired is not told.
removed[1] = removed[1] * redis.call('EXISTS', KEYS[1])
return removed

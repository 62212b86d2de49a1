-- TAG.OF. KEYS: the key, what is kept of its tags.
local tags = {}
if redis.call('EXISTS', KEYS[1]) == 1 then
    for _, tag in ipairs(redis.call('HKEYS', KEYS[2])) do tags[tag] = true end
end
return {set = tags}

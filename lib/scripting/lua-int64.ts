/**
 * Exact signed 64-bit integers for scripts, pasted into their text. Lua's own numbers are doubles
 * (5.1), or doubles and wrapping integers (5.4). Neither holds the whole range and the sums that
 * leave it.
 *
 * An integer is a table of two limbs, `{hi, lo}`, worth `hi * 10^10 + lo` with `0 <= lo < 10^10`.
 * No limb, nor any sum of two, comes near 2^53, so both Lua versions compute alike, and an overflow
 * shows in the range of a limb.
 */
export const luaInt64 = `
local INT64_BASE = 10000000000
local INT64_ZERO = {0, 0}
local INT64_MIN = {-922337204, 3145224192}
local INT64_MAX = {922337203, 6854775807}

local function int64_compare(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] and -1 or 1 end
  if a[2] ~= b[2] then return a[2] < b[2] and -1 or 1 end
  return 0
end

local function int64_negate(a)
  -- 0 - x, not -x: the latter makes a negative zero, which prints as "-0".
  if a[2] == 0 then return {0 - a[1], 0} end
  return {-1 - a[1], INT64_BASE - a[2]}
end

local function int64_add(a, b)
  local hi, lo = a[1] + b[1], a[2] + b[2]
  if lo >= INT64_BASE then return {hi + 1, lo - INT64_BASE} end
  return {hi, lo}
end

local function int64_subtract(a, b)
  local hi, lo = a[1] - b[1], a[2] - b[2]
  if lo < 0 then return {hi - 1, lo + INT64_BASE} end
  return {hi, lo}
end

-- Whether it is within 64 bits. Mostly the high limb alone tells.
local function int64_fits(a)
  if a[1] > -922337204 and a[1] < 922337203 then return true end
  return int64_compare(a, INT64_MIN) >= 0 and int64_compare(a, INT64_MAX) <= 0
end

-- Whether a double, such as a JavaScript number, holds it and its neighbours exactly.
local function int64_is_safe(a)
  if a[1] > -900720 and a[1] < 900719 then return true end
  return int64_compare(a, {-900720, 745259009}) >= 0 and int64_compare(a, {900719, 9254740991}) <= 0
end

-- From the one decimal spelling that Redis gives an integer; nil for any other text.
local function int64_parse(text)
  -- Mostly it is small, and spelled as it would be formatted; so would be negative zero.
  local small = tonumber(text)
  if small and small > -INT64_BASE and small < INT64_BASE and text ~= '-0' and string.format('%.0f', small) == text then
    if small >= 0 then return {0, small} end
    return {-1, INT64_BASE + small}
  end
  local sign, digits = string.match(text, '^(%-?)(%d+)$')
  if not digits or #digits > 19 then return nil end
  if string.sub(digits, 1, 1) == '0' and (sign == '-' or #digits > 1) then return nil end
  local hi = 0
  if #digits > 10 then hi = tonumber(string.sub(digits, 1, -11)) end
  local parsed = {hi, tonumber(string.sub(digits, -10))}
  if sign == '-' then parsed = int64_negate(parsed) end
  if not int64_fits(parsed) then return nil end
  return parsed
end

local function int64_format(a)
  if a[1] == 0 then return string.format('%.0f', a[2]) end
  local sign = ''
  if a[1] < 0 then
    sign = '-'
    a = int64_negate(a)
  end
  if a[1] == 0 then return sign .. string.format('%.0f', a[2]) end
  return sign .. string.format('%.0f', a[1]) .. string.format('%010.0f', a[2])
end
`;

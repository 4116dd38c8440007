--[[ Loops that are traced and compiled, with side traces, and calls of C functions out of compiled code.
#@ run: luajit $SRC
#@ modes: plain summary exhaustive
]]
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local counts = {}
for i = 1, 3000000 do
    local k = i % 97
    counts[k] = (counts[k] or 0) + (k < 50 and i * 3 % 7 or -(i % 5))
end
local sum = 0
for k = 0, 96 do sum = sum + k * counts[k] end
print(fib(27), sum)

local ffi = require("ffi")
ffi.cdef("int getppid(void); long syscall(long, ...); int abs(int);")
local parent, same, positive = ffi.C.getppid(), 0, 0
for i = 1, 20000 do
    if ffi.C.getppid() == parent then same = same + 1 end
    if ffi.C.abs(-i) == i then positive = positive + 1 end
end
print(same, positive, #("a"):rep(1000):gsub("a", "bc"))
print("ok")

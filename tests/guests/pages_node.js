// Node's text holds tables that look like system calls: after use its code is the file's, byte by byte.
//@ run: node $SRC
//@ seconds: 120
"use strict";
const assert = require("assert");
const crypto = require("crypto");
const fs = require("fs");

const PAGE = 4096;
crypto.createHash("sha512").update("abc").digest("hex");
crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
let sum = 0;
for (let at = 0; at < 3e6; at++) sum = (sum + at * at) % 1000003;
/(\w+)\s\1/.test("again again");

const program = fs.readlinkSync("/proc/self/exe");
const file = fs.openSync(program, "r");
const memory = fs.openSync("/proc/self/mem", "r");
let pages = 0;
let differing = 0;
for (const line of fs.readFileSync("/proc/self/maps", "latin1").split("\n")) {
    const fields = line.split(/\s+/);
    if (fields[5] !== program || !fields[1].includes("x")) continue;
    const [start, end] = fields[0].split("-").map((word) => parseInt(word, 16));
    const loaded = Buffer.alloc(end - start);
    const stored = Buffer.alloc(end - start);
    assert.strictEqual(fs.readSync(memory, loaded, 0, end - start, start), end - start);
    fs.readSync(file, stored, 0, end - start, parseInt(fields[2], 16));
    for (let at = 0; at < end - start; at += PAGE) {
        pages++;
        if (loaded.compare(stored, at, at + PAGE, at, at + PAGE) !== 0) {
            differing++;
            console.log(`page ${(start + at).toString(16)} differs`);
        }
    }
}
assert(pages > 100);
// How many pages V8 maps a second time varies from run to run.
assert.strictEqual(differing, 0);
console.log("ok");

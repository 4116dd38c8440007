// Functions made from text until they are compiled, some of them several times; WebAssembly; regular expressions; a worker
// that does the same at the same time.
//@ run: node $SRC
//@ modes: plain summary exhaustive
//@ seconds: 120
"use strict";
const { Worker, isMainThread, parentPort } = require("worker_threads");

let seed = 7;
const next = () => (seed = (seed * 1103515245 + 12345) % 2147483648);
const make = (n) => new Function("x", `let s = 0; for (let i = 0; i < 2000; i++) s += (x ^ i) % ${n}; return s;`);
let sum = 0;
for (let n = 2; n < 120; n++) {
    const made = make(n);
    for (let i = 0; i < 60; i++) sum += made(next() % 1000);
    sum += made(0.5); // no integer: what was compiled for those is thrown away
}

const sieve = (n) => {
    const composite = new Uint8Array(n);
    let primes = 0;
    for (let i = 2; i < n; i++) {
        if (composite[i]) continue;
        primes++;
        for (let j = i * 2; j < n; j += i) composite[j] = 1;
    }
    return primes;
};
const matches = new Array(2000).fill("x abc-123 y").filter((text) => /(\w+)-(\d+)/.exec(text)[2] === "123").length;

// (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0]
    .concat([10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
const add = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports.add;
let total = 0;
for (let i = 0; i < 200000; i++) total = add(total, i);

const line = `${sum} ${sieve(2000000)} ${matches} ${total}`;
if (!isMainThread) {
    parentPort.postMessage(line);
} else {
    new Worker(__filename).on("message", (other) => console.log(`${line}\n${other}\nok`));
}

// Node's event loop, its thread pool, its compiler and a worker: files, timers, a server, a child process.
//@ run: node $SRC $DIR
//@ seconds: 120
"use strict";
const assert = require("assert");
const { execFile } = require("child_process");
const crypto = require("crypto");
const fs = require("fs");
const net = require("net");
const path = require("path");
const { promisify } = require("util");
const { Worker } = require("worker_threads");

function hot(count) {
    let sum = 0;
    for (let at = 0; at < count; at++) sum = (sum * 31 + at) % 1000003;
    return sum;
}

function echoOnce(text) {
    return new Promise((resolve, reject) => {
        const server = net.createServer((end) => end.pipe(end));
        server.listen(0, "127.0.0.1", () => {
            const client = net.connect(server.address().port, "127.0.0.1", () => client.end(text));
            let got = "";
            client.on("data", (data) => (got += data));
            client.on("error", reject);
            client.on("close", () => server.close(() => resolve(got)));
        });
    });
}

async function main() {
    const file = path.join(process.argv[2], "file");
    await Promise.all([...Array(20).keys()].map((at) => fs.promises.writeFile(file + at, "x".repeat(at * 1000))));
    const sizes = await Promise.all([...Array(20).keys()].map((at) => fs.promises.stat(file + at)));
    console.log(sizes.map((stat) => stat.size).join(" "));
    console.log(hot(5000000));
    console.log(crypto.createHash("sha256").update("abc").digest("hex"));
    console.log((await promisify(crypto.pbkdf2)("p", "s", 1000, 16, "sha512")).toString("hex"));
    console.log(await echoOnce("over tcp"));
    console.log((await promisify(execFile)("/bin/echo", ["child"])).stdout.trim());
    const worker = new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true });
    console.log(await new Promise((resolve) => worker.once("message", resolve)));
    await new Promise((resolve) => setTimeout(resolve, 10));
    assert.strictEqual(fs.readlinkSync("/proc/self/exe"), fs.realpathSync(process.execPath));
    console.log("ok");
}

main();

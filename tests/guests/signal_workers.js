// Node with workers, a profiler that interrupts them by a signal thousands of times a second, and signals of its own.
//@ run: node --cpu-prof --cpu-prof-interval 200 --cpu-prof-dir $DIR $SRC
//@ modes: plain summary trace
//@ seconds: 120
const { Worker, isMainThread, parentPort } = require('worker_threads');
const fs = require('fs');

function work(rounds) {
  let sum = 0;
  for (let round = 0; round < rounds; round++) {
    sum = (sum * 31 + JSON.stringify({ round, list: [round, round + 1] }).length) % 1000003;
    if (round % 100 === 0) sum += fs.readFileSync('/proc/self/comm').length;
  }
  return sum;
}

if (!isMainThread) {
  parentPort.postMessage(work(30000));
} else {
  let signals = 0, done = 0;
  const results = [];
  const alive = setInterval(() => {}, 1000); // a listener for signals alone does not keep the program going
  process.on('SIGUSR2', () => {
    signals++;
    if (done < 3 || signals < 50) setImmediate(() => process.kill(process.pid, 'SIGUSR2'));
    else finish();
  });
  for (let number = 0; number < 3; number++) {
    const worker = new Worker(__filename);
    worker.on('message', (sum) => results.push(sum));
    worker.on('exit', () => done++);
  }
  process.kill(process.pid, 'SIGUSR2');
  const finish = () => {
    process.removeAllListeners('SIGUSR2');
    clearInterval(alive);
    console.log(results, work(1000));
    console.log('ok');
  };
}

// The official clients' schedule in Node, with its built-in fetch: a look every 2 s for the first 15 s of a task,
// every 5 s until 60 s, then every 10 s.

import { createHmac } from "node:crypto";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";

const order = JSON.parse(process.argv[2]);
const ENDS = ["task_postprocess_end", "task_cancel"];
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const now = () => (performance.timeOrigin + performance.now()) / 1000;

function headers() {
  const nonce = String(process.hrtime.bigint());
  const signature = createHmac("sha256", "key").update("secret" + nonce).digest("hex");
  return {
    "Content-Type": "application/json",
    "x-api-key": "key",
    "x-nonce": nonce,
    "x-signature": signature,
  };
}

async function post(path, payload) {
  const reply = await fetch(`${order.base}/${path}`, {
    method: "POST",
    headers: headers(),
    body: JSON.stringify(payload),
  });
  const answer = await reply.json();
  if (answer.result !== true) throw new Error(path);
  return answer;
}

function interval(age) {
  const seconds = age * order.factor;
  return (seconds < 15 ? 2 : seconds < 60 ? 5 : 10) / order.factor;
}

const known = {};

async function job() {
  const { taskid } = await post(`Run/${order.model}`, order.inputs);
  const start = performance.now();
  for (;;) {
    await sleep(interval((performance.now() - start) / 1000));
    const task = (await post("Task/Detail", { taskid })).tasklist[0];
    if (ENDS.includes(task.status)) {
      known[taskid] = now();
      return;
    }
  }
}

const all = (count, work) => Promise.all(Array.from({ length: count }, work));

async function measured(work, seconds) {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const began = now();
  const cpu = process.cpuUsage();
  await Promise.race([work(), sleep(seconds)]);
  const used = process.cpuUsage(cpu);
  return {
    cpu: (used.user + used.system) / 1e6,
    wall: now() - began,
    began,
    stall: Math.max(delay.max / 1e9 - 0.01, 0),
    rss: process.resourceUsage().maxRSS * 1024,
  };
}

async function level(waiting) {
  const look = () => post("Task/Detail", { taskid: "2221" });
  await all(Math.min(waiting, order.in_flight), look);
  let begun = 0;
  let done = 0;
  const until = now() + order.seconds;
  const worker = async () => {
    while (begun < order.count && now() < until) {
      begun += 1;
      await look();
      done += 1;
    }
  };
  const seen = await measured(() => all(waiting, worker), order.seconds + 1.5);
  return { ...seen, begun, done };
}

const seen = {};
if (order.do === "calls") {
  for (let turn = 0; turn < 30; turn += 1) await all(10, () => post("Task/Detail", { taskid: "2221" }));
  for (const waiting of order.waiting) seen[waiting] = await level(waiting);
} else {
  Object.assign(seen, await measured(() => all(order.count, job), order.seconds), { known });
}
process.stdout.write(JSON.stringify(seen) + "\n", () => process.exit(0));
